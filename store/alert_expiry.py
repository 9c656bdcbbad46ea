"""Alerts that have aged out, and what hangs on them: notes, and deliveries by webhook with their log.

An alert explains events of any kind, so it is kept for as long as those that the tenant keeps longest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from schemas.event import KINDS
from schemas.tenant import DEFAULT_RETENTION_DAYS, Tenant
from store.database import Database
from store.people import alerts_speak_of

# Among the kinds of what retention removes.
ALERT: Final = "alert"
# A statement names what it deletes: one that looked for it in other tables hung on a server (26.7).
AT_ONCE: Final = 1_000
# An alert with all its revisions is as old as its youngest, by its own time or by when it was published: as
# with events, so that one about imported events is kept for as long as these.
_AGE: Final = "max(greatest(last_time, published_at))"
OLDEST_ALERTS: Final = (
    f"SELECT tenant_id, '{ALERT}' AS kind, min(age) AS oldest FROM "
    f"(SELECT tenant_id, {_AGE} AS age FROM alerts GROUP BY tenant_id, alert_id) "
    "GROUP BY tenant_id ORDER BY tenant_id"
)
_AGED: Final = (
    "SELECT alert_id FROM alerts WHERE tenant_id = {tenant_id:String} GROUP BY alert_id "
    f"HAVING {_AGE} < {{cutoff:DateTime64(3)}} AND NOT max({alerts_speak_of('held')}) ORDER BY alert_id"
)
# The platform's endpoints got the alerts of every tenant, and an id is a tenant's own.
_DELIVERIES: Final = (
    "SELECT DISTINCT delivery_id FROM webhook_deliveries WHERE tenant_id IN ('', {tenant_id:String}) "
    "AND alert_id IN {ids:Array(String)} "
    "AND JSONExtractString(body, 'data', 'tenant_id') = {tenant_id:String} ORDER BY delivery_id"
)


def alert_days(tenant: Tenant | None) -> int:
    """Return how many days the alerts of a tenant are kept; None: it never had settings.

    >>> alert_days(None)
    365
    """
    return max(map(tenant.retention_days_of, KINDS)) if tenant else DEFAULT_RETENTION_DAYS


@dataclass(frozen=True)
class AgedAlerts:
    """The alerts of a tenant that are older than a moment, but for those that speak of people on hold."""

    database: Database
    tenant_id: str
    cutoff: datetime
    held: Sequence[str]

    def groups(self) -> list[dict[str, Any]]:
        """Return the account of them: each counts once, whatever its revisions."""
        found = len(self._ids())
        return [{"rows_removed": found}] if found else []

    def delete(self) -> None:
        """Delete them and what hangs on them.

        The alerts go last, because all else is found by them: so it is found again after a crash in between.
        """
        for ids in _parts(self._ids()):
            found = self.database.query(_DELIVERIES, {"tenant_id": self.tenant_id, "ids": ids})
            deliveries = [row["delivery_id"] for row in found]
            for table in ("webhook_attempts", "webhook_deliveries"):
                self._delete(table, "delivery_id", deliveries, ["", self.tenant_id])
            for table in ("alert_notes", "alerts"):
                self._delete(table, "alert_id", ids, [self.tenant_id])

    def _ids(self) -> list[str]:
        bound = {"tenant_id": self.tenant_id, "cutoff": self.cutoff, "held": list(self.held)}
        return [row["alert_id"] for row in self.database.query(_AGED, bound)]

    def _delete(self, table: str, column: str, ids: Sequence[str], tenant_ids: Sequence[str]) -> None:
        for part in _parts(ids):
            self.database.command(
                f"DELETE FROM {table} WHERE tenant_id IN {{tenant_ids:Array(String)}} "
                f"AND {column} IN {{ids:Array(String)}}",
                {"tenant_ids": list(tenant_ids), "ids": part},
            )


def _parts(ids: Sequence[str]) -> Iterator[list[str]]:
    for first in range(0, len(ids), AT_ONCE):
        yield list(ids[first : first + AT_ONCE])
