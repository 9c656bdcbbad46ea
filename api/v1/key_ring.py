"""The API's own keys: a file outside the store, readable by its owner only.

It holds the keys that sign access tokens, and the one that encrypts what signed requests are checked with.
Whoever has only the store can neither make a token nor sign a request.
"""

import base64
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALGORITHM: Final = "EdDSA"
# A new signing key is published so long before it signs: verifiers elsewhere cache the JWKS for less.
PUBLISH_AHEAD: Final = timedelta(minutes=5)
# A key verifies for so long after it has stopped signing: the last token it signed has ended by then.
RETIRE_AFTER: Final = timedelta(minutes=20)
_NONCE_BYTES: Final = 12


class KeyRingError(Exception):
    """The file with the API's keys cannot be used; the message says what to do."""


class NotSealedHere(KeyRingError):
    """What was to be opened was encrypted with other keys or for somebody else, or is nothing of the kind.

    The file itself is good: whoever sent this is refused, and nothing of ours has failed.
    """


@dataclass(frozen=True)
class SigningKey:
    """An Ed25519 key.

    Parameters
    ----------
    kid
        Names it in tokens and in the JWKS.
    active_at
        From then on it signs, until the next one does.
    """

    kid: str
    private: Ed25519PrivateKey = field(repr=False)
    active_at: datetime

    @property
    def public(self) -> Ed25519PublicKey:
        """Its public half."""
        return self.private.public_key()

    def jwk(self) -> dict[str, str]:
        """Return the public half as a JSON Web Key (RFC 8037)."""
        return {
            "kty": "OKP",
            "crv": "Ed25519",
            "x": _b64(self.public.public_bytes_raw()),
            "kid": self.kid,
            "alg": ALGORITHM,
            "use": "sig",
        }


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class KeyRing:
    """The keys in a file; it is made when it is missing and read again when it has changed.

    Several API processes share one file, so that each verifies what another has signed.

    Parameters
    ----------
    path
        Mode 0600; the directory must exist.

    Raises
    ------
    KeyRingError
        From every method, if the file cannot be read or others may read it too.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._signing: list[SigningKey] = []
        self._sealing = b""
        if not path.exists():
            self._create()
        self._refresh()

    def signing_key(self, now: datetime) -> SigningKey:
        """Return the key that signs now: the latest that is active."""
        self._refresh()
        active = [key for key in self._signing if key.active_at <= now]
        return max(active or self._signing[:1], key=lambda key: key.active_at)

    def verifying(self, now: datetime) -> Sequence[SigningKey]:
        """Return the keys whose signatures hold: those to come, the present one, and those just retired."""
        self._refresh()
        ordered = sorted(self._signing, key=lambda key: key.active_at)
        retired = [later.active_at + RETIRE_AFTER for later in ordered[1:]]
        return [key for at, key in enumerate(ordered) if at >= len(retired) or now < retired[at]]

    def rotate(self, now: datetime, publish_ahead: timedelta = PUBLISH_AHEAD) -> SigningKey:
        """Add a signing key, published at once, and forget those that verify nothing any more."""
        key = SigningKey(secrets.token_hex(8), Ed25519PrivateKey.generate(), now + publish_ahead)
        self._write([*self.verifying(now), key], self._sealing)
        self._refresh()
        return key

    def seal(self, secret: bytes, bound_to: str) -> str:
        """Encrypt a secret so that the store can keep it.

        Parameters
        ----------
        bound_to
            Whose it is: it opens for nobody else.
        """
        self._refresh()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _b64(nonce + AESGCM(self._sealing).encrypt(nonce, secret, bound_to.encode()))

    def unseal(self, sealed: str, bound_to: str) -> bytes:
        """Return what `seal` encrypted.

        Raises
        ------
        NotSealedHere
            If it was encrypted with another key or for somebody else, or not at all.
        """
        self._refresh()
        try:
            data = _unb64(sealed)
            return AESGCM(self._sealing).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound_to.encode())
        except (InvalidTag, ValueError) as error:
            raise NotSealedHere(
                f"what is stored for {bound_to} was not encrypted with the keys in {self._path}; "
                "every API process needs the same file, and the command line too"
            ) from error

    def _create(self) -> None:
        first = SigningKey(secrets.token_hex(8), Ed25519PrivateKey.generate(), datetime.fromtimestamp(0, UTC))
        self._write([first], AESGCM.generate_key(256), replace=False)

    def _write(self, signing: Sequence[SigningKey], sealing: bytes, *, replace: bool = True) -> None:
        held = {
            "sealing_key": _b64(sealing),
            "signing_keys": [
                {
                    "kid": key.kid,
                    "private_key": _b64(key.private.private_bytes_raw()),
                    "active_at": key.active_at.isoformat(),
                }
                for key in signing
            ],
        }
        try:
            # For its owner only.
            descriptor, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}-")
        except OSError as error:
            raise self._not_written(error) from error
        try:
            with os.fdopen(descriptor, "w") as file:
                json.dump(held, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                Path(name).replace(self._path)
            else:
                # Of two processes that start together, one is first and the other takes its keys.
                os.link(name, self._path)
        except FileExistsError:
            pass
        except OSError as error:
            raise self._not_written(error) from error
        finally:
            Path(name).unlink(missing_ok=True)

    def _not_written(self, error: OSError) -> KeyRingError:
        return KeyRingError(
            f"cannot write the API's keys to {self._path}: {error.strerror}. Make its directory, writable "
            "for this user, or name another file in TENANTWATCH_API_KEYS_FILE"
        )

    def _refresh(self) -> None:
        try:
            found = self._path.stat()
        except OSError as error:
            raise KeyRingError(
                f"cannot read the API's keys in {self._path}: {error.strerror}. Put the file back from its "
                "backup; with new keys every key must be rotated"
            ) from error
        stamp = (found.st_mtime_ns, found.st_ino)
        if stamp == self._stamp:
            return
        if stat.S_IMODE(found.st_mode) & 0o077:
            raise KeyRingError(f"others may read {self._path}, which holds the API's keys: chmod 600 it")
        try:
            held: dict[str, Any] = json.loads(self._path.read_text())
            self._signing = [
                SigningKey(
                    each["kid"],
                    Ed25519PrivateKey.from_private_bytes(_unb64(each["private_key"])),
                    datetime.fromisoformat(each["active_at"]),
                )
                for each in held["signing_keys"]
            ]
            self._sealing = _unb64(held["sealing_key"])
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise KeyRingError(
                f"{self._path} does not hold the API's keys ({type(error).__name__}). Put the file back "
                "from its backup, or name the right one in TENANTWATCH_API_KEYS_FILE; with new keys every "
                "key must be rotated"
            ) from error
        self._stamp = stamp
