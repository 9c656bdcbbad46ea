"""Nine kinds of tampering in a large store, made directly in ClickHouse: which of them does ``verify`` name?

Each is made once, with the rows or seals of another of the largest tenants, and the whole store is verified
after each. Seals must be there, one round of them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from store.database import Database
from store.seals.findings import Finding
from store.seals.keys import Trust
from store.seals.trail import StoredTrail
from store.seals.verification import Verification

# Seals a partition once more, as a worker would that knows of no seal.
SealAgain = Callable[[int], object]
_ONE: Final = "(kafka_offset, message_index) = ({offset:Int64}, {index:UInt16})"
_ROW: Final = (
    "tenant_id = {tenant:String} AND kafka_topic = {topic:String} AND kafka_partition = {partition:Int32} "
    f"AND {_ONE}"
)
_BOTH: Final = "tenant_id = {tenant:String} AND event_id IN ({event_id:String}, {other_id:String})"
_COPIED: Final = "INSERT INTO events SELECT * {changes} FROM (SELECT * FROM events WHERE " + _ROW + ")"
_SWAPPED: Final = (
    "if(event_id = {event_id:String}, {other_offset:Int64}, {offset:Int64}) AS kafka_offset, "
    "if(event_id = {event_id:String}, {other_index:UInt16}, {index:UInt16}) AS message_index"
)
# Statements, by the kind that they must be found as. They are about the tenant's row at `offset` and `index`;
# it changes places with another one.
STATEMENTS: Final[dict[str, tuple[str, ...]]] = {
    "altered": (
        f"ALTER TABLE events UPDATE outcome = if(outcome = 'failure', 'success', 'failure') WHERE {_ROW}",
    ),
    "removed": (f"DELETE FROM events WHERE {_ROW}",),
    "inserted": (
        _COPIED.replace("{changes}", "REPLACE ('forged' AS event_id, message_index + 500 AS message_index)"),
    ),
    "reordered": (
        f"INSERT INTO events SELECT * REPLACE ({_SWAPPED}) FROM events WHERE {_BOTH}",
        f"DELETE FROM events WHERE {_BOTH} AND (event_id = {{event_id:String}}) = ({_ONE})",
    ),
    "duplicated": (_COPIED.replace("{changes}", ""),),
    "seal_missing": ("DELETE FROM seals WHERE tenant_id = {tenant:String} AND sequence = 1",),
    "seal_broken": (
        "ALTER TABLE seals UPDATE contents = reverse(contents) WHERE tenant_id = {tenant:String}",
    ),
    "bad_signature": (
        "ALTER TABLE seals UPDATE body = replaceOne(body, '\"rows\":', '\"rows\":1') "
        "WHERE tenant_id = {tenant:String}",
    ),
    # Last: it is about every tenant of a partition.
    "forked": (),
}
_VICTIMS: Final = (
    "SELECT tenant_id, kafka_topic, kafka_partition, "
    "groupArraySorted(2)((kafka_offset, message_index, event_id)) AS rows "
    "FROM events WHERE kind = 'request' GROUP BY tenant_id, kafka_topic, kafka_partition "
    "ORDER BY count() DESC, tenant_id LIMIT {count:UInt32}"
)


@dataclass(frozen=True, slots=True)
class Tampering:
    """One kind, and what was found after it.

    Parameters
    ----------
    tenant_id, offset, index
        Whose row, or whose seal, and which row.
    findings
        Of that tenant.
    verify_s
        What it took to verify the whole store.
    """

    kind: str
    tenant_id: str
    offset: int
    index: int
    findings: list[Finding]
    verify_s: float

    @property
    def named(self) -> bool:
        """Whether it was found as what it is."""
        return any(finding.kind == self.kind for finding in self.findings)


def tamper(database: Database, trust: Trust, seal_again: SealAgain) -> list[Tampering]:
    """Tamper with a store in every way, one after the other, and verify it after each."""
    victims = database.query(_VICTIMS, {"count": len(STATEMENTS)})
    found = []
    for (kind, statements), victim in zip(STATEMENTS.items(), victims, strict=True):
        bound = _bound(victim)
        for sql in statements:
            settings = " SETTINGS mutations_sync = 2" if sql.startswith("ALTER") else ""
            database.command(sql + settings, bound)
        if kind == "forked":
            seal_again(victim["kafka_partition"])
        started = time.perf_counter()
        verdict = Verification(StoredTrail(database), trust).run()
        seconds = round(time.perf_counter() - started, 2)
        of_tenant = [f for f in verdict.findings if f.tenant_id == victim["tenant_id"]]
        found.append(
            Tampering(kind, victim["tenant_id"], bound["offset"], bound["index"], of_tenant, seconds)
        )
    return found


def _bound(victim: dict[str, Any]) -> dict[str, Any]:
    (offset, index, event_id), (other_offset, other_index, other_id) = victim["rows"]
    return {
        "tenant": victim["tenant_id"], "topic": victim["kafka_topic"],
        "partition": victim["kafka_partition"], "offset": offset, "index": index, "event_id": event_id,
        "other_offset": other_offset, "other_index": other_index, "other_id": other_id,
    }  # fmt: skip
