"""Logins that can wait for more of them: what they are, and that none is lost meanwhile, in a real Kafka."""

import asyncio
from collections.abc import Callable
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
import streams.pace
import streams.records
import streams.transport
from streams.calm import APART_S, LOGINS, Calm
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


def test_logins_that_go_well_can_wait(logins: Logins) -> None:
    """Nobody is waiting for them."""
    assert logins.can_wait(GOOD, GOOD)
    assert logins.can_wait(b"[%b,%b]" % (GOOD, GOOD))


def test_what_is_no_login_cannot_wait(logins: Logins) -> None:
    """Alerts on their way to an endpoint come with the same fetches."""
    assert not logins.can_wait(GOOD, topic="audit.alerts")
    assert not logins.can_wait(GOOD, topic="audit.access")


def test_two_failures_can_wait_and_a_third_soon_after_them_cannot(logins: Logins) -> None:
    """Whoever guesses does so again and again; each tenant's failures are its own."""
    assert logins.can_wait(GOOD, BAD)
    logins.now_s += APART_S / 2
    assert logins.can_wait(BAD)
    logins.now_s += APART_S / 2 - 0.1
    assert logins.can_wait(BAD, tenant="b")
    assert not logins.can_wait(BAD, GOOD)
    assert not logins.can_wait(BAD)
    logins.now_s += APART_S + 0.1
    assert logins.can_wait(BAD, BAD)


def test_three_failures_in_one_fetch_or_message_cannot_wait(logins: Logins) -> None:
    """They are as close as any."""
    assert not logins.can_wait(BAD, BAD, BAD)
    assert not logins.can_wait(b"[%b,%b,%b]" % (BAD, BAD, BAD), tenant="b")
    assert not logins.can_wait(b"[" + b",".join([BAD] * 1_000) + b"]", tenant="c")


def test_failures_that_come_with_something_else_count(logins: Logins) -> None:
    """The fetch ends the wait by itself; the third failure after it does, too."""
    some = [SimpleNamespace(key=b"a", value=BAD)] * 2
    assert not logins.calm.can_wait({TP(LOGINS, 0): some, TP("audit.access", 0): []})
    assert not logins.can_wait(BAD)


def test_failures_that_come_back_by_address_can_wait(logins: Logins) -> None:
    """Each has been judged in its tenant; these are compared with an hour's. Logins with them count."""
    assert logins.can_wait(BAD, BAD, BAD, topic="audit.failures-by-ip")
    assert logins.can_wait(BAD, BAD)
    some = [SimpleNamespace(key=b"a", value=BAD)]
    assert not logins.calm.can_wait({TP("audit.failures-by-ip", 0): some, TP(LOGINS, 0): some})


@pytest.mark.parametrize("value", [b"[%b,%b]" % (GOOD, BAD), b"no event", b"", None])
def test_what_may_hold_a_failure_counts_as_one(logins: Logins, value: bytes | None) -> None:
    """An array may hold anything, and so may what is no event at all."""
    assert logins.can_wait(value, value)
    assert not logins.can_wait(value)


def test_many_tenants_take_no_more_memory(logins: Logins, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys are chosen by whoever sends."""
    monkeypatch.setattr(streams.calm, "MAX_TENANTS", 10)
    for i in range(1_000):
        logins.can_wait(BAD, tenant=f"tenant-{i}")
    assert len(logins.calm._failed_s) <= 11


class Trickle:
    """Logins that come one by one to a topic of their own, and what an agent is given of them."""

    def __init__(self, kafka: str, directory: Path) -> None:
        self.kafka, self.directory = kafka, directory
        self.topic, self.group = f"logins-{uuid4().hex[:8]}", f"group-{uuid4().hex[:8]}"
        self.seen: list[list[int]] = []

    async def body(self, stream: Any) -> None:
        async for event in stream.noack().events():
            self.seen.append(event.value.offsets[:])
            event.ack()

    async def run(self, until: Callable[[Any], bool]) -> None:
        """Send logins to a running app until it has all of them, or something else has happened."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        await admin.create_topics([NewTopic(self.topic, 1, 1)])
        await admin.close()
        app = create_app(StreamConfig(self.kafka, self.directory, "test", self.group, commit_interval_s=0.2))
        channel = app.topic(self.topic, key_type=bytes, value_serializer="raw", key_serializer="raw")
        app.agent(channel, name=self.topic, supervisor_strategy=CrashingSupervisor)(self.body)
        with (
            patch.object(streams.records, "BATCHED_TOPICS", frozenset({self.topic})),
            patch.object(streams.calm, "LOGINS", self.topic),
        ):
            await app.start()
            producer = AIOKafkaProducer(bootstrap_servers=self.kafka)
            await producer.start()
            for _ in range(RECORDS):
                await producer.send(self.topic, GOOD, key=b"a", partition=0)
                await asyncio.sleep(0.01)
            await producer.stop()
            async with asyncio.timeout(20):
                while not until(app):
                    await asyncio.sleep(0.05)
                await app.stop()

    async def committed(self) -> dict[str, int]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self.kafka)
        await admin.start()
        offsets = await admin.list_consumer_group_offsets(self.group)
        await admin.close()
        return {tp.topic: offset.offset for tp, offset in offsets.items()}

    def handed_over(self) -> list[int]:
        return [offset for chunk in self.seen for offset in chunk]


async def test_logins_come_together_and_whole(kafka: str, tmp_path: Path) -> None:
    """What trickles in is handed over a few times a second, and committed to the last."""
    logins = Trickle(kafka, tmp_path)
    await logins.run(lambda _: sum(map(len, logins.seen)) == RECORDS)
    assert logins.handed_over() == list(range(RECORDS))
    assert len(logins.seen) < RECORDS / 4
    assert await logins.committed() == {logins.topic: RECORDS}


async def test_logins_wait_until_there_are_many(
    kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long they might."""
    monkeypatch.setattr(streams.transport, "CALM_S", 3_600.0)
    monkeypatch.setattr(streams.pace, "LONGEST_PATIENCE_S", 3_600.0)
    monkeypatch.setattr(streams.transport, "MAX_RECORDS", RECORDS // 10)
    logins = Trickle(kafka, tmp_path)
    await logins.run(lambda _: sum(map(len, logins.seen)) >= RECORDS * 0.8)
    assert logins.handed_over() == list(range(len(logins.handed_over())))


async def test_a_fetch_that_fails_meanwhile_is_told_of_after_the_logins_that_wait(
    kafka: str, tmp_path: Path
) -> None:
    """They are handed over first; then the worker ends, as with any error of the client."""
    fetch = AIOKafkaConsumerThread._fetch_records
    fetched, collecting, failed = 0, False, False

    async def flaky(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal fetched, collecting, failed
        if collecting and not failed:
            failed = True
            raise KafkaConnectionError("a fetch of the test fails")
        found = await fetch(self, *args, **kwargs)
        if not failed:
            fetched += sum(map(len, found.values()))
        # After a silence a record comes at once.
        collecting = bool(found) and self._fetch.within_s < inf
        return found

    logins = Trickle(kafka, tmp_path)
    with patch.object(AIOKafkaConsumerThread, "_fetch_records", flaky):
        await logins.run(lambda app: bool(app.crashed))
    assert failed
    assert logins.handed_over() == list(range(fetched))
