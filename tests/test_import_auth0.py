"""Auth0's tenant logs become auth and access events."""

from typing import Any

import pytest

from tenantwatch.importers.auth0 import read
from tests.importing import Made, only, picked, run_records

LOGIN = {
    "log_id": "90020260105080000000000000000000000001223372037583230452",
    "date": "2026-01-05T08:00:00.123Z",
    "type": "s",
    "description": "Successful login",
    "client_id": "client1",
    "client_name": "Web",
    "connection": "Username-Password-Authentication",
    "strategy": "auth0",
    "strategy_type": "database",
    "ip": "192.0.2.1",
    "user_agent": "Mozilla/5.0",
    "user_id": "auth0|1",
    "user_name": "user@example.com",
    "hostname": "login.example.com",
    "details": {"session_id": "s1"},
}
CALL = {
    "log_id": "9002",
    "date": "2026-01-05T08:00:00.123Z",
    "type": "sapi",
    "description": "Update a client",
    "ip": "192.0.2.1",
    "details": {
        "request": {
            "method": "patch",
            "path": "/api/v2/clients/abc",
            "auth": {
                "user": {"email": "admin@example.com", "user_id": "auth0|9"},
                "credentials": {"jti": "j1"},
            },
        },
        "response": {"statusCode": 200, "body": {}},
    },
}


def made(**changes: Any) -> Made:
    return run_records(read, LOGIN | changes)


def call(description: str, method: str, path: str, status: int = 200) -> dict[str, Any]:
    details: Any = CALL["details"]
    request = details["request"] | {"method": method, "path": path}
    changed = details | {"request": request, "response": {"statusCode": status}}
    return only(run_records(read, CALL | {"description": description, "details": changed}))


def test_a_successful_login_keeps_auth0s_id() -> None:
    """Whatever brings the log a second time, it is the same event."""
    event = only(made())
    assert picked(event, "event_id", "action", "outcome", "auth_method", "user_id", "session_id") == (
        LOGIN["log_id"],
        "login",
        "success",
        "password",
        "user@example.com",
        "s1",
    )


@pytest.mark.parametrize(
    "wrap",
    [
        lambda log: {"log_id": log["log_id"], "data": log},
        lambda log: {"detail-type": "Auth0 log", "detail": {"log_id": log["log_id"], "data": log}},
    ],
)
def test_streams_envelopes_are_opened(wrap: Any) -> None:
    """Log streams put the log under `data`, EventBridge deeper."""
    assert dict(only(run_records(read, wrap(LOGIN)))) == dict(only(made()))


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("fp", ("login", "failure", "bad_password")),
        ("fu", ("login", "failure", "unknown_user")),
        ("pwd_leak", ("login", "failure", "breached_password")),
        ("fepft", ("login", "failure", "bad_password")),
        ("limit_wc", ("account_lock", "failure", "locked")),
        ("limit_mu", ("address_block", "failure", "rate_limited")),
        ("gd_auth_succeed", ("mfa", "success", None)),
        ("gd_auth_failed", ("mfa", "failure", "bad_mfa_code")),
        ("gd_auth_rejected", ("mfa", "failure", "mfa_denied")),
        ("gd_send_pn", ("mfa_challenge", "success", None)),
        ("seccft", ("token_issue", "success", None)),
        ("feccft", ("token_issue", "failure", "bad_secret")),
        ("ferrt", ("token_refresh", "failure", "token_reuse")),
        ("fsa", ("token_refresh", "failure", "login_required")),
        ("slo", ("logout", "success", None)),
        ("scp", ("password_change", "success", None)),
        ("fs", ("signup", "failure", "refused")),
        ("fdecc", ("login_interrupted", "failure", "cancelled")),
    ],
)
def test_type_codes_become_the_contracts_words(code: str, expected: tuple[str, str, str | None]) -> None:
    """Outcome and reason are in the code."""
    event = only(made(type=code, description=None))
    assert picked(event, "action", "outcome", "reason") == expected


@pytest.mark.parametrize(
    ("description", "reason"),
    [
        ("Wrong email or password.", "bad_password"),
        ("user is blocked", "disabled"),
        ("Unable to configure verification page.", "unable_to_configure_verification_page"),
    ],
)
def test_a_general_failure_is_told_by_its_description(description: str, reason: str) -> None:
    """The type `f` stands for any reason."""
    assert only(made(type="f", description=description))["reason"] == reason


def test_an_exchange_that_is_younger_than_the_table_is_a_token() -> None:
    """Auth0 adds grants; their codes are formed alike."""
    assert picked(only(made(type="fenewft")), "action", "outcome") == ("token_issue", "failure")


@pytest.mark.parametrize(("strategy", "method"), [("google-oauth2", "sso"), ("sms", "passwordless")])
def test_the_method_is_that_of_the_connection(strategy: str, method: str) -> None:
    """A login through another provider proves nothing about a password."""
    assert only(made(strategy=strategy))["auth_method"] == method


def test_without_a_name_the_user_is_the_account() -> None:
    """Machines' logs have an id only, or nothing."""
    assert only(made(user_name=""))["user_id"] == "auth0|1"
    assert only(made(user_name=None, user_id=None))["user_id"] is None


@pytest.mark.parametrize(
    ("description", "method", "path", "action"),
    [
        ("Update a client", "patch", "/api/v2/clients/abc", "update"),
        ("Create a role", "post", "/api/v2/roles", "create"),
        ("Delete tenant member", "post", "/api/v2/members/abc", "delete"),
        ("Assign roles to a user", "post", "/api/v2/users/abc/roles", "grant"),
        ("Remove roles from a user", "delete", "/api/v2/users/abc/roles", "revoke"),
        ("Get users", "get", "/api/v2/users", "read"),
    ],
)
def test_calls_of_the_management_api_are_accesses(
    description: str, method: str, path: str, action: str
) -> None:
    """What they did is in their description, else in their method."""
    event = call(description, method, path)
    assert picked(event, "kind", "action", "user_id") == ("access", action, "admin@example.com")
    assert event["resource_type"] == path.split("/")[3]


def test_a_refused_call_is_a_failure_whatever_its_type() -> None:
    """Auth0 has logged refused calls under `sapi`."""
    assert picked(call("Update a client", "patch", "/api/v2/clients/a", 403), "outcome", "reason") == (
        "failure",
        "missing_permission",
    )


@pytest.mark.parametrize(
    ("status", "reason"), [(404, "not_found"), (409, "conflict"), (500, "internal_error")]
)
def test_a_call_that_failed_otherwise_is_no_denial(status: int, reason: str) -> None:
    """Detectors of denials leave out faults that they know by the contract's words."""
    assert call("Update a client", "patch", "/api/v2/clients/a", status)["reason"] == reason


def test_changes_of_users_and_factors_are_accesses() -> None:
    """An enrolled factor is a new resource of the user's."""
    event = only(made(type="gd_enrollment_complete"))
    assert picked(event, "kind", "action", "resource_type") == ("access", "create", "mfa_factor")


@pytest.mark.parametrize("code", ["w", "depnote", "api_limit", "actions_execution_failed"])
def test_notices_are_not_relevant(code: str) -> None:
    """They are counted apart from what is not understood."""
    events, report = made(type=code)
    assert (events, dict(report.without_event)) == ([], {"other_type": 1})


@pytest.mark.parametrize("lacking", ["type", "date"])
def test_a_log_without_type_or_date_is_not_understood(lacking: str) -> None:
    """And the report names what is missing."""
    _, report = run_records(read, {name: value for name, value in LOGIN.items() if name != lacking})
    assert f"{lacking} is missing" in "\n".join(report.lines())
