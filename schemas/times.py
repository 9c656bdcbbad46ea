"""RFC 3339 times to milliseconds, by the column."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from schemas.columns import ArrowColumn, Int64s, text_array

# Fewer cost less one by one.
MIN_TIMES: Final = 150
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_TEMPLATE: Final = np.frombuffer(b"2026-01-31T09:30:00.123456789", np.uint8)
_ZERO, _ZULU = b"0Z"
# The first day of each month, in days since 1970; the contract's last year is 2199.
_MONTH_DAYS: Final = (
    np.arange("1970-01", "2200-02", dtype="datetime64[M]").astype("datetime64[D]").astype(np.int64)
)


def usual_times_ms(column: ArrowColumn) -> Int64s | None:
    """Return times as milliseconds if all are written alike, as ``2026-01-31T09:30:00.123Z`` is; else None.

    A producer writes all of its times with as many digits, and mostly all producers write as many. None is
    also returned where one of them breaks the contract.

    >>> usual_times_ms(ArrowColumn(text_array(["1970-01-01T00:00:01.5Z"])))
    array([1500])
    >>> usual_times_ms(ArrowColumn(text_array(["1970-02-29T00:00:00Z"]))) is None
    True
    """
    array, rows = column.array, len(column)
    ends = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + rows + 1]
    width = int(ends[1] - ends[0]) if rows else 0
    if not (width == 20 or 22 <= width <= 30) or array.null_count or np.any(np.diff(ends) != width):
        return None
    flat = np.frombuffer(array.buffers()[2], np.uint8)[ends[0] : ends[-1]]
    # (width, n): what follows works on one character of all texts at a time.
    text = np.ascontiguousarray(flat.reshape(rows, width).T)
    template = np.append(_TEMPLATE[: width - 1], _ZULU)
    digit = (template >= _ZERO) & (template < _ZERO + 10)
    if np.any(text[~digit] != template[~digit, None]):
        return None
    digits = text - np.uint8(_ZERO)
    if digits[digit].max() > 9:
        return None
    year, month, day, hour, minute, second = (
        _number(digits[first:last]) for first, last in ((0, 4), (5, 7), (8, 10), (11, 13), (14, 16), (17, 19))
    )
    if not _exist(year, month, day) or max(hour.max() - 23, minute.max() - 59, second.max() - 59) > 0:
        return None
    days = _MONTH_DAYS[(year - 1970) * 12 + month - 1] + day - 1
    ms: Int64s = ((days * 24 + hour) * 60 + minute) * 60_000 + second * 1000
    for row, weight in zip(digits[20:-1], (100, 10, 1), strict=False):
        ms += row * np.int64(weight)
    return ms


class TimeColumn(ArrowColumn):
    """A column of times, which are converted once: to be checked and to be kept."""

    @cached_property
    def usual_ms(self) -> Int64s | None:
        """As `usual_times_ms`."""
        return usual_times_ms(self)


def _number(digits: Any) -> Int64s:
    value: Int64s = digits[0].astype(np.int64)
    for digit in digits[1:]:
        value = value * 10 + digit
    return value


def _exist(year: Int64s, month: Int64s, day: Int64s) -> bool:
    if year.min() < 1970 or year.max() > 2199 or month.min() < 1 or month.max() > 12 or day.min() < 1:
        return False
    place = (year - 1970) * 12 + month - 1
    return bool(np.all(day <= _MONTH_DAYS[place + 1] - _MONTH_DAYS[place]))


def time_column_ms(times: Sequence[str]) -> tuple[Int64s, list[int]]:
    """Return RFC 3339 times as milliseconds, and the positions of those that name no real instant.

    Parameters
    ----------
    times
        ``(n,)`` strings that match the contract's pattern.

    >>> time_column_ms(["2026-01-01T00:00:00.5Z", "2026-02-30T00:00:00Z"])
    (array([1767225600500,             0]), [1])
    """
    if len(times) < MIN_TIMES:
        return _singly_ms(times)
    column: Any = times
    if not isinstance(times, TimeColumn):
        column = TimeColumn(times.array if isinstance(times, ArrowColumn) else text_array(times))
    if column.usual_ms is not None:
        return column.usual_ms, []
    try:
        stamps = column.array.cast(pa.timestamp("ns", "UTC"))
        return np.frombuffer(stamps.buffers()[1], np.int64)[: len(times)] // 1_000_000, []
    except pa.ArrowInvalid:
        # Something unusual is among them: lower case, a leap second, a day that does not exist.
        return _singly_ms(times)


def _singly_ms(times: Sequence[str]) -> tuple[Int64s, list[int]]:
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
