"""The tables ``tenants`` and ``tuning``, kept up with the directory for recovery, dashboards and the API."""

import asyncio
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

from schemas.tuning import Tuning
from store.database import Database
from streams.directory import Entry
from streams.patience import patiently

FLUSH_S: Final = 0.2


class TenantRows:
    """Collects what the directory tells of for a moment, and stores it.

    Parameters
    ----------
    database
        Where.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._tenants: list[dict[str, Any]] = []
        self._tunings: list[dict[str, Any]] = []

    async def on_tenant(self, tenant_id: str, entry: Entry | None, version: int) -> None:
        """Take a change of a tenant; `version` is its offset in ``audit.tenants``."""
        self._tenants.append(tenant_row(tenant_id, entry, version))

    async def on_tuning(self, tuning: Tuning, version: int) -> None:
        """Take a change of the operator's overrides."""
        self._tunings.append(tuning_row(tuning, version))

    async def run(self) -> None:
        """Store what was taken, for as long as the store is away, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_S)
            tenants, self._tenants = self._tenants, []
            tunings, self._tunings = self._tunings, []
            for table, rows in (("tenants", tenants), ("tuning", tunings)):
                if rows:
                    insert = partial(asyncio.to_thread, self._database.insert_rows, table, rows)
                    await patiently(insert, "insert_retried")


def tenant_row(tenant_id: str, entry: Entry | None, version: int) -> dict[str, Any]:
    """Return the row of the table ``tenants`` for a change of the directory."""
    tenant = entry.tenant if entry else None
    return {
        "tenant_id": tenant_id,
        "version": version,
        "deleted": int(tenant is None),
        "organization_id": tenant.organization_id if tenant else "",
        "name": tenant.name if tenant else "",
        "tier": tenant.tier if tenant else "",
        "status": tenant.status if tenant else "",
        "region": tenant.region if tenant else "",
        "body": tenant.model_dump_json() if tenant else "",
        "applied_at": datetime.now(UTC),
    }


def tuning_row(tuning: Tuning, version: int) -> dict[str, Any]:
    """Return the row of the table ``tuning`` for a change of the operator's overrides."""
    return {"version": version, "body": tuning.model_dump_json(), "applied_at": datetime.now(UTC)}
