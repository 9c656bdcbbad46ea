"""Record batches against a real Kafka: what is delivered, and what may be committed."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.fetch import FetchRequest
from faust.types import TP
from mode.supervisors import CrashingSupervisor

import streams.pace
import streams.records
from streams.faust_app import StreamConfig, create_app
from streams.pace import LONGEST_PATIENCE_S, LONGEST_WAIT_MS, PATIENT_RECORDS, Fetch, Pace
from streams.records import MAX_CHUNK_RECORDS, UNTAKEN_WAIT_MS, Records, Scheduler, chunks


def record(size: int = 10, offset: int = 0) -> SimpleNamespace:
    return SimpleNamespace(value=bytes(size), offset=offset)


def test_a_chunk_holds_at_most_four_thousand_records() -> None:
    """Chunks are cut at 4,000 records, in order, losing none."""
    records = [record(offset=i) for i in range(8_500)]
    cut = list(chunks(records))
    assert [len(chunk) for chunk in cut] == [MAX_CHUNK_RECORDS, MAX_CHUNK_RECORDS, 500]
    assert [r.offset for chunk in cut for r in chunk] == list(range(8_500))


def test_large_records_make_small_chunks() -> None:
    """Records of 5 MiB come one by one, so that a chunk stays bounded."""
    assert [len(chunk) for chunk in chunks([record(5 << 20)] * 3)] == [1, 1, 1]


@pytest.mark.parametrize(
    "topic", ["audit.auth", "audit.access", "audit.request", "audit.failures-by-ip", "audit.alerts"]
)
def test_what_agents_read_is_batched_and_partitions_take_turns(topic: str) -> None:
    """Tables keep Faust's single records; no partition waits for another's whole backlog."""
    events, other = TP(topic, 0), TP("audit.tenants", 0)
    found = {events: [record(offset=i) for i in range(8_001)], other: [record(offset=7), record(offset=8)]}
    order = [(tp, len(item) if tp == events else item.offset) for tp, item in Scheduler().iterate(found)]
    assert order == [(events, 4_000), (other, 7), (events, 4_000), (other, 8), (events, 1)]


# Asks for everything.
NOW = Fetch(10, 1, everything=True, within_s=inf)


class Clocks:
    """Wall clock and CPU time of the thread, in place of the real ones."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = self.worked_s = 0.0
        monkeypatch.setattr(streams.pace, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(streams.pace, "thread_time", lambda: self.worked_s)

    def poll(self, pace: Pace, work_s: float, waited_s: float, last: Fetch = NOW, patient: int = 0) -> Fetch:
        """Handle what came for a while, wait for more, and return what the next fetch asks for."""
        self.now_s += work_s + waited_s
        self.worked_s += work_s
        pace.came(last, waited_s, patient)
        return pace.fetch()


def test_records_collect_for_longer_while_there_is_much_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is always busy lets the broker wait as long as it may; an idle one as briefly."""
    clocks = Clocks(monkeypatch)
    pace = Pace()
    shortest = pace.fetch()
    for _ in range(100):
        busy = clocks.poll(pace, 0.1, 0.001)
    assert (busy.wait_ms, busy.min_bytes) == (LONGEST_WAIT_MS, shortest.min_bytes)
    for _ in range(1_000):
        idle = clocks.poll(pace, 0.001, 0.02)
    assert (idle.wait_ms, idle.min_bytes) == (shortest.wait_ms, shortest.min_bytes)


def test_a_rare_record_comes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a silence the broker answers with the first byte; in steady traffic it collects again."""
    clocks = Clocks(monkeypatch)
    pace = Pace()
    rare = clocks.poll(pace, 0.001, 1.0)
    assert (rare.min_bytes, rare.everything, rare.within_s) == (1, True, inf)
    assert clocks.poll(pace, 0.001, 0.01, rare).min_bytes > 1


def turns(clocks: Clocks, pace: Pace, records_per_s: int, seconds: float, late: int = 1) -> list[float]:
    """Return when fetches of 10 ms asked for patient topics, whose records come `late` fetches after."""
    came: deque[int] = deque([0] * late)
    last, since_s, asked_s = pace.fetch(), clocks.now_s, list[float]()
    end_s = clocks.now_s + seconds
    while clocks.now_s < end_s:
        came.append(round((clocks.now_s - since_s) * records_per_s) if last.everything else 0)
        if last.everything:
            since_s = clocks.now_s
        last = clocks.poll(pace, 0.001, 0.009, last, came.popleft())
        assert 0 < last.within_s < 1.001 * LONGEST_PATIENCE_S
        if last.everything:
            asked_s.append(clocks.now_s)
    return asked_s


@pytest.mark.parametrize("late", [1, 3, 15])
def test_patient_topics_have_a_turn_each_second_or_so_many_records(
    monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """A second of few records is as good as ten; of many it would keep logins waiting when it comes."""
    clocks = Clocks(monkeypatch)
    pace = Pace()
    assert 9 <= len(turns(clocks, pace, PATIENT_RECORDS // 10, 10, late)) <= 11
    many = turns(clocks, pace, 10 * PATIENT_RECORDS, 10, late)
    assert 70 <= len(many) <= 110
    # Once it is known that they are many.
    assert max(after - before for before, after in pairwise(many[10:])) < 0.3
    turns(clocks, pace, PATIENT_RECORDS // 10, 2, late)  # until it is known that they are few again
    assert 9 <= len(turns(clocks, pace, PATIENT_RECORDS // 10, 10, late)) <= 12


def test_a_quiet_topic_that_may_not_wait_makes_no_topic_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """That nothing came says nothing, where only some of the topics were asked for."""
    clocks = Clocks(monkeypatch)
    pace = Pace()
    assert clocks.poll(pace, 0.001, 1.0, replace(NOW, everything=False)).min_bytes > 1


class Harness:
    """A Faust app on a topic of its own that is treated as an event topic."""

    def __init__(self, bootstrap: str, topic: str, directory: Path) -> None:
        self.bootstrap, self.topic, self.directory = bootstrap, topic, directory
        self.group = f"group-{uuid4().hex[:8]}"

    async def create(self, partitions: int = 1, **config: str) -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        await admin.create_topics([NewTopic(self.topic, partitions, 1, topic_configs=config)])
        await admin.close()

    async def produce(self, values: Sequence[bytes | None], **options: Any) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=self.bootstrap, **options)
        await producer.start()
        for value in values:
            await producer.send(self.topic, value, key=b"k", partition=0)
        await producer.stop()

    async def committed(self, partition: int = 0) -> int | None:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
        await admin.start()
        offsets = await admin.list_consumer_group_offsets(self.group)
        await admin.close()
        return next(
            (o.offset for tp, o in offsets.items() if (tp.topic, tp.partition) == (self.topic, partition)),
            None,
        )

    @asynccontextmanager
    async def running(self, body: Callable[[Any], Awaitable[None]]) -> AsyncIterator[Any]:
        config = StreamConfig(
            self.bootstrap, self.directory / uuid4().hex, "test", self.group, commit_interval_s=0.2
        )
        app = create_app(config)
        channel = app.topic(self.topic, key_type=bytes, value_serializer="raw", key_serializer="raw")

        async def consume(stream: Any) -> None:
            async for event in stream.noack().events():
                await body(event)

        app.agent(channel, name=self.topic, supervisor_strategy=CrashingSupervisor)(consume)
        await app.start()
        try:
            yield app
        finally:
            async with asyncio.timeout(15):
                await app.stop()


@pytest.fixture
async def harness(kafka: str, tmp_path: Path) -> AsyncIterator[Harness]:
    topic = f"events-{uuid4().hex[:8]}"
    with patch.object(streams.records, "BATCHED_TOPICS", frozenset({topic})):
        yield Harness(kafka, topic, tmp_path)


def behind(gate: asyncio.Event, seen: list[int]) -> Callable[[Any], Awaitable[None]]:
    """Return an agent that notes and acknowledges what it is given once a gate is open."""

    async def body(event: Any) -> None:
        await gate.wait()
        seen.extend(event.value.offsets)
        event.ack()

    return body


async def until(condition: Callable[[], Awaitable[bool] | bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.05)


async def test_records_arrive_whole_and_the_commit_is_past_the_last(harness: Harness) -> None:
    """Keys, values, offsets and headers survive batching; after a clean stop all is committed."""
    await harness.create()
    await harness.produce([b"%d" % i for i in range(5_000)], compression_type="zstd")
    seen: list[Records] = []

    async def body(event: Any) -> None:
        seen.append(event.value)
        event.ack()

    async with harness.running(body):
        await until(lambda: sum(map(len, seen)) == 5_000)
    assert [v for records in seen for v in records.values] == [b"%d" % i for i in range(5_000)]
    assert [o for records in seen for o in records.offsets] == list(range(5_000))
    assert max(map(len, seen)) <= MAX_CHUNK_RECORDS
    assert await harness.committed() == 5_000


async def test_a_chunk_that_raised_is_not_committed_past(harness: Harness) -> None:
    """The agent raises in chunk 2 of 5: the commit stays at chunk 1's end, though later ones were acked."""
    await harness.create()
    await harness.produce([b"%d" % i for i in range(20_000)])
    held: list[Any] = []

    async def body(event: Any) -> None:
        held.append(event)
        if len(held) == 5:
            for i in (0, 2, 3, 4):
                held[i].ack()
            raise RuntimeError("the fifth event fails, and the second was never acknowledged")

    async with harness.running(body) as app:
        await until(lambda: bool(app.crashed))
        await app.consumer.commit()
    assert await harness.committed() == held[0].value.offsets[-1] + 1

    again: list[int] = []

    async def retry(event: Any) -> None:
        again.extend(event.value.offsets)
        event.ack()

    async with harness.running(retry):
        await until(lambda: len(again) == 20_000 - len(held[0].value))
    assert again == list(range(held[1].value.offsets[0], 20_000))
    assert await harness.committed() == 20_000


async def test_nothing_is_acknowledged_by_an_agent_that_raises_at_once(harness: Harness) -> None:
    """Faust's own streams acknowledge in a `finally`; ours must not."""
    await harness.create()
    await harness.produce([b"x"] * 100)

    async def body(event: Any) -> None:
        raise RuntimeError("defect")

    async with harness.running(body) as app:
        await until(lambda: bool(app.crashed))
    assert await harness.committed() in (None, -1)


async def test_transaction_markers_and_aborted_records_do_not_hold_the_commit(harness: Harness) -> None:
    """Offsets that are no records leave no gap that would keep the commit back."""
    await harness.create()
    producer = AIOKafkaProducer(bootstrap_servers=harness.bootstrap, transactional_id=uuid4().hex)
    await producer.start()
    for number in range(20):
        with contextlib.suppress(ZeroDivisionError):
            async with producer.transaction():
                for _ in range(10):
                    await producer.send(harness.topic, b"%d" % number, key=b"k", partition=0)
                if number % 4 == 1:
                    raise ZeroDivisionError  # aborts it
    await producer.stop()
    offsets: list[int] = []
    values: set[bytes] = set()

    async def body(event: Any) -> None:
        offsets.extend(event.value.offsets)
        values.update(event.value.values)
        event.ack()

    async with harness.running(body):
        await until(lambda: len(offsets) >= 150)
    assert values == {b"%d" % number for number in range(20) if number % 4 != 1}
    assert await harness.committed() == offsets[-1] + 1
    assert len(offsets) == 150
    assert offsets[-1] > 200


async def test_a_compacted_topic_with_holes_is_committed_to_its_end(harness: Harness) -> None:
    """Records that compaction removed leave no gap that would keep the commit back."""
    await harness.create(
        **{
            "cleanup.policy": "compact",
            "segment.ms": "50",
            "min.cleanable.dirty.ratio": "0.01",
            "max.compaction.lag.ms": "50",
        }
    )
    for _ in range(4):
        await harness.produce([b"%d" % i for i in range(50)])
        await asyncio.sleep(0.2)
    offsets: list[int] = []

    async def body(event: Any) -> None:
        offsets.extend(event.value.offsets)
        event.ack()

    async with harness.running(body):
        await until(lambda: bool(offsets) and offsets[-1] == 199)
    assert await harness.committed() == 200


async def test_after_a_rebalance_both_workers_go_on_from_the_commit(harness: Harness) -> None:
    """A second worker joins in mid-stream: every record is handled, and the commits reach the end."""
    await harness.create(partitions=4)
    seen: set[tuple[int, int]] = set()
    release = asyncio.Event()

    async def body(event: Any) -> None:
        await release.wait()
        seen.update((event.value.partition, offset) for offset in event.value.offsets)
        event.ack()

    producer = AIOKafkaProducer(bootstrap_servers=harness.bootstrap)
    await producer.start()

    async def produce(rounds: range) -> None:
        for i in rounds:
            for partition in range(4):
                await producer.send(harness.topic, b"%d" % i, key=b"k", partition=partition)
        await producer.flush()

    await produce(range(3_000))
    async with harness.running(body) as first:
        await until(lambda: len(first.consumer.assignment()) == 4)
        async with harness.running(body) as second:
            await until(lambda: len(second.consumer.assignment()) == 2)
            release.set()
            await produce(range(3_000))
            await until(lambda: len(seen) == 4 * 6_000)
    await producer.stop()
    assert [await harness.committed(partition) for partition in range(4)] == [6_000] * 4


async def test_a_late_acknowledgement_of_an_earlier_generation_commits_nothing(harness: Harness) -> None:
    """A chunk that was taken before a rebalance is redelivered; its late ack must not stand for that."""
    await harness.create()
    await harness.produce([b"x"] * 10)
    held: list[Any] = []

    async def body(event: Any) -> None:
        held.append(event)

    async with harness.running(body) as app:
        await until(lambda: len(held) == 1)
        app.consumer_generation_id += 1
        held[0].ack()
        await app.consumer.commit()
    assert await harness.committed() in (None, -1)


async def test_what_was_fetched_and_not_delivered_is_fetched_again(harness: Harness) -> None:
    """Faust leaves out a paused partition's records, its position past them: they must not be lost."""
    await harness.create()
    await harness.produce([b"%d" % i for i in range(3_000)])
    seen: list[int] = []
    iterate, left_out = Scheduler.iterate, list[int]()

    def leave_out_once(self: Scheduler, records: Any) -> Any:
        for tp, item in iterate(self, records):
            if tp.topic == harness.topic and not left_out:
                left_out.extend(r.offset for r in item)
            else:
                yield tp, item

    async def body(event: Any) -> None:
        seen.extend(event.value.offsets)
        event.ack()

    with patch.object(Scheduler, "iterate", leave_out_once):
        async with harness.running(body):
            await until(lambda: set(seen) == set(range(3_000)))
    assert left_out
    assert await harness.committed() == 3_000


async def test_no_answer_is_long_in_coming_while_records_wait_here(harness: Harness) -> None:
    """One that waits for records of a quiet partition would keep the others from being asked for."""
    await harness.create(partitions=2)
    await harness.produce([bytes(100)] * 40_000)
    seen: list[int] = []
    gate = asyncio.Event()
    body = behind(gate, seen)

    waits_ms: list[int] = []

    def asked(wait_ms: int, *given: Any, **named: Any) -> Any:
        waits_ms.append(wait_ms)
        return FetchRequest(wait_ms, *given, **named)

    with (
        patch.object(streams.pace, "SHORTEST_WAIT_MS", 150.0),
        patch.object(streams.records, "UNTAKEN_S", 60.0),  # however busy this machine is
    ):
        async with harness.running(body) as app:
            await until(lambda: app.consumer.assignment())
            fetcher = app.consumer._thread._ensure_consumer()._fetcher

            async def waits() -> bool:
                before = list(fetcher._records.values())
                await asyncio.sleep(0.3)
                return bool(before) and list(fetcher._records.values()) == before

            await until(waits)
            with patch("aiokafka.consumer.fetcher.FetchRequest", asked):
                await until(lambda: len(waits_ms) >= 5)
            assert set(waits_ms) == {UNTAKEN_WAIT_MS}
            gate.set()
            await until(lambda: seen == list(range(40_000)))
            waits_ms.clear()
            with patch("aiokafka.consumer.fetcher.FetchRequest", asked):
                await until(lambda: bool(waits_ms))
            assert min(waits_ms) > UNTAKEN_WAIT_MS


async def test_who_was_too_busy_to_ask_for_records_comes_back_into_the_group(harness: Harness) -> None:
    """The client leaves the group then, and rejoins once somebody asks, who in turn waits for the rejoin."""
    await harness.create()
    seen: list[int] = []
    gate = asyncio.Event()
    body = behind(gate, seen)

    with patch("test_transport.StreamConfig", partial(StreamConfig, max_poll_interval_s=2.0)):
        async with harness.running(body) as app:
            await until(lambda: app.consumer.assignment())
            generation = app.consumer_generation_id
            for i in range(30):  # a chunk each: more than may wait for the agent
                await harness.produce([b"%d" % i])
            await asyncio.sleep(6)
            gate.set()
            await until(lambda: set(seen) == set(range(30)), 30)
            assert app.consumer_generation_id > generation
            await until(lambda: at_end(harness, 30))


async def at_end(harness: Harness, end: int) -> bool:
    return await harness.committed() == end
