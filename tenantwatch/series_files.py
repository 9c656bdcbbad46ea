"""Series in files: ``timestamp,value`` in, ``timestamp,value,anomaly_score`` out."""

import csv
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from math import isnan, nan
from pathlib import Path
from typing import Final, NamedTuple

from detectors.series import MAX_VALUE, Series

TIMESTAMP: Final = "timestamp"
VALUE: Final = "value"
HEADER: Final = [TIMESTAMP, VALUE]
SCORE: Final = "anomaly_score"
# How programs write that there is no value, but for what is read as not a number.
MISSING: Final = frozenset({"", "-", "null", "none", "na", "n/a"})
# Seconds or milliseconds since 1970. Eight digits are a date, and those of a second before 1973.
EPOCH: Final = re.compile(r"-?\d{9,13}(?:\.\d*)?", re.ASCII)
LARGEST_EPOCH_S: Final = 10**11


class SeriesError(Exception):
    """A file is no series; the message names file and line, and says how to mend it."""


class Row(NamedTuple):
    """A row of a series: its texts as they stand in the file, and what they say; no value is not a number."""

    texts: list[str]
    time: datetime
    value: float


class Scored(NamedTuple):
    """What was scored: how many rows, how many of them without value, or earlier than the row before."""

    rows: int
    missing: int
    out_of_order: int


def score_file(source: Path, target: Path) -> Scored:
    """Score a series, and return how many rows it has, and which are odd.

    The texts of timestamp and value are kept as they are. Nothing is written unless every row is good.

    Raises
    ------
    SeriesError
        If a row is not a time and a number, or none.
    OSError
        If a file cannot be read or written.
    """
    series = Series()
    rows = list(read_series(source))
    # Four digits tell apart whatever a threshold could.
    scored = [(*row.texts, f"{series.score(row.time, row.value):.4f}") for row in rows]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([*HEADER, SCORE])
        out.writerows(scored)
    times = [row.time if row.time.tzinfo else row.time.replace(tzinfo=UTC) for row in rows]
    earlier = sum(after < before for before, after in pairwise(times))
    return Scored(len(rows), sum(isnan(row.value) for row in rows), earlier)


def read_series(path: Path) -> Iterator[Row]:
    """Yield a file's rows; blank lines and other columns are passed over.

    Raises
    ------
    SeriesError
        If a row is not a time and a number, or none.
    OSError
        If the file cannot be read.
    """
    # A spreadsheet's byte order mark is not part of the first name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            names = [name.strip().lower() for name in header]
            if not set(HEADER) <= set(names):
                found = ",".join(header)
                raise ValueError(f"the header is {found!r}; fix: let it be {','.join(HEADER)}")
            for row in reader:
                if row:
                    yield _parse(row, names)
        except UnicodeDecodeError as error:
            raise SeriesError(f"{path}: byte {error.start} is not UTF-8; fix: save it as UTF-8") from None
        except (ValueError, csv.Error) as error:
            raise SeriesError(f"{path}:{max(reader.line_num, 1)}: {error}") from None


def _parse(row: list[str], names: list[str]) -> Row:
    # A number with a comma for the point would be two cells.
    if not max(map(names.index, HEADER)) < len(row) <= len(names):
        raise ValueError(f"{len(row)} columns; fix: write {','.join(names)}")
    time, value = (row[names.index(name)] for name in HEADER)
    return Row([time, value], _time(time), _value(value))


def _time(text: str) -> datetime:
    try:
        if EPOCH.fullmatch(text.strip()):
            number = float(text)
            return datetime.fromtimestamp(number if abs(number) < LARGEST_EPOCH_S else number / 1_000, UTC)
        return datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise ValueError(
            f"timestamp {text!r} is no time; fix: write it like 2026-01-31 09:30:00, or seconds since 1970"
        ) from None


def _value(text: str) -> float:
    if text.strip().lower() in MISSING:
        return nan
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"value {text!r} is no number; fix: write one, or empty the cell") from None
    if abs(number) > MAX_VALUE:
        raise ValueError(
            f"value {text!r} is not within ±{MAX_VALUE:g}; fix: scale it, or leave the cell empty"
        )
    return number
