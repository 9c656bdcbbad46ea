"""The gate: who is calling, for which tenant, whether they may, and how often."""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final

import structlog
from fastapi import Request

from api.v1.addresses import Addresses
from api.v1.authentication import Authentication, Refused
from api.v1.caller import Caller, Principal
from api.v1.keys import hash_of
from api.v1.limits import RateLimiter, Verdict
from api.v1.parts import Parts
from api.v1.problems import Problem, not_found
from api.v1.routing import Access
from api.v1.trace import AuthFact, Trace, trace_of
from schemas.event import TENANT_ID
from schemas.tenant import RateLimit, Tenant, as_tenant
from store.queries import Reader, TenantContext
from store.refresh_tokens import RefreshTokens

log = structlog.get_logger()
TENANT_CACHE_S: Final = 5.0
MAX_TENANTS_KEPT: Final = 10_000
# `rate_limit` is a user's, here as for the detector `rate_breach`. A tenant can make as many keys as it
# likes, each with a limit of its own, so all of them together get what this many users could ask.
TENANT_CALLERS: Final = 10
TOO_MANY_REFUSED: Final = "too many refused credentials from this address"
_TENANT_ID: Final = re.compile(TENANT_ID)


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
        tenant = as_tenant(rows[0]) if rows else None
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
        self.addresses = Addresses(parts.config.failure_limit, parts.config.stranger_limit, parts.monotonic_s)
        self._limiter = RateLimiter()
        self._told = RateLimiter()
        self._refresh_tokens = RefreshTokens(parts.database)

    async def admit(self, request: Request, access: Access) -> Caller | None:
        """Return who is calling; None on a public route.

        Raises
        ------
        Problem
            If the request may not go on.
        """
        if access.reach == "public":
            # What costs something asks for itself: here nobody keeps others behind the same address from
            # signing in, or from the keys that verify tokens. Of credentials in a form its handler asks.
            return None
        trace = trace_of(request.scope)
        credentials = request.headers.get("authorization", "")
        await self.check_presented(request, credentials)
        try:
            principal = await self.authentication.principal(request, access)
        except Refused as error:
            raise self.refuse(trace, error.fact) from None
        self.addresses.good(trace.source_ip, credentials, principal.subject, principal.tenants)
        await self._check_rate(trace, principal, _counted_for(request, principal.tenants))
        caller = await self._caller(request, principal)
        # From here on the trail knows who it was, also when the permission is missing.
        trace.caller = caller
        if access.permission is not None and not caller.may(access.permission):
            raise Problem("permission_denied", f"this needs the permission {access.permission}")
        if access.reach == "platform" and not principal.platform:
            raise Problem("permission_denied", "this is for the platform's own callers")
        if access.reach == "tenant" and caller.tenant is None:
            raise Problem("tenant_required", "name the tenant in the header X-Tenant-Id")
        return caller

    async def check_presented(self, request: Request, credentials: str) -> None:
        """Refuse credentials that are not worth a look-up.

        Because too many others were refused from the same address, or because whose they are calls too often
        and was told so: then nothing is asked, and nothing more is told.

        Raises
        ------
        Problem
            ``rate_limited``.
        """
        trace = trace_of(request.scope)
        verdict = self.addresses.looked_up(trace.source_ip, credentials)
        if not verdict.allowed:
            raise _limited(verdict, TOO_MANY_REFUSED)
        if (known := self.addresses.known(trace.source_ip, credentials)) is None:
            return
        who = _counted_for(request, known.tenants), known.subject
        limits, now_s = await self._limits(*who), self._parts.monotonic_s()
        refusal = self._limiter.refusal(limits, now_s)
        if refusal is not None and not self._told.look(who, _once(limits[who]), now_s).allowed:
            trace.told = False
            trace.limit_headers = refusal.headers()
            raise _beyond(refusal, limits[who])

    def check_sign_in(self, trace: Trace) -> None:
        """Refuse to end a sign-in, where too many from its address were refused.

        Raises
        ------
        Problem
            ``rate_limited``.
        """
        verdict = self.addresses.sign_in(trace.source_ip)
        if not verdict.allowed:
            raise _limited(verdict, "too many refused sign-ins from this address")

    def check_stranger(self, trace: Trace) -> None:
        """Refuse a request of nobody, where too many came from its address; the trail counts them.

        Raises
        ------
        Problem
            ``rate_limited``.
        """
        verdict = self.addresses.strange(trace.source_ip)
        if not verdict.allowed:
            raise _limited(verdict, "too many requests without good credentials from this address")

    def refuse(self, trace: Trace, fact: AuthFact | None) -> Problem:
        """Return the answer to bad credentials: the same whatever is wrong with them.

        Raises
        ------
        Problem
            ``rate_limited``, if the address presented too many. Good ones from there are let in all the
            same: a stranger behind the same proxy locks nobody out, and a guess is not helped by an answer
            that a right one would have got in any case.
        """
        if fact is None:  # without any credentials nobody was guessing
            self.check_stranger(trace)
        else:
            verdict = self.addresses.refused(trace.source_ip)
            if not verdict.allowed:
                raise _limited(verdict, TOO_MANY_REFUSED)
            trace.auth.append(fact)
        hint = "send Authorization: Bearer with an API key or an access token that holds"
        if fact is not None and fact.reason == "expired_token":
            hint = "the access token has expired; get a new one"
        return Problem("unauthenticated", hint, headers={"WWW-Authenticate": 'Bearer realm="tenantwatch"'})

    async def _home(self, principal: Principal) -> Tenant | None:
        return await self.tenants.get(principal.home) if principal.home else None

    async def check_refresh(self, refresh_token: str) -> None:
        """Refuse a person's refresh token, where its owner calls too often.

        Before it is changed for another, which nobody would get with that answer.

        Raises
        ------
        Problem
            ``rate_limited``.
        """
        found = await asyncio.to_thread(self._refresh_tokens.find, hash_of(refresh_token))
        if found is not None:
            limits = await self._limits(found.tenant_id, found.subject)
            if (verdict := self._limiter.refusal(limits, self._parts.monotonic_s())) is not None:
                raise _limited(verdict, f"at most {verdict.limit:,} requests")

    async def count_refresh(self, principal: Principal) -> None:
        """Count a person's refresh that was granted."""
        limits = await self._limits(principal.home, principal.subject)
        self._limiter.take_all(limits, self._parts.monotonic_s())

    async def check_client(self, trace: Trace, principal: Principal) -> None:
        """Refuse a client of a public route that calls too often, or whose tenant may not call."""
        home = await self._home(principal)
        await self._check_rate(trace, principal, principal.home)
        if not principal.platform and (home is None or home.status == "suspended"):
            raise Problem("tenant_suspended", "the tenant is suspended, or not in the directory any more")

    async def _check_rate(self, trace: Trace, principal: Principal, tenant_id: str) -> None:
        who = tenant_id, principal.subject
        limits, now_s = await self._limits(*who), self._parts.monotonic_s()
        verdict = self._limiter.take_all(limits, now_s)
        trace.limit_headers = verdict.headers()
        trace.principal = principal
        if not verdict.allowed:
            trace.told = self._told.take(who, _once(limits[who]), now_s).allowed
            raise _beyond(verdict, limits[who])

    async def _limits(self, tenant_id: str, subject: str) -> dict[Hashable, RateLimit]:
        tenant = await self.tenants.get(tenant_id) if tenant_id else None
        own = tenant.requests_allowed() if tenant else self._parts.config.platform_limit
        limits: dict[Hashable, RateLimit] = {(tenant_id, subject): own}
        if tenant_id:
            limits[(tenant_id,)] = whole_tenant(own)
        return limits

    async def _caller(self, request: Request, principal: Principal) -> Caller:
        wanted = request.headers.getlist("x-tenant-id")
        if len(wanted) > 1:
            raise Problem("repeated_parameter", "give the header X-Tenant-Id once")
        if principal.platform:
            return Caller(principal, await self._entered(principal, wanted[0]) if wanted else None)
        tenant = await self._home(principal)
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


def _counted_for(request: Request, tenants: tuple[str, ...]) -> str:
    """Return the tenant whose limits a request counts against: the one it names and may, else the first."""
    wanted = request.headers.get("x-tenant-id")
    if wanted in tenants:
        return wanted
    return tenants[0] if tenants else ""


def _once(limit: RateLimit) -> RateLimit:
    return limit.model_copy(update={"requests": 1})


def _beyond(verdict: Verdict, own: RateLimit) -> Problem:
    whose = "of a caller" if verdict.limit == own.requests else "of the tenant's callers together"
    return _limited(verdict, f"at most {verdict.limit:,} requests {whose} in {own.window_s:,} s")


def _limited(verdict: Verdict, detail: str) -> Problem:
    return Problem("rate_limited", detail, headers=verdict.headers())
