"""OAuth2: tokens for clients (RFC 6749, 4.4 and 6), and taking them back (RFC 7009)."""

from typing import Annotated, Any, Final
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from api.v1.authentication import Refused
from api.v1.caller import Principal
from api.v1.grants import Granted, GrantRefused
from api.v1.parts import Parts, PartsOf
from api.v1.problems import PROBLEM_JSON, Problem, document
from api.v1.routing import Routes, read_body
from api.v1.trace import AuthFact, trace_of

routes = Routes("/oauth", "token")
FORM: Final = "application/x-www-form-urlencoded"
MAX_FORM_BYTES: Final = 16 * 1024
_OPTIONAL: Final = {"type": "string"}


class Tokens(BaseModel):
    """A token response."""

    access_token: str
    token_type: Annotated[str, Field(description="Always `Bearer`.")]
    expires_in: Annotated[int, Field(description="Seconds.")]
    scope: str
    refresh_token: Annotated[str | None, Field(description="With the scope `offline_access`; used once.")] = (
        None
    )


class OAuthError(BaseModel):
    """An error response of OAuth2, with the members of our problems beside its own."""

    error: str
    error_description: str
    status: int
    code: str
    request_id: str


def _form(*required: str, **optional: dict[str, Any]) -> dict[str, Any]:
    fields = {name: {"type": "string"} for name in required} | optional
    fields |= {"client_id": _OPTIONAL, "client_secret": _OPTIONAL}
    schema = {"type": "object", "required": list(required), "properties": fields}
    return {"requestBody": {"required": True, "content": {FORM: {"schema": schema}}}}


_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    400: {
        "model": OAuthError,
        "description": "`invalid_request`, `invalid_grant`, `invalid_scope`, …; an unreadable form",
        "content": {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    },
    401: {"model": OAuthError, "description": "`invalid_client`"},
}


@routes.post(
    "/token",
    permission=None,
    reach="public",
    response_model=Tokens,
    response_model_exclude_none=True,
    max_body_bytes=MAX_FORM_BYTES,
    problems=["unsupported_media_type", "tenant_suspended"],
    responses=_ERRORS,
    openapi_extra=_form(
        "grant_type",
        grant_type={"type": "string", "enum": ["client_credentials", "refresh_token"]},
        refresh_token=_OPTIONAL,
        scope=_OPTIONAL,
    ),
)
async def issue_token(request: Request, parts: PartsOf) -> Response:
    """Give a client tokens: its `client_id` is a key's id, its `client_secret` the key.

    The client authenticates by HTTP Basic or in the form. `scope` narrows the permissions.
    """
    form = await _read_form(request)
    gate, grants = request.app.state.gate, request.app.state.grants
    trace = trace_of(request.scope)
    kind = form.get("grant_type")
    try:
        client = await _client(request, form, optional=kind == "refresh_token")
        if kind == "client_credentials" and client is not None:
            granted = await grants.begin(client, form.get("scope"))
            action = "token_issue"
        elif kind == "refresh_token" and "refresh_token" in form:
            if client is None:
                await gate.check_refresh(form["refresh_token"])
            granted = await grants.refresh(form["refresh_token"], client, form.get("scope"))
            action = "token_refresh"
        else:
            wanted = "`grant_type` is client_credentials, or refresh_token with the token in `refresh_token`"
            return _error(request, "unsupported_grant_type" if kind else "invalid_request", wanted)
    except Refused as error:
        gate.refuse(trace, error.fact)
        return _error(request, "invalid_client", "the client's id and secret do not belong together", 401)
    except GrantRefused as error:
        action = "token_refresh" if kind == "refresh_token" else "token_issue"
        gate.refuse(trace, _refused(error, trace.principal, action))
        return _error(request, error.error, error.detail)
    who, issued = granted.principal, granted.access
    if client is None:
        await gate.count_refresh(who)
    if granted.refresh_token is not None:
        gate.addresses.good(trace.source_ip, granted.refresh_token, who.subject, who.tenants)
    trace.principal = who
    trace.auth.append(
        AuthFact(
            who.home, who.subject, action, "success", "oauth2", key_id=who.key_id, token_id=issued.token_id
        )
    )
    return JSONResponse(tokens_shown(granted, parts))


def tokens_shown(granted: Granted, parts: Parts) -> dict[str, Any]:
    """Return a token response."""
    lifetime = granted.access.expires_at - parts.clock()
    shown = {
        "access_token": granted.access.token,
        "token_type": "Bearer",
        "expires_in": max(0, int(lifetime.total_seconds())),
        "scope": " ".join(sorted(granted.principal.permissions)),
    }
    return shown | ({"refresh_token": granted.refresh_token} if granted.refresh_token else {})


@routes.post(
    "/revoke",
    permission=None,
    reach="public",
    status_code=200,
    response_model=None,
    response_class=Response,  # nothing is in it
    max_body_bytes=MAX_FORM_BYTES,
    problems=["unsupported_media_type", "tenant_suspended"],
    responses=_ERRORS,
    openapi_extra=_form("token", token_type_hint=_OPTIONAL),
)
async def revoke_token(request: Request) -> Response:
    """Take one of the client's tokens back; a refresh token goes with all that came of the same sign-in.

    The answer is the same for a token that nobody has (RFC 7009).
    """
    form = await _read_form(request)
    trace = trace_of(request.scope)
    try:
        client = await _client(request, form, optional=False)
    except Refused as error:
        request.app.state.gate.refuse(trace, error.fact)
        return _error(request, "invalid_client", "the client's id and secret do not belong together", 401)
    assert client is not None
    if "token" not in form:
        return _error(request, "invalid_request", "send the token")
    if await request.app.state.grants.revoke(form["token"], client):
        trace.auth.append(
            AuthFact(client.home, client.subject, "token_revoke", "success", "oauth2", key_id=client.key_id)
        )
    return Response(status_code=200)


async def _client(request: Request, form: dict[str, str], *, optional: bool) -> Principal | None:
    """Return the client; None if it may be left out and was, as people's refresh tokens have none."""
    basic = request.headers.get("authorization", "")[:6].lower() == "basic "
    gate = request.app.state.gate
    if optional and not basic and "client_secret" not in form:
        await gate.check_presented(request, form.get("refresh_token", ""))
        return None
    presented = request.headers["authorization"] if basic else form.get("client_secret", "")
    await gate.check_presented(request, presented)
    client: Principal = await gate.authentication.client(request, form)
    trace = trace_of(request.scope)
    gate.addresses.good(trace.source_ip, presented, client.subject, client.tenants)
    trace.principal = client
    await gate.check_client(trace, client)
    return client


async def _read_form(request: Request) -> dict[str, str]:
    body = await read_body(request, MAX_FORM_BYTES)
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != FORM:
        raise Problem("unsupported_media_type", f"send {FORM}")
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=20, errors="strict")
    except ValueError:
        raise Problem("malformed_request", "the form cannot be read") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Problem("repeated_parameter", "give each field once")
    return form


def _refused(error: GrantRefused, client: Principal | None, action: str) -> AuthFact:
    token = error.token
    if token is not None:
        return AuthFact(token.tenant_id, token.subject, action, "failure", "oauth2", error.reason)
    home, subject = (client.home, client.subject) if client else ("", None)
    return AuthFact(home, subject, action, "failure", "oauth2", error.reason)


def _error(request: Request, error: str, detail: str, status: int = 400) -> JSONResponse:
    trace = trace_of(request.scope)
    code = "unauthenticated" if status == 401 else "malformed_request"
    trace.problem = code
    said = {"error": error, "error_description": detail}
    headers = {"WWW-Authenticate": 'Basic realm="tenantwatch"'} if status == 401 else {}
    body = said | document(Problem(code, detail), trace.request_id)
    return JSONResponse(body, status_code=status, headers=headers)
