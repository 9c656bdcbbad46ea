"""AWS CloudTrail turned into auth events (sign-in) and access events (everything else).

Field names: the CloudTrail record contents and sign-in events of AWS's user guide.
"""

import re
from typing import Final

from tenantwatch.importers.cloudtrail_actions import cloudtrail_action
from tenantwatch.importers.importer import Fields, Reading
from tenantwatch.importers.record import Record
from tenantwatch.importers.values import COLLECTED_TIMES, NotUnderstood, code_of, source_of, time_of
from tenantwatch.importers.words import access_reason_of

# Where EventBridge and `aws cloudtrail lookup-events` put the record.
ENVELOPES: Final = ("detail", "CloudTrailEvent")
# What AWS writes instead of a name that its sign-in page does not know: people type their password there.
HIDDEN_NAME: Final = "HIDDEN_DUE_TO_SECURITY_REASONS"
# A role that people get from IAM Identity Center: its sessions carry their names.
PEOPLE_ROLE: Final = "AWSReservedSSO_"
# How S3 says that a bucket, which is there, has no policy, tags or other settings of its own. Whoever
# compares settings asks each bucket for all of them.
NOT_SET: Final = re.compile(
    r"NoSuch(?:BucketPolicy|TagSet(?:Error)?|\w*Configuration)|\w+(?:Configuration|Controls)NotFound(?:Error)?"
)
# Parameters that name what a call touches, the most telling first.
RESOURCE_PARAMETERS: Final = (
    "userName",
    "roleName",
    "groupName",
    "policyArn",
    "roleArn",
    "instanceId",
    "instancesSet.items",
    "imageId",
    "snapshotId",
    "volumeId",
    "groupId",
    "dBSecurityGroupName",
    "dBInstanceIdentifier",
    "tableName",
    "functionName",
    "secretId",
    "keyId",
    "trailName",
    "clusterName",
    "queueUrl",
    "topicArn",
    "resourceArn",
    "name",
    "id",
)


def read(record: Record) -> Reading:
    """Read one CloudTrail record, plain or as EventBridge and the AWS command line wrap it.

    Raises
    ------
    NotUnderstood
        If it has no event name or no time.

    >>> event = read(Record({
    ...     "eventName": "ConsoleLogin", "eventTime": "2026-01-05T08:00:00Z",
    ...     "userIdentity": {"type": "IAMUser", "userName": "ana"},
    ...     "responseElements": {"ConsoleLogin": "Failure"},
    ...     "errorMessage": "Failed authentication",
    ... }))
    >>> event["kind"], event["user_id"], event["outcome"], event["reason"]
    ('auth', 'ana', 'failure', 'bad_password')
    """
    for name in ENVELOPES:
        inner = record.node(name)
        if inner.find("eventName") is not None:
            record = inner
            break
    event_name = record.text_of("eventName")
    if event_name is None:
        if record.find("digestS3Object") is not None:
            return "digest"
        if record.text_of("eventCategory") == "Insight" or record.find("insightDetails") is not None:
            return "insight"
        raise NotUnderstood("eventName is missing: is it a record of CloudTrail?")
    if record.text_of("eventCategory") == "Insight":
        return "insight"
    if event_name == "ConsoleLogin":
        return _console_login(record)
    if event_name == "CheckMfa":
        return _auth(record, "mfa", "mfa", record.text_of("responseElements.CheckMfa"), "bad_mfa_code")
    if event_name in ("CredentialChallenge", "CredentialVerification", "UserAuthentication"):
        return _identity_center(record, event_name)
    return _access(record, event_name)


def _console_login(record: Record) -> Fields:
    """Return a sign-in to the console.

    AWS asks for a second factor only when the password was right, so with one a failure is the factor's.
    """
    with_mfa = record.text_of("additionalEventData.MFAUsed") == "Yes"
    federated = record.find("additionalEventData.SamlProviderArn") or record.text_of("userIdentity.type") in (
        "AssumedRole",
        "FederatedUser",
        "SAMLUser",
        "WebIdentityUser",
    )
    said = record.text_of("responseElements.ConsoleLogin")
    reason = "bad_mfa_code" if with_mfa else "bad_password"
    if record.text_of("userIdentity.userName") == HIDDEN_NAME or (
        record.text_of("errorMessage") == "No username found in supplied account"
    ):
        reason = "unknown_user"
    method = "sso" if federated else "mfa" if with_mfa else "password"
    return _auth(record, "login", method, said, reason)


def _identity_center(record: Record, event_name: str) -> Reading:
    """Return a step of a sign-in to IAM Identity Center: factor by factor, then the sign-in itself."""
    said = record.text_of(f"serviceEventDetails.{event_name}", f"responseElements.{event_name}")
    factor = record.text_of("additionalEventData.CredentialType") or "PASSWORD"
    is_password = factor in ("PASSWORD", "EXTERNAL_IDP", "EXTERNAL_ID_PROVIDER")
    if event_name == "UserAuthentication":
        return _auth(record, "login", "sso" if factor.startswith("EXTERNAL") else "password", said, "refused")
    if event_name == "CredentialChallenge" or (is_password and said == "Success"):
        return "same_attempt"
    if is_password:
        return _auth(record, "login", "password", said, "bad_password")
    return _auth(record, "mfa", "mfa", said, "bad_mfa_code")


def _auth(record: Record, action: str, method: str, said: str | None, reason: str) -> Fields:
    failed = (said or "").lower() == "failure" or (
        said is None and record.text_of("errorMessage") is not None
    )
    fields = _common(record)
    if record.text_of("userIdentity.userName") == HIDDEN_NAME:
        fields["user_id"] = None
    fields["attributes"] |= {
        "error_message": record.text_of("errorMessage"),
        "mfa_used": record.text_of("additionalEventData.MFAUsed"),
        "credential": record.text_of("additionalEventData.CredentialType"),
    }
    return fields | {
        "kind": "auth",
        "action": action,
        "auth_method": method,
        "outcome": "failure" if failed else "success",
        "reason": reason if failed else None,
    }


def _access(record: Record, event_name: str) -> Fields:
    error = record.text_of("errorCode")
    service = (record.text_of("eventSource") or "").removesuffix(".amazonaws.com")
    resource_type, resource_id, owner = _resource(record)
    fields = _common(record)
    fields["attributes"] |= {
        "error_code": error,
        "error_message": record.text_of("errorMessage"),
        "read_only": record.text_of("readOnly"),
        "resource_account": owner,
    }
    failed = error is not None or record.text_of("errorMessage") is not None
    return fields | {
        "kind": "access",
        "action": cloudtrail_action(event_name),
        "permission": f"{service}:{event_name}" if service else event_name,
        "resource_type": resource_type or code_of(service) or "aws",
        "resource_id": resource_id,
        "outcome": "failure" if failed else "success",
        "reason": _reason(error, service) if failed else None,
    }


def _reason(error: str | None, service: str) -> str | None:
    """Return why a call failed; a setting that is not set is nothing that was looked for in vain."""
    if error is not None and service == "s3" and NOT_SET.fullmatch(error):
        return "bad_request"
    return access_reason_of(error or "refused")


def _resource(record: Record) -> tuple[str | None, str | None, str | None]:
    """Return type, id and account of what a call touches: what AWS lists, else what its parameters name."""
    for resource in record.nodes("resources"):
        name = resource.text_of("ARN", "resourceName", "ARNPrefix")
        if name:
            kind = resource.text_of("type", "resourceType") or ""
            return code_of(kind.replace("AWS::", "")), name, resource.text_of("accountId")
    parameters = record.node("requestParameters")
    bucket = parameters.text_of("bucketName")
    if bucket is not None:
        key = parameters.text_of("key")
        return ("s3_object", f"{bucket}/{key}", None) if key else ("s3_bucket", bucket, None)
    named = parameters.text_of(*RESOURCE_PARAMETERS)
    if named is None:
        items = parameters.nodes("instancesSet.items")
        named = items[0].text_of("instanceId") if items else None
    return None, named, None


def _common(record: Record) -> Fields:
    source_ip, source_attributes = source_of(record.text_of("sourceIPAddress") or "")
    user_id, session = _who(record.node("userIdentity"))
    return {
        "event_id": record.text_of("eventID"),
        "time": time_of(record.first("eventTime", *COLLECTED_TIMES), "eventTime"),
        "user_id": user_id,
        "source_ip": source_ip,
        "user_agent": record.text_of("userAgent"),
        "session_id": session,
        "trace_id": record.text_of("requestID"),
        "token_id": record.text_of("userIdentity.accessKeyId"),
        "attributes": {
            "aws_event_name": record.text_of("eventName"),
            "aws_event_source": record.text_of("eventSource"),
            "aws_event_type": record.text_of("eventType"),
            "aws_region": record.text_of("awsRegion"),
            "aws_account": record.text_of("recipientAccountId", "userIdentity.accountId"),
            "identity_type": record.text_of("userIdentity.type"),
            "identity_arn": record.text_of("userIdentity.arn"),
            **source_attributes,
        },
    }


def _who(identity: Record) -> tuple[str | None, str | None]:
    """Return who acts, and the session in which.

    A role's session is often named by chance (``botocore-session-1767600000``): then the role is who acts, or
    every hour would have new users. Named by a person's address, or in a role of IAM Identity Center's, it is
    the person.
    """
    kind = identity.text_of("type")
    if kind == "Root":
        return "root", None
    parts = (identity.text_of("arn") or "").split(":", 5)[-1].split("/")
    if parts[0] == "assumed-role" and len(parts) > 2:
        role, session = parts[-2], parts[-1]
        return (session if role.startswith(PEOPLE_ROLE) or "@" in session else role), session
    named = identity.text_of(
        "userName",
        "sessionContext.sessionIssuer.userName",
        "onBehalfOf.userId",
        "invokedBy",
    )
    if named is None and len(parts) > 1:
        named = parts[-1]
    return named or identity.text_of("principalId", "arn", "accountId"), None
