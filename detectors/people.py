"""People: who of a tenant is there in a batch, as dense numbers, hour by hour.

What is learned of people holds from the next hour of their tenant on. So within an hour everybody is judged
by the same memory, and the rows of one hour can be folded at once, however the stream is cut.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from detectors.clock import HOUR_MS, Clock
from detectors.columns import Hashed
from detectors.features import Recent
from detectors.growing import grown
from detectors.habits import FORGET_HOURS
from detectors.keys import Key, Keys
from detectors.numbers import first_of_each
from detectors.saved import Saved
from detectors.segments import by_key, running_count, running_max, starts_of
from schemas.batch import Bools, EventBatch, Int32s, Int64s

NEVER: Final = -1


@dataclass(frozen=True, slots=True)
class Present:
    """Rows that name a user.

    Parameters
    ----------
    rows, time_ms, hour
        ``(n,)`` positions in the batch, ascending; event times, and the hours since 1970 of these.
    user, tenant
        ``(n,)`` numbers.
    unseen
        Positions here of the rows whose combination of user and values was not met in its hour.
    """

    rows: Int64s
    time_ms: Int64s
    hour: Int64s
    user: Int64s
    tenant: Int64s
    unseen: Int64s


@dataclass(frozen=True, slots=True)
class Hour:
    """The rows of one hour of each tenant.

    Parameters
    ----------
    at
        ``(m,)`` positions in `Present`, ascending.
    hour
        ``(m,)`` the hour of each row's tenant: the latest that any of its rows has shown.
    tenants, ended, begun
        ``(c,)`` tenants that came to a new hour, the one that ended (`NEVER`: they are new), and the new one.
    turned, before
        ``(k,)`` positions in `at` of the first row of each user in the hour, and the hour in which the user
        was last there; `NEVER`: the user is new.
    """

    at: Int64s
    hour: Int64s
    tenants: Int64s
    ended: Int64s
    begun: Int64s
    turned: Int64s
    before: Int64s


@dataclass
class People:
    """The users and tenants of one partition.

    Parameters
    ----------
    users
        (tenant, user).
    user_hour
        ``(u,)`` the hour of their tenant in which users were last there.
    tenants
        Number of each tenant.
    first_ms, tenant_hour
        ``(t,)`` when tenants were first seen, and the latest hour of each.
    recent
        What was met this hour.
    """

    saved: ClassVar[Saved] = Saved(frozenset({"recent"}))

    users: Keys[Key] = field(default_factory=Keys)
    user_hour: Int32s = field(default_factory=lambda: np.zeros(0, np.int32))
    tenants: dict[str, int] = field(default_factory=dict)
    first_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    tenant_hour: Int32s = field(default_factory=lambda: np.zeros(0, np.int32))
    recent: Recent = field(default_factory=Recent)

    def meet(
        self, batch: EventBatch, columns: Mapping[str, Hashed], rows: Int64s, time_ms: Int64s
    ) -> Present:
        """Return who is there, with numbers for who is new.

        Parameters
        ----------
        batch, columns
            The batch, and its columns by field name.
        rows, time_ms
            ``(n,)`` positions of rows with a user, ascending, and event times.
        """
        hour = time_ms // HOUR_MS
        places, unseen = self.recent.look(columns, rows, hour)
        if len(unseen):
            parts = (columns["tenant_id"], "user_id", columns["user_id"])
            self.recent.user[places[unseen]] = self.users.intern(parts, rows[unseen])
            self.user_hour = grown(self.user_hour, len(self.users), NEVER)
        user = self.recent.user[places].astype(np.int64)
        return Present(rows, time_ms, hour, user, self._number_tenants(batch, rows, time_ms), unseen)

    def _number_tenants(self, batch: EventBatch, rows: Int64s, time_ms: Int64s) -> Int64s:
        """Return ``(n,)`` the number of each row's tenant; a new tenant's first time is kept."""
        known, coded = self.tenants, batch.tenant
        numbers = np.array([known.get(tenant_id, NEVER) for tenant_id in coded.values], np.int64)
        tenant = numbers[coded.codes[rows]]
        new = np.flatnonzero(tenant == NEVER)
        if len(new):
            new = new[first_of_each(coded.codes[rows[new]].astype(np.int64))]
            for code in coded.codes[rows[new]].tolist():
                numbers[code] = known[coded.values[code]] = len(known)
            self.first_ms = np.append(self.first_ms, time_ms[new])
            self.tenant_hour = grown(self.tenant_hour, len(known), NEVER)
            tenant = numbers[coded.codes[rows]]
        return tenant

    def hours(self, present: Present) -> Iterator[Hour]:
        """Yield the rows hour by hour; as many times as the tenant with the most hours in the batch has.

        Everything by tenant and hour must be done with an `Hour` before the next is taken.
        """
        tenant, user = present.tenant, present.user
        hours = present.hour
        reached = self.tenant_hour[tenant].astype(np.int64)
        if (hours <= reached).all():
            yield self._turn(np.arange(len(hours)), reached, tenant, user)
            return
        order = by_key(tenant)
        starts = starts_of(tenant[order])
        lifted = running_max(hours[order], starts, reached[order[starts]])
        later = np.zeros(len(order), np.bool_)
        later[1:] = lifted[1:] != lifted[:-1]
        later[starts] = False
        rank = np.empty_like(order)
        rank[order] = running_count(later, starts)
        hours = np.empty_like(order)
        hours[order] = lifted
        for nth in range(int(rank.max()) + 1):
            at = np.flatnonzero(rank == nth)
            yield self._turn(at, hours[at], tenant[at], user[at])

    def _turn(self, at: Int64s, hour: Int64s, tenant: Int64s, user: Int64s) -> Hour:
        newer = np.flatnonzero(self.tenant_hour[tenant] < hour)
        if len(newer):
            newer = newer[first_of_each(tenant[newer])]
        tenants = tenant[newer]
        ended = self.tenant_hour[tenants].astype(np.int64)
        begun = hour[newer]
        self.tenant_hour[tenants] = begun
        turned = np.flatnonzero(self.user_hour[user] < hour)
        if len(turned):
            turned = turned[first_of_each(user[turned])]
        before = self.user_hour[user[turned]].astype(np.int64)
        self.user_hour[user[turned]] = hour[turned]
        return Hour(at, hour, tenants, ended, begun, turned, before)

    def absent(self, present: Present) -> Int64s:
        """Return the users who come back after more than `FORGET_HOURS`."""
        user, hour = present.user[present.unseen], present.hour[present.unseen]
        known = self.user_hour[user]
        gone = (known != NEVER) & (hour - known > FORGET_HOURS)
        if not gone.any():
            return np.zeros(0, np.int64)
        # A later row may be as far from the last time before this call, though the user came in between.
        first = first_of_each(user)
        who: Int64s = user[first[gone[first]]]
        return who

    def present_until(self, clock: Clock) -> Bools:
        """Return ``(u,)`` who was there in the last `FORGET_HOURS`: anybody else is as if never seen."""
        settled_hour = self.users.by_tenant(clock.settled_ms) // HOUR_MS
        kept: Bools = self.user_hour[: len(self.users)] + FORGET_HOURS >= settled_hour
        return kept

    def forget(self, users: Int64s) -> None:
        """Let users start afresh."""
        self.user_hour[users] = NEVER

    def keep(self, kept: Bools) -> None:
        """Forget all users but some; they are numbered anew in the same order."""
        self.user_hour = self.user_hour[: len(kept)][kept]
        self.users.keep(kept)
        # It knows users by their numbers.
        self.recent = Recent()
