"""Line charts as SVG: small enough to need no library, plain text that a review can read."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import floor, inf, log10
from typing import Final

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 60, 56, 56
NOTE_WIDTH: Final = 24
# Okabe and Ito's, which all eyes tell apart.
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
_TEXT: Final = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}" fill="{}">{}</text>'
_RULE: Final = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}"/>'


@dataclass(frozen=True)
class Line:
    """One line of a chart.

    Parameters
    ----------
    name
        Shown at its end.
    points
        x above 0, and y from 0 to 1.
    notes
        Shown at the points; none: the points are not marked.
    steps
        Whether y stays until the next point, as in a distribution.
    """

    name: str
    points: Sequence[tuple[float, float]]
    notes: Sequence[str] = ()
    steps: bool = False


def chart(title: str, x_label: str, y_label: str, lines: Sequence[Line], y_low: float = 0.0) -> str:
    """Return an SVG with x on a logarithmic axis and y from `y_low` to 1, in five steps.

    >>> chart("Found", "s", "share", [Line("x1", [(1, 0.5), (10, 1.0)])]).count("<path")
    1
    """
    every_x = [x for line in lines for x, _ in line.points]
    ticks = _ticks(min(every_x), max(every_x))
    low, span = log10(ticks[0]), log10(ticks[-1] / ticks[0])

    def at(x: float, y: float) -> tuple[float, float]:
        across = (log10(x) - low) / span * (WIDTH - LEFT - RIGHT)
        return LEFT + across, HEIGHT - BOTTOM - (y - y_low) / (1 - y_low) * (HEIGHT - TOP - BOTTOM)

    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<g font-size="15">{_TEXT.format(middle, 24, "middle", "#222", escape(title))}</g>',
        _TEXT.format(middle, HEIGHT - 12, "middle", "#444", escape(x_label)),
        f'<g transform="rotate(-90 16 {HEIGHT / 2})">'
        f"{_TEXT.format(16, HEIGHT / 2, 'middle', '#444', escape(y_label))}</g>",
    ]
    for tick in ticks:
        x, bottom = at(tick, y_low)
        parts.append(_RULE.format(x, TOP, x, bottom, "#ddd"))
        parts.append(_TEXT.format(x, bottom + 18, "middle", "#444", f"{tick:,g}"))
    for i in range(6):
        y = y_low + (1 - y_low) * i / 5
        left, down = at(ticks[0], y)
        parts.append(_RULE.format(left, down, WIDTH - RIGHT, down, "#ddd"))
        parts.append(_TEXT.format(left - 8, down + 4, "end", "#444", f"{y:.2g}"))
    taken: list[float] = []
    for line, colour in zip(lines, COLOURS, strict=False):
        places = [at(*point) for point in line.points]
        path = f"M{places[0][0]:.1f},{places[0][1]:.1f}"
        for x, y in places[1:]:
            path += f"H{x:.1f}V{y:.1f}" if line.steps else f"L{x:.1f},{y:.1f}"
        parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        noted = -inf
        for (x, y), note in zip(places, line.notes, strict=False):
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
            # One that would lie on the one before is left out.
            if x - noted >= NOTE_WIDTH:
                parts.append(_TEXT.format(x, y - 8, "middle", colour, escape(note)))
                noted = x
        # Names that would lie on each other make room.
        y = places[-1][1] + 4
        while any(abs(y - other) < 14 for other in taken):
            y += 2
        taken.append(y)
        parts.append(_TEXT.format(places[-1][0] + 8, y, "start", colour, escape(line.name)))
    return "\n".join([*parts, "</svg>", ""])


def _ticks(least: float, most: float) -> list[float]:
    """Return 1, 2 and 5 times powers of ten, from the last one up to `least` to the first from `most` on."""
    first, last = floor(log10(least)), floor(log10(most)) + 1
    every = [step * 10.0**power for power in range(first, last + 1) for step in (1, 2, 5)]
    begin = max(i for i, tick in enumerate(every) if tick <= least)
    end = min(i for i, tick in enumerate(every) if tick >= most)
    return every[begin : max(end, begin + 1) + 1]
