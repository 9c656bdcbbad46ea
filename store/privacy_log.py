"""What was done with personal data, by whom and why: ``privacy_log``, which holds no originals."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from schemas.personal import scrubbed
from store.database import Database
from store.queries import Scope

Action = Literal["reveal", "export", "forget", "hold", "release", "rotate_keys", "expire"]


def record(
    database: Database,
    action: Action,
    tenant_id: str,
    pseudonyms: Sequence[str],
    actor: str,
    reason: str,
    body: Mapping[str, Any] | None = None,
    entry_id: str | None = None,
) -> str:
    """Note an action, and return the entry's id; durable when it returns.

    A reason that names the person would keep for good what is being forgotten, so addresses in it are hidden.
    """
    entry_id = entry_id or uuid4().hex
    database.insert_rows(
        "privacy_log",
        [
            {
                "at": datetime.now(UTC),
                "entry_id": entry_id,
                "action": action,
                "tenant_id": tenant_id,
                "pseudonyms": list(pseudonyms),
                "actor": actor,
                "reason": scrubbed(reason),
                "body": json.dumps(body) if body else "",
            }
        ],
    )
    return entry_id


def entries(
    database: Database,
    scope: Scope,
    *,
    action: Action | None = None,
    entry_id: str | None = None,
    since: datetime | None = None,
    limit: int = 1_000,
) -> list[dict[str, Any]]:
    """Return what was noted, the latest first; ``body`` as an object, or None."""
    condition, bound = scope.condition()
    rows = database.query(
        f"SELECT * FROM privacy_log WHERE {condition} "
        "AND ({action:String} = '' OR action = {action:String}) "
        "AND ({entry_id:String} = '' OR entry_id = {entry_id:String}) "
        "AND at >= {since:DateTime64(3)} ORDER BY at DESC, entry_id LIMIT {limit:UInt32}",
        {
            **bound,
            "action": action or "",
            "entry_id": entry_id or "",
            "since": since or datetime.fromtimestamp(0, UTC),
            "limit": limit,
        },
    )
    return [{**row, "body": json.loads(row["body"]) if row["body"] else None} for row in rows]
