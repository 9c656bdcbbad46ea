"""Legal holds whose placing and release were told by clocks that differ."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from store.database import Database
from store.holds import active, check_free, place, release
from store.queries import TenantContext


@pytest.mark.parametrize("behind", [timedelta(0), timedelta(hours=1)], ids=["no time", "an hour"])
def test_a_release_by_a_clock_that_is_behind_is_one(database: Database, behind: timedelta) -> None:
    """Whichever of the two rows the store reads last."""
    tenant, now = TenantContext(f"holds-{uuid4().hex[:8]}"), datetime.now(UTC)
    hold = place(database, tenant, "p_jane", ["jane"], reason="case 4", actor="ana", now=now)
    assert len(release(database, tenant, [hold.hold_id], actor="ana", now=now - behind)) == 2
    assert active(database, tenant) == []
    database.command("OPTIMIZE TABLE legal_holds FINAL")
    assert active(database, tenant) == []
    check_free(database, tenant, ["p_jane", "jane"])
