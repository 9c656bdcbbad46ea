"""Access anomalies: across tenants, denied again and again, and unlike the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from detectors.access_anomaly_stories import CrossTenantTeller, DeniedTeller
from detectors.bucket_pass import fold_buckets
from detectors.bucket_state import BucketState
from detectors.buckets import Buckets, Events
from detectors.clock import Clock
from detectors.columns import Hashed, named, picked, taken
from detectors.episode import in_order
from detectors.first_seen import FirstSeenFold, FirstSeenRule, FirstSeenState
from detectors.keys import values_at
from detectors.parameters import AccessAnomalyParameters, Rules, resolve
from detectors.settling import Rule, settle_batch, settle_reached
from schemas.alert import Alert
from schemas.batch import Bools, Column, EventBatch, Int64s
from schemas.event import Kind
from schemas.tenant import Tenant


@dataclass
class AccessAnomalyState:
    """What is remembered of one partition's accesses.

    Parameters
    ----------
    clock
        Watermark of each tenant.
    across, denied
        Buckets of cross-tenant accesses, by who made them, and of denied ones, by user.
    first_seen
        Habits.
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 2

    clock: Clock = field(default_factory=Clock)
    across: BucketState = field(default_factory=lambda: BucketState(CrossTenantTeller(), 2))
    denied: BucketState = field(default_factory=lambda: BucketState(DeniedTeller(), 2))
    first_seen: FirstSeenState = field(default_factory=FirstSeenState)

    def rules(self) -> tuple[Rule, ...]:
        """Return what has episodes."""
        return self.across, self.denied, self.first_seen.strangers

    def sweep(self) -> None:
        """Drop what no verdict can depend on any more."""
        self.across.sweep(self.clock)
        self.denied.sweep(self.clock)
        users = self.first_seen.users
        if users.crowded:
            self.first_seen.sweep(users.by_tenant(self.clock.settled_ms))


@dataclass(frozen=True, slots=True)
class _Rule:
    across: Buckets
    denied: Buckets
    first_seen: FirstSeenRule


def _rule(p: AccessAnomalyParameters) -> _Rule:
    quiet_ms = 1000 * p.quiet_s
    across_leak_ms = 1000 * p.cross_tenant_leak_s
    return _Rule(
        Buckets((p.cross_tenant_failures, 0), (across_leak_ms, across_leak_ms), quiet_ms),
        Buckets(
            (p.denied, p.new_permissions), (1000 * p.denied_leak_s, 1000 * p.new_permissions_leak_s), quiet_ms
        ),
        FirstSeenRule(p.false_alarms_per_week, p.tenant_habit_min, p.user_habit_min, quiet_ms),
    )


class AccessAnomaly:
    """Accesses that their tenant's walls, permissions or habits speak against (detection.md, part C).

    Parameters
    ----------
    defaults
        Parameters where neither tier nor tenant has others.

    >>> from schemas.parse import parse
    >>> event = (
    ...     b'{"kind":"access","event_id":"1","tenant_id":"tenant-a","time":"2026-01-01T00:00:00Z",'
    ...     b'"service":"jobs","user_id":"ana","action":"read","outcome":"success",'
    ...     b'"resource_type":"job","resource_tenant_id":"tenant-b"}'
    ... )
    >>> detector = AccessAnomaly()
    >>> [(a.severity, a.summary) for a in detector.fold(parse("access", [event]).batch, detector.new_state())]
    [('critical', 'ana reached into tenant-b: 1 access allowed; last at 00:00:00 UTC')]
    """

    name = "access_anomaly"
    kind: Kind = "access"

    def __init__(self, defaults: AccessAnomalyParameters | None = None) -> None:
        chosen = defaults or AccessAnomalyParameters()

        def derive(tenant: Tenant) -> _Rule:
            return _rule(resolve("access_anomaly", chosen, tenant))

        self._rules = Rules(derive)

    def new_state(self) -> AccessAnomalyState:
        """Return the state of a partition of which nothing was seen."""
        return AccessAnomalyState()

    def fold(self, batch: EventBatch, state: AccessAnomalyState) -> list[Alert]:
        """Return the revisions that a batch gives rise to, and remember what it taught."""
        rows = np.flatnonzero(batch.mask())
        time_ms = state.clock.read(batch, rows)
        rule = self._rules.of(batch)[batch.tenant.codes[rows]]
        rules = self._rules.distinct
        failed = batch.failed[rows]
        with_user = named(taken(batch, "user_id", rows))
        across = np.zeros(len(rows), np.bool_)
        alerts: list[Alert] = []
        others = _other_tenants(batch, rows)
        if others is not None:
            across = named(others)
        at = np.flatnonzero(across)
        if others is not None and len(at):
            away = _Accesses(batch, rows[at], time_ms[at], rule[at], picked(others, at), ~failed[at])
            alerts.extend(away.fold(state.across, [r.across for r in rules]))
        at = np.flatnonzero(failed & with_user & ~across)
        if len(at):
            permissions = values_at(batch.columns["permission"], rows[at])
            no_mark = np.zeros(len(at), np.bool_)
            denied = _Accesses(batch, rows[at], time_ms[at], rule[at], permissions, no_mark)
            alerts.extend(denied.fold(state.denied, [r.denied for r in rules]))
        at = np.flatnonzero(with_user)
        habits = [r.first_seen for r in rules]
        first_seen = FirstSeenFold(batch, state.first_seen, habits)
        alerts.extend(first_seen.fold(rows[at], time_ms[at], rule[at]))
        alerts.extend(settle_batch(state.rules(), state.clock, batch))
        state.sweep()
        return in_order(alerts)

    def advance(self, state: AccessAnomalyState, until_ms: Mapping[str, int]) -> list[Alert]:
        """Return the last revisions of episodes that are over at the given times by tenant."""
        return settle_reached(state.rules(), until_ms)


def _other_tenants(batch: EventBatch, rows: Int64s) -> Column | None:
    """Return ``(n,)`` the other tenant that an access involves; None: it stays at home, or all do."""
    home, owner, token = (
        taken(batch, name, rows) for name in ("tenant_id", "resource_tenant_id", "token_tenant_id")
    )
    # Mostly nobody leaves home: found out at the speed of comparing lists.
    if all(column.count(None) == len(rows) or column == home for column in (owner, token)):
        return None
    return [
        o if o is not None and o != h else t if t != h else None
        for h, o, t in zip(home, owner, token, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class _Accesses:
    """Accesses for one bucket rule: ``(n,)`` each, in order of arrival.

    Parameters
    ----------
    rows, time_ms, rule
        Positions in the batch, event times, and which of the rules holds.
    values
        What is told apart: other tenants, permissions.
    forced
        Which open an episode at once; they are marked.
    """

    batch: EventBatch
    rows: Int64s
    time_ms: Int64s
    rule: Int64s
    values: Column
    forced: Bools

    def fold(self, buckets: BucketState, rules: Sequence[Buckets]) -> list[Alert]:
        """Return the revisions that the accesses give rise to."""
        events = Events(
            buckets.keys.intern(self._who(), np.arange(len(self.rows))),
            self.time_ms,
            self.rule,
            values_at(self.batch.columns["event_id"], self.rows),
            self.values,
            marks=self.forced,
            forced=self.forced,
        )
        alerts, _ = fold_buckets(buckets, events, rules)
        return alerts

    def _who(self) -> tuple[Hashed, Hashed, Hashed]:
        """Return who made each access: the user, else the address, else somebody of the tenant."""
        tenants, users, addresses = (
            values_at(self.batch.columns[name], self.rows) for name in ("tenant_id", "user_id", "source_ip")
        )
        entity_types: list[str] = []
        values: list[str] = []
        for tenant_id, user, address in zip(tenants, users, addresses, strict=True):
            candidates = (("user_id", user), ("source_ip", address), ("tenant_id", tenant_id))
            entity_type, value = next(pair for pair in candidates if pair[1] is not None)
            entity_types.append(entity_type)
            values.append(value)
        return Hashed(tenants), Hashed(entity_types), Hashed(values)
