"""`doctor`: each thing that can be wrong is one line, with what to do about it."""

import json
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import CommandLine, Up, eventually, settings_env
from schema_examples import encode, event

from streams import jars
from streams.inspection import ClusterView
from streams.topics import CONFIGS, TOPIC_OF
from tenantwatch import checks
from tenantwatch.checks import Check

HEALTH: dict[str, Any] = {
    "now": "2026-01-31T09:30:00Z",
    "asked_at": "2026-01-31T09:30:00Z",
    "pending_migrations": [],
    "tenants": 3,
    "events": 1_000,
    "late": 0,
    "future": 0,
    "misplaced_by": [],
    "dead_letters": [],
    "webhooks": {"endpoints": 1, "pending": 0, "overdue": 0, "failed": 0, "disabled": []},
    "seals": {"seals": 7, "partitions": 2, "sealed_at": None, "unsealed": 0, "unsealed_age_s": 0.0,
              "key_ids": ["ab"], "unknown_key_ids": []},
}  # fmt: skip


def store(**found: Any) -> dict[str, Check]:
    return {check.name: check for check in checks.check_store({**HEALTH, **found}, server=False)}


def cluster(**found: Any) -> dict[str, Check]:
    sizes = {topic: int(config["max.message.bytes"]) for topic, config in CONFIGS.items()}
    well: dict[str, Any] = {
        "partitions": dict.fromkeys(CONFIGS, 12),
        "replicas": dict.fromkeys(CONFIGS, 3),
        "max_message_bytes": sizes,
        "min_in_sync": dict.fromkeys(CONFIGS, 2),
        "lag": {},
    }
    view = ClusterView(**well | found)
    return {check.name: check for check in checks.check_cluster(view)}


def test_keys_of_the_api_that_others_may_read() -> None:
    """Whoever does can sign tokens: they must be changed, not only hidden."""
    assert checks.check_api_keys("api-keys.json", 0o100600).status == "ok"
    assert checks.check_api_keys("api-keys.json", None).status == "ok"
    told = checks.check_api_keys("api-keys.json", 0o100640)
    assert told.status == "fail"
    assert "rotate-signing" in told.fix


def test_all_is_well_when_nothing_is_wrong() -> None:
    """No check warns of a healthy store and cluster, and none has a fix."""
    for check in (*store().values(), *cluster().values()):
        assert (check.status, check.fix) == ("ok", "")


@pytest.mark.parametrize(
    ("is_open", "status", "words"),
    [
        (False, "ok", "only"),
        (None, "warn", "set TENANTWATCH"),
        (True, "fail", "reader.xml"),
    ],
)
def test_a_reader_that_is_no_wall_is_told(is_open: bool | None, status: str, words: str) -> None:
    """One whose user has no row policies, and one that is not there; on a server only."""
    check = checks.check_reader(is_open)
    assert (check.status, bool(check.fix)) == (status, status != "ok")
    assert words in f"{check.found}; {check.fix}"
    assert "reader" not in store()


@pytest.mark.parametrize(
    ("version", "status"),
    [("26.3.21.9", "warn"), ("25.8.9.9", "warn"), ("26.3.25.2", "ok"), ("26.8.1.1", "ok")],
)
def test_a_server_that_shows_the_keys_of_every_tenant_is_told(version: str, status: str) -> None:
    """Older ones do by `mergeTreeIndex`, whatever the row policies; a store of our own has no users."""
    found = {**HEALTH, "reader_is_open": False, "version": version}
    told = {check.name: check for check in checks.check_store(found, server=True)}["clickhouse"]
    assert (told.status, bool(told.fix)) == (status, status != "ok")
    assert version in told.found
    assert "clickhouse" not in store()


@pytest.mark.parametrize(
    ("name", "found", "status", "words"),
    [
        ("store", {"pending_migrations": ["0002_x.sql"]}, "fail", "0002_x.sql"),
        ("tenants", {"tenants": 0}, "warn", "tenants apply"),
        (
            "partitioning",
            {"misplaced_by": [{"tenant_id": "tenant-a", "service": "billing-api", "events": 7}]},
            "fail",
            "billing-api of tenant-a (7 events)",
        ),
        (
            "dead letters",
            {"dead_letters": [{"reason": "unknown_tenant", "messages": 7, "example": "tenant_id: 'x'"}]},
            "warn",
            "7 unknown_tenant",
        ),
        ("event time", {"late": 11}, "warn", "11 came late"),
        ("event time", {"late": 10}, "ok", "10 came late"),
        ("event time", {"future": 20}, "warn", "NTP"),
        (
            "webhooks",
            {
                "webhooks": HEALTH["webhooks"]
                | {"disabled": [{"endpoint_id": "ep_1", "status_reason": "410"}]}
            },
            "warn",
            "webhooks enable ep_1",
        ),
        ("webhooks", {"webhooks": HEALTH["webhooks"] | {"overdue": 2}}, "warn", "over an hour"),
        ("webhooks", {"webhooks": HEALTH["webhooks"] | {"failed": 2}}, "warn", "redeliver"),
        (
            "seals",
            {"seals": HEALTH["seals"] | {"unsealed": 9, "unsealed_age_s": 900.0}},
            "warn",
            "sealing_postponed",
        ),
        ("seals", {"seals": HEALTH["seals"] | {"unsealed": 9, "unsealed_age_s": 30.0}}, "ok", "9 rows"),
        ("seals", {"seals": HEALTH["seals"] | {"unknown_key_ids": ["cd"]}}, "warn", "TENANTWATCH_SEAL_KEY"),
    ],
)
def test_what_the_store_tells_has_a_fix(name: str, found: dict[str, Any], status: str, words: str) -> None:
    """Each trouble of the last day is named with its numbers and its remedy."""
    check = store(**found)[name]
    assert check.status == status
    assert words in f"{check.found}; {check.fix}"
    assert bool(check.fix) == (status != "ok")


@pytest.mark.parametrize(
    ("name", "found", "status", "words"),
    [
        ("topics", {"partitions": {}}, "fail", "missing: audit.access"),
        (
            "topics",
            {"partitions": dict.fromkeys(CONFIGS, 12) | {TOPIC_OF["auth"]: 6}},
            "fail",
            "audit.auth has 6",
        ),
        ("topics", {"max_message_bytes": {TOPIC_OF["auth"]: 1_048_588}}, "warn", "max.message.bytes"),
        ("topics", {"min_in_sync": dict.fromkeys(CONFIGS, 1)}, "warn", "min.insync.replicas=2"),
        ("topics", {"max_message_bytes": {}, "min_in_sync": {}}, "warn", "could not be read: audit.access"),
        (
            "topics",  # one node has no second place, and two would stop when either is away
            {"min_in_sync": dict.fromkeys(CONFIGS, 1), "replicas": dict.fromkeys(CONFIGS, 2)},
            "ok",
            "all there",
        ),
        ("consumer lag", {"lag": {TOPIC_OF["auth"]: 20_000}}, "warn", "audit.auth 20,000"),
        ("consumer lag", {"lag": {TOPIC_OF["auth"]: 20}}, "ok", "audit.auth 20"),
    ],
)
def test_what_the_cluster_lacks_has_a_fix(name: str, found: dict[str, Any], status: str, words: str) -> None:
    """So is each trouble of the topics."""
    check = cluster(**found)[name]
    assert check.status == status
    assert words in f"{check.found}; {check.fix}"


@pytest.mark.parametrize(("off_s", "status"), [(1, "ok"), (-5, "warn"), (120, "fail")])
def test_a_clock_that_is_off_is_noticed(off_s: int, status: str) -> None:
    """Two seconds are a warning, a minute is a failure, whichever of the two is ahead."""
    here = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    assert checks.check_clock(here + timedelta(seconds=off_s), here).status == status


def test_a_misspelt_variable_is_answered_with_the_nearest() -> None:
    """A setting that does not exist would be ignored in silence otherwise."""
    check = checks.check_variables({"TENANTWATCH_KAFKA_PROT": "1", "PATH": "x"})
    assert check.status == "warn"
    assert "did you mean TENANTWATCH_KAFKA_PORT?" in check.fix


@pytest.mark.parametrize(("free_gib", "status"), [(100, "ok"), (3, "warn"), (0.5, "fail")])
def test_a_disk_that_fills_up_is_noticed(free_gib: float, status: str) -> None:
    """Before it is full."""
    assert checks.check_data_dir("/data", True, int(free_gib * 2**30)).status == status


def shown(line: CommandLine, returncode: int) -> dict[str, dict[str, str]]:
    done = line.run("doctor", "--json")
    assert done.returncode == returncode, done.stdout
    return {check["name"]: check for check in json.loads(done.stdout)}


def test_a_running_pipeline_passes(up: Up) -> None:
    """Beside a running `up` every check is made, and none fails."""
    found = shown(up, 0)
    assert {"worker", "kafka", "topics", "consumer lag", "store", "partitioning", "webhooks"} <= found.keys()
    assert found["worker"]["status"] == found["topics"]["status"] == found["store"]["status"] == "ok"


def test_a_check_is_a_line(up: Up) -> None:
    """For people: status, name, what was found and, where there is one, the fix."""
    done = up.run("doctor")
    rows = [row.split() for row in done.stdout.splitlines()]
    assert all(row[0] in ("ok", "warn", "fail") for row in rows)
    assert ["ok", "python", "3.11"] in [[*row[:2], row[2][:4]] for row in rows]


def test_dead_letters_are_told_with_their_reason(up: Up) -> None:
    """What the pipeline rejected today is on the list."""
    line = encode(event(tenant_id="doctor-a", time="never")) + b"\n"
    assert up.run("replay", "-", stdin=line).returncode == 0
    eventually(lambda: up.control("/dead-letters", tenant_id="doctor-a"))
    found = shown(up, 0)["dead letters"]
    assert found["status"] == "warn"
    assert "invalid_event" in found["found"]


def test_before_the_first_start_it_says_what_is_missing(tmp_path: Path) -> None:
    """Nothing runs and there is no data: warnings with fixes, no failure, and nothing is made."""
    found = shown(CommandLine(settings_env(tmp_path / "new")), 0)
    assert found["worker"]["fix"] == "start it: `tenantwatch up`"
    assert found["ports"]["status"] == "ok"
    assert not (tmp_path / "new").exists()


def test_jars_that_another_start_fetched_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data directory that is new takes them from Maven's cache, without the network."""
    monkeypatch.setenv("M2_REPO", str(tmp_path / "repository"))
    line = CommandLine(settings_env(tmp_path / "data"))
    assert shown(line, 0)["kafka jars"]["status"] == "warn"
    (tmp_path / "repository/org/apache/kafka/kafka_2.13" / jars.VERSION).mkdir(parents=True)
    assert shown(line, 0)["kafka jars"]["status"] == "ok"


def test_a_port_that_is_taken_is_a_failure(tmp_path: Path) -> None:
    """The setting that chooses another is named."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        found = shown(CommandLine(settings_env(tmp_path, http_port=str(port))), 1)["ports"]
    assert found["status"] == "fail"
    assert str(port) in found["found"]
    assert "TENANTWATCH_HTTP_PORT" in found["fix"]


def test_a_kafka_that_does_not_answer_is_a_failure(tmp_path: Path) -> None:
    """With the setting to correct."""
    found = shown(CommandLine(settings_env(tmp_path, kafka="127.0.0.1:1")), 1)["kafka"]
    assert found["status"] == "fail"
    assert "TENANTWATCH_KAFKA" in found["fix"]


def test_a_wrong_setting_is_a_failure_and_ends_it(tmp_path: Path) -> None:
    """The rest cannot be looked at without settings."""
    found = shown(CommandLine(settings_env(tmp_path, log_level="loud")), 1)
    assert found.keys() == {"python", "settings"}
    assert found["settings"]["found"] == "TENANTWATCH_LOG_LEVEL is 'loud'"


@pytest.mark.parametrize(
    ("found", "status", "words"),
    [
        (("keys/master.key", "", False), "ok", "keep a copy"),
        (("keys/master.key", "", True), "warn", "every worker the same TENANTWATCH_MASTER_KEY"),
        (("", "it can be read by others", False), "fail", "read by others"),
    ],
)
def test_the_master_key_is_looked_at(found: tuple[str, str, bool], status: str, words: str) -> None:
    """Where it is, whether it can be used, and what several workers need."""
    check = checks.check_master_key(*found)
    assert check.status == status
    assert words in f"{check.found} {check.fix}"
