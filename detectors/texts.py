"""Many different strings in one array: as Python's own each would take 60 bytes more."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.growing import grown
from detectors.saved import Saved
from schemas.batch import Bools, Int32s, Int64s

# Stands for None: a byte that UTF-8 never uses.
_NONE: Final = b"\xff"


class Texts:
    """Strings, or None, by number; 2 GiB of them at most.

    >>> texts = Texts()
    >>> texts.extend(["ana", None, "björn"])
    >>> [texts[i] for i in range(len(texts))]
    ['ana', None, 'björn']
    """

    saved = Saved()

    def __init__(self) -> None:
        self._bytes: NDArray[np.uint8] = np.zeros(0, np.uint8)
        self._ends: Int32s = np.zeros(0, np.int32)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, number: int) -> str | None:
        start = int(self._ends[number - 1]) if number else 0
        data = self._bytes[start : int(self._ends[number])].tobytes()
        return None if data == _NONE else data.decode()

    def to_list(self) -> list[str | None]:
        """Return all of them."""
        data, ends = self._bytes.tobytes(), self._ends[: self._size].tolist()
        pieces = (data[start:end] for start, end in pairwise([0, *ends]))
        return [None if piece == _NONE else piece.decode() for piece in pieces]

    def extend(self, values: Sequence[str | None]) -> None:
        """Add strings; they get the next numbers."""
        data, lengths = _joined(values)
        used, size = self._used, self._size + len(values)
        self._ends = grown(self._ends, size, 0)
        self._ends[self._size : size] = used + np.cumsum(lengths)
        self._size = size
        self._bytes = grown(self._bytes, self._used, 0)
        self._bytes[used : self._used] = np.frombuffer(data, np.uint8)

    @property
    def _used(self) -> int:
        return int(self._ends[self._size - 1]) if self._size else 0

    def keep(self, kept: Bools) -> None:
        """Forget all strings but some; those get new numbers, in the same order.

        Parameters
        ----------
        kept
            ``(k,)`` by number.
        """
        lengths = np.diff(self._ends[: self._size], prepend=0)
        self._bytes = self._bytes[: self._used][np.repeat(kept, lengths)]
        self._ends = np.cumsum(lengths[kept]).astype(np.int32)
        self._size = len(self._ends)


def _joined(values: Sequence[str | None]) -> tuple[bytes, Int64s]:
    """Return all values in one, and the length of each."""
    # Mostly there is no None and nothing but ASCII: then there is no need to encode each on its own.
    if None not in values:
        text = "".join(values)  # type: ignore[arg-type]  # mypy cannot see that there is no None
        if text.isascii():
            return text.encode(), np.fromiter(map(len, values), np.int64, len(values))  # type: ignore[arg-type]
    encoded = [_NONE if value is None else value.encode() for value in values]
    return b"".join(encoded), np.fromiter(map(len, encoded), np.int64, len(encoded))
