"""Keys such as (tenant, user) as dense numbers, so that their state can be columns."""

from collections.abc import Iterable
from itertools import repeat
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.batch import Bools, Int64s

# The tenant comes first in every key: tenants are walls. Then mostly the entity's type and value.
Key = tuple[str, str, str]
Array = TypeVar("Array", bound=NDArray[Any])

# Below this many keys a sweep frees too little to be worth its time.
SWEEP_MIN_KEYS: Final = 4_096


class _Index(dict[Key, int]):
    def __missing__(self, key: Key) -> int:
        slot = self[key] = len(self)
        return slot


class Keys:
    """Keys numbered in order of first appearance.

    >>> ana, ben = ("tenant-a", "user_id", "ana"), ("tenant-a", "user_id", "ben")
    >>> Keys().intern([ana, ben, ana], 3).tolist()
    [0, 1, 0]
    """

    def __init__(self) -> None:
        self._index = _Index()
        self._names: list[Key] = []
        self._sweep_at = SWEEP_MIN_KEYS

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, slot: int) -> Key:
        return self.names[slot]

    @property
    def names(self) -> list[Key]:
        """The keys by number."""
        new = len(self._index) - len(self._names)
        if new:
            # A dict keeps the order of insertion: the new ones are its last.
            last = [key for key, _ in zip(reversed(self._index), range(new), strict=False)]
            self._names.extend(reversed(last))
        return self._names

    def intern(self, keys: Iterable[Key], n: int) -> Int64s:
        """Return ``(n,)`` the numbers of the keys; new keys get the next ones."""
        return np.fromiter(map(self._index.__getitem__, keys), np.int64, n)

    def find(self, keys: Iterable[Key], n: int) -> Int64s:
        """Return ``(n,)`` the numbers of the keys, -1 for those without one."""
        return np.fromiter(map(self._index.get, keys, repeat(-1)), np.int64, n)

    @property
    def crowded(self) -> bool:
        """Whether there are twice as many keys as the last sweep left: time for another."""
        return len(self._index) >= self._sweep_at

    def keep(self, kept: Bools) -> None:
        """Forget all keys but some, and number those anew, in the same order.

        Parameters
        ----------
        kept
            ``(k,)`` by number.
        """
        names = self.names
        self._names = [names[slot] for slot in np.flatnonzero(kept).tolist()]
        self._index = _Index(zip(self._names, range(len(self._names)), strict=True))
        self._sweep_at = max(SWEEP_MIN_KEYS, 2 * len(self._names))


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
