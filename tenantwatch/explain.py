"""Why an alert was raised: its events again, their scores, and what is usual at that hour."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from detectors.cross_tenant_spray import SprayTeller
from detectors.registry import new_detectors
from schemas.alert import Alert, alert_id, from_ms, rfc3339, to_ms
from schemas.batch import FIELDS, EventBatch, Floats, Int64s
from schemas.event import KINDS, Kind
from tenantwatch.backtest import Change, Trial
from tenantwatch.recording import by_rule, of_alert, raised, record, share_of

HOUR_MS: Final = 3_600_000
WEEK_MS: Final = 7 * 24 * HOUR_MS
# A quarter's season shows in these, and the last is still like now.
WEEKS_BEFORE: Final = 8
# So long before and after an episode is shown, or as long as the episode takes.
MIN_AROUND_MS: Final = 10 * 60_000
MAX_POINTS: Final = 1_000


@dataclass(frozen=True)
class Series:
    """Scores against thresholds: ``(n,)`` each, by time.

    Parameters
    ----------
    time_ms, scores, thresholds
        Of every event that the rule put to the test for the alert's entity.
    """

    time_ms: Int64s
    scores: Floats
    thresholds: Floats

    def between(self, start_ms: int, end_ms: int) -> "Series":
        """Return the points from one time to another, which is not included."""
        inside = (self.time_ms >= start_ms) & (self.time_ms < end_ms)
        return Series(self.time_ms[inside], self.scores[inside], self.thresholds[inside])

    def thinned(self, most: int = MAX_POINTS) -> "Series":
        """Return at most so many points: of each of as many equal parts the one that came closest."""
        n = len(self.time_ms)
        if n <= most:
            return self
        starts = np.arange(most) * n // most
        shares = share_of(self.scores, self.thresholds)
        parts = zip(starts.tolist(), [*starts[1:].tolist(), n], strict=True)
        kept = np.array([start + int(shares[start:stop].argmax()) for start, stop in parts])
        return Series(self.time_ms[kept], self.scores[kept], self.thresholds[kept])


@dataclass(frozen=True)
class Span:
    """How many events a tenant had in an hour.

    Parameters
    ----------
    start_ms
        When it began.
    events, failures, of_entity
        All of the kind; those that failed; those of the alert's entity.
    """

    start_ms: int
    events: int
    failures: int
    of_entity: int


@dataclass(frozen=True)
class Explanation:
    """Everything there is to say about an alert.

    Parameters
    ----------
    revisions
        Of the alert, oldest first.
    kind
        Of its events.
    series
        What the replay told of the alert's rule and entity, around the episode; empty where the rule tells
        nothing.
    raised
        Whether the replay raised the alert, too: then the scores are those that it was raised by.
    events
        Its first events, as stored.
    spans
        The hour of its detection, last, and the same hour of the weeks before.
    """

    revisions: Sequence[Alert]
    kind: Kind
    series: Series
    raised: bool
    events: Sequence[dict[str, Any]]
    spans: Sequence[Span]

    @property
    def alert(self) -> Alert:
        """The newest revision."""
        return self.revisions[-1]


class Replay(Trial):
    """An alert's tenant seen again, with an ear at the alert's entity.

    Parameters
    ----------
    alert
        Any revision.
    change
        As for `Trial`.

    Attributes
    ----------
    revisions
        Of the alert, as they were raised again.
    until_ms
        Events before this time are of interest, milliseconds since 1970.
    """

    def __init__(self, alert: Alert, change: Change | None = None) -> None:
        super().__init__(change)
        self._alert = alert
        first_ms, last_ms = to_ms(alert.first_time), to_ms(alert.last_time)
        # What led up to it, and what followed: the newest revision may be older than the latest event.
        around_ms = max(last_ms - first_ms, MIN_AROUND_MS)
        self._from_ms, self.until_ms = first_ms - around_ms, last_ms + around_ms
        self._recorders = record(self, of_alert(alert))
        self.revisions: list[Alert] = []

    def take(self, alert: Alert) -> None:
        """Keep the alert's revisions."""
        if alert.alert_id == self._alert.alert_id:
            self.revisions.append(alert)

    def take_due(self, of: object, make: Callable[[], Alert]) -> None:
        """Keep the alert's revisions: every one of them, not only the last."""
        self.take(make())

    def series(self) -> Series:
        """Return what was told of the alert's rule, around the episode."""
        for (_, detector, rule), recorder in by_rule(self._recorders):
            if recorder.closest and raised(self._alert, detector, rule, recorder.closest.key):
                return Series(*recorder.series()).between(self._from_ms, self.until_ms)
        return Series(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))


def kinds_of(alert: Alert) -> tuple[Kind, ...]:
    """Return the kinds of events that an alert may be about.

    >>> [kind for kind, of_kind in new_detectors().items() if "rate_breach" in {d.name for d in of_kind}]
    ['request']
    """
    found = [kind for kind, of_kind in new_detectors().items() if alert.detector in {d.name for d in of_kind}]
    return tuple(found) or KINDS


def compares_tenants(alert: Alert) -> bool:
    """Return whether it took other tenants' events to raise an alert."""
    teller, first_ms = SprayTeller, to_ms(alert.first_time)
    return alert.alert_id == alert_id(teller.detector, teller.rule, alert.tenant_id, alert.entity, first_ms)


def hours_of(alert: Alert) -> list[int]:
    """Return when the hour of an alert's detection began, last, and the same hour of the weeks before."""
    hour_ms = to_ms(alert.detected_at) // HOUR_MS * HOUR_MS
    return [hour_ms - weeks * WEEK_MS for weeks in range(WEEKS_BEFORE, -1, -1)]


class Witness:
    """Looks at events of a file on their way to a backtest: the alert's own, and how many there were when.

    Parameters
    ----------
    alert
        Its newest revision.
    kind
        Of its events.
    """

    def __init__(self, alert: Alert, kind: Kind) -> None:
        self._alert, self.kind = alert, kind
        self._wanted = frozenset(alert.evidence.event_ids)
        self._counts = {start_ms: np.zeros(3, np.int64) for start_ms in hours_of(alert)}
        self.events: list[dict[str, Any]] = []

    def look(self, batch: EventBatch) -> None:
        """Take up the alert's tenant's events of a batch."""
        if batch.kind == self.kind:
            entity = self._alert.entity
            of_tenant = [value == self._alert.tenant_id for value in batch.tenant.values]
            batch = batch.select(np.flatnonzero(np.array(of_tenant, np.bool_)[batch.tenant.codes]))
            has_entity = entity.type in FIELDS[self.kind]
            values = batch.columns[entity.type] if has_entity else [None] * len(batch)
            of_entity = np.array([value == entity.value for value in values], np.bool_)
            for start_ms, counts in self._counts.items():
                inside = (batch.time_ms >= start_ms) & (batch.time_ms < start_ms + HOUR_MS)
                counts += [inside.sum(), (inside & batch.failed).sum(), (inside & of_entity).sum()]
            ids = batch.columns["event_id"]
            self.events += [_event(batch, i) for i, one in enumerate(ids) if one in self._wanted]

    def spans(self) -> list[Span]:
        """Return what was counted."""
        return [Span(start_ms, *map(int, counts)) for start_ms, counts in self._counts.items()]


def _event(batch: EventBatch, row: int) -> dict[str, Any]:
    values = {name: column[row] for name, column in batch.columns.items()}
    time = rfc3339(from_ms(int(batch.time_ms[row])))
    return {"time": time, **{name: value for name, value in values.items() if value not in ("", None)}}
