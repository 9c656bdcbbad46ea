"""Credentials to principals: API keys, access tokens, signed requests."""

import asyncio
import base64
import binascii
import hmac
import secrets
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Final

import structlog
from fastapi import Request

from api.v1 import signatures, tokens
from api.v1.caller import AuthMethod, Principal
from api.v1.key_ring import NotSealedHere
from api.v1.keys import hash_of, split
from api.v1.parts import Parts
from api.v1.permissions import effective
from api.v1.problems import Problem
from api.v1.routing import Access, read_body
from api.v1.single_use import SingleUse
from api.v1.trace import AuthFact, trace_of
from store.api_keys import NEVER, ApiKey, ApiKeys
from store.database import StoreUnavailable
from store.revocations import Revocations

log = structlog.get_logger()
# A key's last use is written, and told in the trail, at most once in so long.
USE_EVERY_S: Final = 60.0
MAX_KEYS_KEPT: Final = 50_000
# Compared with where there is no such key: the same work, whether or not the id exists.
_NOBODY: Final = ApiKey(
    key_id="0" * 16,
    tenant_id="",
    name="",
    roles=(),
    permissions=(),
    secret_hash=hash_of("nobody"),
    signing_key="",
    previous_hash="",
    previous_signing_key="",
    previous_until=NEVER,
    created_at=NEVER,
    created_by="",
    expires_at=NEVER,
)


class Refused(Exception):
    """The credentials are not good; `fact` is for the trail, None where there were none."""

    def __init__(self, fact: AuthFact | None) -> None:
        super().__init__(fact.reason if fact else "no credentials")
        self.fact = fact


class Authentication:
    """Tells who is calling from the header ``Authorization``; what is revoked holds no longer, at once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._keys = ApiKeys(parts.database)
        self._revocations = Revocations(parts.database)
        self._once = SingleUse(parts.database)
        self._last_use: OrderedDict[str, float] = OrderedDict()
        self._writing: set[asyncio.Task[None]] = set()
        # As a key's is kept: opening it is work, too.
        self._nobody_s_signing_key = parts.ring.seal(secrets.token_bytes(32), _NOBODY.key_id)

    async def principal(self, request: Request, access: Access) -> Principal:
        """Return who is calling.

        Raises
        ------
        Refused
            If it is nobody.
        """
        given = request.headers.getlist("authorization")
        if len(given) > 1:
            raise Problem("repeated_parameter", "give the header Authorization once")
        scheme, _, rest = (given[0] if given else "").partition(" ")
        if scheme == signatures.SCHEME:
            key = await self._signed(request, rest, access)
            return self._of_key(request, key, "signature")
        if scheme.lower() != "bearer" or not rest:
            raise Refused(None)
        if rest.startswith("tw_"):
            return self._of_key(request, await self.key(rest), "api_key")
        return await self._of_token(rest)

    async def client(self, request: Request, form: dict[str, str]) -> Principal:
        """Return the client of a token request: an API key whose id is the ``client_id``.

        Raises
        ------
        Refused
            If it is nobody, or the secret is another key's.
        """
        client_id, secret = _client_credentials(request, form)
        if client_id is None or secret is None:
            raise Refused(None)
        if split(secret) != client_id:
            raise Refused(_failure(_NOBODY, "mismatched_client", "oauth2"))
        return self._of_key(request, await self.key(secret), "oauth2")

    async def key(self, text: str) -> ApiKey:
        """Return the key whose text this is, if it holds.

        An unknown id goes the same way as a wrong secret: one look-up, one comparison, one answer.
        """
        now = self._parts.clock()
        key_id = split(text)
        found = await asyncio.to_thread(self._keys.find, key_id) if key_id else None
        key = found or _NOBODY
        presented = hash_of(text)
        matches = [hmac.compare_digest(presented, each) for each in key.hashes_at(now)]
        revoked = await asyncio.to_thread(self._revocations.latest, [key.subject], key.tenant_id)
        if found is None:
            raise Refused(_failure(key, "unknown_key", "api_key"))
        if not any(matches):
            raise Refused(_failure(key, "wrong_secret", "api_key"))
        self._check_holds(key, revoked, now, "api_key")
        return key

    def _check_holds(self, key: ApiKey, revoked: datetime | None, now: datetime, method: str) -> None:
        if revoked is not None:
            raise Refused(_failure(key, "revoked_key", method))
        if now >= key.expires_at:
            raise Refused(_failure(key, "expired_key", method))

    async def _signed(self, request: Request, parameters: str, access: Access) -> ApiKey:
        """Return the key that signed a request; an unknown key goes the way of a wrong signature.

        But its body is not read: who knows no key's id, which is no secret, has us keep no bytes.
        """
        now = self._parts.clock()
        try:
            told = signatures.parse(parameters)
        except signatures.SignatureMalformed:
            raise Refused(_failure(_NOBODY, "malformed_signature", "signature")) from None
        found = await asyncio.to_thread(self._keys.find, told.key_id)
        key = found or _NOBODY
        stale = signatures.stale(told.timestamp, now)
        body = await read_body(request, access.max_body_bytes) if found and not stale else b""
        text = signatures.signed_text(
            request.method,
            _target(request),
            request.headers.get("x-tenant-id", ""),
            body,
            told.timestamp,
            told.nonce,
        )
        sealed = key.signing_keys_at(now) if found else (self._nobody_s_signing_key,)
        opened = [self._opened(each, key.key_id) for each in sealed]
        matches = [hmac.compare_digest(signatures.sign(each, text), told.signature) for each in opened]
        revoked = await asyncio.to_thread(self._revocations.latest, [key.subject], key.tenant_id)
        if found is None:
            raise Refused(_failure(key, "unknown_key", "signature"))
        if stale:
            raise Refused(_failure(key, "stale_timestamp", "signature"))
        if not any(matches):
            raise Refused(_failure(key, "bad_signature", "signature"))
        self._check_holds(key, revoked, now, "signature")
        # Last: nobody can use up another's nonces without the key.
        if not await self._once.use(f"nonce:{key.key_id}:{told.nonce}", now + signatures.REMEMBER_NONCE):
            raise Refused(_failure(key, "replayed_request", "signature"))
        return key

    def _opened(self, sealed: str, key_id: str) -> bytes:
        """Return what signs for a key; where another file sealed it, something that nobody can sign with."""
        try:
            return self._parts.ring.unseal(sealed, key_id)
        except NotSealedHere as error:
            log.error(
                "signing_key_not_opened",
                key_id=key_id,
                error=str(error),
                fix="put back the file with the API's keys, or rotate this key",
            )
            return secrets.token_bytes(32)

    def _of_key(self, request: Request, key: ApiKey, method: AuthMethod) -> Principal:
        self._note_use(request, key, method)
        platform = not key.tenant_id
        return Principal(
            subject=key.subject,
            auth_method=method,
            platform=platform,
            tenants=() if platform else (key.tenant_id,),
            roles=key.roles,
            permissions=effective(key.roles, key.permissions, platform=platform),
            key_id=key.key_id,
            expires_at=key.expires_at,
        )

    def _note_use(self, request: Request, key: ApiKey, method: str) -> None:
        now_s = self._parts.monotonic_s()
        if now_s - self._last_use.get(key.key_id, float("-inf")) < USE_EVERY_S:
            return
        self._last_use[key.key_id] = now_s
        self._last_use.move_to_end(key.key_id)
        while len(self._last_use) > MAX_KEYS_KEPT:
            self._last_use.popitem(last=False)
        trace = trace_of(request.scope)
        trace.auth.append(
            AuthFact(key.tenant_id, key.subject, "api_key_use", "success", method, key_id=key.key_id)
        )
        writing = asyncio.create_task(self._write_use(key, trace.source_ip or ""))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def _write_use(self, key: ApiKey, source_ip: str) -> None:
        try:
            await asyncio.to_thread(self._keys.used, key, self._parts.clock(), source_ip)
        except StoreUnavailable as error:
            log.warning("key_use_not_noted", key_id=key.key_id, error=str(error)[:300])

    async def finish(self) -> None:
        """Wait for what is being written."""
        await asyncio.gather(*self._writing)

    async def _of_token(self, token: str) -> Principal:
        now = self._parts.clock()
        try:
            claims = tokens.read(self._parts.ring, self._parts.config.issuer, token, now)
            principal = tokens.principal_of(claims, datetime.fromtimestamp(claims["exp"], UTC))
        except tokens.TokenRefused as error:
            raise Refused(_token_failure(error.claims, error.reason)) from None
        # Not when it was issued: a person may have been revoked while the token was being refreshed.
        begun_at = datetime.fromtimestamp(claims.get("auth_time", claims["iat"]), UTC)
        ids = [principal.subject, f"token:{principal.token_id}"]
        ids += [f"family:{principal.family_id}"] if principal.family_id else []
        revoked_in = await asyncio.to_thread(self._revocations.revoked_in, ids, principal.tenants, begun_at)
        left = principal.without(revoked_in)
        if left is None:
            raise Refused(_token_failure(claims, "revoked_token"))
        return left


def _client_credentials(request: Request, form: dict[str, str]) -> tuple[str | None, str | None]:
    """Return client id and secret from the header (RFC 6749, 2.3.1) or the form; not from both."""
    given = [each for each in request.headers.getlist("authorization") if each[:6].lower() == "basic "]
    if len(given) > 1 or (given and "client_secret" in form):
        raise Problem("repeated_parameter", "give the client's secret once: in the header or in the form")
    if not given:
        return form.get("client_id"), form.get("client_secret")
    try:
        client_id, _, secret = base64.b64decode(given[0][6:], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, None
    return client_id, secret


def _target(request: Request) -> str:
    """Return path and query as they were sent: what was signed."""
    path: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope.get("query_string", b"")
    return (path.split(b"?")[0] + (b"?" + query if query else b"")).decode("latin-1")


def _failure(key: ApiKey, reason: str, method: str) -> AuthFact:
    known = key.key_id if key is not _NOBODY else None
    return AuthFact(
        key.tenant_id, key.subject if known else None, "api_key_use", "failure", method, reason, known
    )


def _token_failure(claims: dict[str, object], reason: str) -> AuthFact:
    """Return the fact of a refused token; only what a good signature vouches for is told as known."""
    tenant, subject, token_id = (claims.get(name) for name in ("tenant_id", "sub", "jti"))
    return AuthFact(
        tenant if isinstance(tenant, str) else "",
        subject if isinstance(subject, str) else None,
        "token_use",
        "failure",
        "oauth2",
        reason,
        token_id=token_id if isinstance(token_id, str) else None,
    )
