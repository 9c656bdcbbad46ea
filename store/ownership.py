"""Who owns a partition, and which of its rows are stored: what makes an event's row exactly one.

A worker that is assigned a partition claims it with the next term. From then on the server refuses the
inserts of every older term, and the running ones are ended; so what is read back afterwards is all that
there will ever be of the last owner's, and only the rest is stored.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from schemas.batch import Bools, Int64s
from schemas.event import INDEX_BITS
from store.database import Database, Guard
from store.events import KafkaIds

# What a condition on rows of one topic is; `bound` binds it.
OF_TOPIC: Final = (
    "kafka_cluster_id = {cluster:String} AND kafka_topic_id = {topic_id:String} "
    "AND kafka_topic = {topic:String}"
)


# The same where parameters are not bound by the server.
_GUARDED: Final = re.sub(r"\{(\w+):String\}", r"{\1}", OF_TOPIC)


def bound(ids: KafkaIds, topic: str) -> dict[str, Any]:
    """Return the parameters of `OF_TOPIC`."""
    return {"cluster": ids.cluster_id, "topic_id": ids.topic_ids.get(topic, ""), "topic": topic}


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker's claim to one partition.

    Parameters
    ----------
    term
        One more than the highest that was there.
    generation
        The consumer group's. It tells apart two claims to the same term: the later owner's is higher. It
        alone would not do, because a group that was empty for a week begins again at 1.
    """

    topic: str
    partition: int
    term: int
    generation: int


@dataclass(frozen=True, slots=True)
class Stored:
    """Rows of one partition that are stored already, in a span of offsets.

    Parameters
    ----------
    rows
        ``(n,)``, at least one: offset and position in the message's array as one number, ascending.
    flags
        ``(n,)`` as stored: an event is judged once, however often it is delivered.
    """

    rows: Int64s
    flags: NDArray[np.uint8]

    def find(self, offset: Int64s, message_index: NDArray[np.int32]) -> tuple[Bools, NDArray[np.uint8]]:
        """Return ``(m,)`` which of these rows are stored, and their flags; 0 where they are not."""
        wanted = offset << INDEX_BITS | message_index
        at = np.minimum(np.searchsorted(self.rows, wanted), len(self.rows) - 1)
        found = self.rows[at] == wanted
        return found, np.where(found, self.flags[at], np.uint8(0))


class Ownership:
    """Claims partitions, and reads back what their last owners left.

    Parameters
    ----------
    database
        Shared by all workers, or this one's own.
    ids
        Of the Kafka cluster and its topics.
    """

    def __init__(self, database: Database, ids: KafkaIds) -> None:
        self._database = database
        self._ids = ids

    def next_terms(self, topic: str, partitions: Iterable[int]) -> dict[int, int]:
        """Return the term with which each partition may be claimed."""
        rows = self._database.query(
            "SELECT kafka_partition, max(term) AS term FROM ownership "
            f"WHERE {OF_TOPIC} GROUP BY kafka_partition",
            bound(self._ids, topic),
        )
        terms = {row["kafka_partition"]: row["term"] for row in rows}
        return {partition: terms.get(partition, 0) + 1 for partition in partitions}

    def claim(self, claims: Mapping[Claim, int], worker_id: str) -> None:
        """Write claims, each with the offset that its partition is handled from.

        To be called only by a worker that has, after `next_terms`, made sure that it is still a member of its
        group's generation.

        Parameters
        ----------
        worker_id
            Of who claims; to be read by people.
        """
        now = datetime.now(UTC)
        self._database.insert_rows(
            "ownership",
            [
                {
                    **self._ids.columns(claim.topic),
                    "kafka_partition": claim.partition,
                    "term": claim.term,
                    "generation": claim.generation,
                    "start_offset": start,
                    "worker_id": worker_id,
                    "claimed_at": now,
                }
                for claim, start in claims.items()
            ],
        )

    def guard(self, claims: Iterable[Claim]) -> Guard:
        """Return what refuses rows once a partition has another owner, or `end_insert` was called."""
        by_topic: dict[str, list[Claim]] = {}
        for claim in sorted(set(claims), key=lambda claim: (claim.topic, claim.partition)):
            by_topic.setdefault(claim.topic, []).append(claim)
        conditions: list[str] = []
        parameters: dict[str, Any] = {}
        for n, (topic, chosen) in enumerate(by_topic.items()):
            held = ", ".join(f"({c.partition}, ({c.term}, {c.generation}))" for c in chosen)
            partitions = ", ".join(str(c.partition) for c in chosen)
            of_topic = re.sub(r"\{(\w+)\}", rf"{{\1_{n}}}", _GUARDED)
            conditions.append(
                "(SELECT count() FROM ("
                "SELECT kafka_partition, max((term, generation)) AS owner FROM ownership "
                f"WHERE {of_topic} AND kafka_partition IN ({partitions}) GROUP BY kafka_partition) "
                f"WHERE (kafka_partition, owner) NOT IN ({held})) > 0"
            )
            parameters |= {f"{name}_{n}": value for name, value in bound(self._ids, topic).items()}
        generation = min((c.generation for found in by_topic.values() for c in found), default=0)
        query_id = f"{self._prefix()}{generation}-{uuid4()}"
        conditions.append("(SELECT count() FROM ended_inserts WHERE query_id = {query_id}) > 0")
        return Guard(" OR ".join(conditions), parameters | {"query_id": query_id}, query_id)

    def _prefix(self) -> str:
        return f"tenantwatch-events-{self._ids.cluster_id}-"

    def end_inserts(self, before_generation: int) -> None:
        """End the running inserts of older generations, and wait until they have ended."""
        if not self._database.shared:
            return
        prefix = self._prefix()
        self._database.command(
            "KILL QUERY WHERE startsWith(query_id, {prefix:String}) AND "
            "toInt64OrZero(splitByChar('-', substring(query_id, {cut:UInt32}))[1]) < {generation:Int64} SYNC",
            {"prefix": prefix, "cut": len(prefix) + 1, "generation": before_generation},
        )

    def end_insert(self, query_id: str) -> None:
        """End one insert whose outcome is unknown, so that it cannot go on beside its repetition.

        Nor begin: what a server has received and not looked at is no query yet that could be killed.
        """
        if self._database.shared:
            ended = {"query_id": query_id, "ended_at": datetime.now(UTC)}
            self._database.insert_rows("ended_inserts", [ended])
            self._database.command(
                "KILL QUERY WHERE query_id = {query_id:String} SYNC", {"query_id": query_id}
            )

    def stored_ends(self, topic: str, starts: Mapping[int, int]) -> dict[int, int]:
        """Return the offset after the last row of each partition that has any from an offset on."""
        rows = self._database.query(
            "SELECT kafka_partition, max(kafka_offset) + 1 AS end FROM events "
            f"WHERE {OF_TOPIC} AND {_from(starts)} GROUP BY kafka_partition",
            bound(self._ids, topic),
        )
        return {row["kafka_partition"]: row["end"] for row in rows}

    def stored_between(self, topic: str, spans: Mapping[int, tuple[int, int]]) -> dict[int, Stored]:
        """Return the rows that are stored of a span of offsets, both ends included, of each partition.

        Of a span and not of all from an offset on: where the group's commits are lost, that is days of rows.
        """
        columns = self._database.query_columns(
            "SELECT kafka_partition, kafka_offset, message_index, flags FROM events "
            f"WHERE {OF_TOPIC} AND {_between(spans)}",
            bound(self._ids, topic),
        )
        partition = np.array(columns["kafka_partition"], np.int64)
        rows = np.array(columns["kafka_offset"], np.int64) << INDEX_BITS | np.array(
            columns["message_index"], np.int64
        )
        flags = np.array(columns["flags"], np.uint8)
        order = np.argsort(rows, kind="stable")
        found = {}
        for number in np.unique(partition).tolist():
            mine = order[partition[order] == number]
            found[number] = Stored(rows[mine], flags[mine])
        return found

    def set_aside_from(self, topic: str, starts: Mapping[int, int]) -> dict[int, set[int]]:
        """Return the offsets of messages, from one of each partition on, that dead letters are kept of."""
        rows = self._database.query(
            f"SELECT kafka_partition, groupUniqArray(kafka_offset) AS offsets FROM dead_letters "
            f"WHERE {OF_TOPIC} AND {_from(starts)} GROUP BY kafka_partition",
            bound(self._ids, topic),
        )
        return {row["kafka_partition"]: set(row["offsets"]) for row in rows}


def _between(spans: Mapping[int, tuple[int, int]]) -> str:
    each = " OR ".join(
        f"(kafka_partition = {p} AND kafka_offset BETWEEN {first} AND {last})"
        for p, (first, last) in spans.items()
    )
    return f"({each or '0'})"


def _from(starts: Mapping[int, int]) -> str:
    # Written out as OR, so that indexes on the offset can be used.
    each = " OR ".join(f"(kafka_partition = {p} AND kafka_offset >= {start})" for p, start in starts.items())
    return f"({each or '0'})"
