"""`backtest`: over files and over the store, with settings that do not hold yet."""

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from store.database import Database

Invoke = Callable[..., Result]
START = datetime(2026, 1, 5, 9, tzinfo=UTC)
# A limit of 20 denied accesses holds by default.
DENIED = 15


def denials(
    tenant_id: str = "tenant-a", start: datetime = START, count: int = DENIED
) -> list[dict[str, Any]]:
    """Return denied accesses of one user, a second apart."""
    return [
        {
            "kind": "access",
            "event_id": f"{start:%d%H}-{i}",
            "tenant_id": tenant_id,
            "time": (start + timedelta(seconds=i)).isoformat(),
            "service": "jobs",
            "action": "read",
            "outcome": "failure",
            "user_id": "ana",
        }
        for i in range(count)
    ]


def logins(tries: list[tuple[str, int]], tenant_id: str = "tenant-a") -> list[dict[str, Any]]:
    """Return a user's attempts from one address, given the outcome of each, and seconds."""
    return [
        {
            "kind": "auth",
            "event_id": f"{tenant_id}-{i}",
            "tenant_id": tenant_id,
            "time": (START + timedelta(seconds=at_s)).isoformat(),
            "service": "login",
            "action": "login",
            "outcome": outcome,
            "user_id": "ana",
            "source_ip": "192.0.2.7",
        }
        for i, (outcome, at_s) in enumerate(tries)
    ]


def lines(events: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with 15 denied accesses."""
    path = tmp_path / "events.ndjson.gz"
    path.write_bytes(gzip.compress(lines(denials())))
    return path


@pytest.fixture
def stored(database: Database) -> Iterator[str]:
    """A tenant with the same in the store, and as many a week later."""
    tenant_id = "backtest-a"
    found = denials(tenant_id) + denials(tenant_id, START + timedelta(days=7))
    database.insert_rows(
        "events",
        [
            {
                **event,
                "time": datetime.fromisoformat(event["time"]),
                "ingest_time": datetime.fromisoformat(event["time"]),
                "kafka_offset": i,
            }
            for i, event in enumerate(found)
        ],
    )
    body = {"tenant_id": tenant_id, "organization_id": "org-a", "name": "A"}
    database.insert_rows(
        "tenants", [{"tenant_id": tenant_id, "version": 1, "body": json.dumps(body), "applied_at": START}]
    )
    yield tenant_id
    for table in ("events", "tenants"):
        database.command(f"DELETE FROM {table} WHERE tenant_id = 'backtest-a'")


def test_a_value_can_be_tried(invoke: Invoke, file: Path) -> None:
    """What `--set` says holds for every tenant of the file."""
    assert invoke("backtest", file, "--json").stdout == ""
    tried = invoke("backtest", file, "--set", "access_anomaly.denied=10", "--json")
    assert [json.loads(line)["classification"] for line in tried.stdout.splitlines()] == ["denied_burst"]


@pytest.mark.parametrize(
    ("setting", "answer"),
    [
        ("access_anomaly.deniet=3", "did you mean `denied`?"),
        ("access_anomali.denied=3", "did you mean `access_anomaly`?"),
        ("access_anomaly.denied=many", "found 'many'; fix: send a whole number"),
        ("access_anomaly.denied=-1", "out of range; fix: send 0 to"),
        ("access_anomaly.denied", "write detector.parameter=value"),
        ("denied=3", "write detector.parameter"),
    ],
)
def test_a_value_that_cannot_be_is_misuse(invoke: Invoke, file: Path, setting: str, answer: str) -> None:
    """The faults are those of a tenant's overrides, with the nearest name; exit code 2."""
    done = invoke("backtest", file, "--set", setting, env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert answer in done.stderr


def test_settings_are_compared_in_one_pass(invoke: Invoke, file: Path) -> None:
    """What the changed ones gain and lose, as one document and as a table."""
    command = ("backtest", file, "--set", "access_anomaly.denied=10", "--compare")
    found = json.loads(invoke(*command, "--json").stdout)
    [gained] = found.pop("gained")
    assert gained["classification"] == "denied_burst"
    tenant_weeks = found.pop("tenant_weeks")
    assert tenant_weeks == pytest.approx((DENIED - 1) / 604_800)
    assert found == {
        "settings": {"access_anomaly": {"denied": 10}}, "current": 0, "changed": 1, "kept": 0, "lost": [],
        "not_evaluated": {},
    }  # fmt: skip
    shown = invoke(*command).stdout
    assert "gained" in shown
    assert "0 alerts now, 1 with access_anomaly.denied=10" in shown


def test_comparing_needs_something_to_compare(invoke: Invoke, file: Path) -> None:
    """`--compare` alone is misuse."""
    assert invoke("backtest", file, "--compare").exit_code == 2


def test_files_are_read_in_order_as_one(invoke: Invoke, tmp_path: Path) -> None:
    """What the first taught holds in the second; a rejected line is told with its file."""
    halves = [tmp_path / "first", tmp_path / "second"]
    events = denials(count=30)
    halves[0].write_bytes(lines(events[:15]) + b"no event\n")
    halves[1].write_bytes(lines(events[15:]))
    done = invoke("backtest", *halves, "--json")
    assert [json.loads(line)["detector"] for line in done.stdout.splitlines()] == ["access_anomaly"]
    assert "first, line 16: invalid_event" in done.stderr
    assert "30 events (30 access), 1 rejected, 1 alerts" in done.stderr


def test_a_mark_of_order_costs_no_event(invoke: Invoke, tmp_path: Path) -> None:
    """Editors put it before the first line."""
    marked = tmp_path / "marked"
    marked.write_bytes(b"\xef\xbb\xbf" + lines(denials(count=2)))
    assert "2 events (2 access), 0 rejected" in invoke("backtest", marked).stderr


def test_files_may_come_the_newest_first(invoke: Invoke, tmp_path: Path) -> None:
    """Each of them, and the events in each, as exports of many sources do."""
    files = [tmp_path / "newer", tmp_path / "older"]
    for file, hour in zip(files, (20, 0), strict=True):
        file.write_bytes(lines(denials(start=START + timedelta(hours=hour), count=30)[::-1]))
    done = invoke("backtest", *files, "--json")
    assert [json.loads(line)["classification"] for line in done.stdout.splitlines()] == ["denied_burst"] * 2
    assert "warning" not in done.stderr


def test_logins_that_begin_with_the_newest_are_judged_as_if_they_did_not(
    invoke: Invoke, tmp_path: Path
) -> None:
    """However short the time: a login after guesses is told of, and typos minutes apart are no burst."""
    guesses = logins([("failure", 5 * i) for i in range(12)] + [("success", 61)])
    found = []
    for events in (guesses, guesses[::-1]):
        (file := tmp_path / "events").write_bytes(lines(events))
        found.append(invoke("backtest", file, "--json").stdout)
    assert "success_after_failures" in found[0]
    assert found[0] == found[1]
    file.write_bytes(lines(logins([("success", 0)] + [("failure", 60 + 120 * i) for i in range(6)])[::-1]))
    assert invoke("backtest", file, "--json").stdout == ""


def test_what_an_address_does_to_tenants_is_told_with_a_file_for_each(invoke: Invoke, tmp_path: Path) -> None:
    """Hours of one tenant stand before the same hours of the next."""
    files = [tmp_path / tenant_id for tenant_id in ("tenant-a", "tenant-b", "tenant-c")]
    for i, file in enumerate(files):
        # Far from each other's.
        later = [("failure", 5_000 * (3 * day + i)) for day in range(1, 9)]
        file.write_bytes(lines(logins([("failure", 0), *later], file.name)))
    done = invoke("backtest", *files, "--json")
    alerts = [json.loads(line) for line in done.stdout.splitlines()]
    told = [alert["tenant_id"] for alert in alerts if alert["classification"] == "cross_tenant_spray"]
    assert sorted(set(told)) == ["tenant-a", "tenant-b", "tenant-c"]


def test_events_that_no_detector_sees_are_warned_of(invoke: Invoke, tmp_path: Path) -> None:
    """Older ones than the state has seen cannot be sorted in any more: silence would look like peace."""
    newer, older, state = tmp_path / "newer", tmp_path / "older", tmp_path / "state"
    newer.write_bytes(lines(denials(start=START + timedelta(hours=20))))
    older.write_bytes(lines(denials(count=30)))
    assert "warning" not in invoke("backtest", newer, "--state", state).stderr
    done = invoke("backtest", older, "--state", state)
    assert "warning: 30 events were not judged" in done.stderr
    assert "fix: sort by time, oldest first" in done.stderr


def test_what_detectors_remember_is_kept_for_the_next_run(invoke: Invoke, tmp_path: Path) -> None:
    """Two runs with a state between them find what one run over both files finds."""
    file, state = tmp_path / "events", tmp_path / "state"
    events = denials(count=30)
    found = []
    for half in (events[:15], events[15:]):
        file.write_bytes(lines(half))
        found.append(invoke("backtest", file, "--state", state, "--json").stdout)
    assert found[0] == ""
    file.write_bytes(lines(events))
    assert found[1] == invoke("backtest", file, "--json").stdout != ""


def test_comparing_leaves_the_state_as_it_is(invoke: Invoke, file: Path, tmp_path: Path) -> None:
    """There is one of what holds and one of what is tried."""
    state = tmp_path / "state"
    invoke("backtest", file, "--state", state)
    before = state.read_bytes()
    compared = ("--compare", "--set", "access_anomaly.denied=10")
    assert invoke("backtest", file, "--state", state, *compared).exit_code == 0
    assert state.read_bytes() == before


def test_a_file_that_is_no_state_is_told(invoke: Invoke, file: Path) -> None:
    """It is not overwritten: somebody may have mixed up two files."""
    content = file.read_bytes()
    done = invoke("backtest", file, "--state", file)
    assert done.exit_code == 1
    assert "no state of detectors" in done.stderr
    assert file.read_bytes() == content


def test_a_state_that_is_a_directory_is_told(invoke: Invoke, file: Path, tmp_path: Path) -> None:
    """In a sentence, as is one whose directory is not there to write it to."""
    done = invoke("backtest", file, "--state", tmp_path)
    assert done.exit_code == 1
    assert f"{tmp_path}: cannot be read: Is a directory" in done.stderr
    done = invoke("backtest", file, "--state", tmp_path / "none" / "state")
    assert done.exit_code == 1
    assert "cannot be written: No such file or directory" in done.stderr


def test_a_tenants_stored_events_are_tried(invoke: Invoke, stored: str) -> None:
    """Without a file the store's events are read; those before `--from` only teach."""
    command = ("backtest", "--tenant", stored, "--set", "access_anomaly.denied=10", "--json")
    both = invoke(*command, "--from", START.isoformat())
    late = invoke(*command, "--from", (START + timedelta(days=7)).isoformat())
    assert [len(done.stdout.splitlines()) for done in (both, late)] == [2, 1]
    assert "30 events (30 access), 0 rejected, 1 alerts" in late.stderr


def test_an_unknown_tenant_is_answered_with_the_nearest(invoke: Invoke, stored: str) -> None:
    """A misspelt tenant is not one without events."""
    done = invoke("backtest", "--tenant", "backtst-a")
    assert done.exit_code == 1
    assert "did you mean backtest-a?" in done.stderr


def test_one_tenant_and_a_time_can_be_picked_from_a_file(invoke: Invoke, tmp_path: Path) -> None:
    """`--tenant` and `--to` say which events are read, `--from` which alerts are shown."""
    path = tmp_path / "events"
    later = START + timedelta(hours=2)
    events = denials(count=30) + denials("tenant-b", count=30) + denials(start=later, count=30)
    path.write_bytes(lines(sorted(events, key=lambda event: event["time"])))
    picked = {
        (): 3,
        ("--tenant", "tenant-a"): 2,
        ("--to", later.isoformat()): 2,
        ("--from", later.isoformat()): 1,
    }
    for options, alerts in picked.items():
        assert len(invoke("backtest", path, *options, "--json").stdout.splitlines()) == alerts
    nobody = invoke("backtest", path, "--tenant", "tenant-aa", env={"COLUMNS": "200"})
    assert (nobody.exit_code, "no event of tenant tenant-aa" in nobody.stderr) == (1, True)


@pytest.mark.parametrize("options", [(), ("--tenant", "tenant-a", "--state", "state")])
def test_it_must_be_said_which_events(invoke: Invoke, options: tuple[str, ...]) -> None:
    """Neither a file nor a tenant, or a file's option without one, is misuse."""
    assert invoke("backtest", *options).exit_code == 2


def test_rules_of_ones_own_are_tried(invoke: Invoke, file: Path, tmp_path: Path) -> None:
    """What a folder of rules would gain, before any tenant has them."""
    rule = tmp_path / "denied.yml"
    rule.write_text(
        "title: Denied\nlogsource: {product: tenantwatch, category: access}\n"
        "detection: {selection: {outcome: failure, user_id: ana}, condition: selection}\nlevel: low\n"
    )
    command = ("backtest", file, "--rules", rule, "--compare")
    [gained] = json.loads(invoke(*command, "--json").stdout)["gained"]
    assert (gained["detector"], gained["event_count"]) == ("custom_rule", 8)
    assert "0 alerts now, 1 with the rules" in invoke(*command).stdout
    rule.write_text("title: Denied\n")
    assert invoke(*command).exit_code == 1
