"""People sign in at an OIDC provider and get tokens of ours (authorization code with PKCE)."""

import json
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse

from api.v1.grants import OFFLINE
from api.v1.key_ring import NotSealedHere
from api.v1.oidc import Attempt, SignInRefused, authorization_url, person, read_id_token
from api.v1.oidc_provider import Provider, ProviderUnavailable, log
from api.v1.parts import Parts, PartsOf
from api.v1.problems import RETRY_S, Problem
from api.v1.routes.oauth import Tokens, tokens_shown
from api.v1.routing import Routes
from api.v1.single_use import SingleUse
from api.v1.trace import AuthFact, trace_of

routes = Routes("/auth", "sign_in")
COOKIE: Final = "tenantwatch_sign_in"
PATH: Final = "/v1/auth"
_BOUND_TO: Final = "sign-in"
Short = Annotated[str | None, Query(max_length=4_096)]


def _provider(request: Request) -> Provider:
    provider: Provider | None = request.app.state.provider
    if provider is None:
        raise Problem("not_configured", "signing in is not set up: TENANTWATCH_OIDC_ISSUER names no provider")
    return provider


def _away(error: ProviderUnavailable) -> Problem:
    log.warning("oidc_provider_unavailable", error=str(error)[:300])
    return Problem(
        "unavailable", "the OIDC provider does not answer as it should", headers={"Retry-After": str(RETRY_S)}
    )


@routes.get(
    "/login",
    permission=None,
    reach="public",
    status_code=302,
    response_model=None,
    response_class=RedirectResponse,  # or the document would promise JSON
    problems=["not_configured"],
)
async def begin_sign_in(request: Request, parts: PartsOf) -> Response:
    """Send the browser to the provider; it comes back to `/v1/auth/callback`."""
    provider, config = _provider(request), parts.config.oidc
    assert config is not None
    if not provider.discovered:  # while it is away everybody who signs in would wait for it
        request.app.state.gate.check_stranger(trace_of(request.scope))
    attempt = Attempt.begin(parts.clock())
    try:
        url = authorization_url(config, await provider.authorization_endpoint(), attempt)
    except ProviderUnavailable as error:
        raise _away(error) from None
    answer = RedirectResponse(url, status_code=302)
    answer.set_cookie(
        COOKIE,
        parts.ring.seal(json.dumps(asdict(attempt)).encode(), _BOUND_TO),
        max_age=600,
        path=PATH,
        secure=config.redirect_url.startswith("https://"),
        httponly=True,
        samesite="lax",
    )
    return answer


@routes.get(
    "/callback",
    permission=None,
    reach="public",
    response_model=Tokens,
    # Providers add parameters of their own, which must be ignored (RFC 6749, 4.1.2).
    open_query=True,
    problems=["not_configured", "unauthenticated"],
)
async def finish_sign_in(
    request: Request,
    parts: PartsOf,
    code: Short = None,
    state: Short = None,
    error: Short = None,
    iss: Short = None,
) -> Response:
    """Take the provider's code and answer with tokens: what the browser began, it ends."""
    provider, config, trace = _provider(request), parts.config.oidc, trace_of(request.scope)
    gate = request.app.state.gate
    assert config is not None
    gate.check_sign_in(trace)
    try:
        if iss is not None and iss != config.issuer:  # RFC 9207: the code is another provider's
            raise SignInRefused("wrong_issuer")
        if error is not None or code is None:
            raise SignInRefused("denied_by_provider")
        attempt = await _attempt(request, parts, state)
        id_token = await provider.exchange(code, attempt)
        key = await provider.key_of(id_token)
        claims = read_id_token(config, id_token, key, attempt, parts.clock())
        principal = person(config, claims)
    except ProviderUnavailable as failed:
        raise _away(failed) from None
    except SignInRefused as refused:
        fact = AuthFact(refused.tenant_id, refused.subject, "login", "failure", "sso", refused.reason)
        gate.addresses.sign_in_refused(trace.source_ip)
        problem = gate.refuse(trace, fact)
        problem.detail = f"the sign-in was refused: {refused.reason}; begin again at /v1/auth/login"
        raise problem from None
    granted = await request.app.state.grants.begin(principal, OFFLINE)
    if granted.refresh_token is not None:
        gate.addresses.good(trace.source_ip, granted.refresh_token, principal.subject, principal.tenants)
    trace.principal = granted.principal
    trace.auth.append(
        AuthFact(
            principal.home, principal.subject, "login", "success", "sso", token_id=granted.access.token_id
        )
    )
    answer = JSONResponse(tokens_shown(granted, parts))
    answer.delete_cookie(COOKIE, path=PATH)
    return answer


async def _attempt(request: Request, parts: Parts, state: str | None) -> Attempt:
    """Return the sign-in that this browser began; each is ended once."""
    try:
        kept: dict[str, Any] = json.loads(parts.ring.unseal(request.cookies.get(COOKIE, ""), _BOUND_TO))
    except NotSealedHere:
        raise SignInRefused("not_begun_here") from None
    attempt = Attempt(**kept)
    if state != attempt.state:
        raise SignInRefused("wrong_state")
    now = parts.clock()
    if now.timestamp() > attempt.expires_at:
        raise SignInRefused("expired_sign_in")
    once: SingleUse = request.app.state.once
    if not await once.use(f"sign-in:{attempt.state}", now + timedelta(minutes=15)):
        raise SignInRefused("replayed_sign_in")
    return attempt
