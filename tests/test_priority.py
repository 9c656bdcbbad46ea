"""Python's threads go before the engine's, where the system allows it."""

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import pytest

from store.database import Database
from streams import priority
from streams.priority import HEADWAY, USUAL, go_as_usual, keep_order

pytestmark = pytest.mark.skipif(not priority._THREADS.exists(), reason="on Linux only")


def may_go_first() -> bool:
    """Whether this process may lower its niceness; tried in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        try:
            pool.submit(
                lambda: os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), USUAL - HEADWAY)
            ).result()
        except OSError:
            return False
    return True


takes_a_right = pytest.mark.skipif(not may_go_first(), reason="takes CAP_SYS_NICE, or a limit of niceness")


def niceness() -> dict[bool, set[int]]:
    """Return how nice Python's threads are, and how nice the others."""
    pythons = {thread.native_id for thread in threading.enumerate()}
    found: dict[bool, set[int]] = {True: set(), False: set()}
    for path in priority._THREADS.iterdir():
        with contextlib.suppress(ProcessLookupError):
            found[int(path.name) in pythons].add(os.getpriority(os.PRIO_PROCESS, int(path.name)))
    return found


@asynccontextmanager
async def kept(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    monkeypatch.setattr(priority, "LOOK_S", 0.01)
    keeping = asyncio.create_task(keep_order())
    await asyncio.sleep(0.1)
    yield
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


@takes_a_right
async def test_pythons_threads_go_before_the_engines_until_it_ends(
    monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    """Also those that are begun later, each of which begins as nice as the one that made it."""
    async with kept(monkeypatch):
        with ThreadPoolExecutor(1) as pool:
            pool.submit(database.query, "SELECT count() FROM numbers(1000000)").result()
            await asyncio.sleep(0.2)
            assert niceness() == {True: {USUAL - HEADWAY}, False: {USUAL}}
    found = niceness()
    assert found[True] | found[False] == {USUAL}


@takes_a_right
async def test_what_a_first_thread_starts_goes_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backtest that the API starts is work of minutes, and no alert."""
    async with kept(monkeypatch):
        child = await asyncio.create_subprocess_exec("sleep", "60")
        began = os.getpriority(os.PRIO_PROCESS, child.pid)
        go_as_usual(child.pid)
        assert (began, os.getpriority(os.PRIO_PROCESS, child.pid)) == (USUAL - HEADWAY, USUAL)
        child.kill()
        await child.wait()


async def test_who_may_not_asks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user's worker runs on, with all threads alike."""
    asked = []

    def refuse(*given: int) -> None:
        asked.append(given)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(priority.os, "setpriority", refuse)
    await asyncio.wait_for(keep_order(), 5)
    assert len(asked) == 1
