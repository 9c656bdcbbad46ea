"""Okta's System Log turned into auth and access events.

Field names and event types: Okta's System Log API and its catalogue of event types.
"""

from typing import Final

from tenantwatch.importers.importer import Fields, Reading
from tenantwatch.importers.record import NOTHING, Record
from tenantwatch.importers.values import COLLECTED_TIMES, NotUnderstood, code_of, source_of, time_of
from tenantwatch.importers.words import access_reason_of, action_of, reason_of

# Event type to the contract's action and method. `delegated_login` is what Okta writes, beside
# `user.session.start`, about the directory or provider that it asked: one attempt must not count as two.
AUTH: Final[dict[str, tuple[str, str | None]]] = {
    "user.session.start": ("login", "password"),
    "user.session.end": ("logout", None),
    "user.session.expire": ("logout", None),
    "user.session.clear": ("token_revoke", None),
    "user.authentication.authenticate": ("login", "password"),
    "user.authentication.auth": ("login", "password"),
    "user.authentication.auth_unconfigured_identifier": ("login", "password"),
    "user.authentication.auth_via_radius": ("login", "radius"),
    "user.authentication.auth_via_richclient": ("login", "password"),
    "user.authentication.auth_via_ad_agent": ("delegated_login", "password"),
    "user.authentication.auth_via_ldap_agent": ("delegated_login", "password"),
    "user.authentication.auth_via_idp": ("delegated_login", "sso"),
    "user.authentication.auth_via_social": ("delegated_login", "sso"),
    "user.authentication.auth_via_inbound_saml": ("delegated_login", "sso"),
    "user.authentication.auth_via_inbound_delauth": ("delegated_login", "sso"),
    "user.authentication.auth_via_iwa": ("delegated_login", "kerberos"),
    "user.authentication.auth_via_mfa": ("mfa", "mfa"),
    "user.authentication.verify": ("verify", None),
    "user.authentication.sso": ("token_issue", "sso"),
    "user.authentication.slo": ("logout", "sso"),
    "user.authentication.universal_logout": ("logout", None),
    "user.mfa.okta_verify.deny_push": ("mfa", "mfa"),
    "user.mfa.okta_verify.deny_push_upgrade_needed": ("mfa", "mfa"),
    "user.mfa.attempt_bypass": ("mfa_bypass", "mfa"),
    "system.push.send_factor_verify_push": ("mfa_challenge", "mfa"),
    "user.account.lock": ("account_lock", None),
    "user.account.lock.limit": ("account_lock", None),
    "user.account.unlock": ("account_unlock", None),
    "user.account.unlock_by_admin": ("account_unlock", None),
    "user.account.update_password": ("password_change", None),
    "user.account.expire_password": ("password_change", None),
    "user.account.reset_password": ("password_reset", None),
    "user.account.use_token": ("token_issue", None),
    "policy.evaluate_sign_on": ("policy_evaluation", None),
    "app.oauth2.signon": ("token_issue", "oauth2"),
    "app.oauth2.authorize.code": ("authorize", "oauth2"),
    "app.oauth2.token.detect_reuse": ("token_refresh", "oauth2"),
    "app.token.reuse": ("token_refresh", "oauth2"),
}
# Denials, whatever Okta calls their result.
DENIALS: Final = {
    "user.mfa.okta_verify.deny_push": "mfa_denied",
    "user.mfa.okta_verify.deny_push_upgrade_needed": "mfa_denied",
    "user.account.lock": "locked",
    "user.account.lock.limit": "locked",
    "app.oauth2.token.detect_reuse": "token_reuse",
    "app.token.reuse": "token_reuse",
}
FAILURES: Final = frozenset({"FAILURE", "DENY", "UNANSWERED", "ABANDONED"})
# Neither who somebody is nor what they touched: the service's own running, and Okta's detections.
OTHER: Final = (
    "system.org.rate_limit",
    "system.operation.rate_limit",
    "system.rate_limit",
    "application.integration.rate_limit",
    "app.oauth2.client_id_rate_limit",
    "core.concurrency",
    "core.el",
    "event_hook",
    "inline_hook",
    "security.",
    "system.agent",
    "system.email",
    "system.sms",
    "system.voice",
    "system.import",
    "system.feature",
    "system.dr",
    "task.",
    "user.risk",
    "user.behavior",
)
# Words that say more about an event type than its last one.
SPECIAL: Final = {
    "user.session.impersonation.grant": "grant",
    "user.session.impersonation.initiate": "impersonate",
    "user.session.impersonation.end": "revoke",
    "user.session.impersonation.extend": "impersonate",
    "user.session.impersonation.revoke": "revoke",
    "user.session.access_admin_app": "read",
    "application.user_membership.show_password": "read",
    "app.generic.unauth_app_access_attempt": "read",
    "group.user_membership.add": "grant",
    "group.user_membership.remove": "revoke",
    "application.user_membership.add": "grant",
    "application.user_membership.remove": "revoke",
    "group.application_assignment.add": "grant",
    "group.application_assignment.remove": "revoke",
}


def read(record: Record) -> Reading:
    """Read one event of the System Log.

    Returns
    -------
    Reading
        Its event, or the kind of an event that is neither auth nor access.

    Raises
    ------
    NotUnderstood
        If it has no event type or no time.

    >>> event = read(Record({
    ...     "eventType": "user.session.start", "published": "2026-01-05T08:00:00.000Z",
    ...     "actor": {"id": "unknown", "alternateId": "user@example.com"},
    ...     "outcome": {"result": "FAILURE", "reason": "VERIFICATION_ERROR"},
    ... }))
    >>> event["action"], event["user_id"], event["outcome"], event["reason"]
    ('login', 'user@example.com', 'failure', 'unknown_user')
    """
    if hooked := record.nodes("data.events"):
        return [fields for event in hooked if isinstance(fields := read(event), dict)]
    event_type = record.text_of("eventType")
    if event_type is None:
        raise NotUnderstood("eventType is missing: is it an event of Okta's System Log?")
    name = event_type.lower()
    if name in AUTH or (name.startswith("app.oauth2.") and ".token." in name):
        return _auth(record, event_type)
    if name.startswith(OTHER):
        return "other_event_type"
    action = SPECIAL.get(name) or next(
        (action for word in reversed(code_words(name)) if (action := action_of(word))), None
    )
    return _access(record, event_type, action) if action else "other_event_type"


def code_words(name: str) -> list[str]:
    """Return the words of an event type's last part, and of the one before it.

    >>> code_words("user.mfa.factor.reset_all")
    ['factor', 'reset', 'all']
    """
    return [word for part in name.split(".")[-2:] for word in part.split("_")]


def _auth(record: Record, event_type: str) -> Fields:
    name = event_type.lower()
    action, auth_method = AUTH.get(name) or _token_action(record, name)
    fields = _common(record, event_type) | {"kind": "auth", "action": action, "auth_method": auth_method}
    if reason := DENIALS.get(name):
        return fields | {"outcome": "failure", "reason": reason}
    if fields["outcome"] == "success":
        return fields
    if record.text_of("outcome.result") == "ABANDONED":
        fields["action"] = "login_interrupted"
    elif record.text_of("outcome.result") == "UNANSWERED":
        fields["reason"] = "mfa_timeout"
    elif action in ("login", "delegated_login") and record.text_of("actor.id") == "unknown":
        # That is how Okta writes an actor it does not have; the reason it gives says less.
        fields["reason"] = "unknown_user"
    elif action == "mfa" and _is_denied_push(record):
        fields["reason"] = "mfa_denied"
    elif action == "mfa" and fields["reason"] == "bad_password":
        fields["reason"] = "bad_mfa_code"
    return fields


def _is_denied_push(record: Record) -> bool:
    """Return whether a person said no: Identity Engine calls that the wrong credentials as well."""
    said = record.node("debugContext.debugData").items()
    return any(name.endswith("responsetype") and str(value).endswith("_DENY") for name, value in said)


def _token_action(record: Record, name: str) -> tuple[str, str]:
    if "revoke" in name:
        return "token_revoke", "oauth2"
    grant_type = record.text_of("debugContext.debugData.grantType")
    refreshed = grant_type == "refresh_token" or "refresh_token" in name
    return ("token_refresh" if refreshed else "token_issue"), "oauth2"


def _access(record: Record, event_type: str, action: str) -> Fields:
    targets = record.nodes("target")
    target = targets[0] if targets else NOTHING
    fields = _common(record, event_type)
    fields["attributes"] |= {
        "target": target.text_of("displayName", "alternateId"),
        "target_2": targets[1].text_of("alternateId", "displayName", "id") if len(targets) > 1 else None,
    }
    if fields["outcome"] == "failure":
        fields["reason"] = access_reason_of(record.text_of("outcome.reason")) or "refused"
    resource_type = target.text_of("type")
    return fields | {
        "kind": "access",
        "action": action,
        "permission": event_type,
        "resource_type": code_of(resource_type) if resource_type else None,
        "resource_id": target.text_of("alternateId", "id"),
    }


def _common(record: Record, event_type: str) -> Fields:
    chain = record.nodes("request.ipChain")
    source = record.text_of("client.ipAddress") or (chain[0].text_of("ip") if chain else None)
    source_ip, source_attributes = source_of(source or "")
    result = record.text_of("outcome.result")
    failed = result is not None and result.upper() in FAILURES
    return {
        "event_id": record.text_of("uuid"),
        "time": time_of(record.first("published", *COLLECTED_TIMES), "published"),
        "user_id": record.text_of("actor.alternateId", "actor.id"),
        "source_ip": source_ip,
        "user_agent": record.text_of("client.userAgent.rawUserAgent"),
        "session_id": record.text_of("authenticationContext.externalSessionId"),
        "trace_id": record.text_of("transaction.id"),
        "outcome": "failure" if failed else "success",
        "reason": (reason_of(record.text_of("outcome.reason")) or "refused") if failed else None,
        "attributes": {
            "okta_event_type": event_type,
            "okta_result": result,
            "actor_id": record.text_of("actor.id"),
            "actor_type": record.text_of("actor.type"),
            "country": record.text_of("client.geographicalContext.country"),
            "as_number": record.text_of("securityContext.asNumber"),
            "factor": record.text_of("debugContext.debugData.factor"),
            "app": _app(record),
            **source_attributes,
        },
    }


def _app(record: Record) -> str | None:
    targets = record.nodes("target")
    return next((t.text_of("displayName") for t in targets if t.text_of("type") == "AppInstance"), None)
