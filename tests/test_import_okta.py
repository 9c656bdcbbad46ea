"""Okta's System Log becomes auth and access events."""

from typing import Any

import pytest

from tenantwatch.importers.okta import read
from tests.importing import Made, only, picked, run_records

SESSION = {
    "uuid": "6f1b2c3d-0000-4000-8000-000000000001",
    "published": "2026-01-05T08:00:00.123Z",
    "eventType": "user.session.start",
    "actor": {"id": "00u1", "type": "User", "alternateId": "user@example.com", "displayName": "A User"},
    "client": {
        "ipAddress": "192.0.2.1",
        "userAgent": {"rawUserAgent": "Mozilla/5.0", "os": "Linux", "browser": "FIREFOX"},
        "geographicalContext": {"country": "Iceland"},
    },
    "outcome": {"result": "SUCCESS", "reason": None},
    "authenticationContext": {"externalSessionId": "idx1"},
    "transaction": {"type": "WEB", "id": "Xw1"},
    "securityContext": {"asNumber": 64496, "isProxy": False},
    "target": None,
}


def made(**changes: Any) -> Made:
    return run_records(read, SESSION | changes)


def outcome(result: str, reason: str | None = None) -> dict[str, Any]:
    return {"result": result, "reason": reason}


def test_a_session_started_is_a_successful_login() -> None:
    """Every field that Okta has a place for is filled."""
    event = dict(only(made()))
    assert event == {
        "event_id": "6f1b2c3d-0000-4000-8000-000000000001",
        "kind": "auth",
        "tenant_id": "tenant-a",
        "time": "2026-01-05T08:00:00.123Z",
        "service": "test",
        "user_id": "user@example.com",
        "source_ip": "192.0.2.1",
        "user_agent": "Mozilla/5.0",
        "session_id": "idx1",
        "trace_id": "Xw1",
        "outcome": "success",
        "action": "login",
        "auth_method": "password",
        "attributes": {
            "okta_event_type": "user.session.start",
            "okta_result": "SUCCESS",
            "actor_id": "00u1",
            "actor_type": "User",
            "country": "Iceland",
            "as_number": "64496",
        },
    }


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("INVALID_CREDENTIALS", "bad_password"),
        ("LOCKED_OUT", "locked"),
        ("PASSWORD_EXPIRED", "expired_password"),
        ("VERIFICATION_ERROR", "verification_error"),
        ("FastPass declined phishing attempt", "fast_pass_declined_phishing_attempt"),
        (None, "refused"),
    ],
)
def test_a_failed_login_says_why(reason: str | None, code: str) -> None:
    """Okta's reasons become the contract's codes, sentences become codes of their own."""
    event = only(made(outcome=outcome("FAILURE", reason)))
    assert picked(event, "action", "outcome", "reason") == ("login", "failure", code)


def test_an_actor_that_okta_does_not_know_is_an_unknown_user() -> None:
    """Okta gives no reason for it, only an actor called unknown, with the name that was typed."""
    actor = {"id": "unknown", "type": "User", "alternateId": "bob", "displayName": "unknown"}
    event = only(made(actor=actor, outcome=outcome("FAILURE", "VERIFICATION_ERROR")))
    assert picked(event, "user_id", "reason") == ("bob", "unknown_user")


@pytest.mark.parametrize(
    ("event_type", "result", "reason", "expected"),
    [
        ("user.authentication.auth_via_mfa", "SUCCESS", None, ("mfa", "success", None)),
        (
            "user.authentication.auth_via_mfa",
            "FAILURE",
            "INVALID_CREDENTIALS",
            ("mfa", "failure", "bad_mfa_code"),
        ),
        ("user.authentication.auth_via_mfa", "UNANSWERED", None, ("mfa", "failure", "mfa_timeout")),
        ("user.mfa.okta_verify.deny_push", "SUCCESS", None, ("mfa", "failure", "mfa_denied")),
        ("system.push.send_factor_verify_push", "SUCCESS", None, ("mfa_challenge", "success", None)),
    ],
)
def test_second_factors_are_challenges(
    event_type: str, result: str, reason: str | None, expected: tuple[str, str, str | None]
) -> None:
    """A push that its user denied is a failure, although Okta succeeded in recording it."""
    event = only(made(eventType=event_type, outcome=outcome(result, reason)))
    assert picked(event, "action", "outcome", "reason") == expected


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"pushOnlyResponseType": "OV_RESPONSE_DENY"}, "mfa_denied"),
        ({"pushWithNumberChallengeResponseType": "OV_RESPONSE_DENY"}, "mfa_denied"),
        ({"pushOnlyResponseType": "OV_RESPONSE_ALLOW"}, "bad_mfa_code"),
    ],
)
def test_a_push_that_was_denied_is_no_wrong_code(said: dict[str, str], reason: str) -> None:
    """Identity Engine gives both the same reason; only the answer on the telephone tells them apart."""
    event = only(
        made(
            eventType="user.authentication.auth_via_mfa",
            outcome=outcome("FAILURE", "INVALID_CREDENTIALS"),
            debugContext={"debugData": {"factor": "OKTA_VERIFY_PUSH", **said}},
        )
    )
    assert event["reason"] == reason


@pytest.mark.parametrize(
    ("event_type", "action"),
    [
        ("user.session.end", "logout"),
        ("user.authentication.sso", "token_issue"),
        ("app.oauth2.as.token.grant.access_token", "token_issue"),
        ("app.oauth2.token.grant.refresh_token", "token_refresh"),
        ("app.oauth2.token.revoke", "token_revoke"),
        ("user.account.update_password", "password_change"),
        ("user.authentication.auth_via_AD_agent", "delegated_login"),
    ],
)
def test_other_auth_events_have_words_of_the_contract(event_type: str, action: str) -> None:
    """And the directory that was asked during a login is no second attempt."""
    assert picked(only(made(eventType=event_type)), "kind", "action") == ("auth", action)


def test_a_lock_is_told_as_one_whatever_its_result() -> None:
    """That Okta managed to lock an account is no success of anybody's."""
    event = only(made(eventType="user.account.lock"))
    assert picked(event, "action", "outcome", "reason") == ("account_lock", "failure", "locked")


@pytest.mark.parametrize(
    ("event_type", "action"),
    [
        ("user.account.privilege.grant", "grant"),
        ("group.user_membership.remove", "revoke"),
        ("user.lifecycle.create", "create"),
        ("user.lifecycle.delete.completed", "delete"),
        ("policy.rule.update", "update"),
        ("user.mfa.factor.reset_all", "update"),
        ("user.session.impersonation.initiate", "impersonate"),
        ("application.user_membership.show_password", "read"),
    ],
)
def test_changes_are_access_events(event_type: str, action: str) -> None:
    """The event type is the permission, the first target the resource."""
    target = [{"id": "00g1", "type": "UserGroup", "alternateId": None, "displayName": "Admins"}]
    event = only(made(eventType=event_type, target=target))
    assert picked(event, "kind", "action", "permission", "resource_type", "resource_id") == (
        "access",
        action,
        event_type,
        "user_group",
        "00g1",
    )


@pytest.mark.parametrize("event_type", ["system.org.rate_limit.warning", "security.threat.detected", "a.b.c"])
def test_the_rest_is_counted_as_not_relevant(event_type: str) -> None:
    """Not as not understood: it is Okta's, but nobody's access."""
    events, report = made(eventType=event_type)
    assert (events, dict(report.without_event)) == ([], {"other_event_type": 1})


@pytest.mark.parametrize("name", ["p_event_time", "@timestamp"])
def test_a_collectors_time_stands_in_for_a_lost_one(name: str) -> None:
    """Some collectors take the time out of the record."""
    event = only(made(published=None, **{name: "2026-01-05 08:00:00.000"}))
    assert event["time"] == "2026-01-05T08:00:00.000Z"


@pytest.mark.parametrize("lacking", ["eventType", "published"])
def test_a_record_without_type_or_time_is_not_understood(lacking: str) -> None:
    """And the report names what is missing."""
    events, report = run_records(read, {name: value for name, value in SESSION.items() if name != lacking})
    assert events == []
    assert f"{lacking} is missing" in "\n".join(report.lines())


def test_an_event_hook_is_as_many_events_as_it_carries() -> None:
    """Okta posts events in an envelope of its own."""
    hook = {"eventType": "com.okta.event_hook", "eventId": "x", "data": {"events": [SESSION, SESSION]}}
    events, _ = run_records(read, hook)
    assert [event["action"] for event in events] == ["login", "login"]


def test_lower_case_names_are_the_same() -> None:
    """Some archives fold the names of columns."""
    folded = {name.lower(): value for name, value in SESSION.items()}
    assert run_records(read, folded)[0][0]["session_id"] == "idx1"
