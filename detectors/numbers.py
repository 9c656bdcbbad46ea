"""A hash table from whole numbers to dense numbers, looked up a column at a time."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.growing import grown, room
from detectors.saved import Saved
from schemas.batch import Bools, Int32s, Int64s

UInt64s = NDArray[np.uint64]
_NONE: Final = -1
# 2**64 divided by the golden ratio: Fibonacci hashing spreads keys that differ in few bits (Knuth, vol. 3).
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
_STEP: Final = np.uint64(1)
_HALF: Final = np.uint64(32)
_START_SLOTS: Final = 64
# The index has so many slots for each number at least, and so many when it is made. With 2 and 3 a search
# takes 1.3 steps on average in place of 1.4, but more of them wait for memory: a batch takes as long, and a
# user takes 40 bytes more. Powers of two would have up to six.
_LEAST_SLOTS: Final = 1.5
_NEW_SLOTS: Final = 2.25


class NumberTable:
    """Distinct numbers, each with a place of its own in order of first appearance.

    A dict would take four times the memory and a loop over its keys; this takes about 16 bytes a number.

    Attributes
    ----------
    numbers
        ``(k,)`` by place; -1 beyond the last one, of which there is always at least one.

    >>> table = NumberTable()
    >>> table.add(np.array([70, 9])).tolist(), table.find(np.array([9, 8, 70])).tolist()
    ([0, 1], [1, -1, 0])
    """

    saved = Saved(frozenset({"_index"}), restored=lambda table: table.rebuild())

    def __init__(self) -> None:
        self.numbers: Int64s = np.full(1, _NONE, np.int64)
        self._size = 0
        self.rebuild()

    def __len__(self) -> int:
        return self._size

    def rebuild(self) -> None:
        """Make the index anew: the numbers' places."""
        self._index: Int32s = room(max(_START_SLOTS, int(_NEW_SLOTS * self._size)), _NONE, np.int32)
        self._settle(np.arange(self._size))

    def _slots(self, spread: UInt64s) -> Int64s:
        """Return where to look: the upper half of each as a fraction of the index's length."""
        at = spread >> _HALF
        at *= np.uint64(len(self._index))
        at >>= _HALF
        return at.view(np.int64)

    def find(self, numbers: Int64s) -> Int64s:
        """Return ``(n,)`` the places of the numbers; -1 for those that are not there.

        Parameters
        ----------
        numbers
            ``(n,)`` not negative.
        """
        spread = _spread(numbers.view(np.uint64))
        places = self._index[self._slots(spread)]
        # Where the index has no place, -1, this reads the last of `self.numbers`, which is nobody's.
        rows = (self.numbers[places] != numbers).nonzero()[0]
        while len(rows):
            # Another number's place sends the search on, an empty one ends it.
            rows = rows[places[rows] >= 0]
            spread[rows] = further = _spread(spread[rows])
            places[rows] = found = self._index[self._slots(further)]
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
        if _LEAST_SLOTS * self._size > len(self._index):
            self.rebuild()
        else:
            self._settle(places)
        return places

    def _settle(self, places: Int64s) -> None:
        spread = _spread(self.numbers[places].view(np.uint64))
        while len(places):
            at = self._slots(spread)
            free = self._index[at] == _NONE
            self._index[at[free]] = places[free]
            # Of several that met at one free place the last written has it; the others go on.
            homeless = (self._index[at] != places).nonzero()[0]
            places, spread = places[homeless], _spread(spread[homeless])

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


def _spread(numbers: UInt64s) -> UInt64s:
    """Return the next of each number's own sequence of numbers that are as good as random.

    A linear congruential generator of full period (Hull and Dobell 1962): it leads everywhere in the end.
    Looking at neighbours instead would be nearer in memory, and make clusters that take many more steps.
    """
    spread = numbers * _SPREAD
    spread += _STEP
    return spread


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
