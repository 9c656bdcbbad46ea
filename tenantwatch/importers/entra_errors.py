"""Microsoft Entra's sign-in error codes: the reason each is, and whether it ended the attempt.

Source: Microsoft's reference of authentication and authorization error codes (AADSTS…).
"""

from typing import Final

_REASONS: Final = {
    "bad_password": "50126 50056 50064 81016",
    "unknown_user": "50034 50020 51004 90072 50059 50181",
    "locked": "50053",
    "disabled": "50057 53011",
    "expired_password": "50055 50144 50142",
    "outside_hours": "80012",
    "bad_secret": "7000215 7000216 700027 7000213",
    "expired_secret": "7000222",
    "unknown_application": "700016 7000112 500011 90002",
    "missing_permission": "50105 65005 501051 500014",
    "policy_denied": (
        "53003 53000 53001 53002 53004 53009 53010 50131 530032 530034 530035 50005 530021 53033 53024"
    ),
    "mfa_denied": "500121",
}
# The sign-in is not over: the user is asked for something, or an application only looked whether a session
# was there. They are written with a failure's code, most of them for every honest sign-in; none is a guess.
_INTERRUPTS: Final = {
    "mfa_required": "50074 50076 50079 50072 50158 50127",
    "login_required": (
        "50058 50140 16000 16001 16003 50206 51006 50097 50129 50125 50143 50196 50199 81010 9002341"
    ),
    "token_expired": "70008 70043 70044 700082 700084 50173 50132 50133 50089 500133 70000 50013 50078",
    "consent_required": "65001 65004 90094 90095",
    "cancelled": "50061 700051 1002 399218",
    "device_required": "50187 501291 50155",
}
REASONS: Final = {code: reason for reason, codes in _REASONS.items() for code in codes.split()}
INTERRUPTS: Final = {code: reason for reason, codes in _INTERRUPTS.items() for code in codes.split()}

# With these somebody's credential was looked at, also where a client signs in by itself (legacy mail
# protocols, the password grant); any other failure of such a sign-in is a token that has run out.
CREDENTIAL_REASONS: Final = frozenset(
    {"bad_password", "unknown_user", "locked", "disabled", "expired_password", "outside_hours"}
)

# Clients that send a password with each connection, as `clientAppUsed` names them, in part. None of their
# sign-ins renews a token.
LEGACY_CLIENTS: Final = (
    *("other clients", "imap", "pop", "smtp", "authenticated smtp", "exchange activesync", "mapi over http"),
    *("exchange web services", "exchange online powershell", "autodiscover", "offline address book"),
    *("outlook anywhere", "reporting web services"),
)

# What a second factor's failure (500121) says about itself, in part.
MFA_DETAILS: Final = {
    "did not respond": "mfa_timeout",
    "timed out": "mfa_timeout",
    "invalid verification code": "bad_mfa_code",
    "wrong code": "bad_mfa_code",
    "incorrect": "bad_mfa_code",
    "fraud": "mfa_fraud_reported",
    "phone unreachable": "mfa_unreachable",
}

# What was done, as Entra calls the method of a step, in part; the first that fits.
METHODS: Final = {
    "previously satisfied": "sso",
    "password": "password",
    "fido": "passkey",
    "passkey": "passkey",
    "windows hello": "passkey",
    "certificate": "certificate",
    "temporary access pass": "one_time_code",
    "integrated windows": "kerberos",
    "phone sign-in": "passwordless",
    "federated": "sso",
}
PROTOCOLS: Final = {"ropc": "password", "devicecode": "device_code", "saml20": "sso", "wsfederation": "sso"}
