"""Auth0's log event type codes, each as an action of the contract.

Source of the codes: Auth0's documentation, "Log Event Type Codes", and its published log schemas.
"""

from typing import Final, NamedTuple


class Meaning(NamedTuple):
    """What a code says, in the contract's words; the reason of a failure may be told better by its record."""

    action: str
    auth_method: str | None = None
    reason: str | None = None


# A login's method is that of its connection.
BY_CONNECTION: Final = "by_connection"

AUTH: Final[dict[str, Meaning]] = {
    "s": Meaning("login", BY_CONNECTION),
    "f": Meaning("login", BY_CONNECTION, "refused"),
    "fp": Meaning("login", "password", "bad_password"),
    "fu": Meaning("login", "password", "unknown_user"),
    "fc": Meaning("login", "sso", "connector_failed"),
    "scoa": Meaning("login", BY_CONNECTION),
    "fcoa": Meaning("login", BY_CONNECTION, "refused"),
    "sens": Meaning("login", "sso"),
    "fens": Meaning("login", "sso", "refused"),
    "sepft": Meaning("login", "password"),
    "fepft": Meaning("login", "password", "bad_password"),
    "sepotpft": Meaning("login", "passwordless"),
    "fepotpft": Meaning("login", "passwordless", "bad_code"),
    "pwd_leak": Meaning("login", "password", "breached_password"),
    "passkey_challenge_failed": Meaning("login", "passkey", "bad_passkey"),
    # Nothing was proved or refuted: the page's origin, the device's owner or the flow's state was in the way.
    "fco": Meaning("login_interrupted", BY_CONNECTION, "origin_not_allowed"),
    "fdeaz": Meaning("login_interrupted", "oauth2", "device_not_authorized"),
    "fdeac": Meaning("login_interrupted", "oauth2", "device_not_activated"),
    "fdecc": Meaning("login_interrupted", "oauth2", "cancelled"),
    "cs": Meaning("login_challenge", "passwordless"),
    "cls": Meaning("login_challenge", "passwordless"),
    "passkey_challenge_started": Meaning("login_challenge", "passkey"),
    "ciba_start_succeeded": Meaning("login_challenge", "oauth2"),
    "ciba_start_failed": Meaning("login_challenge", "oauth2", "refused"),
    "ss": Meaning("signup", BY_CONNECTION),
    "fs": Meaning("signup", BY_CONNECTION, "refused"),
    "si": Meaning("signup", BY_CONNECTION),
    "fi": Meaning("signup", BY_CONNECTION, "refused"),
    "signup_pwd_leak": Meaning("signup", "password", "breached_password"),
    # A page asking whether its session still holds: that it does not is no guess.
    "ssa": Meaning("token_refresh", "sso"),
    "fsa": Meaning("token_refresh", "sso", "login_required"),
    "slo": Meaning("logout"),
    "flo": Meaning("logout", None, "refused"),
    "oidc_backchannel_logout_succeeded": Meaning("logout"),
    "oidc_backchannel_logout_failed": Meaning("logout", None, "refused"),
    "federated_logout_failed": Meaning("logout", None, "refused"),
    "seccft": Meaning("token_issue", "client_credentials"),
    "feccft": Meaning("token_issue", "client_credentials", "bad_secret"),
    "sd": Meaning("token_issue", "oauth2"),
    "fd": Meaning("token_issue", "oauth2", "refused"),
    "sede": Meaning("token_issue", "oauth2"),
    "fede": Meaning("token_issue", "oauth2", "refused"),
    "secte": Meaning("token_issue", "oauth2"),
    "fecte": Meaning("token_issue", "oauth2", "refused"),
    "ciba_exchange_succeeded": Meaning("token_issue", "oauth2"),
    "ciba_exchange_failed": Meaning("token_issue", "oauth2", "refused"),
    "seacft": Meaning("token_issue", "oauth2"),
    "feacft": Meaning("token_issue", "oauth2", "bad_code"),
    "sertft": Meaning("token_refresh", "oauth2"),
    "fertft": Meaning("token_refresh", "oauth2", "refused"),
    "ferrt": Meaning("token_refresh", "oauth2", "token_reuse"),
    "srrt": Meaning("token_revoke", "oauth2"),
    "seotpft": Meaning("mfa", "mfa"),
    "feotpft": Meaning("mfa", "mfa", "bad_mfa_code"),
    "seoobft": Meaning("mfa", "mfa"),
    "feoobft": Meaning("mfa", "mfa", "bad_mfa_code"),
    "sercft": Meaning("mfa", "mfa"),
    "fercft": Meaning("mfa", "mfa", "bad_recovery_code"),
    "gd_auth_succeed": Meaning("mfa", "mfa"),
    "gd_auth_failed": Meaning("mfa", "mfa", "bad_mfa_code"),
    "gd_auth_rejected": Meaning("mfa", "mfa", "mfa_denied"),
    "gd_otp_rate_limit_exceed": Meaning("mfa", "mfa", "rate_limited"),
    "gd_recovery_succeed": Meaning("mfa", "mfa"),
    "gd_recovery_failed": Meaning("mfa", "mfa", "bad_recovery_code"),
    "gd_recovery_rate_limit_exceed": Meaning("mfa", "mfa", "rate_limited"),
    "gd_webauthn_challenge_failed": Meaning("mfa", "mfa", "bad_passkey"),
    "mfar": Meaning("mfa_challenge", "mfa"),
    "gd_start_auth": Meaning("mfa_challenge", "mfa"),
    "gd_send_pn": Meaning("mfa_challenge", "mfa"),
    "gd_send_sms": Meaning("mfa_challenge", "mfa"),
    "gd_send_voice": Meaning("mfa_challenge", "mfa"),
    "gd_send_email": Meaning("mfa_challenge", "mfa"),
    "gd_send_pn_failure": Meaning("mfa_challenge", "mfa", "not_sent"),
    "gd_send_sms_failure": Meaning("mfa_challenge", "mfa", "not_sent"),
    "gd_send_voice_failure": Meaning("mfa_challenge", "mfa", "not_sent"),
    "scp": Meaning("password_change", "password"),
    "fcp": Meaning("password_change", "password", "refused"),
    "scpr": Meaning("password_reset", "password"),
    "fcpr": Meaning("password_reset", "password", "refused"),
    "reset_pwd_leak": Meaning("password_reset", "password", "breached_password"),
    # What Auth0 concluded from attempts that it has logged one by one.
    "limit_wc": Meaning("account_lock", None, "locked"),
    "limit_sul": Meaning("address_block", None, "rate_limited"),
    "limit_mu": Meaning("address_block", None, "rate_limited"),
    "ublkdu": Meaning("account_unlock"),
}

# Code to action, resource type, and the reason of a failure.
ACCESS: Final[dict[str, tuple[str, str, str | None]]] = {
    "du": ("delete", "user", None),
    "sdu": ("delete", "user", None),
    "fdu": ("delete", "user", "refused"),
    "sce": ("update", "user", None),
    "fce": ("update", "user", "refused"),
    "scu": ("update", "user", None),
    "fcu": ("update", "user", "refused"),
    "scpn": ("update", "user", None),
    "fcpn": ("update", "user", "refused"),
    "sui": ("create", "user", None),
    "fui": ("create", "user", "refused"),
    "gd_enrollment_complete": ("create", "mfa_factor", None),
    "gd_start_enroll_failed": ("create", "mfa_factor", "refused"),
    "gd_webauthn_enrollment_failed": ("create", "mfa_factor", "refused"),
    "gd_update_device_account": ("update", "mfa_factor", None),
    "gd_unenroll": ("delete", "mfa_factor", None),
    "gd_user_delete": ("delete", "mfa_factor", None),
    "gd_tenant_update": ("update", "tenant", None),
    "organization_member_added": ("grant", "organization", None),
    "kms_key_management_success": ("update", "encryption_key", None),
    "kms_key_management_failure": ("update", "encryption_key", "refused"),
    "kms_key_state_changed": ("update", "encryption_key", None),
    "my_account_authentication_method_succeeded": ("update", "authentication_method", None),
    "my_account_authentication_method_failed": ("update", "authentication_method", "refused"),
}
# Calls of the Management API: what they did is in the call.
API: Final = {"sapi": "success", "fapi": "failure", "mgmt_api_read": "success"}
