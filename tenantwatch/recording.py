"""What rules tell of how close events came to their thresholds, kept for those events that matter."""

from collections.abc import Callable, Container, Sequence
from typing import NamedTuple

import numpy as np

from detectors.closeness import Floats, Measure, watch_rules
from detectors.keys import Key, Keys
from schemas.batch import Int64s
from schemas.event import Kind
from tenantwatch.backtest import Trial

# Keys, (n,) the number of each row's, and (n,) event ids, to the positions of the rows that matter.
Pick = Callable[[Keys[Key], Int64s, Sequence[str]], Int64s]


def of_key(key: Key) -> Pick:
    """Return what picks the rows of one key: tenant, and type and value of an entity."""

    def pick(keys: Keys[Key], slot: Int64s, event_ids: Sequence[str]) -> Int64s:
        return np.flatnonzero(slot == keys.slot_of(key)) if len(keys) else np.zeros(0, np.int64)

    return pick


def of_events(wanted: Container[str]) -> Pick:
    """Return what picks the rows of some events, whatever the key that they count for."""

    def pick(keys: Keys[Key], slot: Int64s, event_ids: Sequence[str]) -> Int64s:
        return np.flatnonzero([event_id in wanted for event_id in event_ids])

    return pick


def share_of(scores: Floats, thresholds: Floats) -> Floats:
    """Return scores by thresholds: 1 is where an alarm is due.

    >>> share_of(np.array([2.0, 1.0, 1.0]), np.array([4.0, 0.0, np.inf])).tolist()
    [0.5, inf, 0.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        shares: Floats = np.nan_to_num(scores / thresholds, nan=0.0, posinf=np.inf, neginf=0.0)
    return shares


class Point(NamedTuple):
    """An event that a rule put to the test.

    Parameters
    ----------
    time_ms, event_id
        When it was, and which.
    score, threshold
        As in the alert that it would be.
    key
        Tenant, and type and value of the entity that it counted for.
    """

    time_ms: int
    event_id: str
    score: float
    threshold: float
    key: Key


class Recorder:
    """Keeps what one rule tells.

    Parameters
    ----------
    pick
        Which rows matter.

    Attributes
    ----------
    tested
        How many rows the rule has put to the test, whoever's.
    closest
        Of the rows that matter, the one that came closest; None before there is any.
    """

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self._series: list[tuple[Int64s, Floats, Floats]] = []
        self.tested = 0
        self.closest: Point | None = None

    def see(
        self, keys: Keys[Key], slot: Int64s, time_ms: Int64s, event_ids: Sequence[str], measure: Measure
    ) -> None:
        """Take up rows; see `detectors.closeness.Watch`."""
        self.tested += len(slot)
        at = self._pick(keys, slot, event_ids)
        if not len(at):
            return
        scores, thresholds = (np.asarray(found, np.float64) for found in measure(at))
        self._series.append((time_ms[at], scores, thresholds))
        shares = share_of(scores, thresholds)
        best = int(shares.argmax())
        if self.closest is None or shares[best] > self.share:
            row, key = int(at[best]), keys[int(slot[at[best]])]
            score, threshold = float(scores[best]), float(thresholds[best])
            self.closest = Point(int(time_ms[row]), event_ids[row], score, threshold, key)

    @property
    def share(self) -> float:
        """How close the closest came: score by threshold."""
        if self.closest is None:
            return 0.0
        return float(share_of(np.array([self.closest.score]), np.array([self.closest.threshold]))[0])

    def series(self) -> tuple[Int64s, Floats, Floats]:
        """Return ``(n,)`` times, scores and thresholds of the rows that mattered, by time."""
        if not self._series:
            return np.zeros(0, np.int64), np.zeros(0), np.zeros(0)
        time_ms, scores, thresholds = map(np.concatenate, zip(*self._series, strict=True))
        order = np.argsort(time_ms, kind="stable")
        return time_ms[order], scores[order], thresholds[order]


def record(trial: Trial, pick: Pick) -> dict[tuple[Kind, str, str], Recorder]:
    """Let the rules of a trial tell, and return who listens, by kind of event, detector and rule."""
    recorders: dict[tuple[Kind, str, str], Recorder] = {}
    for kind, detectors in trial.detectors.items():

        def listen(detector: str, rule: str, kind: Kind = kind) -> Recorder:
            return recorders.setdefault((kind, detector, rule), Recorder(pick))

        for _, state in detectors:
            watch_rules(state, listen)
    return recorders
