"""Reading what verification compares, from the store: seals, statements, and rows with their hashes."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from store.database import Database
from store.parts import in_parts
from store.seals import chains
from store.seals.canonical import LEAF_BYTES, leaf_sql
from store.seals.comparison import Stored, TopicKey
from store.seals.seal import ChainId, Seal
from store.seals.sealing import ID_SQL, SORT_HASHES, codes, leaves_of
from store.seals.statements import Statement, read_shreddings, read_statements

_ROWS: Final = """
    SELECT tenant_id, kafka_cluster_id, kafka_partition, kafka_topic_id, kafka_topic,
        {id} AS id, {leaf} AS leaf{more}
    FROM events WHERE {condition}
    ORDER BY tenant_id, kafka_cluster_id, kafka_partition, kafka_topic_id, kafka_topic, id
    {settings}
"""

_INGEST: Final = ", toUnixTimestamp64Milli(ingest_time) AS ingest"


class Trail(Protocol):
    """Where seals and rows are: the store, or a bundle that was exported."""

    # Whether every chain must begin with its first seal, and be named by its partition's chain.
    complete: bool

    def tenants(self, tenant_id: str | None) -> Mapping[str, int]:
        """Return whose seals or rows there are, and how many rows."""

    def seals(self, tenant_ids: Sequence[str]) -> tuple[list[Seal], list[Mapping[str, Any]]]:
        """Return seals, and what stands in their place and is none."""

    def contents(self, chain: ChainId, first: int, last: int) -> Mapping[int, list[bytes]]:
        """Return the contents of a chain's seals, by sequence number."""

    def all_contents(self, tenant_ids: Sequence[str]) -> Mapping[ChainId, Mapping[int, list[bytes]]]:
        """Return the contents of all seals of some tenants, by chain and sequence number."""

    def statements(self) -> tuple[list[Statement], int]:
        """Return signed statements, and how many things in their place are none."""

    def shredded(self) -> Mapping[str, set[str]]:
        """Return by tenant the pseudonyms of people who were forgotten, besides what statements say."""

    def rows(self, tenant_ids: Sequence[str], form: int) -> dict[str, dict[TopicKey, Stored]]:
        """Return all rows of some tenants, by tenant."""

    def rows_of(self, seals: Sequence[Seal], form: int) -> dict[TopicKey, Stored]:
        """Return the rows in the offsets of a run of one chain's seals."""

    def loose(
        self, tenant_id: str, covered: Mapping[TopicKey, Sequence[tuple[int, int]]]
    ) -> dict[TopicKey, Stored]:
        """Return a tenant's rows outside some offsets, without their hashes but with `ingest_ms`."""

    def ledger_ends(self) -> Mapping[tuple[str, int, str], int]:
        """Return where the ledger ends, by cluster, partition and topic id."""

    def rows_with(self, tenant_id: str, user_ids: Sequence[str]) -> int:
        """Return how many rows of a tenant name some users."""


class StoredTrail:
    """The trail in the store.

    Parameters
    ----------
    database
        Which.
    since, until
        `loose` returns only rows of this span of ``ingest_time``.
    """

    complete = True

    def __init__(
        self, database: Database, since: datetime | None = None, until: datetime | None = None
    ) -> None:
        self._database = database
        self._since, self._until = since, until

    def tenants(self, tenant_id: str | None) -> Mapping[str, int]:
        chosen = "1" if tenant_id is None else "tenant_id = {tenant:String}"
        rows = self._database.query(
            f"SELECT tenant_id, sum(n) AS n FROM ("
            f"SELECT tenant_id, toInt64(count()) AS n FROM events WHERE {chosen} GROUP BY tenant_id "
            "UNION ALL SELECT tenant_id, sum(rows) AS n FROM seals "
            f"WHERE {chosen} AND tenant_id != '' GROUP BY tenant_id"
            ") GROUP BY tenant_id ORDER BY tenant_id",
            {} if tenant_id is None else {"tenant": tenant_id},
        )
        return {row["tenant_id"]: row["n"] for row in rows}

    def seals(self, tenant_ids: Sequence[str]) -> tuple[list[Seal], list[Mapping[str, Any]]]:
        seals, broken = chains.read_seals(self._database, tenant_ids)
        return seals, list(broken)

    def contents(self, chain: ChainId, first: int, last: int) -> Mapping[int, list[bytes]]:
        return chains.read_contents(self._database, chain, first, last)

    def all_contents(self, tenant_ids: Sequence[str]) -> Mapping[ChainId, Mapping[int, list[bytes]]]:
        return chains.read_all_contents(self._database, tenant_ids)

    def statements(self) -> tuple[list[Statement], int]:
        return read_statements(self._database)

    def shredded(self) -> Mapping[str, set[str]]:
        return read_shreddings(self._database)

    def rows(self, tenant_ids: Sequence[str], form: int) -> dict[str, dict[TopicKey, Stored]]:
        found: dict[str, dict[TopicKey, Stored]] = {}
        bound = {"tenants": list(tenant_ids)}
        for key, stored in self._read("tenant_id IN {tenants:Array(String)}", bound, leaf_sql(form)):
            found.setdefault(key.chain.tenant_id, {})[key] = stored
        return found

    def loose(
        self, tenant_id: str, covered: Mapping[TopicKey, Sequence[tuple[int, int]]]
    ) -> dict[TopicKey, Stored]:
        bound: dict[str, Any] = {"tenant": tenant_id}
        condition = "tenant_id = {tenant:String}"
        for n, (key, intervals) in enumerate(covered.items()):
            names = {f"c{n}": key.chain.cluster_id, f"t{n}": key.topic_id, f"n{n}": key.topic}
            bound |= names
            offsets = " OR ".join(f"(kafka_offset >= {a} AND kafka_offset < {b})" for a, b in intervals)
            condition += (
                f" AND NOT (kafka_cluster_id = {{c{n}:String}} AND kafka_topic_id = {{t{n}:String}} "
                f"AND kafka_topic = {{n{n}:String}} AND kafka_partition = {key.chain.partition} "
                f"AND ({offsets or '0'}))"
            )
        if self._since is not None:
            condition += " AND ingest_time >= {since:DateTime64(3)}"
            bound["since"] = self._since
        if self._until is not None:
            condition += " AND ingest_time < {until:DateTime64(3)}"
            bound["until"] = self._until
        return dict(self._read(condition, bound, f"toFixedString('', {LEAF_BYTES})", _INGEST))

    def ledger_ends(self) -> Mapping[tuple[str, int, str], int]:
        rows = self._database.query(
            "SELECT kafka_cluster_id, kafka_partition, kafka_topic_id, max(last_offset) + 1 AS position "
            "FROM ledger GROUP BY kafka_cluster_id, kafka_partition, kafka_topic_id"
        )
        return {
            (row["kafka_cluster_id"], row["kafka_partition"], row["kafka_topic_id"]): row["position"]
            for row in rows
        }

    def rows_of(self, seals: Sequence[Seal], form: int) -> dict[TopicKey, Stored]:
        condition, bound = condition_of_run(seals)
        return dict(self._read(condition, bound, leaf_sql(form)))

    def rows_with(self, tenant_id: str, user_ids: Sequence[str]) -> int:
        rows = 0
        for part in in_parts(user_ids):
            [row] = self._database.query(
                "SELECT count() AS n FROM events "
                "WHERE tenant_id = {tenant:String} AND user_id IN {users:Array(String)}",
                {"tenant": tenant_id, "users": part},
            )
            rows += int(row["n"])
        return rows

    def _read(
        self, condition: str, bound: Mapping[str, Any], leaf: str, more: str = ""
    ) -> Iterator[tuple[TopicKey, Stored]]:
        sql = _ROWS.format(id=ID_SQL, leaf=leaf, more=more, condition=condition, settings=SORT_HASHES)
        yield from grouped(self._database.query_arrow(sql, bound))


def condition_of_run(seals: Sequence[Seal]) -> tuple[str, dict[str, Any]]:
    """Return the condition of the rows in the offsets of a run of one chain's seals, and its parameters."""
    chain = seals[0].chain
    first = {i.topic_id: i.first for seal in reversed(seals) for i in seal.intervals}
    bound: dict[str, Any] = {
        "tenant": chain.tenant_id,
        "cluster": chain.cluster_id,
        "partition": chain.partition,
    }
    each = []
    for n, interval in enumerate(seals[-1].intervals):
        bound |= {
            f"topic{n}": interval.topic_id,
            f"first{n}": first[interval.topic_id],
            f"end{n}": interval.next,
        }
        each.append(
            f"(kafka_topic_id = {{topic{n}:String}} AND kafka_offset >= {{first{n}:Int64}} "
            f"AND kafka_offset < {{end{n}:Int64}})"
        )
    condition = (
        "tenant_id = {tenant:String} AND kafka_cluster_id = {cluster:String} "
        f"AND kafka_partition = {{partition:Int32}} AND ({' OR '.join(each)})"
    )
    return condition, bound


def grouped(stream: bytes) -> Iterator[tuple[TopicKey, Stored]]:
    """Yield rows by chain and topic, from an Arrow stream in that order."""
    table = pa.ipc.open_stream(stream).read_all().combine_chunks() if stream else None
    if table is None or not table.num_rows:
        return
    tenants, clusters, topic_ids, topics = (
        codes(table[name]) for name in ("tenant_id", "kafka_cluster_id", "kafka_topic_id", "kafka_topic")
    )
    partitions = table["kafka_partition"].to_numpy()
    ids = table["id"].to_numpy().astype(np.int64, copy=False)
    leaves = leaves_of(table["leaf"])
    ingest = table["ingest"].to_numpy() if "ingest" in table.column_names else None
    changed = np.zeros(max(len(ids) - 1, 0), bool)
    for column in (tenants[0], clusters[0], topic_ids[0], topics[0], partitions):
        changed |= np.diff(column) != 0
    changes = (np.flatnonzero(changed) + 1).tolist()
    for first, end in zip([0, *changes], [*changes, len(ids)], strict=True):
        chain = ChainId(
            tenants[1][tenants[0][first]], clusters[1][clusters[0][first]], int(partitions[first])
        )
        key = TopicKey(chain, topic_ids[1][topic_ids[0][first]], topics[1][topics[0][first]])
        came = ingest[first:end] if ingest is not None else None
        yield key, Stored(ids[first:end], leaves[first:end], came)
