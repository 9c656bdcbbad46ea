"""How much each user takes in an hour and in a day, and how much would be too much.

Whatever a user is doing ends at some time, on average after theta of it: ends are Poisson events with a rate
of Gamma(a, b), known from a busy times in which b = a theta were taken. That no end comes up to x is then, as
in every Gamma-Poisson test, ``(b / (b + x))^a``: exponential for whom is known well, and with a long tail for
whom is not. Before that somebody must begin at all, which has the probability pi, the share of the user's
hours (or days) in which anything was taken: who never exports needs fewer exports to stand out. So
``p = pi (b / (b + x))^a``.

theta is the cubic mean of those hours: for exponential ones it is 1.8 times the mean, and rare busy ones,
such as a month's end, weigh far more than others. Both are backed by the tenant's users, and these by a
frozen prior. How much ``-log10 p`` is worth at a tenant its own record says: where the model is right,
surprise exceeds 1 by 0.43 on average, and the threshold that follows from the budget is stretched by as much
as it exceeds it by more (peaks over a threshold).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.decay import share_left, weeks_remembered
from detectors.growing import grown
from detectors.people import NEVER, Hour, Present
from detectors.rows import NOBODY, Rows
from detectors.saved import Saved
from detectors.surprise import LN_10
from schemas.batch import Bools, Floats, Int32s, Int64s

Float32s = NDArray[np.float32]

MEASURES: Final = ("reads", "exports", "records")
M: Final = len(MEASURES)
WINDOW_HOURS: Final = (1, 24)
# Columns: each measure by the hour, then each by the day.
WIDTH: Final = M * len(WINDOW_HOURS)
MAX_COUNT: Final = 2**31 - 1
# The frozen prior, version 1, of theta in every window: somebody who works through a list, or takes a report
# home; and that pi is a half.
PRIOR: Final = np.tile([20.0, 3.0, 300.0], len(WINDOW_HOURS))
PRIOR_SHARE: Final = 0.5
# So many times of a user does the tenant's theta count, and of the tenant's users the prior.
PEER_WEIGHT: Final = 5.0
PRIOR_WEIGHT: Final = 5.0
# What was taken decays by half in so many hours, 30 days: a month's end is remembered at the next.
HALF_LIFE_HOURS: Final = 30 * 24
# Surprise over this counts as a peak; it exceeds it by 1 / ln 10 on average where the model is right. So many
# peaks of that kind are taken for granted.
PEAK: Final = 1.0
PEAKS_GRANTED: Final = 10.0
# Less than one in ten thousand is nothing to alarm about, whatever the budget; nor is an amount that one busy
# time in a hundred has, however rarely somebody begins.
LEAST_THRESHOLD: Final = 4.0
LEAST_AMOUNT: Final = 2.0
_TIMES, _CUBES, _PEAKS, _EXCESS = range(4)


class VolumeHabits:
    """What users take, by number, and what tenants' users take together.

    Attributes
    ----------
    count
        ``(u, 6)`` taken in the current hour and day.
    limit
        ``(u, 6)`` more than this is too much; infinite: nobody can say.
    busy
        ``(t, 6)`` how many users are over half of their limit.
    """

    saved = Saved()

    def __init__(self) -> None:
        self.count: Int32s = np.zeros((0, WIDTH), np.int32)
        self.limit: Float32s = np.zeros((0, WIDTH), np.float32)
        # Of users who came back: hours and days in which they were there, in which they took anything, and
        # the cubes of how much; decayed.
        self._rows = Rows()
        self._there: Float32s = np.zeros((1, len(WINDOW_HOURS)), np.float32)
        self._times: Float32s = np.zeros((1, WIDTH), np.float32)
        self._cubes: Float32s = np.zeros((1, WIDTH), np.float32)
        # The same of tenants, with the peaks of surprise and what they exceed it by: up to now, and in the
        # hour that is going on.
        self.busy: Int32s = np.zeros((0, WIDTH), np.int32)
        self._tenant_there: Floats = np.zeros((0, len(WINDOW_HOURS)))
        self._new_there: Floats = np.zeros((0, len(WINDOW_HOURS)))
        self._tenant: Floats = np.zeros((0, 4, WIDTH))
        self._new: Floats = np.zeros((0, 4, WIDTH))
        self._first_hour: Int32s = np.zeros(0, np.int32)

    def turn(self, hour: Hour, present: Present, budget: Floats, established: Bools) -> None:
        """Learn what the users whom an hour found had taken before, and set their limits.

        Parameters
        ----------
        hour, present
            The hour's rows; somebody turned.
        budget
            ``(k,)`` false alarms a week of the tenants of the users who turned.
        established
            ``(k,)`` whether their tenants have taught enough.
        """
        self._end(hour)
        at = hour.at[hour.turned]
        user, tenant = present.user[at], present.tenant[at]
        users = int(user.max()) + 1
        self.count, self.limit = grown(self.count, users, 0), grown(self.limit, users, 0)
        self._rows.reserve(users)
        now = hour.hour[hour.turned]
        self._learn(user, tenant, now, hour.before)
        times, theta, rare = self.expected(user, tenant)
        needed = self.needed(tenant, now, budget, rare)
        with np.errstate(over="ignore"):
            limit = times * theta * np.expm1(needed / times * LN_10)
            limit[~established] = np.inf
            # A limit holds for its whole hour or day, or somebody could become busy twice.
            begins = np.repeat(_over(hour.before, now), M, axis=1)
            self.limit[user] = np.where(begins, limit, self.limit[user])

    def _end(self, hour: Hour) -> None:
        """Learn what an hour taught of the tenants that came to a new one."""
        tenants, begun = hour.tenants, hour.begun
        if not len(tenants):
            return
        n = int(tenants.max()) + 1
        self._tenant, self._new = grown(self._tenant, n, 0.0), grown(self._new, n, 0.0)
        self._tenant_there, self._new_there = (
            grown(self._tenant_there, n, 0.0),
            grown(self._new_there, n, 0.0),
        )
        self.busy, self._first_hour = grown(self.busy, n, 0), grown(self._first_hour, n, NEVER)
        new = hour.ended == NEVER
        self._first_hour[tenants[new]] = begun[new]
        share = share_left(begun - hour.ended, HALF_LIFE_HOURS)
        self._tenant[tenants] = (self._tenant[tenants] + self._new[tenants]) * share[:, None, None]
        self._tenant_there[tenants] = (self._tenant_there[tenants] + self._new_there[tenants]) * share[
            :, None
        ]
        self._new[tenants], self._new_there[tenants] = 0.0, 0.0
        over = np.repeat(_over(hour.ended, begun), M, axis=1)
        self.busy[tenants] = np.where(over, 0, self.busy[tenants])

    def _learn(self, user: Int64s, tenant: Int64s, now: Int64s, before: Int64s) -> None:
        """Learn the hours and days that are over; what is too much counts as the limit, and no more."""
        was_there = _over(before, now) & (before != NEVER)[:, None]
        over = np.repeat(was_there, M, axis=1)
        count = np.where(over, self.count[user], 0)
        taken = np.minimum(count, self.limit[user]).astype(np.float64)
        some = taken > 0
        times, theta, _ = self.expected(user, tenant)
        excess = surprise(taken, times, theta) - PEAK
        peak = excess > 0
        cubes = taken**3
        np.add.at(self._new, tenant, np.stack((some, cubes, peak, excess * peak), axis=1))
        np.add.at(self._new_there, tenant, was_there)
        self.count[user] -= count
        back = np.flatnonzero(before != NEVER)
        rows = self._rows_of(user[back])
        share = share_left(now[back] - before[back], HALF_LIFE_HOURS)[:, None]
        self._there[rows] = (self._there[rows] + was_there[back]) * share
        self._times[rows] = (self._times[rows] + some[back]) * share
        self._cubes[rows] = (self._cubes[rows] + cubes[back]) * share

    def _rows_of(self, user: Int64s) -> Int32s:
        """Return ``(m,)`` the rows of users; those who have none get one."""
        n = self._rows.enter(user[self._rows.of(user) == NOBODY])
        self._there, self._times = grown(self._there, n, 0), grown(self._times, n, 0)
        self._cubes = grown(self._cubes, n, 0)
        return self._rows.of(user)

    def expected(self, user: Int64s, tenant: Int64s) -> tuple[Floats, Floats, Floats]:
        """Return ``(k, 6)`` a and theta, and ``-log10 pi``.

        Parameters
        ----------
        user, tenant
            ``(k,)`` numbers.
        """
        known, cubes = self._tenant[tenant, _TIMES], self._tenant[tenant, _CUBES]
        by_tenant = (_log_mean(known, cubes) * known + PRIOR_WEIGHT * np.log(PRIOR)) / (known + PRIOR_WEIGHT)
        row = self._rows.of(user)
        own = self._times[row].astype(np.float64)
        times = own + PEER_WEIGHT
        theta = (_log_mean(own, self._cubes[row]) * own + PEER_WEIGHT * by_tenant) / times
        there = np.repeat(self._tenant_there[tenant], M, axis=1)
        share = (known + PRIOR_WEIGHT * PRIOR_SHARE) / (there + PRIOR_WEIGHT)
        there = np.repeat(self._there[row].astype(np.float64), M, axis=1)
        rare = -np.log10((own + PEER_WEIGHT * share) / (there + PEER_WEIGHT))
        return times, np.maximum(np.exp(theta), PRIOR), np.maximum(rare, 0.0)

    def needed(self, tenant: Int64s, now: Int64s, budget: Floats, rare: Floats) -> Floats:
        """Return ``(k, 6)`` the surprise from which on an amount is too much.

        Parameters
        ----------
        tenant, now
            ``(k,)`` numbers, and hours since 1970.
        budget
            ``(k,)`` false alarms a week, for all columns together.
        rare
            ``(k, 6)`` what is surprising already when anything is taken.
        """
        weeks = weeks_remembered(now - self._first_hour[tenant], HALF_LIFE_HOURS)
        tests = np.repeat(self._tenant_there[tenant], M, axis=1) + 1
        peaks, excess = self._tenant[tenant, _PEAKS], self._tenant[tenant, _EXCESS]
        stretch = (excess * LN_10 + PEAKS_GRANTED) / (peaks + PEAKS_GRANTED)
        threshold = np.maximum(stretch, 1.0) * np.log10(tests * WIDTH / (budget * weeks)[:, None])
        needed: Floats = np.maximum(np.maximum(threshold, LEAST_THRESHOLD) - rare, LEAST_AMOUNT)
        return needed

    def forget(self, users: Int64s) -> None:
        """Let users start afresh."""
        users = users[users < len(self.count)]
        self.count[users], self.limit[users] = 0, 0
        self._rows.empty(users, self._there, self._times, self._cubes)

    def keep(self, kept: Bools) -> None:
        """Forget all users but some; they are numbered anew in the same order."""
        n = len(kept)
        self.count, self.limit = grown(self.count, n, 0)[:n][kept], grown(self.limit, n, 0)[:n][kept]
        rows = self._rows.keep(kept)
        self._there, self._times, self._cubes = self._there[rows], self._times[rows], self._cubes[rows]


def surprise(taken: Floats, times: Floats, theta: Floats) -> Floats:
    """Return ``-log10`` of the probability of so much or more, when anything is taken (see the module).

    >>> known_well, new = np.array([100.0]), np.array([5.0])
    >>> theta = np.array([4.0])
    >>> for times in (known_well, new):
    ...     print(surprise(np.array([4.0, 80.0]), times, theta).round(1))
    [0.4 7.9]
    [0.4 3.5]
    """
    s: Floats = times * np.log1p(taken / (times * theta)) / LN_10
    return s


def _log_mean(times: Floats, cubes: Floats | Float32s) -> Floats:
    """Return the logarithm of the cubic mean; 0 where nothing is known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: Floats = np.where(times > 0, np.log(cubes / times) / 3, 0.0)
    return mean


def _over(before: Int64s, now: Int64s) -> Bools:
    """Return ``(k, 2)`` which windows of a time before are over now."""
    return np.stack([now // hours > before // hours for hours in WINDOW_HOURS], axis=1)
