"""`privacy` beside a running worker: what came by Kafka is pseudonyms in the store, and can be forgotten."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from conftest import CommandLine, Up, eventually, settings_env
from schema_examples import Json, encode, event
from test_cli_dead_letters import add_tenant, stored
from typer.testing import Result

from schemas.personal import is_pseudonym
from store.database import Database
from store.master_key import read_key_file
from store.queries import TenantContext
from store.vault import Subject, Vault
from tenantwatch.settings import Settings
from tenantwatch.trail_audit import operator
from tenantwatch.vault import open_vault
from tests.files import files_holding
from tests.stored import store_events
from tests.test_vault import MASTERS

START = datetime(2026, 1, 31, 9, tzinfo=UTC)
# So that no byte of them can be anywhere by chance.
MARK = f"zq{uuid4().hex[:10]}"
PEOPLE = [f"{MARK}-{i}@example.com" for i in range(40)]
TENANT = "privacy-a"


def failures(tenant_id: str) -> list[Json]:
    """A burst of failed logins of many people at one address, and one that cannot be stored."""
    events = [
        event(
            event_id=f"f-{i}",
            tenant_id=tenant_id,
            time=(START + timedelta(seconds=i)).isoformat(),
            user_id=who,
            source_ip="192.0.2.7",
            outcome="failure",
            reason="bad_password",
            attributes={"mail": who},
        )
        for i, who in enumerate(PEOPLE)
    ]
    one = [
        event(event_id=f"o-{i}", tenant_id=tenant_id, time=(START + timedelta(seconds=300 + i)).isoformat(),
              user_id=PEOPLE[0], source_ip=f"192.0.2.{9 + i % 3}", outcome="failure", reason="bad_password")
        for i in range(60)
    ]  # fmt: skip
    bad = event(event_id="bad", tenant_id=tenant_id, user_id=PEOPLE[0] * 20, action=f"by {PEOPLE[0]}")
    return [*events, *one, bad]


@pytest.fixture(scope="module")
def trail(up: Up) -> Up:
    """A worker that has handled the attack."""
    add_tenant(up, TENANT)
    assert up.run("replay", "-", stdin=b"\n".join(map(encode, failures(TENANT)))).returncode == 0
    eventually(lambda: stored(up, TENANT) == 100)
    eventually(lambda: up.control("/alerts", tenant_id=TENANT))
    eventually(lambda: up.control("/dead-letters", tenant_id=TENANT))
    return up


def exported(up: Up, who: str, tenant_id: str = TENANT) -> list[Any]:
    done = up.run("privacy", "export", "--tenant", tenant_id, "--subject", who, "--reason", "test")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def files_with(folder: Path, text: str) -> list[Path]:
    return files_holding(folder, text.encode())


def alert_about(up: Up, who: str) -> Any:
    [pseudonym] = exported(up, who)[0]["pseudonyms"]
    alerts = up.control("/alerts", tenant_id=TENANT)
    return next(one for one in alerts if one["entity"]["value"] == pseudonym)


def test_nothing_of_a_person_is_in_the_store_or_the_log(trail: Up) -> None:
    """Events, alerts, dead letters, snapshots and whatever else the engine wrote: pseudonyms only."""
    assert files_with(trail.data_dir / "clickhouse", MARK) == []
    assert MARK not in trail.log_path.read_text()
    [letter] = trail.control("/dead-letters", tenant_id=TENANT)
    assert "user_id: string should have at most 256 characters, found a string of" in letter["detail"]
    assert "[hidden]" in letter["detail"]
    assert MARK not in json.dumps(trail.control("/alerts", tenant_id=TENANT))
    # The raw messages are in Kafka until it forgets them by itself; the certificate says when.
    assert files_with(trail.data_dir / "kafka", MARK) != []


def test_a_dead_letter_is_shown_masked(trail: Up) -> None:
    """Its message in Kafka holds the original: --reveal and --raw show it, and that is noted."""
    [letter] = trail.control("/dead-letters", tenant_id=TENANT)
    place = ":".join(str(letter[name]) for name in ("kafka_topic", "kafka_partition", "kafka_offset"))
    shown = trail.run("dead-letters", "show", place)
    assert shown.returncode == 0, shown.stderr
    assert MARK not in shown.stdout + json.dumps(trail.json("dead-letters", "show", place))
    for option in ("--reveal", "--raw"):
        assert MARK in trail.run("dead-letters", "show", place, option).stdout
        noted = trail.json("privacy", "report", "--tenant", TENANT)["noted"]
        assert (noted[0]["action"], noted[0]["reason"]) == ("reveal", f"dead letter {place}")


def test_a_person_is_exported_whole(trail: Up) -> None:
    """By the original: their events and alerts, with the original in the place of the pseudonym."""
    head, *found = exported(trail, PEOPLE[0].upper())
    [(pseudonym, original)] = head["pseudonyms"].items()
    assert is_pseudonym(pseudonym)
    assert original == PEOPLE[0]
    events = [one for one in found if one["type"] == "event"]
    assert len(events) == 61
    assert {one["user_id"] for one in events} == {PEOPLE[0]}
    assert any(one["type"] == "alert" and one["entity"]["value"] == PEOPLE[0] for one in found)


def test_an_export_to_a_file_is_readable_by_its_owner_only(trail: Up, tmp_path: Path) -> None:
    """And does not write over another file."""
    out = tmp_path / "person.ndjson"
    arguments = ("privacy", "export", "--tenant", TENANT, "--subject", PEOPLE[1], "--out", str(out))
    assert trail.run(*arguments).returncode == 0
    assert out.stat().st_mode & 0o777 == 0o600
    assert trail.run(*arguments).returncode == 1


def test_an_alert_is_shown_with_masked_people(trail: Up) -> None:
    """In full only with --reveal, which is noted and comes back as an event of the tenant's."""
    alert_id = alert_about(trail, PEOPLE[0])["alert_id"]
    shown = trail.run("alerts", "show", alert_id).stdout
    assert "z***@example.com" in shown
    assert MARK not in shown
    assert "z***@example.com" in trail.run("explain", alert_id).stdout
    assert PEOPLE[0] in trail.run("alerts", "show", alert_id, "--reveal").stdout
    noted = trail.json("privacy", "report", "--tenant", TENANT)["noted"]
    assert (noted[0]["action"], noted[0]["people"]) == ("reveal", 1)
    assert "command line" in noted[0]["actor"]
    eventually(lambda: "reveal" in {one["action"] for one in read_by(trail, noted[0]["actor"])})


def read_by(up: Up, who: str) -> list[Any]:
    """Return the access events of the tenant's trail by somebody at the terminal."""
    return [one for one in exported(up, who) if one["type"] == "event" and one["service"] == "tenantwatch"]


def test_whoever_reads_people_or_their_history_is_in_the_trail(trail: Up) -> None:
    """Exporting a person, and what reads a tenant's stored events: with what it was about, and how much."""
    alert_id = alert_about(trail, PEOPLE[0])["alert_id"]
    [pseudonym] = exported(trail, PEOPLE[0])[0]["pseudonyms"]
    span = ("--tenant", TENANT, "--from", "2026-01-31", "--to", "2026-02-01")
    for command in (
        ("explain", alert_id),
        ("why-not", "--user", PEOPLE[0], *span),
        ("backtest", *span),
    ):
        assert trail.run(*command).returncode == 0
    expected = {
        ("export", "person", pseudonym, "pii:read"),
        ("explain", "alert", alert_id, "trail:read"),
        ("why-not", "person", pseudonym, "trail:read"),
        ("backtest", "trail", "trail", "trail:read"),
    }

    def told() -> bool:
        names = ("action", "resource_type", "resource_id", "permission")
        found = read_by(trail, operator())
        return expected <= {tuple(one[name] for name in names) for one in found if one["record_count"]}

    eventually(told)


def test_why_not_is_asked_by_the_original(trail: Up) -> None:
    """The question is pseudonymised, so it finds the events."""
    done = trail.run(
        "why-not", "--user", PEOPLE[3], "--tenant", TENANT, "--from", "2026-01-31", "--to", "2026-02-01"
    )
    assert done.returncode == 0, done.stderr
    assert "1 auth" in done.stderr


def test_keys_are_rotated_and_nothing_else_changes(trail: Up) -> None:
    """Tenants' keys and the master key in its file; originals can be read as before."""
    key_path = Settings(data_dir=trail.data_dir).key_path
    before = read_key_file(key_path).current.key_id
    done = trail.json("privacy", "rotate-keys", "--master", "--reason", "test")
    assert done["subject_keys_rewrapped"] >= len(PEOPLE)
    after = read_key_file(key_path)
    assert (after.current.key_id != before, list(after.earlier)) == (True, [])
    assert exported(trail, PEOPLE[2])[0]["pseudonyms"].popitem()[1] == PEOPLE[2]


def test_a_held_person_is_not_forgotten(trail: Up) -> None:
    """The refusal names the hold; once it is released, they are."""
    who = ("--tenant", TENANT, "--subject", PEOPLE[9])
    hold_id = trail.run("privacy", "hold", *who, "--reason", "case 4").stdout.strip()
    refused = trail.run("privacy", "forget", *who, "--yes")
    assert (refused.returncode, hold_id in refused.stderr) == (1, True)
    assert [one["hold_id"] for one in trail.json("privacy", "holds")] == [hold_id]
    assert trail.run("privacy", "release", "--tenant", TENANT, "nonsense").returncode == 1
    assert trail.run("privacy", "release", "--tenant", TENANT, hold_id).returncode == 0
    assert trail.run("privacy", "forget", *who, "--yes").returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ("hold", "--reason", "case 5"),
        ("export", "--subject", PEOPLE[0]),
        ("forget", "--subject", PEOPLE[0], "--yes"),
    ],
)
def test_a_misspelt_tenant_is_refused(trail: Up, command: tuple[str, ...]) -> None:
    """A hold on it would protect nothing, and a certificate would say that somebody is forgotten."""
    before = trail.json("privacy", "report")["noted"]
    done = trail.run("privacy", *command, "--tenant", "privcay-a")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no tenant 'privcay-a'" in done.stderr
    assert "`tenantwatch tenants list`" in done.stderr
    assert trail.json("privacy", "report")["noted"] == before


def test_a_user_without_a_name_may_ask(
    invoke: Callable[..., Result], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers run as a number that no file of users has."""
    monkeypatch.setattr("os.getuid", lambda: 54_321)
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    masters = Vault(database, MASTERS).keys.masters
    monkeypatch.setattr("tenantwatch.vault.load_master_keys", lambda settings, create: masters)
    tenant_id = f"nameless-{uuid4().hex[:8]}"
    store_events(database, event(tenant_id=tenant_id))
    done = invoke("privacy", "hold", "--tenant", tenant_id, "--reason", "case 7")
    assert done.exit_code == 0, done.exception
    [held] = json.loads(invoke("privacy", "holds", "--tenant", tenant_id, "--json").stdout)
    assert held["placed_by"] == "uid-54321 (command line)"


def test_somebody_whom_nobody_met_is_told_before_they_are_forgotten(trail: Up) -> None:
    """By name, among others who were met; a certificate of nobody looks like any other."""
    who = ("--subject", PEOPLE[31], "--subject", "jnae@example.com")
    done = trail.run("privacy", "forget", "--tenant", TENANT, *who, stdin="n\n")
    assert done.returncode == 1
    assert f"nothing of {TENANT} speaks of jnae@example.com: look for a misspelling" in done.stderr


def test_a_forgotten_person_is_gone_and_can_come_back(trail: Up) -> None:
    """The certificate asked Kafka; old messages bring nobody back, a new event makes them known anew."""
    who, other = PEOPLE[20], PEOPLE[21]
    told = trail.json(
        "privacy", "forget", "--tenant", TENANT, "--subject", who, "--reason", "art. 17", "--yes"
    )
    [pseudonym] = told["pseudonyms"]
    assert told["removed"]["rows"] == {"vault": 1}
    assert told["kept"]["rows"]["events"] == 1
    topics = told["kafka"]["topics"]
    assert set(topics) == {"audit.auth", "audit.access", "audit.request", "audit.dead-letters"}
    assert all(topic["retention_ms"] == 7 * 86_400_000 for topic in topics.values())
    assert trail.json("privacy", "certificate", told["certificate_id"]) == told
    head, *found = exported(trail, who)
    assert head["pseudonyms"] == {pseudonym: None}
    assert found[0]["user_id"] == pseudonym
    assert exported(trail, other)[0]["pseudonyms"].popitem()[1] == other

    back = event(event_id="back", tenant_id=TENANT, time="2026-02-03T09:00:00Z", user_id=who)
    assert trail.run("replay", "-", stdin=encode(back)).returncode == 0
    eventually(lambda: exported(trail, who)[0]["pseudonyms"] == {pseudonym: who})


def test_a_certificate_is_verified_with_the_public_key_alone(trail: Up, tmp_path: Path) -> None:
    """On a machine that has nothing else; a word that was changed is told."""
    who = ("--tenant", TENANT, "--subject", PEOPLE[25], "--yes")
    told = trail.json("privacy", "forget", *who)
    key, file, changed = (tmp_path / name for name in ("public.pem", "certificate.json", "changed.json"))
    key.write_text(trail.json("seals", "key")["public_key"])
    file.write_text(trail.run("privacy", "certificate", told["certificate_id"], "--json").stdout)
    changed.write_text(file.read_text().replace(told["tenant_id"], "another"))
    elsewhere = CommandLine(settings_env(tmp_path / "nowhere"))
    found = elsewhere.json("privacy", "verify-certificate", str(file), "--key", str(key))
    assert found == {"certificate_id": told["certificate_id"], "holds": True, "problem": None}
    done = elsewhere.run("privacy", "verify-certificate", str(changed), "--key", str(key))
    assert (done.returncode, "proves nothing" in done.stdout) == (1, True)
    assert elsewhere.run("privacy", "verify-certificate", str(key), "--key", str(key)).returncode == 1


def test_forgetting_asks_first(trail: Up) -> None:
    """Because it cannot be undone."""
    done = trail.run("privacy", "forget", "--tenant", TENANT, "--subject", PEOPLE[30], stdin="n\n")
    assert done.returncode == 1
    assert exported(trail, PEOPLE[30])[0]["pseudonyms"].popitem()[1] == PEOPLE[30]


def test_without_a_worker_the_commands_open_the_vault_themselves(
    invoke: Callable[..., Result], database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the key that is in the data directory."""
    masters = Vault(database, MASTERS).keys.masters
    monkeypatch.setattr("tenantwatch.vault.load_master_keys", lambda settings, create: masters)
    tenant_id = f"alone-{uuid4().hex[:8]}"
    vault = open_vault(Settings(data_dir=tmp_path), database)
    pseudonym = vault.pseudonym(tenant_id, "jane@example.com")
    vault.keep([Subject(tenant_id, pseudonym, "jane@example.com", 1)])
    done = invoke("privacy", "reveal", "--tenant", tenant_id, "--subject", pseudonym)
    assert "jane@example.com" in done.stdout
    done = invoke("privacy", "forget", "--tenant", tenant_id, "--subject", "jane@example.com", "--yes")
    assert re.search(r"removed +1 in vault", done.stdout), done.stdout
    assert done.stderr.count(f"{tenant_id} is not in the directory any more") == 1
    assert "Kafka could not be asked" in done.stdout
    assert vault.masked(TenantContext(tenant_id), [pseudonym]) == {}
    assert pseudonym in invoke("privacy", "certificate", "--tenant", tenant_id, "--json").stdout
    assert "jane" not in invoke("privacy", "report", "--tenant", tenant_id).stdout


def test_a_tenant_that_left_the_directory_can_be_held(
    invoke: Callable[..., Result], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows are there until they age out, which a hold keeps them from; that it left is told."""
    masters = Vault(database, MASTERS).keys.masters
    monkeypatch.setattr("tenantwatch.vault.load_master_keys", lambda settings, create: masters)
    tenant_id = f"left-{uuid4().hex[:8]}"
    store_events(database, event(tenant_id=tenant_id))
    done = invoke("privacy", "hold", "--tenant", tenant_id, "--reason", "case 6")
    assert done.exit_code == 0
    assert f"{tenant_id} is not in the directory any more" in done.stderr
    assert f"all of {tenant_id} is held" in done.stderr
