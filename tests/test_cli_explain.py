"""`explain` and `why-not`: from the store and from a file, and the chart that one of them draws."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

import api
import detectors
from detectors.tuning import tuned
from schemas.alert import Alert
from schemas.attack import technique_name
from schemas.tenant import Tenant
from schemas.tuning import Tuning
from store.database import Database
from store.events import KafkaIds
from store.history import spans
from store.ownership import Claim
from store.queries import TenantContext
from store.writer import EventWriter
from streams.directory import Entry
from streams.tenant_rows import tenant_row, tuning_row
from tenantwatch.backtest import Backtest, Trial
from tenantwatch.commands.chart import chart
from tenantwatch.explain import Series
from tenantwatch.lines import read_lines
from tests.rule_texts import FAILURES, correlation, plain, ruled
from tests.scenarios.streams import START_MS

Invoke = Callable[..., Result]
START = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
TENANT = "explain-a"
# One rule, with a limit that is strict for the tenant's tier, as it was when the events came.
OWN = Tenant(
    tenant_id=TENANT,
    organization_id="org-a",
    name="A",
    detectors={"failed_login": {"strict_failures": 0, "new_users": 0}},
)
TUNING = Tuning(tiers={"free": {"failed_login": {"burst_failures": 3}}})


def login(event_id: str, time: datetime, **fields: Any) -> bytes:
    event = {
        "kind": "auth", "event_id": event_id, "tenant_id": TENANT, "time": time.isoformat(),
        "service": "test", "action": "login", "user_id": "ana", "source_ip": "192.0.2.7",
        "outcome": "failure", **fields,
    }  # fmt: skip
    return json.dumps(event).encode()


def trail() -> list[bytes]:
    """Two quiet weeks, then five failures of ana at one address, and one each of ben and cleo elsewhere."""
    quiet = [
        login(f"quiet-{week}-{i}", START - timedelta(weeks=week, minutes=i), outcome="success")
        for week in (2, 1)
        for i in (2, 1, 0)
    ]
    guesses = [login(f"guess-{i}", START + timedelta(seconds=i)) for i in range(5)]
    others = [
        login(f"{user}-0", START + timedelta(seconds=30), user_id=user, source_ip="192.0.2.8")
        for user in ("ben", "cleo")
    ]
    return [*quiet, *guesses, *others]


def raised() -> list[Alert]:
    """Return the revisions that the trail gives under the settings of then."""
    revisions: list[Alert] = []

    class Listening(Trial):
        def take(self, alert: Alert) -> None:
            revisions.append(alert.model_copy(update={"published_at": START}))

    Backtest([Listening()], {TENANT: tuned(OWN, TUNING)}).read(read_lines(trail(), []))
    return revisions


@pytest.fixture
def stored(database: Database) -> Iterator[str]:
    """The alert's id; its events are in the store, and the settings of then and of now."""
    ids = KafkaIds("cluster", {"audit.auth": "id-explain"})
    writer = EventWriter(database, ids)
    [batch] = read_lines(trail(), [])
    enriched = replace(
        batch,
        topic="audit.auth",
        tenants=(OWN,),
        tenant_versions=(7,),
        tuning_version=3,
        ingest_time_ms=START_MS,
        flags=np.zeros(len(batch), np.uint8),
        _tenant=batch.tenant,
    )
    for block in writer.encode_events([(enriched, Claim("audit.auth", 0, 1, 1))]):
        writer.insert_events(block)
    now = OWN.model_copy(update={"detectors": {"failed_login": {"strict_failures": 0, "burst_failures": 99}}})
    database.insert_rows("tenants", [tenant_row(TENANT, Entry(one, v), v) for one, v in ((OWN, 7), (now, 8))])
    database.insert_rows("tuning", [tuning_row(TUNING, 3), tuning_row(Tuning(), 4)])
    revisions = raised()
    writer.insert_alerts(revisions)
    yield revisions[0].alert_id
    for table in ("events", "tenants", "alerts"):
        database.command(f"DELETE FROM {table} WHERE tenant_id = '{TENANT}'")
    database.command("TRUNCATE TABLE tuning")


@pytest.fixture
def files(tmp_path: Path) -> list[Any]:
    """Options that name the same trail and settings as files."""
    file, tenants = tmp_path / "trail.ndjson", tmp_path / "tenants.json"
    file.write_bytes(b"\n".join(trail()))
    tenants.write_text(tuned(OWN, TUNING).model_dump_json())
    return ["--file", file, "--tenants", tenants]


def explained(invoke: Invoke, *arguments: Any) -> dict[str, Any]:
    done = invoke("explain", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_an_alert_is_explained_from_the_store(invoke: Invoke, stored: str) -> None:
    """Its score over time is what it was raised by: with the settings that its events came with."""
    found = explained(invoke, stored[:8])
    assert found["alert"]["alert_id"] == stored
    assert found["score"]["raised_again"]
    points = found["score"]["points"]
    assert [point["score"] for point in points] == pytest.approx([1.0, 1.9, 2.8, 3.7, 4.6])
    assert {point["threshold"] for point in points} == {3}
    assert [event["event_id"] for event in found["events"]] == [f"guess-{i}" for i in range(4)]
    assert found["attack"] == [{"id": "T1110.001", "name": "Brute Force: Password Guessing"}]
    assert [revision["revision"] for revision in found["revisions"]] == [1]


def test_what_is_usual_is_the_same_hour_of_the_weeks_before(invoke: Invoke, stored: str) -> None:
    """All events, the failures, and those of the alert's entity."""
    usual = explained(invoke, stored)["usual"]
    assert usual[-1] == {"start": "2026-01-05T09:00:00.000Z", "events": 7, "failures": 7, "of_entity": 5}
    assert usual[-2] == {"start": "2025-12-29T09:00:00.000Z", "events": 3, "failures": 0, "of_entity": 3}
    assert (usual[-4]["events"], len(usual)) == (0, 9)


def test_a_file_gives_the_same_explanation(invoke: Invoke, stored: str, files: list[Any]) -> None:
    """It can be tried without a store; only when revisions were published is not known."""
    from_store, from_file = explained(invoke, stored), explained(invoke, stored, *files)
    for one in (from_store, from_file):
        for revision in [one["alert"], *one["revisions"]]:
            del revision["published_at"]
    assert from_file == from_store


def test_an_explanation_is_drawn_for_people(invoke: Invoke, stored: str) -> None:
    """The chart, the technique's name, what to do, and how it developed."""
    shown = invoke("explain", stored).stdout
    for expected in (
        "─",
        "█",
        "T1110.001 Brute Force: Password Guessing",
        "what to do",
        "revision",
        "guess-0",
    ):
        assert expected in shown


def test_an_alert_that_cannot_be_raised_again_says_so(
    invoke: Invoke, stored: str, database: Database
) -> None:
    """Its events may have left the store: the alert is shown all the same."""
    database.command(f"DELETE FROM events WHERE tenant_id = '{TENANT}'")
    found = explained(invoke, stored)
    assert found["score"] == {"raised_again": False, "points": []}
    assert found["events"] == []
    assert "seen again, they did not raise it" in invoke("explain", stored).stdout


def test_an_alert_that_is_not_there_is_an_error(invoke: Invoke, stored: str, files: list[Any]) -> None:
    """Neither in the store nor in a file."""
    for source in ([], files):
        done = invoke("explain", "ffffffff", *source)
        assert done.exit_code == 1
        assert "ffffffff" in f"{done.stderr}{done.exception}"


def test_a_file_that_is_read_twice_cannot_be_a_pipe(invoke: Invoke) -> None:
    """It says so, and does not wait for a second beginning."""
    done = invoke("explain", "ffffffff", "--file", "-", env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert "read twice" in done.stderr


def test_rejected_lines_of_a_file_are_told_once(invoke: Invoke, files: list[Any]) -> None:
    """Although the file is read twice."""
    files[1].write_bytes(files[1].read_bytes() + b"\nno event")
    [alert] = raised()[-1:]
    assert invoke("explain", alert.alert_id, *files).stderr.count("invalid_event") == 1


def test_an_alert_that_compares_tenants_is_explained_from_a_file(invoke: Invoke, tmp_path: Path) -> None:
    """It takes the others' events to raise it again; those that are shown are its tenant's."""
    file = tmp_path / "sprayed.ndjson"
    tenants = [f"explain-{name}" for name in "abc"]
    file.write_bytes(b"\n".join(login(f"{t}-{i}", START, tenant_id=t) for i in range(2) for t in tenants))
    trial = Trial()
    Backtest([trial]).read(read_lines(file.read_bytes().splitlines(), []))
    [alert] = [
        a for a in trial.alerts() if a.classification == "cross_tenant_spray" and a.tenant_id == TENANT
    ]
    found = explained(invoke, alert.alert_id, "--file", file)
    assert found["score"]["raised_again"]
    assert {event["tenant_id"] for event in found["events"]} == {TENANT}
    assert found["usual"][-1]["events"] == 2


def test_an_alert_of_several_files_and_other_settings_is_explained(
    invoke: Invoke, files: list[Any], tmp_path: Path
) -> None:
    """As `backtest` raised it: with two of the five failures in a file of their own, and a limit of four."""
    first, second = tmp_path / "first.ndjson", tmp_path / "second.ndjson"
    first.write_bytes(b"\n".join(trail()[:-4]))
    second.write_bytes(b"\n".join(trail()[-4:]))
    given = ["--set", "failed_login.burst_failures=4", *files[2:]]
    told = invoke("backtest", first, second, *given, "--json")
    [alert] = [json.loads(line) for line in told.stdout.splitlines()]
    found = explained(invoke, alert["alert_id"], "--file", first, "--file", second, *given)
    assert (found["alert"]["threshold"], found["score"]["raised_again"]) == (4, True)


def asked(invoke: Invoke, *arguments: Any, user: str = "ana") -> dict[str, Any]:
    """Return what each rule says, by its name."""
    done = invoke("why-not", "--tenant", TENANT, "--user", user, *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return {entry["rule"]: entry for entry in json.loads(done.stdout)["rules"]}


def test_every_rule_says_how_close_it_came(invoke: Invoke, stored: str) -> None:
    """Its highest score with the threshold of then, when it was, and for whom the event counted."""
    rules = asked(invoke, "--from", START.isoformat(), "--to", (START + timedelta(hours=1)).isoformat())
    address = rules["address"]["closest"]
    assert (address["score"], address["threshold"]) == (pytest.approx(4.6), 3)
    assert (address["time"], address["event_id"]) == ("2026-01-05T09:30:04.000Z", "guess-4")
    assert address["entity"] == {"type": "source_ip", "value": "192.0.2.7"}
    assert rules["address"]["alert_id"] == stored


def test_a_tenant_that_is_the_only_one_needs_no_name(
    invoke: Invoke, database: Database, stored: str, files: list[Any], tmp_path: Path
) -> None:
    """Where all events of the user are one tenant's; of several one has to be named."""
    done = invoke("why-not", "--user", "ana", *files)
    assert (done.exit_code, "ana: 11 auth" in done.stderr) == (0, True), done.stderr
    file = tmp_path / "two.ndjson"
    file.write_bytes(b"\n".join([*trail(), login("other", START, tenant_id="explain-b")]))
    done = invoke("why-not", "--user", "ana", "--file", file, env={"COLUMNS": "200"})
    assert (done.exit_code, "2 tenants: explain-a, explain-b" in done.stderr) == (2, True)
    other = Tenant(tenant_id="explain-b", organization_id="org-b", name="B")
    database.insert_rows("tenants", [tenant_row("explain-b", Entry(other, 1), 1)])
    done = invoke("why-not", "--user", "ana", env={"COLUMNS": "200"})
    database.command("DELETE FROM tenants WHERE tenant_id = 'explain-b'")
    assert (done.exit_code, "say whose user it is" in done.stderr) == (2, True)


def test_settings_can_be_tried(invoke: Invoke, files: list[Any]) -> None:
    """Would it have been raised with another limit?"""
    tried = asked(invoke, *files, "--set", "failed_login.burst_failures=9")["address"]
    assert (tried["closest"]["threshold"], tried["alert_id"]) == (9, None)


def test_only_the_events_of_the_user_count(invoke: Invoke, files: list[Any]) -> None:
    """At an address that others use too, it is what the buckets held when the user's own events came."""
    first, second = (asked(invoke, *files, user=user)["address"]["closest"] for user in ("ben", "cleo"))
    assert (first["score"], second["score"]) == (1.0, 2.0)
    assert asked(invoke, *files, user="ben")["address"]["alert_id"] is None


def test_only_one_address_or_time_can_be_asked_about(invoke: Invoke, files: list[Any]) -> None:
    """What lies outside teaches, and is not counted."""
    assert asked(invoke, *files, "--ip", "192.0.2.9")["address"]["reason"] is not None
    early = asked(invoke, *files, "--to", (START + timedelta(seconds=2)).isoformat())
    assert early["address"]["closest"]["event_id"] == "guess-1"
    late = asked(invoke, *files, "--from", (START + timedelta(seconds=2)).isoformat())
    assert late["address"]["closest"]["score"] == pytest.approx(4.6)


def test_rules_that_do_not_apply_say_why(invoke: Invoke, files: list[Any], tmp_path: Path) -> None:
    """No events of the kind, none that the rule tests, or switched off."""
    rules = asked(invoke, *files)
    assert rules["limit"]["reason"] == "there are no request events of ana"
    assert rules["spray_across_tenants"]["reason"] == "it compares tenants"
    assert "cannot say" in rules["challenge"]["reason"]
    off = dict.fromkeys(("burst_failures", "minute_failures", "hour_failures", "strict_failures"), 0)
    tenant = OWN.model_copy(update={"detectors": {"failed_login": {**off, "new_users": 0}}})
    (tmp_path / "tenants.json").write_text(tenant.model_dump_json())
    assert asked(invoke, *files)["address"]["reason"] == "it is switched off"
    assert "does not apply: it is switched off" in invoke(
        "why-not", "--tenant", TENANT, "--user", "ana", *files
    ).stdout  # fmt: skip


@pytest.fixture
def ruled_files(files: list[Any]) -> list[Any]:
    """The files, and rules of the tenant's own: one comes close, one is met, one selects nothing."""
    few = correlation("event_count", [plain(FAILURES)], group_by=["user_id"], condition={"gte": 20})
    many = correlation(
        "value_count", [plain(FAILURES)], group_by=["source_ip", "user_id"],
        condition={"field": "event_id", "gte": 3},
    )  # fmt: skip
    tenant = ruled(few, many, plain({"action": "logout"}, title="Gone"), tenant_id=TENANT)
    files[-1].write_text(tenant.model_dump_json())
    return files


def test_rules_of_ones_own_say_how_close_they_came(invoke: Invoke, ruled_files: list[Any]) -> None:
    """Each by its title, with what its window held, and whom its group is about."""
    rules = asked(invoke, *ruled_files)
    few, many = rules["A event_count"], rules["A value_count"]
    assert (few["closest"]["score"], few["closest"]["threshold"], few["alert_id"]) == (5, 20, None)
    assert few["closest"]["entity"] == {"type": "user_id", "value": "ana"}
    assert (few["closest"]["event_id"], few["reason"]) == ("guess-4", None)
    assert (many["closest"]["score"], many["closest"]["threshold"]) == (5, 3)
    assert many["closest"]["entity"] == {"type": "source_ip", "value": "192.0.2.7"}
    assert many["alert_id"] is not None
    assert rules["Gone"]["closest"] is None
    assert "5 of 20" in invoke("why-not", "--user", "ana", *ruled_files, env={"COLUMNS": "200"}).stdout


def test_an_alert_of_ones_own_rule_is_explained_by_its_scores(invoke: Invoke, ruled_files: list[Any]) -> None:
    """Those of its group before it was raised, too, and of no other."""
    alert_id = asked(invoke, *ruled_files)["A value_count"]["alert_id"]
    points = explained(invoke, alert_id, *ruled_files)["score"]["points"]
    assert [(point["score"], point["threshold"]) for point in points] == [(i, 3) for i in range(1, 6)]


def test_counts_of_spans_are_within_a_tenant(database: Database, stored: str) -> None:
    """Another tenant sees nothing, and a field that is none cannot be asked for."""
    ask = partial(spans, database, TenantContext("explain-b"), "auth", [START_MS], 3_600_000)
    assert ask() == [{"start_ms": START_MS, "events": 0, "failures": 0, "of_entity": 0}]
    with pytest.raises(ValueError, match="auth events have no http_route"):
        ask("http_route", "/")


def test_of_many_points_the_closest_are_kept() -> None:
    """One of each equal part, so that no peak is lost."""
    scores = np.zeros(10_000)
    scores[[17, 9_999]] = 5.0
    thinned = Series(np.arange(10_000), scores, np.full(10_000, 4.0)).thinned(100)
    assert len(thinned.time_ms) == 100
    assert (thinned.scores == 5.0).sum() == 2


def test_a_chart_of_one_point_has_one_time() -> None:
    """And a threshold that is switched off is no line."""
    lines = chart([("2026-01-05T09:00:00Z", 1.0, float("inf"))], 4, 2)
    assert lines[-1].strip() == "2026-01-05 09:00:00Z"
    assert "─" not in "".join(lines)


def test_every_technique_that_our_alerts_name_has_a_name() -> None:
    """A person need not look it up; OCSF names the technique that it is part of as well."""
    folders = Path(detectors.__file__).parent, Path(api.__file__).parent
    texts = [source.read_text() for folder in folders for source in folder.rglob("*.py")]
    named = {one for text in texts for one in re.findall(r"\"(T1\d{3}(?:\.\d{3})?)\"", text)}
    named |= {one.partition(".")[0] for one in named}
    assert {"T1550", "T1528"} <= named
    assert [one for one in sorted(named) if technique_name(one) is None] == []
