"""Opening the vault with the master key that the settings name."""

import pkgutil

from store.database import Database
from store.master_key import MasterKeyError, MasterKeys, create_key_file, parse_keys, read_key_file
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
