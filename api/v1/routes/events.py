"""Events: searched, shown, exported, and taken in from producers without Kafka."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

from fastapi import Header, Path, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from api.v1.caller import Caller, CallerOf
from api.v1.cursors import open_cursor, seal_cursor
from api.v1.event_query import EventPageQuery, EventQuery
from api.v1.export import FORMS, ExportFormat, written
from api.v1.ingest import JSON, NDJSON, Message, messages, read_events
from api.v1.originals import events_as_stored
from api.v1.parts import Parts, PartsOf
from api.v1.problems import Problem, not_found
from api.v1.routing import MAX_BATCH_BYTES, Routes
from api.v1.trace import trace_of
from schemas.alert import UtcTime
from schemas.event import Kind
from store.receipts import OtherRequest, answer_of, keep_answer
from store.receipts import Request as Repeatable
from store.search import MAX_PAGE, QUICK_PAGE, EventSearch, Position, search
from streams.producer import SendError
from streams.topics import TOPIC_OF

routes = Routes("/events", "event")
# Cursors of before had no time as of which they go on; this name refuses them.
_LIST: Final = "events as of"


class StoredEvent(BaseModel):
    """An event of the contract as it is stored, with every field of its kind.

    Besides what enrichment added, `flags`, and where it is in Kafka.
    """

    model_config = ConfigDict(extra="allow")

    event_id: str
    kind: Kind
    tenant_id: str
    time: UtcTime
    ingest_time: UtcTime
    service: str
    outcome: Literal["success", "failure"]
    flags: list[str] = Field(description="Why detectors did not look at it, if they did not: `late`, …")


class ExportQuery(EventQuery):
    """What is exported."""

    format: ExportFormat = "ndjson"


class EventPage(BaseModel):
    """A page of events."""

    events: list[StoredEvent]
    next_cursor: str | None = Field(description="For the next page; null: there is none.")


class ReceiptMessage(BaseModel):
    """Where events are in Kafka."""

    topic: str
    partition: int
    offset: int
    events: int


class Receipt(BaseModel):
    """What was taken: Kafka has acknowledged all of it."""

    receipt_id: str
    accepted: int = Field(description="Events.")
    messages: list[ReceiptMessage]


@routes.get("", permission="events:read", reach="tenant")
async def search_events(
    request: Request, caller: CallerOf, parts: PartsOf, asked: Annotated[EventPageQuery, Query()]
) -> EventPage:
    """Search the tenant's events: all filters must hold. A repeated `kind` stands for any of them.

    Further pages show what was stored when the first was read.
    """
    wanted, filters = await _wanted(caller, parts, asked), asked.asked()
    at = open_cursor(parts.ring, caller, _LIST, filters, asked.cursor)
    page = await asyncio.to_thread(
        search, parts.database, caller.tenant_context, wanted, asked.limit, Position(*at) if at else None
    )
    trace_of(request.scope).record_count = len(page.events)
    cursor = seal_cursor(parts.ring, caller, _LIST, filters, page.next) if page.next else None
    return EventPage(events=[StoredEvent(**event) for event in page.events], next_cursor=cursor)


@routes.get(
    "/export",
    permission="events:export",
    reach="tenant",
    action="export",
    response_model=None,
    responses={
        200: {
            "description": "The events, newest first unless `order` says otherwise.",
            "content": {
                form.media_type.split(";")[0]: {"schema": {"type": "string"}} for form in FORMS.values()
            },
        }
    },
)
async def export_events(
    request: Request,
    caller: CallerOf,
    parts: PartsOf,
    asked: Annotated[ExportQuery, Query()],
) -> StreamingResponse:
    """Export every event that the filters choose, as one file: those that were stored when it began.

    An event that a worker takes in meanwhile is not in it, whatever its time.

    `ndjson`: an event of the contract on each line. `csv`: with a header; cells that a spreadsheet would take
    for a formula begin with an apostrophe. `ocsf`: OCSF 1.8 on each line.
    """
    form = FORMS[asked.format]
    pages = _pages(request, caller, parts, await _wanted(caller, parts, asked))
    first = await anext(pages)  # so that an error of the store is an answer, not half a file
    suffix = "csv" if asked.format == "csv" else "ndjson"

    async def content() -> AsyncIterator[bytes]:
        yield form.head.encode() + b"".join(written(first, form))
        async for page in pages:
            yield b"".join(written(page, form))

    name = f"events-{caller.tenant_id}.{suffix}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(content(), media_type=form.media_type, headers=headers)


async def _wanted(caller: Caller, parts: Parts, asked: EventQuery) -> EventSearch:
    """Return what the store is asked: for people by pseudonyms, if the caller may ask so."""
    return await events_as_stored(caller, parts, asked.search())


async def _pages(
    request: Request, caller: Caller, parts: Parts, wanted: EventSearch
) -> AsyncIterator[list[dict[str, Any]]]:
    trace, at = trace_of(request.scope), None
    trace.record_count = 0
    while True:
        page = await asyncio.to_thread(search, parts.database, caller.tenant_context, wanted, QUICK_PAGE, at)
        trace.record_count += len(page.events)
        yield [StoredEvent(**event).model_dump(mode="json") for event in page.events]
        if page.next is None:
            return
        at = page.next


@routes.get("/{event_id}", permission="events:read", reach="tenant")
async def show_event(
    caller: CallerOf,
    parts: PartsOf,
    # Longer than the contract's: a pseudonym in it may be longer than what it stands for.
    event_id: Annotated[str, Path(min_length=1, max_length=256)],
) -> EventPage:
    """Show the events that have an id: one, unless a producer sent it again."""
    asked = EventSearch(equal={"event_id": (event_id,)}, newest_first=False)
    wanted = await events_as_stored(caller, parts, asked)
    page = await asyncio.to_thread(search, parts.database, caller.tenant_context, wanted, MAX_PAGE)
    if not page.events:
        raise not_found("event")
    return EventPage(events=[StoredEvent(**event) for event in page.events], next_cursor=None)


_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}}]}},
            NDJSON[0]: {"schema": {"type": "string", "description": "An event on each line."}},
        },
    }
}


@routes.post(
    "",
    permission="events:write",
    reach="tenant",
    status_code=202,
    trail="request",
    response_model=Receipt,
    max_body_bytes=MAX_BATCH_BYTES,
    problems=["unsupported_media_type", "conflict"],
    openapi_extra=_BODY,
)
async def send_events(
    request: Request,
    caller: CallerOf,
    parts: PartsOf,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=256)] = None,
) -> JSONResponse:
    """Take events of the tenant in: one, an array, or one on each line. All of them, or none.

    The answer comes when Kafka has acknowledged them. With an `Idempotency-Key` the same request can be sent
    again within a day once it was answered: it gets the same receipt, and nothing is sent twice. While it is
    under way the answer is 409. Without a key, at another process of the API at the same moment, or if an
    answer got lost, events with the same `event_id` are recognised: stored, flagged `duplicate`, and judged
    once.
    """
    body = await request.body()
    if idempotency_key is None:
        return JSONResponse(await _taken(request, caller, parts, body), status_code=202)
    repeatable = Repeatable(caller.tenant_context, caller.principal.subject, idempotency_key, body)
    # The receipt is kept once Kafka has acknowledged, so the store cannot tell a second request before that.
    with request.app.state.under_way.only(repeatable.place, "a request with this Idempotency-Key"):
        if (given := await _given(parts, repeatable)) is not None:
            return JSONResponse(given, status_code=202, headers={"Idempotent-Replayed": "true"})
        receipt = await _taken(request, caller, parts, body)
        await asyncio.to_thread(keep_answer, parts.database, repeatable, receipt, parts.clock())
    return JSONResponse(receipt, status_code=202)


async def _taken(request: Request, caller: Caller, parts: Parts, body: bytes) -> dict[str, Any]:
    """Send the events of a body, and return the receipt."""
    events = read_events(request.headers.get("content-type", ""), body)
    to_send = await asyncio.to_thread(messages, events, caller.tenant_id)
    sent = await _send(parts, caller.tenant_id, to_send)
    trace_of(request.scope).record_count = len(events)
    return {"receipt_id": _receipt_id(sent), "accepted": len(events), "messages": sent}


async def _given(parts: Parts, request: Repeatable) -> dict[str, Any] | None:
    try:
        return await asyncio.to_thread(answer_of, parts.database, request, parts.clock())
    except OtherRequest:
        raise Problem("conflict", "the Idempotency-Key was used for a request with another body") from None


async def _send(parts: Parts, tenant_id: str, to_send: list[Message]) -> list[dict[str, Any]]:
    sent = []
    try:
        for message in to_send:  # in turn: their order is kept
            partition, offset = await parts.producer.send(message.kind, tenant_id, message.value)
            sent.append(
                {
                    "topic": TOPIC_OF[message.kind],
                    "partition": partition,
                    "offset": offset,
                    "events": message.events,
                }
            )
    except SendError:
        detail = "Kafka has not acknowledged all of it: send the same events again, with the same ids"
        raise Problem("unavailable", detail, headers={"Retry-After": "5"}) from None
    return sent


def _receipt_id(sent: list[dict[str, Any]]) -> str:
    places = ",".join(f"{each['topic']}/{each['partition']}/{each['offset']}" for each in sent)
    return hashlib.sha256(places.encode()).hexdigest()[:32]
