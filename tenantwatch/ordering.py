"""Events of files in order of time: many exports begin with the newest, and no detector sees late events."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa

from detectors.clock import LATE_MS, move_watermarks, running_watermark
from schemas.batch import Bools, Column, EventBatch
from schemas.columns import ArrowColumn
from schemas.event import KINDS, Kind

# Of each kind so many events are held to be sorted, in up to 150 MB.
MAX_HELD: Final = 1 << 18
# What is sorted is handed on in so many parts: as large as those in which files are read.
PARTS: Final = 8


def in_order(batches: Iterable[EventBatch], most: int = MAX_HELD) -> Iterator[EventBatch]:
    """Yield the events of a file so that none is late, if the file fits; else as few as possible.

    A tenant of whom no event is late keeps the order of the file, as the worker keeps that of the topic.
    What is late is found before anything is handed on: a single event of a clock that is years ahead would
    otherwise make all that come after it late.

    Parameters
    ----------
    batches
        Before admission.
    most
        So many events of a kind are held; a longer file is sorted within what is held.
    """
    held: dict[Kind, _Held] = {kind: _Held(max(most // PARTS, 1)) for kind in KINDS}
    for batch in batches:
        of_kind = held[batch.kind]
        of_kind.add(batch)
        if of_kind.events > most:
            yield from of_kind.take(of_kind.events - most // 2)
    for of_kind in held.values():
        yield from of_kind.take(of_kind.events)


@dataclass
class _Held:
    """Events of one kind that were read and not yet handed on, and how far each tenant was before them."""

    part: int
    batches: list[EventBatch] = field(default_factory=list)
    events: int = 0
    watermark_ms: dict[str, int] = field(default_factory=dict)

    def add(self, batch: EventBatch) -> None:
        self.batches.append(batch)
        self.events += len(batch)

    def take(self, least: int) -> Iterator[EventBatch]:
        """Yield the earliest events, at least so many; all that are held where that is as many."""
        if any(late.any() for late in self._late()):
            self._sort()
        while least > 0 and self.batches:
            batch = self.batches.pop(0)
            move_watermarks(self.watermark_ms, batch, np.arange(len(batch)))
            self.events -= len(batch)
            least -= len(batch)
            yield batch

    def _late(self) -> Iterator[Bools]:
        """Yield for each batch ``(n,)`` which of its events would be late."""
        watermark_ms = dict(self.watermark_ms)
        for batch in self.batches:
            before, _ = move_watermarks(watermark_ms, batch, np.arange(len(batch)))
            met_ms = running_watermark(batch.tenant.codes, batch.time_ms, before)
            yield batch.time_ms < met_ms - LATE_MS

    def _sort(self) -> None:
        whole = _merged(self.batches)
        codes, time_ms = whole.tenant.codes, whole.time_ms
        before, _ = move_watermarks(dict(self.watermark_ms), whole, np.arange(0))
        met_ms = running_watermark(codes, time_ms, before)
        disordered = np.zeros(len(before), np.bool_)
        disordered[codes[time_ms < met_ms - LATE_MS]] = True
        order = np.argsort(np.where(disordered[codes], time_ms, np.maximum(time_ms, met_ms)), kind="stable")
        self.batches = [whole.select(order[at : at + self.part]) for at in range(0, len(order), self.part)]


def _merged(batches: list[EventBatch]) -> EventBatch:
    """Return the events of batches before admission as one."""

    def whole(name: str) -> Any:
        return np.concatenate([getattr(batch, name) for batch in batches])

    return EventBatch(
        batches[0].kind,
        {name: _joined([batch.columns[name] for batch in batches]) for name in batches[0].columns},
        whole("time_ms"),
        whole("offset"),
        whole("message_index"),
    )


def _joined(columns: list[Column]) -> Column:
    arrow = [column.array for column in columns if isinstance(column, ArrowColumn)]
    if len(arrow) == len(columns):
        return ArrowColumn(pa.concat_arrays(arrow))
    return list(chain.from_iterable(columns))
