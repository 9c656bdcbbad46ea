"""Alerts that have aged out, and what hangs on them: notes, and deliveries by webhook with their log.

An alert explains events of any kind, so it is kept for as long as those that the tenant keeps longest.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from schemas.event import KINDS
from schemas.tenant import DEFAULT_RETENTION_DAYS, Tenant
from store.database import Database
from store.expiry import BEFORE, Named, bound_cutoffs, delete_named, named_parts
from store.parts import in_parts
from store.people import alerts_speak_of

# Among the kinds of what retention removes.
ALERT: Final = "alert"
# An alert with all its revisions is as old as its youngest, by its own time or by when it was published: as
# with events, so that one about imported events is kept for as long as these.
_AGE: Final = "max(greatest(last_time, published_at))"
OLDEST_ALERTS: Final = (
    "SELECT tenant_id, min(age) AS oldest FROM "
    f"(SELECT tenant_id, {_AGE} AS age FROM alerts GROUP BY tenant_id, alert_id) "
    "GROUP BY tenant_id ORDER BY tenant_id"
)
_AGED: Final = (
    "SELECT tenant_id, alert_id FROM alerts WHERE tenant_id IN {tenant_ids:Array(String)} "
    f"GROUP BY tenant_id, alert_id HAVING {BEFORE.format(age=_AGE)} "
    f"AND NOT max({alerts_speak_of('private_held')}) "
    "ORDER BY tenant_id, alert_id"
)
# The platform's endpoints got the alerts of every tenant, and an id is a tenant's own.
_OF_TENANT: Final = "JSONExtractString(body, 'data', 'tenant_id')"
_DELIVERIES: Final = (
    "SELECT DISTINCT tenant_id, delivery_id FROM webhook_deliveries "
    "WHERE alert_id IN {ids:Array(String)} "
    f"AND ({_OF_TENANT}, alert_id) IN {{named:Array(Tuple(String, String))}} "
    f"AND tenant_id IN ('', {_OF_TENANT}) ORDER BY tenant_id, delivery_id"
)


def alert_days(tenant: Tenant | None) -> int:
    """Return how many days the alerts of a tenant are kept; None: it never had settings.

    >>> alert_days(None)
    365
    """
    return max(map(tenant.retention_days_of, KINDS)) if tenant else DEFAULT_RETENTION_DAYS


def aged_alerts(
    database: Database, cutoffs: Mapping[str, datetime], held: Mapping[str, Collection[str]]
) -> list[Named]:
    """Return the alerts older than their tenant's moment, but for those that speak of people on hold.

    Parameters
    ----------
    cutoffs
        By tenant.
    held
        By tenant, the people on hold.
    """
    # A word that is a person on hold at one tenant is nobody at another.
    tenants: dict[tuple[str, ...], list[str]] = {}
    for tenant_id in cutoffs:
        tenants.setdefault(tuple(sorted(held.get(tenant_id, ()))), []).append(tenant_id)
    return [
        (row["tenant_id"], row["alert_id"])
        for people, tenant_ids in tenants.items()
        for part in in_parts(tenant_ids)
        for row in database.query(_AGED, {**bound_cutoffs(part, cutoffs), "private_held": list(people)})
    ]


def delete_alerts(database: Database, alerts: Sequence[Named]) -> None:
    """Delete alerts and what hangs on them.

    The alerts go last, because all else is found by them: so it is found again after a crash in between.
    """
    for part in named_parts(alerts):
        bound = {"named": part, "ids": sorted({alert_id for _, alert_id in part})}
        found = database.query(_DELIVERIES, bound)
        deliveries = [(row["tenant_id"], row["delivery_id"]) for row in found]
        for table in ("webhook_attempts", "webhook_deliveries"):
            delete_named(database, table, "delivery_id", deliveries)
        for table in ("alert_notes", "alerts"):
            delete_named(database, table, "alert_id", part)
