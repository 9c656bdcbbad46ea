"""A real ClickHouse server as a child process: HTTP, users, grants and row policies, without Docker.

By hand: ``python -m tests.clickhouse_server DIRECTORY`` runs one until Ctrl-C and prints its address.
"""

import contextlib
import os
import random
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

import httpx

from tests.libchdb import library

ROOT: Final = Path(__file__).resolve().parent.parent
# The users of the deployment: what their grants lack, tests lack too.
DEPLOYED_USERS: Final = tuple(
    ROOT / f"deploy/clickhouse/users.d/{name}.xml" for name in ("profiles", "writer", "reader", "grafana")
)
DEPLOYED_CONFIG: Final = ROOT / "deploy/clickhouse/config.d/background.xml"
START_DEADLINE_S: Final = 60
END_DEADLINE_S: Final = 10

# The library is clickhouse-local, which listens when a query tells it to; the query that follows never ends,
# and the server lives as long as it does. Both run as `default`, who may do nothing else.
_BOOT: Final = (
    "SYSTEM START LISTEN HTTP; SELECT sleepEachRow(1) FROM system.numbers FORMAT Null "
    "SETTINGS max_block_size=1, function_sleep_max_microseconds_per_block=0"
)
_USERS: Final = """\
<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users>
    <default>
      <password/>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants>
        <query>GRANT SYSTEM LISTEN ON *.*</query>
        <query>GRANT SELECT ON system.numbers</query>
      </grants>
    </default>
  </users>
</clickhouse>
"""
# The library schedules background work on two threads, which make it wait; a server has 512 for that. By
# default the mark cache may take 5 GB.
_CONFIG: Final = """\
<clickhouse>
  <users_config>users.xml</users_config>
  <listen_host>127.0.0.1</listen_host>
  <max_server_memory_usage>{memory_bytes}</max_server_memory_usage>
  <mark_cache_size>67108864</mark_cache_size>
  <background_schedule_pool_size>16</background_schedule_pool_size>
{logs}</clickhouse>
"""
# As the image of ClickHouse has them: it writes down every query, in tables and in its log file.
_LOGS: Final = "".join(
    f"  <{name}><database>system</database><table>{name}</table>"
    f"<flush_interval_milliseconds>100</flush_interval_milliseconds>{more}</{name}>\n"
    for name, more in {
        "query_log": "",
        "query_thread_log": "",
        "query_views_log": "",
        "processors_profile_log": "",
        "part_log": "",
        "text_log": "<level>trace</level>",
    }.items()
)

# Runs in the child. The kernel kills it when the thread that forked it ends, with the one signal that a
# stopped process obeys too. Had the parent died before the prctl, its child would have another parent.
_LAUNCHER: Final = """\
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent has died")
library = ctypes.CDLL(sys.argv[2])
arguments = [argument.encode() for argument in ("clickhouse-local", *sys.argv[3:])]
library.chdb_query_cmdline(len(arguments), (ctypes.c_char_p * len(arguments))(*arguments))
sys.exit("the server has ended")
"""


class ServerError(RuntimeError):
    """The server cannot start; the message says why and shows the end of its log."""


class ClickHouseServer:
    """One ClickHouse server on the loopback address, that lives no longer than this process.

    Only one thread at a time may call it.

    Parameters
    ----------
    directory
        Holds its data, its configuration and its log. Another object may carry on with it, once this one's
        process has ended.
    http_port
        0 takes a free one, and every later start of this object the same.
    users
        Files for ``users.d``. Each variable that they take a password from is given a random one.
    memory_mb
        At which queries are refused, in MiB.
    logging
        Whether it writes down what it is asked, to the last detail.

    Attributes
    ----------
    log_path
        What the server printed, over all its starts.
    """

    def __init__(
        self,
        directory: Path,
        http_port: int = 0,
        users: Sequence[Path] = DEPLOYED_USERS,
        memory_mb: int = 1024,
        logging: bool = False,
    ) -> None:
        self._directory = directory.resolve()
        self._http_port = http_port
        self._users = users
        self._memory_mb = memory_mb
        self._logging = logging
        variables = re.findall(r'from_env="(\w+)"', "".join(file.read_text() for file in users))
        self._passwords = {variable: secrets.token_hex(16) for variable in variables}
        self._process: subprocess.Popen[bytes] | None = None
        self.log_path = self._directory / "clickhouse.log"

    @property
    def url(self) -> str:
        """The address for the worker's user, as `store.database.Database.server` takes it."""
        return self.url_of("tenantwatch", "TENANTWATCH_CLICKHOUSE_PASSWORD")

    @property
    def reader_url(self) -> str:
        """The address for the user that reads for one tenant."""
        return self.url_of("tenantwatch_reader", "TENANTWATCH_CLICKHOUSE_READER_PASSWORD")

    def url_of(self, user: str, variable: str) -> str:
        """Return the address for a user, given the variable that its password is taken from."""
        return f"http://{user}:{self._passwords[variable]}@127.0.0.1:{self._http_port}/tenantwatch"

    @property
    def pid(self) -> int:
        """The server's process."""
        assert self._process is not None, "the server was not started"
        return self._process.pid

    def running(self) -> bool:
        """Whether the process is alive; also while it is paused."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> str:
        """Start the server and wait until it answers; return its `url`. Does nothing when it runs.

        Raises
        ------
        ServerError
            If it ends or does not answer.
        LibraryMissing
            If it cannot be fetched.
        """
        if self.running():
            return self.url
        self._configure()
        self._http_port = self._http_port or _free_port()
        self._process = self._spawn()
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None:
                raise self._failure("ended before it answered")
            if time.monotonic() > deadline:
                self.kill()
                raise self._failure(f"did not answer within {START_DEADLINE_S} s")
            time.sleep(0.02)
        return self.url

    def stop(self) -> None:
        """End the server with SIGTERM, also while it is paused.

        The library has no orderly shutdown: running queries break off. What was acknowledged is kept.
        """
        if self.running():
            os.kill(self.pid, signal.SIGTERM)
            with contextlib.suppress(ProcessLookupError):  # it has ended already
                self.resume()
            self._await_end()

    def kill(self) -> None:
        """End the server with SIGKILL."""
        if self.running():
            os.kill(self.pid, signal.SIGKILL)
            self._await_end()

    def pause(self) -> None:
        """Stop its threads with SIGSTOP, and wait until they are: connections stay open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a paused server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def _configure(self) -> None:
        shutil.rmtree(self._directory / "users.d", ignore_errors=True)
        (self._directory / "users.d").mkdir(parents=True)
        for file in self._users:
            shutil.copy(file, self._directory / "users.d")
        (self._directory / "config.d").mkdir(exist_ok=True)
        shutil.copy(DEPLOYED_CONFIG, self._directory / "config.d")
        (self._directory / "users.xml").write_text(_USERS)
        logs = _LOGS if self._logging else ""
        config = _CONFIG.format(memory_bytes=self._memory_mb * 2**20, logs=logs)
        (self._directory / "config.xml").write_text(config)

    def _spawn(self) -> subprocess.Popen[bytes]:
        """Start the process from a thread that lives exactly as long, for the kernel's signal at its end."""
        command = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), str(library())]
        command += ["--config-file=config.xml", "--path=data", f"--http_port={self._http_port}"]
        level = "trace" if self._logging else "warning"
        command += ["--logger.console", f"--log-level={level}", f"--query={_BOOT}"]
        spawned: Future[subprocess.Popen[bytes]] = Future()

        def run() -> None:
            try:
                with self.log_path.open("ab") as log:
                    process = subprocess.Popen(
                        command,
                        cwd=self._directory,
                        env=os.environ | self._passwords,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,  # a Ctrl-C is for its clients
                    )
            except OSError as error:
                spawned.set_exception(error)
                return
            spawned.set_result(process)
            process.wait()

        threading.Thread(target=run, name="clickhouse-server", daemon=True).start()
        return spawned.result()

    def _answers(self) -> bool:
        # With its password: on a port that another server has, that one's answer must not do.
        try:
            answer = httpx.get(
                self.url.removesuffix("/tenantwatch"),
                params={"query": "SELECT 1"},
                timeout=1.0,
                trust_env=False,
            )
        except httpx.HTTPError:
            return False
        return answer.text == "1\n"

    def _await_end(self) -> None:
        assert self._process is not None
        self._process.wait(END_DEADLINE_S)

    def _failure(self, what: str) -> ServerError:
        end = self.log_path.read_text(errors="replace")[-4_000:]
        return ServerError(f"the ClickHouse server {what}. The end of {self.log_path}:\n{end}")


def _free_port() -> int:
    """Return a free port that no outgoing connection is given.

    While the server is down, one of those could take it for good: even a client's that tries to connect to
    this very port.
    """
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise ServerError("no port between 20000 and 32000 is free")


if __name__ == "__main__":
    server = ClickHouseServer(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()))
    print(server.start(), flush=True)
    try:
        signal.pause()
    except KeyboardInterrupt:
        server.stop()
