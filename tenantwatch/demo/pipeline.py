"""The real pipeline, `tenantwatch up`, as a child process with its own data and free ports."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Final

import httpx

from streams.jars import jars_cached
from tenantwatch.control import Control, running
from tenantwatch.settings import Settings

READY_DEADLINE_S: Final = 120.0
# The first start ever downloads Kafka, over whatever line there is.
DOWNLOAD_DEADLINE_S: Final = 900.0
# The worker gives Faust 8 s and Kafka 10 s to end.
STOP_DEADLINE_S: Final = 25.0
STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_S: Final = 0.1
LOG_TAIL_LINES: Final = 15
_PUBLISHED: Final = re.compile(r"^tenantwatch_alerts_published_total\{.*\} ([0-9.e+]+)$", re.MULTILINE)


class DemoError(Exception):
    """The demo cannot go on; the message says why and where to look."""


def _environment(data_dir: Path) -> dict[str, str]:
    # Whatever else is set here may name a real cluster, which made-up events must never reach.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENANTWATCH_")}
    return kept | {
        "TENANTWATCH_DATA_DIR": str(data_dir),
        "TENANTWATCH_KAFKA_PORT": "0",
        "TENANTWATCH_KAFKA_CONTROLLER_PORT": "0",
        "TENANTWATCH_HTTP_PORT": "0",
        "TENANTWATCH_API_PORT": "0",
        "TENANTWATCH_WEBHOOK_ALLOW": "127.0.0.1/32",
    }


class ChildPipeline:
    """A running `tenantwatch up`; a context manager that leaves neither process nor file behind.

    Parameters
    ----------
    keep
        Leave the data directory where it is.

    Attributes
    ----------
    data_dir
        Its data directory, in the system's directory for temporary files.
    downloads
        Whether it has to download Kafka first.
    status
        What `tenantwatch status` shows, once it is ready.
    """

    def __init__(self, *, keep: bool = False) -> None:
        self._keep = keep
        try:
            self._root = Path(tempfile.mkdtemp(prefix="tenantwatch-demo-"))
        except OSError as error:
            raise DemoError(f"no directory for the demo's data: {error}; TMPDIR says where") from error
        self.data_dir = self._root / "data"
        self._log_path = self._root / "up.log"
        self.downloads = not jars_cached()
        self._settings = Settings(data_dir=self.data_dir)
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Control | None = None
        self._http: httpx.Client | None = None
        self._ended_by_itself = False
        self.status: dict[str, Any] = {}

    def __enter__(self) -> "ChildPipeline":
        try:
            with self._log_path.open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own command, no shell
                    [sys.executable, "-m", "tenantwatch.demo.child", str(os.getpid())],
                    env=_environment(self.data_dir),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    # A Ctrl-C reaches the whole terminal session; the demo stops its child itself.
                    start_new_session=True,
                )
        except BaseException:
            self._clean()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._hurried_by_signals():
            try:
                if self._http is not None:
                    self._http.close()
                if self._control is not None:
                    self._control.__exit__()
            finally:
                self._stop(may_be_ending=isinstance(error, Exception))
                said = self._said()
                self._clean()
        if self._ended_by_itself and isinstance(error, Exception) and not isinstance(error, DemoError):
            # That says more than what failed after it.
            raise DemoError(f"`tenantwatch up` ended while the demo ran{said}") from error

    @contextmanager
    def _hurried_by_signals(self) -> Iterator[None]:
        """Let another Ctrl-C mean now: its Kafka ends with it, the kernel sees to that (streams.broker)."""

        def kill(number: int, frame: FrameType | None) -> None:
            if self._process is not None:
                self._process.kill()

        before = {number: signal.signal(number, kill) for number in STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, *, may_be_ending: bool) -> None:
        process = self._process
        if process is None:
            return
        if may_be_ending and not running(self._settings):
            # It closes its socket before it ends: what it says last is why.
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_DEADLINE_S)
        self._ended_by_itself = process.poll() is not None
        process.terminate()
        try:
            process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _clean(self) -> None:
        if not self._keep:
            shutil.rmtree(self._root, ignore_errors=True)

    def wait_ready(self) -> None:
        """Wait until it handles events.

        Raises
        ------
        DemoError
            If it ends, or takes too long.
        """
        deadline_s = DOWNLOAD_DEADLINE_S if self.downloads else READY_DEADLINE_S
        self._until(lambda: running(self._settings), deadline_s, "start")
        self._control = Control(self._settings)
        self._until(self._is_ready, deadline_s, "get ready")
        self._http = httpx.Client(base_url=self.status["http"], timeout=30, trust_env=False)

    def _is_ready(self) -> bool:
        self.status = self.get("/status")
        return not self.status["problems"]

    def _until(self, condition: Callable[[], bool], deadline_s: float, what: str) -> None:
        deadline = time.monotonic() + deadline_s
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"`tenantwatch up` did not {what} within {deadline_s:.0f} s{self._said()}")
            time.sleep(POLL_S)

    def check(self) -> None:
        """Raise a `DemoError` if the pipeline has ended."""
        code = self._process.poll() if self._process else None
        if code is not None:
            raise DemoError(f"`tenantwatch up` ended with exit code {code}{self._said()}")

    def _said(self) -> str:
        lines = self._log_path.read_text(errors="replace").splitlines()
        told = [i for i, line in enumerate(lines) if line.startswith("error:")]
        if told:
            # Its own last words; the tracebacks of libraries that stop beside it may come after them.
            lines = list(takewhile(lambda line: not line.startswith("Exception in "), lines[told[-1] :]))
        said = "\n".join(lines[-LOG_TAIL_LINES:]) or "nothing"
        return f"; it said (--keep keeps the files):\n{said}"

    def get(self, path: str, **params: Any) -> Any:
        """Ask its control API."""
        self.check()
        assert self._control is not None
        return self._control.get(path, **params)

    def add_webhook(self, tenant_id: str, url: str, description: str) -> str:
        """Add a webhook, of a tenant or of the platform (empty), and return its secret."""
        assert self._control is not None
        new = {"tenant_id": tenant_id, "url": url, "description": description}
        return str(self._control.request("POST", "/webhooks", json=new)["secret"])

    def stored(self) -> int:
        """Return how many events are stored."""
        return sum(row["events"] for row in self.get("/counts"))

    def published(self) -> int:
        """Return how many alert revisions were published, as its metrics have it."""
        assert self._http is not None
        try:
            text = self._http.get("/metrics").text
        except httpx.HTTPError as error:
            raise DemoError(f"{self.status['http']}/metrics does not answer: {error}") from error
        return round(sum(map(float, _PUBLISHED.findall(text))))

    def wait_forever(self) -> None:
        """Wait until it ends by itself, or the demo is interrupted."""
        assert self._process is not None
        self._process.wait()
        self.check()
