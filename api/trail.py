"""The control API's part about the trail: verify it, export evidence of it, look at its keys and seals."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from store.backups.create import create
from store.backups.key_box import lock_keys
from store.backups.manifest import BackupError
from store.database import Database
from store.seals.anchors import Anchor, AnchorBook
from store.seals.evidence import export
from store.seals.health import seals_health
from store.seals.keys import KeyUnusable, SealKeys, Signer, Trust, pem, read_public
from store.seals.statements import Stated, keep, read_statements, state_key
from store.seals.trail import StoredTrail
from store.seals.verification import Verification


@dataclass(frozen=True)
class Seals:
    """What is known of the seals beside the store.

    Parameters
    ----------
    ring
        The signing key; None where there is none.
    book
        Remembered heads; None where nothing is remembered.
    """

    ring: SealKeys | None
    book: AnchorBook | None

    def trust(self, *more: str) -> Trust:
        """Return the keys that are believed, and more of them given as text."""
        known = list(self.ring.trust().keys.values()) if self.ring is not None else []
        return Trust([*known, *map(read_public, more)])


class Span(BaseModel):
    """Which part of the trail is meant; what is left out means all."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class VerifyRequest(Span):
    """What `tenantwatch verify` sends.

    Parameters
    ----------
    keys
        Public keys to believe besides those of this machine.
    anchors
        Heads that were kept elsewhere.
    """

    keys: list[str] = Field(default_factory=list)
    anchors: list[dict[str, Any]] = Field(default_factory=list)


class EvidenceRequest(Span):
    """What `tenantwatch evidence export` sends; the file is written by who answers, on this machine."""

    tenant_id: str
    path: str
    exported_by: str


class BackupRequest(BaseModel):
    """What `tenantwatch backup create` sends; written by who answers, on this machine."""

    model_config = ConfigDict(extra="forbid")

    path: str
    passphrase: str | None = Field(None, repr=False)


class NewKey(BaseModel):
    """What `tenantwatch seals introduce` sends: a public key in PEM."""

    model_config = ConfigDict(extra="forbid")

    public_key: str


def add_trail(
    app: FastAPI, database: Database, seals: Seals, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """Add the routes."""

    def ring() -> SealKeys:
        if seals.ring is None:
            raise HTTPException(
                409,
                "there is no signing key here: the first `tenantwatch up` makes one, "
                "or set TENANTWATCH_SEAL_KEY",
            )
        return seals.ring

    @app.post("/trail/verify")
    async def verify(asked: VerifyRequest) -> dict[str, Any]:
        started = time.monotonic()
        try:
            trust = seals.trust(*asked.keys)
            given = [Anchor.read(one) for one in asked.anchors]
            anchors = [*given, *(seals.book.all() if seals.book is not None else [])]
        except (KeyUnusable, ValueError) as error:
            raise HTTPException(422, str(error)) from None
        trail = StoredTrail(database, asked.since, asked.until)
        verification = Verification(
            trail, trust, [anchor.as_dict() for anchor in dict.fromkeys(anchors)], asked.since, asked.until
        )
        verdict = await asyncio.to_thread(verification.run, asked.tenant_id)
        return {
            **verdict.as_dict(),
            "rows_by_tenant": verification.rows_by_tenant,
            "anchors": len(anchors),
            "keys": sorted(trust.keys),
            "seconds": round(time.monotonic() - started, 3),
        }

    @app.post("/trail/evidence")
    async def export_evidence(asked: EvidenceRequest) -> dict[str, Any]:
        held = ring()
        try:
            return await asyncio.to_thread(
                export,
                database,
                asked.tenant_id,
                asked.since,
                asked.until,
                Path(asked.path),
                held.signer,
                await asyncio.to_thread(_with_introduced, database, seals.trust()),
                asked.exported_by,
                now(),
            )
        except FileExistsError:
            raise HTTPException(409, f"{asked.path} exists already; name another file") from None
        except OSError as error:
            raise HTTPException(422, f"cannot write {asked.path}: {error.strerror}") from None
        except ValueError as error:
            raise HTTPException(404, str(error)) from None

    @app.post("/backups", status_code=201)
    async def back_up(asked: BackupRequest) -> dict[str, Any]:
        held = ring()
        try:
            # Before the work: a passphrase that will not do should be told at once.
            keys: bytes | None = None
            if asked.passphrase is not None:
                keys = await asyncio.to_thread(lock_keys, held.directory, asked.passphrase)
            made = await asyncio.to_thread(create, database, Path(asked.path), held.signer, now(), keys)
        except BackupError as error:
            raise HTTPException(422, str(error)) from None
        return {
            "path": str(made.path),
            "rows": made.rows(),
            "tables": len(made.manifest["tables"]),
            "bytes": sum((made.path / name).stat().st_size for name, _ in made.files()),
            "keys": bool(keys),
        }

    @app.get("/trail/seals")
    async def get_seals() -> dict[str, Any]:
        found = await asyncio.to_thread(lambda: with_known_keys(database, seals, seals_health(database)))
        keys = {key_id: pem(public) for key_id, public in seals.trust().keys.items()}
        return {**found, "key_id": seals.ring.signer.key_id if seals.ring else None, "keys": keys}

    @app.post("/trail/rotate")
    async def rotate() -> dict[str, Any]:
        held = ring()
        if held.from_setting:
            raise HTTPException(
                409,
                "the key is the setting TENANTWATCH_SEAL_KEY. State the new one first: "
                "`tenantwatch seals introduce PUBLIC.pem`; then give it to every worker in place of the old "
                "one, and restart them",
            )
        before, fresh = held.signer, Signer.new()
        # Stated before it is used: a seal by a key that nobody introduced would not be believed.
        await asyncio.to_thread(keep, database, [state_key(fresh.public, before, now())])
        await asyncio.to_thread(held.keep, fresh)
        return {"key_id": fresh.key_id, "previous_key_id": before.key_id, "public_key": pem(fresh.public)}

    @app.post("/trail/introduce")
    async def introduce(new: NewKey) -> dict[str, Any]:
        held = ring()
        try:
            public = read_public(new.public_key)
        except KeyUnusable as error:
            raise HTTPException(422, str(error)) from None
        statement = state_key(public, held.signer, now())
        await asyncio.to_thread(keep, database, [statement])
        return {"key_id": statement.content["new_key_id"], "previous_key_id": held.signer.key_id}


def with_known_keys(database: Database, seals: Seals, found: dict[str, Any]) -> dict[str, Any]:
    """Add to `seals_health` which keys signed that nobody here knows: workers that do not share one."""
    known = _with_introduced(database, seals.trust()).keys if seals.ring is not None else {}
    unknown = [key_id for key_id in found["key_ids"] if known and key_id not in known]
    return {**found, "unknown_key_ids": unknown}


def _with_introduced(database: Database, trust: Trust) -> Trust:
    """Add the keys that statements introduce which a believed key signed."""
    statements, _ = read_statements(database)
    Stated(statements, trust)
    return trust
