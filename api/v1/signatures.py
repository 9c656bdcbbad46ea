"""Signed requests: HMAC-SHA256 over method, path, tenant, body, time and nonce: none is changed or repeated.

Other headers are not in it. What they say of a body that nobody can change is how to read it, and with which
``Idempotency-Key``: at worst it is refused, or not told from its repetition, which has another nonce.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

SCHEME: Final = "TW1-HMAC-SHA256"
# The sender's clock may be off by so much; a nonce is remembered for longer than twice that.
CLOCK_WINDOW: Final = timedelta(minutes=5)
REMEMBER_NONCE: Final = timedelta(minutes=15)
_PURPOSE: Final = b"tenantwatch signed request 1\n"
_PARAMETER: Final = re.compile(r"\s*(KeyId|Timestamp|Nonce|Signature)=([A-Za-z0-9_-]{1,128})\s*")
_NONCE: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")


class SignatureMalformed(ValueError):
    """The header is not one of a signed request."""


@dataclass(frozen=True)
class Signature:
    """What the header ``Authorization: TW1-HMAC-SHA256 KeyId=…,Timestamp=…,Nonce=…,Signature=…`` says."""

    key_id: str
    timestamp: int
    nonce: str
    signature: str


def signing_key(secret: str) -> bytes:
    """Return the HMAC key that belongs to an API key's secret; the secret does not follow from it.

    Parameters
    ----------
    secret
        The whole key, ``tw_…``.
    """
    return hashlib.sha256(_PURPOSE + secret.encode()).digest()


def signed_text(method: str, target: str, tenant: str, body: bytes, timestamp: int, nonce: str) -> bytes:
    """Return what is signed.

    Parameters
    ----------
    target
        Path and query as they are sent, ``/v1/events?x=1``.
    tenant
        The header ``X-Tenant-Id``; empty without one.

    >>> signed_text("post", "/v1/events", "", b"", 1760000000, "n" * 16).decode().split()[1:3]
    ['POST', '/v1/events']
    """
    digest = hashlib.sha256(body).hexdigest()
    return "\n".join((SCHEME, method.upper(), target, tenant, digest, str(timestamp), nonce)).encode()


def sign(key: bytes, text: bytes) -> str:
    """Return the signature of a text, hexadecimal."""
    return hmac.new(key, text, hashlib.sha256).hexdigest()


def parse(parameters: str) -> Signature:
    """Read what follows the scheme in the header.

    Raises
    ------
    SignatureMalformed
        If anything is missing, there twice, or of another form.
    """
    found: dict[str, str] = {}
    for part in parameters.split(","):
        matched = _PARAMETER.fullmatch(part)
        if matched is None or matched[1] in found:
            raise SignatureMalformed(parameters[:100])
        found[matched[1]] = matched[2]
    timestamp, nonce = found.get("Timestamp", ""), found.get("Nonce", "")
    complete = len(found) == 4 and re.fullmatch(r"[0-9]{1,12}", timestamp) and _NONCE.fullmatch(nonce)
    if not complete:
        raise SignatureMalformed(parameters[:100])
    return Signature(found["KeyId"], int(timestamp), nonce, found["Signature"])


def stale(timestamp: int, now: datetime) -> bool:
    """Return whether a timestamp is outside the clock window."""
    return abs(now.timestamp() - timestamp) > CLOCK_WINDOW.total_seconds()
