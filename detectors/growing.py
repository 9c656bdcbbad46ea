"""Columns that get longer."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = TypeVar("Array", bound=NDArray[Any])


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
    larger = np.full((max(rows, old + old // 16), *column.shape[1:]), fill, column.dtype)
    larger[:old] = column
    return larger  # type: ignore[return-value]  # numpy cannot say "the same kind of array"
