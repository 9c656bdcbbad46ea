"""Service health: requests that fail, that are slow, that are too many, or that stay away."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from detectors.clock import LATE_MS, MINUTE_MS, Clock, move_watermarks, running_watermark
from detectors.closeness import Watch
from detectors.columns import Hashed, Tenants, named, picked, taken, values_at
from detectors.crossings import Crossings
from detectors.episode import in_order
from detectors.episodes import EpisodeRule
from detectors.growing import grown
from detectors.keys import Key, Keys
from detectors.parameters import Rules, ServiceHealthParameters
from detectors.service_health_calendar import Pause
from detectors.service_health_fold import HealthFold, Verdict
from detectors.service_health_minutes import Samples, put_back, sampled, take_minutes
from detectors.service_health_routes import routes_of
from detectors.service_health_rule import SLOW_MS, HealthRule, rule_of
from detectors.service_health_silence import FORGET_MS, SilenceRule, Silences
from detectors.service_health_stories import ShiftTeller, VolumeTeller, error_teller, is_grave, slow_teller
from detectors.service_health_traffic import Traffic
from detectors.settling import Rule, settle_batch, settle_reached
from schemas.alert import Alert
from schemas.batch import EventBatch, Floats, Int32s, Int64s
from schemas.columns import ArrowColumn
from schemas.event import Kind
from schemas.tenant import Tenant

_NOBODY = np.zeros(0, np.int64)
_NOTHING = Samples(_NOBODY, np.zeros((0, 6), np.int64))


@dataclass
class ServiceHealthState:
    """What is remembered of one partition's requests.

    Parameters
    ----------
    clock
        Watermark of each tenant.
    tenants, routes
        Requests of each.
    limits
        ``(t, l)`` what holds for each tenant.
    pauses
        Tenant to its silences of the last four weeks, from and until.
    errors, slow, volume, duration, silences
        Open episodes.
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 3

    clock: Clock = field(default_factory=Clock)
    tenants: Traffic = field(default_factory=Traffic)
    routes: Traffic = field(default_factory=Traffic)
    limits: Floats = field(default_factory=lambda: np.zeros((0, len(HealthRule._fields))))
    pauses: dict[str, list[Pause]] = field(default_factory=dict)
    errors: EpisodeRule = field(default_factory=lambda: EpisodeRule(error_teller()))
    slow: EpisodeRule = field(default_factory=lambda: EpisodeRule(slow_teller()))
    volume: EpisodeRule = field(default_factory=lambda: EpisodeRule(VolumeTeller()))
    duration: EpisodeRule = field(default_factory=lambda: EpisodeRule(ShiftTeller()))
    silences: SilenceRule = field(default_factory=SilenceRule)

    def rules(self) -> tuple[Rule, ...]:
        """Return what has episodes."""
        return self.errors, self.slow, self.volume, self.duration, self.silences

    def sweep(self) -> None:
        """Drop routes that are as if never seen."""
        if not self.routes.keys.crowded:
            return
        settled_ms = self.routes.keys.by_tenant(self.clock.settled_ms)
        self.routes.keep(self.routes.last_ms[: len(settled_ms)] + FORGET_MS > settled_ms)

    def forget_pauses(self) -> None:
        """Drop tenants' silences that ended before the gap of any route began that can still be told."""
        for tenant_id, pauses in list(self.pauses.items()):
            since = self.clock.watermark_ms[tenant_id] - FORGET_MS
            self.pauses[tenant_id] = [pause for pause in pauses if pause[1] > since]
            if not self.pauses[tenant_id]:
                del self.pauses[tenant_id]


class ServiceHealth:
    """Requests of each tenant and route, minute by minute (docs/detection.md, models).

    A minute is over when its tenant's clock is in a later one; an event that comes late counts for the minute
    in which its tenant's clock is. What is usual is learned hour by hour.

    Parameters
    ----------
    defaults
        Parameters where neither tier nor tenant has others.

    >>> from schemas.parse import parse
    >>> event = (
    ...     '{"kind":"request","event_id":"%d","tenant_id":"tenant-a","time":"2026-01-01T00:%02d:00Z",'
    ...     '"service":"gateway","http_route":"/v1/jobs","http_status":503,"outcome":"failure"}'
    ... )
    >>> batch = parse("request", [(event % (i, i // 40)).encode() for i in range(41)]).batch
    >>> detector = ServiceHealth(ServiceHealthParameters(history_s=0))
    >>> [alert.summary[:70] for alert in detector.fold(batch, detector.new_state())]
    ['100% of the requests to route /v1/jobs failed (40 of 40 in ten minutes']
    """

    name = "service_health"
    kind: Kind = "request"

    def __init__(self, defaults: ServiceHealthParameters | None = None) -> None:
        chosen = defaults or ServiceHealthParameters()

        def derive(tenant: Tenant) -> HealthRule:
            return rule_of(chosen, tenant)

        self._rules = Rules(derive)

    def new_state(self) -> ServiceHealthState:
        """Return the state of a partition of which nothing was seen."""
        return ServiceHealthState()

    def fold(self, batch: EventBatch, state: ServiceHealthState) -> list[Alert]:
        """Return the revisions that a batch gives rise to, and remember its requests."""
        rows = np.flatnonzero(batch.mask())
        alerts: list[Alert] = []
        if len(rows):
            alerts += self._fold(batch, rows, state)
        alerts += settle_batch(state.rules(), state.clock, batch)
        state.sweep()
        return in_order(alerts)

    def _fold(self, batch: EventBatch, rows: Int64s, state: ServiceHealthState) -> list[Alert]:
        codes, time_ms = batch.tenant.codes[rows], batch.time_ms[rows]
        before_ms, after_ms = move_watermarks(state.clock.watermark_ms, batch, rows)
        time_ms = np.maximum(time_ms, running_watermark(codes, time_ms, before_ms))
        met = np.unique(codes)
        tenants = self._tenants(batch, met, state)
        numbers = np.zeros(len(batch.tenant.values), np.int64)
        numbers[met] = tenants
        owner = numbers[codes]
        now_ms = np.zeros(len(state.limits), np.int64)
        now_ms[tenants] = after_ms[met]
        samples = sampled(batch, rows, time_ms, state.limits[owner, SLOW_MS])
        column = taken(batch, "http_route", rows)
        at = np.flatnonzero(named(column))
        slot = _NOBODY
        if len(at):
            routes = picked(column, at)
            if isinstance(routes, ArrowColumn):
                # Few are different: hashed once each.
                _ = routes.codes
            slot = routes_of(state.routes, Tenants(batch, rows[at]), Hashed(routes), owner[at], time_ms[at])

        def ids_at(places: Int64s) -> Callable[[Int64s], list[str]]:
            return lambda found: values_at(batch.columns["event_id"], places[found])

        of_route = Samples(time_ms[at], samples.counts[at])
        tenants_fold = _follow(state, state.tenants, owner, samples, now_ms, ids_at(rows))
        routes_fold = _follow(state, state.routes, slot, of_route, now_ms, ids_at(rows[at]))
        routes_fold.silences.overdue(now_ms[state.routes.owner[: len(state.routes.keys)]])
        if tenants_fold.gone:
            # Not before the routes were looked at: a batch may be of weeks.
            state.forget_pauses()
        return _told(state, tenants_fold, routes_fold)

    def _tenants(self, batch: EventBatch, codes: Int32s, state: ServiceHealthState) -> Int64s:
        """Return ``(m,)`` the numbers of tenants, and keep what holds for them."""
        names = Hashed([batch.tenant.values[code] for code in codes.tolist()])
        slot = state.tenants.keys.intern((names, "tenant_id", names), np.arange(len(codes)))
        old, n = len(state.tenants.last_id), len(state.tenants.keys)
        state.tenants.reserve(range(old, n))
        state.limits = grown(state.limits, n, 0.0)
        rules = self._rules.of(batch)[codes]
        state.limits[slot] = np.array(self._rules.distinct, np.float64)[rules]
        return slot

    def advance(self, state: ServiceHealthState, until_ms: Mapping[str, int]) -> list[Alert]:
        """Return what the passing of time tells of tenants of which no event comes, silences among it."""
        names = [name for name in until_ms if name in state.clock.watermark_ms]
        alerts: list[Alert] = []
        if names:
            parts = Hashed(names)
            slot = state.tenants.keys.find((parts, "tenant_id", parts), np.arange(len(names)))
            now_ms = np.zeros(len(state.limits), np.int64)
            now_ms[slot] = np.array([until_ms[name] for name in names], np.int64) - LATE_MS
            tenants = _follow(state, state.tenants, _NOBODY, _NOTHING, now_ms, _no_events)
            tenants.silences.overdue(now_ms)
            # Routes are not looked for: while their tenant is silent, nothing is expected of them.
            routes = _follow(state, state.routes, _NOBODY, _NOTHING, now_ms, _no_events)
            alerts = _told(state, tenants, routes)
        return in_order([*alerts, *settle_reached(state.rules(), until_ms)])


def _no_events(rows: Int64s) -> list[str]:
    return []


def _follow(
    state: ServiceHealthState,
    traffic: Traffic,
    slot: Int64s,
    samples: Samples,
    now_ms: Int64s,
    event_ids: Callable[[Int64s], list[str]],
) -> HealthFold:
    """Follow tenants or routes up to the times ``(t,)`` of tenants' clocks."""
    of_tenants = traffic is state.tenants
    now_minute = now_ms[traffic.owner[: len(traffic.keys)]] // MINUTE_MS
    minutes = take_minutes(traffic, slot, samples, now_minute)
    pauses = {} if of_tenants else state.pauses
    silences = Silences(traffic, state.silences, state.limits, pauses)
    fold = HealthFold(traffic, minutes, silences, state.limits, event_ids)
    fold.run()
    put_back(traffic, minutes)
    if of_tenants:
        for key, pause in fold.gone:
            state.pauses.setdefault(traffic.keys[key][0], []).append(pause)
    return fold


def _told(state: ServiceHealthState, tenants: HealthFold, routes: HealthFold) -> list[Alert]:
    """Return the revisions that verdicts and silences give rise to."""
    alerts = [*tenants.silences.alerts, *routes.silences.alerts]
    of_routes = [(routes.traffic, verdict) for verdict in routes.verdicts["volume"]]
    loud = {(int(routes.traffic.owner[v.slot]), v.minute) for _, v in of_routes if v.score > v.threshold}
    # A tenant is told of where no single route is to blame; its routes tell of all else.
    of_tenants = [(tenants.traffic, v) for v in tenants.verdicts["volume"] if (v.slot, v.minute) not in loud]
    alerts += _raise(state.volume, [*of_routes, *of_tenants])
    for name, rule in (("errors", state.errors), ("slow", state.slow), ("duration", state.duration)):
        alerts += _raise(rule, [(routes.traffic, verdict) for verdict in routes.verdicts[name]])
    return alerts


def _raise(rule: EpisodeRule, verdicts: Sequence[tuple[Traffic, Verdict]]) -> list[Alert]:
    """Return the revisions of one rule, given its tests by key and time."""
    if rule.watch is not None and verdicts:
        _show(rule.watch, verdicts)
    crossing = [(traffic, verdict) for traffic, verdict in verdicts if verdict.score > verdict.threshold]
    if not crossing:
        return []
    keys, slot = _keys(crossing)
    found = [verdict for _, verdict in crossing]
    time_ms = np.array([verdict.time_ms for verdict in found], np.int64)
    quiet_ms = np.array([verdict.quiet_ms for verdict in found], np.int64)
    crossings = Crossings(
        slot,
        keys,
        time_ms,
        quiet_ms,
        [verdict.event_id for verdict in found],
        np.array([verdict.score for verdict in found], np.float64),
        np.array([verdict.threshold for verdict in found], np.float64),
        lambda at: found[at].facts,
        np.array([is_grave(rule.teller.rule, verdict.facts) for verdict in found]),
    )
    return crossings.fold(rule)


def _keys(verdicts: Sequence[tuple[Traffic, Verdict]]) -> tuple[Keys[Key], Int64s]:
    keys = Keys[Key]()
    parts = zip(*(traffic.keys[verdict.slot] for traffic, verdict in verdicts), strict=True)
    return keys, keys.intern([Hashed(part) for part in parts], np.arange(len(verdicts)))


def _show(watch: Watch, verdicts: Sequence[tuple[Traffic, Verdict]]) -> None:
    keys, slot = _keys(verdicts)
    time_ms = np.array([verdict.time_ms for _, verdict in verdicts], np.int64)
    scores, thresholds = (
        np.array([getattr(verdict, name) for _, verdict in verdicts]) for name in ("score", "threshold")
    )
    ids = [verdict.event_id for _, verdict in verdicts]
    watch.see(keys, slot, time_ms, ids, lambda at: (scores[at], thresholds[at]))
