"""The three headers of Standard Webhooks."""

import base64
import hashlib
import hmac
from collections.abc import Sequence


def sign(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """Return one signature of a message: ``v1,`` and the base64 of its HMAC-SHA256.

    Parameters
    ----------
    secret
        As the receiver has it: ``whsec_`` and base64.
    timestamp_s
        Of this attempt, seconds since 1970.

    Examples
    --------
    >>> sign(
    ...     "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ...     "msg_p5jXN8AQM9LWM0D4loKWxJek",
    ...     1614265330,
    ...     b'{"test": 2432232314}',
    ... )
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = hmac.digest(key, f"{message_id}.{timestamp_s}.".encode() + body, hashlib.sha256)
    return "v1," + base64.b64encode(signed).decode()


def headers(secrets: Sequence[str], message_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """Return the headers of one attempt, signed with every secret that is valid now."""
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": " ".join(sign(secret, message_id, timestamp_s, body) for secret in secrets),
    }
