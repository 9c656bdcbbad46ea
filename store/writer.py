"""What a worker writes: groups of handled chunks, each insert durable before it returns."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from schemas.alert import Alert
from schemas.batch import EventBatch
from store.database import Database
from store.events import KafkaIds, encode


class EventWriter:
    """Inserts events, dead letters, ledger rows, alerts and tenants.

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

    def encode_events(self, batches: Sequence[EventBatch]) -> list[tuple[list[str], bytes]]:
        """Return one block of rows for each topic."""
        blocks = []
        for topic in sorted({batch.topic for batch in batches}):
            chosen = [batch for batch in batches if batch.topic == topic and len(batch)]
            if chosen:
                blocks.append(encode(chosen[0].kind, chosen, self._ids))
        return blocks

    def insert_events(self, columns: Sequence[str], payload: bytes) -> None:
        """Insert a block made by `encode_events`."""
        self._database.insert("events", columns, payload)

    def insert_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Insert dead letters or ledger rows; the Kafka ids are filled in."""
        self._database.insert_rows(table, [{**row, **self._identity(row["kafka_topic"])} for row in rows])

    def _identity(self, topic: str) -> dict[str, str]:
        return {
            "kafka_cluster_id": self._ids.cluster_id,
            "kafka_topic_id": self._ids.topic_ids.get(topic, ""),
        }

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
