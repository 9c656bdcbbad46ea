"""A worker ends in time, whatever of it hangs."""

import asyncio
from time import monotonic
from types import SimpleNamespace
from typing import Any

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


async def test_what_hangs_at_the_end_hangs_together_and_within_a_deadline() -> None:
    """Snapshots, seals and a webhook's receiver do not add up to more than the worker may take."""
    worker: Any = Worker.__new__(Worker)
    webhooks = Slow()

    async def at_once() -> None:
        pass

    worker.app = SimpleNamespace(started=False, stop=at_once)
    worker._groups = SimpleNamespace(drained=at_once)
    worker._snapshots, worker.sealer, worker._webhooks, worker._tasks = [Slow(), Slow()], Slow(), webhooks, []
    began = monotonic()
    await worker.stop()
    assert monotonic() - began < END_S + LEAST_WEBHOOKS_S
    assert webhooks.given_s > END_S - 3, "the others took two seconds, all at once"
