"""Columns of a batch, cut to the rows that a detector looks at."""

import numpy as np

from schemas.batch import Bools, Column, EventBatch, Int64s


def taken(batch: EventBatch, name: str, rows: Int64s) -> Column:
    """Return ``(m,)`` values of a column at the given positions.

    Parameters
    ----------
    batch
        Not changed.
    name
        The contract's field name.
    rows
        ``(m,)`` positions, ascending.
    """
    return picked(batch.columns[name], rows)


def picked(column: Column, rows: Int64s) -> Column:
    """Return ``(m,)`` values at the given positions, ascending and distinct.

    >>> picked(["a", "b", "c"], np.array([0, 2]))
    ['a', 'c']
    """
    # Mostly every row is looked at: then the column serves as it is.
    return column if len(rows) == len(column) else [column[i] for i in rows.tolist()]


def named(column: Column) -> Bools:
    """Return ``(n,)`` where a column has a value.

    >>> named(["ana", None]).tolist()
    [True, False]
    """
    if None not in column:
        return np.ones(len(column), np.bool_)
    return np.fromiter((value is not None for value in column), np.bool_, len(column))
