"""A hash table from whole numbers to dense numbers, looked up a column at a time."""

from typing import Final

import numpy as np

from schemas.batch import Int64s

_EMPTY: Final = -1
# 2**64 divided by the golden ratio: Fibonacci hashing spreads keys that differ in few bits (Knuth, vol. 3).
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
_START_BITS: Final = 10


class NumberTable:
    """Distinct numbers, each with a place of its own in order of first appearance.

    A dict would take ten times the memory and a loop over its keys; this takes 24 bytes a number.

    >>> table = NumberTable()
    >>> table.add(np.array([70, 9])).tolist(), table.find(np.array([9, 8, 70])).tolist()
    ([0, 1], [1, -1, 0])
    """

    def __init__(self) -> None:
        self._bits = _START_BITS
        self._keys: Int64s = np.full(1 << self._bits, _EMPTY, np.int64)
        self._places: Int64s = np.zeros(1 << self._bits, np.int64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def _home(self, keys: Int64s) -> Int64s:
        return (keys.astype(np.uint64) * _SPREAD >> np.uint64(64 - self._bits)).astype(np.int64)

    def find(self, keys: Int64s) -> Int64s:
        """Return ``(n,)`` the places of the keys; -1 for those that are not there.

        Parameters
        ----------
        keys
            ``(n,)`` not negative.
        """
        places = np.full(len(keys), -1, np.int64)
        rows = np.arange(len(keys))
        at = self._home(keys)
        mask = len(self._keys) - 1
        while len(rows):
            met = self._keys[at]
            found = met == keys[rows]
            places[rows[found]] = self._places[at[found]]
            further = ~found & (met != _EMPTY)
            rows, at = rows[further], (at[further] + 1) & mask
        return places

    def add(self, keys: Int64s) -> Int64s:
        """Return ``(n,)`` the places given to keys that are new and distinct."""
        while 2 * (self._size + len(keys)) > len(self._keys):
            self._double()
        places = np.arange(self._size, self._size + len(keys))
        self._size += len(keys)
        self._settle(keys, places)
        return places

    def _settle(self, keys: Int64s, places: Int64s) -> None:
        at = self._home(keys)
        mask = len(self._keys) - 1
        while len(keys):
            free = self._keys[at] == _EMPTY
            self._keys[at[free]] = keys[free]
            # Of several keys that met at one free place the last written has it; the others go on.
            mine = free & (self._keys[at] == keys)
            self._places[at[mine]] = places[mine]
            keys, places, at = keys[~mine], places[~mine], (at[~mine] + 1) & mask

    def _double(self) -> None:
        used = self._keys != _EMPTY
        keys, places = self._keys[used], self._places[used]
        self._bits += 1
        self._keys = np.full(1 << self._bits, _EMPTY, np.int64)
        self._places = np.zeros(1 << self._bits, np.int64)
        self._settle(keys, places)

    def items(self) -> tuple[Int64s, Int64s]:
        """Return the keys and their places, in no order."""
        used = self._keys != _EMPTY
        return self._keys[used], self._places[used]
