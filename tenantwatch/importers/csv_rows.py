"""Rows of a table in CSV turned into events, as a map says."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from typing import Any, Final

from schemas.event import Kind
from tenantwatch.importers.csv_map import ATTRIBUTES, FieldMap, value_of
from tenantwatch.importers.importer import Reading
from tenantwatch.importers.values import NotUnderstood

DELIMITERS: Final = ",;\t|"
# A quote that is never closed would otherwise collect the rest of the file.
LARGEST_FIELD_CHARACTERS: Final = 1 << 20


class Row:
    """A row, by the names of its columns.

    >>> Row(["Who"], ["ana"]).find("Who")
    'ana'
    """

    __slots__ = ("cells", "header")

    def __init__(self, header: Sequence[str], cells: Sequence[str]) -> None:
        self.header = header
        self.cells = cells

    @property
    def text(self) -> str:
        """The cells, with commas between them."""
        return ",".join(self.cells)

    def find(self, name: str) -> str | None:
        """Return the cell of a column; None if the row ends before it, or there is no such column."""
        try:
            return self.cells[self.header.index(name)]
        except (ValueError, IndexError):
            return None


def read_rows(lines: Iterable[str], delimiter: str | None = None) -> tuple[list[str], Iterator[Row]]:
    """Return the header of a table and, as they are read, its rows.

    Parameters
    ----------
    lines
        The file's lines, with or without their ends. A cell in quotes may spread over several.
    delimiter
        Between cells; None: the one of comma, semicolon, tab and bar that the first line has most of.

    >>> header, rows = read_rows(["Who;When", "ana;2026-01-05"])
    >>> header, [row.find("When") for row in rows]
    (['Who', 'When'], ['2026-01-05'])
    """
    rest = (line if line.endswith("\n") else line + "\n" for line in lines)
    first = next((line for line in rest if line.strip()), "").removeprefix("\ufeff")
    chosen = delimiter or max(DELIMITERS, key=first.count)
    # The first line again, because a name of the header may be in quotes over several lines.
    cells = csv.reader(_chained(first, rest), delimiter=chosen)
    csv.field_size_limit(LARGEST_FIELD_CHARACTERS)
    header = [name.strip() for name in next(cells, [])]
    return header, _rows(header, cells)


def _chained(first: str, rest: Iterable[str]) -> Iterator[str]:
    if first:
        yield first
    yield from rest


def _rows(header: list[str], cells: Iterator[list[str]]) -> Iterator[Row]:
    while True:
        try:
            row = next(cells)
        except StopIteration:
            return
        except csv.Error as error:
            # Handed out, to be counted: it has no cell that could be read.
            row = [f"{error}"] * (len(header) + 1)
        if row:
            yield Row(header, row)


class CsvReader:
    """Reads rows as events.

    Parameters
    ----------
    mappings
        From `parse_map`.
    kind
        Of the events.
    zone
        Of times that name none.

    Examples
    --------
    >>> from datetime import UTC
    >>> from tenantwatch.importers.csv_map import parse_map
    >>> header, rows = read_rows(["When,Who,Result", "2026-01-05 08:00,ana,denied"])
    >>> mappings = parse_map(["time=When", "user_id=Who", "outcome=Result", "action=:login"], "auth", header)
    >>> event = CsvReader(mappings, "auth", UTC).read(next(rows))
    >>> event["time"], event["outcome"]
    ('2026-01-05T08:00:00.000Z', 'failure')
    """

    def __init__(self, mappings: Sequence[FieldMap], kind: Kind, zone: tzinfo) -> None:
        self._mappings = mappings
        self._kind = kind
        self._zone = zone

    def read(self, row: Row) -> Reading:
        """Return a row's event.

        Raises
        ------
        NotUnderstood
            If a value cannot be its field's, or the row has more cells than the header.
        """
        if len(row.cells) > len(row.header):
            raise NotUnderstood(f"has {len(row.cells)} cells, the header {len(row.header)}")
        told: dict[str, Any] = {}
        for one in self._mappings:
            text = one.constant if one.column is None else row.find(one.column)
            told |= value_of(one, text or "", self._zone)
        if "time" not in told:
            raise NotUnderstood("time is empty")
        if "outcome" not in told:
            told |= _outcome_of_status(told)
        fields: dict[str, Any] = {"kind": self._kind, "attributes": {}}
        for name, value in told.items():
            if name.startswith(ATTRIBUTES):
                fields["attributes"][name.removeprefix(ATTRIBUTES)] = value
            else:
                fields[name] = value
        return fields


def _outcome_of_status(told: Mapping[str, Any]) -> dict[str, Any]:
    status = told.get("http_status")
    if status is None:
        raise NotUnderstood("outcome is empty")
    return {"outcome": "failure" if status >= 400 else "success"}
