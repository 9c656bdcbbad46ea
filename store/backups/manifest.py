"""What a backup holds, and whether its files are still what they were."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from store.seals.keys import MANIFEST, Signer, Trust

FORMAT: Final = 1
MANIFEST_FILE: Final = "manifest.json"
SIGNATURE_FILE: Final = "manifest.sig"
TENANTS_FILE: Final = "tenants.ndjson"
OFFSETS_FILE: Final = "offsets.csv"
KEYS_FILE: Final = "keys.enc"
TABLES: Final = "tables"


class BackupError(Exception):
    """A backup cannot be made, read or restored; the message says what to do."""


@dataclass(frozen=True)
class Backup:
    """A backup on disk.

    Parameters
    ----------
    path
        Its directory.
    manifest
        As written when it was complete: a directory without one is the rest of a backup that was cut short.
    """

    path: Path
    manifest: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Backup":
        """Return the backup in a directory.

        Raises
        ------
        BackupError
            If there is none that is complete.
        """
        try:
            manifest = json.loads((path / MANIFEST_FILE).read_text())
        except FileNotFoundError:
            raise BackupError(
                f"{path} holds no complete backup; `tenantwatch backup list` shows those of a directory"
            ) from None
        except ValueError as error:
            raise BackupError(f"the manifest of {path} cannot be read: {error}") from error
        if manifest.get("format") != FORMAT:
            raise BackupError(
                f"{path} has the format {manifest.get('format')}, this program reads {FORMAT}; "
                "use the version that made it, or a newer one"
            )
        return cls(path, manifest)

    def write(self, signer: Signer) -> None:
        """Write the manifest and its signature, last of all."""
        text = self._text()
        put(self.path / SIGNATURE_FILE, signer.sign(MANIFEST, text).encode())
        put(self.path / MANIFEST_FILE, text)

    def _text(self) -> bytes:
        return json.dumps(self.manifest, indent=2, default=str).encode()

    def signature_holds(self, trust: Trust) -> bool | None:
        """Return whether the manifest is what was signed; None if the key is not known."""
        try:
            signature = (self.path / SIGNATURE_FILE).read_text()
        except FileNotFoundError:
            return False
        text = (self.path / MANIFEST_FILE).read_bytes()
        if json.loads(text) != json.loads(self._text()):  # another was put there since it was read
            return False
        return trust.verifies(str(self.manifest.get("key_id")), MANIFEST, text, signature)

    def check_signed(self, trust: Trust) -> None:
        """Make sure that somebody who is believed made this backup.

        Checksums alone say nothing: whoever can write to the directory can write them anew.

        Raises
        ------
        BackupError
            If the signature does not hold, or is by a key that is not known.
        """
        signed, key_id = self.signature_holds(trust), self.manifest.get("key_id")
        if signed is False:
            raise BackupError(
                f"the manifest of {self.path} is not what the key {key_id} signed; nothing was restored"
            )
        if signed is None:
            raise BackupError(
                f"the manifest of {self.path} is signed by the key {key_id}, which is not known here; "
                "nothing was restored: name the public key with --key, restore the keys with "
                "--passphrase-file, or say --unverified to believe the files as they are"
            )

    def files(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each file's name and what the manifest says of it."""
        for table in self.manifest["tables"].values():
            yield from ((file["name"], file) for file in table["files"])
        yield from self.manifest["other_files"].items()

    def damaged(self) -> list[str]:
        """Return what is missing or not what it was, in words."""
        found = []
        for name, said in self.files():
            try:
                digest = file_digest(self.path / name)
            except FileNotFoundError:
                found.append(f"{name} is missing")
                continue
            if digest != said["sha256"]:
                found.append(f"{name} is not what was written: its SHA-256 differs")
        return found

    def rows(self) -> int:
        """Return how many rows all tables have."""
        return sum(table["rows"] for table in self.manifest["tables"].values())


def backups_in(directory: Path) -> list[Backup]:
    """Return the complete backups in a directory, oldest first."""
    found = [Backup.read(file.parent) for file in sorted(directory.glob(f"*/{MANIFEST_FILE}"))]
    return sorted(found, key=lambda backup: str(backup.manifest["created_at"]))


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, durably."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def newest(path: Path) -> Backup:
    """Return the backup in a directory, or the newest of those in it.

    Raises
    ------
    BackupError
        If there is none.
    """
    if (path / MANIFEST_FILE).exists():
        return Backup.read(path)
    found = backups_in(path)
    if not found:
        raise BackupError(f"there is no complete backup in {path}")
    return found[-1]
