"""Rate breaches: more requests in a sliding window than the tenant's tier allows a user."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, NamedTuple

import numpy as np

from detectors.clock import Clock
from detectors.closeness import Watch
from detectors.columns import Hashed, Tenants, named, taken
from detectors.crossings import Crossings
from detectors.episode import Episode, Story, in_order
from detectors.episodes import EpisodeRule
from detectors.keys import Key, Keys
from detectors.parameters import RateBreachParameters, Rules, resolve
from detectors.segments import by_key, running_max, starts_of
from detectors.settling import settle_batch, settle_reached
from detectors.sliding_log import MAX_COUNT, SlidingLog
from detectors.wording import clock_text, duration_text, plural
from schemas.alert import Alert, Severity
from schemas.batch import Bools, EventBatch, Floats, Int64s, select
from schemas.event import Kind
from schemas.tenant import Tenant

# Half of what a window allows within so small a part of it is a burst.
BURST_PART: Final = 10
# The pace is that of the latest part of the window: long enough to be one, short enough to be the present.
PACE_PART: Final = 4
_GRADES: Final[tuple[Severity, ...]] = ("low", "medium", "high")
SHAPES: Final = {
    "burst": "in a burst",
    "creeping": "little by little",
    "sustained": "and it goes on",
}


class _Rule(NamedTuple):
    limit: int
    window_ms: int
    tier: str
    medium_ratio: float
    high_ratio: float


class _Breach(NamedTuple):
    requests: int
    rule: _Rule
    burst: bool
    predicted: int


def is_burst(times_ms: Int64s, limit: int, window_ms: int) -> bool:
    """Say whether half of the requests that a window allows came within a tenth of it.

    Parameters
    ----------
    times_ms
        ``(n,)`` of the requests in the window, ascending.
    limit, window_ms
        Requests allowed, and the window's length.

    >>> is_burst(np.array([0, 900, 901, 902]), 3, 1_000), is_burst(np.array([0, 300, 600, 900]), 3, 1_000)
    (True, False)
    """
    ends_ms = times_ms[(limit + 1) // 2 - 1 :]
    return bool((ends_ms - times_ms[: len(ends_ms)] < window_ms // BURST_PART).any())


def predict(times_ms: Int64s, window_ms: int) -> int:
    """Return how many requests the window will hold when its first one leaves it, at the present pace.

    It is a number beside a breach, not an alarm of its own: most of those who are about to break a limit stop
    in time, and somebody would be told of each.

    Parameters
    ----------
    times_ms, window_ms
        The same; at least one request.

    >>> predict(np.array([0, 250, 500, 750]), 1_000)
    5
    """
    now_ms = int(times_ms[-1])
    recent_ms = times_ms[np.searchsorted(times_ms, now_ms - window_ms // PACE_PART) :]
    pace = (len(recent_ms) - 1) / max(now_ms - int(recent_ms[0]), 1)
    left_ms = window_ms - (now_ms - int(times_ms[0]))
    return len(times_ms) + round(pace * left_ms)


class _Teller:
    detector = "rate_breach"
    rule = "limit"
    facts = _Breach

    def tell(self, episode: Episode) -> Story:
        breach: _Breach = episode.facts
        requests, rule = breach.requests, breach.rule
        least = "at least " if requests >= MAX_COUNT else ""
        window = duration_text(rule.window_ms)
        over_ms = episode.last_ms - episode.detected_ms
        shape = "sustained" if over_ms >= rule.window_ms else "burst" if breach.burst else "creeping"
        who = f"api key {episode.key[2]}" if episode.key[1] == "api_key_id" else episode.key[2]
        return Story(
            "rate_breach",
            _GRADES[episode.grade],
            f"{who} made {least}{plural(requests, 'request')} in {window}, where the {rule.tier} tier "
            f"allows {rule.limit:,}; {episode.count:,} over the limit, {SHAPES[shape]}; "
            f"last at {clock_text(episode.last_ms)}",
            {
                "requests": requests,
                "limit": rule.limit,
                "window_s": rule.window_ms // 1000,
                "tier": rule.tier,
                "over_limit": episode.count,
                "over_for_s": over_ms // 1000,
                "shape": shape,
                "predicted_requests": breach.predicted,
            },
            ("T1499",),
            "Look at which routes are called and whether a job of the customer has run away; if so, tell its "
            "contact. If not, revoke the token or key. A limit that is too low is raised in the tenant's "
            "rate_limit.",
        )


@dataclass
class RateBreachState:
    """What is remembered of one partition's requests.

    Parameters
    ----------
    clock
        Watermark of each tenant.
    keys
        (tenant, user) and (tenant, api key).
    log
        Times of their latest requests.
    breaches
        Open episodes.
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 6

    clock: Clock = field(default_factory=Clock)
    keys: Keys[Key] = field(default_factory=Keys)
    log: SlidingLog = field(default_factory=SlidingLog)
    breaches: EpisodeRule = field(default_factory=lambda: EpisodeRule(_Teller()))

    def sweep(self) -> None:
        """Drop keys with no request left in their window: they are as if never seen."""
        if not self.keys.crowded:
            return
        n = len(self.keys)
        settled_ms = self.keys.by_tenant(self.clock.settled_ms)
        kept = self.log.last_ms(np.arange(n)) + self.log.window_ms[:n] > settled_ms
        self.keys.keep(kept)
        self.log.keep(kept)


class _Logged(NamedTuple):
    """Requests of a batch in the log.

    Parameters
    ----------
    rows, order
        ``(n,)`` positions in the batch, ascending; and where each of the others is in them: those are sorted
        by who made the request.
    slot, time_ms, rule, place
        ``(n,)`` who made it, and when; number of the rule that holds; and where the log has it.
    over
        ``(n,)`` which are over the limit.
    """

    rows: Int64s
    order: Int64s
    slot: Int64s
    time_ms: Int64s
    rule: Int64s
    place: Int64s
    over: Bools


class RateBreach:
    """An exact sliding window over each user's requests, and each api key's, whoever uses it.

    A request breaches the limit when the request `limit` places before it is still in the window. The limit
    that holds is the one at that request: a tier that changes in mid-window counts from the next.

    Parameters
    ----------
    defaults
        Parameters where neither tier nor tenant has others.

    >>> from schemas.parse import parse
    >>> event = (
    ...     '{"kind":"request","event_id":"%d","tenant_id":"tenant-a","time":"2026-01-01T00:00:%02dZ",'
    ...     '"service":"gateway","user_id":"ana","outcome":"success"}'
    ... )
    >>> batch = parse("request", [(event % (i, i // 2)).encode() for i in range(101)]).batch
    >>> detector = RateBreach()
    >>> [alert.summary[:66] for alert in detector.fold(batch, detector.new_state())]
    ['ana made 101 requests in 15 min, where the free tier allows 100; 1']
    """

    name = "rate_breach"
    kind: Kind = "request"

    def __init__(self, defaults: RateBreachParameters | None = None) -> None:
        chosen = defaults or RateBreachParameters()

        def derive(tenant: Tenant) -> _Rule:
            allowed = tenant.requests_allowed()
            parameters = resolve("rate_breach", chosen, tenant)
            return _Rule(
                allowed.requests,
                1000 * allowed.window_s,
                tenant.tier,
                parameters.medium_ratio,
                parameters.high_ratio,
            )

        self._rules = Rules(derive)

    def new_state(self) -> RateBreachState:
        """Return the state of a partition of which nothing was seen."""
        return RateBreachState()

    def fold(self, batch: EventBatch, state: RateBreachState) -> list[Alert]:
        """Return the revisions that a batch gives rise to, and remember its requests."""
        rows = np.flatnonzero(batch.mask())
        time_ms = state.clock.read(batch, rows)
        rule = self._rules.of(batch)[batch.tenant.codes[rows]]
        alerts: list[Alert] = []
        for start in range(0, len(rows), MAX_COUNT):
            part = slice(start, start + MAX_COUNT)
            alerts.extend(self._fold(batch, state, rows[part], time_ms[part], rule[part]))
        alerts.extend(settle_batch((state.breaches,), state.clock, batch))
        state.sweep()
        return in_order(alerts)

    def _fold(
        self, batch: EventBatch, state: RateBreachState, rows: Int64s, time_ms: Int64s, rule: Int64s
    ) -> list[Alert]:
        alerts, over = self._count(batch, state, "user_id", rows, time_ms, rule)
        # One breach is one alert: what is over its user's limit is not counted for the key that they use.
        left = np.flatnonzero(~over)
        return alerts + self._count(batch, state, "api_key_id", rows[left], time_ms[left], rule[left])[0]

    def _count(
        self,
        batch: EventBatch,
        state: RateBreachState,
        entity_type: str,
        rows: Int64s,
        time_ms: Int64s,
        rule: Int64s,
    ) -> tuple[list[Alert], Bools]:
        """Count requests for who made them; return revisions, and ``(n,)`` which are over the limit.

        Parameters
        ----------
        entity_type
            The field that says who; requests without it count for nobody.
        rows, time_ms, rule
            ``(n,)`` positions, ascending; event times; number of the rule that holds.
        """
        breached = np.zeros(len(rows), np.bool_)
        column = taken(batch, entity_type, rows)
        known = np.flatnonzero(named(column))
        if not len(known):
            return [], breached
        slot = state.keys.intern((Tenants(batch, rows), entity_type, Hashed(column)), known)
        logged = self._log(state, slot, rows[known], time_ms[known], rule[known])
        if state.breaches.watch is not None:
            self._show(batch, state, logged, state.breaches.watch)
        breached[known[logged.order[logged.over]]] = True
        return self._tell(batch, state, logged), breached

    def _log(
        self, state: RateBreachState, slot: Int64s, rows: Int64s, time_ms: Int64s, rule: Int64s
    ) -> _Logged:
        """Count requests ``(n,)``, given who made them, into the log."""
        log = state.log
        log.reserve(len(state.keys))
        order = by_key(slot)
        slot, rule = slot[order], rule[order]
        starts = starts_of(slot)
        distinct = slot[starts]
        time_ms = running_max(time_ms[order], starts, log.last_ms(distinct))
        limits = np.array([[r.limit, r.window_ms] for r in self._rules.distinct], np.int64)[rule[starts]]
        over, place = log.add(distinct, starts, time_ms, limits[:, 0], limits[:, 1])
        return _Logged(rows, order, slot, time_ms, rule, place, over)

    def _show(self, batch: EventBatch, state: RateBreachState, logged: _Logged, watch: Watch) -> None:
        """Show how many requests were in the window at each."""
        limits = np.array([r.limit for r in self._rules.distinct], np.float64)

        def measure(at: Int64s) -> tuple[Floats, Floats]:
            counts = state.log.counts(logged.slot[at], logged.place[at], logged.time_ms[at])
            return counts.astype(np.float64), limits[logged.rule[at]]

        ids = select(batch.columns["event_id"], logged.rows[logged.order])
        watch.see(state.keys, logged.slot, logged.time_ms, ids, measure)

    def _tell(self, batch: EventBatch, state: RateBreachState, logged: _Logged) -> list[Alert]:
        """Return the revisions that requests over the limit give rise to."""
        crossing = np.flatnonzero(logged.over)
        if not len(crossing):
            return []
        # Back into the order of arrival, which is what `Crossings` takes.
        crossing = crossing[np.argsort(logged.order[crossing])]
        log, slots, number = state.log, logged.slot[crossing], logged.rule[crossing]
        time_ms, place = logged.time_ms[crossing], logged.place[crossing]
        rules = [self._rules.distinct[i] for i in number.tolist()]
        of_rules = np.array([(r.limit, r.medium_ratio, r.high_ratio) for r in self._rules.distinct])
        limit, medium_ratio, high_ratio = of_rules[number].T
        counts = log.counts(slots, place, time_ms).astype(np.float64)
        ratio = counts / limit

        def look(at: int) -> _Breach:
            rule = rules[at]
            times_ms = log.window(int(slots[at]), int(place[at]), int(time_ms[at]))
            burst = is_burst(times_ms, rule.limit, rule.window_ms)
            return _Breach(len(times_ms), rule, burst, predict(times_ms, rule.window_ms))

        crossings = Crossings(
            slots,
            state.keys,
            time_ms,
            np.array([r.window_ms for r in rules], np.int64),
            taken(batch, "event_id", logged.rows[logged.order[crossing]]),
            counts,
            limit,
            look,
            # What is no longer counted may be any number of times a large limit.
            np.where((ratio >= high_ratio) | (counts >= MAX_COUNT), 2, ratio >= medium_ratio),
        )
        return crossings.fold(state.breaches)

    def advance(self, state: RateBreachState, until_ms: Mapping[str, int]) -> list[Alert]:
        """Return the last revisions of episodes that are over at the given times by tenant."""
        return settle_reached((state.breaches,), until_ms)
