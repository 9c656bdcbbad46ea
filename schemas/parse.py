"""Kafka record values to a columnar batch; the bad ones apart, each with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from schemas.batch import FIELDS, Column, EventBatch, Int64s
from schemas.cloudevents import Headers, is_cloudevent, unwrap
from schemas.errors import describe
from schemas.event import (
    MAX_EVENT_BYTES,
    MAX_EVENTS_PER_MESSAGE,
    MODELS,
    AccessEvent,
    AuthEvent,
    Event,
    Kind,
    RequestEvent,
)

# A chunk of this many records is validated and moved into columns before the next, so that its objects
# die young: facts.md measured 100,000 to 245,000 events/s from this alone.
RECORDS_PER_CALL: Final = 200
BYTES_PER_CALL: Final = 1 << 20

_ADAPTERS: Final[dict[Kind, TypeAdapter[list[list[Event]]]]] = {
    "auth": TypeAdapter(list[list[AuthEvent]]),
    "access": TypeAdapter(list[list[AccessEvent]]),
    "request": TypeAdapter(list[list[RequestEvent]]),
}
_GETTERS: Final = {kind: itemgetter("time", *names) for kind, names in FIELDS.items()}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_DICT: Final = attrgetter("__dict__")
_ATTRIBUTES: Final = itemgetter("attributes")
_EXTRA: Final = attrgetter("__pydantic_extra__")


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a record, or some events of its array, cannot be stored.

    Parameters
    ----------
    record
        Position of the record in the chunk.
    reason
        A word to group by: ``invalid_json``, ``invalid_event``, ``too_large``, …
    detail
        Which field, what was found, how to fix it.
    indexes
        Positions of the bad events in the message's array.
    """

    record: int
    reason: str
    detail: str
    indexes: tuple[int, ...] = (0,)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What became of a chunk of records.

    Parameters
    ----------
    batch
        The good events; ``offset`` holds the record's position in the chunk.
    rejections
        The bad ones.
    unknown_fields
        Names of fields that the contract does not know, with how often each was met.
    """

    batch: EventBatch
    rejections: list[Rejection]
    unknown_fields: dict[str, int]


class _Rows:
    """Columns under construction."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.pieces: list[tuple[tuple[Any, ...], ...]] = []
        self.records: list[int] = []
        self.indexes: list[int] = []
        self.unknown_fields: dict[str, int] = {}

    def add(self, events: Sequence[Event], records: Sequence[int], indexes: Sequence[int]) -> None:
        if not events:
            return
        fields = list(map(_DICT, events))
        extras = list(map(_EXTRA, events))
        if any(extras) or any(map(_ATTRIBUTES, fields)):
            for values, extra in zip(fields, extras, strict=True):
                if extra or values["attributes"]:
                    self._keep(values, extra)
        self.pieces.append(tuple(zip(*map(_GETTERS[self.kind], fields), strict=True)))
        self.records.extend(records)
        self.indexes.extend(indexes)

    def _keep(self, values: dict[str, Any], extra: dict[str, Any]) -> None:
        attributes = dict(values["attributes"] or {})
        for name, value in extra.items():
            self.unknown_fields[name] = self.unknown_fields.get(name, 0) + 1
            attributes[name if name not in attributes else f"unknown.{name}"] = value
        values["attributes"] = to_json(attributes).decode()

    def columns(self) -> tuple[list[str], dict[str, Column]]:
        if not self.pieces:
            return [], {name: [] for name in FIELDS[self.kind]}
        time, *rest = (list(chain.from_iterable(parts)) for parts in zip(*self.pieces, strict=True))
        columns: dict[str, Column] = dict(zip(FIELDS[self.kind], rest, strict=True))
        columns["attributes"] = [text or "" for text in columns["attributes"]]
        return time, columns


def time_column_ms(times: Sequence[str]) -> tuple[Int64s, list[int]]:
    """Return RFC 3339 times as milliseconds, and the positions of those that name no real instant.

    Parameters
    ----------
    times
        ``(n,)`` strings that match the contract's pattern.

    >>> time_column_ms(["2026-01-01T00:00:00.5Z", "2026-02-30T00:00:00Z"])
    (array([1767225600500,             0]), [1])
    """
    try:
        column = pa.array(times, pa.string()).cast(pa.timestamp("ns", "UTC")).cast(pa.int64())
        return column.to_numpy() // 1_000_000, []
    except pa.ArrowInvalid:
        pass  # something unusual among them: lower case, a leap second, a day that does not exist
    values = np.zeros(len(times), np.int64)
    bad: list[int] = []
    for i, text in enumerate(times):
        try:
            # A leap second has no number of its own in POSIX time; it counts as the second before.
            parsed = datetime.fromisoformat(text.upper().replace(":60", ":59"))
            values[i] = (parsed - _EPOCH) // _MS
        except ValueError:
            bad.append(i)
    return values, bad


def _parse_one(kind: Kind, record: int, value: bytes, rows: _Rows, rejections: list[Rejection]) -> None:
    """Parse one record the careful way: event by event, so that a bad one leaves its neighbours alone."""
    try:
        content = from_json(value)
    except ValueError as error:
        detail = f"{error}; fix: send JSON in UTF-8: one object, or an array of objects"
        rejections.append(Rejection(record, "invalid_json", detail))
        return
    single = not isinstance(content, list)
    events = [content] if single else content
    if not events or len(events) > MAX_EVENTS_PER_MESSAGE:
        detail = f"an array of {len(events)} events; fix: send 1 to {MAX_EVENTS_PER_MESSAGE} in a message"
        rejections.append(Rejection(record, "invalid_array", detail, tuple(range(len(events)))))
        return
    good: list[Event] = []
    good_indexes: list[int] = []
    bad: list[tuple[int, str, str]] = []
    for i, event in enumerate(events):
        prefix = "" if single else f"[{i}]."
        text = value if single else to_json(event)
        if len(text) > MAX_EVENT_BYTES:
            detail = f"{prefix}event: {len(text)} bytes, at most {MAX_EVENT_BYTES}; fix: send less in it"
            bad.append((i, "too_large", detail))
            continue
        try:
            good.append(MODELS[kind].model_validate_json(text))
            good_indexes.append(i)
        except ValidationError as error:
            bad.append((i, "invalid_event", describe(error, prefix)))
    rows.add(good, [record] * len(good), good_indexes)
    if bad:
        detail = " | ".join(text for _, _, text in bad[:5])
        more = f" | and {len(bad) - 5} more events" if len(bad) > 5 else ""
        rejections.append(Rejection(record, bad[0][1], detail + more, tuple(i for i, _, _ in bad)))


def _parse_group(
    kind: Kind, records: list[int], values: list[bytes], rows: _Rows, rejections: list[Rejection]
) -> None:
    """Parse about 200 records in one call; where that fails, one by one."""
    # Each record becomes an array of its own inside one array. JSON strings hold no raw newline, so no
    # record can reach over this separator into its neighbour without failing the whole call.
    joined = b"[" + b",\n".join(v if v[:1] == b"[" else b"[" + v + b"]" for v in values) + b"]"
    try:
        groups = _ADAPTERS[kind].validate_json(joined)
        if len(groups) == len(values):
            counts = [len(group) for group in groups]
            if all(n == 1 if v[:1] != b"[" else 0 < n <= 1_000 for n, v in zip(counts, values, strict=True)):
                of_rows = [r for r, n in zip(records, counts, strict=True) for _ in range(n)]
                rows.add(
                    list(chain.from_iterable(groups)), of_rows, list(chain.from_iterable(map(range, counts)))
                )
                return
    except ValidationError:
        pass  # the careful way names the culprits
    for record, value in zip(records, values, strict=True):
        _parse_one(kind, record, value, rows, rejections)


def parse(kind: Kind, values: Sequence[bytes | None], headers: Sequence[Headers] = ()) -> Parsed:
    """Validate record values and move them into columns.

    Parameters
    ----------
    kind
        The kind that the topic carries.
    values
        ``(k,)`` record values as received: an event, or an array of up to 1,000 events, in JSON.
    headers
        ``(k,)`` record headers, where any record has one; they tell CloudEvents from plain events.

    >>> parse("auth", [b"{}"]).rejections[0].reason
    'invalid_event'
    """
    rows, rejections = _Rows(kind), list[Rejection]()
    records: list[int] = []
    group: list[bytes] = []
    size = 0
    for record, value in enumerate(values):
        if headers and headers[record] and is_cloudevent(headers[record]):
            try:
                value = unwrap(value or b"", headers[record])
            except ValueError as error:
                rejections.append(Rejection(record, "invalid_cloudevent", str(error)))
                continue
        content = (value or b"").strip()
        if not content:
            rejections.append(Rejection(record, "empty", "the message has no value; fix: send an event"))
        elif len(content) > MAX_EVENT_BYTES:
            _parse_one(kind, record, content, rows, rejections)
        else:
            records.append(record)
            group.append(content)
            size += len(content)
            if len(group) >= RECORDS_PER_CALL or size >= BYTES_PER_CALL:
                _parse_group(kind, records, group, rows, rejections)
                records, group, size = [], [], 0
    if group:
        _parse_group(kind, records, group, rows, rejections)
    return _finish(rows, rejections)


def _finish(rows: _Rows, rejections: list[Rejection]) -> Parsed:
    times, columns = rows.columns()
    time_ms, bad = time_column_ms(times)
    batch = EventBatch(
        rows.kind,
        columns,
        time_ms,
        offset=np.array(rows.records, np.int64),
        message_index=np.array(rows.indexes, np.int32),
    )
    for i in bad:
        detail = f"time: {times[i]!r} is no day or time that exists; fix: send a real date"
        rejections.append(Rejection(rows.records[i], "invalid_event", detail, (rows.indexes[i],)))
    if bad or np.any(np.diff(batch.offset) < 0):
        # Records that went the careful way come after their group: put the rows back into their order.
        keep = np.setdiff1d(np.arange(len(batch)), bad)
        batch = batch.select(keep[np.argsort(batch.offset[keep], kind="stable")])
    return Parsed(batch, rejections, rows.unknown_fields)
