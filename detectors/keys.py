"""Keys such as (tenant, user) as dense numbers, so that their state can be columns."""

from collections.abc import Iterable, Sequence
from typing import Any, Final, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from detectors.columns import Hashed
from detectors.numbers import NumberTable
from detectors.saved import Saved
from schemas.batch import Bools, Int64s

# The tenant comes first in every key: tenants are walls. Then mostly the entity's type and value.
Key = tuple[str, str, str]
AnyKey = TypeVar("AnyKey", bound=tuple[str | None, ...])
# A column of a key; a string stands for itself in every row.
Part = str | Hashed
Array = TypeVar("Array", bound=NDArray[Any])

# Below this many keys a sweep frees too little to be worth its time.
SWEEP_MIN_KEYS: Final = 4_096
# Odd multipliers that tell a key's parts apart by their place (the first from the golden ratio, the others
# prime); the parts' hashes are spread already.
_WEIGHTS: Final = (
    0x9E3779B97F4A7C15,
    0xC2B2AE3D27D4EB4F,
    0x165667B19E3779F9,
    0x85EBCA77C2B2AE63,
    0x27D4EB2F165667C5,
    0x94D049BB133111EB,
    0xBF58476D1CE4E5B9,
)
_64_BITS: Final = 0xFFFF_FFFF_FFFF_FFFF


def fingerprints(parts: Sequence[Part], rows: Int64s) -> Int64s:
    """Return ``(m,)`` a number that stands for each row's parts, in this process.

    It is made of Python's hashes of the parts. These are keyed anew in every process, so nobody can choose
    values that collide, and by chance two of ten million keys do with a probability of 5 in a million. A
    dict of tuples would be exact to that last bit, and several times slower: its look-ups wait for memory
    one after the other.

    Parameters
    ----------
    parts
        At most seven columns ``(n,)``, or a string where all rows have the same.
    rows
        ``(m,)`` positions.

    >>> names = Hashed(["ana", "ben", "ana"])
    >>> one, two, three = fingerprints(["tenant-a", names], np.arange(3)).tolist()
    >>> one == three, one == two
    (True, False)
    """
    prints = np.zeros(len(rows), np.uint64)
    for part, weight in zip(parts, _WEIGHTS, strict=False):
        if isinstance(part, str):
            prints += np.uint64(hash(part) * weight & _64_BITS)
        else:
            prints += part.hashes[rows].view(np.uint64) * np.uint64(weight)
    return (prints >> np.uint64(1)).view(np.int64)


class Keys(Generic[AnyKey]):
    """Keys numbered in order of first appearance.

    Attributes
    ----------
    names
        The keys by number.

    >>> Keys().intern(["tenant-a", "user_id", Hashed(["ana", "ben", "ana"])], np.arange(3)).tolist()
    [0, 1, 0]
    """

    saved = Saved(
        frozenset({"_table"}),
        {"names": list[tuple[str | None, ...]]},
        restored=lambda keys: keys.rebuild(),
    )

    def __init__(self) -> None:
        self.names: list[AnyKey] = []
        self._table = NumberTable()
        self._sweep_at = SWEEP_MIN_KEYS

    def __len__(self) -> int:
        return len(self.names)

    def intern(self, parts: Sequence[Part], rows: Int64s) -> Int64s:
        """Return ``(m,)`` the numbers of the rows' keys; new keys get the next ones.

        Parameters
        ----------
        parts
            The key's parts: columns ``(n,)``, at least one, or a string where all rows have the same.
        rows
            ``(m,)`` positions in the columns.
        """
        prints = fingerprints(parts, rows)
        slots = self._table.find(prints)
        missing = np.flatnonzero(slots < 0)
        if len(missing):
            _, first = np.unique(prints[missing], return_index=True)
            new = missing[np.sort(first)]
            self._table.add(prints[new])
            picks = rows[new].tolist()
            columns = (
                [part] * len(picks) if isinstance(part, str) else [part.values[i] for i in picks]
                for part in parts
            )
            self.names.extend(cast(Iterable[AnyKey], zip(*columns, strict=True)))
            slots[missing] = self._table.find(prints[missing])
        return slots

    def find(self, parts: Sequence[Part], rows: Int64s) -> Int64s:
        """Return ``(m,)`` the numbers of the rows' keys, -1 for those without one; as `intern`."""
        return self._table.find(fingerprints(parts, rows))

    def slot_of(self, key: AnyKey) -> int:
        """Return the number of one key that has one."""
        return int(self._table.find(_prints_of([key]))[0])

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
        self.rebuild()
        self._sweep_at = max(SWEEP_MIN_KEYS, 2 * len(self.names))

    def rebuild(self) -> None:
        """Make the table anew from the names: it holds in its own process only."""
        self._table = NumberTable()
        self._table.add(_prints_of(self.names))


def _prints_of(keys: Sequence[tuple[str | None, ...]]) -> Int64s:
    # Several times as fast as `zip(*keys)`, which visits every key once for each part.
    width = len(keys[0]) if keys else 0
    columns = [Hashed([key[part] for key in keys]) for part in range(width)]
    return fingerprints(columns, np.arange(len(keys)))


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
