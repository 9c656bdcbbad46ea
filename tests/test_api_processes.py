"""Several `tenantwatch api` processes on one ClickHouse server and one Kafka: they are one API."""

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from api_server import add_tenant, authorization
from conftest import CommandLine, eventually, settings_env

from store.database import Database
from store.migrations import migrate
from streams.topics import ensure_topics
from tests.clickhouse_server import ClickHouseServer

TENANT = "api-processes"


@contextmanager
def serving(line: CommandLine, log_path: Path) -> Iterator[str]:
    """Run `tenantwatch api` and yield its address."""
    with log_path.open("wb") as log, line.start("api", stdout=log, stderr=log) as process:
        try:
            yield _address(process, log_path)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
    assert process.returncode == 0, log_path.read_text()


def _address(process: subprocess.Popen[bytes], log_path: Path) -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        for line in log_path.read_text().splitlines():
            if '"api_started"' in line:
                return str(json.loads(line)["url"]).removesuffix("/v1")
        time.sleep(0.05)
    raise AssertionError(log_path.read_text())


@pytest.fixture(scope="module")
def line(
    kafka: str, clickhouse_server: ClickHouseServer, tmp_path_factory: pytest.TempPathFactory
) -> CommandLine:
    """The program on a cluster, with a tenant in its directory."""
    ensure_topics(kafka)
    database = Database.server(clickhouse_server.url)
    migrate(database)
    add_tenant(database, TENANT)
    database.close()
    data_dir = tmp_path_factory.mktemp("cluster")
    store = {"clickhouse": clickhouse_server.url, "clickhouse_reader": clickhouse_server.reader_url}
    keys = {"api_keys_file": str(data_dir / "api-keys.json")}
    return CommandLine(settings_env(data_dir, kafka=kafka, **store, **keys))


@pytest.fixture(scope="module")
def two(line: CommandLine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of two processes."""
    logs = tmp_path_factory.mktemp("logs")
    with ExitStack() as stack:
        yield tuple(stack.enter_context(serving(line, logs / f"{n}.log")) for n in range(2))  # type: ignore[misc]


@pytest.fixture(scope="module")
def key(line: CommandLine) -> str:
    """An administrator's key, made on the command line: there is no worker, it opens the server itself."""
    made = line.json("keys", "create", "admin", "--tenant", TENANT, "--role", "tenant_admin")
    return str(made["key"])


def me(address: str, credentials: str) -> int:
    answer = httpx.get(f"{address}/v1/me", headers={"Authorization": f"Bearer {credentials}"}, timeout=30)
    return answer.status_code


def test_one_process_s_token_is_good_at_the_other(two: tuple[str, str], key: str) -> None:
    """They share the file with their keys."""
    form = {"grant_type": "client_credentials", "client_id": key[3:19], "client_secret": key}
    token = httpx.post(f"{two[0]}/v1/oauth/token", data=form, timeout=30).json()["access_token"]
    assert [me(address, token) for address in two] == [200, 200]


def test_what_one_process_revokes_the_other_refuses_at_once(two: tuple[str, str], key: str) -> None:
    """No process remembers a key as good."""
    first = httpx.Client(base_url=two[0], headers={"Authorization": f"Bearer {key}"}, timeout=30)
    made = first.post("/v1/keys", json={"name": "short", "roles": ["viewer"]}).json()
    assert [me(address, made["key"]) for address in two] == [200, 200]
    assert first.delete(f"/v1/keys/{made['key_id']}").status_code == 204
    assert [me(address, made["key"]) for address in two] == [401, 401]
    first.close()


def test_a_nonce_is_used_once_in_all_processes(two: tuple[str, str], key: str) -> None:
    """A signed request that one process took is refused by the other."""
    told = authorization(key, "GET", "/v1/me", b"", int(time.time()), "nonce-of-processes")
    answers = [httpx.get(f"{address}/v1/me", headers={"Authorization": told}, timeout=30) for address in two]
    assert [answer.status_code for answer in answers] == [200, 401]


def test_a_refresh_token_is_used_once_in_all_processes(two: tuple[str, str], key: str) -> None:
    """The second use, wherever it is, ends the family."""
    client = {"client_id": key[3:19], "client_secret": key}
    form = client | {"grant_type": "client_credentials", "scope": "offline_access"}
    pair = httpx.post(f"{two[0]}/v1/oauth/token", data=form, timeout=30).json()
    form = client | {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    answers = [httpx.post(f"{address}/v1/oauth/token", data=form, timeout=30) for address in two]
    assert [answer.status_code for answer in answers] == [200, 400]
    assert [me(address, answers[0].json()["access_token"]) for address in two] == [401, 401]


def test_doctor_knows_an_api_process(line: CommandLine, tmp_path: Path) -> None:
    """It has no worker beside it and its ports are its own: neither is a fault."""
    ports = {"TENANTWATCH_HTTP_PORT": str(free_port()), "TENANTWATCH_API_PORT": str(free_port())}
    here = CommandLine({**line.env, **ports, "TENANTWATCH_DATA_DIR": str(tmp_path / "api")})
    with serving(here, tmp_path / "log"):
        # A Kafka without any group yet says for a moment that it has no place for them.
        checks = eventually(lambda: passed(here))
    found = {check["name"]: check for check in checks}
    assert found["api"]["status"] == "ok"
    assert not {"worker", "ports"} & found.keys()


def test_an_api_process_needs_a_cluster(tmp_path: Path) -> None:
    """Without one it says what to set, or what to run instead."""
    refused = CommandLine(settings_env(tmp_path)).run("api")
    assert refused.returncode == 1
    assert "TENANTWATCH_CLICKHOUSE" in refused.stderr
    assert "tenantwatch up" in refused.stderr


def test_without_kafka_the_api_answers(
    line: CommandLine, key: str, clickhouse_server: ClickHouseServer, tmp_path: Path
) -> None:
    """Its own events wait or are dropped; no request does, and readiness says why."""
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{nobody.getsockname()[1]}"
    env = dict(line.env) | {"TENANTWATCH_KAFKA": away, "TENANTWATCH_HTTP_PORT": str(free_port())}
    with serving(CommandLine(env), tmp_path / "log") as address:
        assert me(address, key) == 200
        ready = httpx.get(f"http://127.0.0.1:{env['TENANTWATCH_HTTP_PORT']}/readyz", timeout=30)
        assert ready.status_code == 503
        assert "kafka" in ready.json()["problems"][0]


def passed(line: CommandLine) -> list[dict[str, str]]:
    """Return what `doctor` finds, or nothing where it fails."""
    done = line.run("doctor", "--json")
    return json.loads(done.stdout) if done.returncode == 0 else []


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
