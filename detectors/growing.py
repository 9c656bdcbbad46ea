"""Columns that get longer."""

import math
import mmap
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = TypeVar("Array", bound=NDArray[Any])
# From here on a column is pages of its own.
OWN_PAGES_BYTES: Final = 1 << 16


def room(shape: int | tuple[int, ...], fill: Any, dtype: Any) -> NDArray[Any]:
    """Return a column as `numpy.full` does; a large one apart from the C heap.

    The heap keeps the room that a column leaves when it has grown, between others that stay: with a million
    users a quarter of all memory. Pages of its own go back at once.

    >>> room((2, 3), 7, np.int16).tolist()
    [[7, 7, 7], [7, 7, 7]]
    """
    rows = shape if isinstance(shape, tuple) else (shape,)
    count = math.prod(rows)
    size = count * np.dtype(dtype).itemsize
    if size < OWN_PAGES_BYTES:
        return np.full(rows, fill, dtype)
    pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    column = np.frombuffer(pages, dtype, count).reshape(rows)
    if fill:
        column.fill(fill)
    return column


def grown(column: Array, rows: int, fill: Any) -> Array:
    """Return the column with room for `rows`; a sixteenth more than it had where that was too short.

    So each value is copied sixteen times on average while a column fills, at the speed of memory, and a
    thirtieth of it is room to spare: with a million users what is spare weighs more than what is copied.

    >>> grown(np.zeros(16, np.int64), 17, fill=9).shape
    (17,)
    """
    old = len(column)
    if rows <= old:
        return column
    larger = room((max(rows, old + old // 16), *column.shape[1:]), fill, column.dtype)
    larger[:old] = column
    return larger  # type: ignore[return-value]  # numpy cannot say "the same kind of array"
