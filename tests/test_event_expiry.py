"""Events leave the store by their age, between those of people on hold."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from schemas.alert import rfc3339
from store.database import Database
from store.event_expiry import AgedEvents
from tests.schema_examples import event
from tests.stored import store_events

OLD = datetime.now(UTC) - timedelta(days=400)


def store(database: Database, tenant_id: str, at: datetime, people: str) -> None:
    """Store an event of each of some people."""
    events = (
        event("auth", tenant_id=tenant_id, event_id=f"e-{n}", user_id=who, time=rfc3339(at))
        for n, who in enumerate(people)
    )
    store_events(database, *events, ingest_time=at)


def expire(database: Database, tenant_id: str, cutoff: datetime) -> int:
    """Delete the events before a moment, but for those of H, and return how many were counted."""
    aged = AgedEvents(database, tenant_id, "auth", cutoff, ["H"])
    counted = sum(group["rows_removed"] for group in aged.groups())
    aged.delete()
    return int(counted)


def whose(database: Database, tenant_id: str) -> str:
    """Return whose events there are, in their order."""
    sql = "SELECT user_id FROM events WHERE tenant_id = {t:String} ORDER BY kafka_offset"
    return "".join(row["user_id"] for row in database.query(sql, {"t": tenant_id}))


@pytest.mark.parametrize("people", ["xxHxHHxHHHxxHx", "HHHH", "xxxx", "HHHHHHx", "xHHHHHH", "xHHHHHHHHx"])
def test_whatever_lies_between_goes_and_they_stay(
    each_store: Database, monkeypatch: pytest.MonkeyPatch, people: str
) -> None:
    """Also where they are more than one statement names."""
    monkeypatch.setattr("store.parts.PART_BYTES", 70)  # three of them
    tenant_id = f"tenant-{uuid4().hex[:8]}"
    store(each_store, tenant_id, OLD, people)
    store(each_store, tenant_id, datetime.now(UTC), "xHx")
    counted = expire(each_store, tenant_id, OLD + timedelta(days=1))
    kept = people.replace("x", "")
    assert (counted, whose(each_store, tenant_id)) == (len(people) - len(kept), f"{kept}xHx")


def test_what_earlier_runs_left_is_not_named_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years of them would be many statements every day."""
    tenant_id = f"tenant-{uuid4().hex[:8]}"
    store(database, tenant_id, OLD, "xHHHHx")
    store(database, tenant_id, OLD + timedelta(days=1), "HxHHx")
    named = []
    command = database.command

    def recorded(sql: str, bound: Mapping[str, Any]) -> None:
        named.append(len(bound["kept"]))
        command(sql, bound)

    monkeypatch.setattr(database, "command", recorded)
    for days in (0, 1, 2):
        expire(database, tenant_id, OLD + timedelta(days=days, hours=1))
    assert (sum(named), whose(database, tenant_id)) == (4 + 2, "HHHHHHH")
