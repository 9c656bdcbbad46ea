"""The gate: who is calling, for which tenant, whether they may, and how often."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import structlog
from fastapi import Request

from api.v1.authentication import Authentication, Refused
from api.v1.caller import Caller, Principal
from api.v1.limits import RateLimiter, Verdict
from api.v1.parts import Parts
from api.v1.problems import Problem, not_found
from api.v1.routing import Access
from api.v1.trace import AuthFact, Trace, trace_of
from schemas.tenant import RateLimit, Tenant
from store.queries import Reader, TenantContext

log = structlog.get_logger()
TENANT_CACHE_S: Final = 5.0
MAX_TENANTS_KEPT: Final = 10_000
# `rate_limit` is a user's, here as for the detector `rate_breach`. A tenant can make as many keys as it
# likes, each with a limit of its own, so all of them together get what this many users could ask.
TENANT_CALLERS: Final = 10
_TENANT_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Tenants:
    """Tenants' settings, at most `TENANT_CACHE_S` old."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._kept: OrderedDict[str, tuple[float, Tenant | None]] = OrderedDict()

    async def get(self, tenant_id: str) -> Tenant | None:
        """Return a tenant's settings; None if it is not in the directory."""
        now_s = self._parts.monotonic_s()
        kept = self._kept.get(tenant_id)
        if kept is not None and now_s - kept[0] < TENANT_CACHE_S:
            return kept[1]
        reader = Reader(self._parts.database, TenantContext(tenant_id))
        rows = await asyncio.to_thread(reader.tenants)
        tenant = None
        if rows:
            tenant = Tenant.model_validate({k: v for k, v in rows[0].items() if k != "version"})
        self._kept[tenant_id] = (now_s, tenant)
        self._kept.move_to_end(tenant_id)
        while len(self._kept) > MAX_TENANTS_KEPT:
            self._kept.popitem(last=False)
        return tenant


class Gate:
    """Lets requests through, or says why not: by address, credentials, rate, tenant, then permission."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.authentication = Authentication(parts)
        self.tenants = Tenants(parts)
        self._limiter = RateLimiter()
        self._failures = RateLimiter()

    async def admit(self, request: Request, access: Access) -> Caller | None:
        """Return who is calling; None on a public route.

        Raises
        ------
        Problem
            If the request may not go on.
        """
        trace = trace_of(request.scope)
        self.check_address(trace)
        if access.reach == "public":
            return None
        try:
            principal = await self.authentication.principal(request, access)
        except Refused as error:
            raise self.refuse(trace, error.fact) from None
        home = await self._home(principal)
        self._check_rate(trace, principal, home)
        caller = await self._caller(request, principal, home, access)
        # From here on the trail knows who it was, also when the permission is missing.
        trace.caller = caller
        if access.permission is not None and not caller.may(access.permission):
            raise Problem("permission_denied", f"this needs the permission {access.permission}")
        if access.reach == "platform" and not principal.platform:
            raise Problem("permission_denied", "this is for the platform's own callers")
        if access.reach == "tenant" and caller.tenant is None:
            raise Problem("tenant_required", "name the tenant in the header X-Tenant-Id")
        return caller

    def check_address(self, trace: Trace) -> None:
        """Refuse an address that presented too many bad credentials, before looking at any more."""
        limit = self._parts.config.failure_limit
        verdict = self._failures.look(trace.source_ip, limit, self._parts.monotonic_s())
        if not verdict.allowed:
            raise _limited(verdict, "too many refused credentials from this address")

    def refuse(self, trace: Trace, fact: AuthFact | None) -> Problem:
        """Return the answer to bad credentials: the same whatever is wrong with them."""
        if fact is not None:  # without any credentials nobody was guessing
            trace.auth.append(fact)
            self._failures.take(trace.source_ip, self._parts.config.failure_limit, self._parts.monotonic_s())
        hint = "send Authorization: Bearer with an API key or an access token that holds"
        if fact is not None and fact.reason == "expired_token":
            hint = "the access token has expired; get a new one"
        return Problem("unauthenticated", hint, headers={"WWW-Authenticate": 'Bearer realm="tenantwatch"'})

    async def _home(self, principal: Principal) -> Tenant | None:
        return await self.tenants.get(principal.home) if principal.home else None

    async def check_client(self, trace: Trace, principal: Principal) -> None:
        """Refuse a client of a public route that calls too often, or whose tenant may not call."""
        home = await self._home(principal)
        self._check_rate(trace, principal, home)
        if not principal.platform and (home is None or home.status == "suspended"):
            raise Problem("tenant_suspended", "the tenant is suspended, or not in the directory any more")

    def _check_rate(self, trace: Trace, principal: Principal, home: Tenant | None) -> None:
        limit = home.requests_allowed() if home else self._parts.config.platform_limit
        limits: dict[Hashable, RateLimit] = {(principal.home, principal.subject): limit}
        if principal.home:
            limits[(principal.home,)] = whole_tenant(limit)
        verdict = self._limiter.take_all(limits, self._parts.monotonic_s())
        trace.limit_headers = verdict.headers()
        trace.principal = principal
        if not verdict.allowed:
            whose = "of a caller" if verdict.limit == limit.requests else "of the tenant's callers together"
            raise _limited(verdict, f"at most {verdict.limit:,} requests {whose} in {limit.window_s:,} s")

    async def _caller(
        self, request: Request, principal: Principal, home: Tenant | None, access: Access
    ) -> Caller:
        wanted = request.headers.getlist("x-tenant-id")
        if len(wanted) > 1:
            raise Problem("repeated_parameter", "give the header X-Tenant-Id once")
        if principal.platform:
            return Caller(principal, await self._entered(principal, wanted[0]) if wanted else None)
        tenant = home
        if wanted and wanted[0] != principal.home:
            if wanted[0] not in principal.tenants:
                trace_of(request.scope).denied_tenant = wanted[0] if _TENANT_ID.fullmatch(wanted[0]) else None
                raise Problem("tenant_denied", "the credentials are not for the tenant in X-Tenant-Id")
            tenant = await self.tenants.get(wanted[0])
        if tenant is None:
            raise Problem("tenant_denied", "the tenant is not in the directory any more")
        if tenant.status == "suspended":
            raise Problem("tenant_suspended", "ask whoever runs the platform")
        return Caller(principal, tenant)

    async def _entered(self, principal: Principal, tenant_id: str) -> Tenant:
        """Return the tenant that a platform caller named, who needs a permission for that."""
        if "platform:enter" not in principal.permissions:
            raise Problem("tenant_denied", "naming a tenant needs the permission platform:enter")
        tenant = await self.tenants.get(tenant_id) if _TENANT_ID.fullmatch(tenant_id) else None
        if tenant is None:
            raise not_found("tenant")
        return tenant


def whole_tenant(limit: RateLimit) -> RateLimit:
    """Return what all callers of a tenant may ask together, where each may ask so much.

    >>> whole_tenant(RateLimit(requests=100, window_s=60)).requests
    1000
    """
    return limit.model_copy(update={"requests": TENANT_CALLERS * limit.requests})


def _limited(verdict: Verdict, detail: str) -> Problem:
    return Problem("rate_limited", detail, headers=verdict.headers())
