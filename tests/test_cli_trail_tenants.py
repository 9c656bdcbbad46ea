"""Whose trail `verify` looks at, and in whose trail it says so: misspelt tenants, and such as left."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import CommandLine, Up, eventually, settings_env
from test_cli_trail import send, verified

from tenantwatch.trail_audit import operator


def test_a_misspelt_tenant_is_not_verified(up: Up) -> None:
    """A job that verifies nothing would be green for ever."""
    done = up.run("verify", "--tenant", "trial-a", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no tenant 'trial-a'" in done.stderr


def test_a_new_tenant_of_which_nothing_is_sealed_is_verified(up: Up) -> None:
    """It is in the directory: there is nothing yet that could be wrong."""
    tenant = {"tenant_id": "trail-new", "organization_id": "org", "name": "New"}
    assert up.run("tenants", "apply", "-", stdin=json.dumps(tenant)).returncode == 0
    done = up.run("verify", "--tenant", "trail-new")
    assert (done.returncode, done.stdout.strip()) == (0, "nothing has been sealed yet")


def test_verifying_a_tenant_that_left_makes_no_dead_letter(up: Up) -> None:
    """Its trail takes nothing any more; the platform's does, and where there is none that is told."""
    for tenant in ("trail-left", "trail-platform"):
        send(up, tenant, 3)
    eventually(verified(up, "trail-left", 3))
    assert up.run("tenants", "remove", "trail-left", "--yes").returncode == 0
    done = up.run("verify", "--tenant", "trail-left")
    assert done.returncode == 0, done.stderr
    assert "this is not in the trail: trail-left is not in the directory" in " ".join(done.stderr.split())
    assert "TENANTWATCH_PLATFORM_TENANT" in done.stderr

    here = CommandLine({**up.env, "TENANTWATCH_PLATFORM_TENANT": "trail-platform"})
    assert here.json("verify", "--tenant", "trail-left")["audited"] is True

    def told() -> bool:
        done = up.run("privacy", "export", "--tenant", "trail-platform", "--subject", operator())
        found = [one for one in map(json.loads, done.stdout.splitlines()) if one["type"] == "event"]
        return ("verify", "trail-left") in [
            (one["action"], (one.get("attributes") or {}).get("of_tenant_id")) for one in found
        ]

    eventually(told)
    assert up.control("/dead-letters", tenant_id="trail-left") == []


def test_each_tenant_that_was_verified_is_told(
    invoke: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are."""
    rows = {f"many-{i}": i for i in range(10_001)}
    verdict = {"rows_by_tenant": rows, "holds": True, "findings": []}
    counts = dict.fromkeys(("rows", "seals", "chains", "tenants"), 0)
    monkeypatch.setattr("tenantwatch.control.Control.request", lambda *_, **__: verdict | counts)
    told: list[Any] = []
    monkeypatch.setattr("tenantwatch.commands.verify.audit_reading", lambda _, events: told.extend(events))
    assert invoke("verify").exit_code == 0
    assert {one["tenant_id"]: one["record_count"] for one in told} == rows


def test_verifying_without_a_worker_says_that_it_was_not_audited(tmp_path: Path) -> None:
    """There is no Kafka to tell."""
    (tmp_path / "data").mkdir()
    done = CommandLine(settings_env(tmp_path / "data")).run("verify", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["holds"], found["seals"]) == (0, True, 0)
