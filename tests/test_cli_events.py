"""`validate` and `backtest`: files in, data on standard output, the rest on standard error."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import CommandLine, settings_env
from schema_examples import event
from typer.testing import CliRunner, Result

from tenantwatch.cli import app

START = datetime(2026, 1, 31, 9, tzinfo=UTC)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(path: Path, *events: Any) -> Path:
    path.write_text("".join(json.dumps(e) + "\n" for e in events))
    return path


def failures(count: int, **fields: Any) -> list[dict[str, Any]]:
    """Failed logins of many users at one address, a second apart."""
    return [
        event(
            event_id=f"e-{i}",
            time=(START + timedelta(seconds=i)).isoformat(),
            user_id=f"user-{i}@example.com",
            source_ip="192.0.2.7",
            outcome="failure",
            reason="bad_password",
            **fields,
        )
        for i in range(count)
    ]


def test_validate_accepts_good_events(tmp_path: Path) -> None:
    """Good events exit 0, with the summary on standard error and nothing on standard output."""
    result = invoke("validate", write(tmp_path / "events.ndjson", event(), event("access")))
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "2 lines, 2 good events (1 auth, 1 access), 0 errors, 0 warnings" in result.stderr


def test_validate_names_file_line_and_field(tmp_path: Path) -> None:
    """An error is a line that begins as compilers' do, and the exit code is 1."""
    file = write(tmp_path / "events.ndjson", event(), event(time="yesterday"))
    result = invoke("validate", file)
    assert result.exit_code == 1
    assert result.stdout.startswith(f"{file}:2: error: invalid_event: time: ")


def test_validate_only_warns_of_unknown_fields(tmp_path: Path) -> None:
    """A misspelt field is a warning with the nearest one, and no failure."""
    result = invoke("validate", write(tmp_path / "events.ndjson", event(source_op="192.0.2.7")))
    assert result.exit_code == 0
    assert "did you mean `source_ip`?" in result.stdout


def test_validate_as_json_is_one_document(tmp_path: Path) -> None:
    """`--json` has the summary and every problem."""
    result = invoke("validate", write(tmp_path / "events.ndjson", event(outcome="maybe")), "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (found["lines"], found["errors"], found["events"]["auth"]) == (1, 1, 0)
    assert [(p["line"], p["severity"], p["reason"]) for p in found["problems"]] == [
        (1, "error", "invalid_event")
    ]


def test_validate_reads_gzip(tmp_path: Path) -> None:
    """A compressed file is known by its first bytes, not by its name."""
    file = tmp_path / "events"
    file.write_bytes(gzip.compress(json.dumps(event()).encode()))
    result = invoke("validate", file)
    assert (result.exit_code, "1 good events" in result.stderr) == (0, True)


def test_a_cut_gzip_file_is_named(tmp_path: Path) -> None:
    """Half a download is an error, not half the events."""
    file = tmp_path / "events.gz"
    file.write_bytes(gzip.compress(json.dumps(event()).encode())[:-9])
    result = invoke("validate", file)
    assert result.exit_code == 1
    assert "is not a whole gzip file" in result.stderr


@pytest.mark.parametrize(("name", "message"), [("absent", "there is no file"), (".", "is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, message: str) -> None:
    """What cannot be opened is one line and exit code 1."""
    result = invoke("validate", tmp_path / name)
    assert result.exit_code == 1
    assert message in result.stderr


def test_hostile_events_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """Escape sequences in an event are printed as text."""
    result = invoke("validate", write(tmp_path / "events.ndjson", event(**{"\x1b[2Jfield": 1})))
    assert "\x1b" not in result.output
    assert "field: unknown field" in result.stdout


def test_backtest_prints_each_alert_once_with_event_time(tmp_path: Path) -> None:
    """`--json` is one line for each alert, its last revision, whose `detected_at` is event time."""
    result = invoke("backtest", write(tmp_path / "events.ndjson", *failures(40)), "--json")
    assert result.exit_code == 0
    alerts = [json.loads(line) for line in result.stdout.splitlines()]
    assert alerts
    assert len({alert["alert_id"] for alert in alerts}) == len(alerts)
    assert all(alert["detected_at"].startswith("2026-01-31T09:00:") for alert in alerts)
    assert "40 events (40 auth), 0 rejected" in result.stderr


def test_backtest_as_a_table_is_for_people(tmp_path: Path) -> None:
    """Without `--json` an alert is a row with its summary."""
    result = invoke("backtest", write(tmp_path / "events.ndjson", *failures(40)))
    assert result.exit_code == 0
    assert "failed logins from 192.0.2.7" in result.stdout


def test_backtest_names_rejected_lines(tmp_path: Path) -> None:
    """Bad lines are told on standard error and do not stop the others."""
    result = invoke("backtest", write(tmp_path / "events.ndjson", event(), event(time="never")), "--json")
    assert result.exit_code == 0
    assert "rejected: line 2: invalid_event: time: " in result.stderr


def test_backtest_goes_by_the_tenants_settings(tmp_path: Path) -> None:
    """`--tenants FILE` overrides detectors' parameters."""
    file = write(tmp_path / "events.ndjson", *failures(40))
    off = dict.fromkeys(
        (
            "burst_failures",
            "minute_failures",
            "hour_failures",
            "strict_failures",
            "new_users",
            "network_users",
        ),
        0,
    )
    tenant = {
        "tenant_id": "tenant-a",
        "organization_id": "o",
        "name": "A",
        "detectors": {"failed_login": off},
    }
    result = invoke("backtest", file, "--json", "--tenants", write(tmp_path / "tenants.json", tenant))
    assert (result.exit_code, result.stdout) == (0, "")


def test_backtest_reads_standard_input_without_a_worker(tmp_path: Path) -> None:
    """`-` works through a real pipe, on a machine where nothing runs."""
    lines = "".join(json.dumps(e) + "\n" for e in failures(40))
    done = CommandLine(settings_env(tmp_path / "nothing")).run("backtest", "-", "--json", stdin=lines)
    assert done.returncode == 0
    assert json.loads(done.stdout.splitlines()[0])["tenant_id"] == "tenant-a"
    assert not (tmp_path / "nothing").exists()
