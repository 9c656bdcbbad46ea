"""Keycloak's events, as text and as JSON, become auth events, its admin events access events."""

import json
from datetime import UTC
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tenantwatch.importers.keycloak import KeycloakReader
from tests.importing import Made, only, picked, run

EVENT = {
    "id": "6f1b2c3d-0000-4000-8000-000000000001",
    "time": 1767600000123,
    "type": "LOGIN",
    "realmId": "tenant-a",
    "clientId": "web",
    "userId": "u1",
    "sessionId": "s1",
    "ipAddress": "192.0.2.1",
    "details": {"auth_method": "openid-connect", "username": "user@example.com", "code_id": "c1"},
}
HEAD = "2026-01-05 08:00:00,123 WARN  [org.keycloak.events] (executor-thread-1) "
OLD = (
    "type=LOGIN_ERROR, realmId=tenant-a, clientId=web, userId=null, ipAddress=192.0.2.1, "
    "error=user_not_found, auth_method=openid-connect, username='two words'"
)
QUOTED = (
    'type="LOGIN_ERROR", realmId="r1", realmName="tenant-a", clientId="web", userId="u1", sessionId="null", '
    'ipAddress="192.0.2.1", error="invalid_user_credentials", username="user@example.com"'
)


def read(text: str, zone: Any = UTC) -> Made:
    reader = KeycloakReader(zone)
    return run(reader.read, reader.items([text.encode()]))


def event(**changes: Any) -> dict[str, Any]:
    return only(read(json.dumps(EVENT | changes)))


def test_a_login_as_the_admin_api_lists_it() -> None:
    """With Keycloak's own id, and the name that was typed rather than the account's id."""
    assert picked(event(), "event_id", "time", "action", "outcome", "user_id", "source_ip", "session_id") == (
        EVENT["id"],
        "2026-01-05T08:00:00.123Z",
        "login",
        "success",
        "user@example.com",
        "192.0.2.1",
        "s1",
    )


def test_a_line_of_the_log() -> None:
    """As the listener wrote until version 23."""
    made = only(read(HEAD + OLD))
    assert picked(made, "time", "action", "outcome", "reason", "user_id", "source_ip") == (
        "2026-01-05T08:00:00.123Z",
        "login",
        "failure",
        "unknown_user",
        "two words",
        "192.0.2.1",
    )


def test_a_line_in_quotes() -> None:
    """As it writes since version 24."""
    made = only(read(HEAD + QUOTED))
    assert picked(made, "reason", "user_id", "session_id") == ("bad_password", "user@example.com", None)
    assert made["attributes"]["realm"] == "tenant-a"


def test_a_line_in_json() -> None:
    """As the server writes with its console in JSON: the event is text within."""
    line = {"timestamp": "2026-01-05T08:00:00.123Z", "loggerName": "org.keycloak.events", "message": OLD}
    assert picked(only(read(json.dumps(line))), "time", "reason") == (
        "2026-01-05T08:00:00.123Z",
        "unknown_user",
    )


def test_a_lines_time_is_of_the_servers_zone() -> None:
    """The log names none."""
    assert only(read(HEAD + OLD, ZoneInfo("Europe/Berlin")))["time"] == "2026-01-05T07:00:00.123Z"


def test_a_name_cannot_replace_a_field() -> None:
    """Who logs in chooses the name, and without quotes it may look like the fields before it."""
    made = only(read(HEAD + OLD.replace("'two words'", "x, ipAddress=198.51.100.9, error=none")))
    assert picked(made, "source_ip", "reason") == ("192.0.2.1", "unknown_user")


def test_braces_in_a_value_are_no_record() -> None:
    """An event may carry JSON, or what somebody typed."""
    made = only(read(HEAD + OLD.replace("two words", 'a {"type": "LOGIN"} b')))
    assert picked(made, "user_id", "reason") == ('a {"type": "LOGIN"} b', "unknown_user")


@pytest.mark.parametrize(
    ("kind", "error", "expected"),
    [
        ("LOGIN_ERROR", "invalid_user_credentials", ("login", "failure", "bad_password")),
        ("LOGIN_ERROR", "user_temporarily_disabled", ("login", "failure", "locked")),
        ("LOGIN_ERROR", "user_disabled", ("login", "failure", "disabled")),
        ("LOGIN_ERROR", "expired_code", ("login_interrupted", "failure", "expired_code")),
        ("LOGIN_ERROR", None, ("login", "failure", "refused")),
        ("LOGOUT", None, ("logout", "success", None)),
        ("CODE_TO_TOKEN", None, ("token_issue", "success", None)),
        (
            "CLIENT_LOGIN_ERROR",
            "invalid_client_credentials",
            ("token_issue", "failure", "invalid_client_credentials"),
        ),
        ("REFRESH_TOKEN_ERROR", "invalid_token", ("token_refresh", "failure", "invalid_token")),
        ("REVOKE_GRANT", None, ("token_revoke", "success", None)),
        ("UPDATE_PASSWORD", None, ("password_change", "success", None)),
        ("REGISTER", None, ("signup", "success", None)),
        ("USER_DISABLED_BY_TEMPORARY_LOCKOUT", None, ("account_lock", "failure", "locked")),
    ],
)
def test_event_types_become_the_contracts_words(
    kind: str, error: str | None, expected: tuple[str, str, str | None]
) -> None:
    """A page that was open for too long is no failed login."""
    assert picked(event(type=kind, error=error), "action", "outcome", "reason") == expected


def test_a_wrong_code_is_a_failed_challenge() -> None:
    """Keycloak calls it the same as a wrong password, but names the credential."""
    made = event(
        type="LOGIN_ERROR",
        error="invalid_user_credentials",
        details={"username": "user@example.com", "credential_type": "otp"},
    )
    assert picked(made, "action", "reason") == ("mfa", "bad_mfa_code")


@pytest.mark.parametrize(
    ("kind", "action", "resource_type"),
    [
        ("IMPERSONATE", "impersonate", "user"),
        ("DELETE_ACCOUNT", "delete", "user"),
        ("REMOVE_TOTP", "delete", "mfa_factor"),
        ("CLIENT_REGISTER", "create", "client"),
    ],
)
def test_what_users_do_to_accounts_and_clients_is_an_access(
    kind: str, action: str, resource_type: str
) -> None:
    """Impersonating somebody is no login of theirs."""
    assert picked(event(type=kind), "kind", "action", "resource_type") == ("access", action, resource_type)


@pytest.mark.parametrize(
    ("operation", "resource", "action"),
    [
        ("CREATE", "USER", "create"),
        ("DELETE", "CLIENT", "delete"),
        ("ACTION", "USER", "update"),
        ("CREATE", "REALM_ROLE_MAPPING", "grant"),
        ("DELETE", "GROUP_MEMBERSHIP", "revoke"),
    ],
)
def test_admin_events_are_accesses(operation: str, resource: str, action: str) -> None:
    """As JSON and as text they are the same."""
    record = {
        "time": 1767600000123,
        "operationType": operation,
        "resourceType": resource,
        "resourcePath": "users/u2",
        "authDetails": {
            "realmId": "tenant-a",
            "clientId": "cli",
            "userId": "admin",
            "ipAddress": "192.0.2.1",
        },
    }
    line = (
        f"{HEAD}operationType={operation}, realmId=tenant-a, clientId=cli, userId=admin, "
        f"ipAddress=192.0.2.1, resourceType={resource}, resourcePath=users/u2"
    )
    for text in (json.dumps(record), line):
        made = only(read(text))
        assert picked(made, "kind", "action", "user_id", "source_ip", "resource_id") == (
            "access",
            action,
            "admin",
            "192.0.2.1",
            "users/u2",
        )


def test_other_lines_of_the_server_are_not_relevant() -> None:
    """A server log is mostly about the server."""
    lines = ["Keycloak started", "type=SEND_VERIFY_EMAIL, error=null"]
    _, report = read(f"\tat org.example.Main(Main.java:1)\n{HEAD}" + f"\n{HEAD}".join(lines))
    assert dict(report.without_event) == {"other_message": 2, "other_type": 1}


def test_a_line_of_another_program_is_not_understood() -> None:
    """It has no time where Keycloak writes one."""
    _, report = read("hello\n" + OLD)
    assert report.not_understood == 2
    assert "time is missing" in "\n".join(report.lines())
