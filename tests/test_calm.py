"""Logins that can wait for more of them: what they are, and that none is lost meanwhile, in a real Kafka."""

import asyncio
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaConnectionError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types import TP
from mode.supervisors import CrashingSupervisor

import streams.calm
import streams.records
from streams.calm import APART_S, LOGINS, MAX_RECORDS, Calm
from streams.faust_app import StreamConfig, create_app

RECORDS = 300
GOOD = b'{"outcome": "success"}'
BAD = b'{"outcome": "failure"}'


class Logins:
    """Shows fetches to a `Calm`, at times of our own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 1_000.0
        monkeypatch.setattr(streams.calm, "monotonic", lambda: self.now_s)
        self.calm = Calm()

    def can_wait(self, *values: bytes | None, tenant: str = "a", topic: str = LOGINS) -> bool:
        some = [SimpleNamespace(key=tenant.encode(), value=value) for value in values]
        return self.calm.can_wait({TP(topic, 0): some})


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> Logins:
    return Logins(monkeypatch)


def test_logins_that_go_well_can_wait_until_there_are_many(logins: Logins) -> None:
    """Nobody is waiting for them; a thousand are worth handling."""
    assert logins.can_wait(GOOD, GOOD)
    assert not logins.can_wait(*[GOOD] * MAX_RECORDS)


def test_what_is_no_login_cannot_wait(logins: Logins) -> None:
    """Alerts on their way to an endpoint come with the same fetches."""
    assert not logins.can_wait(GOOD, topic="audit.alerts")
    assert not logins.can_wait(GOOD, topic="audit.access")


def test_one_failure_can_wait_and_a_second_soon_after_it_cannot(logins: Logins) -> None:
    """Nothing is guessed with one attempt; each tenant's failures are its own."""
    assert logins.can_wait(GOOD, BAD)
    logins.now_s += APART_S - 0.1
    assert logins.can_wait(BAD, tenant="b")
    assert not logins.can_wait(BAD, GOOD)
    assert not logins.can_wait(BAD)
    logins.now_s += APART_S + 0.1
    assert logins.can_wait(BAD)


def test_two_failures_in_one_fetch_cannot_wait(logins: Logins) -> None:
    """They are as close as any."""
    assert not logins.can_wait(BAD, BAD)


@pytest.mark.parametrize("value", [b"[%b,%b]" % (GOOD, BAD), b"no event", b"", None])
def test_what_may_hold_a_failure_counts_as_one(logins: Logins, value: bytes | None) -> None:
    """An array may hold anything; what is no event at all is told of at once too."""
    assert logins.can_wait(value)
    assert not logins.can_wait(value)


def test_many_tenants_take_no_more_memory(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are chosen by whoever sends."""
    monkeypatch.setattr(streams.calm, "MAX_TENANTS", 10)
    for i in range(1_000):
        logins.can_wait(BAD, tenant=f"tenant-{i}")
    assert len(logins.calm._failed_s) <= 11


@pytest.mark.parametrize("fails", [False, True], ids=["steady", "a fetch fails meanwhile"])
async def test_logins_come_together_and_whole(kafka: str, tmp_path: Path, fails: bool) -> None:
    """What trickles in is handed over a few times a second; a fetch that fails in between loses nothing."""
    topic = f"logins-{uuid4().hex[:8]}"
    seen: list[list[int]] = []
    failed: list[str] = []

    async def body(stream: Any) -> None:
        async for event in stream.noack().events():
            seen.append(event.value.offsets[:])
            event.ack()

    fetch = AIOKafkaConsumerThread._fetch_records
    collecting = False

    async def flaky(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal collecting
        if fails and collecting and not failed:
            failed.append("while records wait")
            raise KafkaConnectionError("a fetch of the test fails")
        found = await fetch(self, *args, **kwargs)
        # After a silence a record comes at once.
        collecting = bool(found) and self._fetch.within_s < inf
        return found

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    with (
        patch.object(streams.records, "BATCHED_TOPICS", frozenset({topic})),
        patch.object(streams.calm, "LOGINS", topic),
        patch.object(AIOKafkaConsumerThread, "_fetch_records", flaky),
    ):
        group = f"group-{uuid4().hex[:8]}"
        app = create_app(StreamConfig(kafka, tmp_path, "test", group, commit_interval_s=0.2))
        channel = app.topic(topic, key_type=bytes, value_serializer="raw", key_serializer="raw")
        app.agent(channel, name=topic, supervisor_strategy=CrashingSupervisor)(body)
        await app.start()
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        for _ in range(RECORDS):
            await producer.send(topic, GOOD, key=b"a", partition=0)
            await asyncio.sleep(0.01)
        await producer.stop()
        async with asyncio.timeout(20):
            while sum(map(len, seen)) < RECORDS:
                await asyncio.sleep(0.05)
            await app.stop()
    assert [offset for chunk in seen for offset in chunk] == list(range(RECORDS))
    assert bool(failed) == fails
    assert len(seen) < RECORDS / 4
    committed = await admin.list_consumer_group_offsets(group)
    await admin.close()
    assert {tp.topic: o.offset for tp, o in committed.items()} == {topic: RECORDS}
