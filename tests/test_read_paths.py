"""What makes reads fast: indexes are used, rows of before are covered, and answers stay the same."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import pytest

import store.migrations
from schemas.tenant import RATE_WINDOW_S
from store.alert_search import AlertSearch, search_alerts
from store.database import Database
from store.migrations import migrate, migrations
from store.queries import TenantContext
from store.search import EventSearch, search
from tests.clickhouse_server import ClickHouseServer
from tests.conftest import eventually
from tests.stored import store_alert

MIGRATION = "0006_read_paths.sql"
NOW = datetime(2032, 1, 1, 12, tzinfo=UTC)
INDEXED = ("time", "kafka_offset", "event_id", "trace_id", "user_id", "source_ip")


def _events(tenant_id: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": tenant_id,
            "kind": "request",
            "time": NOW - timedelta(minutes=n),
            "event_id": f"event-{n}",
            "trace_id": f"trace-{n}",
            "user_id": f"user-{n}" if n else "",
            "source_ip": f"192.0.2.{n}",
            "ingest_time": NOW,
            "kafka_offset": 1_000 + n,
        }
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def tenant(database: Database) -> Iterator[str]:
    """A tenant with a few events in the shared engine."""
    database.insert_rows("events", _events("paths-a", 30))
    yield "paths-a"
    database.command("DELETE FROM events WHERE tenant_id = 'paths-a'")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("time", "'2000-01-01'"),
        ("kafka_offset", "9000000"),
        ("event_id", "'none'"),
        ("trace_id", "'none'"),
        ("user_id", "'none'"),
        ("source_ip", "'198.51.100.1'"),
    ],
)
def test_a_search_skips_what_cannot_hold_the_value(
    database: Database, tenant: str, column: str, value: str
) -> None:
    """Each column that is searched across tenants has its index, and the engine uses it."""
    sql = f"SELECT count() FROM events WHERE {column} = {value} SETTINGS use_statistics = 0"
    plan = "\n".join(row["explain"] for row in database.query(f"EXPLAIN indexes = 1 {sql}"))
    assert f"Name: events_{column}\n" in plan


def test_an_indexed_value_is_found(database: Database, tenant: str) -> None:
    """The indexes lose nothing."""
    for column, value in (("event_id", "event-7"), ("user_id", "user-7"), ("source_ip", "192.0.2.7")):
        rows = database.query(
            f"SELECT event_id FROM events WHERE tenant_id = 'paths-a' AND {column} = {{value:String}}",
            {"value": value},
        )
        assert rows == [{"event_id": "event-7"}]


def _windows(database: Database) -> list[dict[str, Any]]:
    return database.query(
        "SELECT user_id, bitShiftRight(user_window, 32) AS user, bitAnd(user_window, 0xffffffff) AS window, "
        "toUnixTimestamp(time) AS at FROM events WHERE tenant_id = 'paths-a' ORDER BY time DESC"
    )


def test_a_user_window_is_the_user_and_the_window_of_rate_limits(database: Database, tenant: str) -> None:
    """It follows the window that limits are given for, and tells users apart; anonymous events have none."""
    anonymous, *rows = _windows(database)
    assert (anonymous["user"], anonymous["window"]) == (0, 0)
    assert [row["window"] for row in rows] == [row["at"] // RATE_WINDOW_S for row in rows]
    assert len({row["user"] for row in rows}) == len(rows)


def test_events_stored_before_the_migration_are_covered_by_it(tmp_path: Path) -> None:
    """On a server: indexes and the new column are made for the rows that are there, in the background."""
    server = ClickHouseServer(tmp_path / "clickhouse")
    server.start()
    database = Database.server(server.url)
    before = [each for each in migrations() if each[1] < MIGRATION]
    with patch.object(store.migrations, "migrations", lambda: before):
        migrate(database)
    database.insert_rows("events", _events("paths-a", 30))
    assert MIGRATION in migrate(database)
    eventually(
        lambda: database.query(
            "SELECT 1 FROM system.mutations HAVING countIf(NOT is_done) = 0 AND count() > 0"
        )
    )
    indexes = database.query("SELECT name, data_compressed_bytes AS n FROM system.data_skipping_indices")
    assert {row["name"] for row in indexes if row["n"]} == {f"events_{column}" for column in INDEXED}
    stored = database.query(
        "SELECT rows FROM system.parts_columns WHERE active AND table = 'events' AND column = 'user_window'"
    )
    assert stored == [{"rows": 30}]
    assert len({row["user"] for row in _windows(database)}) == 30
    database.close()
    server.stop()


def _publish(
    database: Database, alert_id: str, revision: int, status: Literal["open", "updated"], published_s: int
) -> None:
    store_alert(
        database, "paths-alerts", alert_id=alert_id, revision=revision, status=status, detected_at=NOW,
        published_at=NOW + timedelta(seconds=published_s),
    )  # fmt: skip


def test_an_alert_whose_revision_was_published_again_is_returned_once(database: Database) -> None:
    """Also while the engine has not merged the two; the latest one holds."""
    for published_s in (5, 9, 7):
        _publish(database, "again", 2, "updated", published_s)
    _publish(database, "again", 1, "open", 20)
    _publish(database, "other", 1, "open", 1)

    def found(rows: int = 10, **wanted: Any) -> list[tuple[str, int, str]]:
        page = search_alerts(database, TenantContext("paths-alerts"), AlertSearch(**wanted), rows)
        return [(each["alert_id"], each["revision"], each["published_at"][17:19]) for each in page.alerts]

    assert found() == [("again", 2, "09"), ("other", 1, "01")]
    # Its newest revision is not `open`, and was published before the older one.
    assert found(published_after=NOW + timedelta(seconds=9)) == []
    assert found(published_after=NOW + timedelta(seconds=8)) == [("again", 2, "09")]
    assert found(rows=1) == [("again", 2, "09")]


@pytest.mark.parametrize("rows", [1, 3, 100])
@pytest.mark.parametrize("newest_first", [True, False])
def test_an_event_that_is_stored_twice_is_on_one_page_once(
    database: Database, newest_first: bool, rows: int
) -> None:
    """Until reconciliation has found its second row; and none behind it is lost."""
    tenant_id = f"paths-doubled-{newest_first}-{rows}"
    events = _events(tenant_id, 7)
    for stored in (events, events[::2]):
        database.insert_rows("events", stored)
    found: list[str] = []
    page, wanted = None, EventSearch(newest_first=newest_first)
    while page is None or page.next is not None:
        after = None if page is None else page.next
        page = search(database, TenantContext(tenant_id), wanted, rows, after)
        found += [event["event_id"] for event in page.events]
    expected = [event["event_id"] for event in events]
    assert found == (expected if newest_first else expected[::-1])


def test_a_page_reads_the_columns_of_its_own_rows_only(database: Database, tenant: str) -> None:
    """Where each part's first rows were read whole, a page took seconds of a large tenant's."""
    with patch.object(database, "query", wraps=database.query) as asked:
        search(database, TenantContext(tenant), EventSearch(), 5)
    sql, bound = asked.call_args.args
    plan = database.query(f"EXPLAIN {sql}", bound)
    assert any("LazilyRead" in line for row in plan for line in row.values())
