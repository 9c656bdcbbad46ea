"""Rules of a tenant's own (docs/rules.md): events that they select, counted, told apart, put in order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from detectors.clock import Clock
from detectors.columns import values_at
from detectors.crossings import Crossings
from detectors.episode import in_order
from detectors.episodes import EpisodeRule
from detectors.parameters import CustomRuleParameters, Rules, resolve
from detectors.rules.compiled import Rule, Window
from detectors.rules.groups import grouped, parts_of, texts_at
from detectors.rules.ruleset import rules_for
from detectors.rules.teller import Finding, RuleTeller
from detectors.rules.view import View
from detectors.rules.windows import EventCounts, Groups, Steps, ValueCounts
from detectors.segments import by_key, running_max, starts_of
from detectors.settling import settle_batch, settle_reached
from detectors.sliding_log import MAX_COUNT
from schemas.alert import Alert
from schemas.batch import Bools, EventBatch, Int64s
from schemas.event import Kind
from schemas.tenant import Tenant, unknown_tenant


@dataclass
class CustomRuleState:
    """What is remembered of one partition's events of one kind.

    Parameters
    ----------
    clock
        Watermark of each tenant that has rules, or had.
    event_counts, value_counts, steps
        What windows hold, by their type.
    found
        Open episodes.
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 3

    clock: Clock = field(default_factory=Clock)
    event_counts: EventCounts = field(default_factory=EventCounts)
    value_counts: ValueCounts = field(default_factory=ValueCounts)
    steps: Steps = field(default_factory=Steps)
    found: EpisodeRule = field(default_factory=lambda: EpisodeRule(RuleTeller()))

    def sweep(self) -> None:
        """Drop what no verdict can depend on any more."""
        for windows in (self.event_counts, self.value_counts, self.steps):
            windows.sweep(self.clock)


@dataclass(frozen=True, slots=True)
class _Ruleset:
    rules: tuple[Rule, ...]
    quiet_ms: int


_NO_RULES = _Ruleset((), 0)


class CustomRule:
    """What the tenant's own rules select.

    Parameters
    ----------
    kind
        Of the events; a rule looks at one kind.
    defaults
        Parameters where neither tier nor tenant has others.

    >>> from dataclasses import replace
    >>> from schemas.parse import parse
    >>> rule = '''
    ... title: Somebody became somebody else
    ... level: high
    ... logsource: {product: tenantwatch, category: access}
    ... detection: {selection: {action: impersonate}, condition: selection}
    ... '''
    >>> tenant = unknown_tenant("tenant-a").model_copy(update={"rules": [rule]})
    >>> event = (
    ...     b'{"kind":"access","event_id":"1","tenant_id":"tenant-a","time":"2026-01-01T00:00:00Z",'
    ...     b'"service":"jobs","user_id":"ana","action":"impersonate","outcome":"success"}'
    ... )
    >>> batch = replace(parse("access", [event]).batch, tenants=(tenant,))
    >>> detector = CustomRule("access")
    >>> [(a.severity, a.summary) for a in detector.fold(batch, detector.new_state())]
    [('high', 'Somebody became somebody else: user_id ana, 1 event; last at 00:00:00 UTC')]
    """

    name = "custom_rule"

    def __init__(self, kind: Kind, defaults: CustomRuleParameters | None = None) -> None:
        self.kind: Kind = kind
        chosen = defaults or CustomRuleParameters()

        def derive(tenant: Tenant) -> _Ruleset:
            rules = rules_for(tenant.rules, kind)
            if not rules:
                return _NO_RULES
            return _Ruleset(rules, 1000 * resolve(self.name, chosen, tenant).quiet_s)

        self._rules = Rules(derive)
        # Of most tenants, so it is number 0.
        self._rules.number(unknown_tenant("unknown"))

    def new_state(self) -> CustomRuleState:
        """Return the state of a partition of which nothing was seen."""
        return CustomRuleState()

    def fold(self, batch: EventBatch, state: CustomRuleState) -> list[Alert]:
        """Return the revisions that a batch gives rise to, and remember what windows hold."""
        number = self._rules.of(batch)
        concerned: Bools = number > 0
        if followed := state.clock.watermark_ms:
            # Rules may go while an episode of theirs is open.
            concerned |= np.array([tenant_id in followed for tenant_id in batch.tenant.values], np.bool_)
        if not concerned.any():
            return []
        rows = np.flatnonzero(batch.mask() & concerned[batch.tenant.codes])
        time_ms = state.clock.read(batch, rows)
        number = number[batch.tenant.codes[rows]]
        alerts: list[Alert] = []
        for chosen in np.unique(number[number > 0]).tolist():
            at = np.flatnonzero(number == chosen)
            for start in range(0, len(at), MAX_COUNT):
                part = at[start : start + MAX_COUNT]
                fold = _Fold(View(batch, rows[part]), time_ms[part], state)
                alerts.extend(fold.follow(self._rules.distinct[chosen]))
        alerts.extend(settle_batch((state.found,), state.clock, batch))
        state.sweep()
        return in_order(alerts)

    def advance(self, state: CustomRuleState, until_ms: Mapping[str, int]) -> list[Alert]:
        """Return the last revisions of episodes that are over at the given times by tenant."""
        return settle_reached((state.found,), until_ms)


@dataclass(frozen=True, slots=True)
class _Fold:
    """Rows of tenants that have the same rules: ``(n,)``."""

    view: View
    time_ms: Int64s
    state: CustomRuleState

    def follow(self, ruleset: _Ruleset) -> list[Alert]:
        """Return the revisions that the rows give rise to."""
        return [alert for rule in ruleset.rules for alert in self._follow(rule, ruleset.quiet_ms)]

    def _follow(self, rule: Rule, quiet_ms: int) -> list[Alert]:
        watch = self.state.found.watch and self.state.found.watch.part(rule.headline.title)
        selected = np.stack([self.view.holds(selection) for selection in rule.selections], axis=1)
        at = np.flatnonzero(selected.any(axis=1))
        if len(at):
            at = at[grouped(self.view, rule)[at]]
        if not len(at):
            return []
        groups = self._groups_of(rule.window)
        slot = groups.keys.intern(parts_of(self.view, rule, at), np.arange(len(at)))
        groups.reserve()
        order = by_key(slot)
        slot, at = slot[order], at[order]
        starts = starts_of(slot)
        distinct = slot[starts]
        time_ms = running_max(self.time_ms[at], starts, groups.last_ms[distinct])
        score = self._scores(rule, distinct, starts, time_ms, at, selected[at])
        if rule.window is not None:
            quiet_ms = max(quiet_ms, rule.window.timespan_ms)
            ends = np.append(starts[1:], len(at)) - 1
            groups.touch(distinct, time_ms[ends], rule.window.timespan_ms)
        needed = 1 if rule.window is None else rule.window.needed
        if watch is not None:
            scores, thresholds = score.astype(np.float64), np.full(len(at), needed, np.float64)
            ids = values_at(self.view.column("event_id"), at)
            watch.see(groups.keys, slot, time_ms, ids, lambda rows: (scores[rows], thresholds[rows]))
        crossing = np.flatnonzero(score >= needed)
        finding = Finding(rule.headline, rule.window)
        crossings = Crossings(
            slot[crossing],
            groups.keys,
            time_ms[crossing],
            np.full(len(crossing), quiet_ms),
            values_at(self.view.column("event_id"), at[crossing]),
            score[crossing].astype(np.float64),
            np.full(len(crossing), float(needed)),
            lambda _: finding,
        )
        return crossings.fold(self.state.found)

    def _groups_of(self, window: Window | None) -> Groups:
        if window is None:
            return Groups()  # each event is enough: there is nothing to remember
        if window.type == "event_count":
            return self.state.event_counts.groups
        return (self.state.value_counts if window.type == "value_count" else self.state.steps).groups

    def _scores(
        self, rule: Rule, slot: Int64s, starts: Int64s, time_ms: Int64s, at: Int64s, selected: Bools
    ) -> Int64s:
        """Return ``(n,)`` what is to be measured against the rule's need; 0 where nobody wants to know."""
        window = rule.window
        if window is None:
            return np.ones(len(at), np.int64)
        if window.type == "event_count":
            least = window.needed if self.state.found.watch is None else 1
            return self.state.event_counts.counts(slot, starts, time_ms, window, least)
        if window.type == "value_count":
            values = texts_at(self.view, window.field, at)
            return self.state.value_counts.counts(slot, starts, time_ms, window, values)
        return self.state.steps.met(slot, starts, time_ms, window, selected)
