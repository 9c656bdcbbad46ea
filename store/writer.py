"""What a worker writes: groups of handled chunks, each insert durable before it returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np

from schemas.alert import Alert
from schemas.batch import EventBatch
from store.database import Database, Guard
from store.events import KafkaIds, encode
from store.native import FORMAT
from store.ownership import Claim, Ownership

# Fewer rows than these are one insert, of whatever topics. An insert costs the engine some 20 ms, and what it
# writes is merged later; of more rows, sorting those of all topics together would cost more.
FEW_ROWS: Final = 10_000


@dataclass(frozen=True, slots=True)
class EventBlock:
    """Rows that are inserted together: those of one topic, or of several if they are few.

    Parameters
    ----------
    batches, claims
        Whose rows, and under which claims their partitions are held.
    columns, payload
        The rows, encoded.
    guard
        Refuses them when a partition has another owner by now.
    """

    batches: list[EventBatch]
    claims: list[Claim]
    columns: list[str]
    payload: bytes
    guard: Guard


class EventWriter:
    """Inserts events, dead letters, ledger rows and alerts.

    Parameters
    ----------
    database
        Where.
    ids
        Identity of the Kafka cluster and its topics; part of each row.
    """

    def __init__(self, database: Database, ids: KafkaIds) -> None:
        self._database = database
        self._ids = ids
        self._ownership = Ownership(database, ids)

    def encode_events(self, chunks: Sequence[tuple[EventBatch, Claim]]) -> list[EventBlock]:
        """Return one block of rows for each topic, or for all if they are few."""
        by_topic: dict[str, list[tuple[EventBatch, Claim]]] = {}
        for batch, claim in chunks:
            if len(batch):
                by_topic.setdefault(batch.topic, []).append((batch, claim))
        topics = [chosen for _, chosen in sorted(by_topic.items())]
        few = sum(len(batch) for batch, _ in chunks) < FEW_ROWS
        return [self._block(topics)] if few and topics else [self._block([chosen]) for chosen in topics]

    def _block(self, topics: Sequence[Sequence[tuple[EventBatch, Claim]]]) -> EventBlock:
        chunks = [chunk for chosen in topics for chunk in chosen]
        encoded = [encode(chosen[0][0].kind, [batch for batch, _ in chosen], self._ids) for chosen in topics]
        # The Native format is of any number of blocks, and what one of them lacks has its default.
        columns = list(dict.fromkeys(name for names, _ in encoded for name in names))
        payload = b"".join(payload for _, payload in encoded)
        batches, claims = [batch for batch, _ in chunks], [claim for _, claim in chunks]
        return EventBlock(batches, claims, columns, payload, self._ownership.guard(claims))

    def insert_events(self, block: EventBlock) -> None:
        """Insert a block made by `encode_events`.

        Raises
        ------
        Fenced
            If another worker owns one of its partitions by now.
        """
        self._database.insert("events", block.columns, block.payload, FORMAT, block.guard)

    def remaining(self, block: EventBlock) -> list[EventBlock]:
        """Return what is left of a block whose insert failed in a way that tells nothing of its outcome."""
        self._ownership.end_insert(block.guard.query_id)
        spans: dict[str, dict[int, tuple[int, int]]] = {}
        for batch in block.batches:
            first, last = int(batch.offset[0]), int(batch.offset[-1])
            low, high = spans.setdefault(batch.topic, {}).get(batch.partition, (first, last))
            spans[batch.topic][batch.partition] = min(first, low), max(last, high)
        stored = {topic: self._ownership.stored_between(topic, spans[topic]) for topic in spans}
        chunks = []
        for batch, claim in zip(block.batches, block.claims, strict=True):
            found = stored[batch.topic].get(batch.partition)
            if found is not None:
                known, _ = found.find(batch.offset, batch.message_index)
                batch = batch.select(np.flatnonzero(~known)) if known.any() else batch
            chunks.append((batch, claim))
        return self.encode_events(chunks)

    def insert_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Insert dead letters or ledger rows; the Kafka ids are filled in."""
        self._database.insert_rows(table, [row | self._ids.columns(row["kafka_topic"]) for row in rows])

    def insert_alerts(self, alerts: Sequence[Alert]) -> None:
        """Insert alert revisions; a repeated one replaces itself."""
        self._database.insert_rows("alerts", [alert_row(alert) for alert in alerts])


def alert_row(alert: Alert) -> dict[str, Any]:
    """Return the row of a revision."""
    return {
        "tenant_id": alert.tenant_id,
        "alert_id": alert.alert_id,
        "revision": alert.revision,
        "status": alert.status,
        "detector": alert.detector,
        "classification": alert.classification,
        "severity": alert.severity,
        "entity_type": alert.entity.type,
        "entity_value": alert.entity.value,
        "first_time": alert.first_time,
        "last_time": alert.last_time,
        "detected_at": alert.detected_at,
        "published_at": alert.published_at or datetime.now(UTC),
        "event_count": alert.event_count,
        "score": alert.score,
        "threshold": alert.threshold,
        "summary": alert.summary,
        "body": alert.model_dump_json(),
    }
