"""Access tokens: short-lived, signed with a key pair, and read with every check that there is."""

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import jwt

from api.v1.caller import AuthMethod, Principal
from api.v1.key_ring import ALGORITHM, KeyRing
from api.v1.permissions import effective

LIFETIME: Final = timedelta(minutes=15)
AUDIENCE: Final = "tenantwatch-api"
TYPE: Final = "at+jwt"  # RFC 9068: nothing else that we sign can be taken for an access token
# Clocks of the processes that sign and verify may differ so far.
LEEWAY: Final = timedelta(seconds=5)
MAX_TOKEN_BYTES: Final = 8 * 1024
# An allow-list of one: the header of a token may say what it likes.
ALGORITHMS: Final = (ALGORITHM,)
_REQUIRED: Final = (
    "sub",
    "tenant_id",
    "org",
    "roles",
    "permissions",
    "scope",
    "iss",
    "aud",
    "iat",
    "exp",
    "jti",
)


class TokenRefused(Exception):
    """A token is not good; `reason` is a snake_case word for the trail, not for whoever sent it."""

    def __init__(self, reason: str, claims: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        # Only what a good signature vouches for.
        self.claims = claims or {}


@dataclass(frozen=True)
class Issued:
    """A new access token."""

    token: str
    token_id: str
    expires_at: datetime


def issue(
    ring: KeyRing,
    issuer: str,
    principal: Principal,
    organization_id: str,
    now: datetime,
    *,
    begun_at: datetime | None = None,
) -> Issued:
    """Return an access token for a principal: with its permissions, for `LIFETIME`.

    Parameters
    ----------
    organization_id
        Of its tenant; empty for the platform.
    begun_at
        When the sign-in was that it came of, however often it was refreshed since; None: now.
    """
    token_id = secrets.token_hex(16)
    expires_at = now + LIFETIME
    if principal.expires_at is not None:
        expires_at = min(expires_at, principal.expires_at)
    permissions = sorted(principal.permissions)
    claims: dict[str, Any] = {
        "sub": principal.subject,
        "tenant_id": principal.home,
        "tenants": list(principal.tenants),
        "platform": principal.platform,
        "org": organization_id,
        "roles": list(principal.roles),
        "permissions": permissions,
        "scope": " ".join(permissions),
        "auth_method": principal.auth_method,
        "iss": issuer,
        "aud": AUDIENCE,
        "iat": int(now.timestamp()),
        "nbf": int(now.timestamp()),
        "exp": int(expires_at.timestamp()),
        "jti": token_id,
    }
    if principal.family_id:
        claims["family"] = principal.family_id
    if begun_at is not None:
        claims["auth_time"] = int(begun_at.timestamp())  # as RFC 9068, 2.2.1, has it
    key = ring.signing_key(now)
    token = jwt.encode(claims, key.private, ALGORITHM, headers={"kid": key.kid, "typ": TYPE})
    return Issued(token, token_id, expires_at)


def read(
    ring: KeyRing, issuer: str, token: str, now: datetime, *, expired_too: bool = False
) -> dict[str, Any]:
    """Return the claims of an access token.

    Parameters
    ----------
    expired_too
        For revoking one.

    Raises
    ------
    TokenRefused
        Why.
    """
    claims = _verified(ring, token, now)
    if claims.get("iss") != issuer:
        raise TokenRefused("wrong_issuer", claims)
    if claims.get("aud") != AUDIENCE:
        raise TokenRefused("wrong_audience", claims)
    if any(name not in claims for name in _REQUIRED):
        raise TokenRefused("missing_claim", claims)
    times = [claims.get(name, claims["iat"]) for name in ("iat", "nbf", "exp", "auth_time")]
    if any(isinstance(each, bool) or not isinstance(each, int) for each in times):
        raise TokenRefused("malformed_token", claims)
    now_s, leeway_s = now.timestamp(), LEEWAY.total_seconds()
    if max(times[0], times[1]) > now_s + leeway_s:
        raise TokenRefused("not_yet_valid", claims)
    if times[2] <= now_s - leeway_s and not expired_too:
        raise TokenRefused("expired_token", claims)
    return claims


def _verified(ring: KeyRing, token: str, now: datetime) -> dict[str, Any]:
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused("malformed_token")
    try:
        header = jwt.get_unverified_header(token)
    except jwt.InvalidTokenError as error:
        raise TokenRefused("malformed_token") from error
    if header.get("alg") not in ALGORITHMS:
        raise TokenRefused("wrong_algorithm")
    if header.get("typ") != TYPE:
        raise TokenRefused("wrong_type")
    keys = {key.kid: key for key in ring.verifying(now)}
    key = keys.get(str(header.get("kid")))
    if key is None:
        raise TokenRefused("unknown_kid")
    # Times, issuer and audience are judged by `read`, with the clock that it is given.
    options: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.public,
            algorithms=list(ALGORITHMS),
            options=options | {"verify_signature": True},
        )
    except jwt.InvalidSignatureError as error:
        raise TokenRefused("bad_signature") from error
    except jwt.InvalidTokenError as error:
        raise TokenRefused("malformed_token") from error
    return claims


def principal_of(claims: dict[str, Any], expires_at: datetime) -> Principal:
    """Return who the claims of a token that was read are about."""
    platform = claims.get("platform") is True
    method: AuthMethod = "sso" if claims.get("auth_method") == "sso" else "oauth2"
    return Principal(
        subject=str(claims["sub"]),
        auth_method=method,
        platform=platform,
        tenants=tuple(map(str, claims.get("tenants", ()))),
        roles=tuple(map(str, claims["roles"])),
        # Not from the roles: the token may have been asked for with a narrower scope.
        permissions=effective((), map(str, claims["permissions"]), platform=platform),
        token_id=str(claims["jti"]),
        family_id=claims.get("family"),
        expires_at=expires_at,
    )
