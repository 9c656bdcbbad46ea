"""What Kafka holds: every message of a topic, and how far the consumer group has committed."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from streams.topics import ALERTS, DEAD_LETTERS, FAILURES_BY_IP, TOPIC_OF
from tests.chaos.traffic import BAD

GROUP: Final = "tenantwatch"
Partition = tuple[str, int]
TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Found:
    """A message in a topic."""

    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: Mapping[str, str]

    def event_ids(self) -> dict[int, str]:
        """Return the ids of the events that must be stored, by their position in the message."""
        try:
            parsed = json.loads(self.value or b"")
        except ValueError:
            return {}
        events = parsed if isinstance(parsed, list) else [parsed]
        return {i: e["event_id"] for i, e in enumerate(events) if not e["event_id"].startswith(BAD)}


@contextmanager
def _consumer(bootstrap: str, **more: Any) -> Iterator[Consumer]:
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": GROUP,
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "log_level": 0,
            **more,
        }
    )
    try:
        yield consumer
    finally:
        consumer.close()


def read(bootstrap: str, topic: str) -> list[Found]:
    """Return every committed message of a topic, in offset order within each partition."""
    found: list[Found] = []
    with _consumer(bootstrap, **{"enable.partition.eof": True}) as consumer:
        partitions = consumer.list_topics(topic, TIMEOUT_S).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        left = set(partitions)
        while left:
            message: Any  # confluent-kafka calls everything in it optional
            for message in consumer.consume(1_000, 1.0):
                error = message.error()
                if error is None:
                    headers = {name: text.decode() for name, text in message.headers() or ()}
                    at = (topic, message.partition(), message.offset())
                    found.append(Found(*at, message.value(), headers))
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                else:
                    raise KafkaException(error)
    return found


def ends(messages: Iterable[Found]) -> dict[Partition, int]:
    """Return, by partition, the offset after the last message: what is committed once all are handled."""
    found: dict[Partition, int] = {}
    for message in messages:
        at = (message.topic, message.partition)
        found[at] = max(found.get(at, 0), message.offset + 1)
    return found


class Progress:
    """How far the group has come; one client for many looks."""

    def __init__(self, bootstrap: str, partitions: int) -> None:
        self._all = [
            TopicPartition(topic, number)
            for topic in (*TOPIC_OF.values(), FAILURES_BY_IP, ALERTS)
            for number in range(partitions)
        ]
        self._context = _consumer(bootstrap)
        self._consumer = self._context.__enter__()

    def close(self) -> None:
        """Close the client."""
        self._context.__exit__(None, None, None)

    def committed(self) -> dict[Partition, int]:
        """Return the committed offsets; none where nothing was committed, or Kafka does not answer."""
        try:
            answered = self._consumer.committed(self._all, TIMEOUT_S)
        except KafkaException:
            return {}
        return {(tp.topic, tp.partition): tp.offset for tp in answered if tp.offset >= 0}

    def own_ends(self) -> dict[Partition, int]:
        """Return the ends of the partitions of topics that workers write and read."""
        return {
            (tp.topic, tp.partition): self._consumer.get_watermark_offsets(tp, TIMEOUT_S)[1]
            for tp in self._all
            if tp.topic in (FAILURES_BY_IP, ALERTS)
        }

    def behind(self, wanted: Mapping[Partition, int]) -> dict[Partition, tuple[int, int]]:
        """Return what is not committed up to where it should be: (committed, wanted) by partition."""
        committed = self.committed()
        return {
            at: (committed.get(at, 0), end)
            for at, end in sorted(wanted.items())
            if committed.get(at, 0) < end
        }


def forget_the_group(bootstrap: str, partitions: int, deadline_s: float = 60.0) -> None:
    """Let the next worker begin at the beginning, as if none had ever run.

    The group's offsets are deleted (which Kafka refuses until a killed member's session has expired) and so
    is what was written by workers, or the next one would take it for its own.
    """
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    deadline = time.monotonic() + deadline_s
    while True:
        try:
            admin.delete_consumer_groups([GROUP])[GROUP].result(TIMEOUT_S)
            break
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise
            if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
                break
            time.sleep(0.5)
    all_of_it = [
        TopicPartition(topic, number, -1)
        for topic in (FAILURES_BY_IP, ALERTS, DEAD_LETTERS)
        for number in range(partitions)
    ]
    for done in admin.delete_records(all_of_it).values():
        done.result(TIMEOUT_S)
