"""The part of the control API that has to do with the people behind pseudonyms."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.standing import check_tenant, scope_of
from api.v1.parts import utc_now
from store.database import Database
from store.holds import Held
from store.master_key import MasterKeyError
from store.privacy import NotPseudonymous, Privacy
from store.queries import TenantContext
from store.vault import VaultBusy

# Opens the vault; may raise `MasterKeyError`.
OpenPrivacy = Callable[[], Privacy]
NDJSON: Final = "application/x-ndjson"
MAX_PEOPLE: Final = 1_000
_REPORTED: Final = timedelta(days=31)


class People(BaseModel):
    """Whom it is about.

    Parameters
    ----------
    subjects
        Originals or pseudonyms.
    """

    model_config = ConfigDict(extra="forbid")

    tenant_id: str
    subjects: Annotated[list[str], Field(min_length=1, max_length=MAX_PEOPLE)]


class Wish(People):
    """What is to be done about them, who asks for it and why."""

    actor: str
    reason: str = ""


class Reading(BaseModel):
    """Who read what of a tenant's, not masked, by another way than the vault."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str
    actor: str
    reason: str


class NewHold(BaseModel):
    """A legal hold on a person, or on the whole tenant."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str
    subject: str | None = None
    actor: str
    reason: str


class HoldRelease(BaseModel):
    """Which holds end."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str
    hold_ids: list[str]
    actor: str
    reason: str = ""


class KeyRotation(BaseModel):
    """Whose keys change."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: str | None = None
    master: bool = False
    actor: str
    reason: str = ""


def add_privacy(app: FastAPI, database: Database, opened: OpenPrivacy) -> None:
    """Add the routes; the vault is opened when the first of them is asked."""
    held: list[Privacy] = []
    opening = asyncio.Lock()

    async def privacy() -> Privacy:
        async with opening:
            if not held:
                held.append(await asyncio.to_thread(opened))
        return held[0]

    _add_errors(app)
    _add_lookups(app, privacy)
    _add_rights(app, database, privacy)
    _add_duties(app, database, privacy)


def _add_errors(app: FastAPI) -> None:
    for kind in (Held, NotPseudonymous, VaultBusy, MasterKeyError):

        async def answer(request: Request, error: Exception) -> JSONResponse:
            return JSONResponse({"detail": str(error)}, status_code=409)

        app.add_exception_handler(kind, answer)


Opened = Callable[[], Awaitable[Privacy]]


def _add_lookups(app: FastAPI, privacy: Opened) -> None:
    @app.post("/privacy/pseudonyms")
    async def get_pseudonyms(people: People) -> dict[str, str]:
        vault = (await privacy()).vault
        return {subject: vault.pseudonym(people.tenant_id, subject) for subject in people.subjects}

    @app.post("/privacy/masked")
    async def get_masked(people: People) -> dict[str, str]:
        vault = (await privacy()).vault
        return await asyncio.to_thread(vault.masked, TenantContext(people.tenant_id), people.subjects)

    @app.post("/privacy/reveal")
    async def reveal(asked: Wish) -> dict[str, str]:
        vault = (await privacy()).vault
        return await asyncio.to_thread(
            vault.reveal,
            TenantContext(asked.tenant_id),
            asked.subjects,
            actor=asked.actor,
            reason=asked.reason,
        )

    @app.post("/privacy/readings", status_code=204)
    async def note_reading(reading: Reading) -> None:
        await asyncio.to_thread((await privacy()).note_reading, **reading.model_dump())


def _add_rights(app: FastAPI, database: Database, privacy: Opened) -> None:
    @app.post("/privacy/export")
    async def export(asked: Wish, response: Response) -> Response:
        await check_tenant(database, asked.tenant_id, response)
        rights, tenant = await privacy(), TenantContext(asked.tenant_id)

        def written() -> bytes:
            rows = rights.export(tenant, asked.subjects, actor=asked.actor, reason=asked.reason)
            return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)

        content = await asyncio.to_thread(written)
        return Response(content, media_type=NDJSON, headers=dict(response.headers))

    @app.post("/privacy/unmet")
    async def get_unmet(people: People, response: Response) -> list[str]:
        await check_tenant(database, people.tenant_id, response)
        rights, tenant = await privacy(), TenantContext(people.tenant_id)
        return await asyncio.to_thread(rights.unmet, tenant, people.subjects)

    @app.post("/privacy/forget")
    async def forget(asked: Wish) -> dict[str, Any]:
        # Whoever asked first who is not met was warned then.
        await check_tenant(database, asked.tenant_id, Response())
        rights, tenant = await privacy(), TenantContext(asked.tenant_id)
        return await asyncio.to_thread(
            rights.forget, tenant, asked.subjects, actor=asked.actor, reason=asked.reason, now=utc_now()
        )

    @app.get("/privacy/certificates")
    async def get_certificates(tenant_id: str | None = None) -> list[dict[str, Any]]:
        return await asyncio.to_thread((await privacy()).certificates, scope_of(tenant_id))

    @app.get("/privacy/certificates/{certificate_id}")
    async def get_certificate(certificate_id: str, tenant_id: str | None = None) -> dict[str, Any]:
        rights = await privacy()
        found = await asyncio.to_thread(rights.certificates, scope_of(tenant_id), certificate_id)
        if not found:
            raise HTTPException(404, f"there is no certificate {certificate_id}")
        return found[0]


def _add_duties(app: FastAPI, database: Database, privacy: Opened) -> None:
    @app.get("/privacy/holds")
    async def get_holds(tenant_id: str | None = None) -> list[dict[str, Any]]:
        return list(map(asdict, await asyncio.to_thread((await privacy()).holds, scope_of(tenant_id))))

    @app.post("/privacy/holds", status_code=201)
    async def hold(new: NewHold, response: Response) -> dict[str, Any]:
        await check_tenant(database, new.tenant_id, response)
        rights, tenant = await privacy(), TenantContext(new.tenant_id)
        return asdict(
            await asyncio.to_thread(
                rights.hold, tenant, new.subject, actor=new.actor, reason=new.reason, now=utc_now()
            )
        )

    @app.post("/privacy/holds/release")
    async def release(asked: HoldRelease) -> list[dict[str, Any]]:
        rights, tenant = await privacy(), TenantContext(asked.tenant_id)
        released = await asyncio.to_thread(
            rights.release, tenant, asked.hold_ids, actor=asked.actor, reason=asked.reason, now=utc_now()
        )
        return list(map(asdict, released))

    @app.post("/privacy/rotate-keys")
    async def rotate(asked: KeyRotation) -> dict[str, Any]:
        rights = await privacy()
        return asdict(
            await asyncio.to_thread(
                rights.rotate,
                asked.tenant_id,
                master=asked.master,
                actor=asked.actor,
                reason=asked.reason,
                now=utc_now(),
            )
        )

    @app.get("/privacy/report")
    async def get_report(
        tenant_id: str | None = None, since: Annotated[AwareDatetime | None, Query()] = None
    ) -> dict[str, Any]:
        rights = await privacy()
        return await asyncio.to_thread(rights.report, scope_of(tenant_id), since or utc_now() - _REPORTED)
