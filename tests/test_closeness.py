"""How close events come to rules' thresholds: told by the detectors, whoever listens or not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detectors.keys import Keys
from schemas.alert import Alert, alert_id, to_ms
from tenantwatch import lines as lines_module
from tenantwatch.backtest import Backtest, Trial
from tenantwatch.lines import read_lines
from tenantwatch.recording import Recorder, by_rule, of_events, of_key, record, share_of
from tests.scenarios import golden
from tests.sizes import some

# How close an address came to other tenants' failures is for no tenant to know.
UNMEASURED = "failed_login_cross_tenant_spray"


def everything(keys: Any, slot: Any, event_ids: Any) -> Any:
    return np.arange(len(slot))


def replayed(scenario: dict[str, Any], pick: Any = everything) -> tuple[Trial, dict[Any, Recorder]]:
    """Run a scenario with a recorder for each rule."""
    trial = Trial()
    recorders = record(trial, pick)
    Backtest([trial], golden.tenants_of(scenario), golden.locate_of(scenario)).read(
        read_lines(golden.expand(scenario), [])
    )
    return trial, recorders


def of_detectors(path: Path) -> bool:
    return not path.stem.startswith(UNMEASURED)


SCENARIOS = some(filter(of_detectors, golden.files()), golden.quick)


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_an_alert_is_raised_where_a_score_passes_its_threshold(path: Path) -> None:
    """Every alert's rule tells of the event that crossed; no rule tells of one where nothing was raised."""
    scenario = json.loads(path.read_text())
    trial, recorders = replayed(scenario)
    told: set[tuple[str, str, str]] = set()
    for alert in trial.alerts():
        [(name, recorder)] = [
            (name, recorder) for name, recorder in by_rule(recorders) if is_of(alert, *name[1:])
        ]
        told.add(name)
        times, scores, thresholds = recorder.series()
        at = times == to_ms(alert.detected_at)
        assert share_of(scores[at], thresholds[at]).max() >= 1.0
    for name, recorder in by_rule(recorders):
        if recorder.share > 1.0:
            assert name in told


def is_of(alert: Alert, detector: str, rule: str) -> bool:
    """Return whether a rule raised an alert."""
    if alert.detector == "custom_rule":
        return (detector, rule) == (alert.detector, alert.evidence.numbers["rule"])
    first_ms = to_ms(alert.first_time)
    return alert.alert_id == alert_id(detector, rule, alert.tenant_id, alert.entity, first_ms)


def rows_of(recorder: Recorder) -> list[tuple[Any, ...]]:
    """Return what was heard, in an order of its own: different keys' rows of one moment have none."""
    return sorted(zip(*(column.tolist() for column in recorder.series()), strict=True))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_listening_changes_no_alert(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same alerts come with and without recorders, and the same is told however the file is cut."""
    scenario = json.loads(path.read_text())
    trial, recorders = replayed(scenario)
    assert trial.alerts() == golden.alerts_of(scenario)
    # At most some thousand pieces, of at least 7 lines.
    monkeypatch.setattr(lines_module, "LINES_PER_BATCH", max(7, len(golden.expand(scenario)) // 1_000))
    _, in_pieces = replayed(scenario)
    of_pieces = dict(by_rule(in_pieces))
    for name, recorder in by_rule(recorders):
        assert rows_of(recorder) == rows_of(of_pieces[name])


def guesses(count: int) -> dict[str, Any]:
    """Failed logins of one user at one address, each a second after the other."""
    event = {
        "kind": "auth", "tenant_id": "tenant-a", "service": "test", "action": "login", "outcome": "failure",
        "user_id": "ana", "source_ip": "192.0.2.7",
    }  # fmt: skip
    tenant = {
        "tenant_id": "tenant-a", "organization_id": "org-a", "name": "A",
        "detectors": {"failed_login": {"strict_failures": 0}},
    }  # fmt: skip
    times = {"count": count, "start": "2026-01-05T09:00:00+00:00", "every_s": 1, "event": event}
    return {"tenants": [tenant], "events": [times]}


def test_the_level_of_the_fullest_bucket_is_told() -> None:
    """Four failures within three seconds: 3.7 of 4 in the bucket that leaks one in ten seconds."""
    _, recorders = replayed(guesses(4))
    address = recorders["auth", "failed_login", "address"]
    assert address.closest is not None
    assert address.closest == (1_767_603_603_000, "e3", 3.7, 4.0, ("tenant-a", "source_ip", "192.0.2.7"))
    assert address.tested == 4


def test_only_rows_that_matter_are_kept() -> None:
    """By the entity that they count for, or by the event, whatever it counts for."""
    _, by_key = replayed(guesses(4), of_key(("tenant-a", "user_id", "ana")))
    assert len(by_key["auth", "failed_login", "address"].series()[0]) == 0
    assert len(by_key["auth", "failed_login", "user"].series()[0]) == 4
    _, by_event = replayed(guesses(4), of_events({"e1", "e2"}))
    assert len(by_event["auth", "failed_login", "address"].series()[0]) == 2
    _, nobody = replayed(guesses(4), of_key(("tenant-a", "user_id", "ben")))
    assert all(recorder.closest is None for recorder in nobody.values())


def test_a_rule_that_is_off_has_no_threshold() -> None:
    """Its scores are told all the same, and come close to nothing."""
    scenario = guesses(4)
    off = dict.fromkeys(("burst", "minute", "hour", "strict"), 0)
    scenario["tenants"][0]["detectors"] = {
        "failed_login": {**{f"{name}_failures": size for name, size in off.items()}, "new_users": 0}
    }
    _, recorders = replayed(scenario)
    address = recorders["auth", "failed_login", "address"]
    assert address.closest is not None
    assert (address.closest.threshold, address.share) == (np.inf, 0.0)


def test_nobody_asks_for_the_measure_of_rows_that_do_not_matter() -> None:
    """A rule may work it out one by one."""

    def measure(at: Any) -> Any:
        raise AssertionError(at)

    Recorder(of_events(set())).see(Keys(), np.zeros(2, np.int64), np.zeros(2, np.int64), ["a", "b"], measure)
