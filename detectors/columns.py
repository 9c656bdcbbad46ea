"""Columns of a batch, cut to the rows that a detector looks at."""

from schemas.batch import Column, EventBatch, Int64s


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
    column = batch.columns[name]
    # Mostly every row is looked at: then the column serves as it is.
    return column if len(rows) == len(column) else [column[i] for i in rows.tolist()]
