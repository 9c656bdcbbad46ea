"""The C heap, told what this process is like: long-lived arrays that grow, and much that dies young."""

import asyncio
import ctypes
from typing import Final

import pyarrow as pa

# Options of glibc's mallopt(3).
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8

LARGE_BYTES: Final = 1 << 20
ARENAS: Final = 2
GIVE_BACK_S: Final = 10.0


def keep_heap_small() -> None:
    """Let large blocks go back to the system when they are freed, and threads and Arrow share two heaps.

    glibc would raise the limit of what is large to 32 MiB with the first such block it frees, and from then
    on keep the room that a grown array leaves; and it would open a heap for each thread. Where there is no
    glibc that stays so. Arrow's own allocator, mimalloc, keeps what it once had: 100 to 200 MB of columns.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_ARENA_MAX, ARENAS)


async def give_back() -> None:
    """Return free pages to the system that lie between blocks in use, every few seconds until cancelled.

    By itself glibc returns only what is free at the end of a heap.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(GIVE_BACK_S)
        await asyncio.to_thread(trim, 0)
