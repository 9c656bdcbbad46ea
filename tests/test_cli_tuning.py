"""`tuning`: showing what holds, and changing it beside a running worker."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from conftest import Up, eventually
from typer.testing import CliRunner, Result

from schemas.tuning import Tuning
from store.database import Database
from streams.tenant_rows import tuning_row
from tenantwatch.cli import app
from tests.schema_examples import encode, event

Invoke = Callable[..., Result]


def tenant(tenant_id: str, **fields: Any) -> dict[str, Any]:
    return {"tenant_id": tenant_id, "organization_id": "org-a", "name": "A"} | fields


@pytest.fixture
def stored(database: Database) -> Iterator[str]:
    """A tenant with an override of its own, where the operator has overrides too."""
    body = tenant("tuning-a", tier="enterprise", detectors={"rate_breach": {"high_ratio": 3}})
    database.insert_rows(
        "tenants",
        [{"tenant_id": "tuning-a", "version": 1, "body": json.dumps(body), "applied_at": datetime.now(UTC)}],
    )
    quiet = Tuning(detectors={"failed_login": {"quiet_s": 600}})
    tier = Tuning(
        **quiet.model_dump(exclude={"tiers"}), tiers={"enterprise": {"rate_breach": {"medium_ratio": 1.5}}}
    )
    # The first was another Kafka's, whose offsets had come further.
    database.insert_rows("tuning", [tuning_row(quiet, 90)])
    database.insert_rows("tuning", [tuning_row(tier, 3)])
    yield "tuning-a"
    database.command("DELETE FROM tenants WHERE tenant_id = 'tuning-a'")
    database.command("TRUNCATE TABLE tuning")


def test_a_tenants_parameters_are_shown_with_who_set_them(invoke: Invoke, stored: str) -> None:
    """Each parameter of each detector, as JSON with its range and what it is for."""
    found = {
        (row["detector"], row["parameter"]): row
        for row in json.loads(invoke("tuning", "show", stored, "--json").stdout)
    }
    assert found["failed_login", "quiet_s"].items() >= {"value": 600, "source": "global", "low": 60}.items()
    assert found["rate_breach", "medium_ratio"]["source"] == "tier"
    assert found["rate_breach", "high_ratio"]["source"] == "tenant"
    assert found["failed_login", "new_users"]["source"] == "built-in tier"
    assert found["budget", "false_alarms_per_week"]["source"] == "default"


def test_the_table_has_a_row_for_each_parameter(invoke: Invoke, stored: str) -> None:
    """The same for people."""
    rows = invoke("tuning", "show", stored).stdout.splitlines()
    [row] = [row for row in rows if " quiet_s " in row and row.startswith("failed_login")]
    assert row.split()[2:4] == ["600", "global"]
    assert "60 to 86,400" in row


def test_what_was_set_is_shown_by_layer(invoke: Invoke, stored: str) -> None:
    """Without a tenant: the operator's overrides and every tenant's."""
    found = json.loads(invoke("tuning", "show", "--json").stdout)
    assert found["global"] == {"failed_login": {"quiet_s": 600}}
    assert found["tiers"] == {"enterprise": {"rate_breach": {"medium_ratio": 1.5}}}
    assert found["tenants"][stored] == {"rate_breach": {"high_ratio": 3}}
    assert "tier enterprise  rate_breach.medium_ratio=1.5" in invoke("tuning", "show").stdout


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["set", "--global", "failed_login.burst_failure=3"], "did you mean `burst_failures`?"),
        (["set", "failed_login.burst_failures=3"], "--global, --tier, --tenant"),
        (["set", "--global", "--tenant", "a", "failed_login.burst_failures=3"], "--global, --tier, --tenant"),
        (["set", "--tier", "gold", "failed_login.burst_failures=3"], "enterprise"),
        (["unset", "--global", "failed_login"], "write detector.parameter"),
    ],
)
def test_what_cannot_be_meant_is_misuse(invoke: Invoke, arguments: list[str], answer: str) -> None:
    """Nothing is sent; exit code 2."""
    done = invoke("tuning", *arguments, env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert answer in done.stderr


def beside(up: Up, *arguments: str) -> Result:
    """Run a command beside the worker, in this process: starting another would take longer."""
    return CliRunner(env=dict(up.env)).invoke(app, list(arguments))


def denied(tenant_id: str, name: str) -> bytes:
    """Three denied accesses of one user."""
    return b"".join(
        encode(
            event(
                "access", event_id=f"{name}-{i}", tenant_id=tenant_id, time=f"2026-01-31T09:00:0{i}Z",
                user_id=name, outcome="failure",
            )
        )
        + b"\n"
        for i in range(3)
    )  # fmt: skip


def alerted(up: Up, tenant_id: str, name: str, events: int) -> bool:
    """Send, wait until it is stored, and return whether the user was alerted on."""
    assert up.run("replay", "-", stdin=denied(tenant_id, name)).returncode == 0
    eventually(lambda: sum(row["events"] for row in up.control("/counts", tenant_id=tenant_id)) == events)
    return name in {alert["entity"]["value"] for alert in up.control("/alerts", tenant_id=tenant_id)}


def test_a_tiers_override_holds_for_the_next_event(up: Up) -> None:
    """When `set` returns the running worker goes by it, as it does when `unset` returns."""
    tiers = json.dumps([tenant("tier-a", tier="enterprise"), tenant("tier-b", tier="standard")])
    assert up.run("tenants", "apply", "-", stdin=tiers).returncode == 0
    assert not alerted(up, "tier-a", "ana", 3)
    set_ = beside(up, "tuning", "set", "--tier", "enterprise", "access_anomaly.denied=1")
    assert (set_.exit_code, set_.stdout) == (0, "")
    assert alerted(up, "tier-a", "ben", 6)
    assert not alerted(up, "tier-b", "ana", 3)
    assert beside(up, "tuning", "unset", "--tier", "enterprise", "access_anomaly.denied").exit_code == 0
    assert not alerted(up, "tier-a", "cleo", 9)
    assert up.json("tuning", "show")["tiers"] == {}


def test_everybodys_and_a_tenants_override_are_set_apart(up: Up) -> None:
    """The operator's record and the tenant's are two; taking one back leaves the other."""
    up.run("tenants", "apply", "-", stdin=json.dumps(tenant("set-a")))
    try:
        assert beside(up, "tuning", "set", "--global", "failed_login.known_days=91").exit_code == 0
        assert beside(up, "tuning", "set", "--tenant", "set-a", "failed_login.known_days=92").exit_code == 0
        source = {row["parameter"]: row["source"] for row in up.json("tuning", "show", "set-a")}
        assert source["known_days"] == "tenant"
        beside(up, "tuning", "unset", "--tenant", "set-a", "failed_login.known_days")
        [known_days] = [r for r in up.json("tuning", "show", "set-a") if r["parameter"] == "known_days"]
        assert (known_days["value"], known_days["source"]) == (91, "global")
    finally:
        beside(up, "tuning", "unset", "--global", "failed_login.known_days")


def test_what_is_not_set_cannot_be_unset(up: Up) -> None:
    """A misspelt name is not taken back in silence."""
    done = beside(up, "tuning", "unset", "--global", "failed_login.known_days")
    assert done.exit_code == 1
    assert "failed_login.known_days is not set there" in done.stderr


def test_the_operators_record_is_no_tenant(up: Up) -> None:
    """It is not listed, cannot be removed as one, and no event can belong to it."""
    beside(up, "tuning", "set", "--global", "failed_login.known_days=91")
    try:
        assert "*" not in {one["tenant_id"] for one in up.json("tenants", "list")}
        assert beside(up, "tenants", "remove", "*", "--yes").exit_code == 1
    finally:
        beside(up, "tuning", "unset", "--global", "failed_login.known_days")
