"""A chart of scores against their threshold, in characters: all it needs is a terminal."""

from collections.abc import Sequence
from datetime import datetime
from math import ceil, isfinite
from typing import Final

from tenantwatch.commands.output import moment, number

WIDTH: Final = 64
HEIGHT: Final = 8
_EIGHTHS: Final = " ▁▂▃▄▅▆▇█"
_LABEL: Final = 10

# RFC 3339 time, score, threshold.
Point = tuple[str, float, float]


def chart(points: Sequence[Point], width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Return lines of text: a bar is the highest score of a stretch of time, the line is its threshold.

    Parameters
    ----------
    points
        Of events, by time; at least one.
    width, height
        Characters of the drawing, without its labels.

    >>> found = [("2026-01-05T09:00:00Z", 1.0, 4.0), ("2026-01-05T09:01:00Z", 6.0, 4.0)]
    >>> print("\\n".join(chart(found, width=8, height=3)))
           6         █
           4  ───────█
           0  ▄      █
              2026-01-05 09:00:00Z to 2026-01-05 09:01:00Z
    """
    bars, thresholds = _columns(points, width)
    top = max([*filter(isfinite, bars), *filter(isfinite, thresholds)], default=0.0) or 1.0
    lines = [max(0, ceil(height * line / top) - 1) if isfinite(line) else None for line in thresholds]
    labels = {0: "0", height - 1: number(top)}
    labels |= {row: number(line) for row, line in zip(lines, thresholds, strict=True) if row is not None}
    rows = []
    for row in range(height - 1, -1, -1):
        cells = (_cell(bar, top, height, row, row == line) for bar, line in zip(bars, lines, strict=True))
        rows.append(f"{labels.get(row, ''):>{_LABEL - 2}}  {''.join(cells)}".rstrip())
    ends = dict.fromkeys((moment(points[0][0]), moment(points[-1][0])))
    return [*rows, f"{'':{_LABEL}}{' to '.join(ends)}"]


def _columns(points: Sequence[Point], width: int) -> tuple[list[float], list[float]]:
    """Return ``(width,)`` the highest score of each stretch of time, and the threshold that held."""
    times = [datetime.fromisoformat(time).timestamp() for time, _, _ in points]
    a_column_s = (times[-1] - times[0]) / (width - 1) or 1.0
    bars = [0.0] * width
    found: dict[int, float] = {}
    for time, (_, score, threshold) in zip(times, points, strict=True):
        column = round((time - times[0]) / a_column_s)
        bars[column] = max(bars[column], score)
        found[column] = threshold
    thresholds = [found[0]]
    for column in range(1, width):
        thresholds.append(found.get(column, thresholds[-1]))
    return bars, thresholds


def _cell(bar: float, top: float, height: int, row: int, on_line: bool) -> str:
    eighths = round(8 * height * bar / top) - 8 * row
    if row == 0 and bar > 0:
        eighths = max(eighths, 1)  # however low, there was something
    if eighths <= 0:
        return "─" if on_line else " "
    return _EIGHTHS[min(eighths, 8)]
