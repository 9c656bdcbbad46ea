"""The API in its own trail: auth, access and request events of what it does, sent as any producer's."""

import ipaddress
import json
import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import structlog

from api.v1.addresses import Addresses
from api.v1.parts import Parts
from api.v1.trace import AuthFact, Trace
from schemas.alert import rfc3339
from schemas.event import Kind

log = structlog.get_logger()
SERVICE: Final = "tenantwatch-api"
# Problems that tell of a failed access, with its reason; at any other nothing was touched, or it is ours.
_DENIED: Final = {
    "permission_denied": "missing_permission",
    "tenant_denied": "wrong_tenant",
    "tenant_suspended": "tenant_suspended",
    "not_found": "not_found",
}
MAX_PATH: Final = 1_024
MAX_RESOURCE_ID: Final = 256
Told = tuple[Kind, str, dict[str, Any]]


class Audit:
    """Sends the events; nothing waits for them, and without Kafka they are counted and dropped.

    Parameters
    ----------
    addresses
        Say how much of nobody's requests is told.
    """

    def __init__(self, parts: Parts, addresses: Addresses) -> None:
        self._parts = parts
        self._addresses = addresses
        self._told_of_platform = False

    def request_served(self, trace: Trace, duration_ms: float) -> None:
        """Tell of a request that was answered."""
        if trace.access is not None and trace.access.trail == "none":
            return
        if not trace.told and not trace.auth:
            return
        if trace.principal is None and not trace.auth:
            # Whoever is refused for asking too much could else write as much into the trail.
            limited = trace.problem == "rate_limited"
            if not self._addresses.to_be_told(trace.source_ip, limited=limited):
                return
        now = self._parts.clock()
        for kind, tenant_id, event in events_of(trace, duration_ms, now, self._parts.config.platform_tenant):
            self._offer(kind, tenant_id, event)

    def _offer(self, kind: Kind, tenant_id: str, event: dict[str, Any]) -> None:
        if tenant_id:
            self._parts.producer.offer(kind, tenant_id, json.dumps(event).encode())
            return
        if not self._told_of_platform:
            self._told_of_platform = True
            log.warning(
                "platform_calls_logged_only",
                fix="set TENANTWATCH_PLATFORM_TENANT to a tenant of the directory for their trail",
            )
        told = {name: event.get(name) for name in ("user_id", "action", "outcome", "reason", "http_status")}
        log.info("api_called", kind=kind, tenant_id=tenant_id, **told)


def events_of(trace: Trace, duration_ms: float, now: datetime, platform_tenant: str | None) -> Iterator[Told]:
    """Yield kind, tenant and event of all that a request tells.

    A platform caller that entered a tenant is in that tenant's trail with what it did there; the request
    itself belongs to the platform.
    """
    platform = platform_tenant or ""
    principal = trace.principal
    if principal is not None:
        home = principal.home or platform
    else:
        home = next((fact.tenant_id for fact in trace.auth if fact.tenant_id), platform)
    common = _common(trace, now, home)
    for fact in trace.auth:
        tenant_id = fact.tenant_id or platform
        yield (
            "auth",
            tenant_id,
            common | {"event_id": _id(), "kind": "auth", "tenant_id": tenant_id} | _auth(fact),
        )
    touched = trace.caller.tenant_id if trace.caller and trace.caller.tenant_id else home
    access = _access(trace, touched)
    if access is not None:
        yield "access", touched, common | {"event_id": _id(), "kind": "access", "tenant_id": touched} | access
    yield (
        "request",
        home,
        common
        | {"event_id": _id(), "kind": "request", "tenant_id": home}
        | {
            "outcome": "success" if trace.status < 400 else "failure",
            "reason": trace.problem,
            "http_method": trace.method,
            "http_route": trace.route,
            "http_path": trace.path[:MAX_PATH],
            "http_status": trace.status,
            "duration_ms": round(duration_ms, 3),
            "bytes_in": trace.bytes_in,
            "bytes_out": trace.bytes_out,
            "api_key_id": principal.key_id if principal else None,
        },
    )


def _id() -> str:
    return str(uuid.uuid4())


def _common(trace: Trace, now: datetime, home: str) -> dict[str, Any]:
    principal = trace.principal
    return {
        "time": rfc3339(now),
        "service": SERVICE,
        "user_id": principal.subject if principal else None,
        "source_ip": _address(trace.source_ip),
        "user_agent": trace.user_agent,
        "trace_id": trace.request_id,
        "token_id": principal.token_id if principal else None,
        "token_tenant_id": home if principal and home else None,
    }


def _auth(fact: AuthFact) -> dict[str, Any]:
    return {
        "user_id": fact.subject,
        "action": fact.action,
        "outcome": fact.outcome,
        "reason": fact.reason,
        "auth_method": fact.auth_method,
        "token_id": fact.token_id,
        "attributes": {"api_key_id": fact.key_id} if fact.key_id else None,
    }


def _access(trace: Trace, touched: str) -> dict[str, Any] | None:
    access, principal = trace.access, trace.principal
    if access is None or principal is None or access.permission is None:
        return None
    denied = _DENIED.get(trace.problem or "")
    if denied is None and (trace.status >= 400 or access.trail == "request"):
        return None
    return {
        "action": access.action,
        "outcome": "failure" if denied else "success",
        "reason": denied,
        "permission": access.permission,
        "resource_type": access.resource,
        "resource_id": (trace.resource_id or "")[:MAX_RESOURCE_ID] or None,
        "resource_tenant_id": trace.denied_tenant or touched or None,
        "record_count": trace.record_count,
    }


def _address(text: str | None) -> str | None:
    try:
        return str(ipaddress.ip_address(text)) if text else None
    except ValueError:  # a UNIX socket, or a proxy's fancy
        return None
