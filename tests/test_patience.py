"""Topics whose records may collect for longer than others' (docs/decisions/0024), against a real Kafka."""

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from mode.supervisors import CrashingSupervisor

import streams.pace
import streams.records
from streams.faust_app import StreamConfig, create_app

RECORDS = 300


async def test_patient_topics_come_in_fewer_chunks_and_whole(kafka: str, tmp_path: Path) -> None:
    """While records trickle into both, those of a patient topic come more together; none is lost."""
    quick, patient = (f"{name}-{uuid4().hex[:8]}" for name in ("quick", "patient"))
    seen: dict[str, list[list[int]]] = defaultdict(list)

    async def body(stream: Any) -> None:
        async for event in stream.noack().events():
            seen[event.value.topic].append(event.value.offsets[:])
            event.ack()

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1) for topic in (quick, patient)])
    with (
        patch.object(streams.records, "BATCHED_TOPICS", frozenset({quick, patient})),
        patch.object(streams.records, "PATIENT_TOPICS", frozenset({patient})),
        # However busy this machine is: the shortest wait.
        patch.object(streams.pace, "BUSY_SHARE", 1_000.0),
    ):
        group = f"group-{uuid4().hex[:8]}"
        app = create_app(StreamConfig(kafka, tmp_path, "test", group, commit_interval_s=0.2))
        for topic in (quick, patient):
            channel = app.topic(topic, key_type=bytes, value_serializer="raw", key_serializer="raw")
            app.agent(channel, name=topic, supervisor_strategy=CrashingSupervisor)(body)
        await app.start()
        producer = AIOKafkaProducer(bootstrap_servers=kafka)
        await producer.start()
        for _ in range(RECORDS):
            for topic in (quick, patient):
                await producer.send(topic, b"x", partition=0)
            await asyncio.sleep(0.01)
        await producer.stop()
        async with asyncio.timeout(20):
            while sum(len(chunk) for chunks in seen.values() for chunk in chunks) < 2 * RECORDS:
                await asyncio.sleep(0.05)
            await app.stop()
    for topic in (quick, patient):
        assert [offset for chunk in seen[topic] for offset in chunk] == list(range(RECORDS))
    assert len(seen[patient]) < len(seen[quick]) / 2
    committed = await admin.list_consumer_group_offsets(group)
    await admin.close()
    assert {tp.topic: o.offset for tp, o in committed.items()} == {quick: RECORDS, patient: RECORDS}
