"""The master key, which the store does not hold: from a file, from a setting, or in a KMS."""

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from store.files import write_whole

log = structlog.get_logger()
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
_NOTE: Final = """\
# tenantwatch's master key: one key in base64 on each line, the first one in use, the others until
# `tenantwatch privacy rotate-keys` has been run. Whoever has this file and the store can read the vault.
# Keep a copy apart from the store's backups: without it no pseudonym can be made or read again.
"""


class MasterKeyError(Exception):
    """A master key is missing, wrong or unreadable; the message says which, and what to do."""


def seal(key: bytes, text: bytes, bound_to: bytes) -> bytes:
    """Return a text encrypted with AES-256-GCM, its random nonce before it.

    Parameters
    ----------
    bound_to
        Must be the same to open it: a row that is moved to another place cannot be read there.
    """
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, text, bound_to)


def unseal(key: bytes, sealed: bytes, bound_to: bytes) -> bytes:
    """Return what `seal` encrypted.

    Raises
    ------
    MasterKeyError
        If it was made with another key or for another place, or was changed since.
    """
    try:
        return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
    except (InvalidTag, ValueError):
        raise MasterKeyError("it was sealed with another key, or for another row, or was changed") from None


class MasterKey(Protocol):
    """Wraps keys; what a KMS has to offer (docs/privacy.md has an example)."""

    @property
    def key_id(self) -> str:
        """What tells it from other master keys; stored beside each key that it wrapped."""

    def wrap(self, key: bytes, bound_to: bytes) -> bytes:
        """Return a key encrypted."""

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        """Return a key that `wrap` encrypted, or raise `MasterKeyError`."""


class LocalMasterKey:
    """A master key in this process's memory.

    Parameters
    ----------
    secret
        32 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) != KEY_BYTES:
            raise MasterKeyError(f"a master key has {KEY_BYTES} bytes, this one {len(secret)}")
        self._secret = secret
        self.key_id = hashlib.sha256(b"tenantwatch master key" + secret).hexdigest()[:16]

    def __repr__(self) -> str:
        return f"LocalMasterKey({self.key_id})"

    def wrap(self, key: bytes, bound_to: bytes) -> bytes:
        """Return a key encrypted."""
        return seal(self._secret, key, bound_to)

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        """Return a key that `wrap` encrypted."""
        return unseal(self._secret, wrapped, bound_to)


@dataclass(frozen=True)
class MasterKeys:
    """The master key in use, and earlier ones whose work is still there.

    Parameters
    ----------
    current
        Wraps.
    earlier
        Only unwrap.
    """

    current: MasterKey
    earlier: Sequence[MasterKey] = ()

    def unwrap(self, key_id: str, wrapped: bytes, bound_to: bytes) -> bytes:
        """Return a key that one of them wrapped.

        Raises
        ------
        MasterKeyError
            If none of them did.
        """
        for master in (self.current, *self.earlier):
            if master.key_id == key_id:
                return master.unwrap(wrapped, bound_to)
        raise MasterKeyError(
            f"the store's keys were wrapped by the master key {key_id}, this process has "
            f"{self.current.key_id}: give every process the same TENANTWATCH_MASTER_KEY or "
            "TENANTWATCH_MASTER_KEY_FILE, or restore the key file from its copy"
        )


def parse_keys(text: str, where: str) -> MasterKeys:
    """Return the keys of a file or a setting: base64, one on each line or with commas between.

    Raises
    ------
    MasterKeyError
        If one of them is none; the text is not repeated.
    """
    found: list[MasterKey] = []
    for number, line in enumerate(text.splitlines(), 1):
        for encoded in [] if line.startswith("#") else filter(None, map(str.strip, line.split(","))):
            try:
                found.append(LocalMasterKey(base64.b64decode(encoded, validate=True)))
            except (ValueError, MasterKeyError):
                raise MasterKeyError(
                    f"{where}, line {number}: no key of {KEY_BYTES} bytes in base64; "
                    "make one with `head -c 32 /dev/urandom | base64`"
                ) from None
    if not found:
        raise MasterKeyError(f"{where}: there is no key in it")
    return MasterKeys(found[0], found[1:])


def new_secret() -> str:
    """Return a new master key in base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def read_key_file(path: Path) -> MasterKeys:
    """Return the keys of a file.

    Raises
    ------
    MasterKeyError
        If others may read it, or there is no key in it.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise MasterKeyError(f"{path} can be read by others than its owner: run `chmod 600 {path}`")
        return parse_keys(path.read_text(), str(path))
    except OSError as error:
        raise MasterKeyError(f"cannot read the master key: {error}") from error


def create_key_file(path: Path) -> MasterKeys:
    """Write a file with a new key, readable by its owner only, and return it.

    Two processes at once end up with the same file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, f"{_NOTE}{new_secret()}\n".encode(), replace=False)
    log.warning(
        "master_key_created",
        path=str(path),
        note="keep a copy apart from the store's backups; without it the vault cannot be read",
    )
    return read_key_file(path)


def add_key(path: Path) -> MasterKeys:
    """Put a new key before those of a file, and return them."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    write_whole(path, (_NOTE + "\n".join((new_secret(), *lines)) + "\n").encode())
    return read_key_file(path)


def drop_earlier_keys(path: Path) -> MasterKeys:
    """Leave only the key in use in a file, and return it."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    write_whole(path, f"{_NOTE}{lines[0]}\n".encode())
    return read_key_file(path)
