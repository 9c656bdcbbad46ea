"""Rows of a table in CSV turned into events, as a map says."""

import csv
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import tzinfo
from itertools import chain
from typing import Any, Final

from schemas.event import Kind
from tenantwatch.importers.csv_map import ATTRIBUTES, FieldMap, value_of
from tenantwatch.importers.importer import Reading
from tenantwatch.importers.values import NotUnderstood

DELIMITERS: Final = ",;\t|"
# A quote that is never closed would otherwise collect the rest of the file. All of these lines are read again
# if it is not, so more of them would cost time.
MOST_LINES_OF_A_ROW: Final = 200
LARGEST_FIELD_CHARACTERS: Final = 1 << 20


class Row:
    """A row, by the names of its columns; or, with a `fault`, a line that is part of none.

    >>> Row(["Who"], ["ana"]).find("Who")
    'ana'
    """

    __slots__ = ("cells", "fault", "header")

    def __init__(self, header: Sequence[str], cells: Sequence[str], fault: str | None = None) -> None:
        self.header = header
        self.cells = cells
        self.fault = fault

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
    csv.field_size_limit(LARGEST_FIELD_CHARACTERS)
    # The first line again, because a name of the header may be in quotes over several lines.
    rows = _cells(_Lines(chain([first], rest)), chosen)
    header = [name.strip() for name in next(rows, ([], None))[0]]
    return header, (Row(header, cells, fault) for cells, fault in rows)


class _Lines:
    """Lines for a reader of CSV, those of its present row remembered, so that they can be read again."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._again: deque[str] = deque()
        self.of_row: list[str] = []
        self.broke_off = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.broke_off = True
        if len(self.of_row) == MOST_LINES_OF_A_ROW:
            raise StopIteration
        line = self._again.popleft() if self._again else next(self._lines)
        self.broke_off = False
        self.of_row.append(line)
        return line

    def read_again(self) -> str:
        """Return the row's first line; the others will be read again."""
        self._again.extendleft(reversed(self.of_row[1:]))
        return self.of_row[0]


def _cells(lines: _Lines, delimiter: str) -> Iterator[tuple[list[str], str | None]]:
    """Yield the cells of each row; of a line that is part of none, the line and what is wrong with it.

    Where a quote is not closed, or is closed in the middle of a cell some lines on, one line is given up and
    reading goes on with the next.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.of_row = []
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            spread = lines.broke_off or len(lines.of_row) > 1
            line = lines.read_again()
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
            if spread:
                yield [line.rstrip("\r\n")], "a quote is not closed"
            else:
                yield _leniently(line, delimiter, str(error))
        else:
            if row:
                yield row, None


def _leniently(line: str, delimiter: str, fault: str) -> tuple[list[str], str | None]:
    """Return the cells of a line with a quote in the middle of a cell, as in ``"5" disk"``."""
    try:
        return next(csv.reader([line], delimiter=delimiter)), None
    except csv.Error:
        return [line.rstrip("\r\n")], fault


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
            If a value cannot be its field's, the row has more cells than the header, or it is none.
        """
        if row.fault is not None:
            raise NotUnderstood(row.fault)
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
