"""Keys such as (tenant, user) as dense numbers, so that their state can be columns."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
from typing import Final, Generic, TypeVar, cast

import numpy as np

from detectors.columns import Hashed, values_at
from detectors.growing import grown
from detectors.numbers import NumberTable
from detectors.saved import Saved
from detectors.texts import Texts
from schemas.batch import Bools, Column, Int32s, Int64s

# The tenant comes first in every key: tenants are walls. Then mostly the entity's type and value.
Key = tuple[str, str, str]
AnyKey = TypeVar("AnyKey", bound=tuple[str | None, ...])
# A column of a key; a string stands for itself in every row.
Part = str | Hashed

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
    prints >>= np.uint64(1)
    return prints.view(np.int64)


class _Codes(dict[tuple[str, ...], int]):
    """Numbers words as it meets them; looking some up that are known takes no Python code."""

    def __missing__(self, words: tuple[str, ...]) -> int:
        code = self[words] = len(self)
        return code


class Keys(Generic[AnyKey]):
    """Keys numbered in order of first appearance: ``keys[number]`` is the key.

    Parameters
    ----------
    words
        How many of a key's parts, the first ones, have few different values: what they are together is kept
        once. The tenant is one, an entity's type another.
    texts
        How many more parts there are.

    >>> keys: Keys[Key] = Keys()
    >>> keys.intern(["tenant-a", "user_id", Hashed(["ana", "ben", "ana"])], np.arange(3)).tolist()
    [0, 1, 0]
    >>> keys[1]
    ('tenant-a', 'user_id', 'ben')
    """

    # The table is made of hashes that hold in one process only.
    saved = Saved(
        frozenset({"_table", "_code_of"}), {"_vocabulary": list[str]}, restored=lambda keys: keys.rebuild()
    )

    def __init__(self, words: int = 2, texts: int = 1) -> None:
        self._words = words
        # One key's words after the other's, and by key whose words they are.
        self._vocabulary: list[str] = []
        self._codes: Int32s = np.zeros(0, np.int32)
        self._texts = Texts()
        self._texts_of_each = texts
        self._sweep_at = SWEEP_MIN_KEYS
        self.rebuild()

    def rebuild(self) -> None:
        """Make the table anew from the keys: it holds in its own process only."""
        self._code_of = _Codes()
        for words in zip(*(self._vocabulary[i :: self._words] for i in range(self._words)), strict=True):
            self._code_of[words] = len(self._code_of)
        self._table = NumberTable()
        columns = [Hashed(column) for column in self.columns()]
        self._table.add(fingerprints(columns, np.arange(len(columns[-1].values))))

    def columns(self) -> Iterator[Column]:
        """Yield the keys' parts, ``(k,)`` each."""
        texts, each = self._texts.to_list(), self._texts_of_each
        codes = self._codes[: len(texts) // each].tolist()
        for i in range(self._words):
            words = self._vocabulary[i :: self._words]
            yield [words[code] for code in codes]
        for first in range(each):
            yield texts[first::each]

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, number: int) -> AnyKey:
        words = self._vocabulary[self._words * int(self._codes[number]) :][: self._words]
        first = number * self._texts_of_each
        texts = (self._texts[first + i] for i in range(self._texts_of_each))
        return cast(AnyKey, (*words, *texts))

    def intern(self, parts: Sequence[Part], rows: Int64s) -> Int64s:
        """Return ``(m,)`` the numbers of the rows' keys; new keys get the next ones.

        Parameters
        ----------
        parts
            The key's parts: columns ``(n,)``, at least one, or a string where all rows have the same.
        rows
            ``(m,)`` positions in the columns, ascending.
        """
        numbers, _ = self.enter(fingerprints(parts, rows), parts, rows)
        return numbers

    def enter(self, prints: Int64s, parts: Sequence[Part], rows: Int64s) -> tuple[Int64s, Int64s]:
        """Return what `intern` does, and the positions in `rows` of the first of each new key.

        Parameters
        ----------
        prints
            ``(m,)`` the rows' `fingerprints`.
        parts, rows
            As in `intern`.
        """
        old = len(self)
        numbers, new = self._table.intern(prints)
        if len(new):
            self._append(old, parts, rows[new])
        return numbers, new

    def _append(self, old: int, parts: Sequence[Part], rows: Int64s) -> None:
        words = self._words
        columns = [
            [part] * len(rows) if isinstance(part, str) else values_at(part.values, rows) for part in parts
        ]
        self._codes = grown(self._codes, old + len(rows), 0)
        if words:
            known = len(self._code_of)
            self._codes[old : old + len(rows)] = [
                self._code_of[key] for key in zip(*columns[:words], strict=True)
            ]
            self._vocabulary.extend(chain.from_iterable(islice(self._code_of, known, None)))
        texts = columns[words:]
        self._texts.extend(
            texts[0] if len(texts) == 1 else list(chain.from_iterable(zip(*texts, strict=True)))
        )

    def find(self, parts: Sequence[Part], rows: Int64s) -> Int64s:
        """Return ``(m,)`` the numbers of the rows' keys, -1 for those without one; as `intern`."""
        return self.find_prints(fingerprints(parts, rows))

    def find_prints(self, prints: Int64s) -> Int64s:
        """Return the same, given the rows' `fingerprints`."""
        return self._table.find(prints)

    def slot_of(self, key: AnyKey) -> int:
        """Return the number of one key that has one."""
        return int(self.find([Hashed([part]) for part in key], np.zeros(1, np.int64))[0])

    def by_tenant(self, of_tenant: Callable[[str], int]) -> Int64s:
        """Return ``(k,)`` what holds for the tenant of each key."""
        tenants = self._vocabulary[:: self._words]
        values = np.fromiter(map(of_tenant, tenants), np.int64, len(tenants))
        return values[self._codes[: len(self)]]

    @property
    def crowded(self) -> bool:
        """Whether there are twice as many keys as the last sweep left: time for another."""
        return len(self) >= self._sweep_at

    def keep(self, kept: Bools) -> None:
        """Forget all keys but some, and number those anew, in the same order.

        Parameters
        ----------
        kept
            ``(k,)`` by number.
        """
        self._codes = self._codes[: len(self)][kept]
        self._texts.keep(np.repeat(kept, self._texts_of_each))
        self._table.keep(kept)
        self._sweep_at = max(SWEEP_MIN_KEYS, 2 * len(self))
