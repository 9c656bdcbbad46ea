"""Kafka's jars, fetched from Maven by ``jgo`` the first time and found again afterwards."""

import json
import os
import zipfile
from pathlib import Path
from typing import Final

VERSION: Final = "4.3.1"
# Kafka's jars bring no logging back end, and without one its errors are lost. slf4j-simple needs no
# configuration file; log4j-slf4j-impl would make the resolver exchange kafka-clients 4.3 for 3.9.
COORDINATES: Final = f"org.apache.kafka:kafka_2.13:{VERSION}+org.slf4j:slf4j-simple:1.7.36"

# Where the embedded Kafka's directory notes the class path of its last start.
NOTE: Final = "jars.json"


class JarsMissing(Exception):
    """The jars cannot be resolved; the message says why and what to do."""


def noted_jars(directory: Path) -> list[str]:
    """Return the class path that Kafka's directory notes; empty unless it is this version's and all there."""
    try:
        note = json.loads((directory / NOTE).read_text())
    except (OSError, ValueError):
        return []
    usable = note["coordinates"] == COORDINATES and all(map(os.path.isfile, note["jars"]))
    return list(note["jars"]) if usable else []


def resolve_jars() -> list[str]:
    """Return the class path, downloading what is missing.

    jgo writes a download in place and takes any file that exists for whole, so one interrupted download would
    break every later start. Hence damaged jars are fetched anew, and ``jgo.build`` is not used: it gathers
    the jars in a directory that it takes for whole in the same way.

    Raises
    ------
    JarsMissing
        If no repository answers, or what it sent cannot be used.
    """
    import jgo  # takes 150 ms, which only a new data directory has to pay
    from jgo.config import GlobalSettings

    try:
        artifacts = jgo.resolve(COORDINATES)
        jars = [artifact.resolve() for artifact in artifacts]
        for artifact, jar in zip(artifacts, jars, strict=True):
            if not zipfile.is_zipfile(jar):
                jar.unlink()
                artifact.resolve()
    except Exception as error:
        raise JarsMissing(
            f"cannot resolve the jars of Kafka {VERSION}: {error}. The first start needs a Maven repository; "
            f"what came from there so far is in {GlobalSettings.load().repo_cache} and may be removed"
        ) from error
    return [str(jar) for jar in jars]


def jars_cached() -> bool:
    """Return whether an earlier start fetched the jars, be it with another data directory."""
    from jgo.config import GlobalSettings  # takes 150 ms

    return (GlobalSettings.load().repo_cache / "org/apache/kafka/kafka_2.13" / VERSION).is_dir()
