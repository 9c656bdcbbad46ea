"""Failures on their way to the topic where one address's meet, and reading them there."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec
import numpy as np
import pytest
from faust.types import TP
from scenarios.streams import START_MS, batch_of

from schemas.alert import Alert
from schemas.batch import EventBatch
from store.database import Database
from store.events import KafkaIds
from store.snapshots import Snapshots
from streams import rekeying
from streams.addresses import AddressReader, AddressState
from streams.records import Records
from streams.recovery import Superseded
from streams.rekeying import FailedLogins, Reached, Rekeyer, home_of
from streams.snapshots import SnapshotTaker
from streams.topics import FAILURES_BY_IP, partition_of

TENANTS = ("tenant-a", "tenant-b", "tenant-c", "tenant-d")
ADDRESS = "192.0.2.7"
KEY = (FAILURES_BY_IP, 5)
Place = tuple[int, int]


def chunk(places: Sequence[Place], address: str = ADDRESS, partition: int = 3) -> EventBatch:
    """Return failures of a source partition, by offset and message index."""
    events = [
        {
            "tenant_id": TENANTS[partition % 4], "time_ms": START_MS + 1000 * offset, "source_ip": address,
            "user_id": f"user-{index}", "event_id": f"{partition}-{offset}-{index}",
        }
        for offset, index in places
    ]  # fmt: skip
    offset, index = (np.array(numbers) for numbers in zip(*places, strict=True))
    message_index = index.astype(np.int32)
    batch = batch_of("auth", events)
    return replace(batch, topic="audit.auth", partition=partition, offset=offset, message_index=message_index)


class Kafka:
    """Stands in for the topic: it takes messages, or refuses the one that it is told to."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, FailedLogins]] = []
        self.refused = -1

    async def send(self, partition: int, value: bytes) -> Awaitable[None]:
        future = asyncio.get_running_loop().create_future()
        if len(self.messages) == self.refused:
            future.set_exception(ConnectionError("refused"))
            return future
        self.messages.append((partition, msgspec.json.decode(value, type=FailedLogins)))
        future.set_result(None)
        return future


async def sent(*batches: EventBatch) -> list[tuple[int, FailedLogins]]:
    kafka = Kafka()
    rekeyer = Rekeyer(kafka.send, "topic-1", 12)
    running = asyncio.create_task(rekeyer.run())
    await asyncio.gather(*[rekeyer.add(batch, np.arange(len(batch))) for batch in batches])
    running.cancel()
    return kafka.messages


async def test_failures_go_to_the_partition_of_their_address() -> None:
    """Each with where it came from; what is collected goes together."""
    other = next(f"192.0.2.{i}" for i in range(250) if home_of(f"192.0.2.{i}", 12) != home_of(ADDRESS, 12))
    messages = dict(await sent(chunk([(0, 0), (0, 1)]), chunk([(7, 0)], other), chunk([(9, 0)], partition=4)))
    assert messages.keys() == {partition_of(a.encode(), 12) for a in (ADDRESS, other)}
    found = messages[home_of(ADDRESS, 12)]
    assert [(*found.sources[f.source], f.offset, f.message_index, f.event_id) for f in found.failures] == [
        ("topic-1", 3, 0, 0, "3-0-0"), ("topic-1", 3, 0, 1, "3-0-1"), ("topic-1", 4, 9, 0, "4-9-0"),
    ]  # fmt: skip


async def test_a_flood_is_cut_into_messages_that_kafka_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In their order."""
    monkeypatch.setattr(rekeying, "MAX_FAILURES", 3)
    messages = await sent(chunk([(i, 0) for i in range(8)]))
    assert [[f.offset for f in message.failures] for _, message in messages] == [[0, 1, 2], [3, 4, 5], [6, 7]]


async def test_nothing_is_sent_after_what_kafka_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be taken for all there is up to there; and the chunk is not acknowledged."""
    monkeypatch.setattr(rekeying, "MAX_FAILURES", 2)
    kafka = Kafka()
    kafka.refused = 1
    rekeyer = Rekeyer(kafka.send, "topic-1", 12)
    waiting = rekeyer.add(chunk([(i, 0) for i in range(6)]), np.arange(6))
    with pytest.raises(ConnectionError):
        await rekeyer.run()
    assert [f.offset for _, message in kafka.messages for f in message.failures] == [0, 1]
    assert not waiting.done()


async def test_chunks_that_are_handled_again_are_read_once() -> None:
    """Whatever their borders are the second time, and beside another partition's."""
    first = await sent(chunk([(0, 0), (2, 0), (2, 1)]), chunk([(1, 0)], partition=4))
    again = await sent(chunk([(0, 0), (2, 0)]), chunk([(2, 1), (5, 0)]), chunk([(1, 0), (3, 0)], partition=4))
    reached = Reached()
    ids = [
        event_id
        for _, message in [*first, *first, *again]
        for event_id in reached.read(message, START_MS).columns["event_id"]
    ]
    assert sorted(ids) == ["3-0-0", "3-2-0", "3-2-1", "3-5-0", "4-1-0", "4-3-0"]
    assert len(ids) == 6


async def test_a_topic_that_was_made_anew_begins_at_nought() -> None:
    """Another id under the same name is another topic."""
    [(_, message)] = await sent(chunk([(0, 0)]))
    reached = Reached()
    assert len(reached.read(message, START_MS)) == 1
    message.sources = [("topic-2", 3)]
    assert len(reached.read(message, START_MS)) == 1


class Member:
    """Stands in for the consumer: where partitions begin, and what is asked of it."""

    def __init__(self, committed: int, earliest: int = 0, *, member: bool = True) -> None:
        self.at, self.earliest, self.member = committed, earliest, member
        self.asked: list[tuple[str, int]] = []

    async def starts(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        return dict.fromkeys(tps, (self.at, self.earliest))

    async def confirm(self, offsets: Mapping[TP, int], generation: int) -> bool:
        self.asked += [("confirm", offset) for offset in offsets.values()]
        return self.member

    def hold(self, tp: TP, offset: int) -> None:
        self.asked.append(("hold", offset))

    def release(self, tp: TP) -> None:
        self.asked.append(("release", 0))

    def committed(self, tp: TP) -> int:
        return self.at


class Topic:
    """One partition of the topic, with a store, read by one worker after another."""

    def __init__(self, database: Database) -> None:
        self.snapshots = Snapshots(database, KafkaIds(f"cluster-{uuid4().hex[:8]}", {FAILURES_BY_IP: "id"}))
        self.published: list[Alert] = []
        self.acknowledged = 0

    async def take_over(self, committed: int, **member: Any) -> tuple[AddressReader, Member]:
        reader, consumer = AddressReader(self.snapshots), Member(committed, **member)
        await reader.take_over(consumer, {TP(*KEY), TP("audit.auth", 5)}, 1)
        return reader, consumer

    async def handle(self, reader: AddressReader, first: int, stop: int) -> None:
        """Read messages: each is a failure of another tenant, a second after the one before."""
        messages = [(await sent(chunk([(i, 0)], partition=i % 4)))[0][1] for i in range(first, stop)]
        values: list[bytes | None] = [msgspec.json.encode(message) for message in messages]
        n = len(values)
        records = Records(*KEY, list(range(first, stop)), [None] * n, values, [()] * n, [START_MS] * n)

        async def publish(alert: Alert) -> Awaitable[None]:
            self.published.append(alert)
            return asyncio.sleep(0)

        def acknowledge() -> None:
            self.acknowledged = stop

        await reader.handle(records, acknowledge, publish)

    async def save(self, reader: AddressReader) -> None:
        await SnapshotTaker(reader, self.snapshots, 60).finish(10)

    def said(self) -> set[str]:
        return {alert.model_dump_json() for alert in self.published}


@pytest.fixture
def topic(database: Database) -> Topic:
    return Topic(database)


async def whole(database: Database, stop: int) -> set[str]:
    alone = Topic(database)
    await alone.handle((await alone.take_over(0))[0], 0, stop)
    return alone.said()


async def test_a_chunk_is_acknowledged_when_a_snapshot_knows_of_it(topic: Topic) -> None:
    """Until then it is read again by whoever comes next."""
    reader, _ = await topic.take_over(0)
    await topic.handle(reader, 0, 2)
    assert topic.acknowledged == 0
    await topic.save(reader)
    assert topic.acknowledged == 2


async def test_what_is_committed_is_where_a_snapshot_stands() -> None:
    """While a chunk's alerts are on their way, those before it in the same snapshot wait too."""
    acknowledged: list[int] = []
    state = AddressState(0)
    state.done(2, lambda: acknowledged.append(2))
    state.saved(5)
    assert acknowledged == []
    state.done(5, lambda: acknowledged.append(5))
    assert acknowledged == [2, 5]
    state.done(7, lambda: acknowledged.append(7))
    assert acknowledged == [2, 5]


async def test_the_next_owner_goes_on_from_the_snapshot(topic: Topic, database: Database) -> None:
    """It knows of the two tenants that were tried before."""
    reader, _ = await topic.take_over(0)
    await topic.handle(reader, 0, 2)
    await topic.save(reader)
    successor, consumer = await topic.take_over(2)
    await topic.handle(successor, 2, 4)
    assert topic.said() == await whole(database, 4)
    assert consumer.asked == []


async def test_what_was_read_beyond_the_snapshot_is_read_again_with_the_same_alerts(
    topic: Topic, database: Database
) -> None:
    """The last owner was killed after its alerts were out."""
    reader, _ = await topic.take_over(0)
    await topic.handle(reader, 0, 2)
    await topic.save(reader)
    await topic.handle(reader, 2, 4)
    successor, _ = await topic.take_over(2)
    await topic.handle(successor, 2, 6)
    assert topic.said() == await whole(database, 6)
    assert len(topic.published) > len(topic.said())


async def test_without_a_snapshot_that_fits_the_topic_is_read_again(topic: Topic, database: Database) -> None:
    """From the earliest that Kafka has; alerts of what was committed are not sent again."""
    reader, _ = await topic.take_over(0)
    await topic.handle(reader, 0, 3)
    before = len(topic.published)
    successor, consumer = await topic.take_over(3)
    assert consumer.asked == [("confirm", 3), ("hold", 0), ("release", 0)]
    await topic.handle(successor, 0, 3)
    assert len(topic.published) == before > 0
    await topic.handle(successor, 3, 6)
    assert topic.said() == await whole(database, 6)


async def test_a_crash_while_the_topic_is_read_again_sends_no_alert_twice(topic: Topic) -> None:
    """What was committed stays so, and the next owner reads all of it again as silently."""
    reader, _ = await topic.take_over(0)
    await topic.handle(reader, 0, 6)
    before = len(topic.published)
    successor, _ = await topic.take_over(6)
    await topic.handle(successor, 0, 3)
    await topic.save(successor)
    assert topic.acknowledged == 0
    third, consumer = await topic.take_over(6)
    assert ("hold", 0) in consumer.asked
    await topic.handle(third, 0, 6)
    assert len(topic.published) == before > 0
    await topic.save(third)
    assert topic.acknowledged == 6


async def test_a_snapshot_of_another_format_is_not_misread(topic: Topic) -> None:
    """The topic is read again instead."""
    reader, _ = await topic.take_over(0)
    await topic.handle(reader, 0, 3)
    parts = reader.states[KEY].freeze().parts()
    parts[0] = replace(parts[0], state=parts[0].state[:-1])
    topic.snapshots.save(*KEY, 3, parts)
    _, consumer = await topic.take_over(3)
    assert ("hold", 0) in consumer.asked


async def test_a_worker_that_is_no_member_any_more_rewinds_nothing(topic: Topic) -> None:
    """The partition is another's."""
    with pytest.raises(Superseded):
        await topic.take_over(3, member=False)


async def test_a_message_of_somebody_else_does_not_stop_the_partition(topic: Topic) -> None:
    """It is said and left out."""
    reader, _ = await topic.take_over(0)

    async def publish(alert: Alert) -> Awaitable[None]:
        raise AssertionError

    await reader.handle(
        Records(*KEY, [0, 1], [None] * 2, [b"{", None], [()] * 2, [0, 0]), lambda: None, publish
    )
    assert reader.states[KEY].next_offset == 2
