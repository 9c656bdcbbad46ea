"""API keys: making one, giving it a new secret, taking it back. Its secret is shown once, when it is made."""

import hashlib
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from api.v1.key_ring import KeyRing
from api.v1.permissions import check_grant, effective
from api.v1.signatures import signing_key
from schemas.alert import rfc3339
from store.api_keys import NEVER, ApiKey, ApiKeys, ListedKey
from store.revocations import Revocations

SECRET_BYTES: Final = 32
DEFAULT_DAYS: Final = 90
MAX_DAYS: Final = 366
DEFAULT_OVERLAP: Final = timedelta(hours=24)
MAX_OVERLAP: Final = timedelta(days=7)
_KEY: Final = re.compile(r"tw_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class NewKey:
    """A key and its secret, which is nowhere else."""

    key: ApiKey
    secret: str = field(repr=False)


def split(text: str) -> str | None:
    """Return the id in a key's text; None for what is no key.

    >>> split("tw_0123456789abcdef_" + "s" * 43)
    '0123456789abcdef'
    """
    matched = _KEY.fullmatch(text)
    return matched[1] if matched else None


def hash_of(secret: str) -> str:
    """Return what is stored of a secret.

    A fast hash is right here: the secret is 256 random bits, which nobody guesses at any speed. A slow one
    is for what people think up, and would make each request cost what an attacker pays for a guess.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyDesk:
    """Makes, rotates and revokes keys; every method blocks.

    Parameters
    ----------
    keys, revocations
        Where they are kept.
    ring
        Encrypts what signed requests are checked with.
    """

    def __init__(self, keys: ApiKeys, revocations: Revocations, ring: KeyRing) -> None:
        self.keys = keys
        self._revocations = revocations
        self._ring = ring

    def create(
        self,
        *,
        tenant_id: str,
        name: str,
        roles: Sequence[str],
        permissions: Sequence[str],
        days: int,
        created_by: str,
        now: datetime,
    ) -> NewKey:
        """Make a key.

        Parameters
        ----------
        tenant_id
            Whose; empty for the platform.

        Raises
        ------
        UnknownGrant
            If a role or permission does not exist, or is the platform's and the key is a tenant's.
        """
        check_grant(roles, permissions, platform=not tenant_id)
        key_id = secrets.token_hex(8)
        secret = _secret(key_id)
        key = ApiKey(
            key_id=key_id,
            tenant_id=tenant_id,
            name=name,
            roles=tuple(dict.fromkeys(roles)),
            permissions=tuple(dict.fromkeys(permissions)),
            secret_hash=hash_of(secret),
            signing_key=self._sealed(key_id, secret),
            previous_hash="",
            previous_signing_key="",
            previous_until=NEVER,
            created_at=now,
            created_by=created_by,
            expires_at=now + timedelta(days=days),
        )
        return NewKey(self.keys.write(key), secret)

    def rotate(
        self, key: ApiKey, now: datetime, overlap: timedelta = DEFAULT_OVERLAP, days: int | None = None
    ) -> NewKey:
        """Give a key a new secret; the old one holds beside it for the overlap, and the key's id stays.

        Parameters
        ----------
        days
            That the key holds from now on; None leaves its end where it is.
        """
        secret = _secret(key.key_id)
        rotated = replace(
            key,
            secret_hash=hash_of(secret),
            signing_key=self._sealed(key.key_id, secret),
            previous_hash=key.secret_hash,
            previous_signing_key=key.signing_key,
            previous_until=min(now + overlap, key.expires_at),
            expires_at=key.expires_at if days is None else now + timedelta(days=days),
        )
        return NewKey(self.keys.write(rotated), secret)

    def revoke(self, key: ApiKey, now: datetime, *, by: str, reason: str = "revoked") -> None:
        """Take a key back: at once, for good, with every token that it was given."""
        self._revocations.revoke(key.subject, key.tenant_id, now, by=by, reason=reason)

    def _sealed(self, key_id: str, secret: str) -> str:
        return self._ring.seal(signing_key(secret), key_id)


def _secret(key_id: str) -> str:
    return f"tw_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}"


def shown(listed: ListedKey, now: datetime) -> dict[str, Any]:
    """Return a key as people see it: without anything of its secrets."""
    key = listed.key
    status = "active" if now < key.expires_at else "expired"
    return {
        "key_id": key.key_id,
        "tenant_id": key.tenant_id or None,
        "name": key.name,
        "roles": list(key.roles),
        "permissions": list(key.permissions),
        "effective_permissions": sorted(effective(key.roles, key.permissions, platform=not key.tenant_id)),
        "status": "revoked" if listed.revoked_at else status,
        "created_at": rfc3339(key.created_at),
        "created_by": key.created_by,
        "expires_at": rfc3339(key.expires_at),
        "last_used_at": _time(listed.last_used_at),
        "previous_secret_until": _time(key.previous_until if now < key.previous_until else None),
        "revoked_at": _time(listed.revoked_at),
    }


def _time(value: datetime | None) -> str | None:
    return rfc3339(value) if value else None
