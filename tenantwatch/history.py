"""A tenant's stored events as the detectors saw them: enriched, admitted, in the order of their arrival."""

from collections.abc import Callable, Iterator
from heapq import merge
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa

from detectors.clock import LATE_MS
from schemas.batch import FIELDS, Column, EventBatch, Int64s
from schemas.columns import ArrowColumn, int64_array, numbers_of
from schemas.event import KINDS, Kind
from schemas.tenant import Tenant

PAGE_ROWS: Final = 50_000
# The first events of a kind after a time and before another, as an Arrow stream (`store.history.page`).
ReadPage = Callable[[Kind, int, int, int], bytes]
# A tenant's settings, given the versions of them, and of the operator's overrides, that events came with.
SettingsOf = Callable[[int, int], Tenant]
_NUMBERS: Final = {pa.uint16(): pa.int64()}


def history(
    read_page: ReadPage, settings_of: SettingsOf, since_ms: int, until_ms: int, rows: int = PAGE_ROWS
) -> Iterator[EventBatch]:
    """Yield a tenant's events of every kind.

    Parameters
    ----------
    read_page
        Given a kind, two times between which events lie, and how many are wanted.
    settings_of
        What they are enriched with.
    since_ms, until_ms
        Event times, milliseconds since 1970; `until_ms` is not included.
    rows
        How many are asked for at once.
    """
    return merge(
        *(_of_kind(kind, read_page, settings_of, since_ms, until_ms, rows) for kind in KINDS),
        key=lambda batch: int(batch.time_ms[0]),
    )


def _of_kind(
    kind: Kind, read_page: ReadPage, settings_of: SettingsOf, since_ms: int, until_ms: int, rows: int
) -> Iterator[EventBatch]:
    """Bring events that are read by time into the order of their arrival.

    An event was evaluated only if none that came before it was more than `LATE_MS` younger. So once events up
    to a time are read, all that came before one of `LATE_MS` earlier are.
    """
    held: Any = None
    after_ms = since_ms - 1
    while True:
        table = pa.ipc.open_stream(read_page(kind, after_ms, until_ms, rows)).read_all()
        complete = len(table) < rows
        if len(table):
            after_ms = int(_int64s(table, "time_ms")[-1])
        table = table if held is None else pa.concat_tables([held, table])
        table = table.take(int64_array(_arrival(table)))
        ready = len(table)
        if not complete:
            # What was not evaluated comes first, wherever it was: no detector looks at it.
            sure = (_int64s(table, "time_ms") <= after_ms - LATE_MS) | (_int64s(table, "flags") != 0)
            ready = int(sure.nonzero()[0].max(initial=-1)) + 1
        yield from _batches(kind, table.slice(0, ready), settings_of)
        if complete:
            return
        held = table.slice(ready)


def _int64s(table: Any, name: str) -> Int64s:
    column: Int64s = numbers_of(table[name].combine_chunks().cast(pa.int64()))
    return column


def _arrival(table: Any) -> Int64s:
    """Return ``(n,)`` the order in which the rows arrived."""
    names = ArrowColumn(table["kafka_topic_id"].combine_chunks())
    # Where Kafka was set up anew, offsets began again: by which topic was there first.
    came_ms = np.full(len(names.distinct), np.iinfo(np.int64).max)
    np.minimum.at(came_ms, names.codes, _int64s(table, "ingest_time_ms"))
    index, offset = _int64s(table, "message_index"), _int64s(table, "kafka_offset")
    order: Int64s = np.lexsort((index, offset, came_ms[names.codes], _int64s(table, "flags") == 0))
    return order


def _batches(kind: Kind, table: Any, settings_of: SettingsOf) -> Iterator[EventBatch]:
    """Cut where the settings change: a batch has one version of them."""
    if not len(table):
        return
    version, tuning = _int64s(table, "tenant_version"), _int64s(table, "tuning_version")
    changes = np.flatnonzero((np.diff(version) != 0) | (np.diff(tuning) != 0)) + 1
    for start, stop in pairwise([0, *changes.tolist(), len(table)]):
        settings = settings_of(int(version[start]), int(tuning[start]))
        yield _batch(kind, table.slice(start, stop - start), settings)


def _batch(kind: Kind, table: Any, settings: Tenant) -> EventBatch:
    flags = _int64s(table, "flags").astype(np.uint8)
    columns: dict[str, Column] = {name: _column(table[name].combine_chunks()) for name in FIELDS[kind]}
    return EventBatch(
        kind,
        columns,
        _int64s(table, "time_ms"),
        _int64s(table, "kafka_offset"),
        _int64s(table, "message_index").astype(np.int32),
        tenants=(settings,),
        evaluated=flags == 0,
        flags=flags,
    )


def _column(array: Any) -> ArrowColumn:
    return ArrowColumn(array.cast(_NUMBERS.get(array.type, array.type)))
