"""Restoring a backup into an empty store, and proving by its seals that it is the same."""

import hashlib
import re
from collections.abc import Callable
from typing import Any, Final

import pyarrow as pa

from store.backups.create import CODEC
from store.backups.manifest import TABLES, Backup, BackupError
from store.database import Database
from store.migrations import migrate, migrations, statements
from store.native import FORMAT as NATIVE
from store.seals.chains import heads_of_partitions
from store.seals.keys import Trust
from store.seals.trail import StoredTrail
from store.seals.verification import Verdict, Verification

# The store's own, which applying the migrations fills.
OWN: Final = "schema_migrations"
# Which were used or revoked since, a backup cannot know: whoever was signed in signs in again.
SESSIONS: Final = "refresh_tokens"
_COLUMNS: Final = "SELECT table, name FROM system.columns WHERE database = currentDatabase()"


def check_target(database: Database, backup: Backup) -> None:
    """See that a store can take a backup.

    Raises
    ------
    BackupError
        If it holds anything, or the backup is of a newer version.
    """
    known = {name for _, name, _ in migrations()}
    if newer := [name for name in backup.manifest["migrations"] if name not in known]:
        raise BackupError(
            f"the backup has migrations that this version does not know ({', '.join(newer)}); "
            "restore it with the version that made it, or a newer one"
        )
    there = {
        row["name"]
        for row in database.query("SELECT name FROM system.tables WHERE database = currentDatabase()")
    }
    for table in sorted(there & backup.manifest["tables"].keys() - {OWN}):
        if database.query(f"SELECT count() AS n FROM {table}")[0]["n"]:
            raise BackupError(
                f"the store is not empty: {table} has rows. Restore into a new data directory "
                "(TENANTWATCH_DATA_DIR) or an empty database (TENANTWATCH_CLICKHOUSE)"
            )


def _check_names(database: Database, backup: Backup) -> None:
    """See that a manifest names nothing but tables, their columns and their files: names become SQL."""
    columns: dict[str, set[str]] = {}
    for row in database.query(_COLUMNS):
        columns.setdefault(row["table"], set()).add(row["name"])
    for table, said in backup.manifest["tables"].items():
        if table not in columns:
            raise BackupError(f"the manifest names {table!r}, which is no table")
        if unknown := sorted(set(said["columns"]) - columns[table]):
            raise BackupError(f"the manifest names {unknown[0]!r}, which is no column of {table}")
        file_name = re.compile(rf"{TABLES}/{table}-[0-9]+\.native\.{CODEC}")
        if strange := [file["name"] for file in said["files"] if not file_name.fullmatch(file["name"])]:
            raise BackupError(f"the manifest names {strange[0]!r}, which is no file of {table}")


def restore(
    database: Database,
    backup: Backup,
    trust: Trust | None,
    progress: Callable[[str, int], None] = lambda table, rows: None,
) -> dict[str, int]:
    """Fill an empty store from a backup, and return the rows of each table.

    Parameters
    ----------
    trust
        Keys, one of which must have signed the manifest; None: whoever asks believes the files as they are.

    Raises
    ------
    BackupError
        If the manifest is not signed by a key that is believed, or names what no store has; if the store is
        not empty, a file is not what it was, or a table has other rows than were written.
    """
    if trust is not None:
        backup.check_signed(trust)
    check_target(database, backup)
    if damaged := backup.damaged():
        raise BackupError(f"{backup.path} is damaged: {'; '.join(damaged[:5])}; nothing was restored")
    migrate(database)
    _check_names(database, backup)
    restored = {}
    for table, said in backup.manifest["tables"].items():
        if table in (OWN, SESSIONS):
            continue
        for file in said["files"]:
            packed = (backup.path / file["name"]).read_bytes()
            if hashlib.sha256(packed).hexdigest() != file["sha256"]:  # since all were looked at
                raise BackupError(f"{file['name']} was changed meanwhile; empty the store and try again")
            content = pa.Codec(CODEC).decompress(packed, file["bytes"], asbytes=True)
            database.insert(table, said["columns"], content, NATIVE)
        restored[table] = int(database.query(f"SELECT count() AS n FROM {table}")[0]["n"])
        grew = any(file["grew"] for file in said["files"])
        # A table that replaces rows may have merged copies away.
        if not grew and table in ("events", "seals") and restored[table] != said["rows"]:
            raise BackupError(f"{table} has {restored[table]:,} rows, {said['rows']:,} were written")
        progress(table, restored[table])
    _migrate_rows(database, backup)
    return restored


def _migrate_rows(database: Database, backup: Backup) -> None:
    """Do to the rows what later versions did to theirs; the tables were migrated when there were none."""
    for _, name, sql in migrations():
        if name not in backup.manifest["migrations"]:
            for statement in statements(sql):
                database.command(statement)


def prove(database: Database, backup: Backup, trust: Trust) -> tuple[Verdict, list[dict[str, Any]]]:
    """Verify a restored store, and return the verdict and the heads that are not those of the backup."""
    anchors = backup.manifest["heads"]
    verdict = Verification(StoredTrail(database), trust, anchors).run()
    heads = {(s.chain.cluster_id, s.chain.partition): s.digest for s in heads_of_partitions(database)}
    differ = [a for a in anchors if heads.get((a["cluster_id"], a["partition"])) != a["digest"]]
    return verdict, differ


def unreadable(database: Database) -> int:
    """Return how many originals no key of the store opens, whatever master key there is."""
    [row] = database.query(
        "SELECT count() AS n FROM vault FINAL "
        "WHERE (tenant_id, key_id) NOT IN (SELECT tenant_id, key_id FROM tenant_keys)"
    )
    return int(row["n"])
