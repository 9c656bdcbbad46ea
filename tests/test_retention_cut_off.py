"""A retention run that is cut off: what the next one removes and states, as `verify` sees it."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from random import randrange
from typing import Any

import pytest

from schemas.tenant import Tenant
from store.database import Database, Guard, StoreUnavailable
from store.holds import WHOLE_TENANT, place, release
from store.queries import TenantContext
from store.retention import run_retention
from tests.sealed_trail import SealedTrail

# Where the store is away: at the account, at its statement, at the deletion.
STEPS = ("retention_runs", "seal_statements", "events")
OWN = "tenant_id = {tenant:String} AND kafka_cluster_id = {cluster:String}"


@pytest.fixture
def trail(each_store: Database) -> SealedTrail:
    """Fourteen sealed rows of seven users, all of them older than the tenant keeps any."""
    made = SealedTrail(each_store)
    made.store(14)
    made.seal()
    # Runs are told apart by when they began, and others in this store may have begun at that minute.
    made.now += timedelta(days=5, milliseconds=randrange(60_000))
    keep_for(made, 1)
    return made


def keep_for(trail: SealedTrail, days: int) -> None:
    body = Tenant(
        tenant_id=trail.tenant, organization_id="o", name="n", retention_days=days
    ).model_dump_json()
    row = {"tenant_id": trail.tenant, "version": days, "body": body, "applied_at": trail.now}
    trail.database.insert_rows("tenants", [row])


def forge_account(trail: SealedTrail) -> None:
    """Write that a run had counted rows and was cut off, as anybody can who can delete them."""
    forged = {"run_at": trail.now, "tenant_id": trail.tenant, "kind": "auth", "retention_days": 1,
              "cutoff": trail.now - timedelta(days=1), "rows_removed": 14}  # fmt: skip
    trail.database.insert_rows("retention_runs", [forged])


def hold(trail: SealedTrail, whom: str = "user-1") -> str:
    context = TenantContext(trail.tenant)
    return place(trail.database, context, whom, reason="", actor="officer", now=trail.now).hold_id


def run(trail: SealedTrail) -> None:
    trail.now += timedelta(hours=1)
    run_retention(trail.database, trail.now, trail.signer)


def cut_off(trail: SealedTrail, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Run it beside a store that is away from one step on, for this tenant."""
    store = trail.database
    insert_rows, command = store.insert_rows, store.command

    def insert(table: str, rows: Sequence[Mapping[str, Any]], guard: Guard | None = None) -> None:
        if table == step and any(row.get("tenant_id") == trail.tenant for row in rows):
            raise StoreUnavailable("away")
        insert_rows(table, rows, guard)

    def delete(sql: str, bound: Mapping[str, Any] | None = None) -> None:
        if sql.startswith(f"DELETE FROM {step} ") and (bound or {}).get("tenant_id") == trail.tenant:
            raise StoreUnavailable("away")
        command(sql, bound)

    with monkeypatch.context() as away:
        away.setattr(store, "insert_rows", insert)
        away.setattr(store, "command", delete)
        with pytest.raises(StoreUnavailable):
            run(trail)


def stated(trail: SealedTrail) -> list[int]:
    found = trail.database.query(
        "SELECT body FROM seal_statements WHERE tenant_id = {tenant:String} ORDER BY stated_at",
        {"tenant": trail.tenant},
    )
    return [json.loads(row["body"])["content"]["rows"] for row in found]


@pytest.mark.parametrize("step", STEPS)
def test_what_is_removed_is_stated_once(
    trail: SealedTrail, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Stated twice, as many rows on hold could be deleted by hand unseen."""
    hold(trail)
    cut_off(trail, monkeypatch, step)
    run(trail)
    assert (stated(trail), trail.kinds()) == ([12], [("expired", 12)])
    run(trail)
    trail.alter(f"DELETE FROM events WHERE {OWN} AND user_id = 'user-1'")
    assert (stated(trail), trail.kinds()) == ([12], [("expired", 14), ("removed", 2)])


@pytest.mark.parametrize("step", STEPS)
def test_a_hold_that_was_released_since_excuses_what_went_after_it(
    trail: SealedTrail, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """The account of the run that was cut off does not count its rows: they are counted and stated anew."""
    held = hold(trail)
    cut_off(trail, monkeypatch, step)
    release(trail.database, TenantContext(trail.tenant), [held], actor="officer", now=trail.now)
    run(trail)
    assert (sum(stated(trail)), trail.count(), trail.kinds()) == (14, 0, [("expired", 14)])
    assert trail.verify().holds


@pytest.mark.parametrize(("whom", "kept"), [("user-1", 2), (WHOLE_TENANT, 14)])
@pytest.mark.parametrize("steps", [STEPS[1:2], STEPS[2:], (STEPS[2], STEPS[1])], ids=" ".join)
def test_rows_that_came_on_hold_since_are_missed_when_somebody_deletes_them(
    trail: SealedTrail, monkeypatch: pytest.MonkeyPatch, steps: Sequence[str], whom: str, kept: int
) -> None:
    """They were stated as removed, and stay: that is taken back, also when taking it back was cut off."""
    cut_off(trail, monkeypatch, steps[0])
    hold(trail, whom)
    for step in steps[1:]:
        cut_off(trail, monkeypatch, step)
    run(trail)
    run(trail)
    assert (sum(stated(trail)), trail.count()) == (14 - kept, kept)
    trail.alter(f"DELETE FROM events WHERE {OWN}")
    assert ("removed", kept) in trail.kinds()


def test_what_a_forged_account_counts_is_not_stated(trail: SealedTrail) -> None:
    """But what is there and removed."""
    forge_account(trail)
    trail.alter(f"DELETE FROM events WHERE {OWN} AND user_id = 'user-1'")
    run(trail)
    assert (sum(stated(trail)), trail.kinds()) == (12, [("expired", 14), ("removed", 2)])


def test_a_forged_account_of_what_the_tenant_keeps_is_not_stated(trail: SealedTrail) -> None:
    """The worker would else sign what it was made to delete."""
    keep_for(trail, 30)
    forge_account(trail)
    run(trail)
    assert (stated(trail), trail.kinds()) == ([], [("removed", 14)])
