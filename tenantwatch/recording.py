"""What rules tell of how close events came to their thresholds, kept for those events that matter."""

from collections.abc import Callable, Container, Iterator, Sequence
from typing import NamedTuple, cast

import numpy as np

from detectors.closeness import Measure, watch_rules
from detectors.keys import Key, Keys
from detectors.rules.groups import entity_of, rule_of
from detectors.rules.teller import RuleTeller
from schemas.alert import Alert, Entity, EntityType, alert_id, to_ms
from schemas.batch import Floats, Int64s
from schemas.event import Kind
from tenantwatch.backtest import Trial

# Keys, (n,) the number of each row's, and (n,) event ids, to the positions of the rows that matter.
Pick = Callable[[Keys[Key], Int64s, Sequence[str]], Int64s]


def of_key(key: Key) -> Pick:
    """Return what picks the rows of one key: tenant, and type and value of an entity."""

    def pick(keys: Keys[Key], slot: Int64s, event_ids: Sequence[str]) -> Int64s:
        return np.flatnonzero(slot == keys.slot_of(key)) if len(keys) else np.zeros(0, np.int64)

    return pick


def of_alert(alert: Alert) -> Pick:
    """Return what picks the rows of an alert's entity, or, of a tenant's own rule, of its group."""
    if alert.detector != RuleTeller.detector:
        return of_key((alert.tenant_id, alert.entity.type, alert.entity.value))

    def pick(keys: Keys[Key], slot: Int64s, event_ids: Sequence[str]) -> Int64s:
        slots = np.unique(slot).tolist()
        # The keys of other detectors have an entity's type there.
        if not slots or not keys[slots[0]][1].startswith("["):
            return np.zeros(0, np.int64)
        return np.flatnonzero(np.isin(slot, [one for one in slots if has_alert(keys[one])]))

    def has_alert(key: Key) -> bool:
        return raised(alert, RuleTeller.detector, RuleTeller.rule, key)

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


def entity_at(detector: str, key: Key) -> Entity:
    """Return whom a detector's alert is about, by the key that it counts for."""
    if detector == RuleTeller.detector:
        return entity_of(key)
    return Entity(type=cast(EntityType, key[1]), value=key[2])


def raised(alert: Alert, detector: str, rule: str, key: Key) -> bool:
    """Return whether a rule raised an alert about a key: its id is made of both."""
    named = rule_of(key) if detector == RuleTeller.detector else rule
    entity, first_ms = entity_at(detector, key), to_ms(alert.first_time)
    return alert.alert_id == alert_id(detector, named, key[0], entity, first_ms)


class Point(NamedTuple):
    """An event that a rule put to the test.

    Parameters
    ----------
    time_ms, event_id
        When it was, and which.
    score, threshold
        As in the alert that it would be.
    key
        What it counted for: tenant, and type and value of an entity; of a tenant's own rules a group's.
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
    parts
        Who is told of each of a tenant's own rules, by title.
    """

    def __init__(self, pick: Pick) -> None:
        self._pick = pick
        self._series: list[tuple[Int64s, Floats, Floats]] = []
        self.tested = 0
        self.closest: Point | None = None
        self.parts: dict[str, Recorder] = {}

    def part(self, rule: str) -> "Recorder":
        """Return who is told of one of several rules; see `detectors.closeness.Watch`."""
        return self.parts.setdefault(rule, Recorder(self._pick))

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


# By kind of event, detector and rule.
Recorders = dict[tuple[Kind, str, str], Recorder]


def by_rule(recorders: Recorders) -> Iterator[tuple[tuple[Kind, str, str], Recorder]]:
    """Yield recorders, those of a tenant's own rules by their titles instead of the one for all of them."""
    for (kind, detector, rule), recorder in recorders.items():
        for name, one in (recorder.parts or {rule: recorder}).items():
            yield (kind, detector, name), one


def record(trial: Trial, pick: Pick) -> Recorders:
    """Let the rules of a trial tell, and return who listens, by kind of event, detector and rule."""
    recorders: Recorders = {}
    for kind, detectors in trial.detectors.items():

        def listen(detector: str, rule: str, kind: Kind = kind) -> Recorder:
            return recorders.setdefault((kind, detector, rule), Recorder(pick))

        for _, state in detectors:
            watch_rules(state, listen)
    return recorders
