"""The vault: originals under a key of each person's own, on the embedded engine and on a server."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest

from store.database import Database, StoreUnavailable
from store.master_key import (
    KEY_BYTES,
    LocalMasterKey,
    MasterKeyError,
    MasterKeys,
    add_key,
    create_key_file,
    drop_earlier_keys,
    new_secret,
    parse_keys,
    read_key_file,
    seal,
    unseal,
)
from store.migrations import migrate
from store.privacy_log import entries
from store.queries import TenantContext
from store.tenant_keys import SUPERSEDED
from store.vault import Subject, Vault
from tenantwatch.settings import Settings
from tenantwatch.vault import load_master_keys, open_vault
from tests.api_server import MASTERS
from tests.clickhouse_server import ClickHouseServer

EMAIL = "jane@example.com"


@pytest.fixture(params=["embedded", "server"])
def store(request: pytest.FixtureRequest) -> Database:
    """Either engine: tests keep apart by tenant."""
    database: Database = request.getfixturevalue("database" if request.param == "embedded" else "server")
    return database


@pytest.fixture
def tenant() -> TenantContext:
    return TenantContext(f"tenant-{uuid4().hex[:8]}")


@contextmanager
def own_store(folder: Path, connections: int = 1) -> Iterator[tuple[Database, ...]]:
    """A server that has no keys yet."""
    server = ClickHouseServer(folder / "server")
    url = server.start()
    opened = tuple(Database.server(url) for _ in range(connections))
    try:
        migrate(opened[0])
        yield opened
    finally:
        for database in opened:
            database.close()
        server.stop()


def now_ms() -> int:
    return int(time.time() * 1000)


def person(vault: Vault, tenant: TenantContext, original: str = EMAIL, seen_ms: int = 0) -> Subject:
    return Subject(
        tenant.tenant_id, vault.pseudonym(tenant.tenant_id, original), original, seen_ms or now_ms()
    )


def rows(database: Database, tenant: TenantContext, what: str = "count() AS n") -> Any:
    [row] = database.query(
        f"SELECT {what} FROM vault WHERE tenant_id = {{t:String}}", {"t": tenant.tenant_id}
    )
    return row["n"]


def reveal(vault: Vault, tenant: TenantContext, *pseudonyms: str) -> list[str]:
    found = vault.reveal(tenant, pseudonyms, actor="auditor", reason="test")
    return [found[pseudonym] for pseudonym in pseudonyms if pseudonym in found]


def test_what_is_kept_can_be_revealed(store: Database, tenant: TenantContext) -> None:
    """The original comes back as it was written, after a restart too, and masked it shows little."""
    vault = Vault(store, MASTERS)
    jane = person(vault, tenant, "Jane@Example.com")
    assert vault.keep([jane]) == []
    again = Vault(store, MASTERS)
    assert again.pseudonym(tenant.tenant_id, EMAIL) == jane.pseudonym
    assert reveal(again, tenant, jane.pseudonym) == ["Jane@Example.com"]
    assert again.masked(tenant, [jane.pseudonym, "ana"]) == {jane.pseudonym: "J***@Example.com"}


def test_a_tenant_cannot_reveal_anothers(store: Database, tenant: TenantContext) -> None:
    """Not by asking, and not by a row that somebody copied into its vault."""
    vault, other = Vault(store, MASTERS), TenantContext(f"other-{uuid4().hex[:8]}")
    jane = person(vault, tenant)
    vault.keep([jane, person(vault, other, "ben@example.com")])
    assert reveal(vault, other, jane.pseudonym) == []
    assert vault.masked(other, [jane.pseudonym]) == {}
    own_key = vault.keys.of([other.tenant_id])[other.tenant_id][0].key_id
    store.command(
        "INSERT INTO vault SELECT {other:String}, pseudonym, {key:String}, wrapped_key, original, stored_at "
        "FROM vault WHERE tenant_id = {t:String}",
        {"other": other.tenant_id, "key": own_key, "t": tenant.tenant_id},
    )
    with pytest.raises(MasterKeyError, match="sealed with another key, or for another row"):
        reveal(vault, other, jane.pseudonym)


def test_a_person_is_stored_once(store: Database, tenant: TenantContext) -> None:
    """However often they come, from however many workers and after each restart."""
    workers = [Vault(store, MASTERS) for _ in range(2)]
    people = [person(workers[0], tenant, f"u{i}@example.com") for i in range(50)]
    threads = [threading.Thread(target=worker.keep, args=(people,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Vault(store, MASTERS).keep(people)
    assert rows(store, tenant, "uniqExact(pseudonym) AS n") == 50
    # Two at once may both have found nothing; their rows are as good as each other and are merged.
    assert rows(store, tenant) <= 100
    store.command("OPTIMIZE TABLE vault FINAL")
    assert rows(store, tenant) == 50
    assert len(reveal(workers[1], tenant, *(one.pseudonym for one in people))) == 50


def test_workers_that_start_at_once_make_the_same_pseudonyms(tmp_path: Path) -> None:
    """In a store without a root, one root wins."""
    made = list[str]()
    with own_store(tmp_path, connections=4) as opened:
        barrier = threading.Barrier(len(opened))

        def start(database: Database) -> None:
            barrier.wait()
            made.append(Vault(database, MASTERS).pseudonym("tenant-a", EMAIL))

        threads = [threading.Thread(target=start, args=(database,)) for database in opened]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == len(opened)
        assert len(set(made)) == 1
        assert opened[0].query("SELECT count() AS n FROM tenant_keys")[0]["n"] == 1


def test_a_reveal_is_noted_before_it_is_answered(store: Database, tenant: TenantContext) -> None:
    """Who, whom and why; where that cannot be noted, nothing is revealed."""
    vault = Vault(store, MASTERS)
    jane = person(vault, tenant)
    vault.keep([jane])
    told: list[Any] = []
    vault.on_reveal.append(lambda *what: told.append(what))
    reveal(vault, tenant, jane.pseudonym)
    [noted] = entries(store, tenant)
    assert (noted["action"], noted["actor"], noted["reason"]) == ("reveal", "auditor", "test")
    assert noted["pseudonyms"] == [jane.pseudonym]
    assert told == [(tenant.tenant_id, [jane.pseudonym], "auditor", "test")]
    with (
        patch("store.vault.record", side_effect=OSError("disk full")),
        patch.object(vault, "originals") as opened,
        pytest.raises(OSError, match="disk full"),
    ):
        reveal(vault, tenant, jane.pseudonym)
    opened.assert_not_called()


def test_who_is_revealed_by_the_original_is_noted_and_told_by_the_pseudonym(
    store: Database, tenant: TenantContext
) -> None:
    """What is noted stays when they are forgotten; a name or a number has no form that gives it away."""
    vault = Vault(store, MASTERS)
    people = [person(vault, tenant, said) for said in (EMAIL, "Ana Lima", "987-65-4321")]
    vault.keep(people)
    told: list[Any] = []
    vault.on_reveal.append(lambda *what: told.append(what))
    found = vault.reveal(tenant, [one.original for one in people], actor="auditor", reason="test")
    assert found == {one.pseudonym: one.original for one in people}
    [noted] = entries(store, tenant)
    assert noted["pseudonyms"] == told[0][1] == sorted(found)


# Forgetting.


def test_a_forgotten_person_is_gone_and_others_stay(store: Database, tenant: TenantContext) -> None:
    """Their row is deleted, in every copy."""
    vault = Vault(store, MASTERS)
    jane, ben = person(vault, tenant), person(vault, tenant, "ben@example.com")
    vault.keep([jane, ben])
    vault._insert(vault._sealed([jane]))  # as a second worker's at the same moment
    assert vault.shred(tenant.tenant_id, [jane.pseudonym], "c", datetime.now(UTC)) == {"vault": 1}
    assert reveal(vault, tenant, jane.pseudonym, ben.pseudonym) == ["ben@example.com"]


def test_old_events_do_not_bring_a_forgotten_person_back(store: Database, tenant: TenantContext) -> None:
    """Nor do those that a worker still has in hand, or that Kafka delivers again; new ones do."""
    mine, other = Vault(store, MASTERS), Vault(store, MASTERS)
    jane = person(mine, tenant)
    mine.keep([jane])
    other.newly_shredded()
    mine.shred(tenant.tenant_id, [jane.pseudonym], "c", datetime.now(UTC))
    assert [tuple(who) for who in other.keep([jane])] == [(tenant.tenant_id, jane.pseudonym)]
    assert rows(store, tenant) == 0
    assert [who.pseudonym for who in other.newly_shredded() if who.tenant_id == tenant.tenant_id] == [
        jane.pseudonym
    ]
    later = jane._replace(seen_ms=now_ms() + 1)
    assert other.keep([later]) == []
    assert reveal(mine, tenant, jane.pseudonym) == [EMAIL]


def test_a_worker_that_looked_before_the_forgetting_is_refused(
    server: Database, tenant: TenantContext
) -> None:
    """It hung between looking and sending: the server judges when the row arrives, and it looks again."""
    mine, hung = Vault(server, MASTERS), Vault(server, MASTERS)
    jane = person(mine, tenant)
    sealed = hung._sealed

    def hang(subjects: Any) -> Any:
        found = sealed(subjects)
        if subjects:
            mine.shred(tenant.tenant_id, [jane.pseudonym], "c", datetime.now(UTC))
        return found

    with patch.object(hung, "_sealed", hang):
        assert len(hung.keep([jane])) == 1
    assert rows(server, tenant) == 0


# Rotation.


def test_rotation_changes_keys_and_nothing_else(store: Database, tenant: TenantContext) -> None:
    """Pseudonyms and originals stay; people's rows are wrapped by a new key of the tenant's."""
    vault = Vault(store, MASTERS)
    people = [person(vault, tenant, f"u{i}@example.com") for i in range(30)]
    vault.keep(people)
    before = rows(store, tenant, "any(key_id) AS n")
    done = vault.rotate(datetime.now(UTC), tenant.tenant_id)
    assert (done.tenant_keys_made, done.subject_keys_rewrapped) == (1, 30)
    assert rows(store, tenant, "any(key_id) AS n") != before
    assert rows(store, tenant) == 30
    assert vault.pseudonym(tenant.tenant_id, "u3@example.com") == people[3].pseudonym
    assert len(reveal(Vault(store, MASTERS), tenant, *(one.pseudonym for one in people))) == 30


def test_a_worker_that_does_not_know_of_a_rotation_writes_what_can_be_read(
    server: Database, tenant: TenantContext
) -> None:
    """The key that it uses is kept until the rotation after the next ten minutes."""
    mine, other = Vault(server, MASTERS), Vault(server, MASTERS)
    mine.keep([person(mine, tenant)])
    other.keep([person(other, tenant, "ben@example.com")])
    now = datetime.now(UTC)
    mine.rotate(now, tenant.tenant_id)
    late = person(other, tenant, "late@example.com")
    other.keep([late])
    assert reveal(mine, tenant, late.pseudonym) == ["late@example.com"]
    assert len(mine.keys.of([tenant.tenant_id])[tenant.tenant_id]) == 2
    assert mine.rotate(now + 2 * SUPERSEDED, tenant.tenant_id).tenant_keys_deleted == 1
    assert reveal(mine, tenant, late.pseudonym) == ["late@example.com"]


def test_a_rotation_that_was_interrupted_half_way_goes_on(
    tmp_path: Path, tenant: TenantContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some people are wrapped by the new key, some by the old one: the next rotation finds both."""
    monkeypatch.setattr("store.vault._REWRAPPED_AT_ONCE", 4)
    with own_store(tmp_path) as (store,):
        vault = Vault(store, MASTERS)
        people = [person(vault, tenant, f"u{i}@example.com") for i in range(10)]
        vault.keep(people)
        insert, calls = vault._insert, iter(range(9))

        def until_it_fails(rows: Any) -> None:
            if next(calls) == 1:
                raise StoreUnavailable("gone")
            insert(rows)

        monkeypatch.setattr(vault, "_insert", until_it_fails)
        with pytest.raises(StoreUnavailable):
            vault.rotate(datetime.now(UTC), tenant.tenant_id)
        assert len(reveal(vault, tenant, *(one.pseudonym for one in people))) == 10
        done = Vault(store, MASTERS).rotate(datetime.now(UTC), tenant.tenant_id)
        assert done.subject_keys_rewrapped == 10
        assert len(reveal(vault, tenant, *(one.pseudonym for one in people))) == 10


def test_an_original_whose_key_is_gone_is_told_and_stops_no_rotation(
    tmp_path: Path, tenant: TenantContext
) -> None:
    """A backup of an earlier version, made beside a rotation, restores such rows."""
    with own_store(tmp_path) as (store,):
        vault = Vault(store, MASTERS)
        jane = person(vault, tenant)
        vault.keep([jane])
        store.command("ALTER TABLE tenant_keys DELETE WHERE tenant_id != '' SETTINGS mutations_sync = 2")
        with pytest.raises(MasterKeyError, match="is not in tenant_keys"):
            reveal(vault, tenant, jane.pseudonym)
        assert vault.rotate(datetime.now(UTC), tenant.tenant_id).subject_keys_rewrapped == 0


def test_a_new_master_key_wraps_everything_anew(tmp_path: Path, tenant: TenantContext) -> None:
    """Given before the earlier one, which then opens nothing any more; pseudonyms stay."""
    with own_store(tmp_path) as (database,):
        old, new = LocalMasterKey(b"o" * KEY_BYTES), LocalMasterKey(b"n" * KEY_BYTES)
        vault = Vault(database, MasterKeys(old))
        jane = person(vault, tenant)
        vault.keep([jane])
        rotated = Vault(database, MasterKeys(new, [old]))
        # The root and the tenant's key.
        assert rotated.rotate(datetime.now(UTC)).keys_rewrapped == 2
        after = Vault(database, MasterKeys(new))
        assert after.pseudonym(tenant.tenant_id, EMAIL) == jane.pseudonym
        assert reveal(after, tenant, jane.pseudonym) == [EMAIL]
        with pytest.raises(MasterKeyError, match="give every process the same TENANTWATCH_MASTER_KEY"):
            Vault(database, MasterKeys(old))


# Master keys.


class Kms:
    """What plugs a KMS in: an object that wraps and unwraps by asking it."""

    key_id = "kms:key-1"

    def __init__(self) -> None:
        self._inside = LocalMasterKey(b"k" * KEY_BYTES)
        self.asked = 0

    def wrap(self, key: bytes, bound_to: bytes) -> bytes:
        self.asked += 1
        return self._inside.wrap(key, bound_to)

    def unwrap(self, wrapped: bytes, bound_to: bytes) -> bytes:
        self.asked += 1
        return self._inside.unwrap(wrapped, bound_to)


def test_a_kms_plugs_in(tmp_path: Path, tenant: TenantContext) -> None:
    """A setting names what returns it; it is asked for each tenant's key, not for each person's."""
    masters = load_master_keys(Settings(kms="tests.test_vault:Kms"), create=False)
    kms: Any = masters.current
    with own_store(tmp_path) as (database,):
        vault = Vault(database, masters)
        people = [person(vault, tenant, f"u{i}@example.com") for i in range(30)]
        vault.keep(people)
        assert reveal(vault, tenant, people[7].pseudonym) == ["u7@example.com"]
        assert kms.asked < 10


def test_a_kms_that_is_not_there_is_told() -> None:
    """With the setting's name."""
    with pytest.raises(MasterKeyError, match=r"TENANTWATCH_KMS=no_such\.module:key"):
        load_master_keys(Settings(kms="no_such.module:key"), create=False)


def test_the_first_start_makes_a_key_that_only_the_owner_reads(tmp_path: Path) -> None:
    """In the data directory, with a note to keep a copy; the next start reads the same."""
    settings = Settings(data_dir=tmp_path / "data")
    made = load_master_keys(settings, create=True)
    assert settings.key_path.stat().st_mode & 0o777 == 0o600
    assert "Keep a copy" in settings.key_path.read_text()
    assert load_master_keys(settings, create=True).current.key_id == made.current.key_id


def test_two_first_starts_at_once_have_one_key(tmp_path: Path) -> None:
    """The slower one takes the other's."""
    path, made, barrier = tmp_path / "master.key", list[str](), threading.Barrier(4)

    def start() -> None:
        barrier.wait()
        made.append(create_key_file(path).current.key_id)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [read_key_file(path).current.key_id] * 4
    assert [found.name for found in tmp_path.iterdir()] == ["master.key"]


def test_a_lost_key_is_not_replaced(tmp_path: Path, database: Database) -> None:
    """A new key would make other pseudonyms of the same people: the start fails and says what to do."""
    Vault(database, MASTERS)
    with pytest.raises(MasterKeyError, match=r"is not there, .*restore the file from its copy"):
        open_vault(Settings(data_dir=tmp_path), database)
    assert not list(tmp_path.rglob("*.key"))


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The message says what to run."""
    path = tmp_path / "master.key"
    create_key_file(path)
    path.chmod(0o644)
    with pytest.raises(MasterKeyError, match="chmod 600"):
        read_key_file(path)


def test_a_new_key_goes_before_the_earlier_ones(tmp_path: Path) -> None:
    """And the earlier ones go once nothing is wrapped by them."""
    path = tmp_path / "master.key"
    first = create_key_file(path).current.key_id
    both = add_key(path)
    assert both.current.key_id != first
    assert [key.key_id for key in both.earlier] == [first]
    left = drop_earlier_keys(path)
    assert (left.current.key_id, list(left.earlier)) == (both.current.key_id, [])
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "# only a note", "c2hvcnQ=", "not base64!"])
def test_what_is_no_key_is_told_without_being_shown(text: str) -> None:
    """A setting that was mistyped may still be a secret."""
    with pytest.raises(MasterKeyError) as told:
        parse_keys(text, "TENANTWATCH_MASTER_KEY")
    assert "TENANTWATCH_MASTER_KEY" in str(told.value)
    assert not text or text.startswith("#") or text not in str(told.value)


def test_a_setting_may_hold_earlier_keys_too() -> None:
    """With commas between: the first is in use."""
    new, old = new_secret(), new_secret()
    masters = parse_keys(f"{new},{old}", "setting")
    assert masters.current.key_id == parse_keys(new, "setting").current.key_id
    assert [key.key_id for key in masters.earlier] == [parse_keys(old, "setting").current.key_id]


def test_a_sealed_text_opens_only_where_it_belongs() -> None:
    """Another key, another place or a changed byte: all are refused."""
    key = os.urandom(KEY_BYTES)
    sealed = seal(key, b"text", b"here")
    assert unseal(key, sealed, b"here") == b"text"
    for wrong in (
        (os.urandom(KEY_BYTES), sealed, b"here"),
        (key, sealed, b"there"),
        (key, sealed[:-1], b"here"),
    ):
        with pytest.raises(MasterKeyError):
            unseal(*wrong)


def test_secrets_are_not_shown() -> None:
    """Neither by the key nor by the settings that hold it."""
    secret = new_secret()
    assert secret not in repr(Settings(master_key=secret))
    assert "mmm" not in repr(MASTERS)
