"""The demo: its day is honest, its verdict strict, its receiver careful, and it leaves nothing behind."""

import json
import os
import signal
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from backtested import BacktestResult, backtest
from conftest import CommandLine, eventually, settings_env
from sizes import some
from standardwebhooks import Webhook
from typer.testing import CliRunner, Result
from webhook_receiver import alert as webhook_alert

from schemas.alert import Alert, Entity, from_ms
from tenantwatch.cli import app
from tenantwatch.commands.demo import DEFAULT_EVENTS, DEFAULT_SEED
from tenantwatch.demo.organizations import ENTERPRISE, FREE
from tenantwatch.demo.outcome import Outcome, percentile
from tenantwatch.demo.probes import closing_event, probes
from tenantwatch.demo.receiver import Receiver, verified
from tenantwatch.demo.scenario import Scenario, scenario
from tenantwatch.demo.verdict import Verdict, judge

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SMALL = 10_000


@pytest.fixture(scope="module")
def small() -> Scenario:
    return scenario(1, SMALL)


def detect(planned: Scenario) -> BacktestResult:
    tenants = {tenant.tenant_id: tenant for tenant in planned.tenants}
    return backtest((timed.json for timed in planned.events), tenants)


@pytest.mark.parametrize(
    ("seed", "count"),
    some(
        [(DEFAULT_SEED, DEFAULT_EVENTS), (1, SMALL), (2, 30_000), (3, 30_000), (4, 60_000)],
        lambda planned: planned[0] in (DEFAULT_SEED, 1),
    ),
)
def test_every_planted_attack_is_raised_and_nothing_else(seed: int, count: int) -> None:
    """The detectors find seven of seven attacks, by their names, and are silent about all other traffic."""
    planned = scenario(seed, count)
    result = detect(planned)
    verdict = judge(planned.attacks, [], result.alerts, {})
    assert [finding.attack.name for finding in verdict.findings if finding.alert is None] == []
    assert len(verdict.findings) == 7
    assert [alert.summary for alert in verdict.false_alerts] == []
    assert {attack.detector for attack in planned.attacks} == {
        "failed_login",
        "rate_breach",
        "access_anomaly",
    }


def test_the_day_is_valid_in_order_and_of_the_size_asked_for(small: Scenario) -> None:
    """Every event passes validation, all are evaluated, times ascend, and three tenants take part."""
    result = detect(small)
    assert result.rejected == []
    assert not result.not_evaluated
    assert result.events.total() == len(small.events) == SMALL
    assert [timed.time_ms for timed in small.events] == sorted(timed.time_ms for timed in small.events)
    assert {timed.tenant_id for timed in small.events} == {tenant.tenant_id for tenant in small.tenants}
    assert [tenant.tier for tenant in small.tenants] == ["enterprise", "standard", "free"]
    assert {timed.kind for timed in small.events} == {"auth", "access", "request"}


def test_the_same_seed_gives_the_same_day(small: Scenario) -> None:
    """A day is a function of its seed, byte for byte; another seed gives another day."""
    assert scenario(1, SMALL) == small
    assert scenario(2, SMALL).events != small.events


def test_attacks_happen_amid_the_tenant_s_ordinary_traffic(small: Scenario) -> None:
    """Around each attack its tenant's other events go on."""
    attacked = Counter((attack.tenant_id, at_ms) for attack in small.attacks for at_ms in attack.times_ms)
    quarter_ms = 15 * 60_000
    for attack in small.attacks:
        begin_ms, end_ms = attack.times_ms[0] - quarter_ms, attack.times_ms[-1] + quarter_ms
        around = [
            timed
            for timed in small.events
            if timed.tenant_id == attack.tenant_id
            and begin_ms <= timed.time_ms <= end_ms
            and (timed.tenant_id, timed.time_ms) not in attacked
        ]
        assert around, attack.name


def test_each_burst_raises_one_alert_with_its_last_event() -> None:
    """What latency is measured by is exact: the fifth failure of a burst, and no alert but its own."""
    bursts = probes(1)
    result = backtest(timed.json for burst in bursts for timed in burst.events)
    assert len(result.alerts) == len(bursts)
    for burst, alert in zip(bursts, result.alerts, strict=True):
        assert burst.explains(alert)
        assert (alert.revision, alert.detected_at) == (1, from_ms(burst.events[-1].time_ms))


def test_the_closing_event_ends_every_burst() -> None:
    """After the measurement no alert of a burst stays open to hide the planted ones in a list."""
    lines = [timed.json for burst in probes(1) for timed in burst.events]
    result = backtest([*lines, closing_event(1).json])
    assert {alert.status for alert in result.alerts} == {"resolved"}


def alerts_of(planned: Scenario) -> list[Alert]:
    return detect(planned).alerts


def test_a_missed_attack_and_an_unexplained_alert_are_told(small: Scenario) -> None:
    """An attack without its alert is not raised; an alert without an attack is false."""
    alerts = alerts_of(small)
    spray = next(alert for alert in alerts if alert.classification == "password_spray")
    stray = spray.model_copy(
        update={"alert_id": "stray", "entity": Entity(type="source_ip", value="192.0.2.99")}
    )
    verdict = judge(small.attacks, [], [stray if alert is spray else alert for alert in alerts], {})
    assert [f.attack.name for f in verdict.findings if f.alert is None] == ["password spraying"]
    assert verdict.false_alerts == (stray,)


@pytest.mark.parametrize(
    "change",
    [
        {"tenant_id": FREE},
        {"detected_at": datetime(2026, 1, 14, 7, 0, tzinfo=UTC)},
        {"detected_at": datetime(2026, 1, 14, 9, 0, tzinfo=UTC)},
    ],
)
def test_an_alert_of_another_tenant_or_time_explains_nothing(small: Scenario, change: dict[str, Any]) -> None:
    """Tenant and time must fit, not only the address."""
    spray = next(alert for alert in alerts_of(small) if alert.classification == "password_spray")
    moved = spray.model_copy(update=change)
    assert judge(small.attacks, [], [moved], {}).false_alerts == (moved,)


def test_an_attack_called_by_another_name_is_explained_but_not_raised(small: Scenario) -> None:
    """Guessing that is noticed is no account takeover that is noticed."""
    alerts = [alert for alert in alerts_of(small) if alert.classification == "brute_force"]
    verdict = judge(small.attacks, [], alerts, {})
    takeover = next(f for f in verdict.findings if f.attack.name == "account takeover")
    assert takeover.alert is None
    assert takeover.others != ()
    assert verdict.false_alerts == ()


def test_latency_is_taken_from_the_first_revision(small: Scenario) -> None:
    """Later revisions of a burst's alert do not lengthen its latency."""
    burst = probes(1)[0]
    [raised] = backtest(timed.json for timed in burst.events).alerts
    revisions = [
        raised.model_copy(update={"published_at": from_ms(1_000_250)}),
        raised.model_copy(update={"revision": 2, "published_at": from_ms(1_009_000)}),
    ]
    for ordered in (revisions, revisions[::-1]):
        verdict = judge([], [burst], ordered, {burst.source_ip: 1_000_000})
        assert verdict.latencies_ms == (250,)
        assert verdict.false_alerts == ()


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [([], 50, None), ([5], 99, 5), ([1, 2, 3, 4], 50, 2), ([3, 1, 2], 100, 3), (range(1, 101), 99, 99)],
)
def test_percentiles_are_values_that_occurred(values: Any, percent: float, expected: float | None) -> None:
    """The nearest rank: a percentile is the smallest value that so many do not exceed."""
    assert percentile(list(values), percent) == expected


GOOD = Outcome(
    Verdict((), (), (7, 9)),
    seed=1,
    events_sent=100,
    events_stored=100,
    events_per_s=1_000,
    paced_per_s=100,
    probes=2,
    flagged=0,
    webhooks_expected=12,
    webhooks_verified=12,
    webhooks_refused=0,
    webhooks_misdirected=0,
    seconds=1.0,
    delivered=frozenset(),
)


def test_an_outcome_without_fault_has_no_problems() -> None:
    """Nothing is complained about when everything arrived."""
    assert GOOD.problems() == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"events_stored": 98}, "2 events sent and not stored"),
        ({"events_stored": 103}, "3 events stored more than once"),
        ({"flagged": 1}, "1 events stored and not looked at by the detectors"),
        ({"webhooks_verified": 11}, "1 webhook messages did not arrive"),
        ({"webhooks_verified": 13}, "1 webhook messages too many"),
        ({"webhooks_refused": 4}, "4 webhook messages with a wrong signature"),
        ({"webhooks_misdirected": 1}, "1 alerts delivered to another tenant's webhook"),
        ({"probes": 3}, "1 bursts of the latency measurement raised no alert"),
    ],
)
def test_whatever_is_missing_is_a_problem(change: dict[str, Any], problem: str) -> None:
    """Each way in which something can be lost, doubled or misdirected is said, with how much of it."""
    changed = replace(GOOD, **change)
    assert changed.problems() == [problem]
    assert changed.data()["problems"] == [problem]


class NoPipeline:
    """Stands in for the real one where only the end of the demo is looked at."""

    data_dir = Path("data")

    def __init__(self, *, keep: bool) -> None:
        pass

    def __enter__(self) -> "NoPipeline":
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def end_of(outcome: Outcome, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Result:
    """Return how the command ends when this came out."""
    monkeypatch.setattr("tenantwatch.demo.pipeline.ChildPipeline", NoPipeline)
    monkeypatch.setattr("tenantwatch.demo.pipeline.STOP_SIGNALS", ())
    monkeypatch.setattr("tenantwatch.demo.run.run_demo", lambda *given: outcome)
    return CliRunner().invoke(app, ["demo", *arguments])


def test_the_exit_code_tells_whether_all_was_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 without a problem, 1 with one, and the data says the same."""
    good = end_of(GOOD, monkeypatch, "--json")
    assert (good.exit_code, json.loads(good.stdout)["problems"]) == (0, [])
    bad = end_of(replace(GOOD, events_stored=98), monkeypatch, "--json")
    assert (bad.exit_code, json.loads(bad.stdout)["events_stored"]) == (1, 98)


def test_a_person_is_shown_what_is_wrong(small: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table names the attack that was missed, and a false alert is printed in full."""
    alerts = alerts_of(small)
    spray = next(alert for alert in alerts if alert.classification == "password_spray")
    stray = spray.model_copy(update={"tenant_id": FREE, "summary": "Nobody did [this]."})
    verdict = judge(small.attacks, [], [stray if alert is spray else alert for alert in alerts], {})
    shown = end_of(replace(GOOD, verdict=verdict, probes=0), monkeypatch)
    assert shown.exit_code == 1
    assert "not raised" in shown.stdout
    assert "6 of 7 planted attacks raised, 1 false alert" in shown.stdout
    assert "Nobody did [this]." in shown.stdout
    assert "password spraying in demo-enterprise raised no password_spray alert" in shown.stderr


def signed(
    body: bytes, secret: str = SECRET, at: datetime | None = None, message_id: str = "msg_1"
) -> dict[str, str]:
    at = at or datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, at, body.decode()),
    }


def test_the_receiver_agrees_with_another_implementation() -> None:
    """What the Standard Webhooks library signs is verified, also beside another signature."""
    now = datetime.now(UTC)
    headers = signed(b"{}", at=now)
    assert verified(SECRET, headers, b"{}", now.timestamp())
    rotated = {**headers, "webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}
    assert verified(SECRET, rotated, b"{}", now.timestamp())


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": "0"},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,ü"},
    ],
)
def test_a_message_with_a_changed_header_is_not_verified(change: dict[str, str]) -> None:
    """Id, time and signature belong together."""
    now = datetime.now(UTC)
    assert not verified(SECRET, {**signed(b"{}", at=now), **change}, b"{}", now.timestamp())


@pytest.mark.parametrize("age_s", [-301, 301])
def test_a_message_of_another_time_is_not_verified(age_s: int) -> None:
    """A recording that is played again later is refused although its signature is right."""
    now = datetime.now(UTC)
    assert not verified(SECRET, signed(b"{}", at=now), b"{}", now.timestamp() + age_s)


def test_the_receiver_counts_a_repeat_once_and_refuses_forgeries() -> None:
    """Over HTTP: 204 for what is signed, 401 for what is not, 404 where nobody listens."""
    message = {"type": "alert.opened", "data": webhook_alert("tenant-a").model_dump(mode="json")}
    body = json.dumps(message).encode()
    with Receiver() as receiver, httpx.Client(trust_env=False) as client:
        receiver.secrets["/hook"] = SECRET
        url = receiver.url("/hook")
        assert [client.post(url, content=body, headers=signed(body)).status_code for _ in range(2)] == [
            204,
            204,
        ]
        assert client.post(url, content=body + b" ", headers=signed(body)).status_code == 401
        assert client.post(receiver.url("/other"), content=body, headers=signed(body)).status_code == 404
        assert (receiver.count, receiver.refused) == (1, 1)
        assert [alert.tenant_id for alert in receiver.received("/hook")] == ["tenant-a"]


def demo_env(tmp_path: Path) -> dict[str, str]:
    """Return an environment of a demo: its own temporary directory, and settings that it must not heed."""
    # Nothing listens there: a demo that sent its events to it would fail.
    return {**settings_env(tmp_path / "mine", kafka="127.0.0.1:9"), "TMPDIR": str(tmp_path / "tmp")}


def processes_of(tmp_path: Path) -> list[str]:
    """Return the names of the processes that were started for a demo in this directory."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(tmp_path / "tmp"):
                found.append(process.name())
        except psutil.Error:
            continue  # another user's, or it has just ended
    return found


def test_the_demo_finds_everything_and_leaves_nothing(tmp_path: Path) -> None:
    """`tenantwatch demo --json` runs the real pipeline, proves it with numbers, and cleans up."""
    (tmp_path / "tmp").mkdir()
    done = CommandLine(demo_env(tmp_path)).run("demo", "--json", "--events", str(SMALL), timeout_s=180)
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["planted"], data["raised"], data["false_alerts"], data["problems"]) == (7, 7, 0, [])
    assert data["events_sent"] == data["events_stored"] > SMALL
    assert data["webhooks_verified"] == data["webhooks_expected"] > 7
    assert data["events_per_s"] > 0
    assert 0 < data["latency_ms"]["p50"] <= data["latency_ms"]["p99"]
    assert all(attack["webhook_delivered"] for attack in data["attacks"])
    takeover = next(attack for attack in data["attacks"] if attack["name"] == "account takeover")
    assert (takeover["tenant_id"], takeover["severity"]) == (ENTERPRISE, "critical")
    assert done.stderr == ""
    assert list((tmp_path / "tmp").iterdir()) == []
    assert not (tmp_path / "mine").exists()
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("number", some([signal.SIGINT, signal.SIGTERM], signal.SIGINT.__eq__))
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C in the middle stops Kafka and the worker and removes their data."""
    (tmp_path / "tmp").mkdir()
    line = CommandLine(demo_env(tmp_path))
    with line.start("demo", "--events", str(SMALL), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as demo:
        eventually(lambda: "java" in processes_of(tmp_path))
        os.kill(demo.pid, number)
        said, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, said.decode()
    assert processes_of(tmp_path) == []
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.thorough
def test_a_killed_demo_leaves_no_process(tmp_path: Path) -> None:
    """Even kill -9 of the demo ends the worker and its Kafka: the kernel tells them."""
    (tmp_path / "tmp").mkdir()
    line = CommandLine(demo_env(tmp_path))
    with line.start("demo", "--events", str(SMALL), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as demo:
        eventually(lambda: "java" in processes_of(tmp_path))
        demo.kill()
        demo.wait()
    eventually(lambda: not processes_of(tmp_path))
