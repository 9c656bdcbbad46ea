"""Declaring routes: each says what it needs, or the app does not start.

`Routes` collects handlers with their `Access`; `DeclaredRoute` asks the gate before anything of a request's
body is read. There is no other way to add a route: `check_declared` refuses an app that has one.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.v1.depth import MAX_DEPTH, too_deep
from api.v1.json_text import flaw
from api.v1.permissions import PERMISSIONS, Permission
from api.v1.problems import Problem, documented
from api.v1.trace import trace_of
from schemas.event import TENANT_ID

# tenant: about exactly one tenant. either: about one, or for the platform's callers about all. platform: for
# the platform's callers only. self: whoever is authenticated. public: anybody.
Reach = Literal["tenant", "either", "platform", "self", "public"]
MAX_SINGLE_BYTES: Final = 1024 * 1024
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024
# A connection that sends hardly anything would hold what it sent, and its place, for ever.
READ_S: Final = 60.0
# Below that, looking at a body's text costs less than handing it to another thread.
LOOK_HERE_BYTES: Final = 64 * 1024
Trail = Literal["full", "request", "none"]
_ACTIONS: Final = {"GET": "read", "POST": "create", "PUT": "update", "PATCH": "update", "DELETE": "delete"}
_WITH_BODY: Final = frozenset({"POST", "PUT", "PATCH"})
Handler = TypeVar("Handler", bound=Callable[..., Any])


@dataclass(frozen=True)
class Access:
    """What a route needs, and how its use is told in the trail.

    Parameters
    ----------
    permission
        None only with a reach of ``self`` or ``public``.
    resource
        The ``resource_type`` of access events.
    action
        Their ``action``.
    trail
        ``full``: an access event and a request event for each call. ``request``: no access event, for
        routes that are called for every event. ``none``: neither, for what a balancer asks every second.
    max_body_bytes
        A larger body is refused before it is read.
    open_query
        Whether parameters that the route does not know are ignored, where others' software makes them up.
    """

    permission: Permission | None
    reach: Reach
    resource: str
    action: str
    trail: Trail = "full"
    max_body_bytes: int = MAX_SINGLE_BYTES
    open_query: bool = False

    def __post_init__(self) -> None:
        if (self.permission is None) != (self.reach in ("self", "public")):
            raise ValueError(f"reach {self.reach!r} does not go with permission {self.permission!r}")
        if self.permission is not None and self.permission not in PERMISSIONS:
            raise ValueError(f"there is no permission {self.permission!r}")


class UndeclaredRoute(Exception):
    """An app has a route that does not say who may use it."""


class DeclaredRoute(APIRoute):
    """A route whose requests pass the gate first."""

    def __init__(self, path: str, endpoint: Callable[..., Any], *, access: Access, **options: Any) -> None:
        self.access = access
        super().__init__(path, endpoint, **options)
        parameters = dict(_query_parameters(self.dependant))
        self._many = {name for name, annotation in parameters.items() if _takes_many(annotation)}
        self._known = parameters.keys()

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler, behind the gate."""
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            trace = trace_of(request.scope)
            trace.route, trace.access = self.path_format, self.access
            trace.resource_id = next(reversed([*request.path_params.values()]), None)
            trace.caller = await request.app.state.gate.admit(request, self.access)
            self._check_query(request)
            if request.method in _WITH_BODY:
                await read_body(request, self.access.max_body_bytes)
            return await handle(request)

        return guarded

    def _check_query(self, request: Request) -> None:
        seen: set[str] = set()
        for name, _ in request.query_params.multi_items():
            if name not in self._known:
                if self.access.open_query:
                    continue
                known = ", ".join(sorted(self._known)) or "none"
                raise Problem(
                    "unknown_parameter", f"there is no parameter {name[:64]!r} here; there are {known}"
                )
            if name in seen and name not in self._many:
                raise Problem("repeated_parameter", f"give the parameter {name!r} once")
            seen.add(name)


def _query_parameters(dependant: Dependant) -> Iterator[tuple[str, Any]]:
    """Yield names and types, those of models' fields included."""
    for each in dependant.query_params:
        annotation: Any = each.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            for name, field in annotation.model_fields.items():
                yield field.alias or name, field.annotation
        else:
            yield each.alias, annotation
    for dependency in dependant.dependencies:
        yield from _query_parameters(dependency)


def _takes_many(annotation: Any) -> bool:
    origins = {
        getattr(each, "__origin__", each) for each in (annotation, *getattr(annotation, "__args__", ()))
    }
    return bool(origins & {list, tuple, set, Sequence})


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read a request's body, if it is small, shallow and not compressed; further readers get the same bytes.

    Raises
    ------
    Problem
        ``body_too_large`` after no more than the limit was read; ``body_too_slow``; ``malformed_request`` and
        ``body_too_deep`` before it is parsed; ``unsupported_encoding``; ``unavailable`` where too much of
        others' bodies is held.
    """
    if hasattr(request, "_body"):
        return await request.body()
    if request.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Problem("unsupported_encoding", "send the body as it is, without Content-Encoding")
    too_large = Problem(
        "body_too_large", f"send at most {max_bytes:,} bytes", headers={"Connection": "close"}
    )
    told = request.headers.get("content-length", "0")
    bodies, trace = request.app.state.bodies, trace_of(request.scope)
    if told.isascii() and told.isdigit():
        if int(told) > max_bytes:
            raise too_large
        bodies.check(int(told))
    chunks, size = [], 0
    try:
        async with asyncio.timeout(READ_S):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise too_large
                bodies.hold(trace, len(chunk))
                chunks.append(chunk)
    except TimeoutError:
        detail = f"send the whole body within {READ_S:.0f} s"
        raise Problem("body_too_slow", detail, headers={"Connection": "close"}) from None
    body = request._body = b"".join(chunks)  # where Starlette looks for it
    trace.bytes_in = size
    # Whatever some handler would take for JSON: the type's name has no case.
    if "json" in request.headers.get("content-type", "").lower():
        if size < LOOK_HERE_BYTES:
            _check_json(body)
        else:
            await asyncio.to_thread(_check_json, body)
    return body


def _check_json(body: bytes) -> None:
    if (wrong := flaw(body)) is not None:
        errors = [{"field": "body", "detail": wrong}]
        raise Problem("malformed_request", "the body is not JSON in UTF-8", errors=errors)
    if too_deep(body):
        raise Problem("body_too_deep", f"nest arrays and objects at most {MAX_DEPTH} deep")


class Routes:
    """Handlers of one resource.

    Parameters
    ----------
    prefix
        Of their paths, beginning with a slash; ``/v1`` comes before it.
    resource
        What they are about: the ``resource_type`` of access events, and the tag in the documentation.
    """

    def __init__(self, prefix: str, resource: str) -> None:
        self._prefix = prefix
        self._resource = resource
        self._declared: list[tuple[str, str, Callable[..., Any], Access, dict[str, Any]]] = []

    def get(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        """Declare a GET; `route` says how."""
        return self.route("GET", path, **declared)

    def post(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        """Declare a POST; `route` says how."""
        return self.route("POST", path, **declared)

    def patch(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        """Declare a PATCH; `route` says how."""
        return self.route("PATCH", path, **declared)

    def put(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        """Declare a PUT; `route` says how."""
        return self.route("PUT", path, **declared)

    def delete(self, path: str, **declared: Any) -> Callable[[Handler], Handler]:
        """Declare a DELETE; `route` says how."""
        return self.route("DELETE", path, **declared)

    def route(
        self,
        method: str,
        path: str,
        *,
        permission: Permission | None,
        reach: Reach = "tenant",
        action: str | None = None,
        trail: Trail = "full",
        max_body_bytes: int = MAX_SINGLE_BYTES,
        open_query: bool = False,
        problems: Sequence[str] = (),
        **options: Any,
    ) -> Callable[[Handler], Handler]:
        """Declare a route.

        Parameters
        ----------
        permission, reach, action, trail, max_body_bytes, open_query
            As in `Access`.
        problems
            Codes of the problems that this handler may answer, besides those that every route may.
        options
            FastAPI's: ``status_code``, ``response_model``, ``responses``, …
        """
        action = action or _ACTIONS[method]
        access = Access(permission, reach, self._resource, action, trail, max_body_bytes, open_query)

        def declare(handler: Handler) -> Handler:
            full = {"problems": problems, **options}
            self._declared.append((method, self._prefix + path, handler, access, full))
            return handler

        return declare

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an app."""
        for method, path, handler, access, declared in self._declared:
            options = dict(declared)
            codes = [*_common(method, access), *options.pop("problems")]
            responses = documented(*dict.fromkeys(codes))
            for status, given in options.pop("responses", {}).items():
                # Beside the problem of that status, not in its place.
                responses[status] = {**responses.get(status, {}), **given}
            extra = _openapi_extra(access, options.pop("openapi_extra", {}))
            app.router.routes.append(
                DeclaredRoute(
                    f"/v1{path}",
                    handler,
                    access=access,
                    methods=[method],
                    tags=[self._resource],
                    responses=responses,
                    openapi_extra=extra,
                    operation_id=handler.__name__,
                    **options,
                )
            )


def _common(method: str, access: Access) -> list[str]:
    codes = ["malformed_request", "repeated_parameter", "invalid", "rate_limited", "internal", "unavailable"]
    if not access.open_query:
        codes.append("unknown_parameter")
    if access.reach != "public":
        codes += ["unauthenticated", "tenant_denied", "tenant_suspended"]
        codes += ["not_found"]  # a tenant that a platform caller names and that is not there
    if access.permission is not None:
        codes.append("permission_denied")
    if access.reach == "tenant":
        codes.append("tenant_required")
    if method in _WITH_BODY:
        codes += ["body_too_slow", "body_too_large", "body_too_deep", "unsupported_encoding"]
    return codes


def _openapi_extra(access: Access, given: dict[str, Any]) -> dict[str, Any]:
    needed: dict[str, Any] = {"x-reach": access.reach}
    if access.permission is not None:
        needed["x-permission"] = access.permission
    needed["security"] = [] if access.reach == "public" else [{"bearer": []}, {"signature": []}]
    if access.reach in ("tenant", "either", "self"):
        header = {
            "name": "X-Tenant-Id",
            "in": "header",
            "required": False,
            "description": "Which of the tenants that the caller may act for.",
            "schema": {"type": "string", "pattern": TENANT_ID},
        }
        return needed | given | {"parameters": [*given.get("parameters", []), header]}
    return needed | given


def check_declared(app: FastAPI) -> None:
    """Make sure that nothing of an app can be reached past the gate.

    Raises
    ------
    UndeclaredRoute
        Which route it is.
    """
    for route in app.routes:
        if not isinstance(route, DeclaredRoute):
            path = getattr(route, "path", repr(route))
            raise UndeclaredRoute(f"{path} does not say who may use it: add it through api.v1.routing.Routes")
