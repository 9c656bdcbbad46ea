"""The address of a UNIX socket, and what is told beside answers; apart from the servers, so that a command
need not load them.
"""

import os
from pathlib import Path
from typing import Final

# The header of an answer of the control API that says what to mind about it, in a sentence.
WARNING: Final = "tenantwatch-warning"


def unix_address(path: Path) -> str:
    """Return an address of a socket file that fits into the kernel's 108 bytes, however long its path.

    The directory is opened and named through /proc, so the result is valid in this process only, and for
    as long as it lives.
    """
    if len(os.fsencode(path)) < 100:
        return str(path)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    return f"/proc/self/fd/{directory}/{path.name}"
