"""What a worker says and does about a Kafka or a store that is away."""

import asyncio
from collections.abc import Sequence
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

import streams.directory
from streams.alert_rows import AlertRows
from streams.directory import Directory
from streams.topic_watch import TopicWatch
from streams.topics import TopicError
from streams.worker import SLOW_STORE_S, Worker


async def test_faust_has_its_time_again_after_kafka_was_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """It could restore nothing meanwhile; only when nothing comes from a Kafka that answers, it hangs."""
    monkeypatch.setattr("streams.worker.RESTORE_S", 1.0)
    answered: list[float] = []

    def read(names: Sequence[str]) -> dict[str, str]:
        answered.append(monotonic())
        if len(answered) == 1:
            raise TopicError("away")
        return {}

    worker: Any = Worker.__new__(Worker)
    worker._topic_watch = TopicWatch({}, read)
    worker._restoring = lambda: (1, 0, 7)
    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError, match="directory was not restored"):
            await worker._watch_restoring()
    assert monotonic() - answered[1] > 1.0


async def test_alerts_that_the_store_does_not_take_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events may go on meanwhile, so nothing else tells of it; what a rebalance took away is none."""
    rows: Any = AlertRows(SimpleNamespace(insert_alerts=lambda rows: None), SimpleNamespace())  # type: ignore[arg-type]
    rows._webhooks.on_alerts = lambda alerts: asyncio.Event().wait()
    worker: Any = Worker.__new__(Worker)
    worker._alert_rows = rows
    worker.app = SimpleNamespace(consumer=SimpleNamespace(begun=True))
    is_set = SimpleNamespace(is_set=lambda: True)
    worker.pipeline = SimpleNamespace(
        assigned={1},
        directory=SimpleNamespace(ready=is_set),
        taken_over=is_set,
        floods=SimpleNamespace(stopped=[]),
    )
    worker._groups = SimpleNamespace(fenced=False, store_up=True, insert_waits_s=0.0)
    taking = asyncio.create_task(rows.take([]))
    await asyncio.sleep(0.1)
    assert worker.problems == []
    monkeypatch.setattr("streams.alert_rows.monotonic", lambda: monotonic() + SLOW_STORE_S)
    assert [problem.split(":")[0] for problem in worker.problems] == ["alerts"]
    taking.cancel()
    await asyncio.wait({taking})
    assert worker.problems == []


@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
async def test_the_directory_is_read_again_after_a_kafka_that_was_away(
    monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """The worker waits for it, and neither ends nor takes for read what was not."""
    monkeypatch.setattr(streams.directory, "LOOK_TIMEOUT_S", 0.2)
    monkeypatch.setattr(streams.directory, "MARKER_QUIET_S", 0.1)
    tries: list[int] = []

    async def read(self: Directory) -> None:
        tries.append(1)
        if len(tries) < 3:
            await asyncio.sleep(60 if hangs else 0)
            raise KafkaConnectionError("away")

    async def all_at(offset: int, *tps: Any) -> Any:
        return dict.fromkeys(tps, offset)

    async def position(tp: Any) -> int:
        return 5

    monkeypatch.setattr(Directory, "_read_to_the_end", read)
    directory: Any = Directory.__new__(Directory)
    directory._app = SimpleNamespace(
        consumer=SimpleNamespace(
            highwaters=lambda *tps: all_at(5, *tps),
            earliest_offsets=lambda *tps: all_at(0, *tps),
            position=position,
        ),
        tables=SimpleNamespace(recovery=SimpleNamespace(active_tps=[])),
    )
    directory._seen, directory._entries, directory._partitions = {}, {}, range(1)
    directory._looking, directory.ready = asyncio.Lock(), asyncio.Event()
    async with asyncio.timeout(10):
        await directory.follow()
    assert len(tries) == 3
    assert directory.ready.is_set()
