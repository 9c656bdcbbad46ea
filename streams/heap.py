"""The process's memory, told what it is like: long-lived arrays that grow, and much that dies young."""

import asyncio
import ctypes
import re
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Final

import pyarrow as pa

# Options of glibc's mallopt(3).
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
# Advice of madvise(2).
_MADV_DONTNEED: Final = 4

LARGE_BYTES: Final = 1 << 20
ARENAS: Final = 2
# Under full load 65 MB lie free between blocks after two seconds, and giving them back takes 11 ms of CPU.
GIVE_BACK_S: Final = 4.0
# Of a library whose code is let go: the engine's is 500 MB, all others together are less than a tenth of it.
LARGE_LIBRARY_BYTES: Final = 64 << 20
_MAPPING: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ (\d+) +(.*)$")
_SMAPS: Final = Path("/proc/self/smaps")


def keep_heap_small() -> None:
    """Let large blocks go back to the system when they are freed, and threads and Arrow share two heaps.

    glibc would raise the limit of what is large to 32 MiB with the first such block it frees, and from then
    on keep the room that a grown array leaves; and it would open a heap for each thread. Where there is no
    glibc that stays so. Arrow's own allocator, mimalloc, keeps what it once had: 100 to 200 MB of columns.
    """
    pa.set_memory_pool(pa.system_memory_pool())
    _keep_pandas_out()
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
        mallopt(_M_ARENA_MAX, ARENAS)


class _Unfound(MetaPathFinder):
    """Finds, for whoever asks for pandas, that there is none."""

    def find_spec(self, name: str, path: object, target: object = None) -> None:
        """Leave every other module to the finders that follow."""
        if name == "pandas":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _keep_pandas_out() -> None:
    """Let Arrow look for pandas while it is not to be found: it looks once.

    It would import it with the first array that is made of a list, to see whether that is one of pandas':
    45 MB that nobody here uses. It is installed because chdb asks for it.
    """
    unfound = _Unfound()
    sys.meta_path.insert(0, unfound)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(unfound)


async def give_back() -> None:
    """Return free pages to the system that lie between blocks in use, every few seconds until cancelled.

    By itself glibc returns only what is free at the end of a heap. First of all goes what only the start
    needed.
    """
    await asyncio.to_thread(let_go_of_code)
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(GIVE_BACK_S)
        await asyncio.to_thread(trim, 0)


def let_go_of_code() -> None:
    """Let the pages of the engine's library go that are as they are in its file.

    As it starts it runs through half of its code and never comes back to most of that, which stays resident
    until the system is short of memory. What is needed again comes back from the system's cache at once.
    Where there is no /proc nothing happens.
    """
    madvise = getattr(ctypes.CDLL(None), "madvise", None)
    if madvise is None or not _SMAPS.exists():
        return
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for start, size in _clean(_SMAPS.read_text(), LARGE_LIBRARY_BYTES):
        madvise(start, size, _MADV_DONTNEED)


def _clean(smaps: str, least_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield address and size of the large parts of libraries that cannot be written and were never changed.

    >>> smaps = "1000-9000 r-xp 0 08:01 7 /lib/a.so\\nRss: 8 kB\\nAnonymous: 0 kB\\n"
    >>> relocated = "a000-f000 r--p 0 08:01 7 /lib/a.so\\nRss: 8 kB\\nAnonymous: 8 kB\\n"
    >>> list(_clean(smaps + relocated, 0)) == [(0x1000, 0x8000)]
    True
    """
    start = size = 0
    for line in smaps.splitlines():
        if found := _MAPPING.match(line):
            start, end = (int(address, 16) for address in found.group(1, 2))
            of_library = found[3] in ("r-xp", "r--p") and found[5].endswith(".so")
            size = end - start if of_library else 0
        elif line.startswith("Anonymous:") and size >= least_bytes and size and line.split()[1] == "0":
            yield start, size
