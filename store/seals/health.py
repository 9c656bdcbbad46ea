"""What `tenantwatch doctor` and `reconcile` ask of the seals."""

from datetime import UTC, datetime
from typing import Any, Final

from store.database import Database

# Where a partition was sealed last, by topic; the newest seal of its own chain has every topic's position.
_HEADS: Final = """
    SELECT kafka_cluster_id, kafka_partition, argMax(body, sequence) AS newest
    FROM seals WHERE tenant_id = '' GROUP BY kafka_cluster_id, kafka_partition
"""
_POSITIONS: Final = f"""
    SELECT kafka_cluster_id, kafka_partition, tupleElement(interval, 1) AS kafka_topic_id,
        tupleElement(interval, 4) AS position
    FROM (
        SELECT kafka_cluster_id, kafka_partition, arrayJoin(
            JSONExtract(newest, 'intervals', 'Array(Tuple(String, String, Int64, Int64, Int64))')) AS interval
        FROM ({_HEADS})
    )
"""
# Of the last day: older rows without a seal are for `verify` to find.
_UNSEALED: Final = f"""
    SELECT count() AS rows, min(ingest_time) AS oldest FROM (
        SELECT kafka_cluster_id, kafka_partition, kafka_topic_id, kafka_offset, ingest_time FROM events
        WHERE ingest_time > now() - INTERVAL 1 DAY
    ) AS recent
    LEFT JOIN ({_POSITIONS}) AS sealed USING (kafka_cluster_id, kafka_partition, kafka_topic_id)
    WHERE kafka_offset >= sealed.position
"""


def seals_health(database: Database) -> dict[str, Any]:
    """Return how far the trail is sealed.

    Returns
    -------
    dict
        ``partitions`` and ``seals`` there are; ``sealed_at`` of the newest; ``key_ids`` that signed in
        the last day; ``unsealed`` rows of the last
        day, and ``unsealed_age_s`` of the oldest of them.
    """
    [made] = database.query(
        "SELECT count() AS seals, "
        "uniqExactIf((kafka_cluster_id, kafka_partition), tenant_id = '') AS partitions, "
        "max(sealed_at) AS sealed_at FROM seals"
    )
    [waiting] = database.query(_UNSEALED)
    signed = database.query(
        "SELECT DISTINCT JSONExtractString(body, 'key_id') AS key_id FROM seals "
        "WHERE tenant_id = '' AND sealed_at > now() - INTERVAL 1 DAY ORDER BY key_id"
    )
    unsealed = int(waiting["rows"] or 0)
    age_s = (datetime.now(UTC) - waiting["oldest"]).total_seconds() if unsealed else 0.0
    return {
        "seals": made["seals"],
        "partitions": made["partitions"],
        "sealed_at": made["sealed_at"] if made["seals"] else None,
        "key_ids": [row["key_id"] for row in signed],
        "unsealed": unsealed,
        "unsealed_age_s": round(max(age_s, 0.0), 1),
    }
