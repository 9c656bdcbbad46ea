"""A process's own memory; imports nothing, because the peers' environment has nothing of ours."""

import re
from pathlib import Path


def status_mb(name: str, pid: int | str = "self") -> int:
    """Return a size of ``/proc/PID/status`` in MiB: ``VmHWM``, ``RssAnon``, …"""
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return round(int(found.group(1)) / 1024)


def peak_memory_mb(pid: int | str = "self") -> int:
    """Return the most that was resident.

    From /proc, because what `resource` says can be the parent's, from before the exec.
    """
    return status_mb("VmHWM", pid)
