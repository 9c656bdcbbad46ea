"""What every class of alert is invariant under: all are raised here, so that it holds for none by chance."""

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scenarios import golden
from scenarios.classes import CLASSES
from sizes import some

from schemas.alert import Alert
from schemas.batch import EventBatch
from tenantwatch.backtest import Backtest, Trial
from tenantwatch.lines import read_lines

FIRING = [path for path in golden.files() if path.stem.endswith("_firing")]
WEEK_MS = 7 * 86_400_000


class Recording(Trial):
    """Keeps every revision, not only the last; but of what is compared across tenants."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Alert] = []

    def take(self, alert: Alert) -> None:
        self.told.append(alert)
        super().take(alert)


def revisions(scenario: dict[str, Any], batches: Iterable[EventBatch]) -> list[Alert]:
    """Return the revisions that a scenario's events give, in an order of their own."""
    trial = Recording()
    Backtest([trial], golden.tenants_of(scenario), golden.locate_of(scenario)).read(batches)
    last = [alert for alert in trial.alerts() if alert not in trial.told]
    return sorted([*trial.told, *last], key=lambda alert: alert.model_dump_json(exclude={"alert_id"}))


def cut(batch: EventBatch, seed: int, parts: int = 9) -> Iterable[EventBatch]:
    """Yield a batch in parts, cut somewhere."""
    places = np.random.default_rng(seed).integers(0, len(batch), parts - 1)
    for rows in np.split(np.arange(len(batch)), np.sort(places)):
        yield batch.select(rows)


def moved(alert: Alert, back: timedelta) -> dict[str, Any]:
    """Return an alert of another week as it would be in its own; its id is made of its time."""
    times = {name: getattr(alert, name) - back for name in ("first_time", "last_time", "detected_at")}
    return {**alert.model_dump(exclude={"alert_id"}), **times}


@pytest.mark.parametrize("path", some(FIRING, golden.quick))
def test_neither_batches_nor_the_date_matter(path: Path) -> None:
    """Cut elsewhere a stream gives the same revisions, and years later the same, years later."""
    scenario = json.loads(path.read_text())
    batches = list(read_lines(golden.expand(scenario), []))
    usual = revisions(scenario, batches)
    assert {alert["classification"] for alert in scenario["alerts"]} <= {a.classification for a in usual}
    for seed in range(3):
        assert revisions(scenario, (part for batch in batches for part in cut(batch, seed))) == usual
    weeks = 471
    later = [replace(batch, time_ms=batch.time_ms + weeks * WEEK_MS) for batch in batches]
    found = [moved(alert, timedelta(weeks=weeks)) for alert in revisions(scenario, later)]
    assert found == [moved(alert, timedelta(0)) for alert in usual]


def test_every_class_is_among_them() -> None:
    """A class that a detector gains is under the invariants as soon as it has a scenario that fires."""
    raised = {
        (alert["detector"], alert["classification"])
        for path in FIRING
        for alert in json.loads(path.read_text())["alerts"]
    }
    assert {(detector, one) for detector, classes in CLASSES.items() for one in classes} <= raised
