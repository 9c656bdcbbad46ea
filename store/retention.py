"""Retention: events leave the store by tenant and kind, as the tenant's settings of that moment say.

Not a TTL: that deleted freshly imported old rows within seconds, and cannot follow a changed setting.
"""

from datetime import datetime, timedelta
from typing import Final

import structlog

from schemas.event import KINDS
from schemas.tenant import DEFAULT_RETENTION_DAYS, Tenant
from store.database import Database
from store.seals.keys import Signer
from store.seals.statements import keep, state_retention

log = structlog.get_logger()

# An event is as old as the younger of its own time and its arrival, so that an import is kept for as
# long as what arrived beside it.
_AGED: Final = (
    "tenant_id = {tenant_id:String} AND kind = {kind:String} "
    "AND greatest(time, ingest_time) < {cutoff:DateTime64(3)}"
)
_CURRENT: Final = "SELECT tenant_id, body FROM tenants FINAL ORDER BY version DESC LIMIT 1 BY tenant_id"


def run_retention(database: Database, now: datetime, signer: Signer | None = None) -> int:
    """Remove what has aged out, log it in ``retention_runs``, and return how many rows went.

    Tenants that left the directory keep the settings of their last version; a tenant that never had any
    keeps its events for the default 365 days.

    Parameters
    ----------
    now
        The moment to measure ages from, aware.
    signer
        Signs what is about to be removed, so that verification can tell it from tampering; None where nothing
        is sealed.

    Raises
    ------
    StoreUnavailable
        If the store does not answer; what was removed until then is logged.
    """
    tenants = {
        row["tenant_id"]: Tenant.model_validate_json(row["body"]) if row["body"] else None
        for row in database.query(_CURRENT)
    }
    _finish_interrupted(database)
    removed = 0
    for row in database.query("SELECT DISTINCT tenant_id FROM events"):
        tenant = tenants.get(row["tenant_id"])
        for kind in KINDS:
            days = tenant.retention_days_of(kind) if tenant else DEFAULT_RETENTION_DAYS
            removed += _remove(database, row["tenant_id"], kind, days, now, signer)
    database.insert_rows("retention_finished", [{"run_at": now}])
    log.info("retention_finished", rows_removed=removed)
    return removed


def _finish_interrupted(database: Database) -> None:
    """Remove what a run that was cut short had counted already; nothing that is counted again can match."""
    rows = database.query(
        "SELECT DISTINCT tenant_id, kind, cutoff, run_at FROM retention_runs "
        "WHERE run_at NOT IN (SELECT run_at FROM retention_finished)"
    )
    for row in rows:
        bound = {name: row[name] for name in ("tenant_id", "kind", "cutoff")}
        database.command(f"DELETE FROM events WHERE {_AGED}", bound)
    database.insert_rows("retention_finished", [{"run_at": at} for at in {row["run_at"] for row in rows}])


def _remove(
    database: Database, tenant_id: str, kind: str, days: int, now: datetime, signer: Signer | None
) -> int:
    cutoff = now - timedelta(days=days)
    bound = {"tenant_id": tenant_id, "kind": kind, "cutoff": cutoff}
    groups = database.query(
        "SELECT kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition, count() AS rows_removed, "
        f"countIf(flags = 0) AS evaluated_removed FROM events WHERE {_AGED} "
        "GROUP BY kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition",
        bound,
    )
    if not groups:
        return 0
    rows = sum(int(group["rows_removed"]) for group in groups)
    if signer is not None:  # first of all: a run that a crash cut short is finished without us
        keep(database, [state_retention(tenant_id, kind, cutoff, days, rows, now, signer)])
    run = {"run_at": now, "tenant_id": tenant_id, "kind": kind, "retention_days": days, "cutoff": cutoff}
    database.insert_rows("retention_runs", [{**run, **group} for group in groups])
    database.command(f"DELETE FROM events WHERE {_AGED}", bound)
    log.info("events_expired", kind=kind, retention_days=days, rows_removed=rows)
    return rows
