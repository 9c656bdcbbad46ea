"""The canonical form of a row: the same bytes from the engine and from an exported line.

A row's bytes are its columns in a fixed order in ClickHouse's RowBinary: numbers little-endian, times in
milliseconds, texts after their length in LEB128, a byte before what may be null. The engine makes them itself
(`formatRow`), half a microsecond a row with the hash. The columns belong to a numbered form, so that a column
that a later migration adds changes no older seal.

Where a row is in Kafka is not part of it: a seal names that beside the row's hash, so that a row that was
moved can be told from one that was changed.
"""

import hashlib
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from store.row_binary import text_bytes

CURRENT_FORM: Final = 1
# 128 bits: whoever wants another row with the same hash must try 2^127 of them, and one who also wrote the
# first row 2^64. A whole digest would double what seals take.
LEAF_BYTES: Final = 16
IDENTITY: Final = (
    "kafka_cluster_id", "kafka_topic_id", "kafka_topic", "kafka_partition", "kafka_offset", "message_index",
)  # fmt: skip
# Column and type of each form; never edited, only followed by another.
FORMS: Final[dict[int, tuple[tuple[str, str], ...]]] = {
    1: (
        ("tenant_id", "String"), ("kind", "String"), ("time", "DateTime64(3)"), ("event_id", "String"),
        ("service", "String"), ("user_id", "String"), ("source_ip", "String"), ("user_agent", "String"),
        ("session_id", "String"), ("trace_id", "String"), ("token_id", "String"),
        ("token_tenant_id", "String"), ("outcome", "String"), ("reason", "String"), ("attributes", "String"),
        ("action", "String"), ("auth_method", "String"), ("permission", "String"),
        ("resource_type", "String"), ("resource_id", "String"), ("resource_tenant_id", "String"),
        ("record_count", "Nullable(Int64)"), ("http_method", "String"), ("http_route", "String"),
        ("http_path", "String"), ("http_status", "Nullable(UInt16)"), ("duration_ms", "Nullable(Float64)"),
        ("bytes_in", "Nullable(Int64)"), ("bytes_out", "Nullable(Int64)"), ("api_key_id", "String"),
        ("organization_id", "String"), ("tier", "String"), ("region", "String"), ("tenant_status", "String"),
        ("tenant_version", "Int64"), ("ingest_time", "DateTime64(3)"), ("flags", "UInt8"),
        ("tuning_version", "Int64"),
    )
}  # fmt: skip
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def leaf_sql(form: int) -> str:
    """Return the SQL expression of a row's hash in a form."""
    columns = ", ".join(name for name, _ in FORMS[form])
    return (
        f"toFixedString(substring(SHA256(formatRow('RowBinary', {columns})), 1, {LEAF_BYTES}), {LEAF_BYTES})"
    )


def columns(form: int) -> list[str]:
    """Return every column that an exported row has: the form's, and where the row was in Kafka."""
    return [*(name for name, _ in FORMS[form]), *IDENTITY]


def _time(value: str) -> bytes:
    return struct.pack("<q", (datetime.fromisoformat(value) - _EPOCH) // _MS)


_NUMBERS: Final = {"Int64": "<q", "UInt16": "<H", "UInt8": "<B", "Float64": "<d"}


def _encoder(kind: str) -> Callable[[Any], bytes]:
    if kind.startswith("Nullable("):
        inner = _encoder(kind.removeprefix("Nullable(").removesuffix(")"))
        return lambda value: b"\x01" if value is None else b"\x00" + inner(value)
    if kind == "String":
        return text_bytes
    if kind == "DateTime64(3)":
        return _time
    return struct.Struct(_NUMBERS[kind]).pack


_ENCODERS: Final = {form: [(name, _encoder(kind)) for name, kind in FORMS[form]] for form in FORMS}


def leaf(row: Mapping[str, Any], form: int) -> bytes:
    """Return the hash of an exported row.

    Parameters
    ----------
    row
        Column to value; times as RFC 3339 texts, numbers that are not there None.

    Raises
    ------
    ValueError
        If a column is missing or holds what it cannot.
    """
    try:
        content = b"".join([encode(row[name]) for name, encode in _ENCODERS[form]])
    except (KeyError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(f"the row is not one of canonical form {form}: {error}") from error
    return hashlib.sha256(content).digest()[:LEAF_BYTES]
