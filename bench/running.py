"""What benchmarks run: a Kafka, a worker in a process of its own, and what can be read of that process."""

import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from streams.broker import BrokerConfig, EmbeddedKafka
from streams.topics import ensure_topics
from tenantwatch.control import Control, running
from tenantwatch.settings import Settings

REPOSITORY: Final = Path(__file__).resolve().parent.parent
READY_DEADLINE_S: Final = 120.0
STOP_DEADLINE_S: Final = 30.0
LOG: Final = "worker.log"
_STAGE: Final = re.compile(r'^tenantwatch_stage_seconds_total\{stage="(\w+)"\} (\S+)$', re.MULTILINE)
_STORED: Final = re.compile(r"^tenantwatch_events_stored_total\{.*\} (\S+)$", re.MULTILINE)


@contextmanager
def kafka(partitions: int = 12) -> Iterator[tuple[str, Path]]:
    """Run a Kafka with our topics; yield its address and a directory for whatever else is needed."""
    with tempfile.TemporaryDirectory(prefix="tenantwatch-bench-") as folder:
        root = Path(folder)
        broker = EmbeddedKafka(BrokerConfig(root, port=0, controller_port=0))
        bootstrap = broker.start()
        try:
            ensure_topics(bootstrap, partitions=partitions)
            yield bootstrap, root
        finally:
            broker.stop()


def broker() -> psutil.Process:
    """Return the process of the Kafka that this process runs."""
    [java] = [child for child in psutil.Process().children() if "kafka.Kafka" in child.cmdline()]
    return java


@dataclass(frozen=True)
class RunningWorker:
    """A worker in a process of its own: its CPU time and memory are not those of Kafka or of the traffic.

    Parameters
    ----------
    process
        Of the worker, with the engine in it unless a server is used.
    settings
        By which the control socket is found.
    status
        What `tenantwatch status` shows.
    """

    process: psutil.Process
    settings: Settings
    status: dict[str, Any]

    def cpu_s(self) -> float:
        """Return CPU seconds of all its threads, the engine's included."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def cpu_by_thread_s(self) -> Counter[str]:
        """Return CPU seconds by the threads' names; Python's own threads have the process's name."""
        ticks, found = os.sysconf("SC_CLK_TCK"), Counter[str]()
        for path in Path(f"/proc/{self.process.pid}/task").iterdir():
            try:
                name, _, rest = (path / "stat").read_text().partition("(")[2].rpartition(")")
            except OSError:  # it ended meanwhile
                continue
            fields = rest.split()
            name = "main" if path.name == str(self.process.pid) else name
            found[name] += (int(fields[11]) + int(fields[12])) / ticks  # type: ignore[assignment]
        return found

    def rss_mb(self) -> float:
        """Return resident memory in MiB."""
        return float(self.process.memory_info().rss) / 2**20

    def request(self, method: str, path: str, **options: Any) -> Any:
        """Ask its control API."""
        with Control(self.settings) as control:
            return control.request(method, path, **options)

    def stage_s(self) -> dict[str, float]:
        """Return seconds spent by stage since its start."""
        return {stage: float(spent) for stage, spent in _STAGE.findall(self._metrics())}

    def stored(self) -> int:
        """Return how many events it has stored."""
        return round(sum(map(float, _STORED.findall(self._metrics()))))

    def _metrics(self) -> str:
        return httpx.get(f"{self.status['http']}/metrics", timeout=30, trust_env=False).text


@contextmanager
def worker(bootstrap: str, data_dir: Path, **settings: str) -> Iterator[RunningWorker]:
    """Run a worker until the block ends.

    Parameters
    ----------
    settings
        Further ``TENANTWATCH_`` settings, in lower case.
    """
    with _launched("up", bootstrap, data_dir, settings) as process:
        yield _await_ready(process, data_dir)


@contextmanager
def workers(count: int, bootstrap: str, root: Path, **settings: str) -> Iterator[list[RunningWorker]]:
    """Run some workers of one group; they start together."""
    folders = [root / f"worker-{i}" for i in range(count)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(_launched("worker", bootstrap, at, settings | {"worker_id": at.name}))
            for at in folders
        ]
        yield [_await_ready(process, at) for process, at in zip(processes, folders, strict=True)]


@contextmanager
def _launched(
    command: str, bootstrap: str, data_dir: Path, settings: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    data_dir.mkdir(parents=True, exist_ok=True)
    ours = {"data_dir": str(data_dir), "kafka": bootstrap, "http_port": "0", "api_port": "0"}
    ours["webhook_allow"] = "127.0.0.1/32"
    env = {name: value for name, value in os.environ.items() if not name.startswith("TENANTWATCH_")}
    env |= {f"TENANTWATCH_{name.upper()}": value for name, value in (ours | settings).items()}
    with (data_dir / LOG).open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tenantwatch.cli", command, "--quiet"],
            env=env,
            cwd=REPOSITORY,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: subprocess.Popen[bytes], data_dir: Path) -> RunningWorker:
    settings = Settings(data_dir=data_dir)
    deadline = time.monotonic() + READY_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        if running(settings):
            with Control(settings) as control:
                status: dict[str, Any] = control.get("/status")
            if not status["problems"]:
                return RunningWorker(psutil.Process(process.pid), settings, status)
        time.sleep(0.1)
    raise RuntimeError(f"the worker did not get ready; it said:\n{(data_dir / LOG).read_text()[-4000:]}")


def machine() -> dict[str, Any]:
    """Return what a figure depends on."""
    model = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "cpus": os.cpu_count(),
        "cpu_model": model.group(1) if model else platform.processor(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        # Above 0.5 somebody else is at work here, and the figures are worth little.
        "load_before": round(os.getloadavg()[0], 2),
    }


def save(result: dict[str, Any], out: Path) -> str:
    """Write a result, with how to get it again, and return what was written."""
    again = f"python -m bench.{Path(sys.argv[0]).stem} {shlex.join(sys.argv[1:])}".rstrip()
    out.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"again": again, **result}, indent=2)
    out.write_text(text + "\n")
    print(f"written to {out}; again: {again}", file=sys.stderr, flush=True)
    return text


def write(result: dict[str, Any], out: Path) -> None:
    """Write a result and show it."""
    print(save(result, out), flush=True)
