"""Who goes first where there is more work than cores: what tells of an attack, before what stores it."""

import asyncio
import contextlib
import os
import threading
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()
# By so much the engine's threads are nicer than ours: Linux gives one a tenth of what one of ours gets while
# both want the same core, and all there is when none does.
NICER: Final = 10
NICEST: Final = 19
LOOK_S: Final = 1.0
_THREADS: Final = Path("/proc/self/task")


async def engine_gives_way() -> None:
    """Let the engine's threads wait for Python's, those of now and those to come, until cancelled.

    Where there is no /proc, or the system does not allow it, they stay as they are.
    """
    known: set[int] = set()
    while _THREADS.exists():
        try:
            known = give_way(known)
        except PermissionError as error:
            log.info("engine_does_not_give_way", reason=str(error))
            return
        await asyncio.sleep(LOOK_S)


def give_way(known: set[int]) -> set[int]:
    """Lower the priority of every thread that is not Python's, and return all that there are.

    Parameters
    ----------
    known
        What the last call returned: a thread is left alone when it is first seen. One that Python is starting
        is not on Python's list yet, and a priority that was lowered cannot be raised again.

    Raises
    ------
    PermissionError
        The system does not allow it.
    """
    there = {int(path.name) for path in _THREADS.iterdir()}
    ours = {thread.native_id for thread in threading.enumerate()}
    nice = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + NICER, NICEST)
    for thread in (there & known) - ours:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            if os.getpriority(os.PRIO_PROCESS, thread) < nice:
                os.setpriority(os.PRIO_PROCESS, thread, nice)
    return there
