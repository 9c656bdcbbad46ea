"""What a clean stop commits."""

import asyncio
from typing import Any

import pytest
from faust.transport.drivers import aiokafka as driver
from test_transport import Harness, harness, until

__all__ = ["harness"]


async def test_a_stop_commits_what_was_acknowledged_during_a_commit(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit that is under way on a slow machine knows nothing of it, and none follows the stop."""
    await harness.create()
    commit = driver.Consumer._commit
    under_way, go_on = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def slowly(self: Any, offsets: Any) -> bool:
        under_way.set()
        await go_on.wait()
        return bool(await commit(self, offsets))

    async def body(event: Any) -> None:
        seen.extend(event.value.offsets)
        event.ack()

    monkeypatch.setattr(driver.Consumer, "_commit", slowly)
    await harness.produce([b"1"])
    async with harness.running(body):
        await until(under_way.is_set)
        await harness.produce([b"2"])
        await until(lambda: len(seen) == 2)
        asyncio.get_running_loop().call_later(0.5, go_on.set)
    assert await harness.committed() == 2
