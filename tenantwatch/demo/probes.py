"""Short bursts of guessing in a tenant of their own, by which the time from event to alert is measured.

The day itself is sent as fast as it goes, so its alerts wait in a queue and say nothing of latency. The
bursts are sent one after another while the end of the day arrives at an even pace. Their event times lie
the day before: in a list of alerts, which begins with the latest, they stand below what was planted.
"""

from dataclasses import dataclass
from random import Random
from typing import Final

from schemas.alert import Alert
from schemas.tenant import Tenant
from tenantwatch.demo.events import DAY_MS, DAY_START_MS, SECOND_MS, Timed, event

PROBE_TENANT: Final = Tenant(
    tenant_id="demo-latency",
    organization_id="org-demo",
    name="Latency",
    tier="standard",
    region="eu",
)
PROBES: Final = 100
# With the fifth failure within 4 s the bucket (4, 10 s) runs over. A login before them makes the user one who
# is known there: a hundred strangers would be guessing at the whole tenant.
FAILURES: Final = 5
LOGIN_BEFORE_S: Final = 3


@dataclass(frozen=True)
class Probe:
    """One burst; its last event is the one that raises the alert."""

    source_ip: str
    events: tuple[Timed, ...]

    def explains(self, alert: Alert) -> bool:
        """Say whether an alert is about this burst."""
        return alert.tenant_id == PROBE_TENANT.tenant_id and alert.entity.value == self.source_ip


def probes(seed: int) -> list[Probe]:
    """Return the bursts, each of another address and another user."""
    draw = Random(seed)  # noqa: S311 - no secret
    return [_probe(number, draw) for number in range(PROBES)]


def closing_event(seed: int) -> Timed:
    """Return an event so much later that every burst is over, and its alert resolved."""
    fields = {"service": "login", "user_id": "probe-000", "action": "login", "outcome": "success"}
    return event(Random(-seed - 1), DAY_START_MS - DAY_MS // 2, "auth", PROBE_TENANT.tenant_id, **fields)  # noqa: S311


def _probe(number: int, draw: Random) -> Probe:
    begin_ms = DAY_START_MS - DAY_MS + number * 10 * SECOND_MS
    source_ip = f"2001:db8:{0xD00 + number:x}::1"
    who = {
        "service": "login",
        "user_id": f"probe-{number:03}",
        "source_ip": source_ip,
        "action": "login",
        "auth_method": "password",
    }
    tenant_id, login_ms = PROBE_TENANT.tenant_id, begin_ms - LOGIN_BEFORE_S * SECOND_MS
    login = event(draw, login_ms, "auth", tenant_id, **who, outcome="success")
    failures = (
        event(
            draw,
            begin_ms + i * SECOND_MS,
            "auth",
            tenant_id,
            **who,
            outcome="failure",
            reason="bad_password",
        )
        for i in range(FAILURES)
    )
    return Probe(source_ip, (login, *failures))
