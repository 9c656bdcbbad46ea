"""Backtests that were asked for, and what came of them."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from store.database import Database
from store.expiry import BEFORE, Named, bound_cutoffs, delete_named
from store.parts import in_parts
from store.queries import TenantContext

BacktestStatus = Literal["running", "finished", "failed"]
# Among the kinds of what retention removes.
BACKTEST: Final = "backtest"
# One that never finished, because its process was killed, is as old as its beginning.
_AGE: Final = "max(changed_at)"
OLDEST_BACKTESTS: Final = (
    "SELECT tenant_id, min(age) AS oldest FROM "
    f"(SELECT tenant_id, {_AGE} AS age FROM backtests GROUP BY tenant_id, backtest_id) "
    "GROUP BY tenant_id ORDER BY tenant_id"
)
_AGED: Final = (
    "SELECT tenant_id, backtest_id FROM backtests WHERE tenant_id IN {tenant_ids:Array(String)} "
    f"GROUP BY tenant_id, backtest_id HAVING {BEFORE.format(age=_AGE)} ORDER BY tenant_id, backtest_id"
)


@dataclass(frozen=True)
class StoredBacktest:
    """A backtest as it stands.

    Parameters
    ----------
    request, result
        What was asked for; what was found, or ``{"error": …}``; None while it runs.
    """

    tenant_id: str
    backtest_id: str
    status: BacktestStatus
    request: dict[str, Any]
    result: dict[str, Any] | None
    requested_by: str
    created_at: datetime
    changed_at: datetime


def put_backtest(database: Database, backtest: StoredBacktest) -> None:
    """Write a backtest, in place of what it was before."""
    row = {name: getattr(backtest, name) for name in backtest.__dataclass_fields__}
    row["request"] = json.dumps(backtest.request)
    row["result"] = json.dumps(backtest.result) if backtest.result is not None else ""
    database.insert_rows("backtests", [row])


def find_backtest(database: Database, tenant: TenantContext, backtest_id: str) -> StoredBacktest | None:
    """Return a tenant's backtest; None if there is none."""
    where, bound = tenant.condition()
    rows = database.query(
        f"SELECT * FROM backtests FINAL WHERE {where} AND backtest_id = {{id:String}}",
        {**bound, "id": backtest_id},
    )
    return _backtest(rows[0]) if rows else None


def list_backtests(database: Database, tenant: TenantContext, limit: int) -> list[StoredBacktest]:
    """Return a tenant's backtests without their results, the latest first."""
    where, bound = tenant.condition()
    rows = database.query(
        f"SELECT * EXCEPT (result), '' AS result FROM backtests FINAL WHERE {where} "
        "ORDER BY created_at DESC, backtest_id LIMIT {limit:UInt32}",
        {**bound, "limit": limit},
    )
    return [_backtest(row) for row in rows]


def aged_backtests(
    database: Database, cutoffs: Mapping[str, datetime], held: Mapping[str, Collection[str]]
) -> list[Named]:
    """Return the backtests that are older than their tenant's moment, but for tenants with people on hold.

    All of these stay: a result may name anybody, and nobody waits for it to go.
    """
    free = [tenant_id for tenant_id in cutoffs if not held.get(tenant_id)]
    return [
        (row["tenant_id"], row["backtest_id"])
        for part in in_parts(free)
        for row in database.query(_AGED, bound_cutoffs(part, cutoffs))
    ]


def delete_backtests(database: Database, backtests: Sequence[Named]) -> None:
    """Delete backtests with their results."""
    delete_named(database, "backtests", "backtest_id", backtests)


def _backtest(row: dict[str, Any]) -> StoredBacktest:
    result = json.loads(row["result"]) if row["result"] else None
    return StoredBacktest(**{**row, "request": json.loads(row["request"]), "result": result})
