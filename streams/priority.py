"""Who goes first where there is more work than cores: what tells of an attack, before what stores it."""

import asyncio
import contextlib
import os
import threading
from pathlib import Path
from typing import Final

import structlog

log = structlog.get_logger()
# By so much Python's threads are less nice than the process: where one of the engine's wants the same core,
# Linux gives them ten times its time, and a core as soon as they want one.
HEADWAY: Final = 10
LEAST_NICE: Final = -20
LOOK_S: Final = 1.0
_THREADS: Final = Path("/proc/self/task")
# Of whoever imports this, before anything is changed.
USUAL: Final = os.getpriority(os.PRIO_PROCESS, 0)


async def keep_order() -> None:
    """Let Python's threads go before the engine's, until cancelled.

    All of Python's: one that waits for a core may hold the lock for which the event loop waits. That takes a
    right: to be root, `CAP_SYS_NICE`, or a limit of niceness (`ulimit -e`). Who has none, or no Linux, has
    all threads go alike.
    """
    if not _THREADS.exists():
        return
    try:
        while True:
            order(max(USUAL - HEADWAY, LEAST_NICE))
            await asyncio.sleep(LOOK_S)
    except OSError as error:
        log.info("all_threads_go_alike", reason=str(error))
    finally:
        with contextlib.suppress(OSError):
            order(USUAL)


def order(first: int) -> None:
    """Give each thread of the process its niceness: one begins with that of the thread that made it.

    Raises
    ------
    OSError
        The system does not allow it.
    """
    pythons = {thread.native_id for thread in threading.enumerate()}
    for thread in (int(path.name) for path in _THREADS.iterdir()):
        nice = first if thread in pythons else USUAL
        with contextlib.suppress(ProcessLookupError):  # it has ended
            if os.getpriority(os.PRIO_PROCESS, thread) != nice:
                os.setpriority(os.PRIO_PROCESS, thread, nice)


def go_as_usual(process: int) -> None:
    """Give a process that one of Python's threads has just made the usual niceness: it began with less."""
    with contextlib.suppress(OSError):  # it has ended
        os.setpriority(os.PRIO_PROCESS, process, USUAL)
