"""The backtest's parts: several trials at once, state that carries over, alerts side by side."""

import json
from pathlib import Path
from typing import Any

import pytest

from detectors.snapshot import SnapshotError
from detectors.tuning import overlay, overridden
from schemas.alert import Alert, Entity, Evidence, from_ms
from schemas.tenant import Tenant, unknown_tenant
from tenantwatch.backtest import Backtest, Trial
from tenantwatch.comparison import compare
from tenantwatch.lines import RejectedLine, read_lines
from tenantwatch.state_file import load, save

HOUR_MS = 3_600_000
START_MS = 1_767_603_600_000


def guesses(start: int, stop: int, user: str = "ana") -> list[bytes]:
    """Return failed logins of one user at one address, two seconds apart."""
    return [
        json.dumps(
            {
                "kind": "auth",
                "event_id": f"{user}-{i}",
                "tenant_id": "tenant-a",
                "time": from_ms(START_MS + 2_000 * i).isoformat(),
                "service": "test",
                "outcome": "failure",
                "action": "login",
                "user_id": user,
                "source_ip": "192.0.2.7",
            }
        ).encode()
        for i in range(start, stop)
    ]


def run_over(run: Backtest, lines: list[bytes]) -> None:
    rejected: list[RejectedLine] = []
    run.read(read_lines(lines, rejected))
    assert rejected == []


# One rule, so that no other has an opinion.
BURSTS = {"failed_login": {"burst_failures": 5, "strict_failures": 0}}
TENANTS = {"tenant-a": unknown_tenant("tenant-a").model_copy(update={"detectors": BURSTS})}


def strict(tenant: Tenant) -> Tenant:
    """Half as many failures in a burst are too many."""
    return overridden(tenant, {"failed_login": {"burst_failures": 2}})


def alert(first_h: int, last_h: int, **fields: Any) -> Alert:
    """Return the last revision of an episode that lasted from one hour to another."""
    base = Alert(
        alert_id=f"{first_h}-{last_h}",
        revision=1,
        status="resolved",
        detector="failed_login",
        classification="brute_force",
        severity="low",
        tenant_id="tenant-a",
        entity=Entity(type="source_ip", value="192.0.2.7"),
        first_time=from_ms(first_h * HOUR_MS),
        last_time=from_ms(last_h * HOUR_MS),
        event_count=1,
        score=1,
        threshold=1,
        summary="",
        evidence=Evidence(),
        runbook="",
        detected_at=from_ms(first_h * HOUR_MS),
        published_at=None,
    )
    return base.model_copy(update=fields)


def test_trials_see_the_same_events_under_settings_of_their_own() -> None:
    """One pass over the events tells what two sets of settings say."""
    trials = [Trial(), Trial(strict)]
    run_over(Backtest(trials, TENANTS), guesses(0, 5))
    assert [len(trial.alerts()) for trial in trials] == [0, 1]


def test_a_change_is_asked_for_once_for_each_version_of_a_tenant() -> None:
    """When a tenant's settings change in mid-stream, what is tried changes on top of the new ones."""
    asked: list[Tenant] = []

    def change(tenant: Tenant) -> Tenant:
        asked.append(tenant)
        return strict(tenant)

    versions = [unknown_tenant("tenant-a"), unknown_tenant("tenant-a")]
    trial = Trial(change)
    for i, version in enumerate((versions[0], versions[0], versions[1])):
        run_over(Backtest([trial], {"tenant-a": version}), guesses(i, i + 1))
    assert [id(tenant) for tenant in asked] == [*map(id, versions)]


def test_alerts_before_a_time_are_not_shown() -> None:
    """What comes before only teaches."""
    trial = Trial()
    run_over(Backtest([trial], TENANTS), guesses(0, 20) + guesses(3_000, 3_020))
    assert len(trial.alerts()) == 2
    assert [a.detected_at > from_ms(START_MS + 60_000) for a in trial.alerts(from_ms(START_MS + 60_000))] == [
        True
    ]


def test_a_state_that_was_saved_goes_on(tmp_path: Path) -> None:
    """Two runs over halves, with a file between them, say what one run over the whole says."""
    whole, first, second = Trial(), Trial(), Trial()
    run_over(Backtest([whole], TENANTS), guesses(0, 12))
    before = Backtest([first], TENANTS)
    run_over(before, guesses(0, 5))
    save(tmp_path / "state", before.parts())
    after = Backtest([second], TENANTS)
    after.restore(load(tmp_path / "state"))
    run_over(after, guesses(5, 12))
    assert first.alerts() == []
    assert second.alerts() == whole.alerts() != []


def test_a_state_of_another_program_is_refused(tmp_path: Path) -> None:
    """A file that is none, and one that lacks a detector, are told apart from an empty memory."""
    (tmp_path / "other").write_bytes(b"not ours")
    with pytest.raises(SnapshotError, match="no state"):
        load(tmp_path / "other")
    parts = Backtest([Trial()]).parts()
    del parts["auth/failed_login"]
    with pytest.raises(SnapshotError, match="failed_login"):
        Backtest([Trial()]).restore(parts)


def test_a_state_is_saved_whole_or_not_at_all(tmp_path: Path) -> None:
    """What was there stays when writing fails half-way."""
    path = tmp_path / "state"
    save(path, {"a": b"1"})
    broken: Any = {"a": b"2", "b": object()}
    with pytest.raises(TypeError):
        save(path, broken)
    assert load(path) == {"a": b"1"}


def test_weeks_are_counted_for_each_tenant_that_had_events() -> None:
    """A rate of alarms is one for a tenant and week, whatever the length of the file."""
    run = Backtest([Trial()])
    week = 7 * 24 * HOUR_MS // 2_000
    other = [line.replace(b"tenant-a", b"tenant-b") for line in guesses(week, week + 1)]
    run_over(run, guesses(0, 1) + other)
    assert run.tenant_weeks() == 2.0
    assert run.tenant_weeks(from_ms(START_MS + 7 * 24 * HOUR_MS // 2)) == 1.0


def test_the_same_episode_is_kept_whatever_its_first_event() -> None:
    """A lower threshold begins an episode earlier and gives it another id: it is the same alert."""
    comparison = compare([alert(2, 4)], [alert(1, 4)])
    assert comparison == ([], [], 1)


@pytest.mark.parametrize(
    "other",
    [
        alert(5, 6),
        alert(2, 4, tenant_id="tenant-b"),
        alert(2, 4, classification="password_spray"),
        alert(2, 4, detector="access_anomaly"),
        alert(2, 4, entity=Entity(type="source_ip", value="192.0.2.8")),
        alert(2, 4, entity=Entity(type="user_id", value="192.0.2.7")),
    ],
)
def test_another_episode_tenant_class_or_entity_is_another_alert(other: Alert) -> None:
    """It is gained, and what was there is lost."""
    one = alert(2, 4)
    assert compare([one], [other]) == ([other], [one], 0)


def test_an_open_episode_reaches_to_the_end() -> None:
    """Its last revision tells only of events up to a power of two."""
    assert compare([alert(1, 1, status="updated")], [alert(3, 4)]) == ([], [], 1)


def test_one_long_episode_is_several_shorter_ones() -> None:
    """None of the parts is new, and nothing is lost, also where another lies between them."""
    parts = [alert(1, 2), alert(4, 5), alert(7, 8)]
    assert compare([alert(0, 6)], parts) == ([parts[2]], [], 1)
    assert compare(parts, [alert(0, 6)]) == ([], [parts[2]], 2)


def test_later_layers_win_and_faulty_values_let_the_layer_below_show() -> None:
    """A record that got past the checks must not take the place of a good value."""
    below = {"failed_login": {"quiet_s": 600, "new_users": 5}}
    above = {"failed_login": {"quiet_s": 10**9, "new_users": 6}, "no_such": {"x": 1}}
    assert overlay(below, above) == {"failed_login": {"quiet_s": 600, "new_users": 6}}
