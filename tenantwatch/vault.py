"""Opening the vault with the master key that the settings name."""

import pkgutil
from functools import partial

from store.certificates import signing
from store.database import Database
from store.master_key import (
    MasterKeyError,
    MasterKeys,
    add_key,
    create_key_file,
    drop_earlier_keys,
    parse_keys,
    read_key_file,
)
from store.privacy import Privacy
from store.seals.keys import SealKeys
from store.vault import Vault
from tenantwatch.settings import Settings


def load_master_keys(settings: Settings, *, create: bool) -> MasterKeys:
    """Return the master key that the settings name, and earlier ones.

    Parameters
    ----------
    create
        Whether to make the key's file where there is none.

    Raises
    ------
    MasterKeyError
        If there is none, or it is wrong.
    """
    if settings.kms is not None:
        try:
            return MasterKeys(pkgutil.resolve_name(settings.kms)())
        except (ImportError, AttributeError, ValueError) as error:
            raise MasterKeyError(f"TENANTWATCH_KMS={settings.kms}: {error}") from error
    if settings.master_key is not None:
        return parse_keys(settings.master_key, "TENANTWATCH_MASTER_KEY")
    path = settings.key_path
    if not path.exists() and not create:
        raise MasterKeyError(
            f"{path} is not there, and the store has keys that it wrapped: restore the file from its copy, "
            "or set TENANTWATCH_MASTER_KEY"
        )
    return read_key_file(path) if path.exists() else create_key_file(path)


def open_vault(settings: Settings, database: Database) -> Vault:
    """Open the vault of a store; in a new store the master key is made, where the settings name none.

    Raises
    ------
    MasterKeyError
        If the master key is missing or another one than the store's.
    """
    empty = not database.query("SELECT 1 FROM tenant_keys LIMIT 1")
    return Vault(database, load_master_keys(settings, create=empty))


def open_privacy(
    settings: Settings, database: Database, kafka: str | None, seal_keys: SealKeys | None
) -> Privacy:
    """Open the vault for a person's rights.

    Parameters
    ----------
    kafka
        Brokers to ask how long raw copies are kept; None: nobody is asked.
    seal_keys
        Sign certificates; None: they are not signed.
    """
    return privacy_of(settings, open_vault(settings, database), database, kafka, seal_keys)


def open_privacy_if_keyed(settings: Settings, database: Database) -> Privacy | None:
    """Open the vault where this process has a master key; without one it serves all but what needs the vault.

    Raises
    ------
    MasterKeyError
        If the master key is another one than the store's.
    """
    if settings.kms or settings.master_key or settings.key_path.exists():
        seal_keys = SealKeys.existing(settings.keys_dir, settings.seal_key)
        return open_privacy(settings, database, settings.kafka_brokers, seal_keys)
    return None


def privacy_of(
    settings: Settings, vault: Vault, database: Database, kafka: str | None, seal_keys: SealKeys | None
) -> Privacy:
    """Return what gives people their rights, with a vault that is open already."""
    from streams.topics import retention_of

    ask_kafka = partial(retention_of, kafka) if kafka else lambda: None
    change = partial(MasterChange, settings, database)
    return Privacy(database, vault, ask_kafka, signing(seal_keys), change)


class MasterChange:
    """A new master key in the key's file, while everything is wrapped by it; a context manager.

    The earlier key goes from the file when all went well; else both stay, and the next rotation goes on.

    Raises
    ------
    MasterKeyError
        If the master key is not in a file, or several hosts may have copies of it: then only its owner can
        change it; at the end, if something is still wrapped by the earlier one.
    """

    def __init__(self, settings: Settings, database: Database) -> None:
        if settings.kms or settings.master_key or database.shared:
            raise MasterKeyError(
                "this master key is not tenantwatch's to change: give every process the new one before the "
                "old (TENANTWATCH_MASTER_KEY=NEW,OLD, or a line above it in the file; a KMS does it "
                "by itself), restart them, run `tenantwatch privacy rotate-keys`, then take the old one away"
            )
        self._path = settings.key_path
        self._database = database

    def __enter__(self) -> MasterKeys:
        return add_key(self._path)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        # A key made meanwhile may be wrapped by the earlier one, and could never be opened without it.
        [left] = self._database.query(
            "SELECT count() AS keys FROM tenant_keys FINAL WHERE master_key_id != {current:String}",
            {"current": read_key_file(self._path).current.key_id},
        )
        if left["keys"]:
            raise MasterKeyError(
                f"{left['keys']:,} keys are still wrapped by the earlier master key, which stays in "
                f"{self._path}: run `tenantwatch privacy rotate-keys --master` again"
            )
        drop_earlier_keys(self._path)
