"""CloudTrail becomes auth events, for signing in, and access events, for every other call."""

import json
from typing import Any

import pytest

from bench.detection_trials import try_events
from tenantwatch.importers.cloudtrail import read
from tenantwatch.importers.importer import Tenancy
from tests.importing import only, picked, run_records

LOGIN = {
    "eventVersion": "1.08",
    "eventID": "6f1b2c3d-0000-4000-8000-000000000001",
    "eventTime": "2026-01-05T08:00:00Z",
    "eventSource": "signin.amazonaws.com",
    "eventName": "ConsoleLogin",
    "eventType": "AwsConsoleSignIn",
    "awsRegion": "us-east-1",
    "sourceIPAddress": "192.0.2.1",
    "userAgent": "Mozilla/5.0",
    "userIdentity": {"type": "IAMUser", "arn": "arn:aws:iam::111122223333:user/ana", "userName": "ana"},
    "requestParameters": None,
    "responseElements": {"ConsoleLogin": "Success"},
    "additionalEventData": {"MFAUsed": "No"},
    "recipientAccountId": "111122223333",
}
CALL = {
    "eventID": "2",
    "eventTime": "2026-01-05T08:00:00Z",
    "eventSource": "s3.amazonaws.com",
    "eventName": "GetObject",
    "eventType": "AwsApiCall",
    "sourceIPAddress": "192.0.2.1",
    "userIdentity": {"type": "IAMUser", "userName": "ana", "accessKeyId": "AKIAEXAMPLE"},
    "requestParameters": {"bucketName": "files", "key": "a/b.txt"},
    "responseElements": None,
    "requestID": "r1",
    "recipientAccountId": "111122223333",
}


def login(**changes: Any) -> dict[str, Any]:
    return only(run_records(read, LOGIN | changes))


def call(**changes: Any) -> dict[str, Any]:
    return only(run_records(read, CALL | changes))


FAILED: dict[str, Any] = {
    "responseElements": {"ConsoleLogin": "Failure"},
    "errorMessage": "Failed authentication",
}


def test_a_console_login_is_a_login() -> None:
    """With AWS's own id."""
    assert picked(
        login(), "event_id", "kind", "action", "outcome", "auth_method", "user_id", "source_ip"
    ) == (
        LOGIN["eventID"],
        "auth",
        "login",
        "success",
        "password",
        "ana",
        "192.0.2.1",
    )


def test_a_failed_console_login_is_a_wrong_password() -> None:
    """AWS says no more than that authentication failed."""
    assert picked(login(**FAILED), "action", "outcome", "reason") == ("login", "failure", "bad_password")


def test_with_a_second_factor_the_failure_is_the_factors() -> None:
    """AWS asks for it only when the password was right."""
    event = login(**FAILED, additionalEventData={"MFAUsed": "Yes"})
    assert picked(event, "outcome", "auth_method", "reason") == ("failure", "mfa", "bad_mfa_code")


def test_a_hidden_name_is_an_unknown_user() -> None:
    """People type their password into the wrong field, so AWS hides names it does not know."""
    identity = {"type": "IAMUser", "userName": "HIDDEN_DUE_TO_SECURITY_REASONS"}
    event = login(**FAILED | {"errorMessage": "No username found in supplied account"}, userIdentity=identity)
    assert picked(event, "user_id", "reason") == (None, "unknown_user")


@pytest.mark.parametrize(
    ("name", "factor", "said", "expected"),
    [
        ("CredentialVerification", "PASSWORD", "Failure", ("login", "failure", "bad_password")),
        ("CredentialVerification", "TOTP", "Failure", ("mfa", "failure", "bad_mfa_code")),
        ("CredentialVerification", "WEBAUTHN", "Success", ("mfa", "success", None)),
        ("UserAuthentication", "PASSWORD,TOTP", "Success", ("login", "success", None)),
    ],
)
def test_identity_center_is_one_login_and_its_factors(
    name: str, factor: str, said: str, expected: tuple[str, str, str | None]
) -> None:
    """A wrong password never becomes a UserAuthentication, so it is told by its verification."""
    event = login(
        eventName=name,
        responseElements=None,
        serviceEventDetails={name: said},
        additionalEventData={"CredentialType": factor},
    )
    assert picked(event, "action", "outcome", "reason") == expected


def test_steps_of_a_login_that_is_told_elsewhere_make_no_event() -> None:
    """The right password is told by the UserAuthentication that follows."""
    step = LOGIN | {
        "eventName": "CredentialVerification",
        "serviceEventDetails": {"CredentialVerification": "Success"},
        "additionalEventData": {"CredentialType": "PASSWORD"},
    }
    _, report = run_records(read, step, step | {"eventName": "CredentialChallenge"})
    assert dict(report.without_event) == {"same_attempt": 2}


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("GetObject", "read"),
        ("DescribeInstances", "read"),
        ("BatchGetItem", "read"),
        ("RunInstances", "create"),
        ("PutObject", "update"),
        ("TerminateInstances", "delete"),
        ("ScheduleKeyDeletion", "delete"),
        ("AttachUserPolicy", "grant"),
        ("PutBucketPolicy", "grant"),
        ("AuthorizeSecurityGroupIngress", "grant"),
        ("DetachRolePolicy", "revoke"),
        ("RemoveUserFromGroup", "revoke"),
        ("ExportTableToPointInTime", "export"),
        ("AssumeRole", "impersonate"),
        ("SwitchRole", "impersonate"),
        ("InvokeFunction", "invoke"),
        ("ListFunctions20150331", "read"),
    ],
)
def test_calls_become_the_contracts_actions(name: str, action: str) -> None:
    """The original is kept; a verb that is none of ours stays itself."""
    event = call(eventName=name)
    assert picked(event, "kind", "action", "permission") == ("access", action, f"s3:{name}")
    assert event["attributes"]["aws_event_name"] == name


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("AccessDenied", "access_denied"),
        ("Client.UnauthorizedOperation", "client_unauthorized_operation"),
        ("VpceAccessDenied", "vpce_access_denied"),
        ("InvalidClientTokenId", "invalid_client_token_id"),
        ("NoSuchKey", "not_found"),
        ("NoSuchEntityException", "not_found"),
        ("Client.InvalidInstanceID.NotFound", "not_found"),
        ("ThrottlingException", "rate_limited"),
        ("Client.RequestLimitExceeded", "rate_limited"),
        ("SlowDown", "rate_limited"),
        ("InternalFailure", "internal_error"),
        ("Server.InternalError", "internal_error"),
        ("ServiceUnavailableException", "service_unavailable"),
        ("RequestTimeout", "timeout"),
        ("EntityAlreadyExistsException", "conflict"),
        ("InvalidPermission.Duplicate", "conflict"),
        ("ValidationException", "bad_request"),
        ("Client.DryRunOperation", "bad_request"),
    ],
)
def test_an_error_code_is_a_failure_and_its_reason(code: str, reason: str) -> None:
    """A denial in snake_case; anything else in the contract's word, whichever service says it."""
    assert picked(call(errorCode=code), "outcome", "reason") == ("failure", reason)


@pytest.mark.parametrize(
    ("source", "code", "reason"),
    [
        ("s3", "NoSuchBucketPolicy", "bad_request"),
        ("s3", "NoSuchTagSet", "bad_request"),
        ("s3", "NoSuchPublicAccessBlockConfiguration", "bad_request"),
        ("s3", "ServerSideEncryptionConfigurationNotFoundError", "bad_request"),
        ("s3", "OwnershipControlsNotFoundError", "bad_request"),
        ("s3", "NoSuchBucket", "not_found"),
        ("s3", "NoSuchVersion", "not_found"),
        ("iam", "NoSuchConfiguration", "not_found"),
    ],
)
def test_a_bucket_without_a_setting_is_not_missing(source: str, code: str, reason: str) -> None:
    """A tool that compares settings asks each bucket for all of them, and most have few."""
    assert call(eventSource=f"{source}.amazonaws.com", errorCode=code)["reason"] == reason


@pytest.mark.parametrize(
    ("code", "classifications"), [("ThrottlingException", []), ("AccessDenied", ["denied_burst"])]
)
def test_throttled_calls_are_no_burst_of_denials(code: str, classifications: list[str]) -> None:
    """A script that is too fast was denied nothing."""
    calls = [
        CALL | {"eventID": str(n), "eventTime": f"2026-01-05T08:00:{n:02}Z", "errorCode": code}
        for n in range(40)
    ]
    events, _ = run_records(read, *calls)
    alerts = try_events(json.dumps(event).encode() for event in events).alerts
    assert sorted({alert.classification for alert in alerts}) == classifications


@pytest.mark.parametrize(
    ("changes", "resource"),
    [
        ({}, ("s3_object", "files/a/b.txt")),
        ({"requestParameters": {"bucketName": "files"}}, ("s3_bucket", "files")),
        (
            {"resources": [{"type": "AWS::DynamoDB::Table", "ARN": "arn:aws:dynamodb:::table/t"}]},
            ("dynamo_db_table", "arn:aws:dynamodb:::table/t"),
        ),
        ({"eventSource": "iam.amazonaws.com", "requestParameters": {"userName": "bob"}}, ("iam", "bob")),
        ({"requestParameters": {"instancesSet": {"items": [{"instanceId": "i-1"}]}}}, ("s3", "i-1")),
        ({"requestParameters": None}, ("s3", None)),
    ],
)
def test_the_resource_is_what_the_call_names(
    changes: dict[str, Any], resource: tuple[str, str | None]
) -> None:
    """Listed by AWS, else found in the parameters."""
    assert picked(call(**changes), "resource_type", "resource_id") == resource


@pytest.mark.parametrize(
    ("identity", "user_id"),
    [
        ({"type": "Root", "arn": "arn:aws:iam::111122223333:root"}, "root"),
        (
            {
                "type": "AssumedRole",
                "arn": "arn:aws:sts::1:assumed-role/AWSReservedSSO_Admin_ab12/user@example.com",
            },
            "user@example.com",
        ),
        (
            {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/deployer/botocore-session-17"},
            "deployer",
        ),
        ({"type": "FederatedUser", "arn": "arn:aws:sts::1:federated-user/bob"}, "bob"),
        ({"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}, "ec2.amazonaws.com"),
        ({"type": "AWSAccount", "accountId": "444455556666", "principalId": "AIDA1"}, "AIDA1"),
        (None, None),
    ],
)
def test_who_acts_is_a_name_that_stays(identity: dict[str, str] | None, user_id: str | None) -> None:
    """A session named by chance would be a new user every hour."""
    assert call(userIdentity=identity)["user_id"] == user_id


def test_a_service_is_no_address() -> None:
    """AWS writes its own services into the address."""
    event = call(sourceIPAddress="cloudformation.amazonaws.com")
    assert event["source_ip"] is None
    assert event["attributes"]["source_host"] == "cloudformation.amazonaws.com"


@pytest.mark.parametrize(
    "wrap",
    [
        lambda record: {"detail-type": "AWS API Call via CloudTrail", "detail": record},
        lambda record: {"EventId": "x", "CloudTrailEvent": json.dumps(record)},
        lambda record: {"id": "x", "timestamp": 1, "message": json.dumps(record)},
        lambda record: {"_index": "x", "_source": record},
    ],
)
def test_what_others_wrap_records_in_is_opened(wrap: Any) -> None:
    """EventBridge, the AWS command line, CloudWatch Logs, Elasticsearch."""
    assert dict(only(run_records(read, wrap(CALL)))) == dict(call())


def test_the_tenant_may_be_the_account() -> None:
    """An organisation's trail holds many accounts."""
    other = CALL | {"recipientAccountId": "444455556666", "eventID": "3"}
    events, _ = run_records(read, CALL, other, tenancy=Tenancy(field="recipientAccountId"))
    assert [event["tenant_id"] for event in events] == ["111122223333", "444455556666"]


def test_digests_and_insights_are_not_relevant() -> None:
    """They stand in the same bucket."""
    digest = {"digestS3Object": "x", "logFiles": []}
    insight = {"eventCategory": "Insight", "eventTime": "2026-01-05T08:00:00Z", "insightDetails": {}}
    _, report = run_records(read, digest, insight)
    assert dict(report.without_event) == {"digest": 1, "insight": 1}


@pytest.mark.parametrize("lacking", ["eventName", "eventTime"])
def test_a_record_without_name_or_time_is_not_understood(lacking: str) -> None:
    """And the report names what is missing."""
    _, report = run_records(read, {name: value for name, value in CALL.items() if name != lacking})
    assert f"{lacking} is missing" in "\n".join(report.lines())
