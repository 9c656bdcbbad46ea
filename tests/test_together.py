"""What is asked for one by one reaches the store in as few calls as it answers in."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from streams.together import Together


async def test_what_is_asked_meanwhile_goes_with_the_next_call() -> None:
    """And each asker has their own answer."""
    calls: list[list[int]] = []
    answering, asked = threading.Event(), threading.Event()

    def work(numbers: Sequence[int]) -> list[int]:
        calls.append(list(numbers))
        asked.set()
        assert answering.wait(10)
        return [10 * number for number in numbers]

    together = Together(work)
    first = asyncio.create_task(together.ask(1))
    await asyncio.to_thread(asked.wait, 10)
    later = [asyncio.create_task(together.ask(number)) for number in (2, 3, 4)]
    await asyncio.sleep(0)
    answering.set()
    assert await asyncio.gather(first, *later) == [10, 20, 30, 40]
    assert calls == [[1], [2, 3, 4]]


async def test_an_error_is_everybody_s_and_the_next_call_is_made() -> None:
    """Whoever asked must know that nothing was done; whoever asks again is answered."""
    errors = [OSError("away")]

    def work(numbers: Sequence[int]) -> Sequence[int]:
        if errors:
            raise errors.pop()
        return numbers

    together = Together(work)
    told = await asyncio.gather(together.ask(1), together.ask(2), return_exceptions=True)
    assert [type(each) for each in told] == [OSError, OSError]
    assert await together.ask(3) == 3


async def test_who_no_longer_waits_keeps_nobody_else_from_an_answer() -> None:
    """An attempt that is cancelled at the end of the worker's time, say."""
    together: Together[int, int] = Together(lambda numbers: numbers)
    given_up, other = asyncio.create_task(together.ask(1)), asyncio.create_task(together.ask(2))
    await asyncio.sleep(0)
    given_up.cancel()
    assert await other == 2
    with pytest.raises(asyncio.CancelledError):
        await given_up


async def test_the_first_to_ask_waits_for_others() -> None:
    """Who asks a moment later goes with the same call."""
    calls: list[list[int]] = []

    def work(numbers: Sequence[int]) -> Sequence[int]:
        calls.append([*numbers])
        return numbers

    together = Together(work, collect_s=0.2)
    first = asyncio.create_task(together.ask(1))
    await asyncio.sleep(0.02)
    assert await asyncio.gather(first, together.ask(2)) == [1, 2]
    assert calls == [[1, 2]]


async def test_in_a_hurry_nobody_waits_for_others() -> None:
    """Neither who waits already nor who comes later."""
    together: Together[int, int] = Together(lambda numbers: numbers, collect_s=60)
    first = asyncio.create_task(together.ask(1))
    await asyncio.sleep(0)
    together.hurry()
    async with asyncio.timeout(10):
        assert [await first, await together.ask(2)] == [1, 2]
