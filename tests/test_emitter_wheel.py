"""The emitter's distribution: built, installed alone, and used by a service."""

import importlib.metadata
import json
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from schemas.event import KINDS
from tenantwatch.control import Control
from tenantwatch.settings import Settings
from tests.conftest import Up
from tests.test_emitter import DEADLINE_S, ROOT, SERVICE, run


@pytest.fixture(scope="session")
def emitter_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, which is built from the repository."""
    folder = tmp_path_factory.mktemp("dist")
    command = ["-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT / "emitter")]
    built = subprocess.run([sys.executable, *command], capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="session")
def emitter_python(emitter_wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The Python of an environment that has the emitter and nothing else of ours."""
    folder = tmp_path_factory.mktemp("service")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin" / "python")
    pin = f"kafka-python=={importlib.metadata.version('kafka-python')}"
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    installed = subprocess.run([*install, str(emitter_wheel), pin], capture_output=True, text=True)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return python


def test_the_wheel_carries_the_generated_schemas(emitter_wheel: Path) -> None:
    """The contract has one source: the wheel's schemas are those of the repository, byte for byte."""
    with zipfile.ZipFile(emitter_wheel) as wheel:
        for kind in KINDS:
            packaged = wheel.read(f"tenantwatch_emitter/schemas/{kind}-event.json")
            assert packaged == (ROOT / "schemas" / "json" / f"{kind}-event.json").read_bytes()


def test_a_wheel_built_from_the_repository_is_the_same(emitter_wheel: Path, tmp_path: Path) -> None:
    """It does not matter whether the source distribution lay in between."""
    command = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT / "emitter")]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    assert (tmp_path / emitter_wheel.name).read_bytes() == emitter_wheel.read_bytes()


def test_the_environment_of_a_service_gets_no_package_of_ours(emitter_python: str) -> None:
    """Only kafka-python comes along; our top-level names stay free."""
    ours = ["schemas", "detectors", "store", "streams", "api", "dashboards", "tenantwatch"]
    code = f"from importlib.util import find_spec; print([name for name in {ours} if find_spec(name)])"
    assert run(code, python=emitter_python).stdout.strip() == "[]"
    listed = subprocess.run(
        [emitter_python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True
    )
    names = {package["name"] for package in json.loads(listed.stdout)}
    assert names - {"pip", "setuptools"} == {"kafka-python", "tenantwatch-emitter"}


def test_three_lines_in_a_service_end_as_a_stored_row(up: Up, emitter_python: str) -> None:
    """The wheel alone in an empty environment sends an event through the whole pipeline into the store."""
    tenant = {"tenant_id": "wheel", "organization_id": "org", "name": "Wheel"}
    applied = up.run("tenants", "apply", "-", stdin=json.dumps(tenant))
    assert applied.returncode == 0, applied.stderr
    ended = run(SERVICE.replace("tenant-a", "wheel"), up.status["kafka"], "audit", python=emitter_python)
    assert (ended.returncode, ended.stderr) == (0, "")
    with Control(Settings(data_dir=up.data_dir)) as control:
        deadline = time.monotonic() + DEADLINE_S
        while not (rows := control.get("/counts", tenant_id="wheel")):
            assert time.monotonic() < deadline, control.get("/dead-letters")
            time.sleep(0.1)
    assert [(row["kind"], row["events"]) for row in rows] == [("auth", 1)]


def test_the_installed_emitter_still_checks_events(emitter_python: str) -> None:
    """It finds its schemas beside itself, with no repository around."""
    ended = run(SERVICE.replace("login", "Log In"), "127.0.0.1:1", "audit", python=emitter_python)
    assert "InvalidEvent: action: of a wrong form, found 'Log In'" in ended.stderr
