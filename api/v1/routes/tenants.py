"""The tenant directory: who the tenants are, and what holds for them."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import Path, Response
from pydantic import BaseModel

from api.v1.caller import Caller, CallerOf
from api.v1.parts import Parts, PartsOf
from api.v1.problems import Problem, not_found
from api.v1.routing import Routes
from detectors.parameters import check_overrides
from detectors.rules.ruleset import check_rules
from schemas.event import TENANT_ID
from schemas.tenant import Tenant, as_tenant, check_planned_tests
from store.queries import PlatformContext, Reader, TenantContext
from streams.producer import SendError

routes = Routes("/tenants", "tenant")
TenantIdPath = Annotated[str, Path(pattern=TENANT_ID)]
WAIT_S: Final = 10.0
POLL_S: Final = 0.1


class TenantList(BaseModel):
    """Tenants."""

    tenants: list[Tenant]


@routes.get("", permission="tenants:read", reach="either")
async def list_tenants(caller: CallerOf, parts: PartsOf) -> TenantList:
    """List the tenants in the directory that the caller may see."""
    rows = await asyncio.to_thread(Reader(parts.database, caller.scope).tenants)
    return TenantList(tenants=[as_tenant(row) for row in rows])


@routes.get("/{tenant_id}", permission="tenants:read", reach="either")
async def show_tenant(caller: CallerOf, parts: PartsOf, tenant_id: TenantIdPath) -> Tenant:
    """Show a tenant's settings."""
    return await find_tenant(caller, parts, tenant_id)


@routes.put("/{tenant_id}", permission="tenants:manage", reach="platform")
async def put_tenant(parts: PartsOf, tenant_id: TenantIdPath, tenant: Tenant) -> Tenant:
    """Add a tenant, or replace all its settings, its rules too; answered once the directory holds it."""
    if tenant.tenant_id != tenant_id:
        detail = "another tenant's than the path is for"
        raise Problem("invalid", detail, errors=[{"field": "body.tenant_id", "detail": detail}])
    check_detectors(tenant.detectors, "body.detectors")
    if faults := await asyncio.to_thread(check_rules, tenant.rules):
        errors = [{"field": "body.rules", "detail": fault} for fault in faults]
        raise Problem("invalid", "see `errors`: each names a rule by its place", errors=errors)
    if faults := check_planned_tests(tenant.planned_tests):
        errors = [{"field": "body.planned_tests", "detail": fault} for fault in faults]
        raise Problem("invalid", "see `errors`: each names a test by its place", errors=errors)
    await write_tenant(parts, tenant_id, tenant)
    return tenant


@routes.delete("/{tenant_id}", permission="tenants:manage", reach="platform", status_code=204)
async def remove_tenant(caller: CallerOf, parts: PartsOf, tenant_id: TenantIdPath) -> Response:
    """Take a tenant out of the directory. Its stored events stay; new ones become dead letters."""
    everyone = Reader(parts.database, PlatformContext(caller.principal.subject))
    if not await asyncio.to_thread(everyone.tenants, [tenant_id]):
        raise not_found("tenant")
    await write_tenant(parts, tenant_id, None)
    return Response(status_code=204)


async def find_tenant(caller: Caller, parts: Parts, tenant_id: str) -> Tenant:
    """Return the settings of a tenant that the caller may see.

    Raises
    ------
    Problem
        ``not_found``, whether there is none or it is another's.
    """
    rows = await asyncio.to_thread(Reader(parts.database, caller.scope).tenants, [tenant_id])
    if not rows:
        raise not_found("tenant")
    return as_tenant(rows[0])


async def find_tenant_to_change(parts: Parts, tenant: TenantContext) -> Tenant:
    """Return a tenant's settings of now, for writing them anew with a part of them changed.

    Raises
    ------
    Problem
        ``conflict``, if Kafka has newer ones that no worker has taken up: writing would undo them.
    """
    rows = await asyncio.to_thread(Reader(parts.database, tenant).tenants)
    if not rows:
        raise not_found("tenant")
    try:
        behind = await parts.producer.tenant_changed(tenant.tenant_id, int(rows[0]["version"]))
    except SendError:
        raise Problem("unavailable", "Kafka does not answer: send it again") from None
    if behind:
        raise Problem("conflict", "the tenant is being changed by somebody else: look, and send it again")
    return as_tenant(rows[0])


def check_detectors(overrides: dict[str, Any], field: str) -> None:
    """Refuse overrides that no detector would go by.

    Raises
    ------
    Problem
        Which, and what they may be.
    """
    if faults := check_overrides(overrides):
        errors = [{"field": field, "detail": str(fault)} for fault in faults]
        raise Problem("invalid", "see `errors`: each names a parameter", errors=errors)


async def write_tenant(parts: Parts, tenant_id: str, tenant: Tenant | None) -> None:
    """Write a tenant to ``audit.tenants``, or remove it, and wait until the directory has it."""
    try:
        await parts.producer.send_tenant(tenant_id, tenant)
    except SendError:
        raise Problem("unavailable", "Kafka has not acknowledged it: send it again") from None
    reader = Reader(parts.database, TenantContext(tenant_id))
    for _ in range(int(WAIT_S / POLL_S)):
        rows = await asyncio.to_thread(reader.tenants)
        if (as_tenant(rows[0]) if rows else None) == tenant:
            return
        await asyncio.sleep(POLL_S)
    raise Problem("unavailable", "it is sent, but no worker goes by it yet: look again in a moment")
