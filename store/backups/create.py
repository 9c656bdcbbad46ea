"""Writing a backup while workers go on: each table in pieces, in an order in which what follows proves more.

Seals first, and the ledger before the events: every row that a seal or the ledger speaks of is then in the
backup. What explains why rows are gone comes last. Not ClickHouse's own BACKUP: it copies parts with rows
that were deleted and not yet merged away, so a forgotten person would live on in it; it needs a directory of
the server's, and cannot be restored from a server into the engine in this process or back.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from clickhouse_connect.driver.binding import str_query_value

from store.backups.manifest import (
    FORMAT,
    KEYS_FILE,
    OFFSETS_FILE,
    TABLES,
    TENANTS_FILE,
    Backup,
    BackupError,
    file_digest,
    put,
)
from store.database import Database
from store.native import FORMAT as NATIVE
from store.seals.chains import heads_of_partitions
from store.seals.keys import Signer
from store.seals.seal import Seal

ROWS_AT_ONCE: Final = 100_000
FIRST: Final = ("seals", "ledger_totals", "ledger", "ownership", "snapshots")
# What tells why rows are not there must not be older than the rows.
LAST: Final = ("retention_runs", "retention_finished", "seal_statements", "schema_migrations")
# Before the vault and after it: a rotation meanwhile makes keys, and deletes those that it replaced.
KEYS_TABLE: Final = "tenant_keys"
CODEC: Final = "zstd"
_COLUMNS: Final = """
    SELECT table, name FROM system.columns
    WHERE database = currentDatabase() AND default_kind NOT IN ('MATERIALIZED', 'ALIAS', 'EPHEMERAL')
    ORDER BY table, position
"""
_TABLES: Final = """
    SELECT name, sorting_key FROM system.tables
    WHERE database = currentDatabase() AND endsWith(engine, 'MergeTree') AND NOT startsWith(name, '.')
    ORDER BY name
"""
_POSITIONS: Final = """
    SELECT kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition, max(last_offset) + 1 AS position
    FROM ledger GROUP BY kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition
    ORDER BY kafka_topic, kafka_partition
"""


def create(
    database: Database,
    directory: Path,
    signer: Signer,
    now: datetime,
    keys: bytes | None = None,
    key_names: Sequence[str] = (),
    progress: Callable[[str, int], None] = lambda table, rows: None,
) -> Backup:
    """Write a backup into a new directory, named by the time, below one.

    Parameters
    ----------
    signer
        Signs the manifest; its key is not in the backup.
    keys
        Keys under a passphrase, to be put into it all the same.
    key_names
        Which; the manifest tells, because without the passphrase nobody could see.
    progress
        Told of each table that is done, with its rows.

    Raises
    ------
    BackupError
        If there is a directory of that name.
    """
    path = directory / now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    try:
        path.mkdir(parents=True, mode=0o700)
    except FileExistsError:
        raise BackupError(f"{path} exists already: another backup began in the same second") from None
    except OSError as error:
        raise BackupError(f"cannot write to {directory}: {error.strerror}") from error
    positions = database.query(_POSITIONS)
    heads = heads_of_partitions(database)
    tables = _write_tables(database, path, sealed_until(heads), progress)
    others = {TENANTS_FILE: _directory(database), OFFSETS_FILE: _offsets(positions)}
    if keys is not None:
        others[KEYS_FILE] = keys
    for name, content in others.items():
        put(path / name, content)
    backup = Backup(
        path,
        {
            "format": FORMAT,
            "created_at": now.astimezone(UTC).isoformat(timespec="seconds"),
            "version": version("tenantwatch"),
            "migrations": [
                row["name"]
                for row in database.query("SELECT name FROM schema_migrations FINAL ORDER BY version")
            ],
            "tables": tables,
            "other_files": {name: {"sha256": file_digest(path / name)} for name in others},
            "heads": [
                {
                    "cluster_id": seal.chain.cluster_id,
                    "partition": seal.chain.partition,
                    "sequence": seal.sequence,
                    "digest": seal.digest,
                }
                for seal in heads
            ],
            "positions": positions,
            "key_id": signer.key_id,
            "keys": list(key_names),
        },
    )
    backup.write(signer)
    return backup


def _write_tables(
    database: Database, path: Path, seals: str, progress: Callable[[str, int], None]
) -> dict[str, dict[str, Any]]:
    """Write every table, and return what the manifest says of each.

    Parameters
    ----------
    seals
        The condition on those that are written.
    """
    columns: dict[str, list[str]] = {}
    for row in database.query(_COLUMNS):
        columns.setdefault(row["table"], []).append(row["name"])
    ordered = {row["name"]: row["sorting_key"] for row in database.query(_TABLES)}
    tables: dict[str, dict[str, Any]] = {}
    for table in _in_order(ordered):
        pieces = _pieces(database, table, ordered[table], seals if table == "seals" else "1")
        files = tables.get(table, {}).get("files", [])
        files += _write_table(database, path, table, columns[table], pieces, len(files))
        tables[table] = {
            "columns": columns[table],
            "rows": sum(file["rows"] for file in files),
            "files": files,
        }
        progress(table, tables[table]["rows"])
    return tables


def _in_order(tables: Mapping[str, str]) -> list[str]:
    middle = [name for name in tables if name not in (*FIRST, *LAST, KEYS_TABLE)]
    # Events before what other tables say of them, e.g. the vault, whose rows are durable before an event's.
    middle.sort(key=lambda name: (name != "events", name))
    around = (KEYS_TABLE, *middle, KEYS_TABLE)
    return [name for name in (*FIRST, *around, *LAST) if name in tables]


def sealed_until(heads: Sequence[Seal]) -> str:
    """Return a condition on seals: only whole rounds, up to the heads that were read before."""
    each = []
    for seal in heads:
        at = datetime.fromisoformat(seal.sealed_at).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        each.append(
            f"(kafka_cluster_id = {str_query_value(seal.chain.cluster_id)} "
            f"AND kafka_partition = {seal.chain.partition} "
            f"AND sealed_at <= toDateTime64('{at}', 3, 'UTC'))"
        )
    return f"({' OR '.join(each) or '0'})"


def _pieces(database: Database, table: str, sorting_key: str, where: str) -> Iterator[str]:
    """Yield conditions that together meet every row once, each a bounded number of them.

    By tenant where a table is ordered so: the pieces are ranges of ids, so that a tenant who comes meanwhile
    is in one of them.
    """
    if not sorting_key.startswith("tenant_id"):
        [row] = database.query(f"SELECT count() AS n FROM {table} WHERE {where}")
        yield from _parts(where, sorting_key, row["n"])
        return
    counts = database.query(
        f"SELECT tenant_id, count() AS n FROM {table} WHERE {where} GROUP BY tenant_id ORDER BY tenant_id"
    )
    after: str | None = None
    rows, last = 0, ""
    for row in counts:
        if rows and rows + row["n"] > ROWS_AT_ONCE:
            yield from _range(where, sorting_key, after, last, rows)
            after, rows = last, 0
        rows += row["n"]
        last = row["tenant_id"]
    yield from _range(where, sorting_key, after, None, rows)


def _range(where: str, key: str, after: str | None, until: str | None, rows: int) -> Iterator[str]:
    condition = where
    if after is not None:
        condition += f" AND tenant_id > {str_query_value(after)}"
    if until is not None:
        condition += f" AND tenant_id <= {str_query_value(until)}"
    yield from _parts(condition, key, rows)


def _parts(condition: str, key: str, rows: int) -> Iterator[str]:
    """Yield a condition as it is, or divided by a hash where it meets too many rows."""
    parts = -(-rows // ROWS_AT_ONCE) if key else 1
    if parts <= 1:
        yield condition
        return
    for part in range(parts):
        yield f"{condition} AND cityHash64({key}) % {parts} = {part}"


def _write_table(
    database: Database, path: Path, table: str, columns: Sequence[str], pieces: Iterator[str], number: int
) -> Iterator[dict[str, Any]]:
    names = ", ".join(columns)
    for condition in pieces:
        counted = f"SELECT count() AS n FROM {table} WHERE {condition}"
        [before] = database.query(counted)
        if not before["n"]:
            continue
        content = database.query_raw(f"SELECT {names} FROM {table} WHERE {condition}", None, NATIVE)
        [after] = database.query(counted)
        number += 1
        name = f"{TABLES}/{table}-{number:05}.native.{CODEC}"
        packed = pa.Codec(CODEC).compress(content, asbytes=True)
        put(path / name, packed)
        yield {
            "name": name,
            "rows": before["n"],
            # A table that grew meanwhile has a few more in its file.
            "grew": before != after,
            "bytes": len(content),
            "sha256": hashlib.sha256(packed).hexdigest(),
        }


def _directory(database: Database) -> bytes:
    rows = database.query(
        "SELECT body FROM (SELECT tenant_id, body, deleted FROM tenants FINAL ORDER BY version DESC "
        "LIMIT 1 BY tenant_id) WHERE deleted = 0 AND body != '' ORDER BY tenant_id"
    )
    return b"".join(
        json.dumps(
            {name: value for name, value in json.loads(row["body"]).items() if value is not None},
            ensure_ascii=False,
        ).encode()
        + b"\n"
        for row in rows
    )


def _offsets(positions: Sequence[Mapping[str, Any]]) -> bytes:
    """Return positions as `kafka-consumer-groups.sh --reset-offsets --from-file` reads them.

    Of a topic that there were several of, the last one's.
    """
    newest: dict[tuple[str, int], int] = {}
    for row in positions:
        newest[row["kafka_topic"], row["kafka_partition"]] = row["position"]
    lines = [f"{topic},{partition},{at}\n" for (topic, partition), at in sorted(newest.items())]
    return "".join(lines).encode()
