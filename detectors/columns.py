"""Columns of a batch, cut to the rows that a detector looks at.

A column is a list or an `ArrowColumn`, which makes all of its values when it is asked for one: who wants a
few of either goes by `taken`, `picked` or `values_at`.
"""

from collections.abc import Container
from functools import cached_property
from typing import Any

import numpy as np

from schemas.batch import Bools, Column, EventBatch, Int64s, select
from schemas.columns import ArrowColumn, numbers_of


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
    if len(rows) == len(column):
        return column
    return select(column.values if isinstance(column, ArrowColumn) and column.made else column, rows)


def values_at(column: Column, rows: Int64s) -> list[Any]:
    """Return ``(m,)`` values at few positions of a column, from its codes where it has been coded.

    >>> values_at(["a", "b", "c"], np.array([0, 2]))
    ['a', 'c']
    """
    if isinstance(column, ArrowColumn) and column.coded:
        distinct = column.distinct
        return [distinct[code] for code in column.codes[rows].tolist()]
    if isinstance(column, ArrowColumn) and not column.made:
        return column.take(rows).values
    return [column[i] for i in rows.tolist()]


def named(column: Column) -> Bools:
    """Return ``(n,)`` where a column has a value.

    >>> named(["ana", None]).tolist()
    [True, False]
    """
    if isinstance(column, ArrowColumn):
        return column.named()
    if None not in column:
        return np.ones(len(column), np.bool_)
    return np.fromiter((value is not None for value in column), np.bool_, len(column))


def among(column: Column, words: Container[str | None]) -> Bools:
    """Return ``(n,)`` where a column has one of some values.

    >>> among(["login", "logout"], {"login"}).tolist()
    [True, False]
    """
    if isinstance(column, ArrowColumn):
        return np.array([value in words for value in column.distinct], np.bool_)[column.codes]
    return np.fromiter(map(words.__contains__, column), np.bool_, len(column))


def numbers(column: Column) -> Int64s:
    """Return ``(n,)`` a column of whole numbers; 0 where it has none.

    >>> numbers([7, None]).tolist()
    [7, 0]
    """
    if isinstance(column, ArrowColumn):
        found: Int64s = np.where(column.named(), numbers_of(column.array), 0)
        return found
    return np.array([value or 0 for value in column], np.int64)


class Hashed:
    """A column with Python's hash of each value, worked out once however many keys it is part of.

    Parameters
    ----------
    values
        ``(n,)``.
    """

    def __init__(self, values: Column) -> None:
        self.values = values

    @cached_property
    def hashes(self) -> Int64s:
        """``(n,)`` hashes; the same value has the same one in the whole process."""
        # Texts that were not coded already are mostly all different, and coding them would be in vain.
        if isinstance(self.values, ArrowColumn) and self.values.coded:
            distinct = self.values.distinct
            return np.fromiter(map(hash, distinct), np.int64, len(distinct))[self.values.codes]
        return np.fromiter(map(hash, self.values), np.int64, len(self.values))


class Tenants(Hashed):
    """The column of tenants, hashed by code.

    Parameters
    ----------
    batch, rows
        The batch, and ``(n,)`` positions.
    """

    def __init__(self, batch: EventBatch, rows: Int64s) -> None:
        super().__init__(taken(batch, "tenant_id", rows))
        self._names, self._codes = batch.tenant.values, batch.tenant.codes[rows]

    @cached_property
    def hashes(self) -> Int64s:
        """``(n,)`` hashes."""
        return np.fromiter(map(hash, self._names), np.int64, len(self._names))[self._codes]
