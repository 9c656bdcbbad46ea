"""A tenant's stored events read back: for detectors to see again, and to see what is usual."""

import json
from collections.abc import Sequence
from typing import Any, Final

from schemas.batch import FIELDS
from schemas.event import Kind
from store.database import Database
from store.queries import TenantContext
from store.tail import AS_STORED

MAX_PAGE_ROWS: Final = 50_000
# A page ends where a millisecond does, so the next one begins after it. A row that is there twice, which
# reconciliation has yet to find, is one event.
_PAGE: Final = """
SELECT {fields}, toUnixTimestamp64Milli(time) AS time_ms,
    toUnixTimestamp64Milli(ingest_time) AS ingest_time_ms,
    kafka_topic_id, kafka_offset, message_index, flags, tenant_version, tuning_version
FROM events
WHERE {scope} AND kind = {{kind:String}} AND time > fromUnixTimestamp64Milli({{after_ms:Int64}}, 'UTC')
    AND time < fromUnixTimestamp64Milli({{until_ms:Int64}}, 'UTC')
ORDER BY time
LIMIT 1 BY time, kafka_topic_id, kafka_offset, message_index
LIMIT {{rows:UInt32}} WITH TIES
"""


def page(
    database: Database, tenant: TenantContext, kind: Kind, after_ms: int, until_ms: int, rows: int
) -> bytes:
    """Return the first events after a time, as an Arrow stream.

    Parameters
    ----------
    after_ms, until_ms
        Event times between which they lie, milliseconds since 1970, neither included.
    rows
        How many, up to 50,000, and the others of the last one's millisecond. Fewer: there are no more.

    Returns
    -------
    bytes
        Columns: `FIELDS` of the kind, null where an event has no value, ``time_ms``, ``ingest_time_ms``,
        ``kafka_topic_id``, ``kafka_offset``, ``message_index``, ``flags``, ``tenant_version``,
        ``tuning_version``.
    """
    scope, bound = tenant.condition()
    sql = _PAGE.format(fields=", ".join(map(_field, FIELDS[kind])), scope=scope)
    wanted = {"kind": kind, "after_ms": after_ms, "until_ms": until_ms, "rows": min(rows, MAX_PAGE_ROWS)}
    return database.query_arrow(sql, {**wanted, **bound})


def _field(name: str) -> str:
    # What the conditions name must stay a column, or no index would be used.
    return name if name in AS_STORED or name == "tenant_id" else f"nullIf({name}, '') AS {name}"


def versions(database: Database, tenant: TenantContext) -> dict[int, dict[str, Any]]:
    """Return every version of a tenant's settings that is stored."""
    scope, bound = tenant.condition()
    rows = database.query(
        f"SELECT version, body FROM tenants FINAL WHERE {scope} AND NOT deleted ORDER BY version", bound
    )
    return {int(row["version"]): json.loads(row["body"]) for row in rows}


def events(
    database: Database, tenant: TenantContext, kind: Kind, event_ids: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the events that have one of some ids, by time: what each has a value for."""
    scope, bound = tenant.condition()
    rows = database.query(
        f"SELECT time, {', '.join(FIELDS[kind])} FROM events "
        f"WHERE {scope} AND kind = {{kind:String}} AND event_id IN {{event_ids:Array(String)}} "
        "ORDER BY time, kafka_offset, message_index LIMIT 1 BY event_id",
        {"kind": kind, "event_ids": list(event_ids), **bound},
    )
    return [{name: value for name, value in row.items() if value not in ("", None)} for row in rows]


def spans(
    database: Database,
    tenant: TenantContext,
    kind: Kind,
    starts_ms: Sequence[int],
    length_ms: int,
    field: str | None = None,
    value: str = "",
) -> list[dict[str, int]]:
    """Return how many events there were in spans of time, and how many of them failed.

    Parameters
    ----------
    starts_ms, length_ms
        ``(m,)`` when the spans begin, ascending and apart, and how long each of them is.
    field, value
        A field of the contract: events that have the value are counted besides, as ``of_entity``.
    """
    if field is not None and field not in FIELDS[kind]:
        raise ValueError(f"{kind} events have no {field}")
    scope, bound = tenant.condition()
    ranges = " OR ".join(
        f"time >= fromUnixTimestamp64Milli({{start_{i}:Int64}}, 'UTC') "
        f"AND time < fromUnixTimestamp64Milli({{start_{i}:Int64}} + {{length_ms:Int64}}, 'UTC')"
        for i in range(len(starts_ms))
    )
    rows = database.query(
        "SELECT arrayFirst(start_ms -> toUnixTimestamp64Milli(time) < start_ms + {length_ms:Int64}, "
        "{starts_ms:Array(Int64)}) AS of_span, count() AS events, countIf(outcome = 'failure') AS failures, "
        f"countIf({field or 'tenant_id'} IN {{private_value:Array(String)}}) AS of_entity "
        f"FROM events WHERE {scope} AND kind = {{kind:String}} AND ({ranges}) GROUP BY of_span",
        {
            "kind": kind,
            "starts_ms": list(starts_ms),
            "length_ms": length_ms,
            "private_value": [value],
            **{f"start_{i}": start_ms for i, start_ms in enumerate(starts_ms)},
            **bound,
        },
    )
    found = {int(row.pop("of_span")): row for row in rows}
    nothing = dict.fromkeys(("events", "failures", "of_entity"), 0)
    return [{"start_ms": start_ms, **found.get(start_ms, nothing)} for start_ms in starts_ms]
