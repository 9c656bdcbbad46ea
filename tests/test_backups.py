"""Backups of a ClickHouse server, into another database of it; and what a backup leaves behind."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from store.backups import create as creating
from store.backups.create import create
from store.backups.key_box import lock_keys, unlock_keys
from store.backups.manifest import Backup, BackupError, backups_in, newest
from store.backups.restore import prove, restore
from store.database import Database
from store.migrations import migrate
from store.seals.keys import SealKeys, Signer, Trust
from tests.clickhouse_server import ClickHouseServer
from tests.sealed_trail import NOW, SealedTrail


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
    assert restore(second, backup)["events"] == 144
    verdict, differ = prove(second, backup, Trust([trail.signer.public]))
    assert (verdict.holds, verdict.rows, differ) == (True, 144, [])
    with pytest.raises(BackupError, match="not empty"):
        restore(second, backup)


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
    restore(second, backup)
    verdict, differ = prove(second, backup, Trust([trail.signer.public]))
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


def test_a_backup_of_a_newer_version_is_refused(database: Database, tmp_path: Path) -> None:
    """Its tables may have columns that this version does not know."""
    backup = create(database, tmp_path, Signer.new(), NOW)
    backup.manifest["migrations"].append("9999_later.sql")
    with pytest.raises(BackupError, match="9999_later"):
        restore(database, backup)


def test_a_store_with_rows_is_never_restored_into(database: Database, tmp_path: Path) -> None:
    """It is said which table has them."""
    trail = SealedTrail(database)
    trail.store(1)
    backup = create(database, tmp_path, trail.signer, NOW)
    with pytest.raises(BackupError, match="not empty"):
        restore(database, backup)


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
