"""`tenantwatch up` as the child of a demo: it ends when the demo does, even by kill -9.

Run as ``python -m tenantwatch.demo.child PARENT_PID``.
"""

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Ask the kernel for a SIGTERM when the parent has ended, then be `tenantwatch up`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        return  # it had ended before
    from tenantwatch.cli import main as tenantwatch

    sys.argv = ["tenantwatch", "up", "--quiet"]
    tenantwatch()


if __name__ == "__main__":
    main()
