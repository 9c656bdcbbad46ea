"""Changing the master key in its file: what the earlier one wrapped can be opened afterwards, all of it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from store.database import Database
from store.master_key import MasterKeyError, read_key_file
from store.privacy import Privacy
from store.queries import TenantContext
from store.vault import Vault
from tenantwatch.settings import Settings
from tenantwatch.vault import MasterChange, load_master_keys, open_vault
from tests.test_vault import EMAIL, own_store, person, reveal

WHO = {"actor": "officer", "reason": "test"}
FIRST, SECOND = TenantContext("first"), TenantContext("second")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A store of its own that counts as this process's alone: of the engine there is one a process."""
    with own_store(tmp_path) as (store,):
        monkeypatch.setattr(store, "shared", False)
        yield store


@pytest.fixture
def rights(settings: Settings, database: Database) -> Privacy:
    """With a person at each of two tenants."""
    vault = open_vault(settings, database)
    vault.keep([person(vault, tenant) for tenant in (FIRST, SECOND)])
    return Privacy(database, vault, master_change=partial(MasterChange, settings, database))


def revealed(settings: Settings, database: Database) -> list[list[str]]:
    """Read both people as a process does that has just started."""
    vault = Vault(database, load_master_keys(settings, create=False))
    return [reveal(vault, one, vault.pseudonym(one.tenant_id, EMAIL)) for one in (FIRST, SECOND)]


def test_the_master_key_does_not_change_for_one_tenant(
    settings: Settings, database: Database, rights: Privacy
) -> None:
    """Nobody else's keys would be opened any more."""
    before = settings.key_path.read_bytes()
    with pytest.raises(MasterKeyError, match="every tenant's"):
        rights.rotate("first", master=True, now=datetime.now(UTC), **WHO)
    assert settings.key_path.read_bytes() == before
    assert revealed(settings, database) == [[EMAIL], [EMAIL]]


def test_the_earlier_master_key_stays_while_a_key_needs_it(
    settings: Settings, database: Database, rights: Privacy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that a thread wrapped by it while the rest was wrapped anew; the next change ends it."""
    keys, earlier = rights.vault.keys, rights.vault.keys.masters
    rewrap = keys.rewrap

    def and_then_one_more(now: datetime) -> int:
        done, present = rewrap(now), keys.masters
        keys.masters = earlier
        keys.current(["third"])
        keys.masters = present
        return done

    with monkeypatch.context() as patched:
        patched.setattr(keys, "rewrap", and_then_one_more)
        with pytest.raises(MasterKeyError, match="1 keys are still wrapped"):
            rights.rotate(None, master=True, now=datetime.now(UTC), **WHO)
    for _ in range(2):
        vault = Vault(database, load_master_keys(settings, create=False))
        assert len(vault.keys.of(["third"])["third"]) == 1
        assert revealed(settings, database) == [[EMAIL], [EMAIL]]
        rights.rotate(None, master=True, now=datetime.now(UTC), **WHO)
        assert read_key_file(settings.key_path).earlier == []
