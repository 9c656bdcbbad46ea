"""Rows that are stored twice: none should be, and what slips through all the same is collapsed."""

from typing import Final

from store.database import Database
from store.events import KafkaIds
from store.ownership import OF_TOPIC, bound

# Copies of one event after the first. They differ in nothing but where they are and when they came.
_COPIES: Final = f"""
    SELECT _part, _part_offset FROM (
        SELECT _part, _part_offset, row_number() OVER (
            PARTITION BY kafka_offset, message_index ORDER BY ingest_time, _part, _part_offset
        ) AS copy
        FROM events WHERE {OF_TOPIC} AND kafka_partition = {{partition:Int32}}
    ) WHERE copy > 1
"""


def collapse(database: Database, ids: KafkaIds, topic: str, partition: int) -> int:
    """Remove all copies but the first of each event of a partition; return how many went."""
    parameters = {**bound(ids, topic), "partition": partition}
    copies = int(database.query(f"SELECT count() AS n FROM ({_COPIES})", parameters)[0]["n"])
    if copies:
        database.command(
            f"DELETE FROM events WHERE {OF_TOPIC} AND kafka_partition = {{partition:Int32}} "
            f"AND (_part, _part_offset) IN ({_COPIES})",
            parameters,
        )
    return copies
