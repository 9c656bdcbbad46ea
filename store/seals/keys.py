"""The key that signs seals, which the store does not hold, and the keys whose seals are believed."""

import hashlib
import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from store.files import write_whole

KEY_FILE: Final = "seal.pem"
TRUSTED: Final = "trusted"
ENDED: Final = "ended.json"
# What is signed begins with what it is, so that no signature can serve as another's.
SEAL: Final = b"tenantwatch seal\n"
STATEMENT: Final = b"tenantwatch statement\n"
MANIFEST: Final = b"tenantwatch manifest\n"
CERTIFICATE: Final = b"tenantwatch certificate\n"


class KeyUnusable(Exception):
    """The signing key cannot be read, or others can read it; the message says what to do."""


def key_id(public: Ed25519PublicKey) -> str:
    """Return the name of a key: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def pem(public: Ed25519PublicKey) -> str:
    """Return a public key as text, as `openssl pkey -pubin` reads it."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class Signer:
    """Signs with one key.

    Parameters
    ----------
    private
        Of Ed25519.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key()
        self.key_id = key_id(self.public)

    @classmethod
    def new(cls) -> "Signer":
        """Return one with a new random key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_text(cls, text: str) -> "Signer":
        """Return one from 32 bytes in base64, as a setting holds them.

        Raises
        ------
        KeyUnusable
            If it is anything else.
        """
        try:
            return cls(Ed25519PrivateKey.from_private_bytes(b64decode(text, validate=True)))
        except (Base64Error, ValueError) as error:
            raise KeyUnusable(
                "TENANTWATCH_SEAL_KEY must be 32 random bytes in base64, e.g. of `openssl rand -base64 32`"
            ) from error

    def sign(self, domain: bytes, body: bytes) -> str:
        """Return the signature in base64."""
        return b64encode(self._private.sign(domain + body)).decode()

    def pem(self) -> bytes:
        """Return the private key."""
        return self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Trust:
    """Public keys by their ids.

    Parameters
    ----------
    keys
        That are believed.
    ended
        Until when some of them signed, by id: what they sign later is somebody else's doing.
    """

    def __init__(self, keys: Iterable[Ed25519PublicKey], ended: Mapping[str, datetime] | None = None) -> None:
        self.keys: dict[str, Ed25519PublicKey] = {key_id(key): key for key in keys}
        self.ended: dict[str, datetime] = dict(ended or {})
        # Digests of seals that a believed key vouched for, when it ended theirs.
        self.vouched: set[str] = set()

    def verifies(self, chosen_id: str, domain: bytes, body: bytes, signature: str) -> bool | None:
        """Return whether a signature holds; None where the key is not known."""
        public = self.keys.get(chosen_id)
        if public is None:
            return None
        try:
            public.verify(b64decode(signature, validate=True), domain + body)
        except (InvalidSignature, Base64Error, ValueError):
            return False
        return True

    def counts(self, chosen_id: str, at: str) -> bool:
        """Return whether a key was still in use at a time (RFC 3339)."""
        ended = self.ended.get(chosen_id)
        return ended is None or datetime.fromisoformat(at) <= ended

    def end(self, chosen_id: str, at: datetime) -> None:
        """Let nothing count that a key signs after a time; the earliest holds."""
        self.ended[chosen_id] = min(at, self.ended.get(chosen_id, at))

    def add(self, text: str) -> None:
        """Believe one more key, given as text."""
        public = read_public(text)
        self.keys[key_id(public)] = public


def read_public(text: str) -> Ed25519PublicKey:
    """Return a public key from text.

    Raises
    ------
    KeyUnusable
        If it is none of Ed25519.
    """
    try:
        public = load_pem_public_key(text.encode())
    except ValueError as error:
        raise KeyUnusable(f"not a public key in PEM: {error}") from error
    if not isinstance(public, Ed25519PublicKey):
        raise KeyUnusable("not a key of Ed25519, and seals are signed with no other")
    return public


class SealKeys:
    """The signing key and the keys before it, in a directory that only its owner can read.

    Parameters
    ----------
    directory
        ``seal.pem`` is the signing key, made when there is none; ``trusted/*.pem`` are public keys whose
        seals are believed too.
    setting
        The signing key itself, for workers that share one; the file is not used then.

    Raises
    ------
    KeyUnusable
        If the key cannot be read, or is readable by others.
    """

    def __init__(self, directory: Path, setting: str | None = None) -> None:
        self.directory = directory
        self.from_setting = setting is not None
        self.signer = Signer.from_text(setting) if setting is not None else self._from_file()

    @classmethod
    def existing(cls, directory: Path, setting: str | None = None) -> "SealKeys | None":
        """Return the ring of a directory, or None where there is no signing key: none is made."""
        there = setting is not None or (directory / KEY_FILE).exists()
        return cls(directory, setting) if there else None

    @property
    def path(self) -> Path:
        """Where the signing key is."""
        return self.directory / KEY_FILE

    def _from_file(self) -> Signer:
        if not self.path.exists():
            signer = Signer.new()
            self.keep(signer)
            return signer
        if self.path.stat().st_mode & 0o077:
            raise KeyUnusable(
                f"{self.path} can be read by others: chmod 600 it, and rotate the key if they did"
            )
        try:
            private = load_pem_private_key(self.path.read_bytes(), None)
        except (OSError, ValueError, TypeError) as error:
            raise KeyUnusable(f"{self.path} cannot be read as a private key: {error}") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise KeyUnusable(f"{self.path} is not a key of Ed25519")
        return Signer(private)

    def keep(self, signer: Signer) -> None:
        """Make a key the signing one; the public part of the one before stays believed."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        before = getattr(self, "signer", None)
        if before is not None:
            self.believe(before.public)
        write_whole(self.path, signer.pem())
        self.signer = signer

    def believe(self, public: Ed25519PublicKey) -> None:
        """Believe seals of a public key from now on."""
        folder = self.directory / TRUSTED
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_whole(folder / f"{key_id(public)}.pem", pem(public).encode())

    def trust(self) -> Trust:
        """Return the keys that are believed here."""
        files = sorted((self.directory / TRUSTED).glob("*.pem"))
        return Trust([self.signer.public, *(read_public(file.read_text()) for file in files)], self.ended())

    def end(self, chosen_id: str, at: datetime) -> None:
        """Note until when a key was in use: outside the store, where nobody takes it back."""
        ended = self.ended()
        ended[chosen_id] = min(at, ended.get(chosen_id, at))
        folder = self.directory / TRUSTED
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        text = json.dumps({name: time.isoformat() for name, time in sorted(ended.items())})
        write_whole(folder / ENDED, text.encode())

    def ended(self) -> dict[str, datetime]:
        """Return until when keys were in use that are no longer."""
        file = self.directory / TRUSTED / ENDED
        given = json.loads(file.read_text()) if file.exists() else {}
        return {name: datetime.fromisoformat(time) for name, time in given.items()}
