"""Asking for many at once what many ask for one by one: to the store that costs the same."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Together(Generic[Asked, Answer]):
    """Hands over what is asked for in the meantime while the store answers, all in one call, in a thread.

    Parameters
    ----------
    work
        Returns an answer to each of some questions, in their order. What it raises, each asker is told.
    collect_s
        How long the first to ask waits for others.
    """

    def __init__(self, work: Callable[[Sequence[Asked]], Sequence[Answer]], collect_s: float = 0.0) -> None:
        self._work = work
        self._collect_s = collect_s
        self._hurried = asyncio.Event()
        self._waiting: list[tuple[Asked, asyncio.Future[Answer]]] = []
        self._running: asyncio.Task[None] | None = None

    async def ask(self, asked: Asked) -> Answer:
        """Return the answer to one of them."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, answer))
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return await answer

    def hurry(self) -> None:
        """Wait for no others from now on."""
        self._hurried.set()

    async def _collect(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._collect_s):
                await self._hurried.wait()

    async def _run(self) -> None:
        while self._waiting:
            await self._collect()
            waiting, self._waiting = self._waiting, []
            askers = [answer for _, answer in waiting]
            try:
                answers = await asyncio.to_thread(self._work, [asked for asked, _ in waiting])
            except Exception as error:  # noqa: BLE001 - it is the askers' to deal with
                for asker in askers:
                    if not asker.done():
                        asker.set_exception(error)
            else:
                for asker, answer in zip(askers, answers, strict=True):
                    if not asker.done():  # who stopped waiting is not told
                        asker.set_result(answer)
