"""`import …`: a log in, events on standard output, the rest on standard error."""

import gzip
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CommandLine, settings_env
from typer.testing import CliRunner, Result

from tenantwatch.cli import app

DOCS = Path(__file__).resolve().parent.parent / "docs" / "importing.md"
LOG = """\
Jan  5 06:55:46 web-1 sshd[7]: Failed password for root from 192.0.2.1 port 4242 ssh2
Jan  5 06:55:48 web-1 cron[8]: nothing to see
this is no syslog line
"""
TIME = "2026-01-05T08:00:00Z"
# A log of each format with one event, and the options that it needs.
FORMATS: dict[str, tuple[str, list[str]]] = {
    "sshd": (LOG, ["--year", "2026"]),
    "combined": ('192.0.2.1 - - [05/Jan/2026:08:00:00 +0000] "GET / HTTP/1.1" 200 1 "-" "-"\n', []),
    "cloudtrail": (json.dumps({"Records": [{"eventName": "GetObject", "eventTime": TIME}]}), []),
    "okta": (json.dumps([{"eventType": "user.session.start", "published": TIME}], indent=2), []),
    "auth0": (json.dumps({"log_id": "1", "data": {"type": "s", "date": TIME}}), []),
    "entra": (json.dumps({"createdDateTime": TIME, "status": {"errorCode": 0}}), []),
    "keycloak": (
        "2026-01-05 08:00:00,123 INFO  [org.keycloak.events] (main) type=LOGIN, realmId=r, userId=u",
        [],
    ),
    "windows-json": (json.dumps({"EventID": 4624, "@timestamp": TIME, "TargetUserName": "ana"}), []),
    "csv": (
        "When,Who\n2026-01-05 08:00,ana\n",
        ["--map", "time=When", "--map", "user_id=Who", "--map", "outcome=:success", "--map", "action=:login"],
    ),
}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def made(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_writes_events_to_standard_output(tmp_path: Path, name: str) -> None:
    """One JSON object a line, of the given tenant, reported by the format's service or another."""
    log, options = FORMATS[name]
    result = invoke(
        name, write(tmp_path / "log", log), "--tenant", "tenant-a", "--service", "login", *options
    )
    assert result.exit_code == 0, result.stderr
    [event] = made(result)
    assert (event["tenant_id"], event["service"]) == ("tenant-a", "login")
    assert "1 event made" in result.stderr


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_read_compressed(tmp_path: Path, name: str) -> None:
    """With the same ids, so that importing the log again adds nothing."""
    log, options = FORMATS[name]
    plain = invoke(name, write(tmp_path / "log", log), "--tenant", "tenant-a", *options)
    compressed = tmp_path / "log.gz"
    compressed.write_bytes(gzip.compress(log.encode()))
    assert invoke(name, compressed, "--tenant", "tenant-a", *options).stdout == plain.stdout


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "compressed"])
def test_a_mark_of_order_costs_nothing(tmp_path: Path, name: str, pack: Callable[[bytes], bytes]) -> None:
    """Editors put it before the first line; the events and their ids are the same."""
    log, options = FORMATS[name]
    plain = invoke(name, write(tmp_path / "log", log), "--tenant", "tenant-a", *options)
    marked = tmp_path / "marked"
    marked.write_bytes(pack(b"\xef\xbb\xbf" + log.encode()))
    result = invoke(name, marked, "--tenant", "tenant-a", *options)
    assert (result.stdout, result.stderr) == (plain.stdout, plain.stderr)


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_needs_a_tenant(tmp_path: Path, name: str) -> None:
    """Misuse, told before anything is read."""
    log, options = FORMATS[name]
    result = invoke(name, write(tmp_path / "log", log), *options)
    assert result.exit_code == 2
    assert "--tenant-from" in result.stderr


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_understood_is_an_error(tmp_path: Path, name: str) -> None:
    """So that a wrong format does not look like a quiet day."""
    _, options = FORMATS[name]
    text = "When,Who\nyesterday,ana\n" if name == "csv" else "a line of something else\n"
    result = invoke(name, write(tmp_path / "log", text), "--tenant", "tenant-a", *options)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "nothing in" in result.stderr


@pytest.mark.parametrize(
    ("name", "log", "field"),
    [
        ("sshd", LOG, "host"),
        ("combined", "web-1:443 " + FORMATS["combined"][0], "host"),
        ("auth0", json.dumps({"type": "s", "date": TIME, "tenant_name": "web-1"}), "tenant_name"),
        (
            "entra",
            json.dumps({"createdDateTime": TIME, "status": {"errorCode": 0}, "a": {"b": "web-1"}}),
            "a.b",
        ),
    ],
)
def test_the_tenant_may_be_a_field(tmp_path: Path, name: str, log: str, field: str) -> None:
    """Dotted where it is nested; of logs of lines, the host."""
    result = invoke(name, write(tmp_path / "log", log), "--tenant-from", field)
    assert [event["tenant_id"] for event in made(result)] == ["web-1"]


def test_what_was_not_understood_is_counted_and_shown(tmp_path: Path) -> None:
    """Apart from what is understood and carries no event."""
    log = write(tmp_path / "auth.log", LOG)
    result = invoke("sshd", log, "--tenant", "tenant-a", "--year", 2026, "--zone", "Europe/Berlin")
    assert [event["time"] for event in made(result)] == ["2026-01-05T05:55:46.000Z"]
    assert "3 lines read, 1 event made" in result.stderr
    assert "1 line without event: other_program 1" in result.stderr
    assert "line 3: no syslog line: 'this is no syslog line'" in result.stderr


@pytest.mark.parametrize(
    ("log", "warned"),
    [
        (LOG, False),
        ("Jan  5 06:55:48 web-1 cron[8]: nothing to see\n\n", True),
        ("Jan  5 06:55:48 web-1 sshd[8]: Server listening on 0.0.0.0 port 22.\n", False),
        ("", False),
    ],
)
def test_a_log_in_which_nothing_is_of_sshd_is_warned_of(tmp_path: Path, log: str, warned: bool) -> None:
    """All its lines are understood, so that nothing else would tell."""
    result = invoke("sshd", write(tmp_path / "log", log), "--tenant", "tenant-a", "--year", "2026")
    assert result.exit_code == 0
    assert ("is sshd's: is it the right log" in result.stderr) == warned


@pytest.mark.parametrize(
    "options", [["--tenant", "tenant a"], ["--tenant", "tenant-a", "--zone", "Mars/Base"]]
)
def test_a_tenant_or_zone_that_cannot_be_is_refused(tmp_path: Path, options: list[str]) -> None:
    """Misuse: exit code 2."""
    assert invoke("sshd", write(tmp_path / "log", LOG), *options).exit_code == 2


def test_a_wrong_map_is_refused_with_the_nearest_field(tmp_path: Path) -> None:
    """Misuse: exit code 2."""
    log, options = FORMATS["csv"]
    table = write(tmp_path / "t.csv", log)
    result = invoke("csv", table, "--tenant", "tenant-a", "--map", "usr_id=Who", *options)
    assert result.exit_code == 2
    assert "did you mean user_id?" in " ".join(result.stderr.replace("│", " ").split())


def test_events_flow_through_pipes(tmp_path: Path) -> None:
    """`import … - | validate -` finds nothing, through real pipes."""
    line = CommandLine(settings_env(tmp_path))
    made = line.run("import", "sshd", "-", "--tenant", "tenant-a", "--year", "2026", stdin=LOG)
    checked = line.run("validate", "-", stdin=made.stdout)
    assert (made.returncode, checked.returncode) == (0, 0)
    assert "1 good events (1 auth), 0 errors, 0 warnings" in checked.stderr


def test_a_mark_of_order_may_come_in_pieces() -> None:
    """A pipe cuts anywhere."""
    command = [sys.executable, "-m", "tenantwatch.cli", "import", "sshd", "-", "--tenant", "tenant-a"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ
    ) as process:
        assert process.stdin is not None
        for piece in (b"\xef", b"\xbb", b"\xbf", LOG.encode()):
            process.stdin.write(piece)
            process.stdin.flush()
            time.sleep(0.02)
        made, _ = process.communicate()
    assert json.loads(made)["user_id"] == "root"


def test_an_event_of_a_live_log_is_not_held_back() -> None:
    """It is out before the next line is in."""
    command = [sys.executable, "-m", "tenantwatch.cli", "import", "okta", "-", "--tenant", "tenant-a"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"eventType": "user.session.start", "published": "2026-01-05T08:00:00Z"}\n')
        process.stdin.flush()
        first = json.loads(process.stdout.readline())
        process.stdin.close()
    assert first["action"] == "login"


def test_every_format_is_documented() -> None:
    """And the documentation names no command that is not there."""
    documented = set(re.findall(r"tenantwatch import ([a-z0-9-]+)", DOCS.read_text(encoding="utf-8")))
    assert documented == set(FORMATS)


def test_the_documented_table_is_imported_by_the_documented_command(tmp_path: Path) -> None:
    """Readers copy it."""
    text = DOCS.read_text(encoding="utf-8")
    table = re.search(r"this table, `logins.csv`:\n\n((?:    .*\n)+)", text)
    command = re.search(r"    tenantwatch import (csv logins.csv (?:.*\\\n)+.*)", text)
    assert table is not None
    assert command is not None
    file = write(tmp_path / "logins.csv", textwrap.dedent(table[1]))
    arguments = shlex.split(command[1].replace("\\\n", " "))
    result = invoke(*(str(file) if argument == "logins.csv" else argument for argument in arguments))
    assert [(event["outcome"], event.get("reason")) for event in made(result)] == [
        ("success", None),
        ("failure", "bad_password"),
    ]
    assert made(result)[0]["time"] == "2026-01-05T07:00:00.000Z"
