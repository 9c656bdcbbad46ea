"""`rules`: checked and tested in files, then given to a tenant; what is given holds at once."""

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from confluent_kafka import Producer
from conftest import REPOSITORY, Up, eventually
from rule_texts import FAILURES, LOGINS, correlation, plain, ruled, text_of
from scenarios.streams import START_MS, batch_of
from typer.testing import CliRunner, Result

from detectors.rules.compiled import MAX_EVENTS, MAX_SELECTIONS, MAX_TIMESPAN_S, MAX_VALUES, WindowType
from detectors.rules.correlating import MAX_GROUP_BY
from detectors.rules.faults import RuleError
from detectors.rules.outline import MODIFIERS
from detectors.rules.ruleset import check_rules
from schemas.tenant import MAX_RULE_LENGTH, MAX_RULES, MAX_RULES_LENGTH, Tenant, unknown_tenant
from tenantwatch.backtest import Trial
from tenantwatch.cli import app
from tenantwatch.rules import read_rules
from tenantwatch.tenant_file import TenantFileError, read_tenants

EXAMPLES = REPOSITORY / "docs/rules"
DOCUMENTATION = (REPOSITORY / "docs/rules.md").read_text()
FIRES = {"name": "it fires", "expect": "alert", "events": [{**LOGINS, "user_id": "ana"}]}
IS_SILENT = {"name": "it does not", "expect": "silent", "events": [{"action": "logout"}]}


def invoke(*arguments: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def write(folder: Path, *cases: dict[str, Any], rule: Any = None, **more: Any) -> Path:
    """Write a rule and its cases, and return the rule's file."""
    path = folder / "rule.yml"
    path.write_text(text_of(rule or plain(LOGINS)))
    if cases:
        path.with_name("rule.cases.yml").write_text(yaml.safe_dump({"cases": [*cases], **more}))
    return path


def faults_of(path: Path) -> list[str]:
    """Return what `rules test` says is wrong, and check that it fails."""
    done = invoke("rules", "test", path, "--json")
    assert done.exit_code == 1
    return [row["fault"] for row in json.loads(done.stdout) if row["fault"]]


def test_the_examples_pass_their_cases() -> None:
    """Every rule that we ship, with at least two cases each."""
    done = invoke("rules", "test", EXAMPLES, "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert {Path(row["file"]).name for row in rows} == {
        path.name for path in EXAMPLES.glob("*.yml") if not path.name.endswith(".cases.yml")
    }
    assert all(alert["attack"] and alert["runbook"].endswith(".") for row in rows for alert in row["alerts"])


def test_the_examples_cover_every_type() -> None:
    """Each has something to start from."""
    rows = json.loads(invoke("rules", "check", EXAMPLES, "--json").stdout)
    types = {"selection", "event_count", "value_count", "temporal", "temporal_ordered"}
    assert {row["type"] for row in rows} == types


def test_the_example_in_the_documentation_works(tmp_path: Path) -> None:
    """Its rule is read, and its cases pass."""
    rule, cases = re.findall(r"```yaml\n(.*?)```", DOCUMENTATION, re.DOTALL)
    (tmp_path / "rule.yml").write_text(rule)
    (tmp_path / "rule.cases.yml").write_text(cases)
    done = invoke("rules", "test", tmp_path)
    assert done.exit_code == 0, done.output


def test_the_documentation_names_all_of_sigma() -> None:
    """Every modifier and correlation that pySigma reads is said to be supported, or refused."""
    from sigma.correlations import SigmaCorrelationType
    from sigma.modifiers import modifier_mapping

    supported, refused = DOCUMENTATION.split("## What is refused")
    for name in modifier_mapping:
        assert f"`{name}`" in (supported if name in MODIFIERS else refused)
    for name in map(str, SigmaCorrelationType):
        assert f"`{name}`" in (supported if name in get_args(WindowType) else refused)


def test_the_documentation_knows_the_limits() -> None:
    """What is said to be the most is."""
    [limits] = re.findall(r"^Limits: .*?\n\n", DOCUMENTATION, re.DOTALL | re.MULTILINE)
    known = [MAX_RULES, MAX_RULE_LENGTH, MAX_RULES_LENGTH, MAX_TIMESPAN_S // 86_400]
    known += [MAX_EVENTS, MAX_VALUES, MAX_SELECTIONS, MAX_GROUP_BY]
    assert re.findall(r"[0-9,]+\b", limits) == [f"{limit:,}" for limit in known]


def test_a_case_that_goes_otherwise_fails(tmp_path: Path) -> None:
    """It says what was expected and what came instead."""
    wrong = [{**FIRES, "expect": "silent"}, {**IS_SILENT, "expect": "alert"}, {**FIRES, "alerts": 2}]
    assert faults_of(write(tmp_path, *wrong)) == [
        "expected no alerts, got 1 alert: A rule: user_id ana, 1 event; last at 09:00:00 UTC",
        "expected at least 1 alert, got no alerts",
        "expected 2 alerts, got 1 alert: A rule: user_id ana, 1 event; last at 09:00:00 UTC",
    ]


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        ([], "rule.cases.yml is missing; fix: write a case that alerts and one that does not"),
        ([FIRES], "there is no case that does not alert; fix: add one"),
        ([IS_SILENT], "there is no case that alerts; fix: add one"),
    ],
)
def test_a_rule_needs_a_case_that_fires_and_one_that_does_not(
    cases: list[dict[str, Any]], told: str, tmp_path: Path
) -> None:
    """A rule that nobody has seen silent is not tested."""
    assert faults_of(write(tmp_path, *cases)) == [told]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"user": "ana"}, "auth events have no field `user`; did you mean `user_id`?"),
        ({"action": "Log In"}, "action: not of the form that the contract asks for"),
        ({"kind": "access", "action": "read"}, "the rule does not look at access events; fix: take them out"),
    ],
)
def test_an_event_that_is_none_fails_its_case(event: dict[str, Any], told: str, tmp_path: Path) -> None:
    """It would be no event to the worker either."""
    [fault] = faults_of(
        write(tmp_path, FIRES, {**IS_SILENT, "events": [{**IS_SILENT["events"][0], **event}]})
    )
    assert told in fault


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"expect": "nothing"}, "cases[0].expect: input should be 'alert' or 'silent'"),
        ({"expects": "alert"}, "cases[0].expects: extra inputs are not permitted"),
        ({"events": []}, "cases[0].events: "),
        ({"events": [{"at": 5}]}, "cases[0].events[0].at: not a duration like 90s, 5m, 1h or 2d, found 5"),
    ],
)
def test_what_is_wrong_with_a_file_of_cases_is_told(
    change: dict[str, Any], told: str, tmp_path: Path
) -> None:
    """With its place."""
    [fault] = faults_of(write(tmp_path, {**FIRES, **change}, IS_SILENT))
    assert fault.startswith(f"rule.cases.yml: {told}")


def test_events_are_written_short(tmp_path: Path) -> None:
    """Some at intervals, numbered, with what all have in common written once, in order of time."""
    rule = correlation(
        "value_count", [plain({**LOGINS, "attributes.country": "DE"})], group_by=["source_ip"],
        condition={"field": "user_id", "gte": 4}, timespan="10m",
    )  # fmt: skip
    common = {"action": "login", "source_ip": "192.0.2.7", "attributes.country": "DE"}
    late_first = [{"at": "9m", "user_id": "late"}, {"count": 3, "every": "1m", "user_id": "user-{i}"}]
    too_late = [{"at": "11m", "user_id": "late"}, *late_first[1:]]
    cases = [{**FIRES, "alerts": 1, "events": late_first}, {**IS_SILENT, "events": too_late}]
    done = invoke("rules", "test", write(tmp_path, *cases, rule=rule, common=common), "--json")
    assert done.exit_code == 0, done.output
    [alert] = json.loads(done.stdout)[0]["alerts"]
    assert alert["detected_at"] == "2026-01-05T09:09:00.000Z"


def test_everything_that_is_wrong_with_files_is_told(tmp_path: Path) -> None:
    """Each fault is a line with its file; nothing is on standard output."""
    (tmp_path / "a.yml").write_text(text_of(plain({"user": "ana"})))
    (tmp_path / "b.yaml").write_text("title: B")
    done = invoke("rules", "check", tmp_path)
    assert (done.exit_code, done.stdout) == (1, "")
    assert f"error: {tmp_path}/a.yml: A rule: detection.selection.user: auth events" in done.stderr
    assert f"error: {tmp_path}/b.yaml: B: logsource: missing" in done.stderr


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ({"a.cases.yml": "x"}, "a.cases.yml: holds cases; fix: name the rule's own file"),
        ({"a.yml": "title: x", "b.yml": None}, "b.yml: cannot be read: "),
        (
            {"a.yml": text_of(plain(LOGINS)), "b.yml": text_of(plain(LOGINS))},
            "b.yml: A rule: the same rule as in ",
        ),
    ],
)
def test_files_that_cannot_be_used_are_told(texts: dict[str, str | None], told: str, tmp_path: Path) -> None:
    """What is no rule, not there, or there twice."""
    for name, text in texts.items():
        if text is not None:
            (tmp_path / name).write_text(text)
    with pytest.raises(RuleError) as raised:
        read_rules([tmp_path / name for name in texts])
    assert told in str(raised.value)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    """It is not no rules: nobody checks nothing on purpose."""
    assert "there is no rule in it" in invoke("rules", "check", tmp_path).stderr


def test_more_rules_than_a_tenant_may_have_are_told(tmp_path: Path) -> None:
    """In number, and in characters."""
    for i in range(MAX_RULES + 1):
        (tmp_path / f"{i}.yml").write_text(text_of(plain(LOGINS, title=f"Rule {i}")))
    assert "at most 50 items" in invoke("rules", "check", tmp_path).stderr
    long = text_of(plain(LOGINS, description="x" * 15_000))
    with pytest.raises(ValueError, match=f"at most {MAX_RULES_LENGTH:,} are kept"):
        Tenant.model_validate({**unknown_tenant("tenant-a").model_dump(), "rules": [long] * 10})


def test_rules_can_be_tried_in_a_backtest(tmp_path: Path) -> None:
    """A trial with other rules is one with changed settings: what `backtest --rules` needs."""
    texts = [file.text for file in read_rules([write(tmp_path)])]
    trial = Trial(lambda tenant: tenant.model_copy(update={"rules": texts}))
    trial.fold(batch_of("auth", [{**LOGINS, "time_ms": START_MS, "user_id": "ana"}]))
    assert [alert.detector for alert in trial.alerts()] == ["custom_rule"]


def test_a_tenants_file_is_refused_for_its_rules() -> None:
    """They are checked as everything else of a tenant's, and named by their place."""
    tenant = ruled(plain(LOGINS), plain({"user": "ana"}))
    with pytest.raises(TenantFileError) as raised:
        read_tenants(tenant.model_dump_json(exclude_none=True).encode())
    [fault] = raised.value.faults
    assert fault.startswith("tenant tenant-a: rules[1]: A rule: detection.selection.user: ")
    assert check_rules(tenant.rules[:1]) == []


def beside(up: Up, *arguments: object) -> Result:
    """Run a command in this process, beside the running worker."""
    return CliRunner(env=dict(up.env)).invoke(app, [str(argument) for argument in arguments])


def add(up: Up, tenant_id: str) -> None:
    """Add a tenant without a word about rules."""
    body = {"tenant_id": tenant_id, "organization_id": "org-a", "name": "A"}
    assert up.run("tenants", "apply", "-", stdin=json.dumps(body)).returncode == 0


def rules_in(up: Up, tenant_id: str) -> list[str]:
    """Return the titles of a tenant's rules, as the command tells them."""
    return [
        row["title"]
        for row in json.loads(beside(up, "rules", "list", "--tenant", tenant_id, "--json").stdout)
    ]


def test_applied_rules_judge_the_next_event(up: Up, tmp_path: Path) -> None:
    """The worker need not be started again, and other tenants have nothing of it."""
    add(up, "ruled-a")
    add(up, "ruled-b")
    rule = correlation("event_count", [plain(FAILURES)], group_by=["user_id"], condition={"gte": 2})
    done = beside(up, "rules", "apply", write(tmp_path, rule=rule), "--tenant", "ruled-a")
    assert (done.exit_code, done.stdout) == (0, ""), done.output
    assert "applied 1 rule to ruled-a" in done.stderr
    producer = Producer({"bootstrap.servers": up.status["kafka"], "partitioner": "murmur2_random"})
    for tenant_id in ("ruled-b", "ruled-a"):
        for second in range(2):
            event = {"kind": "auth", "event_id": str(second), "tenant_id": tenant_id, "service": "login"}
            event |= {**FAILURES, "user_id": "ana", "time": f"2026-01-05T09:00:0{second}Z"}
            producer.produce("audit.auth", json.dumps(event), tenant_id)
    producer.flush()
    [alert] = eventually(lambda: up.control("/alerts", tenant_id="ruled-a"))
    assert (alert["detector"], alert["classification"]) == ("custom_rule", "event_count")
    assert up.control("/alerts", tenant_id="ruled-b") == []


def test_rules_are_listed_and_cleared(up: Up, tmp_path: Path) -> None:
    """What is applied takes the place of what there was."""
    add(up, "ruled-c")
    assert beside(up, "rules", "apply", EXAMPLES, "--tenant", "ruled-c").exit_code == 0
    assert len(rules_in(up, "ruled-c")) == 5
    assert beside(up, "rules", "apply", write(tmp_path), "--tenant", "ruled-c").exit_code == 0
    assert rules_in(up, "ruled-c") == ["A rule"]
    assert beside(up, "rules", "clear", "--tenant", "ruled-c", "--yes").exit_code == 0
    assert rules_in(up, "ruled-c") == []


def test_applying_tenants_does_not_take_rules_away(up: Up, tmp_path: Path) -> None:
    """A file of tenants that does not name rules leaves them; one that names none takes them."""
    add(up, "ruled-d")
    assert beside(up, "rules", "apply", write(tmp_path), "--tenant", "ruled-d").exit_code == 0
    add(up, "ruled-d")
    assert rules_in(up, "ruled-d") == ["A rule"]
    body = {"tenant_id": "ruled-d", "organization_id": "org-a", "name": "A", "rules": []}
    assert up.run("tenants", "apply", "-", stdin=json.dumps(body)).returncode == 0
    assert rules_in(up, "ruled-d") == []


def test_rules_of_an_unknown_tenant_are_refused(up: Up, tmp_path: Path) -> None:
    """With the nearest that there is."""
    add(up, "ruled-e")
    done = beside(up, "rules", "apply", write(tmp_path), "--tenant", "ruled-ee")
    assert done.exit_code == 1
    assert "there is no tenant ruled-ee; did you mean ruled-e?" in done.stderr


def test_a_record_with_a_rule_that_nobody_can_read_is_used_without_it(up: Up) -> None:
    """Whoever writes to the topic without our checks stops neither the worker nor the other rules."""
    tenant = ruled("title: half a rule", plain(LOGINS), tenant_id="ruled-f")
    producer = Producer({"bootstrap.servers": up.status["kafka"], "partitioner": "murmur2_random"})
    producer.produce("audit.tenants", tenant.model_dump_json(exclude_none=True), "ruled-f")
    producer.flush()
    eventually(lambda: up.control("/tenants", tenant_id="ruled-f"))
    event = {"kind": "auth", "event_id": "1", "tenant_id": "ruled-f", "service": "login", **FAILURES}
    event |= {"user_id": "ana", "time": "2026-01-05T09:00:00Z"}
    producer.produce("audit.auth", json.dumps(event), "ruled-f")
    producer.flush()
    [alert] = eventually(lambda: up.control("/alerts", tenant_id="ruled-f"))
    assert alert["detector"] == "custom_rule"
    assert "tenant_rule_ignored" in up.log_path.read_text()
    listed = beside(up, "rules", "list", "--tenant", "ruled-f")
    assert "rules[0] is not used: half a rule: logsource: missing" in listed.stderr
    # The worker is shared, and others read what it lists.
    assert beside(up, "tenants", "remove", "ruled-f", "--yes").exit_code == 0
