"""Keycloak's events turned into auth events, its admin events into access events.

Read as the ``jboss-logging`` listener writes them (``type=LOGIN_ERROR, realmId=…``, since version 24 in
quotes), as lines of text or of JSON, and as the admin API lists them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import tzinfo
from typing import Any, Final

from tenantwatch.importers.importer import Fields, Line, Reading
from tenantwatch.importers.json_stream import read_json, unwrapped
from tenantwatch.importers.record import Record
from tenantwatch.importers.values import NotUnderstood, code_of, source_of, time_of
from tenantwatch.importers.words import access_reason_of, reason_of

# Event type, without `_ERROR`, to action and method.
AUTH: Final[dict[str, tuple[str, str | None]]] = {
    "LOGIN": ("login", None),
    "IDENTITY_PROVIDER_LOGIN": ("login", "sso"),
    "IDENTITY_PROVIDER_FIRST_LOGIN": ("login", "sso"),
    "IDENTITY_PROVIDER_POST_LOGIN": ("login", "sso"),
    "REGISTER": ("signup", "password"),
    "LOGOUT": ("logout", None),
    "USER_SESSION_DELETED": ("logout", None),
    "CODE_TO_TOKEN": ("token_issue", "oauth2"),
    "CLIENT_LOGIN": ("token_issue", "client_credentials"),
    "TOKEN_EXCHANGE": ("token_issue", "oauth2"),
    "OAUTH2_DEVICE_AUTH": ("login_challenge", "oauth2"),
    "OAUTH2_DEVICE_VERIFY_USER_CODE": ("login_challenge", "oauth2"),
    "OAUTH2_DEVICE_CODE_TO_TOKEN": ("token_issue", "oauth2"),
    "OAUTH2_EXTENSION_GRANT": ("token_issue", "oauth2"),
    "AUTHREQID_TO_TOKEN": ("token_issue", "oauth2"),
    "PERMISSION_TOKEN": ("token_issue", "oauth2"),
    "REFRESH_TOKEN": ("token_refresh", "oauth2"),
    "REVOKE_GRANT": ("token_revoke", "oauth2"),
    "UPDATE_PASSWORD": ("password_change", "password"),
    "UPDATE_CREDENTIAL": ("password_change", "password"),
    "RESET_PASSWORD": ("password_reset", "password"),
    "SEND_RESET_PASSWORD": ("password_reset", "password"),
    "USER_DISABLED_BY_PERMANENT_LOCKOUT": ("account_lock", None),
    "USER_DISABLED_BY_TEMPORARY_LOCKOUT": ("account_lock", None),
    "RESTART_AUTHENTICATION": ("login_interrupted", None),
}
# What a user or client does to an account, a client or a consent: action and type of resource.
ACCESS: Final[dict[str, tuple[str, str]]] = {
    "UPDATE_EMAIL": ("update", "user"),
    "UPDATE_PROFILE": ("update", "user"),
    "VERIFY_EMAIL": ("update", "user"),
    "DELETE_ACCOUNT": ("delete", "user"),
    "UPDATE_TOTP": ("create", "mfa_factor"),
    "REMOVE_TOTP": ("delete", "mfa_factor"),
    "REMOVE_CREDENTIAL": ("delete", "credential"),
    "FEDERATED_IDENTITY_LINK": ("create", "federated_identity"),
    "IDENTITY_PROVIDER_LINK_ACCOUNT": ("create", "federated_identity"),
    "REMOVE_FEDERATED_IDENTITY": ("delete", "federated_identity"),
    "GRANT_CONSENT": ("grant", "consent"),
    "UPDATE_CONSENT": ("grant", "consent"),
    "IMPERSONATE": ("impersonate", "user"),
    "CLIENT_REGISTER": ("create", "client"),
    "CLIENT_UPDATE": ("update", "client"),
    "CLIENT_DELETE": ("delete", "client"),
    "CLIENT_INFO": ("read", "client"),
    "USER_INFO_REQUEST": ("read", "user"),
    "IDENTITY_PROVIDER_RETRIEVE_TOKEN": ("read", "federated_token"),
}
# A page that was left open too long, or opened in the wrong order: no credential was looked at.
_INTERRUPTED: Final = (
    "expired_code invalid_code cookie_not_found session_expired already_logged_in "
    "different_user_authenticated invalid_redirect_uri client_not_found client_disabled invalid_request "
    "realm_disabled resolve_required_actions user_session_not_found page_expired illegal_origin ssl_required"
)
INTERRUPTED: Final = frozenset(_INTERRUPTED.split())
OPERATIONS: Final = {"CREATE": "create", "UPDATE": "update", "DELETE": "delete"}
# Mappings of roles and members of groups: to create one is to grant.
GRANTED_TYPES: Final = ("ROLE_MAPPING", "MEMBERSHIP")

MESSAGE: Final = re.compile(r"\b(?:type|operationType)=[\"']?[A-Z]")
PAIR: Final = re.compile(
    r"([A-Za-z_][\w.-]*)="
    r"(?:\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'|((?:(?!, [A-Za-z_][\w.-]*=).)*))(?:, |$)"
)
STAMP: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[ ]?[+-]\d\d:?\d\d)?)", re.ASCII
)


class KeycloakReader:
    """Reads Keycloak's events, in lines or records.

    Parameters
    ----------
    zone
        Zone of the times that log lines begin with, which name none.

    Examples
    --------
    >>> from datetime import UTC
    >>> line = (
    ...     "2026-01-05 08:00:00,123 WARN  [org.keycloak.events] (executor-thread-1) type=LOGIN_ERROR, "
    ...     "realmId=r, clientId=web, userId=null, ipAddress=192.0.2.1, error=user_not_found, username=bob"
    ... )
    >>> event = KeycloakReader(UTC).read(Line(line))
    >>> event["action"], event["user_id"], event["reason"]
    ('login', 'bob', 'unknown_user')
    """

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def items(self, blocks: Iterable[bytes]) -> Iterator[Record | Line]:
        """Yield the lines and records of a log; braces in an event's values are no record."""
        return map(unwrapped, read_json(blocks, MESSAGE.search))

    def read(self, item: Record | Line) -> Reading:
        """Read one line of the server's log, or one event in JSON.

        Raises
        ------
        NotUnderstood
            If it is neither.
        """
        if isinstance(item, Line):
            return self._read_line(item.text)
        message = item.text_of("message", "msg", "log")
        if item.find("type") is None and item.find("operationType") is None and message is not None:
            if not MESSAGE.search(message):
                return "other_message"
            at = item.first("timestamp", "@timestamp", "time", "ts")
            at = at if at is not None else _stamp(message)
            return self._told(Record(_pairs(message)), at)
        return self._told(item, item.first("time", "timestamp", "@timestamp"))

    def _read_line(self, text: str) -> Reading:
        if not MESSAGE.search(text):
            if _stamp(text) is None and not text.startswith((" ", "\t", "at ")):
                raise NotUnderstood("no line of Keycloak's log")
            return "other_message"
        return self._told(Record(_pairs(text)), _stamp(text))

    def _told(self, event: Record, at: object) -> Reading:
        details = event.node("details")
        operation = event.text_of("operationType")
        if operation is not None:
            return self._change(event, operation, at)
        name = event.text_of("type")
        if name is None:
            raise NotUnderstood("type is missing: is it an event of Keycloak?")
        kind = name.removesuffix("_ERROR")
        error = _present(event.text_of("error")) or (kind != name and "refused") or None
        if kind not in AUTH and kind not in ACCESS:
            return "other_type"
        fields = self._common(event, details, name, error, at)
        if kind in ACCESS:
            action, resource_type = ACCESS[kind]
            resource_id = _present(event.text_of("userId")) if resource_type == "user" else None
            return fields | {
                "kind": "access",
                "action": action,
                "resource_type": resource_type,
                "resource_id": resource_id or _present(event.text_of("clientId")),
            }
        action, method = AUTH[kind]
        if action == "login":
            action, method = _login(event, details, error, method)
            if action == "mfa" and fields["reason"] == "bad_password":
                fields["reason"] = "bad_mfa_code"
        elif action == "account_lock":
            fields |= {"outcome": "failure", "reason": "locked"}
        return fields | {"kind": "auth", "action": action, "auth_method": method}

    def _change(self, event: Record, operation: str, at: object) -> Fields:
        """Return what an administrator did."""
        who = event.node("authDetails") or event
        error = _present(event.text_of("error"))
        resource_type = event.text_of("resourceType") or "UNKNOWN"
        action = OPERATIONS.get(operation.upper(), "update")
        if resource_type.endswith(GRANTED_TYPES):
            action = {"create": "grant", "delete": "revoke"}.get(action, action)
        fields = self._common(event, who, operation, error, at)
        return fields | {
            "kind": "access",
            "action": action,
            "permission": f"{resource_type}:{operation}",
            "resource_type": code_of(resource_type),
            "resource_id": _present(event.text_of("resourcePath")),
            "reason": access_reason_of(error),
        }

    def _common(self, event: Record, details: Record, name: str, error: str | None, at: object) -> Fields:
        who = event.node("authDetails")
        source = _present(event.text_of("ipAddress")) or _present(who.text_of("ipAddress")) or ""
        source_ip, source_attributes = source_of(source)
        username = details.text_of("username") or event.text_of("username")
        account = _present(event.text_of("userId")) or _present(who.text_of("userId"))
        return {
            "event_id": event.text_of("id"),
            "time": time_of(at, "time", self._zone),
            "user_id": _present(username) or account,
            "source_ip": source_ip,
            "session_id": _present(event.text_of("sessionId")),
            "trace_id": _present(details.text_of("code_id") or event.text_of("code_id")),
            "token_id": _present(details.text_of("token_id") or event.text_of("token_id")),
            "outcome": "failure" if error else "success",
            "reason": reason_of(error),
            "attributes": {
                "keycloak_type": name,
                "realm": _present(event.text_of("realmName", "realmId")),
                "client_id": _present(event.text_of("clientId") or who.text_of("clientId")),
                "account_id": account,
                "error": error,
                "identity_provider": details.text_of("identity_provider")
                or event.text_of("identity_provider"),
                "grant_type": details.text_of("grant_type") or event.text_of("grant_type"),
                **source_attributes,
            },
        }


def _login(event: Record, details: Record, error: str | None, method: str | None) -> tuple[str, str | None]:
    if error in INTERRUPTED:
        return "login_interrupted", method
    credential = details.text_of("credential_type") or event.text_of("credential_type")
    if error and credential in ("otp", "webauthn", "recovery-authn-codes"):
        return "mfa", "mfa"
    if details.find("identity_provider") or event.find("identity_provider"):
        return "login", "sso"
    return "login", method or ("passkey" if credential == "webauthn-passwordless" else "password")


def _present(text: str | None) -> str | None:
    """Return a value unless it is how Java writes none."""
    return None if text in (None, "", "null") else text


def _stamp(text: str) -> str | None:
    match = STAMP.search(text[:80])
    return match[1].replace(",", ".") if match else None


def _pairs(message: str) -> Mapping[str, Any]:
    """Return the names and values of a message; of a name the first, so that no detail replaces a field."""
    start = MESSAGE.search(message)
    pairs: dict[str, str] = {}
    for name, quoted, single, plain in PAIR.findall(message, start.start() if start else 0):
        pairs.setdefault(name, quoted.replace('\\"', '"') or single or plain.strip())
    return pairs
