"""Auth0's tenant logs turned into auth and access events."""

from typing import Final

from tenantwatch.importers.auth0_types import ACCESS, API, AUTH, BY_CONNECTION, Meaning
from tenantwatch.importers.importer import Fields, Reading
from tenantwatch.importers.record import Record
from tenantwatch.importers.values import COLLECTED_TIMES, NotUnderstood, code_of, source_of, time_of
from tenantwatch.importers.words import action_of, reason_of, status_reason

METHOD_ACTIONS: Final = {
    "get": "read",
    "head": "read",
    "post": "create",
    "put": "update",
    "patch": "update",
    "delete": "delete",
}
# In the Management API's paths: who may do what is changed there, whatever the method is called.
GRANT_PATHS: Final = ("/roles", "/permissions", "/members", "/client-grants")
CONNECTION_METHODS: Final = {"auth0": "password", "sms": "passwordless", "email": "passwordless"}
# What Auth0 says, in part, to the reason that it is.
SENTENCES: Final = {
    "wrong email or password": "bad_password",
    "wrong username or password": "bad_password",
    "wrong phone number or verification code": "bad_code",
    "user is blocked": "disabled",
    "user does not exist": "unknown_user",
    "blocked after multiple": "locked",
    "too many attempts": "locked",
}


def read(record: Record) -> Reading:
    """Read one tenant log, as the Management API, a log stream or an event bridge gives it.

    Raises
    ------
    NotUnderstood
        If it has no type or no time.

    >>> event = read(Record({"log_id": "1", "data": {
    ...     "type": "fp", "date": "2026-01-05T08:00:00.000Z", "ip": "192.0.2.1",
    ...     "user_name": "user@example.com",
    ... }}))
    >>> event["action"], event["outcome"], event["reason"], event["user_id"]
    ('login', 'failure', 'bad_password', 'user@example.com')
    """
    log = next((node for name in ("detail.data", "data") if (node := record.node(name))), record)
    code = log.text_of("type")
    if code is None:
        raise NotUnderstood("type is missing: is it a tenant log of Auth0?")
    if code in API:
        return _call(record, log, code)
    if access := ACCESS.get(code):
        action, resource_type, reason = access
        fields = _common(record, log, code, reason)
        return fields | {
            "kind": "access",
            "action": action,
            "resource_type": resource_type,
            "resource_id": log.text_of("user_id", "details.target_user_id"),
        }
    meaning = AUTH.get(code) or _exchange(code)
    if meaning is None:
        return "other_type"
    method = meaning.auth_method
    return _common(record, log, code, meaning.reason) | {
        "kind": "auth",
        "action": meaning.action,
        "auth_method": _connection_method(log) if method == BY_CONNECTION else method,
    }


def _exchange(code: str) -> Meaning | None:
    """Return what a token exchange means that is younger than the table: `se…ft` worked, `fe…ft` did not."""
    if code.startswith(("se", "fe")) and code.endswith("ft"):
        return Meaning("token_issue", "oauth2", "refused" if code.startswith("f") else None)
    return None


def _connection_method(log: Record) -> str | None:
    strategy = log.text_of("strategy", "details.session_connection_strategy")
    if strategy is None:
        # Failures name the connection only; this is what databases are called from the start.
        return "password" if log.text_of("connection") == "Username-Password-Authentication" else None
    return CONNECTION_METHODS.get(strategy, "sso")


def _call(record: Record, log: Record, code: str) -> Fields:
    request = log.node("details.request")
    method = (request.text_of("method") or "").lower()
    path = request.text_of("path") or ""
    description = log.text_of("description") or ""
    parts = [part for part in path.split("/") if part not in ("", "api", "v2")]
    status = log.text_of("details.response.statusCode")
    number = int(status) if status is not None and status.isdecimal() else None
    failed = API[code] == "failure" or (number is not None and number >= 400)
    action = action_of(description.partition(" ")[0]) or METHOD_ACTIONS.get(method) or "call"
    if action in ("create", "delete") and len(parts) > 2 and path.endswith(GRANT_PATHS):
        action = "grant" if action == "create" else "revoke"
    fields = _common(record, log, code, None)
    fields["attributes"] |= {"http_method": method, "http_path": path, "http_status": status}
    if failed:
        fields |= {"outcome": "failure", "reason": status_reason(number) if number else "refused"}
    return fields | {
        "kind": "access",
        "action": action,
        "permission": code_of(description),
        "resource_type": parts[0] if parts else None,
        "resource_id": "/".join(parts[1:]) or None,
    }


def _common(record: Record, log: Record, code: str, reason: str | None) -> Fields:
    source_ip, source_attributes = source_of(log.text_of("ip", "details.request.ip") or "")
    return {
        "event_id": log.text_of("log_id", "_id") or record.text_of("log_id", "detail.log_id"),
        "time": time_of(log.first("date") or record.first(*COLLECTED_TIMES), "date"),
        # What was typed, which a failure has too; then the account's id.
        "user_id": log.text_of(
            "user_name",
            "details.request.auth.user.email",
            "user_id",
            "details.request.auth.user.user_id",
            "details.user_name",
        ),
        "source_ip": source_ip,
        "user_agent": log.text_of("user_agent", "details.request.userAgent"),
        "session_id": log.text_of("session_id", "details.session_id"),
        "token_id": log.text_of("details.request.auth.credentials.jti"),
        "outcome": "failure" if reason else "success",
        "reason": _said(log, reason) if reason else None,
        "attributes": {
            "auth0_type": code,
            "description": log.text_of("description"),
            "account_id": log.text_of("user_id"),
            "connection": log.text_of("connection"),
            "client_id": log.text_of("client_id"),
            "client_name": log.text_of("client_name"),
            "hostname": log.text_of("hostname"),
            "organization_id": log.text_of("organization_id"),
            **source_attributes,
        },
    }


def _said(log: Record, reason: str) -> str:
    """Return the reason, or a more exact one if the record says it."""
    if reason != "refused":
        return reason
    told = log.text_of("description", "details.error.message", "error") or ""
    lower = told.lower()
    known = next((code for sentence, code in SENTENCES.items() if sentence in lower), None)
    return known or reason_of(log.text_of("details.error.oauthError", "details.error.code") or told) or reason
