"""Backups of a ClickHouse server, into another database of it; and what a backup leaves behind."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from store.backups import create as creating
from store.backups.create import create
from store.backups.key_box import lock_keys, unlock_keys
from store.backups.manifest import Backup, BackupError, backups_in, newest
from store.backups.restore import prove, restore, unreadable
from store.database import Database
from store.migrations import migrate
from store.privacy_log import entries, record
from store.queries import TenantContext
from store.refresh_tokens import RefreshToken, RefreshTokens
from store.seals.keys import SealKeys, Signer, Trust, pem
from store.tenant_keys import SUPERSEDED
from store.vault import Subject, Vault
from tests.api_server import MASTERS
from tests.clickhouse_server import ClickHouseServer
from tests.conftest import CommandLine, settings_env
from tests.sealed_trail import NOW, SealedTrail
from tests.stored import store_alert


@pytest.fixture
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Database]]:
    """Two servers: one that is backed up, with its tables, and an empty one."""
    started = [ClickHouseServer(tmp_path_factory.mktemp("server")) for _ in range(2)]
    for server in started:
        server.start()
    first, second = (Database.server(server.url) for server in started)
    migrate(first)
    yield first, second
    for database in (first, second):
        database.close()
    for server in started:
        server.stop()


def test_a_server_is_restored_into_an_empty_database_with_equal_seals(
    servers: tuple[Database, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever pieces the tables were written in."""
    monkeypatch.setattr(creating, "ROWS_AT_ONCE", 25)
    first, second = servers
    trail = SealedTrail(first)
    for _ in range(3):
        trail.store(40)
        trail.store(8, "request", tenant=trail.other)
        trail.seal()
    backup = create(first, tmp_path, trail.signer, NOW)
    assert len(backup.manifest["tables"]["events"]["files"]) > 3
    trust = Trust([trail.signer.public])
    assert restore(second, backup, trust)["events"] == 144
    verdict, differ = prove(second, backup, trust)
    assert (verdict.holds, verdict.rows, differ) == (True, 144, [])
    with pytest.raises(BackupError, match="not empty"):
        restore(second, backup, trust)


def test_alerts_of_many_months_are_restored(servers: tuple[Database, Database], tmp_path: Path) -> None:
    """One file of them has more months than ClickHouse takes at once by default."""
    first, second = servers
    signer = Signer.new()
    for month in range(101):
        store_alert(
            first, "tenant-a", detected_at=datetime(1990 + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        )
    backup = create(first, tmp_path, signer, NOW)
    assert len(backup.manifest["tables"]["alerts"]["files"]) == 1
    assert restore(second, backup, Trust([signer.public]))["alerts"] == 101


def test_a_restored_store_knows_no_sign_in(servers: tuple[Database, Database], tmp_path: Path) -> None:
    """A refresh token that was used or revoked since the backup would be good once more."""
    first, second = servers
    signer, now = Signer.new(), datetime.now(UTC)
    token = RefreshToken("ab" * 32, "family", "user:ana", "tenant-a", "{}", now, now + timedelta(days=30))
    RefreshTokens(first).add(token)
    restore(second, create(first, tmp_path, signer, NOW), Trust([signer.public]))
    assert RefreshTokens(first).find(token.token_hash) is not None
    assert RefreshTokens(second).find(token.token_hash) is None


def test_rounds_that_are_sealed_meanwhile_are_left_out_whole(
    servers: tuple[Database, Database], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenant's seal without its round would look like a fork."""
    first, second = servers
    trail = SealedTrail(first)
    trail.store(10)
    trail.seal()
    heads = creating.heads_of_partitions

    def then_another_round(database: Database) -> object:
        found = heads(database)
        trail.store(5)
        trail.seal()
        return found

    monkeypatch.setattr(creating, "heads_of_partitions", then_another_round)
    backup = create(first, tmp_path, trail.signer, NOW)
    trust = Trust([trail.signer.public])
    restore(second, backup, trust)
    verdict, differ = prove(second, backup, trust)
    assert [finding.kind for finding in verdict.findings] == ["unsealed"]
    assert differ == []


def test_what_was_deleted_is_in_no_file_of_a_backup(
    servers: tuple[Database, Database], tmp_path: Path
) -> None:
    """ClickHouse keeps deleted rows in its parts until they are merged; a backup does not."""
    first, _ = servers
    trail = SealedTrail(first)
    trail.store(5, user_agent="forget-me-agent")
    first.command("DELETE FROM events WHERE user_agent = 'forget-me-agent'")
    trail.store(5)
    backup = create(first, tmp_path, trail.signer, NOW)
    for name, said in backup.files():
        content = (backup.path / name).read_bytes()
        if "bytes" in said:
            content = pa.Codec("zstd").decompress(content, said["bytes"], asbytes=True)
        assert b"forget-me-agent" not in content


@pytest.mark.parametrize("rotated_after", [("tenant_keys",), ("vault",), ("tenant_keys", "vault")])
def test_a_backup_beside_a_rotation_and_a_new_tenant_has_every_key(
    servers: tuple[Database, Database], tmp_path: Path, rotated_after: tuple[str, ...]
) -> None:
    """Those that are made while it is written, and those that are deleted then."""
    first, second = servers
    vault, now = Vault(first, MASTERS), datetime.now(UTC)
    tenants = [TenantContext("tenant-a"), TenantContext("tenant-b")]
    people = [_person(vault, tenant, f"ana@{tenant.tenant_id}.example.com") for tenant in tenants]
    vault.keep(people[:1])
    vault.rotate(now)
    turns = {table: now + (1 + i) * 2 * SUPERSEDED for i, table in enumerate(rotated_after)}

    def meanwhile(table: str, rows: int) -> None:
        if table in turns:
            vault.keep(people)
            vault.rotate(turns.pop(table), "tenant-a")

    signer = Signer.new()
    backup = create(first, tmp_path, signer, NOW, progress=meanwhile)
    restore(second, backup, Trust([signer.public]))
    assert (turns, unreadable(second)) == ({}, 0)
    restored = Vault(second, MASTERS)
    stored = {row["tenant_id"] for row in second.query("SELECT tenant_id FROM vault")}
    assert stored >= {"tenant-a"}
    for person, tenant in zip(people, tenants, strict=True):
        if tenant.tenant_id in stored:
            assert restored.originals(tenant, [person.pseudonym]) == {person.pseudonym: person.original}
    restored.rotate(now)


def _person(vault: Vault, tenant: TenantContext, original: str) -> Subject:
    return Subject(tenant.tenant_id, vault.pseudonym(tenant.tenant_id, original), original, 1)


def test_a_backup_of_a_newer_version_is_refused(database: Database, tmp_path: Path) -> None:
    """Its tables may have columns that this version does not know."""
    backup = create(database, tmp_path, Signer.new(), NOW)
    backup.manifest["migrations"].append("9999_later.sql")
    with pytest.raises(BackupError, match="9999_later"):
        restore(database, backup, None)


def test_a_store_with_rows_is_never_restored_into(database: Database, tmp_path: Path) -> None:
    """It is said which table has them."""
    trail = SealedTrail(database)
    trail.store(1)
    backup = create(database, tmp_path, trail.signer, NOW)
    with pytest.raises(BackupError, match="not empty"):
        restore(database, backup, Trust([trail.signer.public]))


# Who made it.


def forged(backup: Backup, change: Callable[[dict[str, Any]], object]) -> Backup:
    """Return a backup whose manifest somebody changed who has no key; the signature is the old one."""
    manifest = json.loads(json.dumps(backup.manifest))
    change(manifest)
    (backup.path / "manifest.json").write_text(json.dumps(manifest, indent=2))
    return Backup.read(backup.path)


def with_a_key_of_the_platform(backup: Backup) -> Backup:
    """Add an API key with every right, with checksums that are right."""
    row = {"key_id": "k", "name": "mine", "roles": ["platform_admin"], "secret_hash": "0" * 64}
    content = json.dumps(row).encode()
    packed = pa.Codec("zstd").compress(content, asbytes=True)
    file = {"name": "tables/api_keys-00009.native.zstd", "rows": 1, "grew": False, "bytes": len(content)}
    (backup.path / file["name"]).write_bytes(packed)
    added = file | {"sha256": hashlib.sha256(packed).hexdigest()}
    return forged(backup, lambda manifest: manifest["tables"]["api_keys"]["files"].append(added))


@pytest.fixture
def made(database: Database, tmp_path: Path) -> tuple[Backup, Trust]:
    """A backup, and the key that signed it."""
    signer = Signer.new()
    return create(database, tmp_path / "backups", signer, NOW), Trust([signer.public])


def test_a_forged_manifest_is_not_restored(database: Database, made: tuple[Backup, Trust]) -> None:
    """Its checksums are right, and nobody who is believed signed them; before anything is looked at."""
    backup, trust = made
    forgery = with_a_key_of_the_platform(backup)
    assert forgery.damaged() == []
    with pytest.raises(BackupError, match=r"is not what the key .* signed; nothing was restored"):
        restore(database, forgery, trust)


def test_a_manifest_by_an_unknown_key_is_not_restored(database: Database, made: tuple[Backup, Trust]) -> None:
    """It says how the key is named."""
    with pytest.raises(BackupError, match=r"not known here; nothing was restored: .*--key"):
        restore(database, made[0], Trust([Signer.new().public]))


def test_a_manifest_that_was_replaced_after_it_was_read_is_not_believed(made: tuple[Backup, Trust]) -> None:
    """What was read is what must be signed."""
    backup, trust = made
    original = (backup.path / "manifest.json").read_bytes()
    forgery = with_a_key_of_the_platform(backup)
    (backup.path / "manifest.json").write_bytes(original)
    assert (backup.signature_holds(trust), forgery.signature_holds(trust)) == (True, False)


def rename_table(manifest: dict[str, Any]) -> None:
    manifest["tables"]["api_keys; DROP TABLE events"] = manifest["tables"].pop("api_keys")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (rename_table, "no table"),
        (lambda m: m["tables"]["api_keys"]["columns"].append("key_id) SELECT 1 --"), "no column of api_keys"),
        (lambda m: m["tables"]["events"]["files"][0].update(name="../secret"), "no file of events"),
    ],
    ids=["table", "column", "file"],
)
def test_a_name_that_no_store_has_never_becomes_sql(
    servers: tuple[Database, Database],
    tmp_path: Path,
    change: Callable[[dict[str, Any]], object],
    said: str,
) -> None:
    """Not even where the files are believed as they are."""
    first, second = servers
    trail = SealedTrail(first)
    trail.store(1)
    (tmp_path / "secret").write_bytes(b"secret")
    backup = forged(create(first, tmp_path, trail.signer, NOW), change)
    for name, file in backup.files():
        file["sha256"] = hashlib.sha256((backup.path / name).read_bytes()).hexdigest()
    with pytest.raises(BackupError, match=said):
        restore(second, backup, None)
    assert second.query("SELECT count() AS n FROM events")[0]["n"] == 0


def test_rows_of_an_earlier_version_are_migrated_with_their_tables(
    servers: tuple[Database, Database], tmp_path: Path
) -> None:
    """A migration that changes rows finds none when the tables are made."""
    first, second = servers
    record(first, "reveal", "tenant-a", ["Ana Lima"], "officer", "")
    backup = create(first, tmp_path, Signer.new(), NOW)
    backup.manifest["migrations"].remove("0015_privacy_log_pseudonyms.sql")
    restore(second, backup, None)
    assert [row["pseudonyms"] for row in entries(second, TenantContext("tenant-a"))] == [["[hidden]"]]


def test_the_command_restores_nothing_that_it_cannot_prove(
    made: tuple[Backup, Trust], tmp_path: Path
) -> None:
    """Unless it is told to, and then it says so loudly."""
    backup, trust = made
    known, other = tmp_path / "known.pem", tmp_path / "other.pem"
    known.write_text(pem(next(iter(trust.keys.values()))))
    other.write_text(pem(Signer.new().public))
    line = CommandLine(settings_env(tmp_path / "data"))
    restoring = ("backup", "restore", str(backup.path))
    assert "no key is known here" in line.run(*restoring).stderr
    assert "not known here; nothing was restored" in line.run(*restoring, "--key", str(other)).stderr
    with_a_key_of_the_platform(backup)
    for more in ((), ("--unverified",)):
        done = line.run(*restoring, "--key", str(known), *more)
        assert (done.returncode, "is not what the key" in done.stderr) == (1, True)
    assert not (tmp_path / "data" / "clickhouse").exists()
    assert "NOT VERIFIED" in line.run(*restoring, "--unverified").stderr


def test_the_newest_of_several_is_taken(database: Database, tmp_path: Path) -> None:
    """One that was cut short is none."""
    signer = Signer.new()
    made = [create(database, tmp_path, signer, NOW + timedelta(hours=hour)) for hour in (2, 1)]
    assert newest(tmp_path).path == made[0].path
    (made[0].path / "manifest.json").unlink()
    assert [backup.path for backup in backups_in(tmp_path)] == [made[1].path]
    assert made[1].signature_holds(Trust([signer.public])) is True
    assert Backup.read(made[1].path).signature_holds(Trust([Signer.new().public])) is None


def test_a_short_passphrase_locks_no_keys(tmp_path: Path) -> None:
    """It would be guessed from a stolen backup."""
    SealKeys(tmp_path)
    with pytest.raises(BackupError, match="fewer than"):
        lock_keys(tmp_path, "short")


def test_keys_come_back_as_they_were(tmp_path: Path) -> None:
    """And replace none that are there."""
    ring = SealKeys(tmp_path / "keys")
    box = lock_keys(tmp_path / "keys", "a passphrase of some length")
    assert ring.path.read_bytes().splitlines()[1] not in box
    unlock_keys(box, "a passphrase of some length", tmp_path / "again")
    assert SealKeys(tmp_path / "again").signer.key_id == ring.signer.key_id
    with pytest.raises(BackupError, match="not replaced"):
        unlock_keys(box, "a passphrase of some length", tmp_path / "again")
