"""Who is calling, and for which tenant."""

from collections.abc import Set
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Depends, Request

from api.v1.permissions import Permission
from api.v1.problems import Problem
from api.v1.trace import trace_of
from schemas.tenant import Tenant
from store.queries import PlatformContext, Scope, TenantContext

AuthMethod = Literal["api_key", "oauth2", "sso", "signature"]


@dataclass(frozen=True)
class Principal:
    """Somebody whose credentials are good.

    Parameters
    ----------
    subject
        Stable name: ``key:…`` for an API key, ``user:…`` for a person who signed in.
    platform
        Whether it is the platform's: it may see every tenant, as far as its permissions go.
    tenants
        Whom it may act for; empty for the platform. The first one is taken where none is named.
    key_id, token_id
        What it presented.
    family_id
        Of the refresh tokens that its access token came with.
    expires_at
        When the credentials end.
    """

    subject: str
    auth_method: AuthMethod
    platform: bool
    tenants: tuple[str, ...]
    roles: tuple[str, ...]
    permissions: frozenset[Permission]
    key_id: str | None = None
    token_id: str | None = None
    family_id: str | None = None
    expires_at: datetime | None = None

    @property
    def home(self) -> str:
        """The tenant that the credentials were issued for; empty for the platform."""
        return self.tenants[0] if self.tenants else ""

    def without(self, revoked_in: Set[str]) -> "Principal | None":
        """Return what is left of it after revocations in some of its tenants; None where nothing is.

        The platform's word and that of the tenant it was issued for are about all of it. Another tenant's
        takes that tenant away: what somebody may do elsewhere is not for it to say.
        """
        if "" in revoked_in or self.home in revoked_in:
            return None
        return replace(self, tenants=tuple(each for each in self.tenants if each not in revoked_in))


@dataclass(frozen=True)
class Caller:
    """A principal with the tenant that this request is about.

    Parameters
    ----------
    tenant
        None where a platform principal named none.
    """

    principal: Principal
    tenant: Tenant | None

    @property
    def tenant_id(self) -> str:
        """The tenant that the request is about; empty where it is about the whole platform."""
        return self.tenant.tenant_id if self.tenant else ""

    @property
    def scope(self) -> Scope:
        """What queries of this request are bound to: the tenant, or openly the whole platform."""
        if self.tenant is not None:
            return TenantContext(self.tenant.tenant_id)
        if not self.principal.platform:  # the gate lets nobody through like that; never guess here
            raise Problem("tenant_denied", "the request is bound to no tenant")
        return PlatformContext(self.principal.subject)

    @property
    def tenant_context(self) -> TenantContext:
        """The tenant, for routes that are about exactly one (``reach="tenant"``)."""
        if self.tenant is None:
            raise Problem("tenant_required", "name the tenant in the header X-Tenant-Id")
        return TenantContext(self.tenant.tenant_id)

    def may(self, permission: Permission) -> bool:
        """Return whether the caller has a permission beyond the route's own, such as ``pii:read``."""
        return permission in self.principal.permissions


def _caller(request: Request) -> Caller:
    caller = trace_of(request.scope).caller
    if caller is None:
        raise Problem("unauthenticated", "this route is public and has no caller")
    return caller


CallerOf = Annotated[Caller, Depends(_caller)]
