"""Other programs' words for what was done and why it failed, as the contract's."""

import re
from functools import lru_cache
from typing import Final

from tenantwatch.importers.values import code_of

_VERBS: Final = {
    "read": (
        "get list describe head read view lookup query scan search select show check test validate preview "
        "count discover poll receive retrieve download detect simulate verify fetch access"
    ),
    "create": (
        "create add added insert register run launch allocate import upload generate issue request enroll "
        "new copy invite invited install created initiate"
    ),
    "update": (
        "update updated updates set put post modify change changed edit enable disable start stop reboot "
        "activate reactivate deactivate suspend unsuspend reset rename tag untag configure attach detach "
        "associate disassociate patch restore recover rotate replace move lock unlock expire write convert"
    ),
    "delete": (
        "delete deleted remove removed terminate deregister release purge destroy cancel uninstall clear"
    ),
    "grant": "grant authorize assign allow share elevated",
    "revoke": "revoke unassign deny unshare",
    "export": "export",
    "impersonate": "impersonate assume",
}
_ACTIONS: Final = {verb: action for action, verbs in _VERBS.items() for verb in verbs.split()}

# The same cause under its vendors' names. Detectors know the words on the right.
_REASONS: Final = {
    "bad_password": (
        "invalid_credentials invalid_user_credentials invalid_password wrong_password invalid_grant_password"
    ),
    "unknown_user": "user_not_found no_such_user invalid_user unknown_username invalid_username",
    "locked": (
        "locked_out account_locked user_locked user_temporarily_disabled too_many_attempts blocked_user"
    ),
    "disabled": "user_disabled account_disabled inactive_user user_deactivated",
    "expired_password": "password_expired must_change_password",
    "missing_permission": "missing_permissions insufficient_permissions insufficient_scope",
    "mfa_denied": "user_rejected_okta_push_verify rejected_by_user",
}
_CODES: Final = {word: code for code, words in _REASONS.items() for word in words.split()}

# Why an access failed though nobody was denied it. Services have thousands of codes of the same words, so
# parts are looked for, and the first that is found counts: `InvalidInstanceID.NotFound` is not found, not
# invalid. A bad token or signature is none of these: who sends it is denied.
_DENIED: Final = re.compile(r"denied|unauthori[sz]ed|not_authori[sz]ed|forbidden")
_NOT_DENIED: Final = {
    "rate_limited": r"throttl|too_many_requests|request_limit_exceeded|slow_down|rate_exceeded"
    r"|rate_limit|throughput_exceeded",
    "not_found": r"no_such_|not_found|not_exist|^(?:deleted|gone)$",
    "internal_error": r"internal_(?:failure|error|server|service|exception)|server_error|^service_exception$"
    r"|service_failure|^(?:server_)?internal$",
    "service_unavailable": r"unavailable|server_busy|insufficient_\w*capacity",
    "timeout": r"time_?out|timed_out",
    "conflict": r"conflict|duplicate|already|in_use|incorrect_\w*state|invalid_\w*state|dependency_violation"
    r"|limit_exceeded|precondition_failed|check_failed",
    "bad_request": r"validation|malformed|bad_request|missing_\w*parameter|unsupported|not_supported"
    # AWS would have done it, had it not been asked only whether it would.
    r"|dry_run_operation"
    r"|invalid_(?:parameter|input|argument|request|query|action|attribute|range|uri)",
}
_FAULT: Final = re.compile("|".join(f"(?P<{reason}>{parts})" for reason, parts in _NOT_DENIED.items()))
_STATUSES: Final = {
    400: "bad_request",
    401: "unauthorized",
    403: "missing_permission",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    410: "not_found",
    412: "conflict",
    422: "validation_error",
    429: "rate_limited",
    503: "service_unavailable",
    504: "timeout",
}


def action_of(verb: str) -> str | None:
    """Return the contract's action for a verb, whatever its case; None: it is not known.

    >>> action_of("Describe"), action_of("frobnicate")
    ('read', None)
    """
    return _ACTIONS.get(verb.lower())


def reason_of(text: str | None) -> str | None:
    """Return a source's word or sentence for a cause as a code, the contract's where there is one.

    >>> reason_of("LOCKED_OUT"), reason_of("Blocked by geofence")
    ('locked', 'blocked_by_geofence')
    """
    code = code_of(text) if text else None
    return _CODES.get(code, code) if code else None


@lru_cache(maxsize=1 << 12)
def access_reason_of(text: str | None) -> str | None:
    """Return why an access failed, so that a service's fault is told from a denial.

    >>> [access_reason_of(code) for code in ("ThrottlingException", "NoSuchKey", "AccessDenied")]
    ['rate_limited', 'not_found', 'access_denied']
    """
    code = code_of(text) if text else None
    if code and not _DENIED.search(code) and (fault := _FAULT.search(code)):
        return fault.lastgroup
    return _CODES.get(code, code) if code else None


def status_reason(status: int) -> str:
    """Return why an access failed that was answered with a status of HTTP.

    >>> status_reason(429), status_reason(500), status_reason(418)
    ('rate_limited', 'internal_error', 'http_418')
    """
    return _STATUSES.get(status) or ("internal_error" if status >= 500 else f"http_{status}")
