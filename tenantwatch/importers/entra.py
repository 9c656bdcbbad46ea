"""Microsoft Entra ID (Azure AD): sign-in logs turned into auth events, audit logs into access events.

Read as diagnostic settings write them (with ``properties``), as Microsoft Graph lists them (``signIn``,
``directoryAudit``), and as Log Analytics exports its tables.
"""

from typing import Final

from tenantwatch.importers.entra_errors import (
    CREDENTIAL_REASONS,
    INTERRUPTS,
    LEGACY_CLIENTS,
    METHODS,
    MFA_DETAILS,
    PROTOCOLS,
    REASONS,
)
from tenantwatch.importers.importer import Fields, Reading
from tenantwatch.importers.record import NOTHING, Record
from tenantwatch.importers.values import COLLECTED_TIMES, NotUnderstood, code_of, source_of, time_of
from tenantwatch.importers.words import access_reason_of, action_of

SERVICE_SIGN_INS: Final = ("serviceprincipalsigninlogs", "managedidentitysigninlogs")
# Directory changes whose verb says something else than what they do.
GRANTED: Final = (
    "add member to role",
    "add eligible member",
    "add app role",
    "add delegated permission",
    "add role assignment",
    "add owner",
    "consent to application",
)
REVOKED: Final = (
    "remove member from role",
    "remove eligible member",
    "remove app role",
    "remove delegated permission",
    "delete role assignment",
    "remove owner",
)
MEMBERSHIPS: Final = {"add member to group": "grant", "remove member from group": "revoke"}
SUCCESSES: Final = frozenset({"success", "succeeded", "0", "accepted", "start", "started"})


def read(record: Record) -> Reading:
    """Read one sign-in, change of the directory, or operation on Azure's resources.

    Raises
    ------
    NotUnderstood
        If it is none of these, or has no time.

    >>> event = read(Record({
    ...     "id": "1", "createdDateTime": "2026-01-05T08:00:00Z", "userPrincipalName": "user@example.com",
    ...     "ipAddress": "192.0.2.1", "status": {"errorCode": 50126}, "isInteractive": True,
    ... }))
    >>> event["action"], event["outcome"], event["reason"]
    ('login', 'failure', 'bad_password')
    """
    properties = record.node("properties") or record
    category = (record.text_of("category", "Type") or "").lower()
    if "signin" in category or (
        record.text_of("operationName") == "Sign-in activity"
        or properties.find("status.errorCode") is not None
        or (properties.find("appDisplayName") is not None and properties.find("createdDateTime") is not None)
    ):
        return _sign_in(record, properties, category)
    if properties.find("initiatedBy") is not None or properties.find("activityDisplayName") is not None:
        return _change(record, properties)
    operation = record.text_of("operationName.value", "operationName", "OperationNameValue")
    if operation is not None and "/" in operation:
        return _operation(record, operation)
    if operation is not None or category:
        return "other_category"
    raise NotUnderstood("neither a sign-in nor an audit log of Entra: category and operationName are missing")


def _sign_in(record: Record, properties: Record, category: str) -> Fields:
    code, failed = _result(record, properties)
    by_service = category.startswith(SERVICE_SIGN_INS) or (
        properties.text_of("userPrincipalName", "userId") is None
        and properties.text_of("servicePrincipalId") is not None
    )
    interrupted = INTERRUPTS.get(code)
    reason = REASONS.get(code) or interrupted or (f"aadsts_{code}" if code else "refused")
    action, method = _how(properties, category, by_service=by_service)
    if failed and reason == "mfa_denied":
        action, method, reason = "mfa", "mfa", _mfa_reason(properties)
    elif failed and interrupted and action == "login":
        action = "login_interrupted"
    elif action == "token_refresh" and _is_credential_looked_at(properties, reason, failed=failed):
        action, method = "login", "password"
    fields = _common(record, properties)
    fields["attributes"] |= {
        "error_code": code,
        "failure_reason": properties.text_of("status.failureReason") or record.text_of("resultDescription"),
        "app": properties.text_of("appDisplayName"),
        "app_id": properties.text_of("appId"),
        "resource": properties.text_of("resourceDisplayName"),
        "client_app": properties.text_of("clientAppUsed"),
        "protocol": properties.text_of("authenticationProtocol"),
        "conditional_access": properties.text_of("conditionalAccessStatus"),
        "country": properties.text_of("location.countryOrRegion", "LocationDetails.countryOrRegion"),
        "risk": properties.text_of("riskLevelDuringSignIn", "riskLevelAggregated"),
        "device_id": properties.text_of("deviceDetail.deviceId"),
    }
    return fields | {
        "kind": "auth",
        "action": action,
        "auth_method": method,
        "user_id": properties.text_of(
            "userPrincipalName",
            "userId",
            "servicePrincipalName",
            "servicePrincipalId",
            "appDisplayName",
            "appId",
        )
        or record.text_of("identity"),
        "outcome": "failure" if failed else "success",
        "reason": reason if failed else None,
    }


def _result(record: Record, properties: Record) -> tuple[str, bool]:
    """Return a sign-in's error code, empty if only words tell, and whether it failed."""
    code = properties.text_of("status.errorCode") or record.text_of("resultType", "ResultType") or ""
    if code.isdecimal():
        return code, code != "0"
    word = code or record.text_of("resultSignature") or properties.text_of("result") or "success"
    return "", word.lower() not in SUCCESSES | {"none"}


def _how(properties: Record, category: str, *, by_service: bool) -> tuple[str, str | None]:
    """Return action and method of a sign-in that was not refused."""
    if by_service:
        return "token_issue", "client_credentials"
    protocol = PROTOCOLS.get((properties.text_of("authenticationProtocol") or "").lower())
    interactive = properties.find("isInteractive")
    alone = category.startswith("noninteractive") or interactive is False or interactive == "false"
    if alone and protocol != "password":
        return "token_refresh", "oauth2"
    if protocol is not None:
        return "login", protocol
    steps = properties.nodes("authenticationDetails")
    told = (steps[0].text_of("authenticationMethod") or "").lower() if steps else ""
    return "login", next((method for part, method in METHODS.items() if part in told), None)


def _is_credential_looked_at(properties: Record, reason: str, *, failed: bool) -> bool:
    """Return whether a sign-in without its user proved who somebody is, or failed to."""
    if failed:
        return reason in CREDENTIAL_REASONS
    return (properties.text_of("clientAppUsed") or "").lower().startswith(LEGACY_CLIENTS)


def _mfa_reason(properties: Record) -> str:
    told = [properties.text_of("status.additionalDetails"), properties.text_of("mfaDetail.authDetail")]
    told += [
        step.text_of("authenticationStepResultDetail") for step in properties.nodes("authenticationDetails")
    ]
    text = " ".join(part for part in told if part).lower()
    return next((reason for part, reason in MFA_DETAILS.items() if part in text), "mfa_denied")


def _change(record: Record, properties: Record) -> Fields:
    """Return a change of the directory."""
    activity = properties.text_of("activityDisplayName") or record.text_of("operationName") or "change"
    targets = properties.nodes("targetResources")
    target = targets[0] if targets else NOTHING
    result = properties.text_of("result") or record.text_of("result", "resultSignature", "resultType")
    failed = result is not None and result.lower() not in SUCCESSES | {"none"}
    fields = _common(record, properties)
    fields["attributes"] |= {
        "activity": activity,
        "activity_category": properties.text_of("category") or record.text_of("category"),
        "target": target.text_of("displayName", "userPrincipalName"),
        "target_2": targets[1].text_of("displayName", "userPrincipalName", "id")
        if len(targets) > 1
        else None,
        "app": properties.text_of("initiatedBy.app.displayName"),
    }
    target_type = target.text_of("type")
    return fields | {
        "kind": "access",
        "action": _activity_action(activity, properties.text_of("operationType") or ""),
        "permission": code_of(activity),
        "resource_type": code_of(target_type) if target_type else "directory",
        "resource_id": target.text_of("userPrincipalName", "id", "displayName"),
        "user_id": properties.text_of(
            "initiatedBy.user.userPrincipalName",
            "initiatedBy.user.id",
            "initiatedBy.app.displayName",
            "initiatedBy.app.servicePrincipalId",
            "initiatedBy.app.appId",
        )
        or record.text_of("identity"),
        "outcome": "failure" if failed else "success",
        "reason": (access_reason_of(properties.text_of("resultReason")) or "refused") if failed else None,
    }


def _activity_action(activity: str, operation_type: str) -> str:
    text = activity.lower()
    if text.startswith(GRANTED):
        return "grant"
    if text.startswith(REVOKED):
        return "revoke"
    if text in MEMBERSHIPS:
        return MEMBERSHIPS[text]
    if "elevated their access" in text:
        return "grant"
    words = [*text.split(), operation_type]
    return next((action for word in words if (action := action_of(word))), "update")


def _operation(record: Record, operation: str) -> Fields:
    """Return an operation on Azure's resources, such as ``Microsoft.KeyVault/vaults/secrets/write``."""
    *path, verb = operation.removesuffix("/action").split("/")
    resource = path[-1].lower() if path else "azure"
    action = action_of((code_of(verb) or "").split("_")[0])
    if action is None:
        action = "read" if verb.lower().startswith(("get", "list")) else code_of(verb) or "call"
    if resource == "roleassignments":
        action = {"update": "grant", "delete": "revoke"}.get(action, action)
    result = record.text_of("resultType", "resultSignature", "status.value", "ActivityStatusValue")
    failed = result is not None and result.lower() not in SUCCESSES | {"none"}
    fields = _common(record, record.node("properties") or record)
    fields["attributes"] |= {"operation": operation, "activity_category": record.text_of("category")}
    claims = record.node("identity.claims")
    return fields | {
        "kind": "access",
        "action": action,
        "permission": operation,
        "resource_type": resource,
        "resource_id": record.text_of("resourceId"),
        "user_id": record.text_of("caller")
        or claims.text_of("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn", "upn", "appid"),
        "outcome": "failure" if failed else "success",
        "reason": (access_reason_of(record.text_of("resultDescription") or result) or "refused")
        if failed
        else None,
    }


def _common(record: Record, properties: Record) -> Fields:
    source_ip, source_attributes = source_of(
        properties.text_of("ipAddress", "IPAddress", "initiatedBy.user.ipAddress")
        or record.text_of("callerIpAddress")
        or ""
    )
    at = properties.first("createdDateTime", "activityDateTime")
    return {
        "event_id": properties.text_of("id") or record.text_of("id"),
        "time": time_of(
            at or record.first("time", "TimeGenerated", "eventTimestamp", *COLLECTED_TIMES),
            "createdDateTime, activityDateTime or time",
        ),
        "source_ip": source_ip,
        "user_agent": properties.text_of("userAgent"),
        "session_id": properties.text_of("sessionId"),
        "trace_id": properties.text_of("correlationId") or record.text_of("correlationId"),
        "token_id": properties.text_of("uniqueTokenIdentifier"),
        "attributes": {
            "entra_category": record.text_of("category"),
            "entra_tenant": record.text_of("tenantId", "AADTenantId"),
            **source_attributes,
        },
    }
