"""Hours of the week: which habit an hour belongs to, and what is expected between two times."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from detectors.clock import HOUR_MS, MINUTE_MS
from schemas.batch import Floats, Int64s

HOURS: Final = 24
# The 24 hours of a working day, then those of the weekend.
BINS: Final = 2 * HOURS
_WEEK: Final = 7 * HOURS
# 1970 began on a Thursday, three days after a Monday.
_MONDAY: Final = 3 * HOURS
# A time with nothing to be expected in it, from and until.
Pause = tuple[int, int]


def bins_of(hour: Int64s) -> Int64s:
    """Return ``(n,)`` the bin of each hour since 1970, UTC.

    >>> monday = 1_767_603_600_000 // HOUR_MS
    >>> bins_of(np.array([monday, monday + 5 * 24])).tolist()
    [9, 33]
    """
    of_week = (hour + _MONDAY) % _WEEK
    return of_week % HOURS + HOURS * (of_week >= 5 * HOURS)


# Row i: how often each bin comes in the first i hours of a week.
_VISITS: Final = np.zeros((_WEEK + 1, BINS), np.int64)
_VISITS[np.arange(1, _WEEK + 1), bins_of(np.arange(_WEEK) - _MONDAY)] = 1
np.cumsum(_VISITS, axis=0, out=_VISITS)


def visits(start: Int64s, stop: Int64s) -> Int64s:
    """Return ``(n, 48)`` how often each bin comes from hour `start` to before hour `stop`."""
    start, stop = start + _MONDAY, stop + _MONDAY
    weeks = stop // _WEEK - start // _WEEK
    found: Int64s = _VISITS[stop % _WEEK] - _VISITS[start % _WEEK] + weeks[:, None] * _VISITS[_WEEK]
    return found


def expected(whole: Floats, even: Floats, start_ms: Int64s, stop_ms: Int64s) -> Floats:
    """Return ``(n,)`` how many requests are expected between two times.

    A job's hour counts if the hours beside it belong to the time as well: clocks that are changed let it come
    an hour early or late.

    Parameters
    ----------
    whole
        ``(n, 48)`` requests in an hour.
    even
        ``(n, 48)`` those of hours that have them all the time; 0 for the others.
    start_ms, stop_ms
        ``(n,)``.
    """
    start, stop, rows = start_ms // HOUR_MS, stop_ms // HOUR_MS, np.arange(len(whole))
    between = (visits(start + 1, np.maximum(stop, start + 1)) * even).sum(axis=1)
    jobs = np.where(even > 0, 0.0, whole)
    between += (visits(start + 2, np.maximum(stop - 1, start + 2)) * jobs).sum(axis=1)
    left_ms = np.minimum(stop_ms, (start + 1) * HOUR_MS) - start_ms
    last_ms = np.where(stop > start, stop_ms % HOUR_MS, 0)
    parts = even[rows, bins_of(start)] * left_ms + even[rows, bins_of(stop)] * last_ms
    return np.asarray(between + parts / HOUR_MS, np.float64)


def reached_ms(
    whole: Floats, even: Floats, start_ms: int, needed: float, pauses: Sequence[Pause], until_ms: int
) -> int:
    """Return the end of the minute in which so many requests were expected since `start_ms`.

    Parameters
    ----------
    whole, even
        ``(48,)`` as in `expected`.
    pauses
        In order.
    until_ms
        Where to stop looking: what is returned then is later than this.

    >>> hourly = np.full(BINS, 60.0)
    >>> reached_ms(hourly, hourly, 0, 90.0, [(HOUR_MS, 3 * HOUR_MS)], 9 * HOUR_MS) / HOUR_MS
    3.5
    >>> reached_ms(hourly, 0 * hourly, 1, 90.0, [], 9 * HOUR_MS) / HOUR_MS
    5.0
    """
    at, end_ms = start_ms, until_ms + HOUR_MS
    for begin, end in [*pauses, (end_ms, 0)]:
        since = at
        while at < min(begin, end_ms):
            hour = at // HOUR_MS
            stop = min((hour + 1) * HOUR_MS, begin)
            job_bin, bin_ = bins_of(np.array([hour - 1, hour])).tolist()
            hourly = float(even[bin_])
            more = hourly * (stop - at) / HOUR_MS
            if more >= needed:
                return -(-(at + int(needed / hourly * HOUR_MS)) // MINUTE_MS) * MINUTE_MS
            if hour > since // HOUR_MS + 2 and stop % HOUR_MS == 0 and not even[job_bin]:
                more += float(whole[job_bin])
                if more >= needed:
                    return stop
            needed -= more
            at = stop
        at = max(at, end)
    return at
