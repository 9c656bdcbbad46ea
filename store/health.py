"""What `tenantwatch doctor` asks the store: the platform operator's view of the last day."""

from datetime import UTC, datetime
from typing import Any, Final

from schemas.batch import FLAGS
from store.database import Database
from store.migrations import migrations
from store.seals.health import seals_health

DAY: Final = "INTERVAL 1 DAY"
SHOWN: Final = 10


def _flagged(name: str) -> str:
    return f"bitAnd(flags, {FLAGS[name]}) != 0"


_MISPLACED: Final = _flagged("wrong_partition")


def health(database: Database) -> dict[str, Any]:
    """Return numbers about the last day, by the store's own clock.

    Returns
    -------
    dict
        ``now`` and ``version`` of the store, and ``asked_at`` of this process; ``pending_migrations``;
        ``tenants`` in the directory; ``events``, ``late`` and ``future`` ones; ``misplaced`` producers;
        ``dead_letters`` by reason; ``webhooks``; ``seals``; ``reader_is_open`` (`Database.reader_is_open`).
    """
    asked_at = datetime.now(UTC)
    [clock] = database.query("SELECT now64(3, 'UTC') AS now, version() AS version")
    applied = {row["name"] for row in database.query("SELECT name FROM schema_migrations FINAL")}
    [events] = database.query(
        f"SELECT count() AS events, countIf({_flagged('late')}) AS late, "
        f"countIf({_flagged('future')}) AS future, countIf({_MISPLACED}) AS misplaced "
        f"FROM events WHERE ingest_time > now() - {DAY}"
    )
    [tenants] = database.query(
        "SELECT countIf(deleted = 0) AS tenants FROM "
        "(SELECT deleted FROM tenants FINAL ORDER BY version DESC LIMIT 1 BY tenant_id)"
    )
    return {
        **clock,
        **events,
        **tenants,
        "asked_at": asked_at,
        "reader_is_open": database.reader_is_open(),
        "pending_migrations": [name for _, name, _ in migrations() if name not in applied],
        "misplaced_by": _misplaced(database) if events["misplaced"] else [],
        "dead_letters": database.query(
            "SELECT reason, count() AS messages, any(detail) AS example FROM dead_letters FINAL "
            f"WHERE rejected_at > now() - {DAY} GROUP BY reason ORDER BY messages DESC"
        ),
        "webhooks": _webhooks(database),
        "seals": seals_health(database),
    }


def _misplaced(database: Database) -> list[dict[str, Any]]:
    return database.query(
        "SELECT tenant_id, service, count() AS events FROM events "
        f"WHERE ingest_time > now() - {DAY} AND {_MISPLACED} "
        f"GROUP BY tenant_id, service ORDER BY events DESC LIMIT {SHOWN}"
    )


def _webhooks(database: Database) -> dict[str, Any]:
    endpoints = database.query(
        "SELECT endpoint_id, status, status_reason FROM webhook_endpoints FINAL WHERE status != 'deleted'"
    )
    [deliveries] = database.query(
        f"SELECT countIf(status = 'pending') AS pending, "
        f"countIf(status = 'pending' AND created_at < now() - INTERVAL 1 HOUR) AS overdue, "
        f"countIf(status = 'failed' AND created_at > now() - {DAY}) AS failed FROM webhook_deliveries FINAL"
    )
    disabled = [endpoint for endpoint in endpoints if endpoint["status"] == "disabled"]
    return {"endpoints": len(endpoints), "disabled": disabled[:SHOWN], **deliveries}
