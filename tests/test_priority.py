"""The threads that tell of attacks go before those that store, where the system allows it."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from streams import priority
from streams.priority import HEADWAY, USUAL, go_as_usual, go_first, keep_order

pytestmark = pytest.mark.skipif(not priority._THREADS.exists(), reason="on Linux only")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


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


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "LOOK_S", 0.01)


@contextlib.contextmanager
def thread(initializer: object = None) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, initializer=initializer) as pool:  # type: ignore[arg-type]
        pool.submit(niceness).result()
        yield pool


@pytest.mark.skipif(not may_go_first(), reason="takes CAP_SYS_NICE, or a limit of niceness")
async def test_first_threads_go_before_others_until_it_ends() -> None:
    """Also before those that the first ones make later, which begin as first as these are."""
    with thread(go_first) as first, thread() as other:
        keeping = asyncio.create_task(keep_order())
        await asyncio.sleep(0.1)
        with thread() as later:
            await asyncio.sleep(0.1)
            found = [pool.submit(niceness).result() for pool in (first, other, later)]
        assert [*found, niceness()] == [USUAL - HEADWAY, USUAL, USUAL, USUAL - HEADWAY]
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
        assert [pool.submit(niceness).result() for pool in (first, other)] == [USUAL, USUAL]
    assert niceness() == USUAL


@pytest.mark.skipif(not may_go_first(), reason="takes CAP_SYS_NICE, or a limit of niceness")
async def test_what_a_first_thread_starts_goes_as_usual() -> None:
    """A backtest that the API starts is work of minutes, and no alert."""
    keeping = asyncio.create_task(keep_order())
    await asyncio.sleep(0.1)
    child = await asyncio.create_subprocess_exec("sleep", "60")
    began = os.getpriority(os.PRIO_PROCESS, child.pid)
    go_as_usual(child.pid)
    assert (began, os.getpriority(os.PRIO_PROCESS, child.pid)) == (USUAL - HEADWAY, USUAL)
    child.kill()
    await child.wait()
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


async def test_who_may_not_asks_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """An ordinary user's worker runs on, with all threads alike."""
    asked = []

    def refuse(*given: int) -> None:
        asked.append(given)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(priority.os, "setpriority", refuse)
    await asyncio.wait_for(keep_order(), 5)
    assert len(asked) == 1
