"""The trail: whether anybody changed it."""

import asyncio
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.v1.caller import CallerOf
from api.v1.parts import PartsOf
from api.v1.problems import Problem
from api.v1.routing import Routes
from api.v1.trace import trace_of
from store.seals.bounded import TooMuch, verify_part
from store.seals.findings import Kind
from store.seals.keys import KeyUnusable, Trust

if TYPE_CHECKING:
    from api.trail import Seals

log = structlog.get_logger()
routes = Routes("/trail", "trail")


class VerificationRequest(BaseModel):
    """Which part of the trail is meant."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    since: AwareDatetime = Field(alias="from", description="Of `ingest_time`; whole seals are verified.")
    until: AwareDatetime = Field(alias="to", description="Not included.")


class ShownFinding(BaseModel):
    """One thing that there is to say."""

    kind: Kind = Field(description="`expired`, `shredded` and `unsealed` are no tampering.")
    tenant_id: str = Field(description="Empty: it is about the chain of a partition.")
    cluster_id: str
    partition: int
    topic: str
    rows: int
    places: list[dict[str, Any]] = Field(description="Offset and position of the first 20 rows.")
    sequences: list[int] = Field(description="Of the seals.")
    detail: str


class ShownVerdict(BaseModel):
    """What `tenantwatch verify --json` says."""

    holds: bool = Field(description="Whether nothing was tampered with.")
    tenants: int
    chains: int
    seals: int
    rows: int = Field(description="That seals hold.")
    findings: list[ShownFinding]
    sealed_until: str = Field(description="When the newest seal was made; empty: there is none.")
    anchors: int = Field(description="Heads kept beside the store that it was compared with.")
    keys: list[str] = Field(description="Ids of the keys that are believed.")
    seconds: float


@routes.post(
    "/verifications",
    permission="trail:verify",
    reach="tenant",
    action="verify",
    problems=["conflict", "not_configured"],
)
async def verify_trail(
    request: Request, caller: CallerOf, parts: PartsOf, asked: VerificationRequest
) -> ShownVerdict:
    """Compare the tenant's rows of a span of time with their seals, and the seals with one another.

    At most 1,000,000 rows and 60 seconds, one at a time; `tenantwatch verify` has no such limits.
    """
    if asked.until <= asked.since:
        raise _faulty("`to` is not after `from`")
    if parts.seals.ring is None:
        raise Problem("not_configured", "this process knows no key that signs seals: TENANTWATCH_SEAL_KEY")
    started_s = time.monotonic()
    # One at a time: it takes a processor, and much of the memory that there is.
    with request.app.state.under_way.only("verification", "another verification"):
        try:
            trust, anchors = await asyncio.to_thread(_believed, parts.seals)
            verdict = await asyncio.to_thread(
                verify_part,
                parts.database,
                caller.tenant_context,
                asked.since,
                asked.until,
                trust,
                anchors,
                time.monotonic,
            )
        except (KeyUnusable, ValueError) as error:
            log.warning("seals_not_readable", error=str(error)[:300])
            raise Problem(
                "unavailable",
                "what this process knows of the seals cannot be read: its log says why, at "
                "`seals_not_readable`. Mend TENANTWATCH_SEAL_KEY or TENANTWATCH_ANCHOR_FILE there",
            ) from None
        except TooMuch as error:
            raise _faulty(str(error)) from None
    trace_of(request.scope).record_count = verdict.rows
    return ShownVerdict(
        holds=verdict.holds,
        tenants=verdict.tenants,
        chains=verdict.chains,
        seals=verdict.seals,
        rows=verdict.rows,
        findings=[ShownFinding(**asdict(each)) for each in verdict.findings],
        sealed_until=verdict.sealed_until,
        anchors=len(anchors),
        keys=sorted(trust.keys),
        seconds=round(time.monotonic() - started_s, 3),
    )


def _believed(seals: "Seals") -> tuple[Trust, list[dict[str, Any]]]:
    """Return the keys that are believed, and the heads that are remembered."""
    remembered = seals.book.all() if seals.book is not None else []
    return seals.trust(), [anchor.as_dict() for anchor in remembered]


def _faulty(detail: str) -> Problem:
    return Problem("invalid", detail, errors=[{"field": "body.to", "detail": detail}])
