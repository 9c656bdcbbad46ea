"""Kafka record values to a columnar batch; the bad ones apart, each with its reason."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, repeat
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Final, Literal, get_args

import numpy as np
from msgspec.structs import astuple
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from schemas.batch import FIELDS, Column, EventBatch, Int64s
from schemas.cloudevents import Headers, is_cloudevent, unwrap
from schemas.columns import ArrowColumn
from schemas.errors import describe
from schemas.event import (
    MAX_EVENT_BYTES,
    MAX_EVENTS_PER_MESSAGE,
    MAX_MESSAGE_BYTES,
    MODELS,
    Event,
    Kind,
)
from schemas.joined import read_joined
from schemas.quick import QUICK, Unusual
from schemas.times import time_column_ms

# This many records are validated and moved into columns before the next, so that their objects die young:
# a prototype took 245,000 events/s in place of 100,000.
RECORDS_PER_CALL: Final = 200
BYTES_PER_CALL: Final = 1 << 20
MAX_PROBLEMS_SHOWN: Final = 5

_VALIDATE_ONE: Final = {kind: TypeAdapter(model).validator.validate_json for kind, model in MODELS.items()}
_VALIDATE_MANY: Final = {
    kind: TypeAdapter(
        Annotated[list[model], Field(min_length=1, max_length=MAX_EVENTS_PER_MESSAGE)]  # type: ignore[valid-type]
    ).validator.validate_json
    for kind, model in MODELS.items()
}
_GETTERS: Final = {kind: itemgetter("time", *names) for kind, names in FIELDS.items()}
_DICT: Final = attrgetter("__dict__")
_EXTRA: Final = attrgetter("__pydantic_extra__")

# All of them, those of later stages too: a metric that has one as a label must exist before the first.
Reason = Literal[
    "invalid_json",
    "invalid_array",
    "invalid_cloudevent",
    "invalid_event",
    "empty",
    "too_large",
    "message_too_large",
    "tenant_mismatch",
    "unknown_tenant",
]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a record, or some events of its array, cannot be stored.

    Parameters
    ----------
    record
        Position of the record in the chunk.
    reason
        The word to group by.
    detail
        Which field, what was found, how to fix it.
    indexes
        Positions of the bad events in the message's array. A record has one rejection at most.
    """

    record: int
    reason: Reason
    detail: str
    indexes: tuple[int, ...] = (0,)


def message_too_large(record: int, size: int) -> Rejection:
    """Return why a message of more than `MAX_MESSAGE_BYTES` cannot be stored.

    >>> message_too_large(0, 9_000_000).detail
    '9000000 bytes, a message may have 8388608; fix: send fewer events in it'
    """
    detail = f"{size} bytes, a message may have {MAX_MESSAGE_BYTES}; fix: send fewer events in it"
    return Rejection(record, "message_too_large", detail)


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


# Position in the message's array, the word to group by, the sentence for a person.
_Problem = tuple[int, Reason, str]


class _Rows:
    """Columns under construction, and what was found wrong on the way."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._names = ("time", *FIELDS[kind])
        self.pieces: list[Sequence[Sequence[Any]]] = []
        self.records: list[int] = []
        self.indexes: list[int] = []
        self.unknown_fields: dict[str, int] = {}
        self.rejections: list[Rejection] = []
        self.problems: dict[int, list[_Problem]] = {}

    def add(self, columns: Sequence[Sequence[Any]], records: Sequence[int], indexes: Sequence[int]) -> None:
        """Take over rows as columns, ``("time", *FIELDS[kind])``."""
        if records:
            self.pieces.append(columns)
            self.records.extend(records)
            self.indexes.extend(indexes)

    def row(self, event: Event) -> tuple[Any, ...]:
        """Return a validated event as a row, its kind last, with unknown fields under its attributes."""
        values, extra = _DICT(event), _EXTRA(event)
        if extra or values["attributes"]:
            self._keep(values, extra)
        return (*_GETTERS[self.kind](values), self.kind)

    def _keep(self, values: dict[str, Any], extra: dict[str, Any]) -> None:
        attributes = dict(values["attributes"] or {})
        for name, value in extra.items():
            self.unknown_fields[name] = self.unknown_fields.get(name, 0) + 1
            key = name
            while key in attributes:
                key = f"unknown.{key}"
            attributes[key] = value
        # Some producers' JSON libraries write NaN, which JSON has no number for.
        values["attributes"] = to_json(attributes, inf_nan_mode="strings").decode()

    def forget(self, records: Sequence[int], unknown_fields: dict[str, int]) -> None:
        """Go back to what was known before some records, which are parsed once more."""
        self.unknown_fields = unknown_fields
        for record in records:
            self.problems.pop(record, None)
        self.rejections = [rejection for rejection in self.rejections if rejection.record not in records]

    def reject(self, record: int, reason: Reason, detail: str, events: int = 1) -> None:
        """Note that nothing of a message can be stored."""
        self.rejections.append(Rejection(record, reason, detail, tuple(range(events))))

    def all_rejections(self) -> list[Rejection]:
        """Return one rejection a record, in the order of the records."""
        for record, problems in self.problems.items():
            problems.sort()
            detail = " | ".join(text for _, _, text in problems[:MAX_PROBLEMS_SHOWN])
            more = len(problems) - MAX_PROBLEMS_SHOWN
            detail += f" | and {more} more events" if more > 0 else ""
            indexes = tuple(index for index, _, _ in problems)
            self.rejections.append(Rejection(record, problems[0][1], detail, indexes))
        return sorted(self.rejections, key=attrgetter("record"))

    def columns(self) -> list[Column]:
        """Return the rows' columns, ``("time", *FIELDS[kind])``."""
        if not self.pieces:
            return [[] for _ in self._names]
        columns: list[Column] = [list(chain.from_iterable(parts)) for parts in zip(*self.pieces, strict=True)]
        place = self._names.index("attributes")
        columns[place] = [text or "" for text in columns[place]]
        return columns


def _parse_carefully(record: int, value: bytes, rows: _Rows) -> tuple[Sequence[Event], Sequence[int]]:
    """Return the good events of a message and their positions; note why the others are not."""
    try:
        content = from_json(value)
    except ValueError as error:
        rows.reject(
            record, "invalid_json", f"{error}; fix: send JSON in UTF-8: one object, or an array of objects"
        )
        return [], []
    single = not isinstance(content, list)
    events = [content] if single else content
    if not events or len(events) > MAX_EVENTS_PER_MESSAGE:
        detail = f"an array of {len(events)} events; fix: send 1 to {MAX_EVENTS_PER_MESSAGE} in a message"
        rows.reject(record, "invalid_array", detail, len(events))
        return [], []
    good: list[Event] = []
    indexes: list[int] = []
    problems: list[_Problem] = []
    for i, event in enumerate(events):
        prefix = "" if single else f"[{i}]."
        text = value if single else to_json(event)
        # In a message within the limit no event is beyond it, however its numbers are written here.
        if len(value) > MAX_EVENT_BYTES and len(text) > MAX_EVENT_BYTES:
            detail = f"{prefix}event: {len(text)} bytes, at most {MAX_EVENT_BYTES}; fix: send less in it"
            problems.append((i, "too_large", detail))
            continue
        try:
            good.append(_VALIDATE_ONE[rows.kind](text))
            indexes.append(i)
        except ValidationError as error:
            problems.append((i, "invalid_event", describe(error, prefix)))
    if problems:
        rows.problems[record] = problems
    return good, indexes


def _parse_one(record: int, value: bytes, rows: _Rows) -> tuple[list[tuple[Any, ...]], Sequence[int]]:
    """Return the rows of a message, as pydantic sees it, and their positions in its array."""
    events: Sequence[Event]
    indexes: Sequence[int]
    try:
        if len(value) > MAX_EVENT_BYTES:
            events, indexes = _parse_carefully(record, value, rows)
        elif value[:1] != b"[":
            events, indexes = (_VALIDATE_ONE[rows.kind](value),), (0,)
        else:
            events = _VALIDATE_MANY[rows.kind](value)
            indexes = range(len(events))
    except ValidationError:
        events, indexes = _parse_carefully(record, value, rows)
    return [rows.row(event) for event in events], indexes


def _parse_group(records: Sequence[int], values: Sequence[bytes], rows: _Rows) -> None:
    """Parse about 200 records, each on its own, and move them into columns at once.

    Never joined here into one document for one call: a record with an open bracket could then swallow its
    neighbours, another tenant's events. `schemas.joined` says which records may be, and why.
    """
    unknown_before = dict(rows.unknown_fields)
    quick = QUICK[rows.kind]
    try:
        if max(map(len, values)) > MAX_EVENT_BYTES:
            raise ValueError
        # Mostly each is an event, and no array.
        found = [astuple(quick.one(value)) for value in values]
        places: Sequence[int] = records
        indexes: Sequence[int] = [0] * len(records)
    except Unusual:
        found, places, indexes = _decode_any(records, values, rows)
    if not found:
        return
    columns: list[Sequence[Any]] = list(zip(*found, strict=True))
    try:
        quick.check(columns)
    except Unusual:
        rows.forget(records, unknown_before)
        _parse_group_carefully(records, values, rows)
        return
    rows.add(columns[:-1], places, indexes)


def _decode_any(
    records: Sequence[int], values: Sequence[bytes], rows: _Rows
) -> tuple[list[tuple[Any, ...]], list[int], list[int]]:
    """Return the rows of messages of any form, their records, and their positions in the arrays."""
    one, many = QUICK[rows.kind].one, QUICK[rows.kind].many
    found: list[tuple[Any, ...]] = []
    places: list[int] = []
    indexes: list[int] = []
    for record, value in zip(records, values, strict=True):
        new: Sequence[tuple[Any, ...]]
        try:
            if len(value) > MAX_EVENT_BYTES:
                raise ValueError
            new = list(map(astuple, many(value))) if value[:1] == b"[" else (astuple(one(value)),)
            indexes.extend(range(len(new)))
        except Unusual:
            new, positions = _parse_one(record, value, rows)
            indexes.extend(positions)
        found.extend(new)
        places.extend(repeat(record, len(new)))
    return found, places, indexes


def _parse_group_carefully(records: Sequence[int], values: Sequence[bytes], rows: _Rows) -> None:
    """Let pydantic parse a group in which something is unusual."""
    for record, value in zip(records, values, strict=True):
        found, indexes = _parse_one(record, value, rows)
        if found:
            rows.add(list(zip(*found, strict=True))[:-1], [record] * len(found), indexes)


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
    rows = _Rows(kind)
    plain = values
    if headers:
        plain = [None if is_cloudevent(h) else v for v, h in zip(values, headers, strict=True)]
    joined, columns = read_joined(kind, plain)
    if len(joined) < len(values):
        left = np.setdiff1d(np.arange(len(values)), joined, assume_unique=True) if len(joined) else None
        _parse_singly(range(len(values)) if left is None else left.tolist(), values, headers, rows)
    return _finish(rows, joined, columns)


def _parse_singly(
    chosen: Sequence[int], values: Sequence[bytes | None], headers: Sequence[Headers], rows: _Rows
) -> None:
    """Parse some of the records, each on its own."""
    records: list[int] = []
    group: list[bytes] = []
    size = 0
    for record in chosen:
        content = value = values[record]
        if not value or value[0] not in b"{[" or (headers and headers[record]):
            content = _content(record, value, headers[record] if headers else (), rows)
        if content:
            records.append(record)
            group.append(content)
            size += len(content)
            if len(group) >= RECORDS_PER_CALL or size >= BYTES_PER_CALL:
                _parse_group(records, group, rows)
                records, group, size = [], [], 0
    if group:
        _parse_group(records, group, rows)


def _content(record: int, value: bytes | None, headers: Headers, rows: _Rows) -> bytes | None:
    """Return the JSON of an unusual record: wrapped, or with white space before it; None if there is none."""
    if is_cloudevent(headers):
        try:
            value = unwrap(value or b"", headers)
        except ValueError as error:
            rows.reject(record, "invalid_cloudevent", str(error))
            return None
    content = (value or b"").strip()
    if not content:
        rows.reject(record, "empty", "the message has no value; fix: send an event")
    return content


def _finish(rows: _Rows, joined: Int64s, joined_columns: list[ArrowColumn]) -> Parsed:
    """Bring what was read either way into the order of the records."""
    columns: list[Column] = list(joined_columns)
    records = np.array(rows.records, np.int64)
    indexes = np.array(rows.indexes, np.int32)
    if not len(joined):
        columns = rows.columns()
    elif len(records):
        records = np.concatenate((joined, records))
        order = np.argsort(records, kind="stable")
        records = records[order]
        indexes = np.concatenate((np.zeros(len(joined), np.int32), indexes))[order]
        columns = [
            column.joined(more).take(order)
            for column, more in zip(joined_columns, rows.columns(), strict=True)
        ]
    else:
        records, indexes = joined, np.zeros(len(joined), np.int32)
    times, *rest = columns
    time_ms, bad = time_column_ms(times)
    named = dict(zip(FIELDS[rows.kind], rest, strict=True))
    batch = EventBatch(rows.kind, named, time_ms, offset=records, message_index=indexes)
    for i in bad:
        detail = f"time: {times[i]!r} is no day or time that exists; fix: send a real date"
        problem: _Problem = (int(indexes[i]), "invalid_event", detail)
        rows.problems.setdefault(int(records[i]), []).append(problem)
    if bad:
        batch = batch.select(np.setdiff1d(np.arange(len(batch)), bad))
    return Parsed(batch, rows.all_rejections(), rows.unknown_fields)
