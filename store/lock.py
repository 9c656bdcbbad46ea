"""One process at a time in a directory."""

import fcntl
import os
from pathlib import Path
from typing import IO


class StoreLocked(Exception):
    """Another process holds the directory; the message names it."""


def lock(path: Path) -> IO[str]:
    """Lock a file until it is closed, or this process ends.

    Raises
    ------
    StoreLocked
        If another process holds it.
    """
    handle = path.open("a+")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise StoreLocked(
            f"{path.parent} is in use by the process {owner}; stop it, or use its socket"
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
