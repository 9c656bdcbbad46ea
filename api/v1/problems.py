"""Errors as RFC 9457 problem documents: what, where, how to fix it, and nothing of our insides."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.v1.trace import trace_of
from store.database import StoreUnavailable
from store.webhook_secrets import SecretsClosed

log = structlog.get_logger()
PROBLEM_JSON: Final = "application/problem+json"
MAX_ERRORS: Final = 20

# Code to status and title. docs/api.md lists them; a test compares.
PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "malformed_request": (400, "The request cannot be read"),
    "unknown_parameter": (400, "The route has no such query parameter"),
    "repeated_parameter": (400, "A parameter or header is there twice"),
    "tenant_required": (400, "The request must name a tenant"),
    "unauthenticated": (401, "No valid credentials"),
    "permission_denied": (403, "The caller may not do this"),
    "tenant_denied": (403, "The caller may not act for this tenant"),
    "tenant_suspended": (403, "The tenant is suspended"),
    "not_found": (404, "There is no such thing"),
    "not_configured": (404, "This is not set up here"),
    "method_not_allowed": (405, "The path does not take this method"),
    "body_too_slow": (408, "The body did not come in time"),
    "conflict": (409, "It is not in a state that allows this"),
    "body_too_large": (413, "The body is too large"),
    "body_too_deep": (422, "The JSON is nested too deeply"),
    "unsupported_encoding": (415, "Compressed bodies are not taken"),
    "unsupported_media_type": (415, "The body has another type than the route takes"),
    "invalid": (422, "A field is wrong"),
    "rate_limited": (429, "Too many requests"),
    "internal": (500, "Something of ours failed"),
    "unavailable": (503, "A part of the system is away; try again"),
}
RETRY_S: Final = 5


class Problem(Exception):
    """An answer that is an error.

    Parameters
    ----------
    code
        One of `PROBLEMS`.
    detail
        For the caller; no insides, no secrets, nothing of another tenant.
    errors
        By field: ``{"field": …, "detail": …}``.
    headers
        Further headers of the answer.
    extra
        Further members of the document.
    """

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status, self.title = PROBLEMS[code]
        self.code = code
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


def not_found(what: str = "resource") -> Problem:
    """Return the one answer for what does not exist and for what is another tenant's.

    >>> not_found("alert").detail
    'there is no such alert, or it is not yours to see'
    """
    return Problem("not_found", f"there is no such {what}, or it is not yours to see")


def document(problem: Problem, request_id: str) -> dict[str, Any]:
    """Return the problem's document."""
    shown: dict[str, Any] = {
        "type": f"urn:tenantwatch:problem:{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
    }
    if problem.errors:
        shown["errors"] = [dict(error) for error in problem.errors]
    return shown | problem.extra


def response(problem: Problem, request_id: str) -> JSONResponse:
    """Return the answer."""
    return JSONResponse(
        document(problem, request_id),
        status_code=problem.status,
        headers=problem.headers,
        media_type=PROBLEM_JSON,
    )


def _of_http(error: HTTPException, request: Request) -> Problem:
    if error.status_code == 404:
        return not_found("path")
    if error.status_code == 405:
        # Each method of a path is a route of its own, and the error knows of one only.
        routes = [each for each in request.app.routes if each.matches(request.scope)[0] != Match.NONE]
        allowed = ", ".join(sorted({method for each in routes for method in each.methods}))
        return Problem("method_not_allowed", f"the path takes {allowed}", headers={"Allow": allowed})
    code = "body_too_large" if error.status_code == 413 else "malformed_request"
    detail = HTTPStatus(error.status_code).phrase
    return Problem(code, detail.lower(), headers=error.headers)


def _of_validation(error: RequestValidationError) -> Problem:
    errors = [
        {"field": ".".join(map(str, each["loc"])) or "body", "detail": str(each["msg"])}
        for each in error.errors()[:MAX_ERRORS]
    ]
    if any(each["type"] == "json_invalid" for each in error.errors()):
        return Problem("malformed_request", "the body is not JSON in UTF-8", errors=errors)
    return Problem("invalid", "see `errors`: each names its field", errors=errors)


def add_problems(app: FastAPI) -> None:
    """Make every error of an app a problem document."""

    def answer(request: Request, problem: Problem) -> JSONResponse:
        trace = trace_of(request.scope)
        trace.problem = problem.code
        return response(problem, trace.request_id)

    @app.exception_handler(Problem)
    async def on_problem(request: Request, error: Problem) -> JSONResponse:
        return answer(request, error)

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> JSONResponse:
        trace = trace_of(request.scope)
        if trace.access is None:  # of no route, so it has not passed the gate
            try:
                request.app.state.gate.check_stranger(trace)
            except Problem as limited:
                return answer(request, limited)
        return answer(request, _of_http(error, request))

    @app.exception_handler(RequestValidationError)
    async def on_validation(request: Request, error: RequestValidationError) -> JSONResponse:
        return answer(request, _of_validation(error))

    @app.exception_handler(SecretsClosed)
    async def on_closed(request: Request, error: SecretsClosed) -> JSONResponse:
        return answer(request, Problem("not_configured", str(error)))

    @app.exception_handler(StoreUnavailable)
    async def on_store(request: Request, error: StoreUnavailable) -> JSONResponse:
        log.warning("request_failed", error=str(error)[:500], request_id=trace_of(request.scope).request_id)
        detail = "the store does not answer; nothing was changed unless the same request is there later"
        return answer(request, Problem("unavailable", detail, headers={"Retry-After": str(RETRY_S)}))


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI ``responses`` of these problems.

    >>> sorted(documented("not_found", "invalid"))
    [404, 422]
    """
    shown: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        status, title = PROBLEMS[code]
        said = f"`{code}`: {title.lower()}."
        if status in shown:
            shown[status]["description"] += f" {said}"
        else:
            content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
            shown[status] = {"description": said, "content": content}
    return shown


SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "An error (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "description": "`urn:tenantwatch:problem:` and the code."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string", "enum": sorted(PROBLEMS)},
        "detail": {"type": "string", "description": "What is wrong and how to fix it."},
        "request_id": {"type": "string", "description": "Quote it when you ask somebody for help."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "detail"],
                "properties": {"field": {"type": "string"}, "detail": {"type": "string"}},
            },
        },
    },
}
