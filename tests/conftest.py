"""What the tests share: one ClickHouse engine, because chdb admits one path a process, and one `up`."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import structlog
from typer.testing import CliRunner, Result

from store.database import Database
from store.migrations import migrate
from streams.broker import BrokerConfig, EmbeddedKafka
from tenantwatch.cli import app, main
from tenantwatch.control import Control, running
from tenantwatch.settings import Settings
from tests.clickhouse_server import ClickHouseServer

REPOSITORY = Path(__file__).resolve().parent.parent
UP_DEADLINE_S = 120  # the first start ever downloads Kafka
GIVE_UP_S = 30.0  # only reached by a test that fails
GROUPS = {group.name for group in app.registered_groups}
T = TypeVar("T")


# Files that need one of these go to one process, one after the other: starting takes long, and a pipeline
# burns a quarter of a core while it is idle.
SHARED = ("up", "kafka")
# Files that take long, the longest first.
LONG = ("up", "test_chaos", "test_pipeline", "test_demo", "kafka", "test_broker", "test_detectors_contract")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of a file together, and the files that share a pipeline or a Kafka; these first."""
    by_file: dict[Path, list[pytest.Item]] = {}
    for item in items:
        by_file.setdefault(item.path, []).append(item)
    groups: dict[str, list[pytest.Item]] = {name: [] for name in SHARED}
    # A flood is told in a row where its partition has had nothing else before.
    for path, of_file in sorted(by_file.items(), key=lambda each: each[0].stem != "test_breaker"):
        needed = {name for item in of_file for name in getattr(item, "fixturenames", ())}
        group = next((name for name in SHARED if name in needed), str(path))
        groups.setdefault(group, []).extend(of_file)
    # What mostly waits begins early, beside what computes.
    starts = {name: place for place, name in enumerate(LONG)}
    ordered = sorted(groups, key=lambda group: starts.get(Path(group).stem, len(LONG)))
    for group in ordered:
        for item in groups[group]:
            item.add_marker(pytest.mark.xdist_group(group))
    items[:] = [item for group in ordered for item in groups[group]]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Stop where xdist would not keep the groups together: it says nothing; each process starts a Kafka."""
    if session.config.getoption("loadgroup", False):
        assert all("@" in item.nodeid for item in session.items), "xdist does not keep its groups"


# What `up` started, until the last file that needs it is done.
_pipeline = ExitStack()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(nextitem: pytest.Item | None) -> Iterator[None]:
    """Stop the pipeline when nobody needs it any more, not at the end of the session."""
    yield
    if nextitem is None or not any(mark.args == ("up",) for mark in nextitem.iter_markers("xdist_group")):
        _pipeline.close()


@contextmanager
def logging_kept() -> Iterator[None]:
    """Commands configure logging for their process; a test must not do that for the tests after it."""
    loggers = [logging.getLogger(name) for name in (None, "kafka", "aiokafka")]
    levels = [logger.level for logger in loggers]
    handlers, configured = loggers[0].handlers[:], structlog.get_config()
    yield
    loggers[0].handlers[:] = handlers
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    structlog.configure(**configured)


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """No test's logging is the next one's."""
    with logging_kept():
        yield


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The embedded engine with every table, for the whole session: tests keep apart by tenant."""
    opened = Database.embedded(tmp_path_factory.mktemp("store") / "clickhouse")
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Kafka for the whole session; tests keep apart by topic, tenant and consumer group."""
    broker = EmbeddedKafka(BrokerConfig(tmp_path_factory.mktemp("kafka"), port=0, controller_port=0))
    yield broker.start()
    broker.stop()


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """A real ClickHouse server for the whole session, without tables: tests keep apart by table.

    One that kills or pauses its server starts its own: that takes half a second.
    """
    server = ClickHouseServer(tmp_path_factory.mktemp("clickhouse"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(clickhouse_server: ClickHouseServer) -> Iterator[Database]:
    """The server with every table: tests keep apart by tenant and topic."""
    opened = Database.server(clickhouse_server.url)
    migrate(opened)
    yield opened
    opened.close()


@pytest.fixture(params=["database", pytest.param("server", marks=pytest.mark.thorough)])
def each_store(request: pytest.FixtureRequest) -> Database:
    """The engine in this process, then a server: for what may come out differently on the two."""
    chosen: Database = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def invoke(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command in this process, as where no worker runs: it opens the store, which is the session's."""
    monkeypatch.setattr("tenantwatch.database.open_database", lambda settings: database)
    monkeypatch.setattr(database, "close", lambda: None)
    runner = CliRunner(env=settings_env(tmp_path))
    return lambda *arguments, **options: runner.invoke(app, list(map(str, arguments)), **options)


def eventually(condition: Callable[[], T]) -> T:
    """Wait until a condition holds, and return what it found; fail if it never does."""
    deadline = time.monotonic() + GIVE_UP_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still {found!r}"
        time.sleep(0.05)
    return found


def loop_is_running() -> bool:
    """Tell whether this is called from a coroutine, where no command can run a loop of its own."""
    try:
        return bool(asyncio.get_running_loop())
    except RuntimeError:
        return False


@dataclass(frozen=True)
class CommandLine:
    """The program as a shell runs it, with settings of its own."""

    env: Mapping[str, str]

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command; `options` are those of `subprocess.Popen`."""
        command = [sys.executable, "-m", "tenantwatch.cli", *arguments]
        return subprocess.Popen(command, env=self.env, cwd=REPOSITORY, **options)

    def run(
        self, *arguments: str, stdin: str | bytes = b"", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and return what it printed and its exit code."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        given = stdin.encode() if isinstance(stdin, str) else stdin
        with self.start(*arguments, **pipes) as process:
            try:
                out, err = process.communicate(given, timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return subprocess.CompletedProcess(arguments, process.returncode, out.decode(), err.decode())

    def json(self, *arguments: str, stdin: str | bytes = b"") -> Any:
        """Run a command with ``--json``, which must succeed, and return what it printed, parsed."""
        done = self.run(*arguments, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def settings_env(data_dir: Path, **settings: str) -> dict[str, str]:
    """Return an environment in which the program keeps its data in `data_dir` and takes free ports."""
    ours = {
        "TENANTWATCH_DATA_DIR": str(data_dir),
        "TENANTWATCH_KAFKA_PORT": "0",
        "TENANTWATCH_KAFKA_CONTROLLER_PORT": "0",
        "TENANTWATCH_HTTP_PORT": "0",
        "TENANTWATCH_API_PORT": "0",
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TENANTWATCH_")}
    return kept | ours | {f"TENANTWATCH_{name.upper()}": value for name, value in settings.items()}


@dataclass(frozen=True)
class Up(CommandLine):
    """A running `tenantwatch up`.

    Parameters
    ----------
    env
        The environment for further commands beside it.
    data_dir
        Its data directory.
    status
        What `tenantwatch status --json` showed when it was ready.
    log_path
        What it prints.
    pid
        Its process.
    """

    data_dir: Path
    status: Mapping[str, Any]
    log_path: Path
    pid: int
    _started: set[tuple[str, ...]] = field(default_factory=set)

    def run(
        self, *arguments: str, stdin: str | bytes = b"", timeout_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command: the first time as a shell does, and then in this process, which saves a second."""
        command = arguments[: 1 + (arguments[0] in GROUPS)]
        # `backup` opens another store, and a process has one engine; a loop cannot run in another.
        if command not in self._started or command[0] == "backup" or loop_is_running():
            self._started.add(command)
            return super().run(*arguments, stdin=stdin, timeout_s=timeout_s)
        code: Any = 0
        with ExitStack() as ended:
            ended.enter_context(logging_kept())
            isolated = CliRunner(env=dict(self.env)).isolation(input=stdin)
            out, err, _ = ended.enter_context(isolated)
            patch = ended.enter_context(pytest.MonkeyPatch.context())
            # A file, because commands ask what kind of one they read.
            given = ended.enter_context(tempfile.TemporaryFile("w+"))
            given.write(stdin if isinstance(stdin, str) else stdin.decode())
            given.seek(0)
            patch.setattr(sys, "stdin", given)
            patch.setattr(sys, "argv", ["tenantwatch", *arguments])
            try:
                main()
            except SystemExit as exited:
                code = exited.code or 0
            printed = out.getvalue(), err.getvalue()
        return subprocess.CompletedProcess(arguments, code, *(each.decode() for each in printed))

    def control(self, path: str, **params: Any) -> Any:
        """GET from its control socket."""
        with Control(Settings(data_dir=self.data_dir)) as control:
            return control.get(path, **params)


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Up:
    """One `tenantwatch up` for all files that need it: tests keep apart by tenant."""
    return _pipeline.enter_context(_running_up(tmp_path_factory))


@contextmanager
def _running_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    data_dir = tmp_path_factory.mktemp("up") / "data"
    log_path = data_dir.with_name("up.log")
    env = settings_env(
        data_dir, webhook_allow="127.0.0.1/32", seal_interval_s="1", anchor_interval_s="2",
        anchor_topic="audit.seals",
    )  # fmt: skip
    line = CommandLine(env)
    with log_path.open("wb") as log, line.start("up", stdout=log, stderr=log) as process:
        try:
            yield Up(env, data_dir, _await_ready(data_dir, process, log_path), log_path, process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    assert process.returncode == 0, _end_of(log_path)


def _await_ready(data_dir: Path, process: subprocess.Popen[bytes], log_path: Path) -> dict[str, Any]:
    settings = Settings(data_dir=data_dir)
    deadline = time.monotonic() + UP_DEADLINE_S
    while time.monotonic() < deadline and process.poll() is None:
        if running(settings):
            with Control(settings) as control:
                status: dict[str, Any] = control.get("/status")
            if not status["problems"]:
                return status
        time.sleep(0.1)
    raise AssertionError(f"`tenantwatch up` did not get ready:\n{_end_of(log_path)}")


def _end_of(log_path: Path) -> str:
    return log_path.read_text(errors="replace")[-4_000:]
