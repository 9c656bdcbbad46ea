"""Whom a request to the control API is about: everybody, as its callers are the operator's, or one tenant.

A misspelt tenant must not pass for one with nothing to show.
"""

import asyncio
from typing import Final

from fastapi import HTTPException, Response

from api.address import WARNING
from store.database import Database
from store.queries import PlatformContext, Reader, Scope, TenantContext

OPERATOR: Final = "local operator"


def scope_of(tenant_id: str | None) -> Scope:
    """Return what queries are bound to: the tenant; without one, openly the whole platform."""
    return TenantContext(tenant_id) if tenant_id else PlatformContext(OPERATOR)


async def check_tenant(database: Database, tenant_id: str, response: Response) -> None:
    """Refuse a tenant of which nothing is known.

    One that left the directory and whose rows are still there is let pass; a header says so.
    """
    reader = Reader(database, TenantContext(tenant_id))
    if await asyncio.to_thread(reader.tenants):
        return
    if not await asyncio.to_thread(reader.is_stored):
        raise HTTPException(
            404,
            f"there is no tenant {tenant_id!r}: it is not in the directory, and nothing is stored of it; "
            "`tenantwatch tenants list` names those there are, `tenantwatch tenants apply FILE` adds one",
        )
    response.headers[WARNING] = f"{tenant_id} is not in the directory any more; its rows are still stored"
