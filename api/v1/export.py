"""Events as files: NDJSON, CSV that no spreadsheet takes for formulas, OCSF."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple

from schemas.ocsf import event_to_ocsf

ExportFormat = Literal["ndjson", "csv", "ocsf"]
Event = Mapping[str, Any]
COLUMNS: Final = (
    "event_id", "kind", "tenant_id", "time", "service", "user_id", "source_ip", "user_agent", "session_id",
    "trace_id", "token_id", "token_tenant_id", "outcome", "reason", "action", "auth_method", "permission",
    "resource_type", "resource_id", "resource_tenant_id", "record_count", "http_method", "http_route",
    "http_path", "http_status", "duration_ms", "bytes_in", "bytes_out", "api_key_id", "attributes",
    "organization_id", "tier", "region", "tenant_status", "ingest_time", "flags",
)  # fmt: skip
# With these a spreadsheet begins a formula, or a command; a tab or line break before one changes nothing.
_BEGINS: Final = r"=+\-@\uff1d\uff0b\uff0d\uff20"
# At a text's beginning, and after what other spreadsheets take for the end of a cell: where the comma is for
# decimals they separate by semicolons, and heed no quotes that a semicolon does not precede.
_FORMULA: Final = re.compile(rf'^(?= *[{_BEGINS}\t\r\n])|(?<=[;\t\r\n])(?=[ "]*[{_BEGINS}])')


class Form(NamedTuple):
    """How events are written."""

    media_type: str
    head: str
    line: Callable[[Event], str]


def safe_cell(value: object) -> str:
    """Return a CSV cell that a spreadsheet shows as it is: what would be a formula gets an apostrophe.

    >>> safe_cell("=1+1"), safe_cell("a;=1+1"), safe_cell(-1), safe_cell(None)
    ("'=1+1", "a;'=1+1", '-1', '')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return _FORMULA.sub("'", value)
    if isinstance(value, list | dict):
        return safe_cell(json.dumps(value, ensure_ascii=False))
    return str(value)


def _csv_row(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(values)
    return text.getvalue()


def _csv_line(event: Event) -> str:
    return _csv_row(safe_cell(event.get(name)) for name in COLUMNS)


def _json_line(event: Event) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")) + "\n"


FORMS: Final[dict[ExportFormat, Form]] = {
    "ndjson": Form("application/x-ndjson", "", _json_line),
    "csv": Form("text/csv; charset=utf-8; header=present", _csv_row(COLUMNS), _csv_line),
    "ocsf": Form("application/x-ndjson", "", lambda event: _json_line(event_to_ocsf(event))),
}


def written(events: Iterable[Event], form: Form) -> Iterator[bytes]:
    """Yield events as bytes of a file, without its head."""
    for event in events:
        yield form.line(event).encode()
