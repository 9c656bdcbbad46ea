"""The control API's part about the trail: verify it, export evidence of it, look at its keys and seals."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI, HTTPException, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.standing import check_tenant
from store.backups.create import create
from store.backups.key_box import key_files, lock_keys
from store.backups.manifest import BackupError
from store.database import Database
from store.seals.anchors import Anchor, AnchorBook
from store.seals.chains import heads_of_partitions
from store.seals.evidence import export
from store.seals.health import seals_health
from store.seals.keys import KeyUnusable, SealKeys, Signer, Trust, pem, read_public
from store.seals.statements import (
    Stated,
    Statement,
    StatementKind,
    keep,
    read_statements,
    state_end,
    state_key,
)
from store.seals.trail import StoredTrail
from store.seals.verification import Verification

# What must still hold when the key that signed it holds no longer.
RESTATED: Final[tuple[StatementKind, ...]] = ("retention", "shredded", "end")


@dataclass(frozen=True)
class Seals:
    """What is known of the seals beside the store.

    Parameters
    ----------
    ring
        The signing key; None where there is none.
    book
        Remembered heads; None where nothing is remembered.
    elsewhere
        Tells which keys are not in the ring's directory, and where they are.
    """

    ring: SealKeys | None
    book: AnchorBook | None
    elsewhere: Callable[[bool], Mapping[str, str]] = lambda packed: {}

    def trust(self, *more: str) -> Trust:
        """Return the keys that are believed, and more of them given as text."""
        known = self.ring.trust() if self.ring is not None else Trust([])
        return Trust([*known.keys.values(), *map(read_public, more)], known.ended)


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


class OldKey(BaseModel):
    """What `tenantwatch seals retire` sends: until when an earlier key was in use."""

    model_config = ConfigDict(extra="forbid")

    key_id: str
    stolen_since: AwareDatetime | None = None


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
    async def verify(asked: VerifyRequest, response: Response) -> dict[str, Any]:
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
        # Not before: of a trail of which all but the anchors was removed, the findings must be told.
        if asked.tenant_id and not verdict.seals and not verdict.findings:
            await check_tenant(database, asked.tenant_id, response)
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
            keys, names = None, list[str]()
            if asked.passphrase is not None:
                names = [str(file.relative_to(held.directory)) for file in key_files(held.directory)]
                keys = await asyncio.to_thread(lock_keys, held.directory, asked.passphrase)
            made = await asyncio.to_thread(
                create, database, Path(asked.path), held.signer, now(), keys, names
            )
        except BackupError as error:
            raise HTTPException(422, str(error)) from None
        return {
            "path": str(made.path),
            "rows": made.rows(),
            "tables": len(made.manifest["tables"]),
            "bytes": sum((made.path / name).stat().st_size for name, _ in made.files()),
            "keys": names,
            "keys_elsewhere": seals.elsewhere(keys is not None),
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
                "the key is the setting TENANTWATCH_SEAL_KEY. State the new one first: `tenantwatch seals "
                "key --of FILE` prints its public key for `tenantwatch seals introduce PUBLIC.pem`; then "
                "give it to every worker in place of the old one, and restart them",
            )
        before, fresh = held.signer, Signer.new()
        # Stated before it is used: a seal by a key that nobody introduced would not be believed.
        await asyncio.to_thread(keep, database, [state_key(fresh.public, before, now())])
        await asyncio.to_thread(held.keep, fresh)
        await asyncio.to_thread(_end, database, held, before.key_id, now(), now())
        return {"key_id": fresh.key_id, "previous_key_id": before.key_id, "public_key": pem(fresh.public)}

    @app.post("/trail/retire")
    async def retire(old: OldKey) -> dict[str, Any]:
        held = ring()
        if old.key_id == held.signer.key_id or old.key_id not in seals.trust().keys:
            raise HTTPException(
                409,
                f"{old.key_id} is not an earlier key that is known here: `tenantwatch seals status` names "
                "them; the one that signs is rotated first",
            )
        again = await asyncio.to_thread(
            _end, database, held, old.key_id, old.stolen_since or now(), now(), stolen=bool(old.stolen_since)
        )
        return {"key_id": old.key_id, "statements_made_anew": again}

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


def _end(
    database: Database,
    held: SealKeys,
    key_id: str,
    ended_at: datetime,
    now: datetime,
    *,
    stolen: bool = False,
) -> int:
    """End a key; of a stolen one, state anew what it stated before, and believe nothing by it.

    Whoever has it can date back what they sign. Its seals hold by those that follow them.
    """
    made: list[Statement] = []
    heads: list[str] = []
    if stolen:
        heads = [seal.digest for seal in heads_of_partitions(database) if seal.key_id == key_id]
        before = [s for s in read_statements(database)[0] if s.key_id == key_id and s.kind in RESTATED]
        made = [
            Statement.make(s.kind, s.tenant_id, s.content, datetime.fromisoformat(s.stated_at), held.signer)
            for s in before
            if s.holds(held.trust()) and datetime.fromisoformat(s.stated_at) < ended_at
        ]
        ended_at = datetime.fromtimestamp(0, UTC)
    keep(database, [*made, state_end(key_id, ended_at, held.signer, now, heads)])
    held.end(key_id, ended_at)
    return len(made)


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
