"""Seals in the store: the heads that a worker goes on from, and whole chains."""

from base64 import b64decode
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pyarrow as pa

from store.database import Database, Guard
from store.native import FORMAT, encode_block
from store.seals.seal import ChainId, Seal

_OF_PARTITIONS: Final = "kafka_cluster_id = {cluster:String} AND kafka_partition IN {partitions:Array(Int32)}"
# Bodies are read only of the heads.
_HEADS: Final = f"""
    SELECT body, signature FROM seals WHERE {_OF_PARTITIONS}
    AND (tenant_id, kafka_partition, sequence) IN (
        SELECT tenant_id, kafka_partition, max(sequence) FROM seals WHERE {_OF_PARTITIONS}
        GROUP BY tenant_id, kafka_partition
    )
"""
_MS: Final = pa.timestamp("ms", "UTC")
WithContents = tuple[Seal, bytes]


def heads(database: Database, cluster_id: str, partitions: Collection[int]) -> dict[ChainId, Seal]:
    """Return the last seal of each chain of some partitions."""
    rows = database.query(_HEADS, {"cluster": cluster_id, "partitions": sorted(partitions)})
    seals = [Seal.read(row["body"].encode(), row["signature"]) for row in rows]
    return {seal.chain: seal for seal in seals}


def heads_of_partitions(database: Database) -> list[Seal]:
    """Return the last seal of each partition's own chain, of every Kafka cluster that there has been."""
    rows = database.query(
        "SELECT argMax(body, sequence) AS newest, argMax(signature, sequence) AS signed FROM seals "
        "WHERE tenant_id = '' GROUP BY kafka_cluster_id, kafka_partition "
        "ORDER BY kafka_cluster_id, kafka_partition"
    )
    return [Seal.read(row["newest"].encode(), row["signed"]) for row in rows]


def keep(database: Database, seals: Sequence[WithContents], guard: Guard | None = None) -> None:
    """Store seals with their contents, in one block: all of a round or nothing.

    Raises
    ------
    Fenced
        If another worker owns one of the partitions by now.
    StoreUnavailable
        If the store does not answer; the heads must be read again, because the seals may be there.
    """
    if not seals:
        return
    array = {
        "tenant_id": pa.array([seal.chain.tenant_id for seal, _ in seals]),
        "kafka_cluster_id": pa.array([seal.chain.cluster_id for seal, _ in seals]),
        "kafka_partition": pa.array([seal.chain.partition for seal, _ in seals], pa.int32()),
        "sequence": pa.array([seal.sequence for seal, _ in seals], pa.int64()),
        "rows": pa.array([seal.rows for seal, _ in seals], pa.int64()),
        "first_ingest": pa.array([seal.first_ingest_ms for seal, _ in seals], pa.int64()).cast(_MS),
        "last_ingest": pa.array([seal.last_ingest_ms for seal, _ in seals], pa.int64()).cast(_MS),
        "sealed_at": pa.array([_ms(seal.sealed_at) for seal, _ in seals], pa.int64()).cast(_MS),
        "body": pa.array([seal.body.decode() for seal, _ in seals]),
        "signature": pa.array([seal.signature for seal, _ in seals]),
        "contents": pa.array([contents for _, contents in seals], pa.binary()),
    }
    database.insert("seals", list(array), encode_block(array), FORMAT, guard)


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).astimezone(UTC).timestamp() * 1000)


def read_seals(
    database: Database, tenant_ids: Iterable[str] | None = None
) -> tuple[list[Seal], list[dict[str, Any]]]:
    """Return stored seals in the order of their chains, without contents, and the rows that are no seals.

    Parameters
    ----------
    tenant_ids
        Whose; ``''`` are the partitions' own. None: all.
    """
    chosen = "1" if tenant_ids is None else "tenant_id IN {tenants:Array(String)}"
    rows = database.query(
        f"SELECT tenant_id, kafka_partition, sequence, body, signature FROM seals WHERE {chosen} "
        "ORDER BY tenant_id, kafka_cluster_id, kafka_partition, sequence, body",
        {} if tenant_ids is None else {"tenants": list(tenant_ids)},
    )
    seals, broken = [], []
    for row in rows:
        try:
            seals.append(Seal.read(row["body"].encode(), row["signature"]))
        except ValueError:
            broken.append(row)
    return seals, broken


def read_contents(database: Database, chain: ChainId, first: int, last: int) -> Mapping[int, list[bytes]]:
    """Return the contents of a chain's seals by sequence number, of copies and forks each."""
    # In base64, because clickhouse-connect takes text to be UTF-8.
    rows = database.query(
        "SELECT sequence, base64Encode(contents) AS contents FROM seals WHERE tenant_id = {tenant:String} "
        "AND kafka_cluster_id = {cluster:String} AND kafka_partition = {partition:Int32} "
        "AND sequence BETWEEN {first:Int64} AND {last:Int64}",
        {
            "tenant": chain.tenant_id,
            "cluster": chain.cluster_id,
            "partition": chain.partition,
            "first": first,
            "last": last,
        },
    )
    found: dict[int, list[bytes]] = {}
    for row in rows:
        found.setdefault(row["sequence"], []).append(b64decode(row["contents"]))
    return found


def read_all_contents(database: Database, tenant_ids: Sequence[str]) -> dict[ChainId, dict[int, list[bytes]]]:
    """Return the contents of all seals of some tenants: as `read_contents`, in one query."""
    stream = database.query_arrow(
        "SELECT tenant_id, kafka_cluster_id, kafka_partition, sequence, contents FROM seals "
        "WHERE tenant_id IN {tenants:Array(String)} SETTINGS output_format_arrow_string_as_string = 0",
        {"tenants": list(tenant_ids)},
    )
    found: dict[ChainId, dict[int, list[bytes]]] = {}
    if stream:
        table = pa.ipc.open_stream(stream).read_all()
        for tenant_id, cluster_id, partition, sequence, contents in zip(
            *(column.to_pylist() for column in table.columns), strict=True
        ):
            chain = ChainId(tenant_id.decode(), cluster_id.decode(), partition)
            found.setdefault(chain, {}).setdefault(sequence, []).append(contents)
    return found


def contents_of(stored: Mapping[int, list[bytes]], seal: Seal) -> bytes | None:
    """Return the contents that a seal holds the digest of, if they are there."""
    return next((contents for contents in stored.get(seal.sequence, []) if seal.holds(contents)), None)
