"""Ending the process when its work has ended, whatever libraries left behind."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, Final

import structlog

log = structlog.get_logger()
LEAVE_S: Final = 5.0


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end as `asyncio.run` does, but leave `LEAVE_S` after it, come what may.

    `asyncio.run` waits for every thread, and for every task: also one that swallows its cancellation, as
    some of Faust's can. A worker that was stopped while it joined its group had ended in good order, and its
    process stayed: once in twelve times, then in none of 250, so what held it was not found.
    """
    asyncio.run(_then_leave(main))


async def _then_leave(main: Coroutine[Any, Any, None]) -> None:
    code, problem = 1, None
    try:
        await main
        code = 0
    except Exception as error:
        problem = str(error)
        raise
    finally:
        leave_after(LEAVE_S, "left_behind", code, problem=problem)


def leave_after(seconds: float, event: str, code: int, **why: Any) -> threading.Timer:
    """End the process after a time, with a word in the log, unless the timer is cancelled by then."""

    def leave() -> None:
        log.error(event, after_s=seconds, exit_code=code, **why)
        os._exit(code)

    leaving = threading.Timer(seconds, leave)
    leaving.daemon = True
    leaving.start()
    return leaving
