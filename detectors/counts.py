"""Counts that know what they were before each row of a batch."""

from typing import Final

import numpy as np

from detectors.growing import grown
from detectors.saved import Saved
from schemas.batch import Int32s, Int64s

# Of the totals' own type: with another, `add.at` takes twenty times as long.
_ONE: Final = np.int32(1)


class Counts:
    """A column of counts, and what a batch is about to add to it.

    Attributes
    ----------
    total
        ``(k,)`` counts before the batch.

    >>> counts = Counts()
    >>> counts.reserve(2)
    >>> counts.stage(np.array([0, 0, 1]), np.array([0, 2, 2]), 3)
    >>> counts.before(np.array([0, 0]), np.array([1, 2])).tolist()
    [1, 1]
    """

    # The rest is about one batch.
    saved = Saved(frozenset({"_codes", "_rows", "_n"}))

    def __init__(self) -> None:
        self.total: Int32s = np.zeros(0, np.int32)
        self._codes: Int64s = np.zeros(0, np.int64)
        self._rows: Int64s = np.zeros(0, np.int64)
        self._n = 0

    def reserve(self, k: int) -> None:
        """Make room for so many counts."""
        self.total = grown(self.total, k, 0)

    def stage(self, codes: Int64s, rows: Int64s, n: int) -> None:
        """Take what a batch of `n` rows adds: one to the count of each code, at each row.

        Parameters
        ----------
        codes, rows
            ``(e,)``; the rows ascend.
        """
        self._codes, self._rows, self._n = codes, rows, n

    def before(self, codes: Int64s, rows: Int64s) -> Int64s:
        """Return the counts asked for as they are before each row.

        Parameters
        ----------
        codes
            ``(m,)`` or ``(m, f)``.
        rows
            ``(m,)``.
        """
        at = rows if codes.ndim == 1 else rows[:, None]
        first = codes * self._n
        placed = np.sort(self._codes * self._n + self._rows)
        added = np.searchsorted(placed, first + at) - np.searchsorted(placed, first)
        return self.total[codes] + added

    def commit(self) -> None:
        """Add what was staged."""
        np.add.at(self.total, self._codes, _ONE)
