"""A topic that is deleted and made anew under a running worker ends it, before anything is skipped."""

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import TopicAlreadyExistsError

from streams.topic_watch import TopicReplaced, TopicWatch, read_topic_ids
from streams.topics import CONFIGS, DEAD_LETTERS, TopicError
from streams.worker import Worker
from tests.conftest import eventually

BEGAN = {name: f"id of {name}" for name in CONFIGS}


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {DEAD_LETTERS}))
async def test_a_topic_with_another_id_is_told(name: str) -> None:
    """Which, what its ids are, and what to do; every topic that is read by its offsets."""
    watch = TopicWatch(BEGAN, lambda names: BEGAN | {name: "another"})
    with pytest.raises(TopicReplaced, match=f"{name} .* id of {name} .* another.* Start the worker again"):
        await watch.check()


async def test_a_topic_that_is_gone_is_waited_for() -> None:
    """Nothing is read of it; when it comes back, its id tells."""
    await TopicWatch(BEGAN, lambda names: {}).check()


async def test_a_kafka_that_is_away_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """To go on unchecked could skip what is new."""
    monkeypatch.setattr("streams.topic_watch.RETRY_S", 0.01)
    answers = [TopicError("away"), BEGAN]

    def read(names: Sequence[str]) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    await TopicWatch(BEGAN, read).check()
    assert answers == []


async def test_a_worker_looks_before_it_takes_partitions_over() -> None:
    """What it would read back is the old topic's, and new events at the same offsets would be skipped."""
    worker: Any = Worker.__new__(Worker)
    taken: list[Any] = []
    worker._recovery = SimpleNamespace(recover=lambda *given: taken.append(given))
    worker._topic_watch = TopicWatch(BEGAN, lambda names: BEGAN | {"audit.auth": "another"})
    with pytest.raises(TopicReplaced):
        await worker._take_over(None, set(), 1)
    assert taken == []


def test_kafka_gives_a_topic_that_is_made_anew_another_id(kafka: str) -> None:
    """With the real one: the same name, found out."""
    name = f"replaced-{uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=kafka)
    admin.create_topics([NewTopic(name, 1, 1)])
    began = eventually(lambda: read_topic_ids(kafka, [name]))
    watch = TopicWatch(began, partial(read_topic_ids, kafka))
    asyncio.run(watch.check())
    admin.delete_topics([name])
    for _ in range(100):
        try:
            admin.create_topics([NewTopic(name, 1, 1)])
            break
        except TopicAlreadyExistsError:
            time.sleep(0.1)
    admin.close()
    eventually(lambda: read_topic_ids(kafka, [name]))
    with pytest.raises(TopicReplaced):
        asyncio.run(watch.check())
