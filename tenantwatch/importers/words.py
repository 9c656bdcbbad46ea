"""Other programs' words for what was done and why it failed, as the contract's."""

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
