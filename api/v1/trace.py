"""What is known of a request while it is served: filled in on the way, read when it has been answered."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from api.v1.caller import Caller, Principal
    from api.v1.routing import Access

_KEY: Final = "tenantwatch.trace"


@dataclass(slots=True)
class Trace:
    """One request.

    Parameters
    ----------
    request_id
        Given by the caller if it is harmless, else made here.
    started_s
        On the monotonic clock.
    source_ip
        The peer's address, or the one that a trusted proxy tells; None where the server does not know it.
    """

    request_id: str
    started_s: float
    method: str
    path: str
    source_ip: str | None
    user_agent: str | None
    route: str | None = None
    access: "Access | None" = None
    caller: "Caller | None" = None
    # Whose credentials were good, also where the request went no further.
    principal: "Principal | None" = None
    # Named by somebody who may not act for it.
    denied_tenant: str | None = None
    auth: "list[AuthFact]" = field(default_factory=list)
    # Whether the trail is to have it: of requests beyond a caller's limit one in each window is enough.
    told: bool = True
    problem: str | None = None
    status: int = 500
    bytes_in: int = 0
    # Of its body, as far as it came (`api.v1.bodies`).
    bytes_held: int = 0
    bytes_out: int = 0
    # What the route is about: its last path parameter, unless the handler says otherwise.
    resource_id: str | None = None
    record_count: int | None = None
    limit_headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuthFact:
    """What happened to credentials: an auth event of the trail.

    Parameters
    ----------
    tenant_id
        Empty for the platform, and where nobody knows whose they are.
    action, reason, auth_method
        As in an auth event; the reason only of a failure.
    """

    tenant_id: str
    subject: str | None
    action: str
    outcome: Literal["success", "failure"]
    auth_method: str
    reason: str | None = None
    key_id: str | None = None
    token_id: str | None = None


def set_trace(scope: MutableMapping[str, Any], trace: Trace) -> None:
    """Attach the trace to a request's scope."""
    scope[_KEY] = trace


def trace_of(scope: MutableMapping[str, Any]) -> Trace:
    """Return the trace of a request's scope."""
    trace: Trace = scope[_KEY]
    return trace
