"""Sending from a server, against a real broker: acknowledged, offered, and while Kafka is away."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from schemas.tenant import Tenant
from store.directories import OFFSETS
from streams import event_producer, metrics
from streams.event_producer import EventProducer
from streams.producer import SendError
from streams.topics import ensure_topics, partition_of


@pytest.fixture(scope="module")
def cluster(kafka: str) -> str:
    """A Kafka with the contract's topics."""
    ensure_topics(kafka)
    return kafka


@pytest.fixture
async def producer(cluster: str) -> AsyncIterator[EventProducer]:
    """A producer that runs."""
    running = EventProducer(cluster)
    await running.start()
    yield running
    await running.stop()


def count(result: str) -> float:
    return metrics.API_EVENTS.labels(result)._value.get()


def message_at(bootstrap: str, partition: int, offset: int) -> tuple[bytes | None, Any]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "event-producer"})
    consumer.assign([TopicPartition("audit.auth", partition, offset)])
    message = consumer.poll(10)
    assert message is not None
    consumer.close()
    return message.key(), json.loads(message.value() or b"null")


async def test_what_is_acknowledged_is_there(cluster: str, producer: EventProducer) -> None:
    """At the place that was told, in the tenant's partition."""
    partition, offset = await producer.send("auth", "acked", b'{"event_id": "1"}')
    assert partition == partition_of(b"acked", 12)
    assert await asyncio.to_thread(message_at, cluster, partition, offset) == (b"acked", {"event_id": "1"})


async def test_a_later_word_about_a_tenant_is_seen(cluster: str, producer: EventProducer) -> None:
    """Settings, or that it is no more, after a version, which counts the topics of a wiped Kafka."""

    def tenant(tenant_id: str) -> Tenant:
        return Tenant(tenant_id=tenant_id, organization_id="org", name="x")

    # Two tenants of one partition.
    other = next(
        f"o{i}" for i in range(100) if partition_of(f"o{i}".encode(), 12) == partition_of(b"told", 12)
    )
    offsets = [await producer.send_tenant(id_, tenant(id_)) for id_ in ("told", other, "told", other)]
    first, _, second, _ = (offset for _, offset in offsets)
    assert await producer.tenant_changed("told", first)
    assert await producer.tenant_changed("told", 2 * OFFSETS + first)
    assert not await producer.tenant_changed("told", second)
    await producer.send_tenant("told", None)
    assert await producer.tenant_changed("told", second)


async def test_what_is_offered_arrives(cluster: str, producer: EventProducer) -> None:
    """Soon, and it is counted."""
    before = count("sent")
    assert producer.offer("auth", "offered", b"{}")
    async with asyncio.timeout(20):
        while count("sent") == before:
            await asyncio.sleep(0.01)


async def test_stopping_sends_what_waits(cluster: str) -> None:
    """An event that was offered a moment ago is not lost by an orderly end."""
    leaving = EventProducer(cluster)
    await leaving.start()
    await leaving.send("auth", "stopping", b"{}")
    before = count("sent")
    for _ in range(100):
        leaving.offer("auth", "stopping", b"{}")
    await leaving.stop()
    assert count("sent") - before == 100


async def test_while_kafka_is_away_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offers are taken until there are too many, then dropped and counted; a send says that it failed."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        bootstrap = f"127.0.0.1:{nobody.getsockname()[1]}"
    monkeypatch.setattr(event_producer, "SEND_TIMEOUT_S", 0.2)
    alone = EventProducer(bootstrap, max_waiting=3)
    await alone.start()
    before = count("dropped")
    assert [alone.offer("auth", "t", b"{}") for _ in range(5)] == [True, True, True, False, False]
    assert count("dropped") - before == 2
    with pytest.raises(SendError, match="has not acknowledged"):
        await alone.send("auth", "t", b"{}")
    await alone.stop()
