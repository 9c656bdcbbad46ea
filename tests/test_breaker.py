"""The breaker: when too much of a partition is rejected, what is said about it, and what goes on."""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock, patch
from uuid import uuid4

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from conftest import CommandLine, Up, eventually, settings_env
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from test_cli_dead_letters import add_tenant, events, send, stored
from test_transport import Harness, until

import streams.records
from schemas.batch import EventBatch
from schemas.parse import parse
from store.ownership import Claim
from streams.app import Pipeline
from streams.breaker import Breaker, Limits
from streams.chunk import Handled
from streams.dead_letters import DeadLetter
from streams.faust_app import StreamConfig, create_app
from streams.floods import PLATFORM_TENANT, Floods
from streams.metrics import REGISTRY
from streams.records import MAX_CHUNK_RECORDS, Records
from streams.topics import Topics, partition_of
from tests.schema_examples import encode, event

MANY = 60_000
TOPICS = Topics("cluster", {}, 12, 12)
OFF = Limits(max_run=0, max_ratio=1.0, window=10)


def tripped_at(limits: Limits, rejected: Sequence[bool], chunk: int = 1) -> int | None:
    """Return which message of a stream opens the breaker."""
    breaker = Breaker(limits)
    for first in range(0, len(rejected), chunk):
        part = rejected[first : first + chunk]
        if trip := breaker.count(len(part), [i for i, bad in enumerate(part) if bad]):
            return first + trip.position
    return None


def test_a_run_opens_it_at_the_message_that_is_one_too_many() -> None:
    """A good message in between begins the count anew."""
    limits = Limits(max_run=5, max_ratio=1.0)
    assert tripped_at(limits, [True] * 5) == 4
    assert tripped_at(limits, [*[True] * 4, False] * 10) is None
    assert tripped_at(limits, [*[True] * 4, False, *[True] * 5]) == 9


def test_a_share_opens_it_once_there_is_enough_to_judge() -> None:
    """More than half of the last ten; not before there were ten."""
    limits = Limits(max_run=0, max_ratio=0.5, window=10)
    assert tripped_at(limits, [True] * 9) is None
    assert tripped_at(limits, [True] * 10) == 9
    assert tripped_at(limits, [True, False] * 20) is None
    assert tripped_at(limits, [*[True, False] * 5, True, True]) == 11


def test_a_flood_that_is_over_opens_nothing() -> None:
    """Good messages are no reason to stop, whatever came before them."""
    limits = Limits(max_run=0, max_ratio=0.5, window=10)
    assert tripped_at(limits, [*[True] * 8, *[False] * 100]) is None


def test_both_limits_can_be_switched_off() -> None:
    """0 and 1.0: nothing opens it."""
    assert tripped_at(OFF, [True] * 100) is None


def test_what_opened_it_is_told_in_numbers() -> None:
    """Which rule, how many were rejected, and of how many."""
    run = Breaker(Limits(max_run=3)).count(9, [2, 3, 4, 5])
    assert run is not None
    assert (run.position, run.rule, run.rejected, run.of) == (4, "run", 3, 3)
    ratio = Breaker(Limits(max_run=0, max_ratio=0.5, window=10)).count(12, [0, 2, 4, 6, 8, 9, 11])
    assert ratio is not None
    assert (ratio.position, ratio.rule, ratio.rejected, ratio.of) == (9, "ratio", 6, 10)


@given(
    st.lists(st.booleans(), max_size=80),
    st.integers(1, 30),
    st.builds(
        Limits, max_run=st.integers(0, 8), max_ratio=st.sampled_from([0.1, 0.5, 0.8, 1.0]), window=st.just(10)
    ),
)
def test_it_does_not_matter_how_a_stream_is_cut_into_chunks(
    rejected: list[bool], chunk: int, limits: Limits
) -> None:
    """The same message opens it, as the limits' definition says."""

    def by_definition() -> int | None:
        for i, bad in enumerate(rejected):
            run = rejected[max(i + 1 - limits.max_run, 0) : i + 1]
            last = rejected[max(i + 1 - limits.window, 0) : i + 1]
            too_long = limits.max_run and len(run) == limits.max_run and all(run)
            too_much = len(last) == limits.window and sum(last) > limits.max_ratio * limits.window
            if bad and (too_long or too_much):
                return i
        return None

    assert tripped_at(limits, rejected, chunk) == tripped_at(limits, rejected) == by_definition()


def chunk(first: int, keys: Sequence[bytes], bad: dict[int, DeadLetter]) -> Handled:
    """Return a handled chunk of single events; `bad` has the letters by their position."""
    offsets = list(range(first, first + 2 * len(keys), 2))  # as in a topic with transactions
    good = [i for i in range(len(keys)) if i not in bad]
    batch = parse("auth", [encode(event(event_id=f"e-{i}")) for i in good]).batch
    batch.offset[:] = [offsets[i] for i in good]
    values: list[bytes | None] = [b"{}"] * len(keys)
    times = [1_000 * offset for offset in offsets]
    records = Records("audit.auth", 3, offsets, list(keys), values, [()] * len(keys), times)
    return handled(records, batch, list(bad.values()))


def handled(records: Records, batch: EventBatch, letters: list[DeadLetter]) -> Handled:
    rejected = sum(len(letter.indexes) for letter in letters)
    claim = Claim(records.topic, records.partition, 1, 1)
    return Handled(records, batch, claim, records.offsets[0], None, [], letters, rejected, 0)


def flood_of(first: int, keys: Sequence[bytes], reason: str = "unknown_tenant") -> Handled:
    """Return a chunk of which every message was rejected."""
    return chunk(
        first,
        keys,
        {
            i: DeadLetter(key, b"{}", "audit.auth", 3, first + 2 * i, reason, "why", (0,))
            for i, key in enumerate(keys)
        },
    )


@pytest.fixture
def floods() -> Iterator[Floods]:
    """Stops at the fifth rejected message in a row; tenant-a is in the directory."""
    floods = Floods(Limits(max_run=5), {"tenant-a"}.__contains__)
    yield floods
    floods.clear()


def metric() -> Any:
    labels = {"topic": "audit.auth", "partition": "3"}
    return REGISTRY.get_sample_value("tenantwatch_partition_stopped", labels)


def test_the_chunk_that_opens_it_is_the_last_one(floods: Floods) -> None:
    """It is handled whole; what follows it is named, in the metric and in words."""
    assert floods.judge(flood_of(0, [b"tenant-a"] * 3)) is None
    assert metric() is None
    flood = floods.judge(flood_of(6, [b"tenant-a"] * 4))
    assert flood is not None
    assert flood.next_offset == 13
    assert floods.is_stopped(("audit.auth", 3))
    assert metric() == 1
    assert "audit.auth partition 3 is stopped at offset 13: 5 messages in a row" in flood.problem
    assert "`tenantwatch dead-letters resume`" in flood.problem


def test_the_alert_says_where_since_when_and_what_to_do(floods: Floods) -> None:
    """It is the tenant's that sent most of it; the times are Kafka's."""
    flood = floods.judge(flood_of(100, [b"tenant-b", *[b"tenant-a"] * 6]))
    assert flood is not None
    alert = flood.alert
    assert (alert.detector, alert.classification, alert.severity) == ("dead_letters", "invalid_flood", "high")
    assert (alert.tenant_id, alert.entity.type, alert.entity.value) == (
        "tenant-a",
        "topic_partition",
        "audit.auth:3",
    )
    assert (alert.score, alert.threshold, alert.event_count) == (5, 5, 5)
    assert (alert.first_time.timestamp(), alert.last_time.timestamp()) == (100, 108)
    assert alert.evidence.numbers["offset"] == 108
    assert "5 messages in a row were rejected (most of them as unknown_tenant)" in alert.summary
    assert "resume --topic audit.auth --partition 3" in alert.runbook
    resolved = flood.resolved()
    assert (resolved.alert_id, resolved.revision, resolved.status) == (alert.alert_id, 2, "resolved")


def test_a_run_that_is_longer_than_the_shares_window_is_told_whole() -> None:
    """Since its first message, and the tenant's that sent most of all of it."""
    floods = Floods(Limits(max_run=1_200, max_ratio=1.0), {"tenant-a"}.__contains__)
    flood = floods.judge(flood_of(100, [*[b"tenant-a"] * 700, *[b"tenant-b"] * 500]))
    floods.clear()
    assert flood is not None
    assert flood.alert.first_time.timestamp() == 100
    assert (flood.alert.tenant_id, flood.alert.event_count) == ("tenant-a", 1_200)


@pytest.mark.parametrize(
    "keys",
    [
        [b"tenant-b"] * 5,
        [b"tenant-a", b"tenant-b", b"tenant-a", b"tenant-b", b"tenant-c"],
        [b"tenant-a" * 100] * 5,
    ],
)
def test_a_flood_that_is_nobodys_is_the_platforms(floods: Floods, keys: list[bytes]) -> None:
    """Most of it came from a tenant that is not in the directory, or no tenant sent most of it."""
    flood = floods.judge(flood_of(0, keys))
    assert flood is not None
    assert flood.alert.tenant_id == PLATFORM_TENANT


def test_one_bad_event_of_an_array_is_no_rejected_message(floods: Floods) -> None:
    """A message counts of which more than half was rejected."""

    def array(bad: int, good: int, first: int) -> Handled:
        letters = [
            DeadLetter(
                b"tenant-a", b"[]", "audit.auth", 3, first + 2 * i, "invalid_event", "", (*range(bad),)
            )
            for i in range(10)
        ]
        records = flood_of(first, [b"tenant-a"] * 10).records
        batch = parse(
            "auth", [encode([event(event_id=f"e-{i}-{j}") for j in range(good)]) for i in range(10)]
        ).batch
        batch.offset[:] = [first + 2 * i for i in range(10) for _ in range(good)]
        return handled(records, batch, letters)

    assert floods.judge(array(bad=1, good=2, first=0)) is None
    assert floods.judge(array(bad=2, good=2, first=20)) is None
    assert floods.judge(array(bad=3, good=2, first=40)) is not None


def test_a_partition_goes_on_with_counts_afresh(floods: Floods) -> None:
    """Resumed by topic and partition; the next flood is stopped again."""
    floods.judge(flood_of(0, [b"tenant-a"] * 5))
    assert floods.resume("audit.access") == floods.resume("audit.auth", 4) == []
    assert [flood.partition for flood in floods.resume("audit.auth", 3)] == [3]
    assert floods.stopped == []
    assert metric() is None
    assert floods.judge(flood_of(10, [b"tenant-a"] * 4)) is None
    assert floods.judge(flood_of(18, [b"tenant-a"])) is not None


def test_a_partition_that_goes_to_another_worker_is_forgotten(floods: Floods) -> None:
    """Nothing is stopped, and no number of it stays behind."""
    floods.judge(flood_of(0, [b"tenant-a"] * 5))
    floods.clear()
    assert floods.stopped == []
    assert metric() is None


@pytest.fixture
def harness(kafka: str, tmp_path: Path) -> Iterator[Harness]:
    """A Faust app on an event topic of its own."""
    topic = f"held-{uuid4().hex[:8]}"
    with patch.object(streams.records, "BATCHED_TOPICS", frozenset({topic})):
        yield Harness(kafka, topic, tmp_path)


async def test_a_held_partition_waits_and_loses_nothing(harness: Harness) -> None:
    """The others go on; released, it goes on where it was held: each record is handled once."""
    await harness.create(partitions=2)
    seen: dict[int, list[int]] = {0: [], 1: []}
    producer = AIOKafkaProducer(bootstrap_servers=harness.bootstrap)
    await producer.start()
    for i in range(2 * MANY):
        await producer.send(harness.topic, b"%d" % i, partition=i % 2)
    await producer.flush()
    held = TP(harness.topic, 0)

    async def body(event: Any) -> None:
        records = event.value
        seen[records.partition].extend(records.offsets)
        if records.partition == 0 and len(seen[0]) == len(records):
            await asyncio.sleep(0.5)  # while more chunks of it are delivered
            app.consumer.hold(held, records.offsets[-1] + 1)
        event.ack()

    async with harness.running(body) as app:
        await until(lambda: len(seen[1]) == MANY)
        await producer.send_and_wait(harness.topic, b"later", partition=1)
        await until(lambda: len(seen[1]) == MANY + 1)
        first = len(seen[0])
        assert first <= MAX_CHUNK_RECORDS
        await until(lambda: app.consumer.committed(held) == first)
        assert await app.consumer.position(held) < MANY  # what waits is not read either
        app.consumer.release(held)
        await until(lambda: len(seen[0]) >= MANY)
    await producer.stop()
    assert seen == {0: list(range(MANY)), 1: list(range(MANY + 1))}
    assert [await harness.committed(partition) for partition in range(2)] == [MANY, MANY + 1]


async def test_a_worker_with_only_held_partitions_stays_in_its_group(harness: Harness) -> None:
    """With nothing to ask for it must not look as if it hung, nor take records of all partitions."""
    await harness.create()
    await harness.produce([b"%d" % i for i in range(5_000)])
    seen: list[int] = []
    held = TP(harness.topic, 0)

    async def body(event: Any) -> None:
        if not seen:
            app.consumer.hold(held, event.value.offsets[-1] + 1)
        seen.extend(event.value.offsets)
        event.ack()

    with patch("test_transport.StreamConfig", partial(StreamConfig, max_poll_interval_s=2.0)):
        async with harness.running(body) as app:
            await until(lambda: bool(seen))
            generation = app.consumer_generation_id
            await asyncio.sleep(5)
            first = len(seen)
            assert first < 5_000
            app.consumer.release(held)
            await until(lambda: len(seen) == 5_000)
            assert app.consumer_generation_id == generation
    assert seen == list(range(5_000))


async def test_a_partition_may_begin_before_what_was_committed(harness: Harness) -> None:
    """Said as soon as it is assigned, before it is known where it would have begun; the commit stays."""
    await harness.create()
    await harness.produce([b"%d" % i for i in range(200)])
    seen: list[int] = []

    async def body(event: Any) -> None:
        seen.extend(event.value.offsets)
        event.ack()

    async with harness.running(body):
        await until(lambda: len(seen) == 200)
    assert await harness.committed() == 200
    seen.clear()

    async def begin_at_0(app: Any, assigned: set[TP], **kwargs: Any) -> None:
        app.consumer.hold(TP(harness.topic, 0), 0)
        app.consumer.release(TP(harness.topic, 0))

    async def read(event: Any) -> None:
        seen.extend(event.value.offsets)

    with patch("test_transport.create_app", partial(connected, begin_at_0)):
        async with harness.running(read):
            await until(lambda: len(seen) == 200)
            assert await harness.committed() == 200
    assert seen == list(range(200))


def connected(on_assigned: Any, config: StreamConfig) -> Any:
    """Return an app that tells of its assignments."""
    app = create_app(config)
    app.on_partitions_assigned.connect(on_assigned)
    return app


async def test_a_rebalance_ends_a_hold(harness: Harness) -> None:
    """Whoever has the partition then is given it from the commit on."""
    await harness.create()
    await harness.produce([b"%d" % i for i in range(MANY)])
    seen: set[int] = set()
    held = TP(harness.topic, 0)

    async def body(event: Any) -> None:
        if not seen:
            first.consumer.hold(held, event.value.offsets[-1] + 1)
        seen.update(event.value.offsets)
        event.ack()

    async with harness.running(body) as first:
        await until(lambda: bool(seen))
        generation = first.consumer_generation_id
        async with harness.running(body):
            await until(lambda: first.consumer_generation_id != generation)
            await until(lambda: len(seen) == MANY)
    assert await harness.committed() == MANY


async def test_a_flood_that_cannot_be_told_to_be_over_holds_no_other_partition(tmp_path: Path) -> None:
    """All that `resume` forgets is let go, even if Kafka does not take the alerts."""
    app = create_app(StreamConfig("127.0.0.1:1", tmp_path, "w"))
    pipeline = Pipeline(
        app, TOPICS, Mock(), addresses=Mock(), take_over=Mock(), on_alerts=Mock(), fail=Mock()
    )
    stopped = [Mock(topic="audit.auth", partition=partition) for partition in (3, 4)]
    consumer = Mock()
    with (
        patch.object(type(app), "consumer", consumer),
        patch.object(pipeline.floods, "resume", Mock(return_value=stopped)),
        patch.object(pipeline, "_publish", AsyncMock(side_effect=KafkaError)),
        pytest.raises(KafkaError),
    ):
        await pipeline.resume()
    assert [call.args[0].partition for call in consumer.release.call_args_list] == [3, 4]


async def test_what_an_assignment_taught_is_forgotten_at_the_next(tmp_path: Path) -> None:
    """Who is stopped, and who was met in what is dropped: another worker may have the partitions now."""
    app = create_app(StreamConfig("127.0.0.1:1", tmp_path, "w"))
    pseudonymiser = Mock()
    pipeline = Pipeline(
        app,
        TOPICS,
        Mock(),
        addresses=Mock(),
        take_over=Mock(),
        on_alerts=Mock(),
        fail=Mock(),
        limits=Limits(max_run=5),
        pseudonymiser=pseudonymiser,
    )
    pipeline.floods.judge(flood_of(0, [b"tenant-a"] * 5))
    assert pipeline.floods.stopped
    with patch.object(pipeline, "_prepare", AsyncMock()):
        await pipeline._on_assigned(app, set())
    assert pipeline.floods.stopped == []
    assert pseudonymiser.reset.called


FLOOD = 10_000


@pytest.fixture
def flooded(up: Up) -> Iterator[str]:
    """A tenant that is not in the directory, of which 10,000 events came; at the end nothing is stopped."""
    tenant_id = "flood-a"
    send(up, *((tenant_id, encode(e), {}) for e in events(tenant_id, FLOOD)))
    eventually(lambda: up.control("/status")["problems"])
    yield tenant_id
    add_tenant(up, tenant_id)  # or what is left of the flood would stop the partition again
    up.run("dead-letters", "resume")


def test_a_flood_of_invalid_events_stops_its_partition_until_it_is_resumed(up: Up, flooded: str) -> None:
    """It is said and alerted, other partitions go on, and nothing is lost: each event is stored once."""
    partition = partition_of(flooded.encode(), 12)
    [problem] = up.control("/status")["problems"]
    assert f"audit.auth partition {partition} is stopped" in problem
    assert "1,000 messages in a row were rejected (most of them as unknown_tenant)" in problem
    ready = httpx.get(f"{up.status['http']}/readyz")
    assert (ready.status_code, ready.json()["problems"]) == (503, [problem])
    labels = f'partition="{partition}",topic="audit.auth"'
    assert f"tenantwatch_partition_stopped{{{labels}}} 1.0" in httpx.get(f"{up.status['http']}/metrics").text

    other = next(f"flood-{c}" for c in "bcdefg" if partition_of(f"flood-{c}".encode(), 12) != partition)
    add_tenant(up, other)
    send(up, (other, encode(events(other, 1)[0]), {}))
    eventually(lambda: stored(up, other) == 1)

    [alert] = eventually(lambda: up.control("/alerts", tenant_id=PLATFORM_TENANT, status="open"))
    assert alert["classification"] == "invalid_flood"
    assert alert["entity"] == {"type": "topic_partition", "value": f"audit.auth:{partition}"}

    # The alert is out at once; what was rejected is in the store with the next group.
    eventually(lambda: rejected_so_far(up, flooded) >= 1_000)
    rejected = rejected_so_far(up, flooded)
    assert rejected <= 1_000 + MAX_CHUNK_RECORDS
    add_tenant(up, flooded)
    resumed = up.json("dead-letters", "resume", "--topic", "audit.auth", "--partition", str(partition))
    assert [row["partition"] for row in resumed] == [partition]
    eventually(lambda: stored(up, flooded) == FLOOD - rejected)
    assert up.control("/status")["problems"] == []
    eventually(lambda: not up.control("/alerts", tenant_id=PLATFORM_TENANT, status="open"))

    redriven = up.json("dead-letters", "redrive", "--tenant", flooded, "--yes")
    assert redriven["messages"] == rejected
    eventually(lambda: stored(up, flooded) == FLOOD)
    assert rejected_so_far(up, flooded) == rejected


def rejected_so_far(up: Up, tenant_id: str) -> int:
    return sum(row["messages"] for row in up.control("/dead-letters/counts", tenant_id=tenant_id))


def test_resuming_where_nothing_is_stopped_says_so(up: Up) -> None:
    """That is no failure."""
    done = up.run("dead-letters", "resume")
    assert (done.returncode, done.stdout) == (0, "")
    assert "`tenantwatch status`" in done.stderr


def test_resuming_without_a_worker_is_an_error(tmp_path: Path) -> None:
    """One that starts has nothing stopped."""
    done = CommandLine(settings_env(tmp_path)).run("dead-letters", "resume")
    assert done.returncode == 1
    assert "no worker runs" in done.stderr
