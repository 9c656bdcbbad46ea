"""How commands print: tables for people, JSON for programs; errors and progress on standard error."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
SEVERITY_STYLE = {"low": "dim", "medium": "yellow", "high": "red", "critical": "bold red"}


def print_json(data: Any) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(data, indent=2, default=str, ensure_ascii=False) + "\n")


def print_json_lines(rows: Iterable[Any]) -> None:
    """Print one JSON object a line."""
    for row in rows:
        sys.stdout.write(json.dumps(row, default=str, ensure_ascii=False) + "\n")


def print_table(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], empty: str) -> None:
    """Print rows as a table.

    Parameters
    ----------
    columns
        Key in the rows to heading.
    empty
        What to say when there are none.
    """
    if not rows:
        out.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        style = SEVERITY_STYLE.get(str(row.get("severity")), "")
        cells = ("" if row.get(key) is None else str(row[key]) for key in columns)
        table.add_row(*(cell.replace("[", r"\[") for cell in cells), style=style)
    out.print(table)


def fail(message: str) -> typer.Exit:
    """Print an error and return what to raise."""
    err.print(f"[bold red]error:[/] {message}", soft_wrap=True)
    return typer.Exit(1)


@contextmanager
def lines_of(file: str) -> Iterator[Iterable[bytes]]:
    """Open a file, plain or gzip, or standard input for ``-``, as lines."""
    import gzip
    from pathlib import Path

    if file == "-":
        yield sys.stdin.buffer
        return
    path = Path(file)
    try:
        with path.open("rb") as probe:
            compressed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else path.open("rb") as handle:
            yield handle
    except FileNotFoundError:
        raise fail(f"there is no file {file}") from None
    except IsADirectoryError:
        raise fail(f"{file} is a directory; name a file") from None
    except PermissionError:
        raise fail(f"{file} cannot be read: permission denied") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise fail(f"{file} is not a whole gzip file: {error}") from None
