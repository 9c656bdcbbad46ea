"""Numbered SQL files, applied in order at start, each once."""

import hashlib
from importlib.resources import files
from typing import Final

from store.database import Database, StoreError

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    version    UInt32,
    name       String,
    checksum   String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY version
"""


def migrations() -> list[tuple[int, str, str]]:
    """Return number, name and SQL of each migration, in order."""
    found = sorted(
        file.name for file in files("store").joinpath("sql").iterdir() if file.name.endswith(".sql")
    )
    return [
        (int(name.split("_")[0]), name, files("store").joinpath("sql", name).read_text()) for name in found
    ]


def statements(sql: str) -> list[str]:
    """Split a file into statements: a line that ends in a semicolon ends one.

    >>> statements("-- why\\nSELECT 1;\\nSELECT 2;\\n")
    ['SELECT 1', 'SELECT 2']
    """
    lines = (line for line in sql.splitlines() if not line.lstrip().startswith("--"))
    return [part.strip() for part in "\n".join(lines).rstrip().rstrip(";").split(";\n") if part.strip()]


def migrate(database: Database) -> list[str]:
    """Apply what has not been applied; return the names of what was.

    Each statement can be repeated, so two workers that start together do no harm.

    Raises
    ------
    StoreError
        If a migration that was applied has since been edited, or the store is newer than this program.
    """
    database.command(_TABLE)
    rows = database.query("SELECT version, name, checksum FROM schema_migrations FINAL")
    applied = {row["version"]: row for row in rows}
    known = {version for version, _, _ in migrations()}
    if newer := sorted(set(applied) - known):
        raise StoreError(
            f"the store has migrations {newer} that this version of tenantwatch does not know; "
            "run the version that made them, or a newer one"
        )
    done: list[str] = []
    for version, name, sql in migrations():
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        if version in applied:
            if applied[version]["checksum"] != checksum:
                raise StoreError(f"migration {name} was edited after it was applied; add a new one instead")
            continue
        for statement in statements(sql):
            database.command(statement)
        database.insert_rows("schema_migrations", [{"version": version, "name": name, "checksum": checksum}])
        done.append(name)
    return done
