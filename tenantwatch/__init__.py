"""The front door: settings and the command line.

The only package that may import all the others.
"""

import os

# Arrow reads it as it is imported, which is after this. What it allocates of its own accord, such as buffers
# of compression, would come from its own allocator all the same, which keeps it (`streams.heap`).
os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
