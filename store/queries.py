"""Reads: every one is bound to a tenant, or says openly that it is the platform operator's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from store.database import SCOPE_TENANT, Database
from store.parts import in_parts

MAX_ROWS: Final = 10_000
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NEWEST_SETTINGS: Final = (
    "SELECT tenant_id, version, deleted, body FROM tenants FINAL WHERE {scope} AND {named} "
    "ORDER BY version DESC LIMIT 1 BY tenant_id"
)
# A message that was delivered twice may have a row for each reason found; the latest one holds.
_LETTERS: Final = """
SELECT letters.*, redrives.status AS redrive_status,
    if(redrives.status = '', NULL, redrives.changed_at) AS redrive_changed_at
FROM (
    SELECT * FROM dead_letters FINAL WHERE {scope}
    ORDER BY rejected_at DESC
    LIMIT 1 BY kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition, kafka_offset
) AS letters
LEFT JOIN (SELECT * FROM redrives FINAL WHERE {scope}) AS redrives
USING (tenant_id, kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition, kafka_offset)
"""
# What legal holds, exports and forgetting are about.
_HELD: Final = ("events", "alerts", "vault")
_LETTER_CONDITIONS: Final = """
    ({reason:String} = '' OR reason = {reason:String})
    AND ({kind:String} = '' OR kind = {kind:String})
    AND rejected_at >= {since:DateTime64(3)}
    AND ({topic:String} = '' OR (kafka_topic, kafka_partition, kafka_offset)
        = ({topic:String}, {partition:Int32}, {offset:Int64}))
    AND (NOT {waiting:Bool} OR redrive_status IN ('', 'failed'))
"""


@dataclass(frozen=True)
class TenantContext:
    """Whose rows may be read: exactly one tenant's."""

    tenant_id: str

    def condition(self) -> tuple[str, dict[str, Any]]:
        """Return the SQL that binds a query, and its parameters."""
        return f"tenant_id = {{{SCOPE_TENANT}:String}}", {SCOPE_TENANT: self.tenant_id}


@dataclass(frozen=True)
class PlatformContext:
    """The platform operator's view over all tenants.

    Parameters
    ----------
    operator
        Who is looking; there is no default, so that nobody gets this view by leaving a tenant out.
    """

    operator: str

    def condition(self) -> tuple[str, dict[str, Any]]:
        """Return a condition that every row meets."""
        return "true", {}


Scope = TenantContext | PlatformContext


@dataclass(frozen=True)
class LetterFilter:
    """Which dead letters are meant; what is left out excludes none.

    Parameters
    ----------
    since
        Rejected then or later.
    position
        Topic, partition and offset at which the message was.
    waiting
        Not those that were sent again, or may have been.
    """

    reason: str | None = None
    kind: str | None = None
    since: datetime | None = None
    position: tuple[str, int, int] | None = None
    waiting: bool = False

    def bound(self) -> dict[str, Any]:
        """Return the parameters of a query."""
        topic, partition, offset = self.position or ("", 0, 0)
        return {
            "reason": self.reason or "",
            "kind": self.kind or "",
            "since": self.since or _BEGINNING,
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "waiting": self.waiting,
        }


ANY_LETTER: Final = LetterFilter()


class Reader:
    """Queries within a scope; nothing here can leave it."""

    def __init__(self, database: Database, scope: Scope) -> None:
        self._database = database
        self._scope, self._bound = scope.condition()

    def _select(self, sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._database.query(sql, {**parameters, **self._bound})

    def alert(self, alert_id: str) -> list[dict[str, Any]]:
        """Return all revisions of an alert as contract objects, oldest first; empty if there is none.

        Parameters
        ----------
        alert_id
            The whole id, or a beginning that only one alert has.
        """
        rows = self._select(
            f"SELECT alert_id, body FROM alerts FINAL WHERE {self._scope} "
            "AND startsWith(alert_id, {alert_id:String}) ORDER BY alert_id, revision",
            {"alert_id": alert_id},
        )
        first = rows[0]["alert_id"] if rows else None
        return [json.loads(row["body"]) for row in rows] if all(r["alert_id"] == first for r in rows) else []

    def tenants(self, tenant_ids: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the current settings of each tenant that is in the directory, or of those named."""
        if tenant_ids is None:
            rows = self._select(_NEWEST_SETTINGS.format(scope=self._scope, named="true"), {})
        else:
            sql = _NEWEST_SETTINGS.format(scope=self._scope, named="tenant_id IN {tenant_ids:Array(String)}")
            rows = [row for part in in_parts(tenant_ids) for row in self._select(sql, {"tenant_ids": part})]
        return [
            {**json.loads(row["body"]), "version": row["version"]}
            for row in sorted(rows, key=lambda row: str(row["tenant_id"]))
            if not row["deleted"]
        ]

    def is_stored(self) -> bool:
        """Return whether there is an event, an alert or a person, also of who left the directory."""
        tables = (f"(SELECT 1 FROM {table} WHERE {self._scope} LIMIT 1)" for table in _HELD)
        return bool(self._select(" UNION ALL ".join(tables), {}))

    def counts(self) -> list[dict[str, Any]]:
        """Return by tenant and kind: events, how many were flagged, and the newest event's time."""
        # The table's own order: no row's tenant need be looked up in a hash table. One tenant's rows are few
        # groups, and who reads them on a server may set nothing.
        in_order = "" if self._bound else "SETTINGS optimize_aggregation_in_order = 1"
        return self._select(
            f"SELECT tenant_id, kind, count() AS events, countIf(flags != 0) AS flagged, max(time) AS newest "
            f"FROM events WHERE {self._scope} GROUP BY tenant_id, kind ORDER BY tenant_id, kind {in_order}",
            {},
        )

    def dead_letters(
        self,
        *,
        chosen: LetterFilter = ANY_LETTER,
        oldest_first: bool = False,
        limit: int = 100,
    ) -> list[dict[str, Any]]:
        """Return messages that could not be stored, the latest first, each once.

        ``redrive_status`` is empty, or says at ``redrive_changed_at`` what became of sending it again
        (`store.redrives`).
        """
        order = "ASC" if oldest_first else "DESC"
        return self._select(
            f"SELECT * FROM ({_LETTERS.format(scope=self._scope)}) WHERE {_LETTER_CONDITIONS} "
            f"ORDER BY (rejected_at, kafka_topic, kafka_partition, kafka_offset) {order} "
            "LIMIT {limit:UInt32}",
            {**chosen.bound(), "limit": min(limit, MAX_ROWS)},
        )

    def dead_letter_counts(self, chosen: LetterFilter = ANY_LETTER) -> list[dict[str, Any]]:
        """Return by reason: messages, rejected events in them, how many were sent again or may have been."""
        return self._select(
            "SELECT reason, count() AS messages, sum(greatest(length(rejected_indexes), 1)) AS events, "
            "countIf(redrive_status = 'sent') AS redriven, "
            "countIf(redrive_status = 'sending') AS interrupted "
            f"FROM ({_LETTERS.format(scope=self._scope)}) WHERE {_LETTER_CONDITIONS} "
            "GROUP BY reason ORDER BY messages DESC, reason",
            chosen.bound(),
        )
