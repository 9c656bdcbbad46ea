"""Restoring a backup into an empty store, and proving by its seals that it is the same."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from store.backups.create import CODEC
from store.backups.manifest import Backup, BackupError
from store.database import Database
from store.migrations import migrate, migrations
from store.native import FORMAT as NATIVE
from store.seals.chains import heads_of_partitions
from store.seals.keys import Trust
from store.seals.trail import StoredTrail
from store.seals.verification import Verdict, Verification

# The store's own, which applying the migrations fills.
OWN = "schema_migrations"


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


def restore(
    database: Database, backup: Backup, progress: Callable[[str, int], None] = lambda table, rows: None
) -> dict[str, int]:
    """Fill an empty store from a backup, and return the rows of each table.

    Raises
    ------
    BackupError
        If the store is not empty, a file is not what it was, or a table has other rows than were written.
    """
    check_target(database, backup)
    if damaged := backup.damaged():
        raise BackupError(f"{backup.path} is damaged: {'; '.join(damaged[:5])}; nothing was restored")
    migrate(database)
    restored = {}
    for table, said in backup.manifest["tables"].items():
        if table == OWN:
            continue
        for file in said["files"]:
            packed = (backup.path / file["name"]).read_bytes()
            content = pa.Codec(CODEC).decompress(packed, file["bytes"], asbytes=True)
            database.insert(table, said["columns"], content, NATIVE)
        restored[table] = int(database.query(f"SELECT count() AS n FROM {table}")[0]["n"])
        grew = any(file["grew"] for file in said["files"])
        # A table that replaces rows may have merged copies away.
        if not grew and table in ("events", "seals") and restored[table] != said["rows"]:
            raise BackupError(f"{table} has {restored[table]:,} rows, {said['rows']:,} were written")
        progress(table, restored[table])
    return restored


def prove(database: Database, backup: Backup, trust: Trust) -> tuple[Verdict, list[dict[str, Any]]]:
    """Verify a restored store, and return the verdict and the heads that are not those of the backup."""
    anchors = backup.manifest["heads"]
    verdict = Verification(StoredTrail(database), trust, anchors).run()
    heads = {(s.chain.cluster_id, s.chain.partition): s.digest for s in heads_of_partitions(database)}
    differ = [a for a in anchors if heads.get((a["cluster_id"], a["partition"])) != a["digest"]]
    return verdict, differ
