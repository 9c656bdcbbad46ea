"""The whole scenario: the day, what is planted in it, and the bursts by which latency is measured."""

from dataclasses import dataclass
from random import Random
from typing import Final

from schemas.tenant import Tenant
from tenantwatch.demo.attacks import Attack, plant
from tenantwatch.demo.day import Day
from tenantwatch.demo.events import HOUR_MS, MINUTE_MS, Timed
from tenantwatch.demo.organizations import ENTERPRISE, FREE, STANDARD, Organization, organizations

# So many events are a usual day of the three tenants' people, and so many a day without a click.
PEOPLE_EVENTS: Final = 110_000
LOGIN_EVENTS: Final = 1_500
MACHINE: Final = {"user_agent": "demo-sync/2.4"}
# A machine of the enterprise stays well below its 1,000 requests in 15 minutes.
MACHINE_EVENTS: Final = 50_000


@dataclass(frozen=True)
class Scenario:
    """A day as it will be sent, and the truth about it.

    Parameters
    ----------
    tenants
        Enterprise, standard, free.
    events
        In the order of their times.
    attacks
        What is planted among them.
    """

    tenants: tuple[Tenant, ...]
    events: list[Timed]
    attacks: tuple[Attack, ...]


def scenario(seed: int, count: int) -> Scenario:
    """Return the day.

    Parameters
    ----------
    seed
        The same seed gives the same day, byte for byte.
    count
        How many events, attacks included; 10,000 or more.
    """
    draw = Random(seed)  # noqa: S311 - no secret
    known = organizations(draw)
    day = Day(draw, intensity=min(1.0, (0.7 * count - LOGIN_EVENTS) / PEOPLE_EVENTS))
    for organization in known:
        day.live(organization)
    attacks, planted = plant(known, day)
    _run_machines(day, known, count - len(planted))
    events = sorted(day.events + planted)
    return Scenario(tuple(organization.tenant for organization in known), events, attacks)


def _run_machines(day: Day, known: tuple[Organization, ...], count: int) -> None:
    """Fill the day up to `count` events with what machines do."""
    share = day.intensity
    day.run_machine(
        STANDARD, {**MACHINE, "user_id": "svc-export", "source_ip": "10.0.2.9"}, int(3_800 * share)
    )
    # No user: an api key by itself.
    day.run_machine(FREE, {**MACHINE, "api_key_id": "key-7", "source_ip": "10.0.3.9"}, int(1_100 * share))
    nightly = {**MACHINE, "user_id": "svc-nightly", "source_ip": "10.0.1.8"}
    day.run_machine(ENTERPRISE, nightly, int(1_200 * share), begin_ms=2 * HOUR_MS, length_ms=40 * MINUTE_MS)
    rest = max(count - len(day.events), 0)
    machines = -(-rest // MACHINE_EVENTS)
    for i in range(machines):
        sync = {**MACHINE, "user_id": f"svc-sync-{i + 1}", "source_ip": f"10.0.1.{20 + i}"}
        day.run_machine(ENTERPRISE, sync, rest * (i + 1) // machines - rest * i // machines)
