"""Events of files in order of time: many exports begin with the newest, and no detector sees late events."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np
import pyarrow as pa

from detectors.clock import LATE_MS, NEVER_MS, move_watermarks, running_watermark
from detectors.segments import by_key, starts_of
from schemas.batch import Column, EventBatch
from schemas.columns import ArrowColumn
from schemas.event import KINDS, Kind

# Of each kind so many events are held to be sorted, in up to 150 MB.
MAX_HELD: Final = 1 << 18
# What is sorted is handed on in so many parts: as large as those in which files are read.
PARTS: Final = 8


def in_order(batches: Iterable[EventBatch], most: int = MAX_HELD) -> Iterator[EventBatch]:
    """Yield the events of a file so that none is late, if the file fits; else as few as possible.

    A tenant of whom no event is late keeps the order of the file, as the worker keeps that of the topic,
    unless most of its steps go back in time: then its file begins with the newest, however short a time it
    spans. Tenants that stand one after another are put side by side, as they would have come: what one
    address does to several of them is seen only so. What is late is found before anything is handed on: a
    single event of a clock that is years ahead would otherwise make all that come after it late.

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
    """Events of one kind that were read and not yet handed on, and what came before them.

    Parameters
    ----------
    part
        Events of a batch that was sorted.
    batches, events
        What is held, and how many those are.
    ordered
        How many of the batches, the first ones, were sorted already.
    watermark_ms
        How far each tenant was when the last batch was handed on.
    back
        Tenant to how many more steps from one of its events to the next went back in time than forward.
    """

    part: int
    batches: list[EventBatch] = field(default_factory=list)
    events: int = 0
    ordered: int = 0
    watermark_ms: dict[str, int] = field(default_factory=dict)
    back: Counter[str] = field(default_factory=Counter)

    def add(self, batch: EventBatch) -> None:
        self.batches.append(batch)
        self.events += len(batch)
        order = by_key(batch.tenant.codes)
        codes = batch.tenant.codes[order]
        steps = np.sign(np.diff(batch.time_ms[order], prepend=0))
        # From one batch to the next is one step in thousands, and not looked at.
        steps[starts_of(codes)] = 0
        back = -np.bincount(codes, steps, len(batch.tenant.values)).astype(np.int64)
        self.back.update(dict(zip(batch.tenant.values, back.tolist(), strict=True)))

    def take(self, least: int) -> Iterator[EventBatch]:
        """Yield the earliest events, at least so many; all that are held where that is as many."""
        if self._is_disordered():
            self._sort()
        while least > 0 and self.batches:
            batch = self.batches.pop(0)
            move_watermarks(self.watermark_ms, batch, np.arange(len(batch)))
            self.events -= len(batch)
            self.ordered = max(self.ordered - 1, 0)
            least -= len(batch)
            yield batch

    def _is_disordered(self) -> bool:
        """Whether events would be late, begin with the newest, or come one tenant after another."""
        fresh = self.batches[self.ordered :]
        if any(self.back[tenant] > 0 for batch in fresh for tenant in batch.tenant.values):
            return True
        watermark_ms, latest_ms = dict(self.watermark_ms), NEVER_MS
        for batch in self.batches:
            before, _ = move_watermarks(watermark_ms, batch, np.arange(len(batch)))
            met_ms = running_watermark(batch.tenant.codes, batch.time_ms, before)
            of_all_ms = np.maximum(np.maximum.accumulate(batch.time_ms), latest_ms)
            if (batch.time_ms < np.maximum(met_ms, of_all_ms) - LATE_MS).any():
                return True
            latest_ms = int(of_all_ms.max(initial=latest_ms))
        return False

    def _sort(self) -> None:
        before_sorting = sum(map(len, self.batches[: self.ordered]))
        whole = _merged(self.batches)
        codes, time_ms = whole.tenant.codes, whole.time_ms
        before, _ = move_watermarks(dict(self.watermark_ms), whole, np.arange(0))
        met_ms = running_watermark(codes, time_ms, before)
        turned = np.array([self.back[tenant] > 0 for tenant in whole.tenant.values], np.bool_)
        disordered = turned.copy()
        disordered[codes[time_ms < met_ms - LATE_MS]] = True
        at_ms = np.where(disordered[codes], time_ms, np.maximum(time_ms, met_ms))
        # Of one time the last in the file came first where the file begins with the newest.
        place = np.arange(len(whole))
        back = turned[codes] & (place >= before_sorting)
        order = np.lexsort((np.where(back, -place, place), at_ms))
        self.batches = [whole.select(order[at : at + self.part]) for at in range(0, len(order), self.part)]
        self.ordered = len(self.batches)


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
