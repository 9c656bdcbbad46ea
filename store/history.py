"""A tenant's stored events of one kind, page by page, for detectors to see again."""

from typing import Final

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
    kafka_topic_id, kafka_offset, message_index, flags, tenant_version
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
        ``kafka_topic_id``, ``kafka_offset``, ``message_index``, ``flags``, ``tenant_version``.
    """
    scope, bound = tenant.condition()
    sql = _PAGE.format(fields=", ".join(map(_field, FIELDS[kind])), scope=scope)
    wanted = {"kind": kind, "after_ms": after_ms, "until_ms": until_ms, "rows": min(rows, MAX_PAGE_ROWS)}
    return database.query_arrow(sql, {**wanted, **bound})


def _field(name: str) -> str:
    # What the conditions name must stay a column, or no index would be used.
    return name if name in AS_STORED or name == "tenant_id" else f"nullIf({name}, '') AS {name}"
