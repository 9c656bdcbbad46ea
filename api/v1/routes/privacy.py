"""The people behind pseudonyms: who they are, what is held of them, and that they are forgotten."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.v1.caller import CallerOf
from api.v1.parts import Parts, PartsOf
from api.v1.problems import Problem, not_found
from api.v1.routing import Routes
from api.v1.trace import trace_of
from schemas.alert import UtcTime
from store.holds import Held
from store.holds import Hold as StoredHold
from store.privacy import NotPseudonymous, Privacy
from store.queries import MAX_ROWS
from store.vault import VaultBusy

routes = Routes("/privacy", "person")
MAX_PEOPLE: Final = 1_000
REPORTED: Final = timedelta(days=31)
Word = Annotated[str, Field(min_length=1, max_length=256)]
Reason = Annotated[str, Field(min_length=1, max_length=1_000)]
Pseudonyms = Annotated[list[Word], Field(min_length=1, max_length=MAX_PEOPLE)]
_SETUP: Final = ("not_configured",)
# Lines of an export that are no records: what it is about, and who else is named.
_ABOUT: Final = ("subject", "others")


class Asked(BaseModel):
    """People, by pseudonym."""

    model_config = ConfigDict(extra="forbid")

    pseudonyms: Pseudonyms


class Wish(BaseModel):
    """What is asked about people, given by an original or a pseudonym, and why."""

    model_config = ConfigDict(extra="forbid")

    subjects: Pseudonyms
    reason: Reason


class Revealed(Asked):
    """Whom to reveal, and why; it is noted."""

    reason: Reason


class PeopleFound(BaseModel):
    """By pseudonym; those that the vault does not know are left out."""

    people: dict[str, str]


class NewHold(BaseModel):
    """A legal hold."""

    model_config = ConfigDict(extra="forbid")

    subject: Word | None = Field(None, description="The person; without it, all of the tenant.")
    reason: Reason


class Hold(BaseModel):
    """A legal hold that is not released."""

    hold_id: str
    tenant_id: str
    pseudonym: str = Field(description="Of the person; empty: all of the tenant.")
    reason: str
    placed_by: str
    placed_at: UtcTime


class Holds(BaseModel):
    """Legal holds."""

    holds: list[Hold]


class Signature(BaseModel):
    """By the key that seals are signed with (`tenantwatch privacy verify-certificate`)."""

    key_id: str
    signature: str = Field(description="Ed25519, in base64.")


class Certificate(BaseModel):
    """What was forgotten: removed, left, and when Kafka has removed the last raw copy (docs/privacy.md)."""

    model_config = ConfigDict(extra="allow")

    certificate_id: str
    tenant_id: str
    pseudonyms: list[str]
    requested_by: str
    reason: str
    forgotten_at: str
    digest: str
    signature: Signature | None = Field(None, description="None where the process has no key of seals.")


class Certificates(BaseModel):
    """Certificates, the latest first."""

    certificates: list[Certificate]
    cut: bool = Field(description=f"Whether there are more than {MAX_ROWS:,}: these are the latest.")


class Report(BaseModel):
    """What was deleted and why, what is held, who read what: as `tenantwatch privacy report`."""

    aged_out: list[dict[str, Any]]
    forgotten: list[dict[str, Any]]
    held: list[dict[str, Any]]
    noted: list[dict[str, Any]]
    cut: list[str] = Field(description=f"Lists that had more than {MAX_ROWS:,}: these are the latest.")


def _privacy(parts: Parts) -> Privacy:
    if parts.privacy is None:
        raise Problem("not_configured", "this process has no master key, so it cannot open the vault")
    return parts.privacy


@routes.post("/masked", permission="events:read", reach="tenant", action="read", problems=_SETUP)
async def mask_people(caller: CallerOf, parts: PartsOf, asked: Asked) -> PeopleFound:
    """Show the masked form of pseudonyms: `j***@example.com`, `****1234`."""
    vault = _privacy(parts).vault
    return PeopleFound(people=await asyncio.to_thread(vault.masked, caller.tenant_context, asked.pseudonyms))


@routes.post("/reveal", permission="pii:read", reach="tenant", action="reveal", problems=_SETUP)
async def reveal_people(request: Request, caller: CallerOf, parts: PartsOf, asked: Revealed) -> PeopleFound:
    """Show who is behind pseudonyms. It is noted before it is answered, and it is in the tenant's trail."""
    found = await asyncio.to_thread(
        _privacy(parts).vault.reveal,
        caller.tenant_context,
        asked.pseudonyms,
        actor=caller.principal.subject,
        reason=asked.reason,
        tell=False,  # this request is an access event of its own
    )
    trace_of(request.scope).record_count = len(found)
    return PeopleFound(people=found)


@routes.post(
    "/export",
    permission="pii:read",
    reach="tenant",
    action="export",
    problems=_SETUP,
    response_model=None,
    responses={
        200: {
            "description": "One object a line: `subject`, `event`, `alert` (each revision), `alert_note`, "
            "`dealing` (who read them and why), `others` (masked).",
            "content": {"application/x-ndjson": {"schema": {"type": "string"}}},
        }
    },
)
async def export_person(request: Request, caller: CallerOf, parts: PartsOf, wish: Wish) -> StreamingResponse:
    """Export everything about a person."""
    rows = _privacy(parts).export(
        caller.tenant_context, wish.subjects, actor=caller.principal.subject, reason=wish.reason
    )
    first = await asyncio.to_thread(next, rows)  # an error of the store is an answer, not half a file

    async def content() -> AsyncIterator[bytes]:
        trace = trace_of(request.scope)
        trace.record_count = 0
        row: Any = first
        while row is not None:
            trace.record_count += row["type"] not in _ABOUT
            yield json.dumps(row, ensure_ascii=False).encode() + b"\n"
            row = await asyncio.to_thread(next, rows, None)

    return StreamingResponse(content(), media_type="application/x-ndjson")


@routes.post(
    "/forget", permission="privacy:manage", reach="tenant", action="forget", problems=(*_SETUP, "conflict")
)
async def forget_people(caller: CallerOf, parts: PartsOf, wish: Wish) -> Certificate:
    """Forget people: their keys and originals are shredded, the trail keeps pseudonyms. For good."""
    try:
        told = await asyncio.to_thread(
            _privacy(parts).forget,
            caller.tenant_context,
            wish.subjects,
            actor=caller.principal.subject,
            reason=wish.reason,
            now=parts.clock(),
        )
    except (Held, NotPseudonymous, VaultBusy) as error:
        raise Problem("conflict", str(error)) from None
    return Certificate(**told)


@routes.get("/certificates", permission="privacy:manage", reach="tenant", problems=_SETUP)
async def list_certificates(caller: CallerOf, parts: PartsOf) -> Certificates:
    """List the certificates of forgetting."""
    found = await asyncio.to_thread(_privacy(parts).certificates, caller.tenant_context)
    shown = [Certificate(**one) for one in found[:MAX_ROWS]]
    return Certificates(certificates=shown, cut=len(found) > MAX_ROWS)


@routes.get("/certificates/{certificate_id}", permission="privacy:manage", reach="tenant", problems=_SETUP)
async def show_certificate(
    caller: CallerOf, parts: PartsOf, certificate_id: Annotated[str, Path(min_length=1, max_length=64)]
) -> Certificate:
    """Show a certificate."""
    found = await asyncio.to_thread(_privacy(parts).certificates, caller.tenant_context, certificate_id)
    if not found:
        raise not_found("certificate")
    return Certificate(**found[0])


@routes.get("/holds", permission="privacy:manage", reach="tenant", problems=_SETUP)
async def list_holds(caller: CallerOf, parts: PartsOf) -> Holds:
    """List the legal holds that are not released."""
    found = await asyncio.to_thread(_privacy(parts).holds, caller.tenant_context)
    return Holds(holds=[_shown(hold) for hold in found])


@routes.post("/holds", permission="privacy:manage", reach="tenant", status_code=201, problems=_SETUP)
async def place_hold(caller: CallerOf, parts: PartsOf, new: NewHold) -> Hold:
    """Place a legal hold: until it is released, nothing is forgotten and nothing ages out."""
    placed = await asyncio.to_thread(
        _privacy(parts).hold,
        caller.tenant_context,
        new.subject,
        actor=caller.principal.subject,
        reason=new.reason,
        now=parts.clock(),
    )
    return _shown(placed)


@routes.delete(
    "/holds/{hold_id}", permission="privacy:manage", reach="tenant", status_code=204, problems=_SETUP
)
async def release_hold(
    caller: CallerOf, parts: PartsOf, hold_id: Annotated[str, Path(min_length=1, max_length=64)]
) -> Response:
    """Release a legal hold."""
    released = await asyncio.to_thread(
        _privacy(parts).release,
        caller.tenant_context,
        [hold_id],
        actor=caller.principal.subject,
        reason="",
        now=parts.clock(),
    )
    if not released:
        raise not_found("hold")
    return Response(status_code=204)


@routes.get("/report", permission="privacy:manage", reach="tenant", problems=_SETUP)
async def report_deletions(
    caller: CallerOf, parts: PartsOf, since: Annotated[AwareDatetime | None, Query()] = None
) -> Report:
    """Report what was deleted and why, what is held, who read what; without `since` of 31 days."""
    found = await asyncio.to_thread(
        _privacy(parts).report, caller.tenant_context, since or parts.clock() - REPORTED
    )
    return Report(**found)


def _shown(hold: StoredHold) -> Hold:
    return Hold.model_validate(hold, from_attributes=True)
