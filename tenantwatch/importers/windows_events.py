"""Events of Windows' Security log, in the contract's words.

Source: Microsoft's security auditing reference; status codes are NTSTATUS ([MS-ERREF]) and Kerberos errors
(RFC 4120, 7.5.9).
"""

from typing import Final, NamedTuple


class Logon(NamedTuple):
    """An event about a login: its action, its method if that is fixed, and what its status fields are called.

    An `outcome` of None is told by the status.
    """

    action: str
    auth_method: str | None
    outcome: str | None
    reason: str | None = None
    user: str = "TargetUserName"


AUTH: Final[dict[int, Logon]] = {
    4624: Logon("login", None, "success"),
    4625: Logon("login", None, "failure"),
    4634: Logon("logout", None, "success"),
    4647: Logon("logout", None, "success"),
    # An account's name and password were handed to a program; whether they were right, another event says.
    4648: Logon("explicit_login", "password", "success"),
    4649: Logon("login", "kerberos", "failure", "replay"),
    4672: Logon("privileged_login", None, "success", user="SubjectUserName"),
    4964: Logon("privileged_login", None, "success"),
    4723: Logon("password_change", "password", None),
    4724: Logon("password_reset", "password", None),
    4740: Logon("account_lock", None, "failure", "locked"),
    4767: Logon("account_unlock", None, "success"),
    4768: Logon("login", "kerberos", None),
    4769: Logon("service_ticket", "kerberos", None),
    4770: Logon("token_refresh", "kerberos", "success"),
    4771: Logon("login", "kerberos", "failure"),
    4772: Logon("login", "kerberos", "failure"),
    4773: Logon("service_ticket", "kerberos", "failure"),
    4774: Logon("login", "certificate", None),
    4776: Logon("login", "ntlm", None),
    4777: Logon("login", "ntlm", "failure"),
    4778: Logon("session_reconnect", None, "success", user="AccountName"),
    4779: Logon("session_disconnect", None, "success", user="AccountName"),
    4820: Logon("login", "kerberos", "failure", "policy_denied"),
    4821: Logon("login", "kerberos", "failure", "policy_denied"),
    4822: Logon("login", "ntlm", "failure", "policy_denied"),
    4823: Logon("login", "ntlm", "failure", "policy_denied"),
    4824: Logon("login", "kerberos", "failure", "policy_denied"),
    4825: Logon("login", "password", "failure", "missing_permission", user="AccountName"),
}

# Whoever asks a server what it shares, before any password: the session is nobody's. By its number, because
# its name is translated; by its name where only that is kept.
ANONYMOUS_SID: Final = "S-1-5-7"
ANONYMOUS_NAME: Final = "anonymous logon"

# Event to action and type of resource.
ACCESS: Final[dict[int, tuple[str, str]]] = {
    1102: ("delete", "audit_log"),
    4656: ("read", "object"),
    4659: ("delete", "object"),
    4660: ("delete", "object"),
    4661: ("read", "object"),
    4663: ("read", "object"),
    4670: ("grant", "object"),
    4673: ("use_privilege", "privilege"),
    4674: ("use_privilege", "object"),
    4697: ("create", "service"),
    4698: ("create", "scheduled_task"),
    4699: ("delete", "scheduled_task"),
    4700: ("update", "scheduled_task"),
    4701: ("update", "scheduled_task"),
    4702: ("update", "scheduled_task"),
    4704: ("grant", "user_right"),
    4705: ("revoke", "user_right"),
    4717: ("grant", "system_access"),
    4718: ("revoke", "system_access"),
    4719: ("update", "audit_policy"),
    4720: ("create", "user"),
    4722: ("update", "user"),
    4725: ("update", "user"),
    4726: ("delete", "user"),
    4727: ("create", "group"),
    4728: ("grant", "group"),
    4729: ("revoke", "group"),
    4730: ("delete", "group"),
    4731: ("create", "group"),
    4732: ("grant", "group"),
    4733: ("revoke", "group"),
    4734: ("delete", "group"),
    4735: ("update", "group"),
    4737: ("update", "group"),
    4738: ("update", "user"),
    4739: ("update", "domain_policy"),
    4741: ("create", "computer"),
    4742: ("update", "computer"),
    4743: ("delete", "computer"),
    4754: ("create", "group"),
    4755: ("update", "group"),
    4756: ("grant", "group"),
    4757: ("revoke", "group"),
    4758: ("delete", "group"),
    4781: ("update", "user"),
    4794: ("update", "directory_restore_password"),
    4798: ("read", "user"),
    4799: ("read", "group"),
    5136: ("update", "directory_object"),
    5137: ("create", "directory_object"),
    5141: ("delete", "directory_object"),
    5140: ("read", "share"),
    5145: ("read", "share_file"),
}

# A program tries privileges by itself, a browser several a second: that it has none of them is no denial of
# what its user asked for.
PRIVILEGES: Final = frozenset({4673, 4674})
PRIVILEGE_NOT_HELD: Final = "privilege_not_held"

# What a status says, by its number.
REASONS: Final[dict[int, str]] = {
    0xC0000064: "unknown_user",
    0xC000006A: "bad_password",
    0xC000006D: "bad_password",
    0xC000006E: "account_restricted",
    0xC000006F: "outside_hours",
    0xC0000070: "workstation_not_allowed",
    0xC0000071: "expired_password",
    0xC0000072: "disabled",
    0xC0000133: "clock_skew",
    0xC000015B: "missing_permission",
    0xC000018C: "trust_failed",
    0xC000018D: "trust_failed",
    0xC0000192: "service_unavailable",
    0xC0000193: "expired_account",
    0xC000005E: "service_unavailable",
    0xC0000224: "expired_password",
    0xC0000225: "not_found",
    0xC0000234: "locked",
    0xC0000413: "policy_denied",
}
KERBEROS_REASONS: Final[dict[int, str]] = {
    0x1: "expired_account",
    0x6: "unknown_user",
    0x7: "unknown_service",
    0x9: "no_key",
    0xC: "policy_denied",
    0xE: "encryption_not_supported",
    0xF: "encryption_not_supported",
    0x10: "no_key",
    0x12: "account_revoked",
    0x17: "expired_password",
    0x18: "bad_password",
    0x19: "preauth_required",
    0x1B: "user_to_user_required",
    0x1F: "bad_ticket",
    0x20: "ticket_expired",
    0x25: "clock_skew",
    0x29: "bad_ticket",
    0x3C: "refused",
    0x42: "bad_certificate",
}
# What 4625 says in words where it has no number, by the number of the words in Windows' message table.
MESSAGE_REASONS: Final = {
    "%%2304": "refused",
    "%%2305": "expired_account",
    "%%2306": "not_found",
    "%%2307": "locked",
    "%%2308": "missing_permission",
    "%%2309": "expired_password",
    "%%2310": "disabled",
    "%%2311": "outside_hours",
    "%%2312": "workstation_not_allowed",
    "%%2313": "bad_password",
}
PACKAGES: Final = {"kerberos": "kerberos", "ntlm": "ntlm"}
LOGON_TYPES: Final = {
    2: "interactive",
    3: "network",
    4: "batch",
    5: "service",
    7: "unlock",
    8: "network_cleartext",
    9: "new_credentials",
    10: "remote_interactive",
    11: "cached_interactive",
}
