"""Totals of what is checked of the ledger: without them each check would read all that there has ever been.

A total holds until a later owner of its partition begins before its end, as when somebody sets the consumer
group back: then that owner's rows count in place of some that are in it. So older ones are kept beside it, as
long as the ledger rows after them are.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from schemas.alert import to_ms
from store.database import Database
from store.events import KafkaIds
from store.ownership import OF_TOPIC, bound

# Of each term, where the next owner began; rows from there on do not count. Rows from before there were terms
# have term 0.
ENDS: Final = f"""
    SELECT kafka_partition, term, min(start_offset) OVER (
        PARTITION BY kafka_partition ORDER BY term ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
    ) AS ends, count() OVER (
        PARTITION BY kafka_partition ORDER BY term ROWS BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING
    ) AS later
    FROM (
        SELECT kafka_partition, term, argMax(start_offset, generation) AS start_offset
        FROM ownership WHERE {OF_TOPIC} GROUP BY kafka_partition, term
        UNION ALL
        SELECT DISTINCT kafka_partition, 0 AS term, 0 AS start_offset FROM ownership WHERE {OF_TOPIC}
    )
"""
_NEWEST: Final = f"""
    SELECT kafka_partition AS partition, first_offset, next_offset, term, rows, rejected, evaluated,
        handled_until
    FROM (SELECT * FROM ledger_totals WHERE {OF_TOPIC} AND {{old}}) AS totals
    INNER JOIN ({ENDS}) AS owners USING (kafka_partition, term)
    WHERE later = 0 OR next_offset <= ends
    ORDER BY next_offset DESC LIMIT 1 BY kafka_partition
"""
# What is in no total yet is months of rows at the first check, and weeks after a group was set back: of a
# partition so many are checked at once.
ROWS_AT_ONCE: Final = 100_000
_ROWS_AT_ONCE: Final = f"""
    SELECT kafka_partition, max(last_offset) + 1 AS next, count() AS n FROM (
        SELECT kafka_partition, last_offset FROM ledger WHERE {OF_TOPIC} AND ({{rows}})
        ORDER BY kafka_topic, kafka_topic_id, kafka_partition, first_offset
        LIMIT {{at_once:UInt32}} BY kafka_partition
    ) GROUP BY kafka_partition
"""
# Dashboards look back, and a group may be set back: its account goes on from a total of before that.
KEPT: Final = timedelta(days=30)
# Deleting writes a mark for each row of a part, however few go.
WORTH_DELETING: Final = 50_000


@dataclass(frozen=True, slots=True)
class Totals:
    """What the ledger says of a partition's offsets before one.

    Parameters
    ----------
    first_offset, next_offset
        Of which offsets.
    term
        Of the latest owner whose rows are in it.
    rows, rejected, evaluated
        Events stored, set aside, and judged by detectors.
    handled_until
        When the latest of its chunks was handled.
    """

    partition: int
    first_offset: int
    next_offset: int
    term: int
    rows: int
    rejected: int
    evaluated: int
    handled_until: datetime


def newest_totals(
    database: Database, ids: KafkaIds, topic: str, before: datetime | None = None
) -> dict[int, Totals]:
    """Return each partition's newest total that still holds, of chunks handled before a moment."""
    old, parameters = "1", bound(ids, topic)
    if before is not None:
        old, parameters = "handled_until < {before:DateTime64(3)}", {**parameters, "before": before}
    found = database.query(_NEWEST.replace("{old}", old), parameters)
    return {row["partition"]: Totals(**row) for row in found}


def rows_after(totals: Mapping[int, Totals], committed: Mapping[int, int] | None = None) -> str:
    """Return which ledger rows are in no total, also those that were written later and are of before.

    Parameters
    ----------
    committed
        Only those of these partitions, up to these offsets. None: all.
    """
    each = [
        f"(kafka_partition = {p} AND (first_offset >= {total.next_offset} OR handled_at > "
        f"fromUnixTimestamp64Milli({to_ms(total.handled_until)}, 'UTC')))"
        for p, total in totals.items()
    ]
    others = f"kafka_partition NOT IN ({', '.join(map(str, totals))})" if totals else "1"
    chosen = " OR ".join([*each, others])
    if committed is None:
        return chosen
    ends = " OR ".join(f"(kafka_partition = {p} AND last_offset < {at})" for p, at in committed.items())
    return f"({chosen}) AND ({ends or '0'})"


def next_step(database: Database, ids: KafkaIds, topic: str, committed: Mapping[int, int]) -> dict[int, int]:
    """Return up to which offset each partition can be checked at once: the committed one, or one before."""
    rows = rows_after(newest_totals(database, ids, topic), committed)
    parameters = {**bound(ids, topic), "at_once": ROWS_AT_ONCE}
    found = database.query(_ROWS_AT_ONCE.replace("{rows}", rows), parameters)
    return {**committed, **{r["kafka_partition"]: r["next"] for r in found if r["n"] == ROWS_AT_ONCE}}


def keep_totals(database: Database, ids: KafkaIds, topic: str, totals: Iterable[Totals]) -> None:
    """Store totals of what was checked."""
    rows = []
    for each in totals:
        row: dict[str, Any] = {**ids.columns(topic), "kafka_topic": topic, **asdict(each)}
        rows.append(row | {"kafka_partition": row.pop("partition")})
    if rows:
        database.insert_rows("ledger_totals", rows)


def prune_ledger(database: Database, ids: KafkaIds, topic: str, now: datetime) -> None:
    """Remove ledger rows that are in a total and older than `KEPT`, and the totals before that one."""
    parameters = bound(ids, topic)
    kept_from = {p: each.next_offset for p, each in newest_totals(database, ids, topic, now - KEPT).items()}
    # Without the row that ends there: where a partition's account ends is read from the ledger.
    rows = f"{OF_TOPIC} AND {_before(kept_from, 'last_offset + 1')}"
    if database.query(f"SELECT count() AS n FROM ledger WHERE {rows}", parameters)[0]["n"] < WORTH_DELETING:
        return
    # Totals first: one whose ledger rows are gone would leave a gap after it.
    totals = f"{OF_TOPIC} AND {_before(kept_from, 'next_offset')}"
    database.command(f"DELETE FROM ledger_totals WHERE {totals}", parameters)
    database.command(f"DELETE FROM ledger WHERE {rows}", parameters)


def _before(offsets: Mapping[int, int], what: str) -> str:
    each = " OR ".join(f"(kafka_partition = {p} AND {what} < {at})" for p, at in offsets.items())
    return f"({each or '0'})"
