"""Bytes as a file that is in memory only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def in_memory(payload: bytes) -> Iterator[str]:
    """Make bytes readable as a file of this process."""
    descriptor = os.memfd_create("insert")
    try:
        left = memoryview(payload)
        while left:
            left = left[os.write(descriptor, left) :]
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
