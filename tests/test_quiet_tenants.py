"""Time passes for a quiet tenant beside busy ones: its own, and no other's."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from faust.types import TP
from scenarios.streams import START_MS, batch_of

from detectors.cross_tenant_spray import CrossTenantSpray
from schemas.alert import Alert
from schemas.event import Kind
from store.ownership import Claim
from streams.addresses import AddressState
from streams.idleness import Idleness, Quiet
from streams.partition import PartitionState
from streams.records import Records
from streams.rekeying import FailedLogin, FailedLogins
from streams.topics import FAILURES_BY_IP

KEY = ("audit.auth", 0)
MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
QUIET, BUSY = "tenant-quiet", "tenant-busy"


class Partition:
    """A partition whose events are all handled, looked at once a second."""

    def __init__(self, kind: Kind) -> None:
        self.state = PartitionState(kind, 1, Claim(*KEY, 1, 1))
        self.now_s = 0.0
        self.idleness = Idleness(lambda: self.now_s)
        self.idleness.begin([KEY])
        self.left: set[str] = set()  # of the directory

    def fold(self, *events: Any) -> list[Alert]:
        return self.state.fold(self.state.admission.admit(batch_of(self.state.kind, events)))[0]

    def wait(self, seconds: int) -> list[Alert]:
        alerts = []
        for _ in range(seconds):
            self.now_s += 1
            for passed_ms in self.idleness.look(lambda _: True).values():
                alerts += self.state.advance(passed_ms, lambda tenant_id: tenant_id not in self.left)
        return alerts


def login(tenant_id: str, time_ms: int, **fields: Any) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id, "time_ms": time_ms, "event_id": f"{tenant_id}{time_ms}", "action": "login",
        "auth_method": "password", "user_id": "ana", "source_ip": "192.0.2.7", **fields,
    }  # fmt: skip


def attack(tenant_id: str) -> list[dict[str, Any]]:
    failed = {"outcome": "failure", "reason": "bad_password"}
    return [login(tenant_id, START_MS + 1_000 * i, **failed) for i in range(20)]


def test_an_episode_is_resolved_beside_a_tenant_that_goes_on_as_its_own_next_event_would() -> None:
    """With the same content, and not before a late event could still belong to it."""
    partition, replayed = Partition("auth"), Partition("auth")
    alerts = partition.fold(*attack(QUIET))
    for minute in range(1, 4 * 60):
        alerts += partition.wait(60)
        alerts += partition.fold(login(BUSY, START_MS + minute * MINUTE_MS))
        if minute == 44:  # half an hour of quiet, and fifteen minutes for what is late
            assert [alert.status for alert in alerts] == ["open", *["updated"] * (len(alerts) - 1)]
    assert {alert.tenant_id for alert in alerts} == {QUIET}
    assert alerts[-1].status == "resolved"
    assert alerts == replayed.fold(*attack(QUIET)) + replayed.fold(login(QUIET, START_MS + 4 * HOUR_MS))


def requests(tenant_id: str, start_ms: int, stop_ms: int) -> list[dict[str, Any]]:
    every = range(start_ms, stop_ms, 5_000)
    fields = {"tenant_id": tenant_id, "http_route": "/v1/jobs", "http_status": 200, "duration_ms": 80.0}
    return [{"time_ms": at, "event_id": f"{tenant_id}{at}", **fields} for at in every]


@pytest.mark.parametrize("has_left", [False, True])
def test_a_tenant_whose_requests_all_stop_is_told_of_beside_one_that_goes_on(has_left: bool) -> None:
    """Nothing of its own would tell of it until it speaks again; one that was deleted is to be silent."""
    partition = Partition("request")
    last_ms = START_MS + 72 * HOUR_MS
    alerts = partition.fold(*requests(QUIET, START_MS, last_ms), *requests(BUSY, START_MS, last_ms))
    assert alerts == []
    partition.left = {QUIET} if has_left else set()
    for minute in range(2 * 60):
        alerts += partition.wait(60)
        now_ms = last_ms + minute * MINUTE_MS
        alerts += partition.fold(*requests(BUSY, now_ms, now_ms + MINUTE_MS))
    told = [] if has_left else [(QUIET, "silence", "open")]
    assert [(a.tenant_id, a.classification, a.status) for a in alerts] == told


def test_a_tenant_whose_events_come_is_not_quiet_whatever_their_times() -> None:
    """A shipper that is behind, or sends an old log: its time is that of its events."""
    partition = Partition("auth")
    alerts = partition.fold(*attack(QUIET))
    for minute in range(4 * 60):
        alerts += partition.wait(60)
        alerts += partition.fold(login(QUIET, START_MS + minute, user_id="eve", source_ip="198.51.100.7"))
    assert "resolved" not in {alert.status for alert in alerts}


def test_a_tenant_is_quiet_from_the_look_after_its_last_event_on() -> None:
    """Of what came between two looks it is not known when."""
    quiet, watermark_ms = Quiet(), {"tenant-a": 100_000, "tenant-b": 200_000}
    assert quiet.until_ms(watermark_ms, 5_000) == {"tenant-a": 105_000, "tenant-b": 205_000}
    quiet.hear(["tenant-a"])
    assert quiet.until_ms(watermark_ms, 6_000) == {"tenant-b": 206_000}
    assert quiet.until_ms(watermark_ms, 8_000) == {"tenant-a": 102_000, "tenant-b": 208_000}


def test_tenants_of_which_nothing_was_admitted_are_not_remembered() -> None:
    """Ids can be made up without end."""
    quiet = Quiet()
    quiet.hear(["made-up"])
    quiet.until_ms({"tenant-a": 1}, 5_000)
    assert quiet.__dict__ == Quiet().__dict__


def test_failures_by_address_of_one_tenant_hold_up_the_time_of_all() -> None:
    """They come by way of other partitions, in which another tenant's may wait."""
    state, detector = AddressState(0), CrossTenantSpray()

    def arrive(offset: int, tenant_id: str, time_ms: int, source_ip: str = "192.0.2.7") -> list[Alert]:
        failure = FailedLogin(0, offset, 0, time_ms, tenant_id, source_ip, "ana", f"{tenant_id}{time_ms}")
        message = msgspec.json.encode(FailedLogins("audit.auth", [("id", 0)], [failure]))
        record = SimpleNamespace(offset=offset, key=None, value=message, headers=(), timestamp=time_ms)
        return state.fold(detector, Records.of(TP(FAILURES_BY_IP, 0), [record]))

    alerts = [alert for i in range(3) for alert in arrive(i, f"tenant-{i}", START_MS)]
    assert {alert.status for alert in alerts} == {"open"}
    for minute in range(2 * 60):
        passed_ms = minute * MINUTE_MS
        arrive(3 + minute, BUSY, START_MS + passed_ms, "198.51.100.7")
        assert state.advance(detector, passed_ms) == []
    ends = state.advance(detector, passed_ms + 76 * MINUTE_MS)
    assert [alert.status for alert in ends] == ["resolved"] * 3
