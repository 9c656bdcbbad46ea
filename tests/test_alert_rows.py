"""Alerts that the store does not take are waited for, and whoever looks sees for how long."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from store.database import Database
from store.migrations import migrate
from store.webhooks import WebhookStore
from store.writer import EventWriter
from streams.alert_rows import AlertRows
from streams.webhooks.delivery import WebhookDelivery
from tests.clickhouse_server import ClickHouseServer
from tests.stored import IDS, alert_at
from tests.webhook_receiver import until


@pytest.mark.thorough
async def test_alerts_wait_for_a_store_that_is_away_and_say_so(tmp_path: Path) -> None:
    """They are stored once it is back, and nothing waits any more."""
    server = ClickHouseServer(tmp_path)
    server.start()
    database = Database.server(server.url)
    try:
        migrate(database)
        webhooks = WebhookDelivery(WebhookStore(database))
        await webhooks.start()
        rows = AlertRows(EventWriter(database, IDS), webhooks)
        assert rows.waiting_s == 0
        server.kill()
        taking = asyncio.create_task(rows.take([(alert_at("tenant-a", datetime.now(UTC)), 0)]))
        await until(lambda: rows.waiting_s > 1)
        assert not taking.done()
        await asyncio.to_thread(server.start)
        await taking
        assert rows.waiting_s == 0
        assert database.query("SELECT count() AS n FROM alerts")[0]["n"] == 1
        await webhooks.stop()
    finally:
        database.close()
        server.stop()
