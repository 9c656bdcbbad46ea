"""Looking for bytes in files."""

import os
from pathlib import Path


def files_holding(folder: Path, *needles: bytes) -> list[Path]:
    """Return the files below a folder that hold any of some bytes; those that go meanwhile hold nothing."""
    found = []
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            try:
                content = path.read_bytes()
            except OSError:  # merged away, or a socket
                continue
            if any(needle in content for needle in needles):
                found.append(path)
    return found
