"""A worker ends in time, whatever of it hangs."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from streams.worker import END_S, LEAST_WEBHOOKS_S, Worker


class Slow:
    """Takes as long as it may."""

    def __init__(self) -> None:
        self.given_s = 0.0

    async def finish(self, within_s: float) -> None:
        await asyncio.sleep(within_s)

    async def stop(self, deadline_s: float = 60.0) -> None:
        self.given_s = deadline_s
        await asyncio.sleep(deadline_s)


async def at_once() -> None:
    pass


def worker_with(webhooks: Slow, stop_faust: Callable[[], Awaitable[None]]) -> Any:
    worker: Any = Worker.__new__(Worker)
    worker.app = SimpleNamespace(started=False, stop=stop_faust)
    worker._groups = SimpleNamespace(drained=at_once)
    worker._snapshots, worker.sealer, worker._webhooks, worker._tasks = [Slow(), Slow()], Slow(), webhooks, []
    return worker


async def test_faust_that_hangs_in_its_own_shutdown_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits for a group to form, for one; webhooks are stopped all the same, and the worker ends."""
    monkeypatch.setattr("streams.worker.STOP_S", 0.1)
    stopping = asyncio.Event()

    async def hang() -> None:
        stopping.set()
        await asyncio.Event().wait()

    webhooks = Slow()
    monkeypatch.setattr("streams.worker.END_S", 0.2)
    async with asyncio.timeout(5):
        await worker_with(webhooks, hang).stop(failed=True)
    assert stopping.is_set()
    assert webhooks.given_s > 0


async def test_what_hangs_at_the_end_hangs_together_and_within_a_deadline() -> None:
    """Snapshots, seals and a webhook's receiver do not add up to more than the worker may take."""
    webhooks = Slow()
    worker = worker_with(webhooks, at_once)
    began = monotonic()
    await worker.stop()
    assert monotonic() - began < END_S + LEAST_WEBHOOKS_S
    assert webhooks.given_s > END_S - 3, "the others took two seconds, all at once"
