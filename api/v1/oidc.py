"""Signing in at an OIDC provider: the pure part. What is sent there, and who an ID token says somebody is."""

import base64
import hashlib
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

import jwt

from api.v1.caller import Principal
from api.v1.permissions import PLATFORM_ROLES, TENANT_ROLES, effective

# Asymmetric ones only: with a shared secret whoever can check a token can make one.
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY: Final = timedelta(seconds=60)
SIGN_IN_WITHIN: Final = timedelta(minutes=10)
SCOPE: Final = "openid profile email"


class SignInRefused(Exception):
    """The sign-in is not good; `reason` is a snake_case word for the trail and the caller."""

    def __init__(self, reason: str, subject: str | None = None, tenant_id: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.subject = subject
        self.tenant_id = tenant_id


@dataclass(frozen=True)
class OidcConfig:
    """The provider, and how its people become ours.

    Parameters
    ----------
    issuer
        Its URL; https, or on this machine.
    redirect_url
        Of ``/v1/auth/callback`` as browsers reach it.
    tenant_claim, roles_claim
        Where in the ID token they are; a dot leads into an object (``realm_access.roles``).
    role_map
        Their names to our roles; empty: the names are the same.
    """

    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    redirect_url: str
    tenant_claim: str = "tenant_id"
    roles_claim: str = "tenantwatch_roles"
    role_map: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """One sign-in on its way, kept by the browser that began it, encrypted.

    Parameters
    ----------
    state
        Comes back with the code: the sign-in that ends is the one that this browser began.
    nonce
        Comes back in the ID token: it was made for this sign-in.
    verifier
        Of PKCE: whoever steals the code cannot use it.
    """

    state: str
    nonce: str
    verifier: str
    expires_at: int

    @classmethod
    def begin(cls, now: datetime) -> "Attempt":
        """Return a new one."""
        expires_at = int((now + SIGN_IN_WITHIN).timestamp())
        return cls(
            secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48), expires_at
        )

    def challenge(self) -> str:
        """Return the code challenge, S256.

        >>> Attempt("", "", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", 0).challenge()  # RFC 7636, B
        'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
        """
        digest = hashlib.sha256(self.verifier.encode()).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def authorization_url(config: OidcConfig, endpoint: str, attempt: Attempt) -> str:
    """Return where the browser goes to sign in."""
    query = {
        "response_type": "code",
        "client_id": config.client_id,
        "redirect_uri": config.redirect_url,
        "scope": SCOPE,
        "state": attempt.state,
        "nonce": attempt.nonce,
        "code_challenge": attempt.challenge(),
        "code_challenge_method": "S256",
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"


def kid_of(id_token: str) -> str | None:
    """Return the name of the key that an ID token says it is signed with.

    Raises
    ------
    SignInRefused
        If it is no token, or signed in a way that we do not take.
    """
    try:
        header = jwt.get_unverified_header(id_token)
    except jwt.InvalidTokenError as error:
        raise SignInRefused("malformed_token") from error
    if header.get("alg") not in ALGORITHMS:
        raise SignInRefused("wrong_algorithm")
    kid = header.get("kid")
    return kid if isinstance(kid, str) else None


def read_id_token(
    config: OidcConfig, id_token: str, key: jwt.PyJWK, attempt: Attempt, now: datetime
) -> dict[str, Any]:
    """Return the claims of an ID token that was made for this sign-in (OpenID Connect Core, 3.1.3.7).

    Raises
    ------
    SignInRefused
        Why.
    """
    kid_of(id_token)
    unjudged: Any = {f"verify_{name}": False for name in ("exp", "nbf", "iat", "aud", "iss", "sub", "jti")}
    try:
        # The key says which algorithm it is for; the token's header has no say.
        claims: dict[str, Any] = jwt.decode(
            id_token, key, algorithms=[key.algorithm_name], options=unjudged | {"verify_signature": True}
        )
    except jwt.InvalidSignatureError as error:
        raise SignInRefused("bad_signature") from error
    except (jwt.InvalidTokenError, NotImplementedError, TypeError) as error:
        raise SignInRefused("malformed_token") from error
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if claims.get("iss") != config.issuer:
        raise SignInRefused("wrong_issuer")
    # More audiences than one: somebody else could send us what was made for them.
    if config.client_id not in audiences or claims.get("azp", config.client_id) != config.client_id:
        raise SignInRefused("wrong_audience")
    if len(audiences) > 1 and "azp" not in claims:
        raise SignInRefused("wrong_audience")
    if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), attempt.nonce.encode()):
        raise SignInRefused("wrong_nonce")
    now_s, leeway_s = now.timestamp(), LEEWAY.total_seconds()
    times = [claims.get("exp"), claims.get("iat")]
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in times):
        raise SignInRefused("malformed_token")
    if claims["exp"] <= now_s - leeway_s:
        raise SignInRefused("expired_token")
    if claims["iat"] > now_s + leeway_s:
        raise SignInRefused("not_yet_valid")
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise SignInRefused("malformed_token")
    return claims


def claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return what is at a path in the claims; None where there is nothing.

    >>> claim({"realm_access": {"roles": ["analyst"]}}, "realm_access.roles")
    ['analyst']
    """
    if path in claims:
        return claims[path]
    found: Any = claims
    for name in path.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _texts(value: Any) -> list[str]:
    return [
        each for each in (value if isinstance(value, list) else [value]) if isinstance(each, str) and each
    ]


def person(config: OidcConfig, claims: Mapping[str, Any]) -> Principal:
    """Return who somebody is here: tenants and roles are what the provider says, and nothing is assumed.

    With a tenant, platform roles count for nothing; without one, only those do.

    Raises
    ------
    SignInRefused
        If the provider says nothing of it, or nothing that exists.
    """
    tenants = _texts(claim(claims, config.tenant_claim))
    subject = f"user:{claims['sub']}"
    roles = _roles(config, _texts(claim(claims, config.roles_claim)), platform=not tenants)
    if not roles:
        raise SignInRefused("no_role", subject, tenants[0] if tenants else "")
    return Principal(
        subject=subject,
        auth_method="sso",
        platform=not tenants,
        tenants=tuple(dict.fromkeys(tenants)),
        roles=tuple(roles),
        permissions=effective(roles, (), platform=not tenants),
    )


def _roles(config: OidcConfig, told: Sequence[str], *, platform: bool) -> list[str]:
    named = [config.role_map.get(name, "") for name in told] if config.role_map else list(told)
    known = PLATFORM_ROLES if platform else TENANT_ROLES
    return [role for role in dict.fromkeys(named) if role in known]
