"""Sealing: which rows are new in a worker's partitions, and the seals that follow from them.

What is new is a matter of offsets: those from where a partition's last seal ended up to the committed one.
Every row there is durable, and no other worker can add one, so late events, redelivery and concurrent workers
change nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.binding import str_query_value

from schemas.batch import Int64s
from schemas.event import INDEX_BITS
from store.database import Database, Guard
from store.events import KafkaIds
from store.seals import chains
from store.seals.canonical import CURRENT_FORM, leaf_sql
from store.seals.keys import Signer
from store.seals.seal import LEAF, MAX_INDEX, ChainId, Member, Rows, Seal, next_seal, pack_members

# A position that no message has stays one, and does not run over into the next offset.
ID_SQL: Final = f"bitOr(bitShiftLeft(kafka_offset, {INDEX_BITS}), least(message_index, {MAX_INDEX}))"
AGED_SQL: Final = "toUnixTimestamp64Milli(greatest(time, ingest_time))"
# Else the engine would sort all columns and hash the rows afterwards: twice the time.
SORT_HASHES: Final = "SETTINGS query_plan_execute_functions_after_sorting = 0"
# Of a row that is there twice until it is collapsed, the first to come is sealed, as `duplicates` keeps it.
# By one thread: with more it is not done much sooner, and meanwhile all else would wait for a core.
_NEW_ROWS: Final = f"""
    SELECT kafka_partition, tenant_id, kafka_topic_id, {ID_SQL} AS id, {AGED_SQL} AS aged,
        toUnixTimestamp64Milli(ingest_time) AS ingest, {leaf_sql(CURRENT_FORM)} AS leaf
    FROM events WHERE kafka_cluster_id = {{cluster:String}} AND ({{ranges}})
    ORDER BY kafka_partition, tenant_id, kafka_topic_id, id, ingest
    {SORT_HASHES}, max_threads = 1
"""
_WEIGHTS: Final = """
    SELECT kafka_partition, sum(n) AS rows, max(n) AS largest, min(oldest) AS oldest FROM (
        SELECT kafka_partition, tenant_id, count() AS n, toUnixTimestamp64Milli(min(ingest_time)) AS oldest
        FROM events WHERE kafka_cluster_id = {cluster:String} AND ({ranges})
        GROUP BY kafka_partition, tenant_id
    ) GROUP BY kafka_partition
"""


@dataclass(frozen=True, slots=True)
class Weight:
    """What is new in a partition.

    Parameters
    ----------
    rows, largest
        In all, and of the tenant with the most.
    oldest_ms
        ``ingest_time`` of the first.
    """

    rows: int
    largest: int
    oldest_ms: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Offsets of one partition to seal: topic id to topic, first offset and the one after the last."""

    partition: int
    topics: Mapping[str, tuple[str, int, int]]

    def cut(self, share: float) -> "Stretch":
        """Return the beginning of each topic's offsets."""
        return Stretch(
            self.partition,
            {
                topic_id: (topic, first, min(end, first + max(int((end - first) * share), 1)))
                for topic_id, (topic, first, end) in self.topics.items()
            },
        )

    @property
    def offsets(self) -> int:
        """How many there are."""
        return sum(end - first for _, first, end in self.topics.values())


class Sealing:
    """Makes and stores seals of a Kafka cluster's partitions.

    Parameters
    ----------
    database, ids
        Where, and of which cluster.
    """

    def __init__(self, database: Database, ids: KafkaIds) -> None:
        self._database = database
        self._ids = ids

    def heads(self, partitions: Iterable[int]) -> dict[ChainId, Seal]:
        """Return the last seal of each chain of some partitions."""
        return chains.heads(self._database, self._ids.cluster_id, set(partitions))

    def partition_chain(self, partition: int) -> ChainId:
        """Return the id of a partition's own chain."""
        return ChainId("", self._ids.cluster_id, partition)

    def stretch(self, partition: int, head: Seal | None, ends: Mapping[str, int]) -> Stretch:
        """Return what of a partition is new.

        Parameters
        ----------
        head
            Of the partition's own chain.
        ends
            Topic to the committed offset.
        """
        position = head.position if head else {}
        topics = {}
        for topic, end in ends.items():
            topic_id = self._ids.topic_ids[topic]
            first = position.get(topic_id, 0)
            # A store that was restored can be ahead of Kafka's commit; never go back.
            topics[topic_id] = (topic, first, max(first, end))
        return Stretch(partition, topics)

    def weigh(self, stretches: Sequence[Stretch]) -> dict[int, Weight]:
        """Return how much is new, by partition; those without a row are left out."""
        rows = self._database.query(_WEIGHTS.replace("{ranges}", _ranges(stretches)), self._bound())
        return {row["kafka_partition"]: Weight(row["rows"], row["largest"], row["oldest"]) for row in rows}

    def seal(
        self,
        stretches: Sequence[Stretch],
        heads: Mapping[ChainId, Seal],
        signer: Signer,
        now: datetime,
        guard: Guard | None = None,
    ) -> list[Seal]:
        """Seal stretches, and return the new heads of every chain that went on.

        Raises
        ------
        Fenced, StoreUnavailable
            As `chains.keep`.
        """
        made = self.make(stretches, heads, signer, now)
        chains.keep(self._database, made, guard)
        return [seal for seal, _ in made]

    def make(
        self, stretches: Sequence[Stretch], heads: Mapping[ChainId, Seal], signer: Signer, now: datetime
    ) -> list[chains.WithContents]:
        """Return the seals of stretches with their contents."""
        new = _read(
            self._database.query_arrow(_NEW_ROWS.replace("{ranges}", _ranges(stretches)), self._bound())
        )
        made: list[chains.WithContents] = []
        for stretch in stretches:
            reached = {topic_id: (topic, end) for topic_id, (topic, _, end) in stretch.topics.items()}
            own = self.partition_chain(stretch.partition)
            at = _after(now, heads.get(own))
            members, total, spans = [], Counter[str](), []
            for tenant_id, rows, counts, span in new.get(stretch.partition, []):
                chain = ChainId(tenant_id, self._ids.cluster_id, stretch.partition)
                contents = rows.pack()
                seal = next_seal(chain, heads.get(chain), reached, counts, contents, span, at, signer)
                made.append((seal, contents))
                members.append(Member(tenant_id, seal.sequence, seal.digest))
                total.update(counts)
                spans.append(span)
            contents = pack_members(members)
            span = (min(s[0] for s in spans), max(s[1] for s in spans)) if spans else (0, 0)
            seal = next_seal(own, heads.get(own), reached, total, contents, span, at, signer)
            made.append((seal, contents))
        return made

    def _bound(self) -> dict[str, Any]:
        return {"cluster": self._ids.cluster_id}


def _after(now: datetime, head: Seal | None) -> datetime:
    """Return now, or a moment after the last round where clocks differ: rounds can be told apart by it."""
    if head is None:
        return now
    return max(now, datetime.fromisoformat(head.sealed_at) + timedelta(milliseconds=1))


def _ranges(stretches: Iterable[Stretch]) -> str:
    # Topic ids are Kafka's own, and partitions and offsets are numbers; quoted all the same.
    each = " OR ".join(
        f"(kafka_topic_id = {str_query_value(topic_id)} AND kafka_topic = {str_query_value(topic)} "
        f"AND kafka_partition = {stretch.partition} AND kafka_offset >= {first} AND kafka_offset < {end})"
        for stretch in stretches
        for topic_id, (topic, first, end) in stretch.topics.items()
        if end > first
    )
    return each or "0"


_OfTenant = tuple[str, Rows, dict[str, int], tuple[int, int]]


def _read(stream: bytes) -> dict[int, list[_OfTenant]]:
    """Return, by partition, each tenant's rows, their numbers by topic id, and the span of `ingest_time`."""
    table = pa.ipc.open_stream(stream).read_all().combine_chunks() if stream else None
    if table is None or not table.num_rows:
        return {}
    partition, ids, aged, ingest = (
        table[name].to_numpy() for name in ("kafka_partition", "id", "aged", "ingest")
    )
    leaves = leaves_of(table["leaf"])
    tenant, tenant_ids = codes(table["tenant_id"])
    topic, topic_ids = codes(table["kafka_topic_id"])
    columns = [partition, tenant, topic, ids.astype(np.int64, copy=False), aged, ingest, leaves]
    changed = _changed(columns)
    copies = (ids[1:] == ids[:-1]) & ~changed
    if copies.any():
        kept = np.concatenate(([True], ~copies))
        columns = [column[kept] for column in columns]
        changed = _changed(columns)
    partition, tenant, topic, ids, aged, ingest, leaves = columns
    found: dict[int, list[_OfTenant]] = {}
    counts: dict[str, int] = {}
    first = 0
    starts = [0, *(np.flatnonzero(changed) + 1).tolist(), len(ids)]
    for start, end in pairwise(starts):
        counts[topic_ids[topic[start]]] = end - start
        goes_on = end < len(ids) and tenant[end] == tenant[start] and partition[end] == partition[start]
        if goes_on:
            continue  # with another topic
        rows, span = Rows(ids[first:end], aged[first:end], leaves[first:end]), ingest[first:end]
        found.setdefault(int(partition[start]), []).append(
            (tenant_ids[tenant[start]], rows, counts, (int(span.min()), int(span.max())))
        )
        first, counts = end, {}
    return found


def _changed(columns: Sequence[Any]) -> Any:
    """Return ``(n - 1,)`` whether a row is of another partition, tenant or topic than the one before it."""
    partition, tenant, topic = columns[:3]
    return (partition[1:] != partition[:-1]) | (tenant[1:] != tenant[:-1]) | (topic[1:] != topic[:-1])


def codes(column: Any) -> tuple[Int64s, list[str]]:
    """Return ``(n,)`` codes of texts, and the texts."""
    encoded = pc.dictionary_encode(column.cast(pa.string()).combine_chunks())
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()


def leaves_of(column: Any) -> Any:
    """Return ``(n,)`` hashes of a column of fixed width."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    return np.frombuffer(array.buffers()[1], LEAF, len(array), array.offset * LEAF.itemsize)
