"""The columnar batch: what is passed between parsing, enrichment, detection and storage."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from schemas.columns import ArrowColumn
from schemas.columns import Bools as Bools
from schemas.columns import Floats as Floats
from schemas.columns import Int32s as Int32s
from schemas.columns import Int64s as Int64s
from schemas.event import MODELS, Kind
from schemas.tenant import Tenant
from schemas.tuning import NO_VERSION

# A list, or an `ArrowColumn`, which may be used like one.
Column = Sequence[Any]

# Everything but what the batch holds in a better form: `kind` is the batch's own, `time` is `time_ms`.
FIELDS: Final[dict[Kind, tuple[str, ...]]] = {
    kind: tuple(name for name in model.model_fields if name not in ("kind", "time"))
    for kind, model in MODELS.items()
}


def select(column: Column, rows: Int64s) -> Column:
    """Return ``(m,)`` the values of a column at the given positions.

    >>> select(["a", "b", "c"], np.array([2, 0]))
    ['c', 'a']
    """
    return column.take(rows) if isinstance(column, ArrowColumn) else [column[i] for i in rows.tolist()]


class _Positions(dict[str, int]):
    """Numbers its keys as it meets them; looking one up that is known takes no Python code."""

    def __missing__(self, value: str) -> int:
        position = self[value] = len(self)
        return position


@dataclass(frozen=True, slots=True)
class Coded:
    """A dictionary-encoded column.

    Parameters
    ----------
    codes
        ``(n,)`` positions in `values`.
    values
        The distinct values, in order of first appearance.
    """

    codes: Int32s
    values: list[str]

    @classmethod
    def encode(cls, column: Iterable[str]) -> "Coded":
        """Code a column.

        >>> Coded.encode(["b", "a", "b"])
        Coded(codes=array([0, 1, 0], dtype=int32), values=['b', 'a'])
        """
        if isinstance(column, ArrowColumn):
            return cls(column.codes, column.distinct)
        positions = _Positions()
        codes = list(map(positions.__getitem__, column))
        return cls(np.array(codes, np.int32), list(positions))


@dataclass(frozen=True)
class EventBatch:
    """Events of one kind as columns, in the order in which they were received.

    Parameters
    ----------
    kind
        The kind of every event.
    columns
        Contract field name to a column ``(n,)``; `FIELDS` lists the names of each kind. ``attributes`` holds
        JSON text, empty where an event has none.
    time_ms
        ``(n,)`` event time in milliseconds since 1970, UTC.
    offset, message_index
        ``(n,)`` Kafka offset of the message, and the position of the event in the message's array.
    topic, partition
        Where the messages came from; a file has the topic ``""``.
    tenants
        Settings of each tenant, by code of `tenant`; empty before enrichment.
    tenant_versions
        Offset in ``audit.tenants`` of each of these settings.
    tuning_version
        Offset there of the operator's overrides, which the settings include; -1: there are none.
    ingest_time_ms
        When the batch was received, milliseconds since 1970; None in a backtest, which has no clock.
    positions
        ``(n, 2)`` latitude and longitude of each `source_ip` in degrees, NaN where they are not known; None:
        nobody looked them up.
    evaluated
        ``(n,)`` whether detectors may learn from and alert on the event (late, future, repeated and
        misplaced events are stored, not detected on); None before admission: all are.
    flags
        ``(n,)`` why not: names of `FLAGS` or-ed together.
    """

    kind: Kind
    columns: dict[str, Column]
    time_ms: Int64s
    offset: Int64s
    message_index: Int32s
    topic: str = ""
    partition: int = 0
    tenants: tuple[Tenant, ...] = ()
    tenant_versions: tuple[int, ...] = ()
    tuning_version: int = NO_VERSION
    ingest_time_ms: int | None = None
    positions: NDArray[np.float32] | None = None
    evaluated: Bools | None = None
    flags: NDArray[np.uint8] | None = None
    _tenant: Coded | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.time_ms)

    @cached_property
    def tenant(self) -> Coded:
        """``tenant_id`` dictionary-encoded."""
        return self._tenant or Coded.encode(self.columns["tenant_id"])

    @cached_property
    def failed(self) -> Bools:
        """``(n,)`` whether ``outcome`` is ``failure``."""
        outcome = self.columns["outcome"]
        if isinstance(outcome, ArrowColumn):
            return outcome.equals("failure")
        return np.fromiter(map("failure".__eq__, outcome), np.bool_, len(self))

    def mask(self) -> Bools:
        """Return ``(n,)``: the events that detectors may look at."""
        return np.ones(len(self), np.bool_) if self.evaluated is None else self.evaluated

    def select(self, rows: NDArray[np.int64]) -> "EventBatch":
        """Return the events at the given positions, in that order.

        Parameters
        ----------
        rows
            ``(m,)`` positions in this batch.
        """
        return replace(
            self,
            columns={name: select(column, rows) for name, column in self.columns.items()},
            time_ms=self.time_ms[rows],
            offset=self.offset[rows],
            message_index=self.message_index[rows],
            positions=None if self.positions is None else self.positions[rows],
            evaluated=None if self.evaluated is None else self.evaluated[rows],
            flags=None if self.flags is None else self.flags[rows],
            # Codes keep their meaning, so `tenants` still fits even where a tenant has no row left.
            _tenant=Coded(self.tenant.codes[rows], self.tenant.values) if self.tenants else None,
        )


# Bits of EventBatch.flags; stored with the row. Their names are the words a person sees.
FLAGS: Final[dict[str, int]] = {
    "late": 1,
    "future": 2,
    "duplicate": 4,
    "wrong_partition": 8,
    "planned_test": 16,
}
