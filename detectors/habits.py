"""Habits: how often each user, and each tenant, showed each value of each feature."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from detectors.features import ACTION, FEATURES
from detectors.keys import grown
from detectors.numbers import NumberTable
from detectors.segments import by_key, running_max, starts_of
from schemas.batch import Bools, Int64s

F: Final = len(FEATURES)
HOUR_MS: Final = 3_600_000
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
        ``(m, f)`` how often the tenant had, any value, and how many different ones.
    """

    rows: Int64s
    of_user: Int64s
    user_total: Int64s
    of_tenant: Int64s
    tenant_total: Int64s
    tenant_distinct: Int64s


@dataclass(frozen=True, slots=True)
class _Learned:
    """What a batch adds to the counts: ``(e,)`` entries in order of arrival.

    Parameters
    ----------
    n
        Rows of the batch.
    row, pair, user, value, group
        Of each entry: its row; its pair; its user's, its value's and its tenant's place in the counts.
    first_ever
        Whether the tenant had never met the value.
    """

    n: int
    row: Int64s
    pair: Int64s
    user: Int64s
    value: Int64s
    group: Int64s
    first_ever: Bools

    def before(self, codes: Int64s, entry_rows: Int64s, asked: Int64s, rows: Int64s) -> Int64s:
        """Return ``(m, f)`` how many entries have the code asked for and come before the row."""
        placed = np.sort(codes * self.n + entry_rows)
        until = np.searchsorted(placed, asked * self.n + rows[:, None])
        return until - np.searchsorted(placed, asked * self.n)


class Habits:
    """Counts of values by user and by tenant; each value of a user counts once an hour.

    An hour's events are mostly one session: counted singly they would make a habit of a morning. The counts
    before a row are exact, whichever rows came in the same batch.

    Attributes
    ----------
    user_hour
        ``(u,)`` the hour in which each user was last seen.
    """

    def __init__(self) -> None:
        self._pairs = NumberTable()
        self._pair_key: Int64s = np.zeros(0, np.int64)
        self._pair_count: Int64s = np.zeros(0, np.int64)
        self._pair_hour: Int64s = np.zeros(0, np.int64)
        self._user_total: Int64s = np.zeros((0, F), np.int64)
        self.user_hour: Int64s = np.zeros(0, np.int64)
        self._value_count: Int64s = np.zeros(0, np.int64)
        self._group_total: Int64s = np.zeros(0, np.int64)
        self._group_distinct: Int64s = np.zeros(0, np.int64)

    def reserve(self, users: int, values: int, tenants: int) -> None:
        """Make room for so many users, values and tenants."""
        self._user_total = grown(self._user_total, users, 0)
        self.user_hour = grown(self.user_hour, users, NEVER)
        self._value_count = grown(self._value_count, values, 0)
        self._group_total = grown(self._group_total, tenants * F, 0)
        self._group_distinct = grown(self._group_distinct, tenants * F, 0)

    def learn(
        self,
        user: Int64s,
        value: Int64s,
        tenant: Int64s,
        hour: Int64s,
        user_min: Int64s,
        tenant_min: Int64s,
    ) -> Seen:
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
        self._forget_absent(user, hour)
        pair = self._pairs_of(user, value)
        fresh = (pair >= 0) & (hour[:, None] > self._pair_hour[pair])
        row, feature = np.nonzero(fresh)
        counted, first = self._count_once_an_hour(pair[row, feature], hour[row])
        asked = np.unique(row[first])
        row, feature = row[counted], feature[counted]
        shown = value[row, feature]
        learned = _Learned(
            len(user),
            row,
            pair[row, feature],
            user[row] * F + feature,
            shown,
            tenant[row] * F + feature,
            self._first_ever(shown),
        )
        asked = self._established(asked, user, tenant, user_min, tenant_min, learned)
        seen = self._seen(asked, user, value, tenant, pair, learned)
        self._add(learned, hour[row])
        np.maximum.at(self.user_hour, user, hour)
        return seen

    def _forget_absent(self, user: Int64s, hour: Int64s) -> None:
        known = self.user_hour[user]
        if not np.any((known != NEVER) & (hour - known > FORGET_HOURS)):
            return
        users, first = np.unique(user, return_index=True)
        known = self.user_hour[users]
        absent = users[(known != NEVER) & (hour[first] - known > FORGET_HOURS)]
        theirs = np.flatnonzero(np.isin(self._pair_key[: len(self._pairs)] >> 32, absent))
        self._pair_count[theirs], self._pair_hour[theirs] = 0, NEVER
        self._user_total[absent] = 0

    def _pairs_of(self, user: Int64s, value: Int64s) -> Int64s:
        """Return ``(n, f)`` the pair of each user and value; -1 where there is no value."""
        key = (user[:, None] << 32 | value).ravel()
        pair = np.full(len(key), -1, np.int64)
        valid = np.flatnonzero(value.ravel() >= 0)
        pair[valid] = self._pairs.find(key[valid])
        missing = valid[pair[valid] < 0]
        if len(missing):
            new = np.unique(key[missing])
            places = self._pairs.add(new)
            self._pair_key = grown(self._pair_key, len(self._pairs), 0)
            self._pair_key[places] = new
            self._pair_count = grown(self._pair_count, len(self._pairs), 0)
            self._pair_hour = grown(self._pair_hour, len(self._pairs), NEVER)
            pair[missing] = self._pairs.find(key[missing])
        return pair.reshape(value.shape)

    def _count_once_an_hour(self, pair: Int64s, hour: Int64s) -> tuple[Bools, Bools]:
        """Return which of the entries, in order of arrival, count, and which are a pair's first ever."""
        counted, first = np.zeros((2, len(pair)), np.bool_)
        order = by_key(pair)
        starts = starts_of(pair[order])
        known = self._pair_hour[pair[order][starts]]
        before = np.empty(len(pair), np.int64)
        before[1:] = running_max(hour[order], starts, known)[:-1]
        before[starts] = known
        counted[order] = hour[order] > before
        first[order[starts]] = self._pair_count[pair[order][starts]] == 0
        return counted, first

    def _first_ever(self, value: Int64s) -> Bools:
        """Return which entries show a value that the tenant had never met."""
        unknown = np.flatnonzero(self._value_count[value] == 0)
        flags = np.zeros(len(value), np.bool_)
        _, first = np.unique(value[unknown], return_index=True)
        flags[unknown[first]] = True
        return flags

    def _established(
        self,
        rows: Int64s,
        user: Int64s,
        tenant: Int64s,
        user_min: Int64s,
        tenant_min: Int64s,
        learned: _Learned,
    ) -> Int64s:
        """Return the rows before which user and tenant had shown enough."""
        of_user = user[rows, None] * F + ACTION
        user_total = self._user_total.ravel()[of_user] + learned.before(
            learned.user, learned.row, of_user, rows
        )
        rows = rows[user_total[:, 0] >= user_min[rows]]
        group = tenant[rows, None] * F + ACTION
        total = self._group_total[group] + learned.before(learned.group, learned.row, group, rows)
        return rows[total[:, 0] >= tenant_min[rows]]

    def _seen(
        self, rows: Int64s, user: Int64s, value: Int64s, tenant: Int64s, pair: Int64s, learned: _Learned
    ) -> Seen:
        features = np.arange(F)
        of_user = user[rows, None] * F + features
        group = tenant[rows, None] * F + features
        known, pairs = np.maximum(value[rows], 0), np.maximum(pair[rows], 0)
        every = np.ones(len(learned.row), np.bool_)

        def before(codes: Int64s, asked: Int64s, counted: Bools = every) -> Int64s:
            return learned.before(codes[counted], learned.row[counted], asked, rows)

        return Seen(
            rows,
            self._pair_count[pairs] + before(learned.pair, pairs),
            self._user_total.ravel()[of_user] + before(learned.user, of_user),
            self._value_count[known] + before(learned.value, known),
            self._group_total[group] + before(learned.group, group),
            self._group_distinct[group] + before(learned.group, group, learned.first_ever),
        )

    def _add(self, learned: _Learned, hour: Int64s) -> None:
        np.add.at(self._pair_count, learned.pair, 1)
        np.maximum.at(self._pair_hour, learned.pair, hour)
        np.add.at(self._user_total.ravel(), learned.user, 1)
        np.add.at(self._value_count, learned.value, 1)
        np.add.at(self._group_total, learned.group, 1)
        np.add.at(self._group_distinct, learned.group[learned.first_ever], 1)

    def keep(self, kept: Bools) -> None:
        """Forget all users but some; they are numbered anew in the same order."""
        n = len(kept)
        self._user_total = self._user_total[:n][kept]
        self.user_hour = self.user_hour[:n][kept]
        number = np.cumsum(kept) - 1
        pairs = len(self._pairs)
        key = self._pair_key[:pairs]
        theirs = kept[key >> 32]
        self._pair_count = self._pair_count[:pairs][theirs]
        self._pair_hour = self._pair_hour[:pairs][theirs]
        self._pair_key = number[key[theirs] >> 32] << 32 | key[theirs] & 0xFFFFFFFF
        self._pairs = NumberTable()
        self._pairs.add(self._pair_key)
