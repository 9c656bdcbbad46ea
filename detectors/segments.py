"""Running sums and maxima over rows grouped by key: what makes a fold columnar.

Everywhere here rows are sorted by key, in order of arrival within a key; `starts` ``(g,)`` holds the
position of each key's first row.
"""

import numpy as np

from schemas.batch import Bools, Int32s, Int64s


def by_key(codes: Int64s | Int32s) -> Int64s:
    """Return positions that sort rows by key and keep the order of arrival within each."""
    return np.argsort(codes, kind="stable")


def starts_of(codes: Int64s | Int32s) -> Int64s:
    """Return the position of the first row of each run of equal codes.

    >>> starts_of(np.array([4, 4, 7, 9, 9])).tolist()
    [0, 2, 3]
    """
    if not len(codes):
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))


def group_of(starts: Int64s, n: int) -> Int64s:
    """Return ``(n,)`` the group of each row.

    >>> group_of(np.array([0, 2, 3]), 5).tolist()
    [0, 0, 1, 2, 2]
    """
    marks = np.zeros(n, np.int64)
    marks[starts[1:]] = 1
    return np.cumsum(marks)


def running_max(values: Int64s, starts: Int64s, initial: Int64s) -> Int64s:
    """Return the maximum of `initial` and of a key's values up to and including each row.

    The groups are lifted above one another, so that one accumulation serves all. Milliseconds of 230
    years in 1,000,000 groups still fit 63 bits.

    Parameters
    ----------
    values
        ``(n,)`` or ``(n, b)``: b independent columns.
    starts
        ``(g,)`` first row of each group.
    initial
        ``(g,)`` or ``(g, b)`` where each group starts from.

    >>> running_max(np.array([3, 1, 5, 2, 4]), np.array([0, 3]), np.array([2, 9])).tolist()
    [3, 3, 5, 9, 9]
    """
    if not len(values):
        return values.copy()
    lifted = values.copy()
    lifted[starts] = np.maximum(lifted[starts], initial)
    spread = int(lifted.max()) - int(lifted.min()) + 1
    lift = group_of(starts, len(values)) * spread
    if values.ndim == 2:
        lift = lift[:, None]
    lifted += lift
    np.maximum.accumulate(lifted, axis=0, out=lifted)
    lifted -= lift
    return lifted


def running_count(flags: Bools | Int64s, starts: Int64s) -> Int64s:
    """Return how many rows of the key are flagged, up to and including each row; or the sum of numbers.

    >>> running_count(np.array([True, False, True, True]), np.array([0, 3])).tolist()
    [1, 1, 2, 1]
    """
    if not len(flags):
        return np.zeros(0, np.int64)
    total = np.cumsum(flags, dtype=np.int64)
    before = total[starts] - flags[starts]
    return total - before[group_of(starts, len(flags))]
