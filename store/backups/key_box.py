"""Keys in a backup, only if asked, and only under a passphrase."""

import json
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from store.backups.manifest import BackupError, put

# RFC 9106 and OWASP's advice for scrypt: 128 MiB, about half a second.
_N: Final = 1 << 17
_R: Final = 8
_P: Final = 1
_ABOUT: Final = b"tenantwatch keys"
MIN_PASSPHRASE: Final = 12


def _key(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase.encode())


def lock_keys(directory: Path, passphrase: str) -> bytes:
    """Return the files of a key directory, encrypted.

    Raises
    ------
    BackupError
        If the passphrase is short or there are no keys.
    """
    if len(passphrase) < MIN_PASSPHRASE:
        raise BackupError(f"the passphrase has fewer than {MIN_PASSPHRASE} characters")
    files = {str(p.relative_to(directory)): b64encode(p.read_bytes()).decode() for p in key_files(directory)}
    if not files:
        raise BackupError(
            f"there are no keys in {directory} to put under a passphrase: leave the passphrase out, and keep "
            "copies of the settings and files that hold them"
        )
    salt, nonce = os.urandom(16), os.urandom(12)
    sealed = AESGCM(_key(passphrase, salt)).encrypt(nonce, json.dumps(files).encode(), _ABOUT)
    return json.dumps(
        {
            "kdf": {"name": "scrypt", "n": _N, "r": _R, "p": _P, "salt": b64encode(salt).decode()},
            "cipher": "AES-256-GCM",
            "nonce": b64encode(nonce).decode(),
            "content": b64encode(sealed).decode(),
        }
    ).encode()


def unlock_keys(box: bytes, passphrase: str, directory: Path) -> list[str]:
    """Write the files of a box into an empty key directory and return their names.

    Raises
    ------
    BackupError
        If the passphrase is wrong, or there are keys already.
    """
    if any(key_files(directory)):
        raise BackupError(f"{directory} holds keys already; they are not replaced")
    given = json.loads(box)
    key = _key(passphrase, b64decode(given["kdf"]["salt"]))
    try:
        content = AESGCM(key).decrypt(b64decode(given["nonce"]), b64decode(given["content"]), _ABOUT)
    except InvalidTag:
        raise BackupError("the passphrase does not open the keys, or their file was changed") from None
    files: dict[str, str] = json.loads(content)
    for name, text in files.items():
        put(directory / name, b64decode(text))
    return sorted(files)


def key_files(directory: Path) -> list[Path]:
    """Return the files of a key directory."""
    return sorted(p for p in directory.rglob("*") if p.is_file()) if directory.is_dir() else []
