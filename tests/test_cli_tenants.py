"""`tenants`: a file is checked whole before one tenant is applied; what is applied holds at once."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from conftest import REPOSITORY, Up, eventually
from typer.testing import CliRunner, Result

from schemas.tenant import PersonalData, Tenant
from tenantwatch.cli import app
from tenantwatch.tenant_file import TenantFileError, read_tenants


def tenant(tenant_id: str = "tenant-a", **fields: Any) -> dict[str, Any]:
    return {"tenant_id": tenant_id, "organization_id": "org-a", "name": "A"} | fields


def faults(content: str | Any) -> list[str]:
    with pytest.raises(TenantFileError) as raised:
        read_tenants((content if isinstance(content, str) else json.dumps(content)).encode())
    return raised.value.faults


@pytest.mark.parametrize(
    "content",
    [
        json.dumps([tenant("tenant-a"), tenant("tenant-b")]),
        json.dumps([tenant("tenant-a"), tenant("tenant-b")], indent=2),
        json.dumps(tenant("tenant-a")) + "\n\n" + json.dumps(tenant("tenant-b")) + "\n",
    ],
)
def test_tenants_are_read_from_an_array_or_from_lines(content: str) -> None:
    """An array, pretty-printed or not, and one object a line are the same."""
    assert [t.tenant_id for t in read_tenants(content.encode())] == ["tenant-a", "tenant-b"]


def test_one_object_is_one_tenant() -> None:
    """A pretty-printed object needs no array around it."""
    assert len(read_tenants(json.dumps(tenant(), indent=2).encode())) == 1


def test_every_fault_is_named_with_its_entry_and_field() -> None:
    """All that is wrong is told at once, not one fault a run."""
    found = faults([tenant(tier="gold"), tenant("tenant-b"), tenant("tenant c"), 7])
    assert [fault.split(":")[0] for fault in found] == ["[0] tenant-a", "[2] tenant c", "[3]"]
    assert "tier" in found[0]


def test_a_misspelt_field_is_answered_with_the_nearest() -> None:
    """A tenant is written by a person, so a field that does not exist is an error with a suggestion."""
    [fault] = faults(tenant(retention_day=30))
    assert "did you mean `retention_days`?" in fault


def test_a_misspelt_detector_parameter_is_answered_with_the_nearest() -> None:
    """So are the overrides of detectors, which the record's own types do not check."""
    [fault] = faults(tenant(detectors={"failed_login": {"burst_failure": 3}}))
    assert "did you mean `burst_failures`?" in fault


def test_all_of_ipv4_is_no_network_of_testers() -> None:
    """Also as IPv6 writes it, which the record itself may hold: it was stored before that was understood."""
    times = {"start": "2026-01-05T09:00:00Z", "end": "2026-01-05T17:00:00Z"}
    tests = [times | {"source_networks": [network]} for network in ("::ffff:0.0.0.0/104", "::ffff:0:0/96")]
    [fault] = faults(tenant(planned_tests=tests))
    assert fault.startswith("tenant tenant-a: planned_tests[1]: ::ffff:0:0/96 is wider than IPv4's /8")


def test_a_tenant_that_is_there_twice_is_a_fault() -> None:
    """Which of the two was meant is not for us to guess."""
    assert faults([tenant(), tenant()]) == ["[1] tenant-a: there twice; fix: keep one of them"]


def test_a_broken_line_is_named_by_its_number() -> None:
    """Blank lines count."""
    [fault] = faults(json.dumps(tenant()) + '\n\n{"tenant_id"\n')
    assert fault.startswith("line 3: no JSON: ")


@pytest.mark.parametrize("content", ["", "tenant_id: tenant-a\n", '[\n{"tenant_id":\n'])
def test_a_file_that_is_no_json_is_one_fault(content: str) -> None:
    """Not one for each of its lines."""
    [fault] = faults(content)
    assert "no JSON" in fault


def test_the_template_sets_nothing() -> None:
    """Whoever edits only ids and names has a tenant with every default; `rules apply` keeps the rules."""
    result = CliRunner().invoke(app, ["tenants", "template"])
    [read] = read_tenants(result.stdout.encode())
    names = ("tenant_id", "organization_id", "name")
    defaults = Tenant(**{name: getattr(read, name) for name in names}, personal_data=PersonalData())
    assert read == defaults
    assert json.loads(result.stdout).keys() == type(read).model_fields.keys() - {"rules"}


def test_the_documented_tenant_can_be_applied() -> None:
    """It shows every setting but rules, each with another value than the template's, and none is misspelt."""
    text = (REPOSITORY / "docs" / "tuning.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    [read] = read_tenants(example.encode())
    assert json.loads(example).keys() == type(read).model_fields.keys() - {"rules"}


def invoke(up: Up, *arguments: object) -> Result:
    """Run a command in this process: starting another would take longer than the directory lags."""
    return CliRunner(env=dict(up.env)).invoke(app, [str(argument) for argument in arguments])


def test_applied_tenants_hold_at_once(up: Up, tmp_path: Path) -> None:
    """When `apply` returns, the running worker goes by the new settings, also by changed ones."""
    file = tmp_path / "tenants.json"
    for tier in ("enterprise", "standard", "free"):
        file.write_text(json.dumps([tenant("apply-a", tier=tier), tenant("apply-b", tier=tier)]))
        result = invoke(up, "tenants", "apply", file)
        found = {t["tenant_id"]: t["tier"] for t in up.control("/tenants")}
        assert (found["apply-a"], found["apply-b"]) == (tier, tier)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "applied 2 tenants" in result.stderr


def test_what_is_listed_can_be_applied_again(up: Up) -> None:
    """`list --json` is a back-up that `apply` takes."""
    up.run("tenants", "apply", "-", stdin=json.dumps(tenant("backed-up", region="eu")))
    listed = up.run("tenants", "list", "--json").stdout
    assert "backed-up" in [t.tenant_id for t in read_tenants(listed.encode())]


def test_one_fault_applies_nothing(up: Up) -> None:
    """The good tenants of a bad file are not applied either."""
    content = json.dumps([tenant("half-good"), tenant("half-bad", tier="gold")])
    done = up.run("tenants", "apply", "-", stdin=content)
    assert done.returncode == 1
    assert "error: standard input: [1] half-bad: tier: " in done.stderr
    assert up.run("tenants", "show", "half-good").returncode == 1


def test_a_removed_tenant_is_gone_at_once(up: Up) -> None:
    """`remove --yes` asks nothing, and the running worker knows when it returns."""
    up.run("tenants", "apply", "-", stdin=json.dumps(tenant("leaving")))
    assert invoke(up, "tenants", "remove", "leaving", "--yes").exit_code == 0
    assert up.control("/tenants", tenant_id="leaving") == []


def test_removing_asks_first(up: Up) -> None:
    """Without a yes the tenant stays."""
    up.run("tenants", "apply", "-", stdin=json.dumps(tenant("staying")))
    done = up.run("tenants", "remove", "staying", stdin="n\n")
    assert done.returncode == 1
    assert up.run("tenants", "show", "staying").returncode == 0


def test_an_unknown_tenant_is_answered_with_the_nearest(up: Up) -> None:
    """A misspelt id is not removed in silence."""
    up.run("tenants", "apply", "-", stdin=json.dumps(tenant("customer-17")))
    for command in (["show", "custmer-17"], ["remove", "custmer-17", "--yes"]):
        done = up.run("tenants", *command)
        assert done.returncode == 1
        assert "did you mean customer-17?" in done.stderr


def test_a_tenant_added_a_moment_before_its_first_event_is_known(up: Up) -> None:
    """The topics are read apart from each other; the event is no dead letter for that."""
    producer = Producer({"bootstrap.servers": up.status["kafka"], "partitioner": "murmur2_random"})
    names = [f"newcomer-{i}" for i in range(40)]
    for name in names:
        event = {"kind": "auth", "event_id": "1", "tenant_id": name, "time": "2026-01-01T00:00:00Z"}
        event |= {"service": "login", "action": "login", "outcome": "success"}
        producer.produce("audit.tenants", json.dumps(tenant(name)), name)
        producer.flush()
        producer.produce("audit.auth", json.dumps(event), name)
        producer.flush()

    def dealt_with() -> dict[str, bool]:
        """Whether each one's event is stored; empty while one of them is neither that nor a dead letter."""
        counts = {name: up.control("/counts", tenant_id=name) for name in names}
        letters = {name: up.control("/dead-letters", tenant_id=name) for name in names}
        done = all(counts[name] or letters[name] for name in names)
        return {name: bool(counts[name]) for name in names} if done else {}

    assert eventually(dealt_with) == dict.fromkeys(names, True)
