"""A hash table from whole numbers to dense numbers, looked up a column at a time."""

from typing import Final

import numpy as np

from detectors.growing import grown
from detectors.saved import Saved
from schemas.batch import Bools, Int32s, Int64s

_NONE: Final = -1
# 2**64 divided by the golden ratio: Fibonacci hashing spreads keys that differ in few bits (Knuth, vol. 3).
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
_START_BITS: Final = 6
# The index has so many slots for each number, or twice as many. With fewer a search takes more steps.
_SPARE: Final = 3


class NumberTable:
    """Distinct numbers, each with a place of its own in order of first appearance.

    A dict would take four times the memory and a loop over its keys; this takes about 24 bytes a number.

    Attributes
    ----------
    numbers
        ``(k,)`` by place; -1 beyond the last one, of which there is always at least one.

    >>> table = NumberTable()
    >>> table.add(np.array([70, 9])).tolist(), table.find(np.array([9, 8, 70])).tolist()
    ([0, 1], [1, -1, 0])
    """

    saved = Saved(frozenset({"_bits", "_index"}), restored=lambda table: table.rebuild())

    def __init__(self) -> None:
        self.numbers: Int64s = np.full(1, _NONE, np.int64)
        self._size = 0
        self.rebuild()

    def __len__(self) -> int:
        return self._size

    def rebuild(self) -> None:
        """Make the index anew: ``(2^bits,)`` places, each near the home of its number."""
        self._bits = max(_START_BITS, (_SPARE * self._size).bit_length())
        self._index: Int32s = np.full(1 << self._bits, _NONE, np.int32)
        self._settle(np.arange(self._size))

    def _home(self, numbers: Int64s) -> Int64s:
        spread = numbers.view(np.uint64) * _SPREAD
        spread >>= np.uint64(64 - self._bits)
        return spread.view(np.int64)

    def find(self, numbers: Int64s) -> Int64s:
        """Return ``(n,)`` the places of the numbers; -1 for those that are not there.

        Parameters
        ----------
        numbers
            ``(n,)`` not negative.
        """
        at = self._home(numbers)
        places = self._index[at]
        # Where the index has no place, -1, this reads the last of `self.numbers`, which is nobody's.
        rows = (self.numbers[places] != numbers).nonzero()[0]
        mask = len(self._index) - 1
        while len(rows):
            # Another number's place sends the search on, an empty one ends it.
            rows = rows[places[rows] >= 0]
            at[rows] = further = (at[rows] + 1) & mask
            places[rows] = found = self._index[further]
            rows = rows[self.numbers[found] != numbers[rows]]
        return places.astype(np.int64)

    def intern(self, numbers: Int64s) -> tuple[Int64s, Int64s]:
        """Return the places of all numbers, and the positions of the first of each that was new.

        Parameters
        ----------
        numbers
            ``(n,)`` not negative. New ones get places in order of first appearance.

        >>> [found.tolist() for found in NumberTable().intern(np.array([70, 9, 70]))]
        [[0, 1, 0], [0, 1]]
        """
        places = self.find(numbers)
        missing = (places < 0).nonzero()[0]
        if not len(missing):
            return places, missing
        new = missing[first_of_each(numbers[missing])]
        added = self.add(numbers[new])
        places[missing] = added if len(new) == len(missing) else self.find(numbers[missing])
        return places, new

    def add(self, numbers: Int64s) -> Int64s:
        """Return ``(n,)`` the places given to numbers that are new and distinct."""
        places = np.arange(self._size, self._size + len(numbers))
        self._size += len(numbers)
        self.numbers = grown(self.numbers, self._size + 1, _NONE)
        self.numbers[places] = numbers
        if _SPARE * self._size > len(self._index):
            self.rebuild()
        else:
            self._settle(places)
        return places

    def _settle(self, places: Int64s) -> None:
        at = self._home(self.numbers[places])
        mask = len(self._index) - 1
        while len(places):
            free = self._index[at] == _NONE
            self._index[at[free]] = places[free]
            # Of several that met at one free place the last written has it; the others go on.
            homeless = (self._index[at] != places).nonzero()[0]
            places, at = places[homeless], (at[homeless] + 1) & mask

    def keep(self, kept: Bools) -> None:
        """Forget all numbers but some; those get new places, in the same order.

        Parameters
        ----------
        kept
            ``(k,)`` by place.
        """
        numbers = self.numbers[: self._size][kept]
        self._size = len(numbers)
        self.numbers = np.append(numbers, _NONE)
        self.rebuild()


def first_of_each(numbers: Int64s) -> Int64s:
    """Return the positions at which distinct numbers appear first, ascending.

    >>> first_of_each(np.array([70, 9, 70, 8])).tolist()
    [0, 1, 3]
    """
    ordered = np.sort(numbers)
    if (ordered[1:] != ordered[:-1]).all():
        return np.arange(len(numbers))
    _, first = np.unique(numbers, return_index=True)
    return np.sort(first)
