"""Keys such as (tenant, user) as dense numbers, so that their state can be columns."""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, Final, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from detectors.numbers import NumberTable
from schemas.batch import Bools, Int64s

# The tenant comes first in every key: tenants are walls. Then mostly the entity's type and value.
Key = tuple[str, str, str]
AnyKey = TypeVar("AnyKey", bound=tuple[str | None, ...])
# A column of a key; a string stands for itself in every row.
Part = str | Sequence[str | None]
Array = TypeVar("Array", bound=NDArray[Any])

# Below this many keys a sweep frees too little to be worth its time.
SWEEP_MIN_KEYS: Final = 4_096
_63_BITS: Final = 0x7FFF_FFFF_FFFF_FFFF


def _prints_of(keys: Iterable[Any], n: int) -> Int64s:
    """Return ``(n,)`` Python's hashes, without the sign.

    They are keyed anew in every process, so nobody can choose values that collide, and by chance two of
    ten million keys do with a probability of 5 in a million. A dict of tuples would be exact to that last
    bit, and four times slower: its look-ups wait for memory one after the other.
    """
    return np.fromiter(map(hash, keys), np.int64, n) & _63_BITS


def fingerprints(parts: Sequence[Part], n: int) -> Int64s:
    """Return ``(n,)`` a number that stands for each row's parts, in this process.

    >>> one, two, three = fingerprints(["tenant-a", ["ana", "ben", "ana"]], 3).tolist()
    >>> one == three, one == two
    (True, False)
    """
    columns = (repeat(part) if isinstance(part, str) else part for part in parts)
    return _prints_of(zip(*columns, strict=False), n)


class Keys(Generic[AnyKey]):
    """Keys numbered in order of first appearance.

    Attributes
    ----------
    names
        The keys by number.

    >>> Keys().intern(["tenant-a", "user_id", ["ana", "ben", "ana"]], 3).tolist()
    [0, 1, 0]
    """

    def __init__(self) -> None:
        self.names: list[AnyKey] = []
        self._table = NumberTable()
        self._sweep_at = SWEEP_MIN_KEYS

    def __len__(self) -> int:
        return len(self.names)

    def intern(self, parts: Sequence[Part], n: int) -> Int64s:
        """Return ``(n,)`` the numbers of the keys; new keys get the next ones.

        Parameters
        ----------
        parts
            The key's parts, each a column ``(n,)``, or a string where all rows have the same.
        n
            How many rows.
        """
        prints = fingerprints(parts, n)
        slots = self._table.find(prints)
        missing = np.flatnonzero(slots < 0)
        if len(missing):
            _, first = np.unique(prints[missing], return_index=True)
            rows = missing[np.sort(first)]
            self._table.add(prints[rows])
            columns = [
                [p] * len(rows) if isinstance(p, str) else [p[i] for i in rows.tolist()] for p in parts
            ]
            self.names.extend(zip(*columns, strict=True))  # type: ignore[arg-type]  # AnyKey's own parts
            slots[missing] = self._table.find(prints[missing])
        return slots

    def find(self, parts: Sequence[Part], n: int) -> Int64s:
        """Return ``(n,)`` the numbers of the keys, -1 for those without one; as `intern`."""
        return self._table.find(fingerprints(parts, n))

    def slot_of(self, key: AnyKey) -> int:
        """Return the number of one key that has one."""
        return int(self._table.find(_prints_of((key,), 1))[0])

    @property
    def crowded(self) -> bool:
        """Whether there are twice as many keys as the last sweep left: time for another."""
        return len(self.names) >= self._sweep_at

    def keep(self, kept: Bools) -> None:
        """Forget all keys but some, and number those anew, in the same order.

        Parameters
        ----------
        kept
            ``(k,)`` by number.
        """
        names = self.names
        self.names = [names[slot] for slot in np.flatnonzero(kept).tolist()]
        self._table = NumberTable()
        self._table.add(_prints_of(self.names, len(self.names)))
        self._sweep_at = max(SWEEP_MIN_KEYS, 2 * len(self.names))


def grown(column: Array, rows: int, fill: Any) -> Array:
    """Return the column with room for `rows`, doubled when it was too short.

    >>> grown(np.zeros(2, np.int64), 3, fill=9).tolist()
    [0, 0, 9, 9]
    """
    if rows <= len(column):
        return column
    room = max(rows, 2 * len(column))
    larger = np.full((room, *column.shape[1:]), fill, column.dtype)
    larger[: len(column)] = column
    return larger  # type: ignore[return-value]  # numpy cannot say "the same kind of array"
