"""Access anomalies: across tenants, denied again and again, and unlike the user."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import numpy as np

from detectors.bucket_state import BucketState
from detectors.buckets import Buckets
from detectors.clock import HOUR_MS, Clock
from detectors.columns import Hashed, Tenants, named, picked, taken
from detectors.cross_tenant import CrossTenantTeller, fold_cross_tenant, other_tenants
from detectors.denials import WIDTH, DeniedTeller, denials_of, fold_denials
from detectors.episode import in_order
from detectors.features import COMBINATION
from detectors.first_seen import FirstSeenFold, FirstSeenRule, FirstSeenState
from detectors.habits import FORGET_HOURS
from detectors.parameters import AccessAnomalyParameters, Rules, budget_share, resolve
from detectors.people import People
from detectors.privileges import PrivilegesFold, PrivilegesRule, PrivilegesState
from detectors.settling import Rule, settle_batch, settle_reached
from detectors.volume import VolumeFold, VolumeRule, VolumeState
from detectors.working_hours import WorkingHours
from schemas.alert import Alert
from schemas.batch import Bools, EventBatch, Int64s
from schemas.event import Kind
from schemas.tenant import Tenant


class _OfUsers(Protocol):
    """What remembers something of users by their numbers."""

    def forget(self, users: Int64s) -> None:
        """Let users start afresh."""

    def keep(self, kept: Bools) -> None:
        """Forget all users but some; they are numbered anew in the same order."""


@dataclass
class AccessAnomalyState:
    """What is remembered of one partition's accesses.

    Parameters
    ----------
    clock
        Watermark of each tenant.
    across
        Buckets of cross-tenant accesses, by who made them.
    denied
        Buckets of denied ones, by user or, where there is none, by address.
    people, first_seen, working, volume, privileges
        Who there is; and what users do, when, how much of it, and with whose rights.
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 8

    clock: Clock = field(default_factory=Clock)
    across: BucketState = field(default_factory=lambda: BucketState(CrossTenantTeller(), 2))
    people: People = field(default_factory=People)
    denied: BucketState = field(default_factory=lambda: BucketState(DeniedTeller(), WIDTH))
    first_seen: FirstSeenState = field(default_factory=FirstSeenState)
    working: WorkingHours = field(default_factory=WorkingHours)
    volume: VolumeState = field(default_factory=VolumeState)
    privileges: PrivilegesState = field(default_factory=PrivilegesState)

    def rules(self) -> tuple[Rule, ...]:
        """Return what has episodes."""
        return (
            self.across,
            self.denied,
            self.first_seen.strangers,
            self.volume.takers,
            self.privileges.rights,
            self.privileges.identity,
        )

    def _of_users(self) -> tuple[_OfUsers, ...]:
        """Return what remembers anything by the number of a user."""
        habits = self.first_seen.habits
        return self.people, habits, self.working, self.volume.habits, self.privileges

    def forget(self, users: Int64s) -> None:
        """Let users start afresh."""
        if len(users):
            for part in self._of_users():
                part.forget(users)

    def sweep(self) -> None:
        """Drop what no verdict can depend on any more."""
        self.across.sweep(self.clock)
        self.denied.sweep(self.clock)
        if self.people.users.crowded:
            kept = self.people.present_until(self.clock)
            for part in self._of_users():
                part.keep(kept)


@dataclass(frozen=True, slots=True)
class _Rule:
    across: Buckets
    denied: Buckets
    first_seen: FirstSeenRule
    volume: VolumeRule
    privileges: PrivilegesRule


def _rule(p: AccessAnomalyParameters, tenant: Tenant) -> _Rule:
    quiet_ms = 1000 * p.quiet_s
    leak_ms = 1000 * p.cross_tenant_leak_s
    least = p.tenant_habit_min, p.user_habit_min
    return _Rule(
        Buckets((p.cross_tenant_failures, 0), (leak_ms, leak_ms), quiet_ms),
        denials_of(p),
        FirstSeenRule(budget_share("first_seen", tenant), *least, quiet_ms),
        VolumeRule(
            budget_share("volume", tenant), p.tenant_habit_min, p.volume_days_min, 1000 * p.volume_quiet_s
        ),
        PrivilegesRule(budget_share("privilege_change", tenant), *least, quiet_ms),
    )


class AccessAnomaly:
    """Accesses that their tenant's walls, permissions or habits speak against (docs/detection.md, models).

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
            return _rule(resolve("access_anomaly", chosen, tenant), tenant)

        self._rules = Rules(derive)

    def new_state(self) -> AccessAnomalyState:
        """Return the state of a partition of which nothing was seen."""
        return AccessAnomalyState()

    def fold(self, batch: EventBatch, state: AccessAnomalyState) -> list[Alert]:
        """Return the revisions that a batch gives rise to, and remember what it taught."""
        rows = np.flatnonzero(batch.mask())
        time_ms = state.clock.read(batch, rows)
        rule = self._rules.of(batch)[batch.tenant.codes[rows]]
        across = np.zeros(len(rows), np.bool_)
        alerts: list[Alert] = []
        others = other_tenants(batch, rows)
        if others is not None:
            across = named(others)
            at = np.flatnonzero(across)
            them, buckets = picked(others, at), [r.across for r in self._rules.distinct]
            alerts += fold_cross_tenant(batch, state.across, rows[at], time_ms[at], rule[at], them, buckets)
        columns: dict[str, Hashed] = {name: Hashed(batch.columns[name]) for name in COMBINATION}
        columns["tenant_id"] = Tenants(batch, np.arange(len(batch)))
        with_user = named(taken(batch, "user_id", rows))
        anonymous = ~with_user & named(taken(batch, "source_ip", rows))
        buckets = [r.denied for r in self._rules.distinct]
        for entity_type, which in (("user_id", with_user), ("source_ip", anonymous)):
            at = np.flatnonzero(which & ~across)
            who = (batch, columns, entity_type, state.denied)
            alerts += fold_denials(*who, rows[at], time_ms[at], rule[at], buckets)
        of_users = np.flatnonzero(with_user)
        for at in _halved(of_users, time_ms):
            alerts += self._fold(batch, columns, state, rows[at], time_ms[at], rule[at])
        alerts.extend(settle_batch(state.rules(), state.clock, batch))
        state.sweep()
        return in_order(alerts)

    def _fold(
        self,
        batch: EventBatch,
        columns: Mapping[str, Hashed],
        state: AccessAnomalyState,
        rows: Int64s,
        time_ms: Int64s,
        rule: Int64s,
    ) -> list[Alert]:
        """Fold rows ``(n,)`` of users, which span less than what is remembered."""
        rules, people = self._rules.distinct, state.people
        present = people.meet(batch, columns, rows, time_ms)
        state.forget(people.absent(present))
        first_seen = FirstSeenFold(batch, columns, state.first_seen, people, present)
        strange = first_seen.learn(rule, [r.first_seen for r in rules])
        alerts: list[Alert] = []
        volume = VolumeFold(batch, state.volume, people, present, rule, [r.volume for r in rules])
        privileges = PrivilegesFold(
            batch, state.privileges, people, present, rule, [r.privileges for r in rules]
        )
        unusual = np.zeros(len(strange.at))
        for hour in people.hours(present):
            state.working.learn(hour, present)
            mine = np.flatnonzero(np.isin(strange.at, hour.at, assume_unique=True))
            at = strange.at[mine]
            unusual[mine] = state.working.surprise(present.user[at], present.tenant[at], time_ms[at])
            alerts.extend(volume.fold(hour, state.working.taught))
            alerts.extend(privileges.fold(hour, state.working))
        return alerts + first_seen.tell(strange, unusual, rule, [r.first_seen for r in rules])

    def advance(self, state: AccessAnomalyState, until_ms: Mapping[str, int]) -> list[Alert]:
        """Return the last revisions of episodes that are over at the given times by tenant."""
        return settle_reached(state.rules(), until_ms)


def _halved(rows: Int64s, time_ms: Int64s) -> Iterator[Int64s]:
    """Yield rows in parts that span less than what is remembered of users.

    What is forgotten is forgotten between parts. A batch that long is an old log being read.
    """
    if len(rows) > 1 and int(np.ptp(time_ms[rows])) > FORGET_HOURS * HOUR_MS:
        half = len(rows) // 2
        yield from _halved(rows[:half], time_ms)
        yield from _halved(rows[half:], time_ms)
    elif len(rows):
        yield rows
