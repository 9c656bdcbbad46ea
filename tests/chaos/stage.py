"""The processes that a run breaks: Kafka, workers and, in a cluster, a ClickHouse server."""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final, Literal

import httpx

from api.address import unix_address
from store.master_key import new_secret
from streams.broker import BrokerConfig, BrokerError, EmbeddedKafka
from tests.clickhouse_server import ClickHouseServer

Mode = Literal["embedded", "cluster"]
WORKERS: Final[dict[Mode, int]] = {"embedded": 1, "cluster": 3}
REPOSITORY: Final = Path(__file__).resolve().parent.parent.parent
SESSION_TIMEOUT_S: Final = 6.0  # the least that the settings allow
SNAPSHOT_INTERVAL_S: Final = 5.0  # several in each run; failures by address are committed with them
# On a machine that tests keep busy, catching up took over a minute.
READY_S: Final = 180.0
STOP_S: Final = 40.0  # `up` ends itself after 25 s of stopping
POLL_S: Final = 0.02
PR_SET_PDEATHSIG: Final = 1
# Linux takes the ports of outgoing connections from above these: a broker must find its own again.
PORTS: Final = range(20_000, 32_000)

# A group has some hundred rows at a time here, where FEW_ROWS is thousands: some are to be one insert of all
# topics, and some one of each topic.
_PROGRAM: Final = """\
import store.writer, tenantwatch.cli
store.writer.FEW_ROWS = 300
tenantwatch.cli.main()
"""
# A worker whose harness was killed must not live on: the kernel ends it with its parent.
_LAUNCHER: Final = f"""\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl({PR_SET_PDEATHSIG}, signal.SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.executable, [sys.executable, "-c", {_PROGRAM!r}, *sys.argv[2:]])
"""


def free_port() -> int:
    """Return a port that nobody listens on and no outgoing connection will take."""
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Kafka:
    """A broker that can be killed and paused, and comes back with its data at its port."""

    def __init__(self, folder: Path) -> None:
        config = BrokerConfig(folder, port=free_port(), controller_port=free_port())
        self._embedded = EmbeddedKafka(config)
        self._pid_file = folder.resolve() / "kafka" / "pid.json"
        self.bootstrap = self._embedded.start()

    def _signal(self, number: int) -> None:
        os.kill(json.loads(self._pid_file.read_text())["pid"], number)

    def kill(self) -> None:
        """End it as a power cut would, but for what the operating system still writes."""
        self._signal(signal.SIGKILL)
        while self._embedded.running():
            time.sleep(0.01)

    def start(self) -> None:
        """Start it again."""
        deadline = time.monotonic() + READY_S
        while True:
            try:
                self._embedded.start()
                return
            except BrokerError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def pause(self) -> None:
        """Stop it in its tracks."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """Stop it in good order."""
        self._embedded.stop()


class _UnixConnection(HTTPConnection):
    """Closes its socket also where nobody listens, as httpx does not."""

    def __init__(self, path: Path) -> None:
        super().__init__("worker", timeout=2.0)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(unix_address(self._path))


class Worker:
    """One `tenantwatch up` or `worker` with a data directory of its own.

    Parameters
    ----------
    name
        Of its data directory and its log.
    command
        ``up`` or ``worker``.
    settings
        Beside those that every worker has.
    """

    def __init__(self, name: str, command: str, folder: Path, **settings: str) -> None:
        self.name = name
        self.data_dir = folder / name
        self.log_path = folder / f"{name}.log"
        self._command = command
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TENANTWATCH_")}
        mine = {
            "data_dir": str(self.data_dir),
            "http_port": "0",
            "api_port": "0",
            "worker_id": name,
            "session_timeout_s": str(SESSION_TIMEOUT_S),
            "snapshot_interval_s": str(SNAPSHOT_INTERVAL_S),
            **settings,
        }
        self.env = kept | {f"TENANTWATCH_{key.upper()}": value for key, value in mine.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.paused = False

    @property
    def alive(self) -> bool:
        """Whether the process runs (or is paused)."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the process."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Of the last process, if it has ended."""
        return None if self._process is None else self._process.poll()

    def start(self, note: str = "") -> None:
        """Start a process; its log is appended to those of the processes before it."""
        with self.log_path.open("ab") as log:
            log.write(f"=== started: {note}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-c", _LAUNCHER, str(os.getpid()), self._command],
                env=self.env,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def signal(self, number: int) -> None:
        """Send a signal; kill -9 is waited for."""
        assert self._process is not None
        self._process.send_signal(number)
        self.paused = number == signal.SIGSTOP
        if number == signal.SIGKILL:
            self._process.wait()

    def kill(self) -> None:
        """End the process without a word."""
        if self.alive:
            self.signal(signal.SIGKILL)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; return the exit code, or None if it did not come."""
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def status(self) -> dict[str, Any] | None:
        """Return what the worker says of itself; None if it does not answer."""
        try:
            with closing(_UnixConnection(self.data_dir / "tenantwatch.sock")) as connection:
                connection.request("GET", "/status")
                found: dict[str, Any] = json.load(connection.getresponse())
        except (OSError, ValueError, HTTPException):
            return None
        # The socket of a killed process stays until the next one has its own.
        return found if self._process is not None and found["pid"] == self._process.pid else None

    def ask(self, *arguments: str) -> Any:
        """Return what a command prints beside this worker, as JSON."""
        done = subprocess.run(
            [sys.executable, "-m", "tenantwatch.cli", *arguments, "--json"],
            env=self.env,
            cwd=REPOSITORY,
            capture_output=True,
        )
        try:
            return json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stderr.decode()}") from None

    def events(self, name: str) -> Iterator[dict[str, Any]]:
        """Yield what the worker's processes logged under a name."""
        with self.log_path.open(errors="replace") as log:
            for line in log:
                if f'"event": "{name}"' in line:
                    with contextlib.suppress(ValueError):  # a line that kill -9 cut short
                        yield json.loads(line)

    def last_words(self) -> str:
        """Return the last line of the log."""
        return self.log_path.read_text(errors="replace").rstrip().rpartition("\n")[2][-500:]

    def metrics(self) -> str:
        """Return the worker's metrics, as text; or why there are none."""
        status = self.status()
        if status is None:
            return "no answer"
        try:
            return httpx.get(f"{status['http']}/metrics", timeout=2.0).text
        except httpx.HTTPError as error:
            return repr(error)

    @property
    def ready(self) -> bool:
        """Whether it handles events."""
        status = self.status()
        return status is not None and not status["problems"]


class Stage:
    """Everything that runs, and an account of what was done to it.

    Parameters
    ----------
    folder
        Where processes keep their data and logs.
    mode
        One worker with the engine in it, or three and a ClickHouse server.

    Attributes
    ----------
    counts
        Faults by kind, and what workers did of themselves.
    stalls
        What did not come to its end, with what the workers said of it.
    """

    def __init__(self, folder: Path, mode: Mode) -> None:
        self.folder = folder
        self.counts: Counter[str] = Counter()
        self.stalls: list[str] = []
        self.round = 0
        self._began = time.monotonic()
        self._timeline = (folder / "timeline.jsonl").open("a")
        self.kafka = Kafka(folder / "broker")
        self.store: ClickHouseServer | None = None
        self._settings = {"kafka": self.kafka.bootstrap}
        if mode == "cluster":
            self.store = ClickHouseServer(folder / "clickhouse", http_port=free_port())
            self._settings["clickhouse"] = self.store.start()
            self._settings["master_key"] = new_secret()
        self.workers = [self.new_worker(f"worker-{number}") for number in range(WORKERS[mode])]

    def new_worker(self, name: str) -> Worker:
        """Return a worker of this stage; it is not started."""
        command = "up" if self.store is None else "worker"
        return Worker(name, command, self.folder, **self._settings)

    def note(self, what: str, **more: Any) -> None:
        """Write into the timeline."""
        at_s = round(time.monotonic() - self._began, 3)
        entry = {"time": time.time(), "at_s": at_s, "round": self.round, "what": what, **more}
        self._timeline.write(json.dumps(entry, default=str) + "\n")
        self._timeline.flush()

    def count(self, fault: str, **more: Any) -> None:
        """Note a fault."""
        self.counts[fault] += 1
        self.note(fault, **more)

    def revive(self) -> None:
        """Start the workers that do not run, as a supervisor does."""
        for worker in self.workers:
            if not worker.alive:
                if worker.exit_code not in (None, 0, -signal.SIGKILL, -signal.SIGTERM):
                    code, why = worker.exit_code, worker.last_words()
                    self.count("worker_exited", worker=worker.name, exit_code=code, why=why)
                self.note("started", worker=worker.name)
                worker.start(f"round {self.round}")

    def kill(self, worker: Worker) -> None:
        """Kill -9 a worker, if it runs."""
        if worker.alive:
            self.count("kill_worker", worker=worker.name)
            worker.kill()

    def stop(self, worker: Worker, within_s: float = STOP_S) -> int | None:
        """Ask a worker to stop; one that does not is killed and noted."""
        began = time.monotonic()
        worker.signal(signal.SIGTERM)
        code = worker.wait(within_s)
        took_s = round(time.monotonic() - began, 1)
        self.note("stopped", worker=worker.name, exit_code=code, took_s=took_s)
        if code is None:
            self.stalls.append(f"round {self.round}: {worker.name} did not stop within {within_s} s")
            worker.kill()
        elif took_s > 10:
            self.count("slow_stop", worker=worker.name, took_s=took_s)
        return code

    def await_ready(self, *workers: Worker, timeout_s: float = READY_S) -> bool:
        """Wait until workers handle events, by default all; what does not run is started."""
        deadline = time.monotonic() + timeout_s
        wanted = workers or tuple(self.workers)
        self.revive()
        while not all(worker.ready for worker in wanted):
            if time.monotonic() > deadline:
                problems = {worker.name: worker.status() for worker in wanted}
                self.stall(f"not ready after {timeout_s:.0f} s: {problems}")
                return False
            self.revive()
            time.sleep(POLL_S)
        return True

    def stall(self, what: str, **more: Any) -> None:
        """Note that something hangs, and keep what the workers have to say."""
        self.stalls.append(f"round {self.round}: {what}")
        self.note("stall", detail=what, **more)
        for worker in self.workers:
            text = json.dumps(worker.status(), indent=2) + "\n" + worker.metrics()
            (self.folder / f"stall-{len(self.stalls)}-{worker.name}.txt").write_text(text)

    def close(self) -> None:
        """End everything, whatever state it is in."""
        for worker in self.workers:
            worker.kill()
        if self.store is not None:
            self.store.kill()
        with contextlib.suppress(OSError, ValueError):  # it does not run
            self.kafka.resume()
        self.kafka.stop()
        self._timeline.close()
