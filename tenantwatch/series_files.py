"""Series in files: ``timestamp,value`` in, ``timestamp,value,anomaly_score`` out."""

import csv
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from detectors.series import MAX_VALUE, Series

HEADER: Final = ["timestamp", "value"]
SCORE: Final = "anomaly_score"


class SeriesError(Exception):
    """A file is no series; the message names file and line, and says how to mend it."""


def score_file(source: Path, target: Path) -> int:
    """Score a series, and return how many rows it has.

    The texts of timestamp and value are kept as they are. Nothing is written unless every row is good.

    Raises
    ------
    SeriesError
        If a row is not a time and a number.
    OSError
        If a file cannot be read or written.
    """
    series = Series()
    # Four digits tell apart whatever a threshold could.
    rows = [(*texts, f"{series.score(time, value):.4f}") for texts, time, value in read_series(source)]
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow([*HEADER, SCORE])
        out.writerows(rows)
    return len(rows)


def read_series(path: Path) -> Iterator[tuple[list[str], datetime, float]]:
    """Yield each row's texts, time and value; blank lines are passed over.

    Raises
    ------
    SeriesError
        If a row is not a time and a number.
    OSError
        If the file cannot be read.
    """
    # A spreadsheet's byte order mark is not part of the first name.
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        try:
            header = next(reader, [])
            if [name.strip() for name in header] != HEADER:
                found = ",".join(header)
                raise ValueError(f"the header is {found!r}; fix: let it be {','.join(HEADER)}")
            for row in reader:
                if row:
                    yield row, *_parse(row)
        except UnicodeDecodeError as error:
            raise SeriesError(f"{path}: byte {error.start} is not UTF-8; fix: save it as UTF-8") from None
        except (ValueError, csv.Error) as error:
            raise SeriesError(f"{path}:{max(reader.line_num, 1)}: {error}") from None


def _parse(row: list[str]) -> tuple[datetime, float]:
    if len(row) != len(HEADER):
        raise ValueError(f"{len(row)} columns; fix: write {','.join(HEADER)}")
    time, value = row
    try:
        parsed = datetime.fromisoformat(time.strip())
    except ValueError:
        raise ValueError(f"timestamp {time!r} is no time; fix: write it like 2026-01-31 09:30:00") from None
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"value {value!r} is no number; fix: write one, or leave the row out") from None
    # Not a number compares as false, too.
    if not abs(number) <= MAX_VALUE:
        raise ValueError(f"value {value!r} is not within ±{MAX_VALUE:g}; fix: scale it, or leave the row out")
    return parsed, number
