"""Snapshots of detector state, each with the offset that it stands for."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa

from store.database import Database
from store.events import KafkaIds
from store.native import FORMAT, encode_block
from store.ownership import OF_TOPIC, bound


@dataclass(frozen=True, slots=True)
class Part:
    """One detector's state, or another part of a partition's.

    Parameters
    ----------
    name
        Of the detector, or ``admission``, ``placement``, ``address_credit``; of ``audit.failures-by-ip``:
        ``reached``, ``spray_across_tenants``.
    format_version
        Raised whenever the same bytes would mean something else.
    state
        Bytes.
    """

    name: str
    format_version: int
    state: bytes


class Snapshots:
    """The table ``snapshots`` of one Kafka cluster.

    Parameters
    ----------
    database, ids
        Where, and whose.
    """

    def __init__(self, database: Database, ids: KafkaIds) -> None:
        self._database = database
        self._ids = ids

    def save(self, topic: str, partition: int, next_offset: int, parts: Sequence[Part]) -> None:
        """Store all parts of a partition's state, in one block: a snapshot is whole or not there."""
        n = len(parts)
        now = int(datetime.now(UTC).timestamp() * 1000)
        arrays = {
            **{name: pa.array([value] * n) for name, value in self._ids.columns(topic).items()},
            "kafka_partition": pa.array([partition] * n, pa.int32()),
            "next_offset": pa.array([next_offset] * n, pa.int64()),
            "detector": pa.array([part.name for part in parts]),
            "format_version": pa.array([part.format_version for part in parts], pa.uint16()),
            "state": pa.array([part.state for part in parts], pa.binary()),
            "created_at": pa.array([now] * n, pa.timestamp("ms", "UTC")),
        }
        self._database.insert("snapshots", list(arrays), encode_block(arrays), FORMAT)

    def newest(self, topic: str, committed: Mapping[int, int]) -> dict[int, int]:
        """Return, by partition, the offset of the newest snapshot that is not beyond the committed one."""
        rows = self._database.query(
            f"SELECT kafka_partition, max(next_offset) AS at FROM snapshots WHERE {OF_TOPIC} "
            f"AND {_any(committed, 'next_offset <=')} GROUP BY kafka_partition",
            bound(self._ids, topic),
        )
        return {row["kafka_partition"]: row["at"] for row in rows}

    def load(self, topic: str, partition: int, next_offset: int) -> list[Part]:
        """Return the parts of a snapshot."""
        # In base64, because clickhouse-connect takes text to be UTF-8.
        rows = self._database.query(
            "SELECT detector, format_version, base64Encode(state) AS state FROM snapshots FINAL "
            f"WHERE {OF_TOPIC} AND kafka_partition = {{partition:Int32}} AND next_offset = {{at:Int64}}",
            {**bound(self._ids, topic), "partition": partition, "at": next_offset},
        )
        return [Part(row["detector"], row["format_version"], b64decode(row["state"])) for row in rows]

    def prune(self, topic: str, committed: Mapping[int, int]) -> None:
        """Remove snapshots older than their partition's newest that is not beyond the committed offset."""
        older = _any(self.newest(topic, committed), "next_offset <")
        condition, parameters = f"{OF_TOPIC} AND {older}", bound(self._ids, topic)
        # One statement for all partitions: each is work of the engine's, however little it deletes.
        if self._database.query(f"SELECT count() AS n FROM snapshots WHERE {condition}", parameters)[0]["n"]:
            self._database.command(f"DELETE FROM snapshots WHERE {condition}", parameters)


def _any(offsets: Mapping[int, int], comparison: str) -> str:
    """Return the condition that a row is of one of some partitions, and how its offset compares there."""
    each = " OR ".join(f"(kafka_partition = {p} AND {comparison} {at})" for p, at in offsets.items())
    return f"({each or '0'})"
