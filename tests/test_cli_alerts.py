"""`alerts`: what the pipeline found, listed, shown and followed beside the running worker."""

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Up, eventually
from schema_examples import encode, event

from tenantwatch.commands.when import parse_when

START = datetime(2026, 1, 31, 9, tzinfo=UTC)


def attack(tenant_id: str, at: datetime = START) -> bytes:
    """A burst of failed logins of many users at one address."""
    return b"".join(
        encode(
            event(
                event_id=f"{at:%d}-{i}",
                tenant_id=tenant_id,
                time=(at + timedelta(seconds=i)).isoformat(),
                user_id=f"user-{i}@example.com",
                source_ip="192.0.2.7",
                outcome="failure",
                reason="bad_password",
            )
        )
        + b"\n"
        for i in range(40)
    )


def raised(up: Up, tenant_id: str) -> list[dict[str, Any]]:
    """Send an attack and return its alerts, once no more come."""
    assert up.run("replay", "-", stdin=attack(tenant_id)).returncode == 0
    eventually(lambda: sum(row["events"] for row in up.control("/counts", tenant_id=tenant_id)) == 40)
    eventually(lambda: bool(up.control("/alerts", tenant_id=tenant_id)))
    alerts: list[dict[str, Any]] = up.control("/alerts", tenant_id=tenant_id)
    return alerts


@pytest.fixture(scope="module")
def alert(up: Up) -> dict[str, Any]:
    """An alert of the tenant alerts-a."""
    return raised(up, "alerts-a")[0]


def test_open_alerts_are_listed_as_contract_objects(up: Up, alert: dict[str, Any]) -> None:
    """`list --json` is an array of alerts as they are in audit.alerts."""
    listed = up.json("alerts", "list", "--tenant", "alerts-a")
    assert alert["alert_id"] in [entry["alert_id"] for entry in listed]
    assert listed[0]["entity"].keys() == {"type", "value"}


def test_alerts_are_listed_as_a_table(up: Up, alert: dict[str, Any]) -> None:
    """Without `--json` each is one row, whatever the width of the terminal that is not there."""
    done = up.run("alerts", "list", "--tenant", "alerts-a")
    rows = [row for row in done.stdout.splitlines() if row.startswith(alert["alert_id"][:8])]
    assert len(rows) == 1
    assert alert["summary"] in rows[0]


def test_no_tenant_sees_anothers_alerts(up: Up, alert: dict[str, Any]) -> None:
    """`--tenant` is a wall, and an empty list says so on standard error only."""
    done = up.run("alerts", "list", "--tenant", "alerts-nobody")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no open alerts" in done.stderr


def test_alerts_are_listed_by_severity_and_time(up: Up, alert: dict[str, Any]) -> None:
    """`--severity` means this and above, `--since` when it was published."""
    command = ("alerts", "list", "--tenant", "alerts-a", "--all")
    assert up.json(*command, "--severity", "low", "--since", "1h")
    assert up.json(*command, "--since", (datetime.now(UTC) + timedelta(hours=1)).isoformat()) == []


def test_a_beginning_of_the_id_shows_an_alert(up: Up, alert: dict[str, Any]) -> None:
    """`show` has evidence, ATT&CK techniques, the runbook and each revision."""
    done = up.run("alerts", "show", alert["alert_id"][:8])
    assert done.returncode == 0
    for expected in (alert["alert_id"], alert["summary"], alert["runbook"], *alert["attack"]):
        assert expected in done.stdout


def test_showing_as_json_has_every_revision(up: Up, alert: dict[str, Any]) -> None:
    """The newest revision, and all of them under `revisions`."""
    shown = up.json("alerts", "show", alert["alert_id"])
    assert [revision["revision"] for revision in shown["revisions"]] == list(range(1, shown["revision"] + 1))


def test_an_alert_that_does_not_exist_is_an_error(up: Up) -> None:
    """An id that no alert has exits 1, what can be no id exits 2."""
    unknown, impossible = up.run("alerts", "show", "ffffffffffff"), up.run("alerts", "show", "../tenants")
    assert (unknown.returncode, impossible.returncode) == (1, 2)
    assert "no alert" in unknown.stderr


def test_tail_prints_each_revision_once(up: Up) -> None:
    """`tail --json` prints what is published from now on, one revision a line; Ctrl-C ends it with 0."""
    command = ("alerts", "tail", "--tenant", "alerts-tail", "--json")
    with up.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert b"following" in process.stderr.readline()
        printed: list[dict[str, Any]] = []
        for day in (START, START + timedelta(days=1)):
            assert up.run("replay", "-", stdin=attack("alerts-tail", day)).returncode == 0
            while not printed or printed[-1]["first_time"] < f"{day:%Y-%m-%d}":
                printed.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
    assert process.returncode == 0
    keys = [(revision["alert_id"], revision["revision"]) for revision in printed]
    assert len(set(keys)) == len(keys)
    assert (printed[0]["alert_id"], 1) in keys


def test_a_time_is_so_long_ago_or_a_date() -> None:
    """`--since` takes what a person types."""
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert parse_when("2w", now) == datetime(2026, 1, 17, 12, tzinfo=UTC)
    assert parse_when("2026-01-31t09:30:00+01:00", now) == datetime(2026, 1, 31, 8, 30, tzinfo=UTC)


def test_what_is_no_time_is_misuse(up: Up) -> None:
    """A date that cannot be is exit code 2, with examples."""
    done = up.run("alerts", "list", "--since", "yesterday")
    assert done.returncode == 2
    assert "24h" in done.stderr
