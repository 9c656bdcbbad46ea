"""ClickHouse's engine, loaded with an allocator that soon gives back what it does not need."""

import os
from typing import Final

# So long free pages of the engine's allocator, jemalloc, stay resident, in milliseconds. An insert and a
# merge take 30 to 80 MB each for a fraction of a second; by the engine's own 5,000 what the last ten had left
# was resident: up to 200 MB, beside 80 in use.
DECAY_MS: Final = 200

# Whoever has set options keeps them.
os.environ.setdefault("JE_MALLOC_CONF", f"dirty_decay_ms:{DECAY_MS}")

import chdb  # noqa: E402 - its allocator reads the options when the library is loaded, and never again

__all__ = ["chdb"]
