"""Versions of tenants' settings that go on when the topic they are told in is another one.

A version is an offset in ``audit.tenants``, and the highest is the one that holds. Where Kafka was wiped
beside a kept store, offsets begin again: without this the settings of the old topic would hold for ever, for
retention and for the API, and the new ones would overwrite rows that old events refer to.
"""

from datetime import UTC, datetime
from typing import Final

from store.database import Database

# No topic has more offsets than this between two wipes.
OFFSETS: Final = 1 << 40


def first_version(database: Database, cluster_id: str, topic_id: str) -> int:
    """Return the version of offset 0 of a topic ``audit.tenants``; one that is new is remembered.

    Two workers that meet a new topic together find the same.

    Parameters
    ----------
    cluster_id, topic_id
        Kafka's own: they tell a topic from one of the same name before it.

    Raises
    ------
    StoreUnavailable
        If the store does not answer.
    """
    numbers = {
        (row["kafka_cluster_id"], row["kafka_topic_id"]): int(row["number"])
        for row in database.query("SELECT * FROM directories FINAL")
    }
    number = numbers.get((cluster_id, topic_id))
    if number is None:
        number = max(numbers.values(), default=-1) + 1
        row = {"kafka_cluster_id": cluster_id, "kafka_topic_id": topic_id, "number": number}
        database.insert_rows("directories", [{**row, "met_at": datetime.now(UTC)}])
    return number * OFFSETS
