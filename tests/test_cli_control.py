"""How commands reach the store: beside a worker, without one, and when it is held by somebody else."""

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from conftest import REPOSITORY, CommandLine, settings_env
from typer.testing import CliRunner

from api.control import control_app
from api.trail import Seals
from store.database import Database
from store.lock import lock
from store.webhooks import WebhookStore
from streams.webhooks.delivery import WebhookDelivery
from tenantwatch import control
from tenantwatch.cli import app
from tenantwatch.control import Control, ControlError, kafka_bootstrap, running
from tenantwatch.settings import Settings

# A process that holds the store until its standard input ends, as a worker does that is not up yet.
HOLDER = """
import sys
from pathlib import Path
from store.lock import lock
held = lock(Path(sys.argv[1]) / "clickhouse.lock")
print("held", flush=True)
sys.stdin.read()
"""

# A process that finds the store held, then waits for it.
OPENER = """
import sys
from pathlib import Path
from store.lock import StoreLocked
from tenantwatch.database import open_database
from tenantwatch.settings import Settings
settings = Settings(data_dir=Path(sys.argv[1]))
try:
    open_database(settings)
except StoreLocked:
    print("locked", flush=True)
database = open_database(settings, wait_s=20)
print("opened", flush=True)
database.close()
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with an empty data directory."""
    return Settings(data_dir=tmp_path)


def test_without_a_worker_a_command_opens_the_store_itself(tmp_path: Path) -> None:
    """A webhook can be added before the first start, and another command finds it."""
    line = CommandLine(settings_env(tmp_path, webhook_allow="192.0.2.0/24"))
    added = line.json("webhooks", "add", "https://192.0.2.1/hook", "--platform")
    listed = line.json("webhooks", "list")
    assert [endpoint["endpoint_id"] for endpoint in listed] == [added["endpoint_id"]]


def test_two_commands_at_once_take_turns(tmp_path: Path) -> None:
    """The engine admits one process: the second waits for the first."""
    line = CommandLine(settings_env(tmp_path))
    pipes = dict.fromkeys(("stdout", "stderr"), subprocess.PIPE)
    commands = [line.start("webhooks", "list", "--json", **pipes) for _ in range(2)]
    for command in commands:
        out, err = command.communicate(timeout=60)
        assert (command.returncode, json.loads(out)) == (0, []), err


def test_a_store_that_is_held_is_told_with_its_holder(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while without a socket the error names the process, and what it may be doing."""
    monkeypatch.setattr(control, "LOCK_WAIT_S", 0.2)
    command = [sys.executable, "-c", HOLDER, str(settings.data_dir)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ControlError, match=f"process {holder.pid}.*try again"):
            Control(settings)
        holder.stdin.close()


def test_a_worker_waits_for_a_command_that_has_the_store(settings: Settings) -> None:
    """A command that began a moment before `up` must not stop it from starting."""
    held = lock(settings.data_dir / "clickhouse.lock")
    command = [sys.executable, "-c", OPENER, str(settings.data_dir)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE) as opener:
        assert opener.stdout is not None
        assert opener.stdout.readline() == b"locked\n"
        time.sleep(0.5)
        held.close()
        assert opener.stdout.read().endswith(b"opened\n")
    assert opener.returncode == 0


def test_a_socket_that_a_killed_worker_left_is_no_worker(settings: Settings) -> None:
    """Its file is there, but nobody answers."""
    settings.socket_path.touch()
    assert not running(settings)


def test_kafka_is_where_the_settings_say(settings: Settings) -> None:
    """They come before anything else; the embedded one's port is known when it is not chosen freely."""
    assert kafka_bootstrap(settings.model_copy(update={"kafka": "kafka-1:9092"})) == "kafka-1:9092"
    assert kafka_bootstrap(settings.model_copy(update={"kafka_port": 19_092})) == "127.0.0.1:19092"


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("/privacy/export", ("export", "--tenant", "tenant-a", "--subject", "ana@example.com")),
        ("/privacy/forget", ("forget", "--yes", "--tenant", "tenant-a", "--subject", "ana@example.com")),
        ("/privacy/rotate-keys", ("rotate-keys",)),
    ],
)
def test_what_waits_for_the_store_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, path: str, arguments: tuple[str, ...]
) -> None:
    """ClickHouse may take minutes to remove the vault's old parts: for hours, not as long as a query."""
    waited_s: dict[str, float] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        waited_s[request.url.path] = request.extensions["timeout"]["read"]
        unmet = request.url.path == "/privacy/unmet"
        return httpx.Response(200, json=[]) if unmet else httpx.Response(409, json={"detail": "held"})

    monkeypatch.setattr(Control, "_reach", lambda self: httpx.MockTransport(answer))
    assert str(CliRunner().invoke(app, ["privacy", *arguments]).exception) == "held"
    assert waited_s[path] > 3_600


def test_an_embedded_kafka_on_a_free_port_needs_its_worker(settings: Settings) -> None:
    """Nobody can know the port, and without its worker Kafka does not run."""
    with pytest.raises(ControlError, match="tenantwatch up"):
        kafka_bootstrap(settings.model_copy(update={"kafka_port": 0}))


async def test_a_worker_without_the_api_s_keys_says_where_keys_are_made(database: Database) -> None:
    """Keys that it made would be good at no API process."""
    worker = control_app(
        database,
        WebhookDelivery(WebhookStore(database)),
        status=dict,
        seals=Seals(None, None),
        privacy=lambda: pytest.fail("it has nothing to do with people"),
        ring=None,
    )
    transport = httpx.ASGITransport(app=worker)
    async with httpx.AsyncClient(transport=transport, base_url="http://worker") as client:
        refused = await client.post("/keys", json={})
    assert refused.status_code == 409
    assert "TENANTWATCH_API_KEYS_FILE" in refused.json()["detail"]
