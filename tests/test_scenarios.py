"""Golden scenarios: every class of every detector with a stream that fires and one that does not."""

import json
from functools import cache
from pathlib import Path

import pytest
from scenarios import golden
from scenarios.classes import CLASSES

from detectors.registry import new_detectors
from schemas.alert import Alert

DOCUMENT = Path(__file__).parent.parent / "docs/detection.md"


@cache
def alerts_of(path: Path) -> list[Alert]:
    """Return what a scenario raises; the long ones take seconds."""
    return golden.alerts_of(json.loads(path.read_text()))


@pytest.mark.parametrize("path", golden.files(), ids=lambda path: path.stem)
def test_events_give_the_alerts_of_the_file(path: Path) -> None:
    """The events of a scenario give exactly the alerts that stand beside them."""
    expected = json.loads(path.read_text())["alerts"]
    assert [golden.stable(alert) for alert in alerts_of(path)] == expected


@pytest.mark.parametrize("path", golden.files(), ids=lambda path: path.stem)
def test_a_file_does_what_its_name_says(path: Path) -> None:
    """A firing scenario raises the class in its name, a silent one raises nothing."""
    alerts = json.loads(path.read_text())["alerts"]
    if path.stem.endswith("_silent"):
        assert alerts == []
        return
    named = path.stem.removesuffix("_firing")
    raised = tuple(f"{alert['detector']}_{alert['classification']}" for alert in alerts)
    assert any(named.startswith(alert["detector"]) for alert in alerts)
    assert named.startswith(raised) or "own_limit" in named


def test_every_class_has_a_firing_and_a_silent_scenario() -> None:
    """A class without both is not finished; a detector without classes here neither."""
    names = {path.stem for path in golden.files()}
    wanted = {
        f"{detector}_{classification}_{verdict}"
        for detector, classes in CLASSES.items()
        for classification in classes
        for verdict in ("firing", "silent")
    }
    assert wanted <= names
    assert {d.name for detectors in new_detectors().values() for d in detectors} == set(CLASSES)


def test_every_alert_of_the_scenarios_says_what_it_is_and_what_to_do() -> None:
    """Summary, runbook, techniques, numbers and evidence are there, and the score is over the threshold."""
    for path in golden.files():
        for alert in alerts_of(path):
            assert alert.summary.endswith("UTC")
            assert alert.runbook.endswith(".")
            assert all(technique.startswith("T1") for technique in alert.attack)
            assert alert.attack
            assert alert.evidence.numbers
            assert alert.score >= alert.threshold
            assert alert.published_at is None


@pytest.mark.parametrize("path", golden.files(), ids=lambda path: path.stem)
def test_every_classification_is_documented_with_its_techniques(path: Path) -> None:
    """docs/detection.md has a row for what a scenario raises; rules of a tenant's own name themselves."""
    for raised in alerts_of(path):
        if raised.detector != "custom_rule":
            row = f"| `{raised.classification}` | {raised.detector} | {', '.join(raised.attack)} |"
            assert row in DOCUMENT.read_text(), f"docs/detection.md lacks a row that begins with {row}"
