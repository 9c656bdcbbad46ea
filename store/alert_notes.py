"""What people did with alerts: acknowledged, resolved, reopened, commented."""

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, Literal

from store.database import Database
from store.queries import Scope

NoteAction = Literal["acknowledge", "resolve", "reopen", "comment"]
Handling = Literal["new", "acknowledged", "resolved"]
_HANDLING: Final[dict[NoteAction, Handling]] = {
    "acknowledge": "acknowledged",
    "resolve": "resolved",
    "reopen": "new",
}


@dataclass(frozen=True)
class Note:
    """One thing that somebody did with an alert."""

    tenant_id: str
    alert_id: str
    note_id: str
    action: NoteAction
    text: str
    created_by: str
    created_at: datetime


def add_note(
    database: Database,
    *,
    tenant_id: str,
    alert_id: str,
    action: NoteAction,
    text: str,
    created_by: str,
    now: datetime,
) -> Note:
    """Add an entry to an alert that is known to be the tenant's."""
    note = Note(tenant_id, alert_id, uuid.uuid4().hex, action, text, created_by, now)
    database.insert_rows("alert_notes", [asdict(note)])
    return note


def notes_of(database: Database, scope: Scope, alert_ids: Sequence[str]) -> dict[str, list[Note]]:
    """Return the entries of alerts by alert, oldest first."""
    if not alert_ids:
        return {}
    where, bound = scope.condition()
    rows = database.query(
        "SELECT tenant_id, alert_id, note_id, action, text, created_by, created_at FROM alert_notes FINAL "
        f"WHERE {where} AND alert_id IN {{alert_ids:Array(String)}} ORDER BY created_at, note_id",
        {**bound, "alert_ids": list(alert_ids)},
    )
    found: dict[str, list[Note]] = {}
    for row in rows:
        found.setdefault(row["alert_id"], []).append(Note(**row))
    return found


def handling_of(notes: Sequence[Note]) -> Handling:
    """Return how far people have come with an alert.

    >>> handling_of([])
    'new'
    """
    said = [_HANDLING[note.action] for note in notes if note.action in _HANDLING]
    return said[-1] if said else "new"
