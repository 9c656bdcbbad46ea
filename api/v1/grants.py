"""Tokens for clients: access tokens, and refresh tokens that change with each use."""

import asyncio
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import structlog

from api.v1 import tokens
from api.v1.alerts import reuse_alert
from api.v1.caller import Principal
from api.v1.gate import Tenants
from api.v1.keys import hash_of
from api.v1.parts import Parts
from api.v1.permissions import Permission, effective
from api.v1.single_use import SingleUse
from schemas.personal import scrubbed
from store.refresh_tokens import RefreshToken, RefreshTokens
from store.revocations import Revocations

log = structlog.get_logger()
OFFLINE = "offline_access"
REFRESH_PREFIX = "twr_"
SYSTEM = "system"


class GrantRefused(Exception):
    """A grant is not good.

    Parameters
    ----------
    error
        OAuth2's word for it.
    reason
        Ours, for the trail.
    """

    def __init__(self, error: str, detail: str, reason: str, token: RefreshToken | None = None) -> None:
        super().__init__(detail)
        self.error = error
        self.detail = detail
        self.reason = reason
        self.token = token


@dataclass(frozen=True)
class Granted:
    """What a client gets."""

    principal: Principal
    access: tokens.Issued
    refresh_token: str | None


class Grants:
    """Gives tokens to principals.

    A refresh token is used once. One that comes a second time was copied, and nobody can tell which of the
    two is the thief: its whole family is revoked, with the access tokens, and an alert is raised.

    Parameters
    ----------
    tenants
        Know whose organization a tenant is.
    """

    def __init__(self, parts: Parts, tenants: Tenants) -> None:
        self._parts = parts
        self._tenants = tenants
        self._tokens = RefreshTokens(parts.database)
        self._revocations = Revocations(parts.database)
        self._once = SingleUse(parts.database)

    async def begin(self, principal: Principal, scope: str | None) -> Granted:
        """Give an authenticated principal its tokens.

        Parameters
        ----------
        scope
            Permissions separated by spaces, at most what the principal has; None: all of them.
            ``offline_access`` asks for a refresh token.
        """
        wanted = scope.split() if scope is not None else []
        narrowed = narrow(principal, [each for each in wanted if each != OFFLINE])
        if OFFLINE not in wanted:
            return await self._give(narrowed)
        family = replace(narrowed, family_id=secrets.token_hex(16))
        return await self._with_refresh(family, family.permissions, begun_at=self._parts.clock())

    async def refresh(self, text: str, client: Principal | None, scope: str | None) -> Granted:
        """Give tokens for a refresh token, and a new one of it.

        Parameters
        ----------
        client
            Who presents it, for tokens of keys; None for those of people, who have no secret.
        scope
            Of this access token. The next refresh token is for as much as this one (RFC 6749, 6).

        Raises
        ------
        GrantRefused
            If it is not good, or another's; if it was used before, the family is revoked by now.
        """
        now = self._parts.clock()
        token = await asyncio.to_thread(self._tokens.find, hash_of(text))
        if token is None:
            raise GrantRefused("invalid_grant", "the refresh token is not known", "unknown_refresh_token")
        held = _principal(token)
        if held.key_id is not None and (client is None or client.subject != token.subject):
            raise GrantRefused(
                "invalid_grant", "the refresh token is not this client's", "mismatched_client", token
            )
        ids, begun_at = [f"family:{token.family_id}", token.subject], _begun_at(token)
        left = held.without(
            await asyncio.to_thread(self._revocations.revoked_in, ids, held.tenants, begun_at)
        )
        if left is None:
            raise GrantRefused("invalid_grant", "the refresh token holds no longer", "revoked_token", token)
        # Both: the setting may have become shorter since the token was stored.
        if now >= min(token.expires_at, begun_at + self._parts.config.family_lifetime):
            raise GrantRefused("invalid_grant", "the refresh token has expired", "expired_token", token)
        principal = left
        if client is not None and held.key_id is not None:
            # What was taken from the key since is taken from its tokens.
            kept = held.permissions & client.permissions
            principal = replace(left, permissions=kept, roles=client.roles, expires_at=client.expires_at)
        narrowed = narrow(principal, [each for each in (scope or "").split() if each != OFFLINE])
        # Stored before the old one is used up: if the store fails on the way, nobody has seen the new token,
        # and the client may try again with the old one, which would else look like theft.
        granted = await self._with_refresh(principal, narrowed.permissions, begun_at)
        # Last: a request that is refused for what it asks uses nothing up, and may be sent again, mended.
        if not await self._once.use(f"refresh:{token.token_hash}", token.expires_at):
            await self._revoke_family(token, now)
            raise GrantRefused(
                "invalid_grant", "the refresh token holds no longer", "refresh_token_reused", token
            )
        return granted

    async def revoke(self, text: str, principal: Principal) -> bool:
        """Let a token of this principal hold no longer; return whether it was one.

        A refresh token takes its family with it, and the access tokens that came with it.
        """
        now = self._parts.clock()
        if text.startswith(REFRESH_PREFIX):
            token = await asyncio.to_thread(self._tokens.find, hash_of(text))
            if token is None or token.subject != principal.subject:
                return False
            id_ = f"family:{token.family_id}"
        else:
            try:
                claims = tokens.read(self._parts.ring, self._parts.config.issuer, text, now, expired_too=True)
            except tokens.TokenRefused:
                return False
            if claims["sub"] != principal.subject:
                return False
            id_ = f"token:{claims['jti']}"
        await asyncio.to_thread(
            self._revocations.revoke, id_, principal.home, now, by=principal.subject, reason="revoked"
        )
        return True

    async def _revoke_family(self, token: RefreshToken, now: datetime) -> None:
        await asyncio.to_thread(
            self._revocations.revoke,
            f"family:{token.family_id}",
            token.tenant_id,
            now,
            by=SYSTEM,
            reason="refresh_token_reused",
        )
        tenant_id = token.tenant_id or self._parts.config.platform_tenant
        subject = await self._as_stored(tenant_id, token.subject)
        # Also where there is an alert: it is lost if Kafka is away for long.
        log.error(
            "refresh_token_reused",
            subject=subject,
            tenant_id=token.tenant_id,
            family_id=token.family_id,
            alerted=bool(tenant_id),
            fix="one of the two users has a copy: rotate the key, or have the person sign in again"
            + ("" if tenant_id else "; set TENANTWATCH_PLATFORM_TENANT for an alert on the platform's own"),
        )
        if tenant_id:
            self._parts.producer.offer_alert(reuse_alert(token, tenant_id, subject, now))

    async def _as_stored(self, tenant_id: str | None, subject: str) -> str:
        """Return what stands in a tenant's trail for a subject: a provider may have made it of an address."""
        tenant = await self._tenants.get(tenant_id) if tenant_id else None
        if tenant is None or self._parts.privacy is None:
            return scrubbed(subject)
        return await asyncio.to_thread(self._parts.privacy.vault.stored_user_id, tenant, subject)

    async def _give(
        self, principal: Principal, refresh_token: str | None = None, begun_at: datetime | None = None
    ) -> Granted:
        tenant = await self._tenants.get(principal.home) if principal.home else None
        organization_id = tenant.organization_id if tenant else ""
        access = tokens.issue(
            self._parts.ring,
            self._parts.config.issuer,
            principal,
            organization_id,
            self._parts.clock(),
            begun_at=begun_at,
        )
        return Granted(principal, access, refresh_token)

    async def _with_refresh(
        self, principal: Principal, permissions: frozenset[Permission], begun_at: datetime
    ) -> Granted:
        """Give a refresh token for all of a principal, and an access token with some of its permissions."""
        now, config = self._parts.clock(), self._parts.config
        text = REFRESH_PREFIX + secrets.token_urlsafe(32)
        ends_at = begun_at + config.family_lifetime
        if principal.expires_at is not None:
            ends_at = min(ends_at, principal.expires_at)
        principal = replace(principal, expires_at=ends_at)  # of the access token, too
        expires_at = min(now + config.refresh_lifetime, ends_at)
        token = RefreshToken(
            token_hash=hash_of(text),
            family_id=principal.family_id or "",
            subject=principal.subject,
            tenant_id=principal.home,
            body=_body(principal, begun_at),
            issued_at=now,
            expires_at=expires_at,
        )
        await asyncio.to_thread(self._tokens.add, token)
        return await self._give(replace(principal, permissions=permissions), text, begun_at)


def narrow(principal: Principal, wanted: Iterable[str]) -> Principal:
    """Return a principal with no more than the permissions asked for; nothing asked for is all of them.

    Raises
    ------
    GrantRefused
        If one is asked for that the principal does not have.
    """
    asked = frozenset(wanted)
    if not asked:
        return principal
    if beyond := sorted(asked - principal.permissions):
        raise GrantRefused("invalid_scope", f"not granted: {' '.join(beyond)[:200]}", "scope_escalation")
    return replace(principal, permissions=principal.permissions & asked)


def _begun_at(token: RefreshToken) -> datetime:
    """Return when somebody signed in, or a key asked, for the first token of the family."""
    told: str | None = json.loads(token.body).get("begun_at")
    # Earlier versions did not keep it.
    return datetime.fromisoformat(told) if told else token.issued_at


def _body(principal: Principal, begun_at: datetime) -> str:
    return json.dumps(
        {
            "begun_at": begun_at.isoformat(),
            "auth_method": principal.auth_method,
            "platform": principal.platform,
            "tenants": principal.tenants,
            "roles": principal.roles,
            "permissions": sorted(principal.permissions),
            "key_id": principal.key_id,
        }
    )


def _principal(token: RefreshToken) -> Principal:
    body = json.loads(token.body)
    return Principal(
        subject=token.subject,
        auth_method=body["auth_method"],
        platform=body["platform"],
        tenants=tuple(body["tenants"]),
        roles=tuple(body["roles"]),
        permissions=effective((), body["permissions"], platform=body["platform"]),
        key_id=body["key_id"],
        family_id=token.family_id,
    )
