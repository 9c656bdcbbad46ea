"""Rows of tables that only some users have."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from detectors.growing import grown
from detectors.saved import Saved
from schemas.batch import Bools, Int32s, Int64s

# The first row is of everybody who has none, and stays zero: so reading asks nobody whether they have one.
NOBODY: Final = 0


class Rows:
    """Which row of a table each user has.

    >>> rows = Rows()
    >>> rows.reserve(3)
    >>> rows.enter(np.array([2])), rows.of(np.array([0, 2])).tolist()
    (2, [0, 1])
    """

    saved = Saved()

    def __init__(self) -> None:
        self._row: Int32s = np.zeros(0, np.int32)
        self._size = 1

    def reserve(self, users: int) -> None:
        """Make room for so many users."""
        self._row = grown(self._row, users, NOBODY)

    def of(self, user: Int64s) -> Int32s:
        """Return ``(m,)`` the rows of users."""
        return self._row[user]

    def enter(self, users: Int64s) -> int:
        """Give a row to each of ``(m,)`` distinct users without one; return how many rows there are."""
        self._row[users] = self._size + np.arange(len(users))
        self._size += len(users)
        return self._size

    def empty(self, users: Int64s, *tables: NDArray[Any]) -> None:
        """Make the rows of users zero."""
        rows = self._row[users[users < len(self._row)]]
        for table in tables:
            table[rows] = 0

    def keep(self, kept: Bools) -> Int64s:
        """Forget all users but some; return ``(r,)`` the rows that stay, in their new order."""
        self._row = grown(self._row, len(kept), NOBODY)[: len(kept)][kept]
        users = np.flatnonzero(self._row)
        rows = np.append(NOBODY, self._row[users])
        self._row[users] = np.arange(1, len(rows))
        self._size = len(rows)
        return rows
