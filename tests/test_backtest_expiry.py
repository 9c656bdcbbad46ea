"""Backtests leave the store with their results, as alerts do: after the tenant's longest retention."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import pytest

from schemas.event import Kind
from schemas.tenant import Tenant
from store.backtests import BacktestStatus, StoredBacktest, list_backtests, put_backtest
from store.database import Database, StoreUnavailable
from store.holds import place, release
from store.privacy import Privacy
from store.queries import TenantContext
from store.retention import run_retention
from store.vault import Vault
from tests.api_server import MASTERS

NOW: Final = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY: Final = timedelta(days=1)


@pytest.fixture
def tenant_id() -> str:
    return f"backtests-{uuid4().hex[:8]}"


def keep_for(database: Database, tenant_id: str, days: int | dict[Kind, int]) -> None:
    """Set a tenant's retention, as `tenants apply` does."""
    body = Tenant(tenant_id=tenant_id, organization_id="o", name="n", retention_days=days)
    row = {"tenant_id": tenant_id, "version": 1, "body": body.model_dump_json(), "applied_at": NOW}
    database.insert_rows("tenants", [row])


def run_one(
    database: Database, tenant_id: str, days: float, status: BacktestStatus = "finished"
) -> StoredBacktest:
    """Store a backtest that began an hour before it came to where it stands, so many days ago."""
    at = NOW - timedelta(days=days)
    found = {"alerts": [{"alert_id": "a-1", "summary": "5 failed logins"}]}
    begun = StoredBacktest(
        tenant_id, uuid4().hex, "running", {}, None, "ana", at - timedelta(hours=1), at - timedelta(hours=1)
    )
    put_backtest(database, begun)
    ended = StoredBacktest(tenant_id, begun.backtest_id, status, {}, found, "ana", begun.created_at, at)
    if status != "running":
        put_backtest(database, ended)
    return ended


def left(database: Database, tenant_id: str) -> set[str]:
    return {each.backtest_id for each in list_backtests(database, TenantContext(tenant_id), 100)}


def removed(database: Database, tenant_id: str) -> list[dict[str, Any]]:
    return database.query(
        "SELECT kind, retention_days, rows_removed FROM retention_runs WHERE tenant_id = {t:String}",
        {"t": tenant_id},
    )


def test_a_backtest_is_kept_as_long_as_the_events_that_are_kept_longest(
    each_store: Database, tenant_id: str
) -> None:
    """Since it finished, or since it began where it never did; what went is in the account and the report."""
    keep_for(each_store, tenant_id, {"auth": 30, "access": 90, "request": 7})
    run_one(each_store, tenant_id, 91)
    run_one(each_store, tenant_id, 91, "running")
    kept = {run_one(each_store, tenant_id, days).backtest_id for days in (89, 90 - 1 / 48)}
    default = f"{tenant_id}-b"
    young = run_one(each_store, default, 364)
    run_one(each_store, default, 366)
    run_retention(each_store, NOW)
    assert left(each_store, tenant_id) == kept
    assert left(each_store, default) == {young.backtest_id}, "without settings, a year"
    assert removed(each_store, tenant_id) == [{"kind": "backtest", "retention_days": 90, "rows_removed": 2}]
    rights = Privacy(each_store, Vault(each_store, MASTERS))
    [aged] = rights.report(TenantContext(tenant_id), NOW - DAY)["aged_out"]
    assert (aged["kind"], aged["rows_removed"]) == ("backtest", 2)
    assert aged["why"] == "older than 90 days, the tenant's longest setting of any kind"


@pytest.mark.parametrize("whom", ["p_" + "a" * 26, ""], ids=["a person", "the whole tenant"])
def test_while_a_tenant_has_a_legal_hold_its_backtests_stay(
    each_store: Database, tenant_id: str, whom: str
) -> None:
    """On anybody: a result may name them; after the release they go, and others' went meanwhile."""
    tenant, other = TenantContext(tenant_id), f"{tenant_id}-b"
    for each in (tenant_id, other):
        keep_for(each_store, each, 30)
        run_one(each_store, each, 40)
    hold = place(each_store, tenant, whom, actor="officer", reason="case 6", now=NOW)
    run_retention(each_store, NOW)
    assert (len(left(each_store, tenant_id)), len(left(each_store, other))) == (1, 0)
    release(each_store, tenant, [hold.hold_id], actor="officer", now=NOW)
    run_retention(each_store, NOW + DAY)
    assert left(each_store, tenant_id) == set()


def test_a_run_that_was_cut_short_is_finished_and_counted_once(
    database: Database, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had written what it would remove, and a crash came before that was gone."""
    keep_for(database, tenant_id, 30)
    run_retention(database, NOW - 11 * DAY)  # what other tests left
    run_one(database, tenant_id, 40)

    def crash(sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        raise StoreUnavailable("the process was killed")

    monkeypatch.setattr(database, "command", crash)
    with pytest.raises(StoreUnavailable):
        run_retention(database, NOW + timedelta(hours=9))
    monkeypatch.undo()
    assert len(left(database, tenant_id)) == 1
    run_retention(database, NOW + DAY)
    assert left(database, tenant_id) == set()
    assert removed(database, tenant_id) == [{"kind": "backtest", "retention_days": 30, "rows_removed": 1}]
