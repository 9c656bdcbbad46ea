"""What the store takes at once, engine or server: blocks of many months, lists of many ids."""

from datetime import UTC, datetime

from store.database import Database
from store.writer import EventWriter
from tests.stored import IDS, alert_at


def test_alerts_of_many_months_are_stored_together(each_store: Database) -> None:
    """An imported log of years raises them; one tenant's must not keep everybody's out of the store."""
    times = [datetime(1990 + month // 12, month % 12 + 1, 5, tzinfo=UTC) for month in range(130)]
    EventWriter(each_store, IDS, "worker").insert_alerts([alert_at("old-logs", time) for time in times])
    found = each_store.query(
        "SELECT detected_at FROM alerts FINAL WHERE tenant_id = 'old-logs' ORDER BY detected_at"
    )
    assert [row["detected_at"] for row in found] == times
