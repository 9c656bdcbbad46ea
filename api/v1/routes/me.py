"""What the caller's own credentials are good for."""

from pydantic import BaseModel

from api.v1.caller import CallerOf
from api.v1.routing import Routes
from schemas.alert import rfc3339

routes = Routes("/me", "caller")


class Me(BaseModel):
    """The caller."""

    subject: str
    auth_method: str
    tenant_id: str | None
    tenants: list[str]
    platform: bool
    organization_id: str | None
    roles: list[str]
    permissions: list[str]
    expires_at: str | None


@routes.get("", permission=None, reach="self")
async def show_caller(caller: CallerOf) -> Me:
    """Show who the caller is, for which tenant, and what it may do."""
    principal = caller.principal
    tenant = caller.tenant
    return Me(
        subject=principal.subject,
        auth_method=principal.auth_method,
        tenant_id=caller.tenant_id or None,
        tenants=list(principal.tenants),
        platform=principal.platform,
        organization_id=tenant.organization_id if tenant else None,
        roles=list(principal.roles),
        permissions=sorted(principal.permissions),
        expires_at=rfc3339(principal.expires_at) if principal.expires_at else None,
    )
