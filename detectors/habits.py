"""Habits: what each user showed how often, and what each tenant's users have shown at all."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.counts import Counts
from detectors.features import ACTION, FEATURES
from detectors.growing import grown
from detectors.numbers import NumberTable
from detectors.saved import Saved
from detectors.segments import by_key, running_max, starts_of
from schemas.batch import Bools, Int32s, Int64s

F: Final = len(FEATURES)
# The habits of somebody who was not seen for so long are forgotten: jobs and machines change.
FORGET_HOURS: Final = 90 * 24
NEVER: Final = -1


@dataclass(frozen=True, slots=True)
class Seen:
    """What was known before each of some rows.

    Parameters
    ----------
    rows
        ``(m,)`` positions in the rows learned: those asked for that showed a value new to their user.
    of_user, user_total
        ``(m, f)`` how often the user had shown the value, and any value.
    of_tenant, tenant_total, tenant_distinct
        ``(m, f)`` how many of the tenant's users had shown the value, how many pairs of user and value there
        were, and how many different values.
    tenant_actions
        ``(m,)`` how many actions had taught of the tenant.
    """

    rows: Int64s
    of_user: Int64s
    user_total: Int64s
    of_tenant: Int64s
    tenant_total: Int64s
    tenant_distinct: Int64s
    tenant_actions: Int64s


class Habits:
    """Counts of values by user, and of users by value; each value of a user counts once an hour.

    An hour's events are mostly one session: counted singly they would make a habit of a morning. And a
    tenant knows a value by how many showed it, not by how often: what one person does all day says little
    of what the next will do. The counts before a row are exact, whichever rows came in the same batch.
    """

    saved = Saved()

    def __init__(self) -> None:
        self._pairs = NumberTable()
        self._pair_hour: Int32s = np.zeros(0, np.int32)
        self._of_user, self._user_total = Counts(), Counts()
        self._of_tenant, self._tenant_total, self._tenant_distinct = Counts(), Counts(), Counts()
        self._tenant_actions = Counts()

    def reserve(self, users: int, values: int, tenants: int) -> None:
        """Make room for so many users, values and tenants."""
        self._user_total.reserve(users * F)
        self._of_tenant.reserve(values)
        self._tenant_total.reserve(tenants * F)
        self._tenant_distinct.reserve(tenants * F)
        self._tenant_actions.reserve(tenants)

    def learn(
        self,
        user: Int64s,
        value: Int64s,
        tenant: Int64s,
        hour: Int64s,
        user_min: Int64s,
        tenant_min: Int64s,
    ) -> Seen | None:
        """Count rows; return what was known before those that showed a value new to an established user.

        Parameters
        ----------
        user, tenant
            ``(n,)`` numbers.
        value
            ``(n, f)`` numbers; -1: none.
        hour
            ``(n,)``; they span at most `FORGET_HOURS`.
        user_min, tenant_min
            ``(n,)`` actions that must have taught of the user, and of the tenant, before a row is looked at.
        """
        pair = self._pairs_of(user, value)
        fresh = (pair >= 0) & (hour[:, None] > self._pair_hour[pair])
        row, feature = np.nonzero(fresh)
        counted, first = self._count_once_an_hour(pair[row, feature], hour[row])
        asked = np.unique(row[first])
        self._stage(row, feature, counted, first, user, value, tenant, pair)
        seen = self._look(asked, user, value, tenant, pair, user_min, tenant_min) if len(asked) else None
        for counts in self._all():
            counts.commit()
        hours = hour.astype(np.int32)
        np.maximum.at(self._pair_hour, pair[row, feature][counted], hours[row][counted])
        return seen

    def _look(
        self,
        asked: Int64s,
        user: Int64s,
        value: Int64s,
        tenant: Int64s,
        pair: Int64s,
        user_min: Int64s,
        tenant_min: Int64s,
    ) -> Seen | None:
        """Return what was known before the rows asked for, less those of which too little is known."""
        of_user, group = (column[:, None] * F + np.arange(F) for column in (user, tenant))
        asked = asked[self._user_total.before(of_user[asked, ACTION], asked) >= user_min[asked]]
        asked = asked[self._tenant_actions.before(tenant[asked], asked) >= tenant_min[asked]]
        if not len(asked):
            return None
        shown = value[asked] >= 0
        return Seen(
            asked,
            np.where(shown, self._of_user.before(pair[asked], asked), 0),
            self._user_total.before(of_user[asked], asked),
            np.where(shown, self._of_tenant.before(value[asked], asked), 0),
            self._tenant_total.before(group[asked], asked),
            self._tenant_distinct.before(group[asked], asked),
            self._tenant_actions.before(tenant[asked], asked),
        )

    def _all(self) -> tuple[Counts, ...]:
        return (
            self._of_user,
            self._user_total,
            self._of_tenant,
            self._tenant_total,
            self._tenant_distinct,
            self._tenant_actions,
        )

    def _stage(
        self,
        row: Int64s,
        feature: Int64s,
        counted: Bools,
        first: Bools,
        user: Int64s,
        value: Int64s,
        tenant: Int64s,
        pair: Int64s,
    ) -> None:
        """Hand every count its entries: rows ``(e,)`` and features that are counted, or a user's first."""
        n = len(user)
        rows, features = row[counted], feature[counted]
        self._of_user.stage(pair[rows, features], rows, n)
        self._user_total.stage(user[rows] * F + features, rows, n)
        actions = rows[features == ACTION]
        self._tenant_actions.stage(tenant[actions], actions, n)
        rows, features = row[first], feature[first]
        values, groups = value[rows, features], tenant[rows] * F + features
        self._of_tenant.stage(values, rows, n)
        self._tenant_total.stage(groups, rows, n)
        unmet = self._unmet(values)
        self._tenant_distinct.stage(groups[unmet], rows[unmet], n)

    def forget(self, users: Int64s) -> None:
        """Let users start afresh."""
        users = users[users * F < len(self._user_total.total)]
        theirs = np.flatnonzero(np.isin(self._pairs.numbers[: len(self._pairs)] >> 32, users))
        self._of_user.total[theirs], self._pair_hour[theirs] = 0, NEVER
        self._user_total.total[users[:, None] * F + np.arange(F)] = 0

    def _pairs_of(self, user: Int64s, value: Int64s) -> Int64s:
        """Return ``(n, f)`` the pair of each user and value; -1 where there is no value."""
        key = (user[:, None] << 32 | value).ravel()
        pair = np.full(len(key), -1, np.int64)
        valid = np.flatnonzero(value.ravel() >= 0)
        pair[valid], new = self._pairs.intern(key[valid])
        if len(new):
            self._of_user.reserve(len(self._pairs))
            self._pair_hour = grown(self._pair_hour, len(self._pairs), NEVER)
        return pair.reshape(value.shape)

    def _count_once_an_hour(self, pair: Int64s, hour: Int64s) -> tuple[Bools, Bools]:
        """Return which of the entries, in order of arrival, count, and which are a pair's first ever."""
        counted, first = np.zeros((2, len(pair)), np.bool_)
        order = by_key(pair)
        starts = starts_of(pair[order])
        known = self._pair_hour[pair[order][starts]].astype(np.int64)
        before = np.empty(len(pair), np.int64)
        before[1:] = running_max(hour[order], starts, known)[:-1]
        before[starts] = known
        counted[order] = hour[order] > before
        first[order[starts]] = self._of_user.total[pair[order][starts]] == 0
        return counted, first

    def _unmet(self, value: Int64s) -> Int64s:
        """Return the positions of the entries that show a value which no user of the tenant had shown."""
        unknown = np.flatnonzero(self._of_tenant.total[value] == 0)
        _, first = np.unique(value[unknown], return_index=True)
        return unknown[np.sort(first)]

    def keep(self, kept: Bools) -> None:
        """Forget all users but some; they are numbered anew in the same order."""
        n = len(kept)
        self._user_total.total = self._user_total.total[: n * F].reshape(n, F)[kept].ravel()
        number = np.cumsum(kept) - 1
        pairs = len(self._pairs)
        key = self._pairs.numbers[:pairs]
        theirs = kept[key >> 32]
        self._of_user.total = self._of_user.total[:pairs][theirs]
        self._pair_hour = self._pair_hour[:pairs][theirs]
        self._pairs = NumberTable()
        self._pairs.add(number[key[theirs] >> 32] << 32 | key[theirs] & 0xFFFFFFFF)
