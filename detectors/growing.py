"""Columns that get longer."""

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = TypeVar("Array", bound=NDArray[Any])


def grown(column: Array, rows: int, fill: Any) -> Array:
    """Return the column with room for `rows`; half as much again as it had where that was too short.

    So a column is copied twice on average while it fills, and a quarter of it is room to spare.

    >>> grown(np.zeros(4, np.int64), 5, fill=9).tolist()
    [0, 0, 0, 0, 9, 9]
    """
    old = len(column)
    if rows <= old:
        return column
    larger = np.full((max(rows, old + old // 2), *column.shape[1:]), fill, column.dtype)
    larger[:old] = column
    return larger  # type: ignore[return-value]  # numpy cannot say "the same kind of array"
