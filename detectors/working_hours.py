"""Working hours: at which times of the day each user is there, on weekdays and on weekends."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.clock import DAY_MS, HOUR_MS
from detectors.decay import share_left
from detectors.growing import grown
from detectors.people import NEVER, Hour, Present
from detectors.rows import NOBODY, Rows
from detectors.saved import Saved
from schemas.batch import Bools, Floats, Int32s, Int64s

HALF_HOUR_MS: Final = HOUR_MS // 2
HALF_HOURS: Final = 48
BINS: Final = 2 * HALF_HOURS
# 1970 began on a Thursday.
FIRST_WEEKDAY: Final = 3
SATURDAY: Final = 5
# How a time counts for its neighbours: people do not come to the minute, nor do clocks stay in summer.
KERNEL: Final = (1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9)
# A user's own hours outweigh the tenant's after five of them, as in first_seen.
TENANT_WEIGHT: Final = 5.0
# What a stranger does: no time of the week is likelier than another.
STRANGER: Final = np.repeat([5 / 7, 2 / 7], HALF_HOURS) / HALF_HOURS
# A bin that is full halves all of its user's: on weekdays that is a memory of a quarter of a year.
FULL: Final = 60
# The tenant's hours decay by half in so many hours: 60 days.
HALF_LIFE_HOURS: Final = 60 * 24
# Whoever travels is in another network and works at other hours for one and the same reason: the hours must
# not count in full beside it.
MOST: Final = 1.0
LEAST: Final = -0.5
_NO_BIN: Final = 255
# The hours of whoever was there in no more than so many are listed: most accounts are hardly ever used.
FEW: Final = 4


def bin_of(time_ms: Int64s) -> Int64s:
    """Return the half-hours of times: 0 to 47 on weekdays, 48 to 95 on weekends, in UTC.

    >>> bin_of(np.array([1_767_603_600_000, 1_768_035_600_000])).tolist()  # a Monday, 09:00; a Saturday
    [18, 66]
    """
    weekend = (time_ms // DAY_MS + FIRST_WEEKDAY) % 7 >= SATURDAY
    return time_ms // HALF_HOUR_MS % HALF_HOURS + HALF_HOURS * weekend


class WorkingHours:
    """Counts, by half-hour, of the hours in which users were there: one each, in that of its first event.

    The hour that is going on does not count yet.

    Attributes
    ----------
    taught
        ``(t,)`` hours that taught of each tenant, of all its users, decayed.
    """

    saved = Saved()

    def __init__(self) -> None:
        # The half-hours of each user's first hours, and counts by half-hour of those with more of them.
        self._few: NDArray[np.uint8] = np.full((0, FEW), _NO_BIN, np.uint8)
        self._rows = Rows()
        self._counts: NDArray[np.uint8] = np.zeros((1, BINS), np.uint8)
        self._waiting: NDArray[np.uint8] = np.full(0, _NO_BIN, np.uint8)
        self._tenant: Floats = np.zeros((0, BINS))
        self.taught: Floats = np.zeros(0)
        self._new: Int32s = np.zeros((0, 2), np.int32)

    def learn(self, hour: Hour, present: Present) -> None:
        """Count whom the hour found, from the next hour on."""
        if not len(hour.turned):
            return
        at = hour.at[hour.turned]
        user, tenant = present.user[at], present.tenant[at]
        users = int(user.max()) + 1
        self._few, self._waiting = grown(self._few, users, _NO_BIN), grown(self._waiting, users, _NO_BIN)
        self._rows.reserve(users)
        tenants = int(hour.tenants.max(initial=-1)) + 1
        self._tenant, self.taught = grown(self._tenant, tenants, 0.0), grown(self.taught, tenants, 0.0)
        self._new = grown(self._new, tenants, 0)
        self._end(hour)
        waiting = self._waiting[user]
        known = np.flatnonzero(waiting != _NO_BIN)
        self._count(user[known], waiting[known])
        # An event that comes late counts in the hour that its tenant has reached.
        bins = bin_of(np.maximum(present.time_ms[at], hour.hour[hour.turned] * HOUR_MS))
        self._waiting[user] = bins
        np.add.at(self._new, (tenant, bins % 2), np.int32(1))

    def _end(self, hour: Hour) -> None:
        """Count the hours that ended for the tenants that came to a new one."""
        known = np.flatnonzero(hour.ended != NEVER)
        if not len(known):
            return
        tenants, ended = hour.tenants[known], hour.ended[known]
        new = self._new[tenants]
        share = share_left(hour.begun[known] - ended, HALF_LIFE_HOURS)
        first = bin_of(ended * HOUR_MS)
        self._tenant[tenants, first] += new[:, 0]
        self._tenant[tenants, first + 1] += new[:, 1]
        self._tenant[tenants] *= share[:, None]
        self.taught[tenants] = (self.taught[tenants] + new.sum(axis=1)) * share
        self._new[tenants] = 0

    def _count(self, user: Int64s, over: NDArray[np.uint8]) -> None:
        """Count an hour of each of some users."""
        listed = (self._few[user] != _NO_BIN).sum(axis=1)
        few = (self._rows.of(user) == NOBODY) & (listed < FEW)
        self._few[user[few], listed[few]] = over[few]
        many, over = user[~few], over[~few]
        new = many[self._rows.of(many) == NOBODY]
        self._counts = grown(self._counts, self._rows.enter(new), 0)
        self._counts[self._rows.of(new)] = self._listed(new)
        self._few[new] = _NO_BIN
        rows = self._rows.of(many)
        self._counts[rows, over] += 1
        full = rows[self._counts[rows, over] >= FULL]
        self._counts[full] >>= 1

    def _listed(self, user: Int64s) -> NDArray[np.uint8]:
        """Return ``(m, 96)`` counts of the hours that are listed."""
        counts = np.zeros((len(user), BINS), np.uint8)
        for bins in self._few[user].T:
            there = np.flatnonzero(bins != _NO_BIN)
            counts[there, bins[there]] += 1
        return counts

    def _of(self, user: Int64s) -> NDArray[np.uint8]:
        """Return ``(m, 96)`` counts of users."""
        return self._counts[self._rows.of(user)] + self._listed(user)

    def surprise(self, user: Int64s, tenant: Int64s, time_ms: Int64s) -> Floats:
        """Return ``(m,)`` log10 of how much likelier a stranger than the user is there at each time.

        ``p = (n_ub + 5 p_t) / (n_u + 5)``, n_ub smoothed over the half-hours around, p_t made in the same way
        of the tenant's users, backed by any time of the week alike (docs/detection.md, models).

        Parameters
        ----------
        user, tenant
            ``(m,)`` numbers.
        time_ms
            ``(m,)`` event times.
        """
        bins = bin_of(time_ms)
        stranger = STRANGER[bins]
        by_tenant = _smoothed(self._tenant, tenant, bins) + TENANT_WEIGHT * stranger
        by_tenant /= self.taught[tenant] + TENANT_WEIGHT
        counts = self._of(user)
        total = counts.sum(axis=1, dtype=np.int64)
        by_user = _smoothed(counts, np.arange(len(user)), bins) + TENANT_WEIGHT * by_tenant
        by_user /= total + TENANT_WEIGHT
        found: Floats = np.clip(np.log10(stranger / by_user), LEAST, MOST)
        return found

    def hours_of(self, user: int) -> int:
        """Return how many hours taught of a user."""
        return int(self._of(np.array([user])).sum(dtype=np.int64))

    def forget(self, users: Int64s) -> None:
        """Let users start afresh."""
        users = users[users < len(self._few)]
        self._few[users], self._waiting[users] = _NO_BIN, _NO_BIN
        self._rows.empty(users, self._counts)

    def keep(self, kept: Bools) -> None:
        """Forget all users but some; they are numbered anew in the same order."""
        self._few = grown(self._few, len(kept), _NO_BIN)[: len(kept)][kept]
        self._waiting = grown(self._waiting, len(kept), _NO_BIN)[: len(kept)][kept]
        self._counts = self._counts[self._rows.keep(kept)]


def _smoothed(counts: NDArray[np.uint8] | Floats, rows: Int64s, bins: Int64s) -> Floats:
    """Return ``(m,)`` counts of rows by the half-hours around some, midnight being like any other time."""
    day, half_hour = bins - bins % HALF_HOURS, bins % HALF_HOURS
    total = np.zeros(len(bins))
    for off, weight in enumerate(KERNEL, -(len(KERNEL) // 2)):
        total += weight * counts[rows, day + (half_hour + off) % HALF_HOURS]
    return total
