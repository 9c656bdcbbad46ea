"""The app: routes behind the gate, problems for errors, manners around all of it."""

from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.v1 import problems
from api.v1.audit import Audit
from api.v1.backtesting import Backtests, RunBacktest
from api.v1.bodies import Bodies
from api.v1.gate import Gate
from api.v1.grants import Grants
from api.v1.manners import Manners
from api.v1.oidc_provider import Provider
from api.v1.parts import Parts
from api.v1.routes import (
    alerts,
    backtests,
    events,
    health,
    keys,
    me,
    oauth,
    privacy,
    reports,
    revocations,
    sign_in,
    tenants,
    trail,
    tuning,
    webhooks,
    well_known,
)
from api.v1.routing import Routes, check_declared
from api.v1.single_use import SingleUse
from api.v1.trace import trace_of
from api.v1.under_way import UnderWay

VERSION: Final = "1.0.0"
RESOURCES: Final[tuple[Routes, ...]] = (
    health.routes,
    me.routes,
    events.routes,
    alerts.routes,
    tenants.routes,
    webhooks.routes,
    tuning.routes,
    backtests.routes,
    reports.routes,
    privacy.routes,
    trail.routes,
    keys.routes,
    oauth.routes,
    revocations.routes,
    sign_in.routes,
    well_known.routes,
)
_DOCUMENT: Final = Routes("", "document")


class Cors(CORSMiddleware):
    """Lets pages of listed origins call; what is refused is a problem document, as every other error."""

    def preflight_response(self, request_headers: Headers) -> Response:
        """Return the answer to a browser that asks whether a page may call."""
        answer = super().preflight_response(request_headers)
        if answer.status_code >= 400:
            raise problems.Problem("malformed_request", bytes(answer.body).decode().lower())
        return answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            await super().__call__(scope, receive, send)
        except problems.Problem as refused:
            trace = trace_of(scope)
            trace.problem = refused.code
            await problems.response(refused, trace.request_id)(scope, receive, send)


def api_app(parts: Parts, run_backtest: RunBacktest) -> FastAPI:
    """Return the app that serves ``/v1``.

    Parameters
    ----------
    run_backtest
        Runs one, outside this process.

    Raises
    ------
    UndeclaredRoute
        If a route does not say who may use it.
    """
    # No documentation pages: they would load scripts from elsewhere.
    app = FastAPI(title="tenantwatch", version=VERSION, openapi_url=None, docs_url=None, redoc_url=None)
    app.router.redirect_slashes = False
    app.state.parts = parts
    gate = app.state.gate = Gate(parts)
    app.state.grants = Grants(parts, gate.tenants)
    app.state.backtests = Backtests(parts, run_backtest)
    app.state.under_way = UnderWay()
    bodies = app.state.bodies = Bodies(parts.config.bodies_bytes)
    app.state.store_check = health.StoreCheck(parts)
    app.state.once = SingleUse(parts.database)
    oidc = parts.config.oidc
    app.state.provider = Provider(oidc, parts) if oidc is not None else None
    problems.add_problems(app)
    for resource in (*RESOURCES, _DOCUMENT):
        resource.add_to(app)
    check_declared(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    if parts.config.cors_origins:
        app.add_middleware(
            Cors,
            allow_origins=parts.config.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Tenant-Id", "X-Request-Id", "Idempotency-Key"],
            expose_headers=["X-Request-Id", "RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"],
        )
    app.add_middleware(Manners, parts=parts, audit=Audit(parts, gate.addresses), bodies=bodies)
    return app


@_DOCUMENT.get("/openapi.json", permission=None, reach="public", response_model=dict[str, Any])
async def show_document(request: Request) -> JSONResponse:
    """Show this document."""
    request.app.state.gate.check_stranger(trace_of(request.scope))  # half a megabyte is work
    return JSONResponse(request.app.openapi(), headers={"Cache-Control": "public, max-age=300"})


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema:
        return app.openapi_schema
    document = get_openapi(
        title="tenantwatch",
        version=VERSION,
        openapi_version="3.1.0",
        summary="Audit trail and alerts of multi-tenant services",
        description="See docs/api.md: keys and tokens, errors, limits, and what may change within v1.",
        routes=app.routes,
    )
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = problems.SCHEMA
    components["securitySchemes"] = {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key (`tw_…`) or an access token from `/v1/oauth/token`.",
        },
        "signature": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "`TW1-HMAC-SHA256 KeyId=…,Timestamp=…,Nonce=…,Signature=…`: docs/api.md.",
        },
    }
    app.openapi_schema = document
    return document
