"""A process's own memory; imports nothing, because the peers' environment has nothing of ours."""

import re
from pathlib import Path


def peak_memory_mb(pid: int | str = "self") -> int:
    """Return the most that was resident, in MiB.

    From /proc, because what `resource` says can be the parent's, from before the exec.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return round(int(found.group(1)) / 1024)
