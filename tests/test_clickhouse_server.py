"""The ClickHouse server for tests: what the others rely on when they break it."""

import fcntl
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import psutil
import pytest

from store.database import Database, StoreError, StoreUnavailable
from store.migrations import migrate, migrations
from streams.jvm import ended
from tests import libchdb
from tests.clickhouse_server import DEPLOYED_USERS, ClickHouseServer, ServerError
from tests.conftest import GIVE_UP_S, REPOSITORY, eventually
from tests.libchdb import LibraryMissing, library, unpack

# Starts a server, pauses it if told to, and waits to be killed.
PARENT = """
import sys, time
from pathlib import Path
from tests.clickhouse_server import ClickHouseServer
server = ClickHouseServer(Path(sys.argv[1]))
server.start()
if sys.argv[2] == "paused":
    server.pause()
print(server.pid, flush=True)
time.sleep(600)
"""
READER = """
<clickhouse>
  <users>
    <reader>
      <password from_env="READER_PASSWORD"/>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile>
      <quota>default</quota>
      <grants><query>GRANT SELECT ON tenantwatch.trail</query></grants>
      <databases><tenantwatch><trail><filter>tenant_id = 'tenant-a'</filter></trail></tenantwatch></databases>
    </reader>
  </users>
</clickhouse>
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ClickHouseServer]:
    """A server that a test may kill and pause."""
    own = ClickHouseServer(tmp_path / "clickhouse")
    own.start()
    yield own
    own.stop()


def table(database: Database) -> str:
    name = f"t_{uuid4().hex}"
    database.command(f"CREATE TABLE {name} (n UInt64) ENGINE = MergeTree ORDER BY n")
    return name


def query_as(address: str, sql: str) -> str:
    """Send a query as the user in the address, and return the answer, error or not."""
    return httpx.post(address, content=sql, trust_env=False).text


def port_of(server: ClickHouseServer) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


def numbers(database: Database, name: str) -> list[int]:
    return [row["n"] for row in database.query(f"SELECT n FROM {name} ORDER BY n")]


# What it is for.


def test_migrations_run_on_a_server(server: ClickHouseServer) -> None:
    """The worker's user, with the grants of the deployment, may do what the migrations do."""
    database = Database.server(server.url)
    assert migrate(database) == [name for _, name, _ in migrations()]
    assert migrate(database) == []
    database.close()


def test_the_password_is_in_no_error_and_no_name_of_the_store(clickhouse_server: ClickHouseServer) -> None:
    """Both are logged: of a server that refuses it, and of one that is not there."""
    parts = urlsplit(clickhouse_server.url)
    database = Database.server(clickhouse_server.url)
    assert parts.password is not None
    assert parts.password not in database.description
    database.close()
    for where in (f"{parts.hostname}:{parts.port}", "127.0.0.1:1"):
        with pytest.raises((StoreUnavailable, StoreError)) as refused:
            Database.server(f"http://tenantwatch:not-the-password@{where}/tenantwatch")
        assert "not-the-password" not in str(refused.value)


def test_what_is_inserted_is_found(clickhouse_server: ClickHouseServer) -> None:
    """Rows go in and come out over HTTP, and deleting and merging are allowed."""
    database = Database.server(clickhouse_server.url)
    name = table(database)
    database.insert_rows(name, [{"n": 1}, {"n": 2}])
    database.insert_rows(name, [{"n": 3}])
    assert numbers(database, name) == [1, 2, 3]
    database.command(f"DELETE FROM {name} WHERE n = 2")
    database.command(f"OPTIMIZE TABLE {name} FINAL")
    assert numbers(database, name) == [1, 3]
    database.close()


def test_a_running_insert_can_be_killed(clickhouse_server: ClickHouseServer) -> None:
    """KILL QUERY ... SYNC returns when the insert has ended, and none of its rows is there."""
    database = Database.server(clickhouse_server.url)
    name = table(database)
    slow = (
        f"INSERT INTO {name} SELECT number FROM system.numbers WHERE NOT ignore(sleepEachRow(0.01)) "
        "SETTINGS max_block_size = 1"
    )
    mine = f"FROM system.processes WHERE query LIKE '%INTO {name} %' AND query NOT LIKE '%processes%'"
    with ThreadPoolExecutor(1) as pool:
        insert = pool.submit(database.command, slow)
        [row] = eventually(lambda: database.query(f"SELECT query_id {mine}"))
        database.command("KILL QUERY WHERE query_id = {id:String} SYNC", {"id": row["query_id"]})
        assert database.query(f"SELECT query_id {mine}") == []
        with pytest.raises(StoreUnavailable, match="Code: 394"):
            insert.result(GIVE_UP_S)
    assert numbers(database, name) == []
    database.close()


def test_further_users_see_what_their_row_policies_let_them(tmp_path: Path) -> None:
    """A file beside the deployment's adds a user with a password of its own; the server filters its rows."""
    users = tmp_path / "reader.xml"
    users.write_text(READER)
    server = ClickHouseServer(tmp_path / "clickhouse", users=(*DEPLOYED_USERS, users))
    database = Database.server(server.start())
    database.command("CREATE TABLE trail (tenant_id String) ENGINE = MergeTree ORDER BY tenant_id")
    database.insert_rows("trail", [{"tenant_id": "tenant-a"}, {"tenant_id": "tenant-b"}])
    assert len(database.query("SELECT tenant_id FROM trail")) == 2
    database.close()
    address = server.url_of("reader", "READER_PASSWORD").removesuffix("/tenantwatch")
    assert query_as(address, "SELECT tenant_id FROM tenantwatch.trail") == "tenant-a\n"
    server.stop()


def test_nobody_gets_in_without_a_password(clickhouse_server: ClickHouseServer) -> None:
    """The user that starts the listener has none, and may do no more than that."""
    database = Database.server(clickhouse_server.url)
    name = table(database)
    database.close()
    address = f"http://default@127.0.0.1:{port_of(clickhouse_server)}"
    for sql in (f"SELECT n FROM tenantwatch.{name}", "CREATE DATABASE x", "SYSTEM SHUTDOWN"):
        assert "Not enough privileges" in query_as(address, sql)


# What breaks it.


def test_acknowledged_rows_survive_a_kill(server: ClickHouseServer) -> None:
    """After kill -9 the same object starts on the same data, at the same address."""
    before, pid = server.url, server.pid
    database = Database.server(server.url)
    name = table(database)
    for n in range(20):
        database.insert_rows(name, [{"n": n}])
    server.kill()
    assert not server.running()
    with pytest.raises(StoreUnavailable):
        numbers(database, name)
    assert server.start() == before
    assert server.pid != pid
    assert numbers(database, name) == list(range(20))
    database.close()


def test_a_paused_server_answers_once_it_is_resumed(server: ClickHouseServer) -> None:
    """While it is paused a query neither fails nor returns."""
    database = Database.server(server.url)
    name = table(database)
    database.insert_rows(name, [{"n": 7}])
    with ThreadPoolExecutor(1) as pool:
        server.pause()
        answer: Future[list[int]] = pool.submit(numbers, database, name)
        with pytest.raises(StillRunning):
            answer.result(0.5)
        assert server.running()
        server.resume()
        assert answer.result(GIVE_UP_S) == [7]
    database.close()


def test_a_paused_server_can_be_stopped(server: ClickHouseServer) -> None:
    """Nothing has to be resumed first, and stopping twice is harmless."""
    server.pause()
    server.stop()
    server.stop()
    assert not server.running()


@pytest.mark.parametrize("state", ["running", "paused"])
def test_a_killed_parent_takes_its_server_along(tmp_path: Path, state: str) -> None:
    """Even kill -9 of a test leaves no server behind, paused or not."""
    command = [sys.executable, "-c", PARENT, str(tmp_path), state]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    gone = ended(child, GIVE_UP_S)
    with suppress(psutil.NoSuchProcess):
        child.kill()
    assert gone


def test_a_starting_thread_that_ends_leaves_the_server_alone(tmp_path: Path) -> None:
    """The kernel's signal comes when a thread ends; the caller's may be one of a pool."""
    server = ClickHouseServer(tmp_path)
    starter = threading.Thread(target=server.start)
    starter.start()
    starter.join()
    Database.server(server.url).close()
    server.stop()


def test_a_taken_port_is_told(clickhouse_server: ClickHouseServer, tmp_path: Path) -> None:
    """Another server's answer is not taken for its own; the error holds the end of the log."""
    taken = ClickHouseServer(tmp_path, http_port=port_of(clickhouse_server))
    with pytest.raises(ServerError, match=r"(?s)ended before it answered.*Address already in use"):
        taken.start()


# The library.


def test_a_package_that_is_not_the_one_we_know_is_not_used(tmp_path: Path) -> None:
    """Nothing is unpacked from it."""
    package = tmp_path / "package.tgz"
    with tarfile.open(package, "w:gz") as members:
        members.addfile(tarfile.TarInfo("package/libchdb.so"), io.BytesIO())
    with pytest.raises(LibraryMissing, match="SHA-512"):
        unpack(package, tmp_path / "libchdb.so")
    assert not (tmp_path / "libchdb.so").exists()


def test_without_a_registry_the_error_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """npm's own words are in it, and the next try starts afresh."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NPM_CONFIG_CACHE", str(tmp_path / "npm"))
    monkeypatch.setenv("NPM_CONFIG_OFFLINE", "true")
    for _ in range(2):
        with pytest.raises(LibraryMissing, match=r"(?s)cannot fetch @chdb/.*an npm registry.*ENOTCACHED"):
            library()


def test_two_test_processes_fetch_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second waits for the first, and finds the library whole."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fetched = []

    def fetch(directory: Path) -> Path:
        fetched.append(directory)
        time.sleep(0.2)  # so that the second comes while it is not there
        with (directory.parent / "lock").open("w") as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return directory

    def write(package: Path, to: Path) -> Path:
        to.write_text("whole")
        return to

    monkeypatch.setattr(libchdb, "fetch", fetch)
    monkeypatch.setattr(libchdb, "unpack", write)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: library(), range(2))
    assert first == second
    assert first.read_text() == "whole"
    assert len(fetched) == 1
    assert sorted(os.listdir(first.parent)) == ["libchdb.so", "lock"]
