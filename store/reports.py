"""Reports about a span of time: what happened, what was raised, who used which rights."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from schemas.alert import to_ms
from store.database import Database
from store.queries import TenantContext

MAX_USERS: Final = 10_000
TOP: Final = 20
_SPAN: Final = (
    "{column} >= fromUnixTimestamp64Milli({{since:Int64}}, 'UTC') "
    "AND {column} < fromUnixTimestamp64Milli({{until:Int64}}, 'UTC')"
)
# Of an access: what changes who may do what, and what leaves.
_PRIVILEGED: Final = "('grant', 'revoke', 'role_change', 'impersonate')"


@dataclass(frozen=True)
class Span:
    """A time, the end not included, of one tenant."""

    tenant: TenantContext
    since: datetime
    until: datetime

    def condition(self, column: str) -> tuple[str, dict[str, Any]]:
        """Return the SQL that binds a query to it, by a column of times."""
        scope, bound = self.tenant.condition()
        span = {"since": to_ms(self.since), "until": to_ms(self.until)}
        return f"{scope} AND {_SPAN.format(column=column)}", {**bound, **span}


def activity(database: Database, span: Span) -> dict[str, Any]:
    """Return what happened: events by kind and day, whose and whence most failures were, dead letters."""
    where, bound = span.condition("time")
    by_day = database.query(
        "SELECT toDate(time) AS day, kind, count() AS events, countIf(outcome = 'failure') AS failures, "
        f"uniqExactIf(user_id, user_id != '') AS users FROM events WHERE {where} "
        "GROUP BY day, kind ORDER BY day, kind",
        bound,
    )
    letters, of_letters = span.condition("rejected_at")
    return {
        "by_day": [{**row, "day": str(row["day"])} for row in by_day],
        "failing_users": _failing(database, where, bound, "user_id"),
        "failing_addresses": _failing(database, where, bound, "source_ip"),
        "dead_letters": database.query(
            "SELECT reason, count() AS messages, sum(greatest(length(rejected_indexes), 1)) AS events "
            f"FROM dead_letters FINAL WHERE {letters} GROUP BY reason ORDER BY messages DESC, reason",
            of_letters,
        ),
    }


def _failing(database: Database, where: str, bound: dict[str, Any], field: str) -> list[dict[str, Any]]:
    return database.query(
        f"SELECT {field} AS value, count() AS failures FROM events "
        f"WHERE {where} AND outcome = 'failure' AND {field} != '' "
        f"GROUP BY value ORDER BY failures DESC, value LIMIT {TOP}",
        bound,
    )


def alerting(database: Database, span: Span) -> dict[str, Any]:
    """Return what was raised: alerts by class and severity, and how fast people acted on them."""
    where, bound = span.condition("detected_at")
    scope, _ = span.tenant.condition()
    newest = (
        f"(SELECT * FROM alerts WHERE {where} "
        "ORDER BY revision DESC, published_at DESC LIMIT 1 BY tenant_id, alert_id)"
    )
    first = f"(SELECT alert_id, min(published_at) AS raised_at FROM alerts WHERE {where} GROUP BY alert_id)"
    acted = (
        f"(SELECT alert_id, min(created_at) AS acted_at FROM alert_notes FINAL WHERE {scope} "
        "AND action IN ('acknowledge', 'resolve') GROUP BY alert_id)"
    )
    [pace] = database.query(
        "SELECT count() AS alerts, countIf(acted_at > raised_at) AS acted_on, "
        "if(acted_on = 0, NULL, avgIf(date_diff('second', raised_at, acted_at), acted_at > raised_at)) "
        f"AS mean_time_to_act_s FROM {first} AS first LEFT JOIN {acted} AS acted USING (alert_id)",
        bound,
    )
    by_class = database.query(
        "SELECT detector, classification, severity, count() AS alerts, sum(event_count) AS events, "
        f"countIf(status != 'resolved') AS open FROM {newest} "
        "GROUP BY detector, classification, severity "
        "ORDER BY alerts DESC, detector, classification, severity",
        bound,
    )
    return {**pace, "by_class": [{**row, "severity": str(row["severity"])} for row in by_class]}


def access_review(database: Database, span: Span, limit: int = MAX_USERS) -> list[dict[str, Any]]:
    """Return by user what they did and which rights they used: what a reviewer confirms or takes away.

    Parameters
    ----------
    limit
        Users, those with most events first.
    """
    where, bound = span.condition("time")
    rows = database.query(
        "SELECT user_id, min(time) AS first_seen, max(time) AS last_seen, count() AS events, "
        "countIf(kind = 'auth' AND action = 'login' AND outcome = 'success') AS logins, "
        "countIf(kind = 'auth' AND action = 'login' AND outcome = 'failure') AS failed_logins, "
        "countIf(kind = 'access' AND outcome = 'failure') AS denied, "
        "countIf(kind = 'access' AND action = 'export' AND outcome = 'success') AS exports, "
        f"countIf(kind = 'access' AND action IN {_PRIVILEGED} AND outcome = 'success') AS privileged, "
        "arraySort(groupUniqArrayIf(100)(permission, permission != '' AND outcome = 'success')) "
        "AS permissions_used, "
        "arraySort(groupUniqArrayIf(100)(permission, permission != '' AND outcome = 'failure')) "
        "AS permissions_denied, "
        "uniqExactIf(source_ip, source_ip != '') AS addresses "
        f"FROM events WHERE {where} AND user_id != '' GROUP BY user_id "
        "ORDER BY events DESC, user_id LIMIT {limit:UInt32}",
        {**bound, "limit": min(limit, MAX_USERS)},
    )
    return [dict(row) for row in rows]
