"""Stored events as OCSF: Authentication (3002), API Activity (6003) and HTTP Activity (4002)."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from schemas.event import Kind
from schemas.ocsf.common import OTHER, UNKNOWN, classified, metadata, milliseconds, with_values

Event = Mapping[str, Any]
_INFORMATIONAL: Final = 1
_STATUS: Final = {"success": (1, "Success"), "failure": (2, "Failure")}
# Logon, Logoff, Authentication Ticket, Service Ticket Renew.
_AUTHENTICATION: Final = {"login": 1, "logout": 2, "token_issue": 3, "token_refresh": 5}
_PROTOCOL: Final = {"ntlm": 1, "kerberos": 2, "oauth2": 6}
_API: Final = {"create": 1, "read": 2, "update": 3, "delete": 4}
_HTTP: Final = {
    "CONNECT": 1, "DELETE": 2, "GET": 3, "HEAD": 4, "OPTIONS": 5, "POST": 6, "PUT": 7, "TRACE": 8, "PATCH": 9,
}  # fmt: skip
# What has no place of its own goes here, under the contract's name.
_UNMAPPED: Final = (
    "attributes", "token_id", "token_tenant_id", "record_count", "resource_tenant_id", "permission",
    "http_route", "api_key_id", "tier", "tenant_status", "flags",
)  # fmt: skip


def event_to_ocsf(event: Event) -> dict[str, Any]:
    """Return an event of the contract as OCSF 1.8.

    Parameters
    ----------
    event
        Its fields, as JSON has them; ``ingest_time``, ``organization_id`` and ``region`` besides, where they
        are known. A field that is null or absent has no attribute.

    >>> found = event_to_ocsf(
    ...     {"kind": "auth", "event_id": "e1", "tenant_id": "tenant-a", "time": "2026-01-01T00:00:00Z",
    ...      "service": "login", "user_id": "ana", "action": "login", "outcome": "failure"}
    ... )
    >>> found["class_uid"], found["activity_id"], found["status"], found["user"]
    (3002, 1, 'Failure', {'uid': 'ana'})
    """
    found = {**_common(event), **_SPECIFIC[event["kind"]](event)}
    # HTTP Activity knows who acted only by the profile ``host``.
    if "actor" in found and event["kind"] == "request":
        found["metadata"]["profiles"] = ["host"]
    return found


def _common(event: Event) -> dict[str, Any]:
    status_id, status = _STATUS[event["outcome"]]
    ingested = event.get("ingest_time")
    more = {
        "log_name": f"audit.{event['kind']}",
        "log_provider": event["service"],
        "correlation_uid": event.get("trace_id"),
        "processed_time": milliseconds(ingested) if ingested else None,
    }
    return {
        "time": milliseconds(event["time"]),
        "severity_id": _INFORMATIONAL,
        "severity": "Informational",
        "status_id": status_id,
        "status": status,
        **with_values(
            {
                "status_detail": event.get("reason"),
                "unmapped": with_values({name: event.get(name) for name in _UNMAPPED}),
            }
        ),
        "metadata": metadata(event["event_id"], event["tenant_id"], **more),
    }


def _user(event: Event) -> dict[str, Any]:
    organization = with_values({"uid": event.get("organization_id")})
    return with_values({"uid": event.get("user_id"), "org": organization if event.get("user_id") else None})


def _endpoint(event: Event) -> dict[str, Any]:
    return with_values({"ip": event.get("source_ip")})


def _authentication(event: Event) -> dict[str, Any]:
    action, method = event["action"], event.get("auth_method")
    activity = _AUTHENTICATION.get(action, OTHER)
    return {
        **classified(3002, activity),
        "activity_name": action,
        "user": _user(event) or {"name": UNKNOWN},
        "service": {"name": event["service"]},
        **with_values(
            {
                "auth_protocol_id": _PROTOCOL.get(method, OTHER) if method else None,
                "auth_protocol": method,
                "is_mfa": True if action == "mfa" or method == "mfa" else None,
                "session": with_values({"uid": event.get("session_id")}),
                "src_endpoint": _endpoint(event),
                "http_request": with_values({"user_agent": event.get("user_agent")}),
            }
        ),
    }


def _api_activity(event: Event) -> dict[str, Any]:
    action = event["action"]
    resource = with_values(
        {
            "uid": event.get("resource_id"),
            "type": event.get("resource_type"),
            "namespace": event.get("resource_tenant_id"),
        }
    )
    if resource and "uid" not in resource:
        resource["name"] = resource.get("type", UNKNOWN)
    return {
        **classified(6003, _API.get(action, OTHER)),
        "activity_name": action,
        "actor": with_values(
            {
                "user": _user(event) or {"name": UNKNOWN},
                "session": with_values({"uid": event.get("session_id")}),
            }
        ),
        "api": {"operation": action, "service": {"name": event["service"]}},
        "src_endpoint": _endpoint(event) or {"name": UNKNOWN},
        **with_values(
            {
                "resources": [resource] if resource else None,
                "http_request": with_values({"user_agent": event.get("user_agent")}),
            }
        ),
    }


def _http_activity(event: Event) -> dict[str, Any]:
    method, duration_ms = event.get("http_method"), event.get("duration_ms")
    path = event.get("http_path") or event.get("http_route")
    request = {
        "http_method": method,
        "url": {"path": path} if path else None,
        "user_agent": event.get("user_agent"),
        "length": event.get("bytes_in"),
    }
    response = {
        "length": event.get("bytes_out"),
        "latency": None if duration_ms is None else round(duration_ms),
    }
    code = event.get("http_status")
    user = _user(event)
    session = with_values({"uid": event.get("session_id")})
    return {
        **classified(4002, _HTTP.get(method or "", OTHER if method else 0)),
        "activity_name": method or UNKNOWN,
        "http_request": with_values(request),
        "dst_endpoint": {"svc_name": event["service"]},
        **with_values(
            {
                "http_response": {"code": code, **with_values(response)} if code is not None else None,
                "http_status": code,
                "src_endpoint": _endpoint(event),
                "actor": with_values({"user": user, "session": session}),
            }
        ),
    }


_SPECIFIC: Final[dict[Kind, Callable[[Event], dict[str, Any]]]] = {
    "auth": _authentication,
    "access": _api_activity,
    "request": _http_activity,
}
