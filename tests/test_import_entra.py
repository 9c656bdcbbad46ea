"""Entra's sign-in logs become auth events, its audit logs and Azure's operations access events."""

from typing import Any

import pytest

from tenantwatch.importers.entra import read
from tests.importing import only, picked, run_records

SIGN_IN = {
    "id": "6f1b2c3d-0000-4000-8000-000000000001",
    "createdDateTime": "2026-01-05T08:00:00.1234567Z",
    "userDisplayName": "A User",
    "userPrincipalName": "user@example.com",
    "userId": "u1",
    "appId": "a1",
    "appDisplayName": "Portal",
    "ipAddress": "192.0.2.1",
    "clientAppUsed": "Browser",
    "correlationId": "c1",
    "conditionalAccessStatus": "notApplied",
    "isInteractive": True,
    "status": {"errorCode": 0, "failureReason": "Other.", "additionalDetails": None},
    "deviceDetail": {"deviceId": "", "operatingSystem": "Windows"},
    "location": {"city": "Reykjavik", "countryOrRegion": "IS"},
    "authenticationDetails": [{"authenticationMethod": "Password", "succeeded": True}],
}
CHANGE = {
    "id": "Directory_1",
    "category": "RoleManagement",
    "activityDateTime": "2026-01-05T08:00:00Z",
    "activityDisplayName": "Add member to role",
    "operationType": "Assign",
    "result": "success",
    "resultReason": "",
    "initiatedBy": {
        "user": {"userPrincipalName": "admin@example.com", "ipAddress": "192.0.2.1"},
        "app": None,
    },
    "targetResources": [{"id": "u2", "type": "User", "userPrincipalName": "user@example.com"}],
}


def sign_in(code: int | str = 0, **changes: Any) -> dict[str, Any]:
    return only(run_records(read, SIGN_IN | {"status": {"errorCode": code}} | changes))


def as_diagnostic(record: dict[str, Any], category: str, code: str) -> dict[str, Any]:
    properties = {name: value for name, value in record.items() if name != "status"}
    return {
        "time": "2026-01-05T08:03:00Z",
        "resourceId": "/tenants/t/providers/Microsoft.aadiam",
        "operationName": "Sign-in activity",
        "category": category,
        "tenantId": "t",
        "resultType": code,
        "resultSignature": "None",
        "callerIpAddress": "192.0.2.1",
        "properties": properties,
    }


def test_graphs_sign_in_is_a_login() -> None:
    """Its own id, time and method are taken."""
    event = sign_in()
    assert picked(event, "event_id", "time", "action", "outcome", "auth_method", "user_id", "source_ip") == (
        SIGN_IN["id"],
        "2026-01-05T08:00:00.123Z",
        "login",
        "success",
        "password",
        "user@example.com",
        "192.0.2.1",
    )


def test_the_diagnostic_shape_is_the_same_event() -> None:
    """The envelope's time is when it was written, not when it happened."""
    event = only(run_records(read, as_diagnostic(SIGN_IN, "SignInLogs", "0")))
    same = ("event_id", "time", "action", "outcome", "auth_method", "user_id", "source_ip", "trace_id")
    assert picked(event, *same) == picked(sign_in(), *same)


def test_log_analytics_table_is_the_same_event() -> None:
    """It is flat, begins names with capitals, and holds JSON in texts."""
    row = {
        "TimeGenerated": "2026-01-05T08:00:00.1234567Z",
        "Category": "SignInLogs",
        "OperationName": "Sign-in activity",
        "ResultType": "50126",
        "UserPrincipalName": "user@example.com",
        "IPAddress": "192.0.2.1",
        "Status": '{"errorCode":50126,"failureReason":"Invalid username or password"}',
    }
    assert picked(only(run_records(read, row)), "user_id", "source_ip", "reason") == (
        "user@example.com",
        "192.0.2.1",
        "bad_password",
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (50126, "bad_password"),
        (50034, "unknown_user"),
        (50053, "locked"),
        (50057, "disabled"),
        (50055, "expired_password"),
        (53003, "policy_denied"),
        (50105, "missing_permission"),
        (999999, "aadsts_999999"),
    ],
)
def test_error_codes_are_reasons(code: int, reason: str) -> None:
    """An unknown code stays recognisable."""
    assert picked(sign_in(code), "action", "outcome", "reason") == ("login", "failure", reason)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        ("MFA denied; user declined the authentication", "mfa_denied"),
        ("MFA denied; user did not respond to mobile app notification", "mfa_timeout"),
        ("MFA denied; invalid verification code", "bad_mfa_code"),
        (None, "mfa_denied"),
    ],
)
def test_a_refused_second_factor_is_a_denied_challenge(details: str | None, reason: str) -> None:
    """The password was right, so it is no failed login."""
    event = sign_in(status={"errorCode": 500121, "additionalDetails": details})
    assert picked(event, "action", "outcome", "reason") == ("mfa", "failure", reason)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (50074, "mfa_required"),
        (50140, "login_required"),
        (50058, "login_required"),
        (65001, "consent_required"),
    ],
)
def test_an_interrupted_sign_in_is_no_failed_login(code: int, reason: str) -> None:
    """Honest sign-ins are interrupted all day; nobody guessed anything."""
    assert picked(sign_in(code), "action", "outcome", "reason") == ("login_interrupted", "failure", reason)


def test_a_sign_in_without_its_user_is_a_refresh() -> None:
    """Programs renew tokens on a user's behalf, and that fails whenever one has run out."""
    event = only(run_records(read, as_diagnostic(SIGN_IN, "NonInteractiveUserSignInLogs", "70043")))
    assert picked(event, "action", "outcome", "reason") == ("token_refresh", "failure", "token_expired")


def test_a_wrong_password_is_a_failed_login_also_without_the_user() -> None:
    """Old mail protocols send passwords; that is where sprayers try them."""
    event = only(run_records(read, as_diagnostic(SIGN_IN, "NonInteractiveUserSignInLogs", "50126")))
    assert picked(event, "action", "auth_method", "reason") == ("login", "password", "bad_password")


@pytest.mark.parametrize(
    ("client", "action"),
    [
        ("IMAP4", "login"),
        ("Authenticated SMTP", "login"),
        ("Other clients", "login"),
        ("Mobile Apps and Desktop clients", "token_refresh"),
        ("Browser", "token_refresh"),
        (None, "token_refresh"),
    ],
)
def test_a_right_password_of_an_old_mail_protocol_is_a_login(client: str | None, action: str) -> None:
    """Else the guess that succeeds is missing behind those that failed."""
    sign_in = SIGN_IN | {"clientAppUsed": client}
    event = only(run_records(read, as_diagnostic(sign_in, "NonInteractiveUserSignInLogs", "0")))
    assert picked(event, "action", "outcome") == (action, "success")


def test_a_policy_that_keeps_old_protocols_out_is_no_failed_login() -> None:
    """It speaks once the password was right, as often as a forgotten telephone asks."""
    sign_in = SIGN_IN | {"clientAppUsed": "IMAP4"}
    event = only(run_records(read, as_diagnostic(sign_in, "NonInteractiveUserSignInLogs", "53003")))
    assert picked(event, "action", "reason") == ("token_refresh", "policy_denied")


def test_a_services_sign_in_issues_a_token() -> None:
    """Its user is the service."""
    service = {"id": "2", "createdDateTime": "2026-01-05T08:00:00Z", "servicePrincipalName": "robot"}
    event = only(run_records(read, as_diagnostic(service, "ServicePrincipalSignInLogs", "7000215")))
    assert picked(event, "action", "user_id", "reason") == ("token_issue", "robot", "bad_secret")


@pytest.mark.parametrize(("word", "outcome"), [("Success", "success"), ("Failure", "failure")])
def test_a_result_in_words_is_understood(word: str, outcome: str) -> None:
    """Some exports translate the code."""
    assert only(run_records(read, as_diagnostic(SIGN_IN, "SignInLogs", word)))["outcome"] == outcome


@pytest.mark.parametrize(
    ("activity", "action"),
    [
        ("Add member to role", "grant"),
        ("Remove member from role", "revoke"),
        ("Add user", "create"),
        ("Delete user", "delete"),
        ("Update conditional access policy", "update"),
        ("Consent to application", "grant"),
    ],
)
def test_changes_of_the_directory_are_accesses(activity: str, action: str) -> None:
    """By whom, and of what."""
    event = only(run_records(read, CHANGE | {"activityDisplayName": activity}))
    assert picked(event, "kind", "action", "user_id", "resource_type", "resource_id") == (
        "access",
        action,
        "admin@example.com",
        "user",
        "user@example.com",
    )


def test_a_failed_change_says_why() -> None:
    """The reason is a sentence, kept as a code."""
    event = only(run_records(read, CHANGE | {"result": "failure", "resultReason": "Insufficient privileges"}))
    assert picked(event, "outcome", "reason") == ("failure", "insufficient_privileges")


@pytest.mark.parametrize(
    ("operation", "action"),
    [
        ("Microsoft.KeyVault/vaults/secrets/read", "read"),
        ("MICROSOFT.STORAGE/STORAGEACCOUNTS/DELETE", "delete"),
        ("Microsoft.Storage/storageAccounts/listKeys/action", "read"),
        ("Microsoft.Authorization/roleAssignments/write", "grant"),
    ],
)
def test_azures_operations_are_accesses(operation: str, action: str) -> None:
    """They come through the same pipe as the sign-ins."""
    record = {
        "time": "2026-01-05T08:00:00Z",
        "category": "Administrative",
        "operationName": operation,
        "resourceId": "/subscriptions/s",
        "resultType": "Success",
        "callerIpAddress": "192.0.2.1",
        "identity": {"claims": {"appid": "app1"}},
    }
    event = only(run_records(read, record))
    assert picked(event, "kind", "action", "permission", "user_id") == ("access", action, operation, "app1")


def test_other_categories_are_not_relevant() -> None:
    """Provisioning and metrics come through the same pipe too."""
    events, report = run_records(read, {"category": "ProvisioningLogs", "time": "2026-01-05T08:00:00Z"})
    assert (events, dict(report.without_event)) == ([], {"other_category": 1})


def test_anything_else_is_not_understood() -> None:
    """A record of another program is reported as such."""
    _, report = run_records(read, {"a": 1}, SIGN_IN | {"createdDateTime": "yesterday"})
    assert report.not_understood == 2
