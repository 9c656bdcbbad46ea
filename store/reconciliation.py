"""Reconciliation: does the ledger account for every offset, and do the tables hold what it says?

A chunk's ledger row counts unless a later owner of the partition began at or before it: that one handled the
same messages once more. What counts must form intervals that meet, and must add up to the rows that are
there, plus those that retention removed. What a check has found in order is kept as a total, and the next one
begins there; the rows are counted all over again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from store.database import Database
from store.events import KafkaIds
from store.ledger_totals import ENDS, Totals, keep_totals, newest_totals, rows_after
from store.ownership import OF_TOPIC, bound

MAX_GAPS_SHOWN: Final = 100
_COUNTING: Final = f"""
    SELECT ledger.* FROM (
        SELECT * FROM ledger WHERE {OF_TOPIC} AND ({{since}}) LIMIT 1 BY kafka_partition, term, first_offset
    ) AS ledger
    INNER JOIN ({ENDS}) AS owners USING (kafka_partition, term)
    WHERE owners.later = 0 OR ledger.last_offset < owners.ends
"""
# `handed_by` is what each detector should have been handed: all that its owner evaluated. Another owner may
# have been another version, with other detectors.
_TOTALS: Final = f"""
    SELECT kafka_partition, min(its_first) AS first, max(its_next) AS next, sum(its_rows) AS rows,
        sum(its_rejected) AS rejected, sum(its_evaluated) AS evaluated, sumMap(handed) AS evaluated_by,
        sumMap(mapFromArrays(detectors, arrayMap(_ -> its_evaluated, detectors))) AS handed_by,
        max(its_term) AS term, max(until) AS handled_until
    FROM (
        SELECT kafka_partition, term AS its_term, min(first_offset) AS its_first,
            max(last_offset) + 1 AS its_next, sum(stored + skipped) AS its_rows,
            sum(rejected) AS its_rejected, sum(evaluated) AS its_evaluated, sumMap(evaluated_by) AS handed,
            groupUniqArrayArray(mapKeys(evaluated_by)) AS detectors, max(handled_at) AS until
        FROM ({_COUNTING}) GROUP BY kafka_partition, term, worker_id
    ) GROUP BY kafka_partition ORDER BY kafka_partition
"""
_GAPS: Final = f"""
    SELECT kafka_partition, before AS first, first_offset AS next FROM (
        SELECT kafka_partition, first_offset, lagInFrame(last_offset + 1, 1, first_offset) OVER (
            PARTITION BY kafka_partition ORDER BY first_offset
            ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS before
        FROM ({_COUNTING})
    ) WHERE first != next ORDER BY kafka_partition, next LIMIT {MAX_GAPS_SHOWN}
"""


@dataclass(frozen=True, slots=True)
class Gap:
    """What does not add up.

    Parameters
    ----------
    topic, partition
        Where.
    kind
        ``offsets_missing``, ``offsets_twice``, ``rows_missing``, ``rows_extra``, ``dead_letters_missing``,
        ``evaluated_differs``, ``not_handled``.
    detail
        What was expected and what is there, in words.
    """

    topic: str
    partition: int
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class Account:
    """One partition's totals.

    Parameters
    ----------
    next_offset
        Everything before it is accounted for.
    rows, rejected, removed
        Events stored, set aside, and removed by retention since.
    """

    topic: str
    partition: int
    next_offset: int
    rows: int
    rejected: int
    removed: int


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The outcome.

    Parameters
    ----------
    accounts
        One for each partition of which anything was handled.
    gaps
        What does not add up; empty when all does.
    """

    accounts: list[Account]
    gaps: list[Gap]


def reconcile(
    database: Database,
    ids: KafkaIds,
    topic: str,
    committed: Mapping[int, int] | None = None,
    since: Mapping[int, int] | None = None,
    *,
    keep: bool = False,
) -> Reconciliation:
    """Check one topic of a Kafka cluster. Workers may go on meanwhile.

    Parameters
    ----------
    committed
        Committed offset of each partition, as Kafka has it: the ledger must reach it. None: not asked.
    since
        Check only what comes from these offsets on, by partition: `Account.next_offset` of an earlier check.
        What retention removed is then taken to be older. None: all.
    keep
        Check only the partitions of which `committed` is given, and what is committed of them; keep the
        totals of those in which all adds up.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    """
    parameters = bound(ids, topic)
    only = committed or {} if keep else None
    totals: dict[int, Totals] = {}
    if since is None:
        found = newest_totals(database, ids, topic)
        totals = {p: each for p, each in found.items() if only is None or p in only}
        since = {p: each.next_offset for p, each in totals.items()}
        chosen, removed = rows_after(totals, only), _removed(database, parameters)
    else:
        chosen, removed = _from(since), {}
    new = {
        row["kafka_partition"]: row for row in database.query(_TOTALS.replace("{since}", chosen), parameters)
    }
    gaps = [_gap(topic, row) for row in database.query(_GAPS.replace("{since}", chosen), parameters)]
    gaps += _gaps_after(topic, since, new)
    ledger = {p: _sum(totals.get(p), new.get(p, _NOTHING)) for p in sorted(totals.keys() | new.keys())}
    events = _counts(database, _EVENTS, ledger, parameters)
    letters = _counts(database, _LETTERS, ledger, parameters)
    accounts = []
    for partition, row in ledger.items():
        there, set_aside, gone = (counts.get(partition, {}) for counts in (events, letters, removed))
        accounts.append(
            Account(topic, partition, row["next"], row["rows"], row["rejected"], gone.get("rows", 0))
        )
        gaps += _differences(topic, partition, row, there, set_aside, gone)
    if keep:
        wrong = {gap.partition for gap in gaps}
        sound = [_total(partition, ledger[partition]) for partition in new if partition not in wrong]
        keep_totals(database, ids, topic, sound)
    for partition, offset in (committed or {}).items():
        known = ledger.get(partition)
        reached = known["next"] if known is not None else _start(database, parameters, partition)
        gaps += _not_handled(topic, partition, reached, offset)
    return Reconciliation(accounts, gaps)


def _from(since: Mapping[int, int]) -> str:
    """Return which ledger rows begin at some offsets or after them."""
    each = " OR ".join(f"(kafka_partition = {p} AND first_offset >= {at})" for p, at in since.items())
    return each or "0"


_NOTHING: Final[Mapping[str, Any]] = {
    "rows": 0,
    "rejected": 0,
    "evaluated": 0,
    "evaluated_by": {},
    "handed_by": {},
}


def _sum(total: Totals | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the ledger says in all; of detectors, what is in no total yet."""
    if total is None:
        return dict(new)
    return {
        "first": min(total.first_offset, new.get("first", total.first_offset)),
        "next": max(total.next_offset, new.get("next", 0)),
        "term": max(total.term, new.get("term", 0)),
        "handled_until": max(total.handled_until, new.get("handled_until", total.handled_until)),
        "rows": total.rows + new["rows"],
        "rejected": total.rejected + new["rejected"],
        "evaluated": total.evaluated + new["evaluated"],
        "evaluated_by": new["evaluated_by"],
        "handed_by": new["handed_by"],
    }


def _total(partition: int, row: Mapping[str, Any]) -> Totals:
    return Totals(
        partition,
        row["first"],
        row["next"],
        row["term"],
        row["rows"],
        row["rejected"],
        row["evaluated"],
        row["handled_until"],
    )


_EVENTS: Final = f"""
    SELECT kafka_partition, count() AS rows, countIf(flags = 0) AS evaluated FROM events
    WHERE {OF_TOPIC} AND ({{conditions}}) GROUP BY kafka_partition
"""
_LETTERS: Final = f"""
    SELECT kafka_partition, sum(greatest(length(rejected_indexes), 1)) AS rows FROM (
        SELECT * FROM dead_letters FINAL WHERE {OF_TOPIC} AND ({{conditions}})
        ORDER BY rejected_at DESC LIMIT 1 BY kafka_partition, kafka_offset
    ) GROUP BY kafka_partition
"""
_REMOVED: Final = f"""
    SELECT kafka_partition, sum(rows_removed) AS rows, sum(evaluated_removed) AS evaluated FROM retention_runs
    WHERE {OF_TOPIC} GROUP BY kafka_partition
"""


def _removed(database: Database, parameters: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    return {row["kafka_partition"]: row for row in database.query(_REMOVED, parameters)}


def _counts(
    database: Database, sql: str, totals: Mapping[int, Mapping[str, Any]], parameters: Mapping[str, Any]
) -> dict[int, dict[str, Any]]:
    """Return rows by partition, of what lies before the end of each account: the rest is in flight."""
    conditions = " OR ".join(
        f"(kafka_partition = {p} AND kafka_offset >= {row['first']} AND kafka_offset < {row['next']})"
        for p, row in totals.items()
    )
    rows = database.query(sql.replace("{conditions}", conditions or "0"), parameters)
    return {row["kafka_partition"]: row for row in rows}


def reconcile_all(
    database: Database, committed: Mapping[str, Mapping[int, int]] | None = None
) -> Reconciliation:
    """Check everything that the ledger knows of, of every Kafka cluster that there has been.

    Parameters
    ----------
    committed
        Topic id to the committed offset of each partition, of the cluster that is there now.
    """
    whole = Reconciliation([], [])
    topics = database.query(
        "SELECT DISTINCT kafka_cluster_id, kafka_topic_id, kafka_topic FROM ownership ORDER BY kafka_topic"
    )
    for row in topics:
        ids = KafkaIds(row["kafka_cluster_id"], {row["kafka_topic"]: row["kafka_topic_id"]})
        found = reconcile(database, ids, row["kafka_topic"], (committed or {}).get(row["kafka_topic_id"]))
        whole.accounts.extend(found.accounts)
        whole.gaps.extend(found.gaps)
    return whole


def _start(database: Database, parameters: Mapping[str, Any], partition: int) -> int:
    """Return where the first owner of a partition began, of which nothing was handled yet."""
    rows = database.query(
        f"SELECT min(start_offset) AS start, count() AS n FROM ownership WHERE {OF_TOPIC} "
        f"AND kafka_partition = {int(partition)}",
        parameters,
    )
    return int(rows[0]["start"]) if rows[0]["n"] else 0


def _gaps_after(topic: str, since: Mapping[int, int], totals: Mapping[int, Mapping[str, Any]]) -> list[Gap]:
    """Return what lies between the end of an earlier check and what this one began with."""
    return [
        _gap(topic, {"kafka_partition": partition, "first": since[partition], "next": row["first"]})
        for partition, row in totals.items()
        if row["first"] != since.get(partition, row["first"])
    ]


def _not_handled(topic: str, partition: int, reached: int, committed: int) -> list[Gap]:
    """Return what is committed beyond the end of an account."""
    if reached >= committed:
        return []
    what = f"offsets {reached} to {committed - 1} are committed and in no account"
    return [Gap(topic, partition, "not_handled", what)]


def _gap(topic: str, row: Mapping[str, Any]) -> Gap:
    first, following = row["first"], row["next"]
    if first < following:
        return Gap(
            topic,
            row["kafka_partition"],
            "offsets_missing",
            f"offsets {first} to {following - 1} are in no account",
        )
    return Gap(
        topic,
        row["kafka_partition"],
        "offsets_twice",
        f"offsets {following} to {first - 1} are in two accounts",
    )


def _differences(
    topic: str,
    partition: int,
    ledger: Mapping[str, Any],
    events: Mapping[str, Any],
    letters: Mapping[str, Any],
    removed: Mapping[str, Any],
) -> Sequence[Gap]:
    found = []

    def differ(kind: str, what: str, expected: int, there: int) -> None:
        found.append(Gap(topic, partition, kind, f"the ledger has {expected:,} {what}, the store {there:,}"))

    rows = events.get("rows", 0) + removed.get("rows", 0)
    if rows != ledger["rows"]:
        differ(
            "rows_missing" if rows < ledger["rows"] else "rows_extra", "events stored", ledger["rows"], rows
        )
    evaluated = events.get("evaluated", 0) + removed.get("evaluated", 0)
    if evaluated != ledger["evaluated"]:
        differ("evaluated_differs", "events evaluated", ledger["evaluated"], evaluated)
    for detector, expected in dict(ledger["handed_by"]).items():
        if (handed := dict(ledger["evaluated_by"]).get(detector, 0)) != expected:
            words = f"of {expected:,} events evaluated, {detector} was handed {handed:,}"
            found.append(Gap(topic, partition, "evaluated_differs", words))
    # There may be more: a letter whose message was accepted when it was delivered again stays.
    if letters.get("rows", 0) < ledger["rejected"]:
        differ("dead_letters_missing", "events rejected", ledger["rejected"], letters.get("rows", 0))
    return found
