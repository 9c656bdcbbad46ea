"""Alerts: listed, shown, and what people do with them."""

import asyncio
from typing import Annotated, Any, Final, Literal

from fastapi import Path, Query, Request
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from api.v1.caller import Caller, CallerOf
from api.v1.cursors import open_cursor, seal_cursor
from api.v1.originals import alerts_as_stored
from api.v1.parts import Parts, PartsOf
from api.v1.problems import Problem, not_found
from api.v1.routing import Routes
from api.v1.trace import trace_of
from schemas.alert import EntityType, Severity, UtcTime
from schemas.event import Text64
from schemas.ocsf import alert_to_ocsf
from schemas.received_alert import ReceivedAlert
from store.alert_notes import Handling, Note, NoteAction, add_note, handling_of, notes_of
from store.alert_search import MAX_PAGE, AlertPosition, AlertSearch, search_alerts
from store.queries import Reader

routes = Routes("/alerts", "alert")
AlertId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
MAX_NOTE: Final = 4_000
# How people's doings with an alert are declared.
_HANDLING: Final[dict[str, Any]] = {
    "permission": "alerts:write",
    "reach": "either",
    "status_code": 201,
    "action": "update",
    "problems": ["conflict"],
}


class AlertQuery(BaseModel):
    """The filters of alerts; all of them must hold."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    status: Literal["open", "updated", "resolved"] | None = Field(
        None, description="Of the episode; `open` is every one that is not over."
    )
    handling: Handling | None = Field(None, description="What people have done with it.")
    detector: Text64 | None = None
    classification: Text64 | None = None
    severity: Severity | None = Field(None, description="This one and those above it.")
    entity_type: EntityType | None = None
    entity_value: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    since: AwareDatetime | None = Field(None, alias="from", description="Of `detected_at`; included.")
    until: AwareDatetime | None = Field(None, alias="to", description="Of `detected_at`; not included.")
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    cursor: Annotated[str, Field(min_length=1, max_length=1_000)] | None = Field(
        None, description="`next_cursor` of the page before, with the same filters."
    )

    def search(self) -> AlertSearch:
        """Return what the store is asked."""
        values = () if self.entity_value is None else (self.entity_value,)
        return AlertSearch(
            **self.model_dump(exclude={"entity_value", "limit", "cursor"}), entity_values=values
        )


class ShownNote(BaseModel):
    """What somebody did with an alert."""

    note_id: str
    action: NoteAction
    text: str
    created_by: str
    created_at: UtcTime


class ShownAlert(ReceivedAlert):
    """An alert at its newest revision, and how far people have come with it."""

    handling: Handling


class AlertPage(BaseModel):
    """A page of alerts."""

    alerts: list[ShownAlert]
    next_cursor: str | None = Field(description="For the next page; null: there is none.")


class AlertDetail(BaseModel):
    """All that is known of an alert."""

    alert: ShownAlert
    revisions: list[ReceivedAlert] = Field(description="Oldest first.")
    notes: list[ShownNote] = Field(description="Oldest first.")


class NoteText(BaseModel):
    """Why."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(max_length=MAX_NOTE)] = ""


class CommentText(BaseModel):
    """What is to be remembered."""

    model_config = ConfigDict(extra="forbid")

    text: Annotated[str, Field(min_length=1, max_length=MAX_NOTE)]


@routes.get("", permission="alerts:read", reach="either", problems=["tenant_required"])
async def list_alerts(
    request: Request, caller: CallerOf, parts: PartsOf, asked: Annotated[AlertQuery, Query()]
) -> AlertPage:
    """List alerts, the latest first; for platform callers that name no tenant, everybody's.

    An e-mail address or a phone number as `entity_value` is looked for in one tenant, which must be named.
    """
    filters = asked.model_dump(mode="json", exclude_none=True, exclude={"limit", "cursor"})
    at = open_cursor(parts.ring, caller, "alerts", filters, asked.cursor)
    wanted = await alerts_as_stored(caller, parts, asked.search())
    page = await asyncio.to_thread(
        search_alerts,
        parts.database,
        caller.scope,
        wanted,
        asked.limit,
        AlertPosition(*at) if at else None,
    )
    ids = [alert["alert_id"] for alert in page.alerts]
    notes = await asyncio.to_thread(notes_of, parts.database, caller.scope, ids)
    trace_of(request.scope).record_count = len(ids)
    cursor = seal_cursor(parts.ring, caller, "alerts", filters, page.next) if page.next else None
    shown = [_shown(alert, notes.get(alert["alert_id"], [])) for alert in page.alerts]
    return AlertPage(alerts=shown, next_cursor=cursor)


@routes.get(
    "/{alert_id}",
    permission="alerts:read",
    reach="either",
    response_model=None,
    responses={
        200: {
            "description": "The alert, its revisions and its notes; with `format=ocsf` a Detection Finding.",
            "content": {
                "application/json": {
                    "schema": {"anyOf": [{"$ref": "#/components/schemas/AlertDetail"}, {"type": "object"}]}
                }
            },
        }
    },
)
async def show_alert(
    caller: CallerOf,
    parts: PartsOf,
    alert_id: AlertId,
    format: Annotated[Literal["json", "ocsf"], Query()] = "json",
) -> JSONResponse:
    """Show an alert with every revision and note, or its newest revision as OCSF 1.8."""
    detail = await _detail(caller, parts, alert_id)
    if format == "ocsf":
        return JSONResponse(alert_to_ocsf(detail.revisions[-1]))
    return JSONResponse(detail.model_dump(mode="json"))


@routes.post("/{alert_id}/acknowledge", **_HANDLING)
async def acknowledge_alert(
    caller: CallerOf, parts: PartsOf, alert_id: AlertId, why: NoteText
) -> AlertDetail:
    """Say that somebody looks after the alert."""
    return await _do(caller, parts, alert_id, "acknowledge", why.text)


@routes.post("/{alert_id}/resolve", **_HANDLING)
async def resolve_alert(caller: CallerOf, parts: PartsOf, alert_id: AlertId, why: NoteText) -> AlertDetail:
    """Say that nothing is left to be done about it; its episode may go on all the same."""
    return await _do(caller, parts, alert_id, "resolve", why.text)


@routes.post("/{alert_id}/reopen", **_HANDLING)
async def reopen_alert(caller: CallerOf, parts: PartsOf, alert_id: AlertId, why: NoteText) -> AlertDetail:
    """Take back that it is acknowledged or resolved."""
    return await _do(caller, parts, alert_id, "reopen", why.text)


@routes.post("/{alert_id}/comments", **_HANDLING)
async def comment_on_alert(
    caller: CallerOf, parts: PartsOf, alert_id: AlertId, comment: CommentText
) -> AlertDetail:
    """Add a comment."""
    return await _do(caller, parts, alert_id, "comment", comment.text)


async def _do(caller: Caller, parts: Parts, alert_id: str, action: NoteAction, text: str) -> AlertDetail:
    before = await _detail(caller, parts, alert_id)
    wanted = {"acknowledge": "acknowledged", "resolve": "resolved", "reopen": "new"}.get(action)
    if before.alert.handling == wanted and not text:
        raise Problem("conflict", f"it is {wanted} already")
    await asyncio.to_thread(
        add_note,
        parts.database,
        tenant_id=before.alert.tenant_id,
        alert_id=alert_id,
        action=action,
        text=text,
        created_by=caller.principal.subject,
        now=parts.clock(),
    )
    return await _detail(caller, parts, alert_id)


async def _detail(caller: Caller, parts: Parts, alert_id: str) -> AlertDetail:
    reader = Reader(parts.database, caller.scope)
    revisions = await asyncio.to_thread(reader.alert, alert_id)
    if not revisions:
        raise not_found("alert")
    notes = (await asyncio.to_thread(notes_of, parts.database, caller.scope, [alert_id])).get(alert_id, [])
    return AlertDetail(
        alert=_shown(revisions[-1], notes),
        revisions=[ReceivedAlert.model_validate(revision) for revision in revisions],
        notes=[_note(note) for note in notes],
    )


def _shown(alert: dict[str, Any], notes: list[Note]) -> ShownAlert:
    return ShownAlert.model_validate({**alert, "handling": handling_of(notes)})


def _note(note: Note) -> ShownNote:
    return ShownNote(
        note_id=note.note_id,
        action=note.action,
        text=note.text,
        created_by=note.created_by,
        created_at=note.created_at,
    )
