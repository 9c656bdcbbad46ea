"""The Numenta Anomaly Benchmark's standard profile, over a folder laid out like its repository.

``DIR/data/<kind>/<series>.csv`` and ``DIR/labels/combined_windows.json``; windows are needed only of the
files that are there. One threshold for all files, chosen as the benchmark does: by the best score.
"""

import argparse
import json
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from detectors.series import score_series
from schemas.batch import Floats
from tenantwatch.series_files import read_series

# Standard profile: a window is worth 1 found, -1 missed; a false row costs .11.
FALSE_ROW: Final = 0.11
# Rows at the start that do not count: a share, of at most 5,000 rows.
PROBATION, PROBATION_ROWS = 0.15, 5_000
# From so many windows' lengths behind a window on, a false row costs all of it.
FAR: Final = 3.0


@dataclass(frozen=True)
class Scored:
    """What a threshold may earn in one file.

    Parameters
    ----------
    folder, rows, windows
        The kind of series, and how many rows and windows it has.
    thresholds, gains
        ``(g,)`` what is gained at every threshold that is not above this one.
    """

    folder: str
    rows: int
    windows: int
    thresholds: Floats
    gains: Floats


def sigmoid(position: Floats) -> Floats:
    """Return ``2 / (1 + exp(5 y)) - 1``: 1 well before a window's end, 0 at it, -1 well behind it.

    >>> sigmoid(np.array([-1.0, 0.0, 9.0])).round(3).tolist()
    [0.987, 0.0, -1.0]
    """
    return np.where(position > FAR, -1.0, 2 / (1 + np.exp(5 * np.minimum(position, FAR))) - 1)


def gains(scores: Floats, windows: Sequence[tuple[int, int]]) -> tuple[Floats, Floats]:
    """Return thresholds and what each gains over a detector that is silent.

    In a window the best row at or above the threshold counts, which is its earliest; outside every row does,
    those just behind a window less.

    Parameters
    ----------
    scores
        ``(n,)``.
    windows
        First and last row of each, in order.

    >>> [x.round(2).tolist() for x in gains(np.array([0.0, 9.0, 1.0, 2.0]), [(2, 3)])]
    [[0.0, 9.0, 2.0, 1.0], [-0.11, -0.11, 1.86, 0.14]]
    """
    rows = np.arange(len(scores))
    counted = rows >= int(PROBATION * min(len(scores), PROBATION_ROWS))
    worth, outside = np.full(len(scores), -FALSE_ROW), np.ones(len(scores), np.bool_)
    for first, last in windows:
        worth[last + 1 :] = FALSE_ROW * sigmoid((rows[last + 1 :] - last) / max(last - first, 1))
        outside[first : last + 1] = False
    outside &= counted
    thresholds, gained = [scores[outside]], [worth[outside]]
    for first, last in windows:
        inside = rows[first : last + 1][counted[first : last + 1]]
        inside = inside[np.argsort(-scores[inside], kind="stable")]
        position = (inside - last - 1) / (last - first + 1)
        best = np.maximum.accumulate(np.append(-1.0, sigmoid(position) / sigmoid(np.array(-1.0))))
        thresholds.append(scores[inside])
        gained.append(np.diff(best))
    return np.concatenate(thresholds), np.concatenate(gained)


def best_threshold(files: Iterable[Scored]) -> float:
    """Return the threshold at which all files together gain most."""
    thresholds, gained = (
        np.concatenate(values) for values in zip(*((f.thresholds, f.gains) for f in files), strict=True)
    )
    order = np.argsort(-thresholds, kind="stable")
    thresholds, total = thresholds[order], np.cumsum(gained[order])
    # Rows of one score are above the threshold together.
    ends = np.flatnonzero(np.append(thresholds[1:] != thresholds[:-1], True))
    return float(thresholds[ends[np.argmax(total[ends])]])


def normalised(files: Sequence[Scored], threshold: float) -> float:
    """Return ``100 (score - null) / (perfect - null)``; a silent detector has 0."""
    windows = sum(f.windows for f in files)
    gained = sum(float(f.gains[f.thresholds >= threshold].sum()) for f in files)
    return 100 * gained / (2 * windows) if windows else 0.0


def rows_of(times: Sequence[datetime], window: Sequence[str]) -> tuple[int, int]:
    """Return the first and last row of a labelled window; its edges need be no rows.

    >>> times = [datetime(2026, 1, day) for day in (1, 2, 4, 5)]
    >>> rows_of(times, ["2026-01-02 00:00:00", "2026-01-04 12:00:00"])
    (1, 2)
    """
    begin, end = (datetime.fromisoformat(text) for text in window)
    return bisect_left(times, begin), bisect_right(times, end) - 1


def run(data: Path) -> dict[str, Any]:
    """Score every series that has labels, be it that nothing in it is one, and return the result."""
    labels = json.loads((data / "labels/combined_windows.json").read_text())
    files: list[Scored] = []
    spent_s = 0.0
    unlabelled: list[str] = []
    for path in sorted((data / "data").glob("*/*.csv")):
        name = f"{path.parent.name}/{path.name}"
        if name not in labels:
            unlabelled.append(name)
            continue
        series = [(at, value) for _, at, value in read_series(path)]
        begin = time.process_time()
        scores = score_series(series)
        spent_s += time.process_time() - begin
        times = [at for at, _ in series]
        windows = [rows_of(times, window) for window in labels[name]]
        files.append(Scored(path.parent.name, len(series), len(windows), *gains(scores, windows)))
    threshold = best_threshold(files)
    folders = {name: [f for f in files if f.folder == name] for name in sorted({f.folder for f in files})}
    rows = sum(f.rows for f in files)
    return {
        "score": round(normalised(files, threshold), 2),
        "threshold": round(threshold, 4),
        "us_per_row": round(1e6 * spent_s / rows, 1),
        "files": len(files),
        "unlabelled": unlabelled,
        "rows": rows,
        "windows": sum(f.windows for f in files),
        "folders": {
            name: {
                "score": round(normalised(part, threshold), 2),
                "windows": sum(f.windows for f in part),
                "gained": round(sum(float(f.gains[f.thresholds >= threshold].sum()) for f in part), 2),
            }
            for name, part in folders.items()
        },
    }


def main() -> None:
    """Print the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder with data/ and labels/")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    found = run(given.data)
    if given.json:
        print(json.dumps(found, indent=2))
        return
    print("{score:.2f} at {threshold:.2f}; {us_per_row} µs a row of {rows:,}".format(**found))
    for name, part in found["folders"].items():
        print("{:<24}{score:>8.2f}  {windows:>3} windows".format(name, **part))


if __name__ == "__main__":
    main()
