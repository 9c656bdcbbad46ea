"""The quickest way to read messages: many records as one text, in one call to Arrow's reader of JSON lines.

Arrow reads into columns, in C++, without the interpreter's lock, and makes no Python object. But joined bytes
can be made to mean something else than their parts: a record with an open bracket could swallow its
neighbours, another tenant's events. So they are joined with newlines, and only records that begin with ``{``
and end with ``}``. Then nothing can reach over the newline between two of them:

- It is in no string, where JSON allows no raw newline.
- It is in no object or array, because there no ``{`` may follow a ``}``.

So every record holds at least one whole object, and where there are as many objects as records, each is one.
What is unusual in any way, in form or in content, is refused and left to the other ways. Whatever is
accepted here, pydantic would have accepted, with the same values; tests compare the two on random and on
crafted messages.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from schemas.columns import ArrowColumn, Bools, Int64s, numbers_of, text_array
from schemas.event import MAX_EVENT_BYTES, MODELS, Kind, ip_address
from schemas.field_rules import FieldRule, matches, rules_of
from schemas.times import TimeColumn

_TYPES: Final[dict[str, Any]] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    # Only null: Arrow would read an object into columns, not keep its text.
    "object": pa.null(),
}
_NEWLINE, _OPEN, _CLOSE, _SPACE, _N = b"\n{} n"


_ATTRIBUTES: Final = re.compile(rb'"attributes"\s*:\s*\{')
# Arrow's preparations take as long as reading 200 records: fewer than this cost less CPU one by one, and a
# worker that gets so few at a time is not short of the lock.
MIN_RECORDS: Final = 500


class Unjoinable(ValueError):
    """Something is unusual in these records: they are to be read one by one."""


def joinable(values: Sequence[bytes | None]) -> tuple[bytes, Bools]:
    """Return the records joined, and ``(k,)`` which of them may stay so.

    Parameters
    ----------
    values
        ``(k,)`` record values.

    >>> joinable([b'{"a":1}', b"[]", None, b'{"a":1', b'"a":1}'])[1].tolist()
    [True, False, False, False, False]
    """
    present: Sequence[bytes] = values if all(values) else [value or b"" for value in values]  # type: ignore[assignment]
    # The first to touch each record, which is mostly far away in memory: this line takes a while.
    lengths = np.fromiter(map(len, present), np.int64, len(present))
    ends = np.cumsum(lengths + 1) - 1
    text = b"\n".join([*present, b""])
    characters = np.frombuffer(text, np.uint8)
    fit = (characters[ends - lengths] == _OPEN) & (characters[ends - 1] == _CLOSE)
    fit &= (lengths > 1) & (lengths <= MAX_EVENT_BYTES)
    # A null after an object would be a row to Arrow, and it looks for it where it may not. An object that is
    # the only one of its record has nothing after it.
    close = characters == _CLOSE
    if np.count_nonzero(close) > len(ends):
        closes = np.flatnonzero(close)
        after = characters[closes + 1]
        odd = closes[((after <= _SPACE) & (after != _NEWLINE)) | (after == _N)]
        fit[np.searchsorted(ends, odd)] = False
    # To some readers a NUL is the end.
    if b"\0" in text:
        fit[:] = False
    return text, fit


class JoinedReader:
    """Reads joined records of one kind into columns, ``("time", *FIELDS[kind])``."""

    def __init__(self, kind: Kind) -> None:
        self._rules = rules_of(kind)
        self._met = {rule.name for rule in self._rules if rule.required}
        self._narrow = self._options(self._met)
        self._whole = self._options({rule.name for rule in self._rules})

    def _options(self, names: set[str]) -> Any:
        schema = pa.schema([(rule.name, _TYPES[rule.type]) for rule in self._rules if rule.name in names])
        return pj.ParseOptions(schema, newlines_in_values=False, unexpected_field_behavior="error")

    def read(self, text: bytes, records: int) -> list[ArrowColumn]:
        """Return columns of as many rows as there are records.

        Parameters
        ----------
        text
            Records that are `joinable`, and nothing else.
        records
            How many.

        Raises
        ------
        Unjoinable
            If something is unusual in any of them.
        """
        try:
            table = self._parse(text)
            if len(table) != records:
                raise Unjoinable("more than one object in a record")
            if not text.isascii() or b"\\" in text:
                table.validate(full=True)  # UTF-8 was not looked at on the way
            (found,) = table.to_batches()  # one block was read
            arrays = dict(zip(found.schema.names, found.columns, strict=True))
            return [_column(rule, arrays.get(rule.name), records) for rule in self._rules][:-1]
        except ValueError as error:  # Arrow's are
            raise Unjoinable(str(error)) from error

    def _parse(self, text: bytes) -> Any:
        options = pj.ReadOptions(use_threads=False, block_size=len(text) + 1)
        try:
            # Every field that is looked for takes time, and most producers send only some.
            return pj.read_json(pa.BufferReader(text), options, self._narrow)
        except pa.ArrowInvalid as error:
            if "unexpected field" not in str(error):
                raise
        table = pj.read_json(pa.BufferReader(text), options, self._whole)
        # Some producers send a field with null each time: it is met too.
        self._met = self._met | {name for name in table.column_names if f'"{name}"'.encode() in text}
        self._narrow = self._options(self._met)
        return table


def _column(rule: FieldRule, array: Any, records: int) -> ArrowColumn:
    if rule.type == "object":
        return ArrowColumn(_empty_texts(records))
    if array is None:
        return ArrowColumn(pa.nulls(records, _TYPES[rule.type]))
    if array.null_count and not rule.nullable:
        raise Unjoinable(rule.name)
    column = TimeColumn(array) if rule.name == "time" else ArrowColumn(array)
    return column if array.null_count == records else _accept(rule, column)


def _empty_texts(n: int) -> Any:
    return pa.StringArray.from_buffers(n, pa.py_buffer(bytes(4 * (n + 1))), pa.py_buffer(b""))


def _accept(rule: FieldRule, column: ArrowColumn) -> ArrowColumn:
    """Return a column, some of it not null, as pydantic would have made it.

    Raises
    ------
    Unjoinable
        If pydantic has to look at it.
    """
    if not _allowed(rule, column) or (rule.bounds and not _within(rule, column)):
        raise Unjoinable(rule.name)
    if rule.address:
        canonical = [text and ip_address(text) for text in column.distinct]
        if canonical != column.distinct:
            return ArrowColumn(text_array(canonical)).take(column.codes.astype(np.int64))
    return column


def _allowed(rule: FieldRule, column: ArrowColumn) -> bool:
    if rule.choices:
        return {*rule.choices, None}.issuperset(column.distinct)
    if rule.name == "time":
        if isinstance(column, TimeColumn) and column.usual_ms is not None:
            return True
        return bool(pc.all(pc.match_substring_regex(column.array, rule.pattern)).as_py())
    return rule.pattern is None or all(matches(rule.pattern, text) for text in column.distinct)


def _within(rule: FieldRule, column: ArrowColumn) -> bool:
    if rule.pattern is not None:
        lengths = [len(text) for text in column.distinct if text is not None]
        least, most = min(lengths), max(lengths)
    elif rule.type == "string":
        found = pc.min_max(pc.utf8_length(column.array))
        least, most = found["min"].as_py(), found["max"].as_py()
    else:
        # numpy's, because Arrow's passes over what is no number.
        numbers = numbers_of(column.array)[column.named()]
        least, most = numbers.min().item(), numbers.max().item()
        if np.signbit(numbers).any():
            return False  # -0 and -0.0 are different numbers to pydantic
    bounds = dict(rule.bounds)
    low = bounds.get("min_length", bounds.get("ge", least))
    high = bounds.get("max_length", bounds.get("le", most))
    return bool(low <= least <= most <= high)


JOINED: Final[dict[Kind, JoinedReader]] = {kind: JoinedReader(kind) for kind in MODELS}


def read_joined(kind: Kind, values: Sequence[bytes | None]) -> tuple[Int64s, list[ArrowColumn]]:
    """Return the positions of the records that could be read together, and their columns.

    Parameters
    ----------
    values
        ``(k,)`` record values; None for one that is to be left alone.

    Returns
    -------
    records, columns
        ``(m,)`` ascending, none of them where anything is unusual; and ``("time", *FIELDS[kind])``.
    """
    nothing: tuple[Int64s, list[ArrowColumn]] = np.zeros(0, np.int64), []
    if len(values) < MIN_RECORDS:
        return nothing
    text, fit = joinable(values)
    records = np.flatnonzero(fit)
    while len(records) >= MIN_RECORDS:
        if len(records) < len(values):
            text = b"\n".join([values[i] or b"" for i in records.tolist()])
        try:
            return records, JOINED[kind].read(text, len(records))
        except Unjoinable:
            # Mostly because of attributes; often only some services send any.
            rich = [_ATTRIBUTES.search(values[i] or b"") is not None for i in records.tolist()]
            if not any(rich):
                break
            records = records[~np.array(rich)]
    return nothing
