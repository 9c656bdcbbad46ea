"""Events as files: NDJSON, CSV that no spreadsheet takes for formulas, OCSF."""

import csv
import io
import json
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
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


class Form(NamedTuple):
    """How events are written."""

    media_type: str
    head: str
    line: Callable[[Event], str]


def safe_cell(value: object) -> str:
    """Return a CSV cell that a spreadsheet shows as it is: texts that would be formulas get an apostrophe.

    >>> safe_cell("=1+1"), safe_cell(-1), safe_cell(None)
    ("'=1+1", '-1', '')
    """
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.lstrip(" ").startswith(_FORMULA) else value
    if isinstance(value, list | dict):
        return safe_cell(json.dumps(value, ensure_ascii=False))
    return str(value)


def _csv_row(values: Iterable[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)
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
