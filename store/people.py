"""What the store holds of people: their events, alerts, and who dealt with them, by pseudonym."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from schemas.alert import rfc3339
from store.database import Database
from store.queries import TenantContext

# Where a pseudonym may stand (`streams.pseudonyms`); a test compares the two.
FIELDS: Final = (
    "user_id", "event_id", "service", "user_agent", "session_id", "trace_id", "token_id", "reason",
    "attributes", "permission", "resource_type", "resource_id", "http_route", "http_path", "api_key_id",
)  # fmt: skip


def _joined(columns: Sequence[str]) -> str:
    return f"concatWithSeparator(' ', {', '.join(columns)})"


TEXT: Final = _joined(FIELDS)
# A pseudonym, wherever it stands.
PATTERN: Final = "p_[a-z2-7]{26}"
PAGE_ROWS: Final = 10_000
_PAGE: Final = (
    "SELECT * FROM events WHERE {scope} AND {speaks_of} "
    "AND time > fromUnixTimestamp64Milli({{after_ms:Int64}}, 'UTC') "
    "ORDER BY time LIMIT {{rows:UInt32}} WITH TIES"
)


# An identifier as `schemas.personal` finds it in a text, to an engine that knows no looking behind.
_LOCAL: Final = r"[\\pL\\pN_.!#$\'*+^`{}~-]"
_IDENTIFIERS: Final = rf"{_LOCAL}+@[\\pL\\pN_-]+(?:[.][\\pL\\pN_-]+)+|[+][1-9][0-9]{{7,14}}"


def speaks_of(name: str = "private_people") -> str:
    """Return the condition that an event speaks of people; the parameter is an array.

    Of pseudonyms and of addresses and numbers as `normalised` has them, which are found wherever they stand,
    and of other user ids, which are not.
    """
    people = f"{{{name}:Array(String)}}"
    return f"({_is('user_id', people)} OR {_in_text(FIELDS, people)})"


def _is(column: str, people: str) -> str:
    address = f"position({column}, '@') > 0 AND lowerUTF8({column}) IN {people}"
    return f"({column} IN {people} OR ({address}))"


def _in_text(columns: Sequence[str], people: str) -> str:
    text = _joined(columns)
    # What a text holds is looked up among the people: to look for each of 5,000 on hold in 20,000 texts took
    # a server 3 GB, and the engine minutes.
    found = f"arrayExists(p -> p IN {people}, extractAll({text}, '{PATTERN}'))"
    # And none where nobody is asked for by an identifier: only events from before the vault hold any.
    asked = f"arrayExists(p -> match(p, '@|^[+]'), {people}) AND multiSearchAny({text}, ['@', '%40', '+'])"
    identifiers = f"extractAll(replaceAll(lowerUTF8({text}), '%40', '@'), '{_IDENTIFIERS}')"
    plain = f"arrayExists(p -> p IN {people}, {identifiers})"
    # Hardly any row holds any pseudonym, and to look at columns as they are is cheaper than to join them.
    any_at_all = " OR ".join(f"position({column}, 'p_') > 0" for column in columns)
    return f"((({any_at_all}) AND {found}) OR ({asked} AND {plain}))"


def alerts_speak_of(name: str = "private_people") -> str:
    """Return the condition that a revision of an alert speaks of people; the parameter is an array."""
    people = f"{{{name}:Array(String)}}"
    return f"({_is('entity_value', people)} OR {_in_text(('body',), people)})"


def counts(database: Database, tenant: TenantContext, pseudonyms: Sequence[str]) -> dict[str, int]:
    """Return how many rows speak of people, by table."""
    scope, bound = tenant.condition()
    bound |= {"private_people": list(pseudonyms)}
    events = database.query(f"SELECT count() AS n FROM events WHERE {scope} AND {speaks_of()}", bound)
    alerts = database.query(
        f"SELECT uniqExact(alert_id) AS n FROM alerts WHERE {scope} AND {alerts_speak_of()}", bound
    )
    return {"events": int(events[0]["n"]), "alerts": int(alerts[0]["n"])}


def events_of(
    database: Database, tenant: TenantContext, pseudonyms: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the events that speak of people, by time: what each has a value for, as JSON has it."""
    scope, bound = tenant.condition()
    sql = _PAGE.format(scope=scope, speaks_of=speaks_of())
    after_ms = -1
    while True:
        rows = database.query(
            sql, {**bound, "private_people": list(pseudonyms), "after_ms": after_ms, "rows": PAGE_ROWS}
        )
        for row in rows:
            after_ms = round(row["time"].timestamp() * 1000)
            yield _plain(row)
        if len(rows) < PAGE_ROWS:
            return


def alerts_of(
    database: Database, tenant: TenantContext, pseudonyms: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield every revision of each alert that speaks of people in any of them; an alert's oldest first."""
    scope, bound = tenant.condition()
    rows = database.query(
        f"SELECT body FROM alerts WHERE {scope} AND alert_id IN {_ids_of_alerts(scope)} "
        "ORDER BY alert_id, revision, published_at DESC LIMIT 1 BY alert_id, revision",
        {**bound, "private_people": list(pseudonyms)},
    )
    yield from (json.loads(row["body"]) for row in rows)


def notes_about(
    database: Database, tenant: TenantContext, pseudonyms: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield what somebody did with an alert that speaks of people, or wrote about it."""
    scope, bound = tenant.condition()
    rows = database.query(
        "SELECT alert_id, note_id, action, text, created_by, created_at FROM alert_notes FINAL "
        f"WHERE {scope} AND alert_id IN {_ids_of_alerts(scope)} ORDER BY alert_id, created_at, note_id",
        {**bound, "private_people": list(pseudonyms)},
    )
    for row in rows:
        yield row | {"created_at": rfc3339(row["created_at"])}


def dealings_with(
    database: Database, tenant: TenantContext, pseudonyms: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield who read people, exported, held or forgot them, when and why: their part of ``privacy_log``."""
    scope, bound = tenant.condition()
    rows = database.query(
        f"SELECT at, action, actor, reason FROM privacy_log WHERE {scope} "
        "AND hasAny(pseudonyms, {private_people:Array(String)}) ORDER BY at, entry_id",
        {**bound, "private_people": list(pseudonyms)},
    )
    for row in rows:
        yield row | {"at": rfc3339(row["at"])}


def _ids_of_alerts(scope: str) -> str:
    return f"(SELECT alert_id FROM alerts WHERE {scope} AND {alerts_speak_of()})"


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in row.items() if value not in ("", None)}
    if "attributes" in kept:
        kept["attributes"] = json.loads(kept["attributes"])
    for name in ("time", "ingest_time"):
        kept[name] = kept[name].isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return kept
