"""Chunks of an assignment that is over, which the pipeline still has in its hands."""

import asyncio
from collections.abc import AsyncIterator
from operator import attrgetter
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock, patch

import numpy as np
import pytest
from aiokafka.errors import KafkaTimeoutError
from faust.types import TP
from test_recovery import PARTITION, PARTITIONS, TENANT, TOPIC, guess

from schemas.batch import EventBatch
from schemas.tenant import Tenant
from store.ownership import Claim, Stored
from streams import metrics
from streams.app import Pipeline
from streams.directory import Entry
from streams.faust_app import StreamConfig, create_app
from streams.partition import PartitionState
from streams.records import Records
from streams.topics import FAILURES_BY_IP, Topics


def owned(generation: int) -> PartitionState:
    return PartitionState("auth", PARTITIONS, Claim(TOPIC, PARTITION, generation, generation))


def pipeline_of(folder: Path) -> Any:
    pipeline: Any = Pipeline(
        create_app(StreamConfig("127.0.0.1:1", folder, "w")),
        Topics("cluster", {}, PARTITIONS, PARTITIONS),
        Mock(add=AsyncMock()),
        addresses=Mock(),
        take_over=Mock(),
        on_alerts=Mock(),
        fail=Mock(),
    )
    pipeline.directory._entries = {TENANT: Entry(Tenant(tenant_id=TENANT, organization_id="o", name="n"), 0)}
    return pipeline


def assign(pipeline: Any, generation: int) -> PartitionState:
    state = owned(generation)
    pipeline.states, pipeline.generation = {(TOPIC, PARTITION): state}, generation
    pipeline.taken_over.set()
    return state


async def handle(pipeline: Any, generation: int) -> Mock:
    """Handle a chunk that was delivered in a generation of the group; return its acknowledgement."""
    records = Records(TOPIC, PARTITION, [0], [TENANT.encode()], [guess(0)], [()], [0])
    ack = Mock()
    await pipeline.handle("auth", Mock(generation_id=generation), records, ack)
    return ack


async def test_a_chunk_of_this_assignment_is_handled(tmp_path: Path) -> None:
    """So that the tests below say something."""
    pipeline = pipeline_of(tmp_path)
    state = assign(pipeline, 2)
    await handle(pipeline, 2)
    assert (state.next_offset, pipeline._writer.add.called) == (1, True)


async def test_what_the_last_owner_stored_of_a_chunk_is_not_stored_again(tmp_path: Path) -> None:
    """It is looked for before the chunk is handled."""
    pipeline = pipeline_of(tmp_path)
    state = assign(pipeline, 2)
    state.stored_end = 1
    state.read_back = AsyncMock(return_value=Stored(np.array([0]), np.array([0], np.uint8)))
    await handle(pipeline, 2)
    [handled] = pipeline._writer.add.call_args.args[:1]
    assert (handled.skipped, len(handled.unstored)) == (1, 0)


async def test_a_chunk_that_waited_through_a_rebalance_is_left_to_whoever_is_given_it_again(
    tmp_path: Path,
) -> None:
    """The partition is this worker's once more, and the chunk will be delivered anew."""
    pipeline = pipeline_of(tmp_path)
    state = assign(pipeline, 2)
    ack = await handle(pipeline, 1)
    assert (state.next_offset, pipeline._writer.add.called, ack.called) == (0, False, False)


async def test_a_rebalance_while_an_unknown_tenant_is_looked_for_ends_the_chunk(tmp_path: Path) -> None:
    """That reads Kafka; meanwhile the partition is taken over anew."""
    pipeline = pipeline_of(tmp_path)
    assign(pipeline, 1)
    new: list[PartitionState] = []

    async def look(batch: EventBatch) -> None:
        new.append(assign(pipeline, 2))

    pipeline.directory.look_for_unknown = look
    ack = await handle(pipeline, 1)
    assert (new[0].next_offset, pipeline._writer.add.called, ack.called) == (0, False, False)


class Delivered:
    """A stream of failures by address, one chunk of each of some generations."""

    def __init__(self, *generations: int) -> None:
        self._generations = generations

    def noack(self) -> "Delivered":
        return self

    async def events(self) -> AsyncIterator[Any]:
        for offset, generation in enumerate(self._generations):
            records = Records(FAILURES_BY_IP, PARTITION, [offset], [None], [b"{}"], [()], [0])
            yield Mock(message=Mock(generation_id=generation), value=records)


async def test_failures_of_an_assignment_that_is_over_are_not_judged(tmp_path: Path) -> None:
    """They come again, to whoever has the partition now."""
    pipeline = pipeline_of(tmp_path)
    pipeline._addresses.handle = AsyncMock()
    assign(pipeline, 2)
    await pipeline._consume_failures(Delivered(1, 2))
    assert [call.args[0].offsets for call in pipeline._addresses.handle.call_args_list] == [[1]]


def taking_over(pipeline: Any, *outcomes: Any) -> Any:
    """Let taking over have these outcomes, one at each try."""
    pipeline.directory.follow = AsyncMock()
    pipeline._addresses = Mock(take_over=AsyncMock(), states={})
    pipeline._take_over = AsyncMock(side_effect=outcomes)
    return patch.object(type(pipeline.app), "consumer", Mock())


async def test_taking_over_is_tried_again_while_kafka_is_away(tmp_path: Path) -> None:
    """It comes back, and the worker has not ended."""
    pipeline = pipeline_of(tmp_path)
    state = owned(2)
    away = KafkaTimeoutError()
    with taking_over(pipeline, away, away, {(TOPIC, PARTITION): state}):
        await pipeline._prepare({TP(TOPIC, PARTITION)}, 2)
    assert pipeline.states == {(TOPIC, PARTITION): state}
    assert (pipeline.generation, pipeline.taken_over.is_set()) == (2, True)
    assert not pipeline._fail.called


@pytest.mark.parametrize("what", ["directory.follow", "_addresses.take_over"])
async def test_the_warm_up_that_is_told_is_all_that_events_wait_for(tmp_path: Path, what: str) -> None:
    """The directory and the states by address, too."""
    pipeline = pipeline_of(tmp_path)

    async def slow(*_: Any) -> None:
        await asyncio.sleep(0.1)

    with taking_over(pipeline, {}):
        attrgetter(what)(pipeline).side_effect = slow
        await pipeline._prepare({TP(TOPIC, PARTITION)}, 2)
    assert metrics.RECOVERY_SECONDS._value.get() >= 0.1


async def test_taking_over_that_waits_for_kafka_ends_with_the_next_assignment(tmp_path: Path) -> None:
    """Whose partitions they are is another question then."""
    pipeline = pipeline_of(tmp_path)
    with taking_over(pipeline, *[KafkaTimeoutError()] * 100):
        await pipeline._on_assigned(pipeline.app, {TP(TOPIC, PARTITION)})
        waiting = pipeline._taking_over
        while not pipeline._take_over.called:
            await asyncio.sleep(0.01)
        pipeline._take_over = AsyncMock(return_value={})
        await pipeline._on_assigned(pipeline.app, {TP(TOPIC, PARTITION)})
        await pipeline._taking_over
    assert waiting.cancelled()
    assert pipeline.taken_over.is_set()
    assert not pipeline._fail.called
