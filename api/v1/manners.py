"""Around every request: its id and trace, security headers, the log of slow ones, the last net for errors."""

import re
import secrets
from typing import TYPE_CHECKING, Final

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.v1.problems import Problem, response
from api.v1.trace import Trace, set_trace
from streams.metrics import API_REQUESTS

if TYPE_CHECKING:
    from api.v1.audit import Audit
    from api.v1.bodies import Bodies
    from api.v1.parts import Parts

log = structlog.get_logger()
CLIENT_LEFT: Final = 499
REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_USER_AGENT: Final = 256
# An API answers programs: nothing of it is to be framed, cached, sniffed or run.
SECURITY_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Cache-Control": "no-store",
}


class Manners:
    """The outermost part of the app.

    Parameters
    ----------
    app
        What is inside.
    parts
        For clocks and limits.
    audit
        Told of each request once it has been answered.
    bodies
        Hold no more of it then.
    """

    def __init__(self, app: ASGIApp, parts: "Parts", audit: "Audit", bodies: "Bodies") -> None:
        self._app = app
        self._parts = parts
        self._audit = audit
        self._bodies = bodies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        trace = self._trace(scope)
        set_trace(scope, trace)
        begun = False

        async def answer(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                trace.status = message["status"]
                headers = MutableHeaders(raw=message["headers"])
                headers["X-Request-Id"] = trace.request_id
                for name, value in {**SECURITY_HEADERS, **trace.limit_headers}.items():
                    headers.setdefault(name, value)
                message["headers"] = headers.raw
            elif message["type"] == "http.response.body":
                trace.bytes_out += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except ClientDisconnect:
            # No fault of ours, and nobody hears an answer; the status is the one that proxies log.
            log.info("request_abandoned", request_id=trace.request_id, route=trace.route)
            trace.status, trace.problem = CLIENT_LEFT, "client_left"
        except Exception:
            # With all of it in the log, and nothing of it in the answer.
            log.exception(
                "request_failed", request_id=trace.request_id, method=trace.method, route=trace.route
            )
            if begun:
                raise
            trace.problem = "internal"
            detail = "it is in our log under the request id"
            await response(Problem("internal", detail), trace.request_id)(scope, receive, answer)
        finally:
            self._bodies.let_go(trace)
            self._served(trace)

    def _trace(self, scope: Scope) -> Trace:
        headers = Headers(scope=scope)
        told = headers.get("x-request-id", "")
        agent = headers.get("user-agent")
        return Trace(
            request_id=told if REQUEST_ID.fullmatch(told) else secrets.token_hex(16),
            started_s=self._parts.monotonic_s(),
            method=scope["method"],
            path=scope["path"],
            source_ip=scope["client"][0] if scope.get("client") else None,
            user_agent=_printable(agent) if agent else None,
        )

    def _served(self, trace: Trace) -> None:
        duration_ms = (self._parts.monotonic_s() - trace.started_s) * 1000
        API_REQUESTS.labels(f"{trace.status // 100}xx").inc()
        if duration_ms > self._parts.config.slow_ms:
            log.warning(
                "request_served_slowly",
                request_id=trace.request_id,
                method=trace.method,
                route=trace.route,
                status=trace.status,
                duration_ms=round(duration_ms, 1),
                tenant_id=trace.caller.tenant_id if trace.caller else None,
            )
        self._audit.request_served(trace, duration_ms)


def _printable(text: str) -> str:
    """Return a header's text with nothing in it that could steer a terminal or begin a new line.

    >>> _printable("curl" + chr(10) + "level=error")
    'curl?level=error'
    """
    return "".join(c if c.isprintable() else "?" for c in text[:MAX_USER_AGENT])
