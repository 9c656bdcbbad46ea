"""How commands print: data on standard output, for people or as JSON; all else on standard error."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SEVERITY_STYLE: Final = {"low": "dim", "medium": "yellow", "high": "red", "critical": "bold red"}
# Nothing is folded where there is no screen to fold it for: a row stays one line for grep.
UNFOLDED: Final = 100_000

Cell = Callable[[Any], str]


def plain(value: Any) -> str:
    """Return a value as text that cannot steer the reader's terminal; None is empty.

    What is printed came from events, and whoever caused an event must not write to this terminal.

    >>> plain("ana\\x1b[2J")
    'ana\\\\x1b[2J'
    """
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def moment(value: Any) -> str:
    """Return an RFC 3339 time to the second, for tables.

    >>> moment("2026-01-31T09:30:00.123+00:00")
    '2026-01-31 09:30:00Z'
    """
    return datetime.fromisoformat(value).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if value else ""


def number(value: float) -> str:
    """Return a number as people write it, to the hundredth.

    >>> number(1000000), number(0.125), number(7.0)
    ('1,000,000', '0.12', '7')
    """
    return f"{round(value, 2):,.12g}"


def print_json(data: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(data, indent=2, ensure_ascii=False) + "\n")


def print_json_lines(rows: Iterable[Any]) -> None:
    """Print one JSON object a line, at once: a program may be waiting for each."""
    for row in rows:
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_line(text: str, style: str = "") -> None:
    """Print a line of data."""
    out.print(Text(plain(text), style), soft_wrap=True)


def print_table(columns: Mapping[str, Cell], rows: Sequence[Any], empty: str) -> None:
    """Print rows as a table.

    Parameters
    ----------
    columns
        Heading to what a row has there; the last one gets the room that is left.
    empty
        What to say, on standard error, when there are no rows.
    """
    if not rows:
        note(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    last = [*columns][-1]
    for heading in columns:
        table.add_column(heading, overflow="fold", no_wrap=heading != last)
    for row in rows:
        cells = [plain(cell(row)) for cell in columns.values()]
        table.add_row(*(Text(cell, SEVERITY_STYLE.get(cell, "")) for cell in cells))
    if not out.is_terminal:
        out.width = UNFOLDED
    out.print(table)


def note(message: str, style: str = "") -> None:
    """Say something beside the data."""
    err.print(Text(message, style), soft_wrap=True)


def complain(message: str, kind: str = "error") -> None:
    """Print an error or a warning."""
    label = Text(f"{kind}: ", "bold red" if kind == "error" else "yellow")
    err.print(label.append(message, "default"), soft_wrap=True)


def fail(message: str) -> typer.Exit:
    """Print an error and return what to raise."""
    complain(message)
    return typer.Exit(1)
