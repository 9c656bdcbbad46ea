"""Running a reader as the commands do, for the tests of importers."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from schemas.validate import validate_lines
from tenantwatch.importers.importer import Importer, Line, Reading, Tenancy
from tenantwatch.importers.json_stream import of_records, read_json, unwrapped
from tenantwatch.importers.record import Record
from tenantwatch.importers.report import ImportReport

TENANT = Tenancy("tenant-a")
Made = tuple[list[dict[str, Any]], ImportReport]


def run(reader: Callable[[Any], Reading], items: Iterable[Any], tenancy: Tenancy = TENANT) -> Made:
    """Return the events of items, each of which `tenantwatch validate` must accept, and the report."""
    importer = Importer(reader, tenancy, "test")
    events = list(importer.events(items))
    assert list(validate_lines(json.dumps(event).encode() for event in events)) == []
    assert importer.report.events_made == len(events)
    return events, importer.report


def run_lines(reader: Callable[[Line], Reading], *lines: str) -> Made:
    """Return what becomes of lines of text."""
    return run(reader, map(Line, lines))


def run_records(
    reader: Callable[[Record], Reading], *records: Mapping[str, Any], tenancy: Tenancy = TENANT
) -> Made:
    """Return what becomes of records, written one a line."""
    text = "\n".join(map(json.dumps, records)).encode()
    return run(of_records(reader), map(unwrapped, read_json([text])), tenancy)


def only(made: Made) -> dict[str, Any]:
    """Return the one event that was made; what it does not have is None."""
    events, report = made
    assert len(events) == 1, "\n".join(report.lines())
    return Absent(events[0])


class Absent(dict[str, Any]):
    """An event, in which a field that is absent is None."""

    def __missing__(self, name: str) -> None:
        return None


def picked(event: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    """Return some fields of an event."""
    return tuple(event.get(name) for name in names)
