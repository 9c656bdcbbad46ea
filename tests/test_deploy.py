"""The compose file, the image and what they mount: valid, complete, and without a secret in them."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sysconfig
import threading
import tomllib
import xml.etree.ElementTree as ET
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dashboards.grafana.provisioning import DASHBOARDS_PATH
from store.database import QUERY_SETTINGS
from store.migrations import migrations
from store.server_version import hides_keys
from tenantwatch.settings import Settings
from tests.clickhouse_server import DEPLOYED_CONFIG, DEPLOYED_USERS
from tests.sizes import examples
from tests.walled_server import make_viewer

ROOT = Path(__file__).parent.parent
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SECRETS = (
    "TENANTWATCH_CLICKHOUSE_PASSWORD",
    "TENANTWATCH_SEAL_KEY",
    "TENANTWATCH_CLICKHOUSE_READER_PASSWORD",
    "GRAFANA_CLICKHOUSE_PASSWORD",
    "GRAFANA_ADMIN_PASSWORD",
    "KAFKA_CLUSTER_ID",
    "TENANTWATCH_MASTER_KEY",
)


def _compose(tmp_path: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the real Compose with an environment that holds none of our variables."""
    return subprocess.run(
        [
            Path(sysconfig.get_path("scripts")) / "docker-compose",
            "--project-directory",
            ROOT,
            "--file",
            COMPOSE,
            *arguments,
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )


def _make_env(file: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROOT / "deploy/make-env", file], capture_output=True, text=True, check=False)


def _values(file: Path) -> dict[str, str]:
    lines = (line for line in file.read_text().splitlines() if not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file as `deploy/make-env` writes it."""
    file = tmp_path_factory.mktemp("env") / ".env"
    assert _make_env(file).returncode == 0
    return file


@pytest.fixture(scope="module")
def project(env_file: Path) -> dict[str, Any]:
    """The project as Compose understands it, every variable filled in."""
    done = _compose(env_file.parent, "--env-file", env_file, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    loaded: dict[str, Any] = json.loads(done.stdout)
    return loaded


# The environment file.


def test_make_env_writes_secrets_that_only_the_owner_reads(env_file: Path, tmp_path: Path) -> None:
    """Each is long and random: no two are alike, and the next file has others."""
    values = _values(env_file)
    assert tuple(values) == SECRETS
    assert env_file.stat().st_mode & 0o777 == 0o600
    again = tmp_path / "again"
    assert _make_env(again).returncode == 0
    everything = [*values.values(), *_values(again).values()]
    assert len(set(everything)) == 2 * len(SECRETS)
    assert all(re.fullmatch(r"[0-9a-f]{48}", values[name]) for name in SECRETS if name.endswith("PASSWORD"))
    assert len(b64decode(values["TENANTWATCH_SEAL_KEY"], validate=True)) == 32
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{21}", values["KAFKA_CLUSTER_ID"])
    assert len(base64.b64decode(values["TENANTWATCH_MASTER_KEY"], validate=True)) == 32


def test_make_env_keeps_a_file_that_exists(env_file: Path) -> None:
    """The volumes know its passwords, so replacing them would lock everybody out."""
    before = env_file.read_text()
    done = _make_env(env_file)
    assert done.returncode == 1
    assert "exists and is kept" in done.stderr
    assert env_file.read_text() == before


def test_the_env_file_stays_here() -> None:
    """Git does not commit it and the image does not contain it."""
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    allowed = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()
    assert not any(".env" in line or line in ("!.", "!deploy") for line in allowed)


# The compose file.


def test_compose_accepts_the_file(env_file: Path) -> None:
    """The real Compose finds nothing to object to."""
    done = _compose(env_file.parent, "--env-file", env_file, "config", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("missing", SECRETS)
def test_compose_says_what_to_run_when_a_secret_is_missing(
    env_file: Path, tmp_path: Path, missing: str
) -> None:
    """Without it nothing starts, and the error names the script that makes it."""
    partial = tmp_path / "partial"
    partial.write_text("".join(f"{k}={v}\n" for k, v in _values(env_file).items() if k != missing))
    done = _compose(tmp_path, "--env-file", partial, "config", "--quiet")
    assert done.returncode != 0
    assert missing in done.stderr
    assert "run deploy/make-env first" in done.stderr


def test_every_part_is_there(project: dict[str, Any]) -> None:
    """Kafka, ClickHouse, two workers, the API and the three that watch them."""
    assert set(project["services"]) == {
        "kafka",
        "clickhouse",
        "worker-1",
        "worker-2",
        "api",
        "prometheus",
        "alertmanager",
        "grafana",
    }


def test_a_part_comes_back_and_says_whether_it_is_well(project: dict[str, Any]) -> None:
    """Each restarts by itself, runs a fixed version and has a health check of its own."""
    for name, service in project["services"].items():
        assert service["restart"] == "unless-stopped", name
        if "build" in service:
            assert "HEALTHCHECK" in DOCKERFILE
        else:
            assert re.search(r":v?\d+\.\d+\.\d+(\.\d+)?$", service["image"]), service["image"]
            assert service["healthcheck"]["test"], name


def test_a_part_waits_until_what_it_needs_is_healthy(project: dict[str, Any]) -> None:
    """Workers and the API start after Kafka and ClickHouse, Grafana after its two sources."""
    services = project["services"]
    waits = {name: set(service.get("depends_on", {})) for name, service in services.items()}
    assert waits["worker-1"] == waits["worker-2"] == waits["api"] == {"kafka", "clickhouse"}
    assert waits["grafana"] == {"clickhouse", "prometheus"}
    for service in services.values():
        for needed in service.get("depends_on", {}).values():
            assert needed["condition"] == "service_healthy"


def test_nothing_is_open_to_other_hosts(project: dict[str, Any]) -> None:
    """Every published port is bound to this host, and no two want the same."""
    ports = [port for service in project["services"].values() for port in service.get("ports", [])]
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert len({port["published"] for port in ports}) == len(ports)


def test_what_is_mounted_exists_and_cannot_be_changed(project: dict[str, Any]) -> None:
    """Each file or folder of the repository is there, read-only; each volume is declared and used."""
    mounts = [mount for service in project["services"].values() for mount in service.get("volumes", [])]
    for mount in mounts:
        if mount["type"] == "bind":
            assert Path(mount["source"]).exists(), mount["source"]
            assert mount["read_only"], mount["source"]
    volumes = [mount["source"] for mount in mounts if mount["type"] == "volume"]
    assert set(volumes) == set(project["volumes"])
    # One process, one data directory; only the API's keys are everybody's.
    assert {volume for volume in volumes if volumes.count(volume) > 1} == {"api-keys"}


def test_no_secret_is_written_down() -> None:
    """Every password in the compose file is a variable that must be given."""
    for line in COMPOSE.read_text().splitlines():
        if not line.lstrip().startswith("#") and re.search(r"(PASSWORD|SECRET|TOKEN|MASTER_KEY)\w*:", line):
            assert re.search(r": \$\{\w+:\?run deploy/make-env first\}$", line), line


def test_workers_get_settings_that_exist(project: dict[str, Any]) -> None:
    """A misspelt variable would be ignored in silence; two workers have two names."""
    known = {f"TENANTWATCH_{name.upper()}" for name in Settings.model_fields}
    assert set(project["services"]["api"]["environment"]) <= known
    names = []
    assert set(project["services"]["api"]["environment"]) <= known
    for worker in ("worker-1", "worker-2"):
        environment = project["services"][worker]["environment"]
        assert set(environment) <= known
        names.append(environment["TENANTWATCH_WORKER_ID"])
    assert names == ["worker-1", "worker-2"]


def _settings(project: dict[str, Any], service: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What a service's process makes of its variables."""
    for name, value in project["services"][service]["environment"].items():
        monkeypatch.setenv(name, value)
    return Settings()


@pytest.mark.parametrize("service", ["worker-1", "worker-2", "api"])
def test_workers_and_the_api_log_in_as_themselves(
    project: dict[str, Any], monkeypatch: pytest.MonkeyPatch, service: str
) -> None:
    """The settings make of these variables the addresses and users that ClickHouse knows."""
    given = project["services"]["clickhouse"]["environment"]
    settings = _settings(project, service, monkeypatch)
    password = given["TENANTWATCH_CLICKHOUSE_PASSWORD"]
    assert settings.clickhouse_url == f"http://tenantwatch:{password}@clickhouse:8123/tenantwatch"
    password = given["TENANTWATCH_CLICKHOUSE_READER_PASSWORD"]
    assert (
        settings.clickhouse_reader_url == f"http://tenantwatch_reader:{password}@clickhouse:8123/tenantwatch"
    )
    assert settings.kafka == "kafka:9092"


def test_the_api_is_served_where_it_is_published(
    project: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port and its health check are those it listens on, on every address of the container."""
    api = project["services"]["api"]
    settings = _settings(project, "api", monkeypatch)
    assert api["command"] == ["api"]
    assert (settings.api_host, settings.api_port) == ("0.0.0.0", api["ports"][0]["target"])
    assert f"http://127.0.0.1:{settings.api_port}/v1/health" in api["healthcheck"]["test"][-1]
    assert f"EXPOSE 8080 {settings.api_port}" in DOCKERFILE


def test_workers_and_the_api_share_the_api_s_keys(
    project: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is in the volume that all three mount, in a folder that the image's user owns."""
    mounted = []
    for name in ("worker-1", "worker-2", "api"):
        folder = _settings(project, name, monkeypatch).api_keys_path.parent
        mounted += [m["source"] for m in project["services"][name]["volumes"] if m["target"] == str(folder)]
    assert mounted == ["api-keys"] * 3
    assert f"install --directory --owner=tenantwatch --mode=0700 {folder}" in DOCKERFILE


# What the parts are given.


def test_prometheus_scrapes_the_workers_and_tells_alertmanager(project: dict[str, Any]) -> None:
    """Its targets are services of the compose file, on the ports they listen on."""
    config = yaml.safe_load((ROOT / "dashboards/prometheus/prometheus.yml").read_text())
    scraped, api = config["scrape_configs"]
    workers = [name for name, service in project["services"].items() if service.get("command") == ["worker"]]
    port = project["services"]["worker-1"]["environment"]["TENANTWATCH_HTTP_PORT"]
    assert scraped["job_name"] == "tenantwatch"
    assert scraped["static_configs"][0]["targets"] == [f"{worker}:{port}" for worker in workers]
    assert (api["job_name"], api["static_configs"][0]["targets"]) == ("tenantwatch-api", [f"api:{port}"])
    (told,) = config["alerting"]["alertmanagers"]
    assert told["static_configs"][0]["targets"] == ["alertmanager:9093"]


def test_alertmanager_silences_only_alerts_that_exist() -> None:
    """Receivers are defined, and each matcher of the inhibitions matches one of our rules."""
    config = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yml").read_text())
    groups = yaml.safe_load((ROOT / "dashboards/prometheus/alerts.yml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule]
    receivers = {receiver["name"] for receiver in config["receivers"]}
    assert {route["receiver"] for route in [config["route"], *config["route"]["routes"]]} <= receivers
    for rule in config["inhibit_rules"]:
        for matcher in rule["source_matchers"] + rule["target_matchers"]:
            for pattern in matcher.split('"')[1].split("|"):
                assert any(re.fullmatch(pattern, alert) for alert in alerts), pattern


def test_grafana_gets_all_that_its_provisioning_asks_for(project: dict[str, Any]) -> None:
    """Each variable in the provisioning is set, and the dashboards are where it looks for them."""
    grafana = project["services"]["grafana"]
    provisioning = (ROOT / "dashboards/grafana/provisioning/datasources/datasources.yaml").read_text()
    wanted = set(re.findall(r"\$(\w+)", provisioning))
    assert wanted == {name for name in grafana["environment"] if not name.startswith("GF_")}
    mounted = {mount["target"]: Path(mount["source"]) for mount in grafana["volumes"]}
    assert mounted[DASHBOARDS_PATH] == ROOT / "dashboards/grafana/json"
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert (mounted[DASHBOARDS_PATH] / home.name).exists()


def test_grafana_installs_the_plugin_that_the_dashboards_are_written_for(project: dict[str, Any]) -> None:
    """The version in the compose file is the one in every panel."""
    plugin, version = project["services"]["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_SYNC"].split("@")
    overview = json.loads((ROOT / "dashboards/grafana/json/overview.json").read_text())
    targets = [target for panel in overview["panels"] for target in panel.get("targets", [])]
    assert {(target["datasource"]["type"], target["pluginVersion"]) for target in targets} == {
        (plugin, version)
    }


def _user(name: str) -> ET.Element:
    users = (ET.parse(file).getroot().find(f"users/{name}") for file in DEPLOYED_USERS)
    [user] = [user for user in users if user is not None]
    return user


def _grants(name: str) -> list[str]:
    return [str(query.text) for query in _user(name).iterfind("grants/query")]


@pytest.mark.parametrize("name", ["tenantwatch", "tenantwatch_reader", "grafana"])
def test_a_clickhouse_user_has_its_password_from_the_environment(project: dict[str, Any], name: str) -> None:
    """The password is not in the file, and the variable it names reaches the container."""
    password = _user(name).find("password")
    assert password is not None
    assert password.text is None
    assert password.attrib["from_env"] in project["services"]["clickhouse"]["environment"]


def test_clickhouse_gets_every_file_of_its_folder(project: dict[str, Any]) -> None:
    """Each on its own, because the image writes some beside them; the viewers are not in the repository."""
    mounts = {Path(m["source"]): m["target"] for m in project["services"]["clickhouse"]["volumes"]}
    files = (*DEPLOYED_USERS, DEPLOYED_CONFIG)
    assert {file: mounts.get(file) for file in files} == {
        file: f"/etc/clickhouse-server/{file.parent.name}/{file.name}" for file in files
    }
    committed = subprocess.run(
        ["git", "ls-files", "deploy/clickhouse"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert {ROOT / line for line in committed.stdout.splitlines()} == set(files)


def test_the_engine_in_our_process_and_a_server_wait_as_little() -> None:
    """Two files, because each is where its reader looks; what they set is the same."""
    ours, theirs = (ET.parse(path).getroot() for path in (ROOT / "store/embedded.xml", DEPLOYED_CONFIG))
    assert [(e.tag, e.text) for e in ours.iter()] == [(e.tag, e.text) for e in theirs.iter()]
    assert len(ours)


def test_a_reader_s_profile_says_what_queries_set() -> None:
    """Who only reads may set nothing, so that its queries would be slower and without an end."""
    profile = ET.parse(DEPLOYED_USERS[0]).getroot().find("profiles/tenantwatch_reader")
    assert profile is not None
    said = {setting.tag: setting.text for setting in profile}
    assert said == {"readonly": "1", **{name: str(value) for name, value in QUERY_SETTINGS.items()}}


def test_clickhouse_is_new_enough_for_the_walls(project: dict[str, Any]) -> None:
    """An older one shows primary keys of every tenant's rows through `mergeTreeIndex`."""
    assert hides_keys(project["services"]["clickhouse"]["image"].rpartition(":")[2])


def test_grafana_may_read_what_its_panels_query_and_nothing_else() -> None:
    """The grants are the tables of the dashboards; secrets of webhooks are not among them."""
    boards = (path.read_text() for path in (ROOT / "dashboards/grafana/json").glob("*.json"))
    tables = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", "".join(sql for _, _, sql in migrations())))
    queried = set(re.findall(r"FROM (\w+)", "".join(boards))) & tables
    assert set(_grants("grafana")) == {f"GRANT SELECT ON tenantwatch.{table}" for table in queried}
    assert "webhook_endpoints" not in queried


@pytest.mark.parametrize("name", ["tenantwatch_reader", "grafana"])
def test_who_reads_may_only_read(name: str) -> None:
    """The profile that the user names is read-only."""
    profiles = ET.parse(DEPLOYED_USERS[0]).getroot()
    assert profiles.findtext(f"profiles/{_user(name).findtext('profile')}/readonly") == "1"


def test_a_worker_may_create_the_tables_that_migrations_create() -> None:
    """On a server, each table engine needs a grant of its own."""
    engines = set(re.findall(r"ENGINE = (\w+)", "".join(sql for _, _, sql in migrations())))
    assert {f"GRANT TABLE ENGINE ON {engine}" for engine in engines} <= set(_grants("tenantwatch"))


# A tenant's people.


def test_a_viewer_s_file_holds_no_password(tmp_path: Path) -> None:
    """It is printed once; ClickHouse, which runs as another user, can read the file with its hash."""
    done = make_viewer("tenant-a", tmp_path)
    assert done.returncode == 0
    password = done.stdout.strip()
    assert re.fullmatch(r"[0-9a-f]{48}", password)
    file = tmp_path / "viewer_tenant-a.xml"
    assert os.listdir(tmp_path) == [file.name]
    assert file.stat().st_mode & 0o777 == 0o644
    assert password not in file.read_text()
    hashed = ET.parse(file).getroot().findtext("users/viewer_tenant-a/password_sha256_hex")
    assert hashed == hashlib.sha256(password.encode()).hexdigest()


def test_a_viewer_that_exists_is_kept(tmp_path: Path) -> None:
    """Its people have the password; the error says how to make a new one."""
    assert make_viewer("tenant-a", tmp_path).returncode == 0
    before = (tmp_path / "viewer_tenant-a.xml").read_text()
    again = make_viewer("tenant-a", tmp_path)
    assert (again.returncode, again.stdout) == (1, "")
    assert "exists and is kept" in again.stderr
    assert (tmp_path / "viewer_tenant-a.xml").read_text() == before


@pytest.mark.parametrize(
    "tenant_id",
    ["", " ", "a b", "a/b", "../a", "a'b", 'a"b', "a<b", "a&b", "ä", "a\nb", "a\n", "$(id)", "*", "a" * 65],
)
def test_a_viewer_of_an_odd_tenant_is_refused(tmp_path: Path, tenant_id: str) -> None:
    """What is no tenant id by the contract becomes neither a file nor a line of one."""
    done = make_viewer(tenant_id, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is no tenant id" in done.stderr
    assert os.listdir(tmp_path) == []


@given(st.lists(st.text("aA.-_2E5F", min_size=1, max_size=8), min_size=2, max_size=2, unique=True))
@examples(3, thorough=25)
def test_two_tenants_have_two_viewers(tenant_ids: list[str]) -> None:
    """Names without a dot, which ClickHouse takes for a path, and as different as the tenants are."""
    with TemporaryDirectory() as folder:
        for tenant_id in tenant_ids:
            assert make_viewer(tenant_id, Path(folder)).returncode == 0
        names = [file.stem for file in Path(folder).iterdir()]
    assert len(names) == 2
    assert not any("." in name for name in names)


def test_git_leaves_viewers_alone() -> None:
    """They are of one installation."""
    ignored = ["git", "check-ignore", "deploy/clickhouse/users.d/viewer_tenant-a.xml"]
    assert subprocess.run(ignored, cwd=ROOT, capture_output=True, check=False).returncode == 0


def test_compose_mounts_a_viewer_as_the_readme_says(env_file: Path, tmp_path: Path) -> None:
    """The lines for docker-compose.override.yml are valid, and add to the files that are mounted already."""
    [lines] = re.findall(r"```yaml\n(.*?)```", (ROOT / "deploy/README.md").read_text(), re.DOTALL)
    override = tmp_path / "docker-compose.override.yml"
    override.write_text(lines)
    done = _compose(tmp_path, "--file", override, "--env-file", env_file, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    mounts = json.loads(done.stdout)["services"]["clickhouse"]["volumes"]
    targets = [mount["target"] for mount in mounts if "users.d" in mount["target"]]
    assert len(targets) == len(DEPLOYED_USERS) + 1
    assert "/etc/clickhouse-server/users.d/viewer_tenant-a.xml" in targets


# The image.


def test_the_image_holds_what_the_package_holds() -> None:
    """Each package of the wheel passes .dockerignore, and so do its metadata and the pinned requirements."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = set(pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    needed = packages | {"pyproject.toml", pyproject["project"]["readme"], "requirements/runtime.txt"}
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in lines if line.startswith("!")} == needed


def test_the_image_is_built_from_pinned_requirements() -> None:
    """What is installed is what was hashed; the package itself brings nothing along."""
    assert "COPY requirements/runtime.txt " in DOCKERFILE
    installs = re.findall(r"pip install (.*)", DOCKERFILE)
    assert len(installs) == 2
    assert installs[0].startswith("--require-hashes -r ")
    assert installs[1].startswith("--no-deps --no-build-isolation ")
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = (ROOT / "requirements/runtime.txt").read_text()
    assert all(f"{backend} " in pinned for backend in pyproject["build-system"]["requires"])


def test_the_image_runs_as_nobody_special() -> None:
    """After the installation the user is not root, and the data folder is that user's."""
    user = re.findall(r"^USER (\w+)", DOCKERFILE, re.MULTILINE)
    assert user == ["tenantwatch"]
    assert DOCKERFILE.index("USER tenantwatch") < DOCKERFILE.index("ENTRYPOINT")
    assert "--create-home --home-dir /var/lib/tenantwatch tenantwatch" in DOCKERFILE


class _Health(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(type(self).status if self.path == "/healthz" else 404)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def health_port() -> Iterator[int]:
    server = HTTPServer(("127.0.0.1", 0), _Health)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_follows_healthz(
    health_port: int, monkeypatch: pytest.MonkeyPatch, status: int, healthy: bool
) -> None:
    """The command in the image succeeds on 200 and fails on anything else."""
    monkeypatch.setattr(_Health, "status", status)
    found = re.search(r"HEALTHCHECK .*?CMD (\[.*?\])\n", DOCKERFILE, re.DOTALL)
    assert found
    command = [Path(sysconfig.get_path("scripts")) / "python", *json.loads(found[1])[1:]]
    environment = {"TENANTWATCH_HTTP_PORT": str(health_port)}
    assert (subprocess.run(command, env=environment, capture_output=True).returncode == 0) is healthy
