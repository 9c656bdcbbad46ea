"""What detectors remember, in a file: a backtest goes on where another ended."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from detectors.snapshot import SnapshotError


def save(path: Path, parts: Mapping[str, bytes]) -> None:
    """Write parts by name to a file, which is whole or as it was before."""
    partial = path.with_name(f"{path.name}.partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    os.replace(partial, path)


def load(path: Path) -> dict[str, bytes]:
    """Return the parts in a file.

    Raises
    ------
    SnapshotError
        If it is no file that `save` wrote, or cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except OSError as error:
        raise SnapshotError(f"cannot be read: {error.strerror}") from error
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise SnapshotError(f"no state of detectors: {error}") from error
