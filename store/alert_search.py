"""Searching alerts: the newest revision of each, latest first, a page at a time; or every revision."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from schemas.alert import to_ms
from store.alert_notes import Handling
from store.database import Database
from store.queries import MAX_ROWS, Scope

# Of the HTTP API; the command line may ask for all that a query returns.
MAX_PAGE: Final = 1_000
_TIME: Final = "fromUnixTimestamp64Milli({{{0}:Int64}}, 'UTC')"
_HANDLED: Final = {"acknowledged": "acknowledge", "resolved": "resolve"}
# Bodies are nearly all of the table, so they are read of the page only. A revision that was published again
# is there twice until the engine merges it; the latest holds.
_SEARCH: Final = """
SELECT alert_id, body, toUnixTimestamp64Milli(detected_at) AS detected_ms
FROM alerts
WHERE {scope} AND (tenant_id, alert_id, revision) IN
(
    SELECT tenant_id, alert_id, revision
    FROM (
        SELECT tenant_id, alert_id, revision, status, detector, classification, severity, entity_type,
            entity_value, detected_at, published_at
        FROM alerts WHERE {scope}
        ORDER BY revision DESC, published_at DESC LIMIT 1 BY tenant_id, alert_id
    )
    WHERE {conditions}
    ORDER BY detected_at DESC, alert_id
    LIMIT {{rows:UInt32}}
)
ORDER BY detected_at DESC, alert_id, published_at DESC
LIMIT 1 BY tenant_id, alert_id
"""
_REVISIONS: Final = """
SELECT body
FROM alerts FINAL
WHERE {scope} AND {conditions}
ORDER BY published_at, alert_id, revision
LIMIT {{rows:UInt32}}
"""
_LAST_ACTION: Final = (
    "(SELECT alert_id FROM (SELECT alert_id, argMax(action, (created_at, note_id)) AS last FROM alert_notes "
    "FINAL WHERE {scope} AND action != 'comment' GROUP BY alert_id) WHERE {which})"
)


class AlertPosition(NamedTuple):
    """Where an alert is among all: what a page goes on from."""

    detected_ms: int
    alert_id: str


class AlertPage(NamedTuple):
    """Alerts, and where the next page goes on; None: there are no more."""

    alerts: list[dict[str, Any]]
    next: AlertPosition | None


@dataclass(frozen=True)
class AlertSearch:
    """Which alerts are meant; what is None excludes none.

    Parameters
    ----------
    status
        ``open`` stands for every one that is not resolved.
    severity
        This one and those above it.
    entity_values
        The ways to write the entity, any of them; none: every entity.
    handling
        How far people have come with it.
    since, until
        Of ``detected_at``, the second not included.
    published_after
        The revision was published later.
    """

    status: str | None = None
    detector: str | None = None
    classification: str | None = None
    severity: str | None = None
    entity_type: str | None = None
    entity_values: tuple[str, ...] = ()
    handling: Handling | None = None
    since: datetime | None = None
    until: datetime | None = None
    published_after: datetime | None = None

    def conditions(self, scope: str) -> tuple[list[str], dict[str, Any]]:
        """Return SQL conditions, and the values that ClickHouse binds to them."""
        found, bound = ["true"], dict[str, Any]()
        if self.status == "open":
            found.append("status != 'resolved'")
        elif self.status:
            found.append("status = {status:String}")
            bound["status"] = self.status
        for name in ("detector", "classification", "entity_type"):
            if (value := getattr(self, name)) is not None:
                found.append(f"{name} = {{{name}:String}}")
                bound[name] = value
        if self.entity_values:
            found.append("entity_value IN {private_entity_values:Array(String)}")
            bound["private_entity_values"] = list(self.entity_values)
        if self.severity is not None:
            found.append("severity >= {severity:String}")
            bound["severity"] = self.severity
        for name, time in (("since", self.since), ("until", self.until)):
            if time is not None:
                found.append(f"detected_at {'>=' if name == 'since' else '<'} {_TIME.format(name)}")
                bound[name] = to_ms(time)
        if self.published_after is not None:
            found.append(f"published_at > {_TIME.format('published_after')}")
            bound["published_after"] = to_ms(self.published_after)
        if self.handling in _HANDLED:
            chosen = _LAST_ACTION.format(scope=scope, which="last = {handling:String}")
            found.append(f"alert_id IN {chosen}")
            bound["handling"] = _HANDLED[self.handling]
        elif self.handling == "new":
            handled = _LAST_ACTION.format(scope=scope, which="last != 'reopen'")
            found.append(f"alert_id NOT IN {handled}")
        return found, bound


def search_alerts(
    database: Database, scope: Scope, wanted: AlertSearch, rows: int, after: AlertPosition | None = None
) -> AlertPage:
    """Return a page of alerts, each at its newest revision, as the contract has them.

    Parameters
    ----------
    rows
        At most so many, up to 10,000.
    after
        Where the page before ended.
    """
    rows = min(rows, MAX_ROWS)
    where, of_scope = scope.condition()
    conditions, bound = wanted.conditions(where)
    if after is not None:
        conditions.append(
            "(detected_at < fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC') OR (detected_at = "
            "fromUnixTimestamp64Milli({after_ms:Int64}, 'UTC') AND alert_id > {after_id:String}))"
        )
        bound |= {"after_ms": after.detected_ms, "after_id": after.alert_id}
    sql = _SEARCH.format(scope=where, conditions=" AND ".join(conditions))
    found = database.query(sql, {**bound, **of_scope, "rows": rows + 1})
    more = len(found) > rows
    found = found[:rows]
    last = AlertPosition(int(found[-1]["detected_ms"]), str(found[-1]["alert_id"])) if more else None
    return AlertPage([json.loads(row["body"]) for row in found], last)


def revisions(database: Database, scope: Scope, wanted: AlertSearch, rows: int) -> list[dict[str, Any]]:
    """Return revisions in the order in which they were published; parameters as of `search_alerts`."""
    where, of_scope = scope.condition()
    conditions, bound = wanted.conditions(where)
    sql = _REVISIONS.format(scope=where, conditions=" AND ".join(conditions))
    found = database.query(sql, {**bound, **of_scope, "rows": min(rows, MAX_ROWS)})
    return [json.loads(row["body"]) for row in found]
