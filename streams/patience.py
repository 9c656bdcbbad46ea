"""Waiting for a store that is away: longer each time, for as long as it takes. Nothing is dropped."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

import structlog

from store.database import StoreUnavailable

log = structlog.get_logger()
T = TypeVar("T")
FIRST_WAIT_S: Final = 0.1
MAX_WAIT_S: Final = 30.0


def waits_s(longest_s: float = MAX_WAIT_S) -> Iterator[float]:
    """Yield how long to wait before each further try.

    >>> [wait_s for wait_s, _ in zip(waits_s(0.5), range(5))]
    [0.1, 0.2, 0.4, 0.5, 0.5]
    """
    wait_s = FIRST_WAIT_S
    while True:
        yield min(wait_s, longest_s)
        wait_s = min(2 * wait_s, longest_s)


async def patiently(work: Callable[[], Awaitable[T]], event: str, longest_s: float = MAX_WAIT_S) -> T:
    """Do something that may be done twice, until the store takes it.

    Parameters
    ----------
    work
        Awaited anew for each try.
    event
        Logged when a try fails.
    longest_s
        Between two tries.
    """
    for wait_s in waits_s(longest_s):
        try:
            return await work()
        except StoreUnavailable as error:
            log.warning(event, error=str(error)[:500], wait_s=wait_s)
            await asyncio.sleep(wait_s)
    raise AssertionError  # the waits never end
