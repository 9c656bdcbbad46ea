"""Time that passes without events: only where it is known that there are none."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from time import time
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock, patch

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition
from faust.types import TP
from test_schemas_alert import alert
from test_transport import Harness, harness, until

from schemas.alert import Alert
from streams.app import Pipeline
from streams.faust_app import StreamConfig, create_app
from streams.idleness import LONGEST_GAP_S, Idleness
from streams.snapshots import SnapshotTaker
from streams.topics import Topics
from streams.transport import ANSWERED_S, Consumer

__all__ = ["harness"]
KEY, OTHER = ("audit.auth", 3), ("audit.auth", 4)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Watched:
    """Two partitions, looked at once a second."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.idleness = Idleness(self.clock)
        self.idleness.begin([KEY, OTHER])
        self.behind: set[tuple[str, int]] = set()

    def look(self, after_s: float = 1.0) -> dict[tuple[str, int], int]:
        self.clock.now_s += after_s
        return self.idleness.look(lambda key: key not in self.behind)


def test_time_passes_where_everything_is_handled() -> None:
    """From the assignment on."""
    watched = Watched()
    watched.look()
    assert watched.look(0.5) == {KEY: 1_500, OTHER: 1_500}


def test_no_time_passes_where_events_wait() -> None:
    """The store is full, or Kafka is away: an hour of it is not an hour of silence."""
    watched = Watched()
    watched.look()
    watched.behind = {KEY}
    for _ in range(3_600):
        passed = watched.look()
    assert passed == {OTHER: 3_601_000}
    watched.behind = set()
    assert watched.look()[KEY] == 1_000
    assert watched.look()[KEY] == 2_000


def test_a_chunk_that_is_in_hand_when_it_is_looked_holds_time_up_only_so_long() -> None:
    """In steady traffic there often is one; none of it waits."""
    watched = Watched()
    for second in range(100):
        watched.behind = {KEY} if second % 3 else set()
        passed = watched.look()
        assert (KEY in passed) == (second % 3 == 0)
    assert passed == {KEY: 100_000, OTHER: 100_000}


def test_the_time_in_which_this_process_was_stopped_has_not_passed() -> None:
    """Nobody knows what came meanwhile, nor whose the partitions were."""
    watched = Watched()
    for _ in range(5):
        watched.look()
    watched.look(LONGEST_GAP_S + 0.1)
    assert watched.look() == {KEY: 6_000, OTHER: 6_000}


def test_partitions_of_an_assignment_that_is_over_are_forgotten() -> None:
    """And those that stay begin from nought."""
    watched = Watched()
    watched.look()
    watched.idleness.begin([OTHER])
    assert watched.look() == {OTHER: 1_000}


class State:
    """A partition's state in which time raises alerts."""

    def __init__(self, *alerts: Alert) -> None:
        self.alerts, self.advanced, self.told, self.next_offset = list(alerts), 0, True, 7
        self.freeze = Mock()

    def advance(self, passed_ms: int, is_held: Callable[[str], bool]) -> list[Alert]:
        assert not is_held("tenant-a"), "the directory is empty"
        self.advanced += 1
        return self.alerts

    def saved(self, next_offset: int) -> None:
        pass


def pipeline_of(tmp_path: Path, **states: Any) -> Pipeline:
    pipeline = Pipeline(
        create_app(StreamConfig("127.0.0.1:1", tmp_path, "w")),
        Topics("cluster", {}, 12, 12),
        Mock(),
        addresses=Mock(advance=Mock(return_value=[]), states={}),
        take_over=Mock(),
        on_alerts=Mock(),
        fail=Mock(),
    )
    pipeline.states = cast(Any, {KEY: states["first"], OTHER: states["second"]})
    pipeline._idleness = Mock(
        look=lambda caught_up: {key: 1_000 for key in pipeline.states if caught_up(key)}
    )
    return pipeline


async def test_no_time_passes_for_tenants_whose_events_wait(tmp_path: Path) -> None:
    """Of a partition that is stopped, or that has not been read to its end."""
    pipeline = pipeline_of(tmp_path, first=State(), second=State())
    consumer = Mock(is_caught_up=lambda tp, _: tp.partition != 4)
    with patch.object(type(pipeline.app), "consumer", consumer):
        pipeline._advance()
        with patch.object(pipeline.floods, "is_stopped", {KEY}.__contains__):
            pipeline._advance()
    assert [cast(Any, state).advanced for state in pipeline.states.values()] == [1, 0]


async def test_a_rebalance_while_alerts_are_sent_does_not_end_the_worker(tmp_path: Path) -> None:
    """The partitions are another worker's then, whose time is not ours."""
    second = State()
    pipeline = pipeline_of(tmp_path, first=State(alert()), second=second)

    async def publish(alerts: Any) -> None:
        pipeline.states = {}
        pipeline._idleness.begin([])

    with (
        patch.object(type(pipeline.app), "consumer", Mock()),
        patch.object(pipeline, "_publish_all", publish),
        patch("streams.app.IDLE_TICK_S", 0.01),
    ):
        running = asyncio.create_task(pipeline.run_idle())
        await asyncio.sleep(0.2)
        assert not running.done()
        running.cancel()
    assert second.advanced == 1


async def test_no_time_passes_while_partitions_are_taken_over(tmp_path: Path) -> None:
    """What was counted before is no silence of the states that are loaded now, addresses' first of all."""
    pipeline, clock, addresses = pipeline_of(tmp_path, first=State(), second=State()), Clock(), Mock()
    addresses.advance.return_value = []
    pipeline._addresses, pipeline._idleness = addresses, Idleness(clock)
    pipeline._idleness.begin([KEY])
    with patch.object(type(pipeline.app), "consumer", Mock()):
        for _ in range(2):
            clock.now_s += 1.0
            addresses.states = {KEY: State()}
            pipeline._advance()
            pipeline._end_taking_over()
    assert [call.args for call in addresses.advance.call_args_list] == [({KEY: 1_000},), ({},)]


async def test_no_snapshot_knows_of_an_alert_that_kafka_does_not_have(tmp_path: Path) -> None:
    """Who loaded it after a crash would never raise that alert."""
    state = State(alert())
    pipeline = pipeline_of(tmp_path, first=state, second=State())
    sending = asyncio.Event()

    async def acknowledged(alerts: Any) -> None:
        await sending.wait()

    publish = AsyncMock(side_effect=acknowledged)
    taker = SnapshotTaker(cast(Any, pipeline), Mock(), 60)
    with (
        patch.object(type(pipeline.app), "consumer", Mock()),
        patch.object(pipeline, "_publish_all", publish),
        patch("streams.app.IDLE_TICK_S", 0.01),
    ):
        running = asyncio.create_task(pipeline.run_idle())
        await until(lambda: publish.called)
        await taker._take(KEY, cast(Any, state))
        assert not state.freeze.called
        state.alerts = []
        sending.set()
        await until(lambda: state.told)
        running.cancel()
    state.freeze.return_value.parts.return_value = []
    await taker._take(KEY, cast(Any, state))
    assert state.freeze.called


class Client:
    """Kafka's client as far as it is looked at: one partition, read to offset 9 of 9, a marker at the end."""

    def __init__(self) -> None:
        self.tp = TP(*KEY)
        self.state = SimpleNamespace(
            position=9, highwater=9, has_valid_position=True, timestamp=int(time() * 1000)
        )
        tps = {TopicPartition(*KEY)}
        assignment = SimpleNamespace(tps=tps, state_value=lambda _: self.state)
        self.subscription: Any = SimpleNamespace(assignment=assignment)

    def consumer(self, tmp_path: Path) -> Consumer:
        app = create_app(StreamConfig("127.0.0.1:1", tmp_path, "w"))
        client = SimpleNamespace(_subscription=self)
        thread = Mock(_ensure_consumer=lambda: client)
        with patch.object(Consumer, "_new_consumer_thread", return_value=thread):
            return Consumer(app.transport, Mock(), Mock(), Mock())


async def test_a_partition_is_caught_up_when_all_that_kafka_has_is_handled(tmp_path: Path) -> None:
    """Each thing that can wait makes it not so."""
    client = Client()
    consumer = client.consumer(tmp_path)
    assert consumer.is_caught_up(client.tp, 8)
    consumer._delivered[client.tp].append(cast(Any, SimpleNamespace(offset=7)))
    assert consumer.is_caught_up(client.tp, 8)
    assert not consumer.is_caught_up(client.tp, 7)  # delivered, and not handled
    consumer._fetched = {client.tp: [object()]}
    assert not consumer.is_caught_up(client.tp, 8)  # fetched, and not delivered
    consumer._taken[client.tp] = 1
    assert consumer.is_caught_up(client.tp, 8)
    consumer._held[client.tp] = 8
    assert not consumer.is_caught_up(client.tp, 8)


@pytest.mark.parametrize(
    ("changed", "value"),
    [
        ("position", 8),
        ("has_valid_position", False),
        ("timestamp", None),
    ],
)
async def test_what_kafka_has_not_just_said_is_not_known(tmp_path: Path, changed: str, value: Any) -> None:
    """It is ahead of us, or silent."""
    client = Client()
    setattr(client.state, changed, value)
    assert not client.consumer(tmp_path).is_caught_up(client.tp, 8)


@pytest.mark.parametrize("hours", [-1, 1])
async def test_where_the_clock_has_jumped_nothing_is_known(tmp_path: Path, hours: int) -> None:
    """Until Kafka answers again, nobody can tell how long ago it did."""
    client = Client()
    client.state.timestamp = int((time() + 3_600 * hours) * 1000)
    assert not client.consumer(tmp_path).is_caught_up(client.tp, 8)


async def test_between_two_assignments_nothing_is_caught_up(tmp_path: Path) -> None:
    """Nor after a partition was given away."""
    client = Client()
    consumer = client.consumer(tmp_path)
    assert not consumer.is_caught_up(TP(*OTHER), 8)
    client.subscription = None
    assert not consumer.is_caught_up(client.tp, 8)


async def test_where_to_begin_is_asked_again_if_kafka_is_away(tmp_path: Path) -> None:
    """Or if the assignment has changed meanwhile: neither may end the worker."""
    consumer = Client().consumer(tmp_path)
    with (
        patch.object(type(consumer.app), "rebalancing", False, create=True),
        patch.object(consumer, "assignment", set),
        patch.object(consumer, "starts", AsyncMock(side_effect=IllegalStateError)),
    ):
        assert not await consumer._begun(1)
    assert consumer._generation is None


async def test_a_quiet_partition_is_caught_up_and_one_with_waiting_events_is_not(harness: Harness) -> None:
    """With a real Kafka: also past a transaction's marker, and long after the last event."""
    await harness.create()
    tp, seen, gate = TP(harness.topic, 0), list[int](), asyncio.Event()

    async def body(event: Any) -> None:
        await gate.wait()
        seen.extend(event.value.offsets)
        event.ack()

    async with harness.running(body) as app:
        consumer = app.consumer

        def caught_up() -> bool:
            return bool(consumer.is_caught_up(tp, seen[-1] + 1 if seen else 0))

        await until(caught_up)
        producer = AIOKafkaProducer(bootstrap_servers=harness.bootstrap, transactional_id=harness.group)
        await producer.start()
        async with producer.transaction():
            await producer.send_and_wait(harness.topic, b"x", partition=0)
        await producer.stop()
        await until(lambda: not caught_up())
        await asyncio.sleep(1)
        assert not caught_up()
        gate.set()
        await until(caught_up)
        await asyncio.sleep(2 * ANSWERED_S)
        assert caught_up()


async def test_time_passes_in_a_partition_that_always_hears_something(harness: Harness) -> None:
    """With a real Kafka: what is in hand at one look is handled at the next."""
    await harness.create()
    tp, seen, idleness = TP(harness.topic, 0), [-1], Idleness()

    async def body(event: Any) -> None:
        await asyncio.sleep(0.005)
        seen.append(event.value.offsets[-1])
        event.ack()

    async with (
        harness.running(body) as app,
        AIOKafkaProducer(bootstrap_servers=harness.bootstrap) as producer,
    ):
        idleness.begin([tp])
        for _ in range(60):
            for _ in range(10):
                await asyncio.sleep(0.01)
                await producer.send_and_wait(harness.topic, b"x", partition=0)
            passed = idleness.look(lambda _: app.consumer.is_caught_up(tp, seen[-1] + 1))
            if passed.get(tp, 0) > 3_000:
                return
    raise AssertionError(passed)
