"""Stored rows as event batches again: what detectors fold to catch up with the committed offset."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import numpy as np

from detectors.tuning import tuned
from schemas.batch import FIELDS, Coded, Column, EventBatch
from schemas.event import Kind
from schemas.tenant import Tenant
from schemas.tuning import Tuning
from store.database import Database
from store.events import KafkaIds
from store.ownership import OF_TOPIC, bound
from store.parts import in_parts
from store.tuning import read_tunings

# So many offsets are counted by one query, and so many rows read by another: bounded memory, and few queries.
# A message has up to 1,000 rows, so offsets alone bound little.
OFFSETS_PER_QUERY: Final = 50_000
ROWS_PER_QUERY: Final = 50_000
_BETWEEN: Final = (
    f"{OF_TOPIC} AND kafka_partition = {{partition:Int32}} "
    "AND kafka_offset >= {first:Int64} AND kafka_offset < {stop:Int64}"
)
_SETTINGS: Final = (
    "SELECT tenant_id, version, body FROM tenants FINAL "
    "WHERE tenant_id IN {tenants:Array(String)} AND NOT deleted"
)
# Numbers and the text of attributes are stored as they are; of other texts, '' is one that was not there.
AS_STORED: Final = frozenset(
    {"attributes", "record_count", "http_status", "duration_ms", "bytes_in", "bytes_out"}
)


class Tail:
    """Reads the stored rows of a topic's partitions in the order in which they were received.

    Parameters
    ----------
    database, ids
        Where the rows are, and whose.
    fallback
        Returns a tenant's settings of now, for rows whose version of them is nowhere stored.
    tuning
        The operator's overrides of now, for rows of which the same is true.
    """

    def __init__(
        self,
        database: Database,
        ids: KafkaIds,
        fallback: Callable[[str], Tenant | None],
        tuning: Tuning = Tuning(),  # noqa: B008 - frozen
    ) -> None:
        self._database = database
        self._ids = ids
        self._fallback = fallback
        self._tuning = tuning
        self._settings: dict[tuple[str, int, int], Tenant] = {}

    def batches(self, kind: Kind, topic: str, partition: int, first: int, stop: int) -> Iterator[EventBatch]:
        """Yield batches of the rows with offsets from `first` up to, not including, `stop`.

        They are enriched with the settings that the events were enriched with when they came, and carry the
        flags that they were given.
        """
        for start in range(first, stop, OFFSETS_PER_QUERY):
            end = min(start + OFFSETS_PER_QUERY, stop)
            for low, high in self._ranges(topic, partition, start, end):
                columns = self._read(kind, topic, partition, low, high)
                yield from self._cut(kind, topic, partition, columns)

    def first_since(self, topic: str, partition: int, before: int, since: datetime) -> int:
        """Return the first offset of the rows that arrived since a time; `before` where there is none.

        Parameters
        ----------
        before
            Only rows with lower offsets count.
        """
        row = self._database.query(
            f"SELECT count() AS n, min(kafka_offset) AS first FROM events WHERE {OF_TOPIC} "
            "AND kafka_partition = {partition:Int32} AND kafka_offset < {before:Int64} "
            "AND ingest_time >= {since:DateTime64(3)}",
            {**bound(self._ids, topic), "partition": partition, "before": before, "since": since},
        )[0]
        return int(row["first"]) if row["n"] else before

    def _ranges(self, topic: str, partition: int, first: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield ranges of offsets that have rows, none with more than a query should read."""
        counts = self._database.query_columns(
            f"SELECT kafka_offset, count() AS rows FROM events WHERE {_BETWEEN} "
            "GROUP BY kafka_offset ORDER BY kafka_offset",
            {**bound(self._ids, topic), "partition": partition, "first": first, "stop": stop},
        )
        low, held = first, 0
        for offset, rows in zip(counts["kafka_offset"], counts["rows"], strict=True):
            if held and held + rows > ROWS_PER_QUERY:
                yield low, offset
                low, held = offset, 0
            held += rows
        if held:
            yield low, stop

    def _read(
        self, kind: Kind, topic: str, partition: int, first: int, stop: int
    ) -> Mapping[str, Sequence[Any]]:
        names = ", ".join(FIELDS[kind])
        return self._database.query_columns(
            f"SELECT {names}, toUnixTimestamp64Milli(time) AS time_ms, kafka_offset, message_index, flags, "
            f"tenant_version, tuning_version FROM events WHERE {_BETWEEN} "
            # A row that is there twice, which reconciliation has yet to find, was folded once.
            "ORDER BY kafka_offset, message_index LIMIT 1 BY kafka_offset, message_index",
            {**bound(self._ids, topic), "partition": partition, "first": first, "stop": stop},
        )

    def _cut(
        self, kind: Kind, topic: str, partition: int, columns: Mapping[str, Sequence[Any]]
    ) -> Iterator[EventBatch]:
        """Cut where settings change: a batch has one version of each tenant's, and of the overrides."""
        tenants, versions = columns["tenant_id"], columns["tenant_version"]
        tunings = columns["tuning_version"]
        start = 0
        held: dict[str, int] = {}
        for row, (tenant_id, version) in enumerate(zip(tenants, versions, strict=True)):
            if held.setdefault(tenant_id, version) != version or tunings[row] != tunings[start]:
                yield self._batch(kind, topic, partition, columns, slice(start, row), held)
                start, held = row, {tenant_id: version}
        if start < len(tenants):
            yield self._batch(kind, topic, partition, columns, slice(start, len(tenants)), held)

    def _batch(
        self,
        kind: Kind,
        topic: str,
        partition: int,
        columns: Mapping[str, Sequence[Any]],
        rows: slice,
        versions: Mapping[str, int],
    ) -> EventBatch:
        tenant = Coded.encode(columns["tenant_id"][rows])
        tuning = int(columns["tuning_version"][rows.start])
        settings = self._settings_of({(t, versions[t], tuning) for t in tenant.values})
        flags = np.array(columns["flags"][rows], np.uint8)
        return EventBatch(
            kind,
            {name: _values(name, columns[name][rows]) for name in FIELDS[kind]},
            np.array(columns["time_ms"][rows], np.int64),
            np.array(columns["kafka_offset"][rows], np.int64),
            np.array(columns["message_index"][rows], np.int32),
            topic,
            partition,
            tenants=tuple(settings[t, versions[t], tuning] for t in tenant.values),
            tenant_versions=tuple(versions[t] for t in tenant.values),
            tuning_version=tuning,
            evaluated=flags == 0,
            flags=flags,
            _tenant=tenant,
        )

    def _settings_of(self, wanted: set[tuple[str, int, int]]) -> dict[tuple[str, int, int], Tenant]:
        missing = wanted - self._settings.keys()
        if missing:
            stored = {
                (row["tenant_id"], row["version"]): Tenant.model_validate_json(row["body"])
                for part in in_parts({tenant_id for tenant_id, _, _ in missing})
                for row in self._database.query(_SETTINGS, {"tenants": part})
            }
            tunings = read_tunings(self._database)
            for tenant_id, version, tuning in missing:
                told = stored.get((tenant_id, version))
                now = self._fallback(tenant_id) or Tenant(tenant_id=tenant_id, organization_id="-", name="-")
                self._settings[tenant_id, version, tuning] = (
                    tuned(told, tunings.get(tuning, self._tuning)) if told else now
                )
        return self._settings


def _values(name: str, column: Sequence[Any]) -> Column:
    return list(column) if name in AS_STORED else [value or None for value in column]
