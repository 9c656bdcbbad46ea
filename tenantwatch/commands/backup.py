"""Backups of the store: make, list, restore, verify."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tenantwatch.commands.asking import LONG_S, ask
from tenantwatch.commands.auditing import audit_reading
from tenantwatch.commands.output import AsJson, fail, note, print_json, print_line, print_table
from tenantwatch.commands.trust import Keys, believed_keys
from tenantwatch.settings import Settings

if TYPE_CHECKING:
    from store.backups.manifest import Backup
    from store.database import Database
    from store.seals.keys import Trust

app = typer.Typer(no_args_is_help=True)

Directory = Annotated[
    Path, typer.Argument(metavar="DIR", help="A directory of backups, or one backup in it.")
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(help="A file that holds the passphrase of the keys; without it keys are left out."),
]


@app.command()
def create(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where backups are kept.")],
    passphrase_file: PassphraseFile = None,
    as_json: AsJson = False,
) -> None:
    """Write a backup of the store and the tenant directory into a new directory below DIR.

    Workers go on meanwhile. Keys stay where they are, which is told: without them the seals of a restored
    store can still be verified, but not continued, and the vault cannot be read. A passphrase puts the key
    directory into it; keys that are in settings, other files or a KMS are never in it.
    """
    settings = Settings()
    asked = {"path": str(directory.absolute()), "passphrase": _passphrase(passphrase_file)}
    started = time.monotonic()
    made = ask("POST", "/backups", json=asked, timeout_s=LONG_S)
    made["seconds"] = round(time.monotonic() - started, 1)
    made["audited"] = _audit(settings, "backup", Path(made["path"]), made["rows"])
    if as_json:
        print_json(made)
        return
    print_line(
        f"{made['rows']:,} rows of {made['tables']} tables are in {made['path']} ({made['bytes']:,} bytes)"
    )
    if made["keys"]:
        print_line(f"keys are in it, under the passphrase: {', '.join(made['keys'])}")
    for name, place in made["keys_elsewhere"].items():
        note(f"the {name} is not in the backup: it is {place}; keep a copy of it apart", "yellow")


def _passphrase(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return file.read_text().rstrip("\n")
    except OSError as error:
        raise fail(f"cannot read the passphrase in {file}: {error.strerror}") from error


@app.command("list")
def list_backups(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where backups are kept.")],
    as_json: AsJson = False,
) -> None:
    """List the complete backups in a directory."""
    from store.backups.manifest import KEYS_FILE, backups_in

    found = [
        {
            "path": str(backup.path),
            "created_at": backup.manifest["created_at"],
            "version": backup.manifest["version"],
            "rows": backup.rows(),
            "events": backup.manifest["tables"].get("events", {}).get("rows", 0),
            # Manifests of before say only that there are some.
            "keys": backup.manifest.get("keys", KEYS_FILE in backup.manifest["other_files"]),
        }
        for backup in backups_in(directory)
    ]
    if as_json:
        print_json(found)
        return
    print_table(
        {
            "made at": lambda row: row["created_at"],
            "events": lambda row: f"{row['events']:,}",
            "rows": lambda row: f"{row['rows']:,}",
            "keys": lambda row: _names(row["keys"]) or "apart",
            "path": lambda row: row["path"],
        },
        found,
        f"there are no backups in {directory}",
    )


def _names(keys: list[str] | bool) -> str:
    return "with" * keys if isinstance(keys, bool) else ", ".join(keys)


@app.command()
def restore(
    directory: Directory,
    passphrase_file: PassphraseFile = None,
    key: Keys = None,
    unverified: Annotated[
        bool,
        typer.Option(help="Restore although no key that is known here signed it: anybody may have made it."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into an empty store, and prove by the seals that it is the same.

    A backup whose manifest is not signed by a key of this machine, or one named with --key, is refused.

    Of a directory of backups the newest is taken. Nothing that exists is replaced: name a new data directory
    with TENANTWATCH_DATA_DIR, or an empty database with TENANTWATCH_CLICKHOUSE. Exit code 1 if the seals
    do not hold.
    """
    from store.backups.manifest import newest
    from tenantwatch.control import running

    settings = Settings()
    if running(settings):
        raise fail(
            f"a worker runs with the data directory {settings.data_dir}; a backup needs an empty store"
        )
    backup = newest(directory)
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    _restore_keys(backup, settings, _passphrase(passphrase_file))
    trust = believed_keys(settings, key, needed=not unverified)
    signed = backup.signature_holds(trust)
    if unverified and signed is None:
        note(
            f"NOT VERIFIED: no key that is known here signed {backup.path}. Whoever could write there may "
            "have put in what they like, API keys of the platform too: look at `tenantwatch keys list`",
            "bold red",
        )
    else:
        backup.check_signed(trust)
    with _opened(settings) as database:
        done = _restored(database, backup, trust, signed=signed is True)
    done["signed"] = signed
    done["audited"] = _audit(settings, "restore", backup.path, done["rows"])
    _tell(done, as_json)
    note(
        f"API keys that were revoked or rotated since {backup.manifest['created_at']} are good again: look "
        "at `tenantwatch keys list`, and revoke them. Sign-ins are not restored",
        "yellow",
    )
    note(
        "Kafka is not in a backup. If it is the same one, its group has gone on since: "
        f"{backup.path / 'offsets.csv'} has where the backup ends, for kafka-consumer-groups.sh "
        "--reset-offsets --from-file. If it is a new one, "
        f"`tenantwatch tenants apply {backup.path / 'tenants.ndjson'}` fills its directory"
    )
    raise typer.Exit(0 if done["holds"] else 1)


@app.command()
def verify(
    directory: Directory,
    quick: Annotated[
        bool, typer.Option(help="Checksums and signature only; restores nothing to look at the seals.")
    ] = False,
    key: Keys = None,
    as_json: AsJson = False,
) -> None:
    """Check a backup's files, and its seals in a store that it is restored into for the purpose.

    Exit code 1 if a file is damaged, or the trail in it was tampered with.
    """
    from store.backups.manifest import newest
    from store.database import Database
    from tenantwatch.logs import configure_logging

    configure_logging("error", "console")
    settings = Settings()
    backup = newest(directory)
    trust = believed_keys(settings, key)
    if damaged := backup.damaged():
        raise fail(f"{backup.path} is damaged: {'; '.join(damaged)}")
    signed = backup.signature_holds(trust)
    if signed is False:
        raise fail(f"the manifest of {backup.path} is not what the key {backup.manifest['key_id']} signed")
    if signed is None:
        note(
            f"the manifest is signed by the key {backup.manifest['key_id']}, which is not known here: --key",
            "yellow",
        )
    if quick:
        done: dict[str, Any] = {"path": str(backup.path), "holds": signed is True, "signed": signed}
        done["audited"] = _audit(settings, "verify", backup.path, backup.rows())
        _tell(done, as_json)
        raise typer.Exit(0 if signed else 1)
    with tempfile.TemporaryDirectory(prefix="tenantwatch-backup-") as folder:
        database = Database.embedded(Path(folder) / "clickhouse")
        try:
            done = _restored(database, backup, trust, signed=signed is True)
        finally:
            database.close()
    done["signed"] = signed
    done["audited"] = _audit(settings, "verify", backup.path, done["rows"])
    _tell(done, as_json)
    raise typer.Exit(0 if done["holds"] and signed else 1)


def _audit(settings: Settings, action: str, path: Path, rows: int) -> bool:
    """Put what was done with a backup into the platform's trail, and say so where that cannot be."""
    from tenantwatch.trail_audit import access_event

    tenant = settings.platform_tenant
    if tenant is None:
        note(
            "this is not in the trail: TENANTWATCH_PLATFORM_TENANT does not say whose trail has what the "
            "platform's people do",
            "yellow",
        )
        return False
    event = access_event(tenant, action, path.name, rows, datetime.now(UTC), "backup")
    return audit_reading(settings, [event])


def _restore_keys(backup: "Backup", settings: Settings, passphrase: str | None) -> None:
    from store.backups.key_box import unlock_keys
    from store.backups.manifest import KEYS_FILE

    if passphrase is None:
        return
    if KEYS_FILE not in backup.manifest["other_files"]:
        raise fail(f"there are no keys in {backup.path}: leave --passphrase-file out")
    names = unlock_keys((backup.path / KEYS_FILE).read_bytes(), passphrase, settings.keys_dir)
    note(f"restored the keys {', '.join(names)}")


@contextmanager
def _opened(settings: Settings) -> "Iterator[Database]":
    from tenantwatch.database import open_database
    from tenantwatch.logs import configure_logging

    configure_logging("error", "console")  # each migration would be a line among the data
    database = open_database(settings)
    try:
        yield database
    finally:
        database.close()


def _restored(database: "Database", backup: "Backup", trust: "Trust", *, signed: bool) -> dict[str, Any]:
    from store.backups.restore import prove, restore, unreadable

    started = time.monotonic()
    tables = restore(database, backup, trust if signed else None)
    restored_s = time.monotonic() - started
    verdict, differ = prove(database, backup, trust)
    keyless = unreadable(database)
    return {
        "path": str(backup.path),
        "rows": sum(tables.values()),
        "tables": tables,
        "restore_seconds": round(restored_s, 1),
        "verify_seconds": round(time.monotonic() - started - restored_s, 1),
        "heads_equal": not differ,
        "originals_without_key": keyless,
        "verdict": verdict.as_dict(),
        "holds": verdict.holds and not differ and not keyless,
    }


def _tell(done: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    if "verdict" not in done:
        print_line(
            f"every file of {done['path']} is what was written", "green" if done["holds"] else "yellow"
        )
        return
    verdict = done["verdict"]
    for finding in verdict["findings"]:
        print_line(
            f"{finding['kind']}: {finding['tenant_id'] or 'the partition'}: {finding['detail']}", "yellow"
        )
    print_line(
        f"{done['rows']:,} rows restored in {done['restore_seconds']:.1f} s; {verdict['rows']:,} rows in "
        f"{verdict['seals']:,} seals looked at in {done['verify_seconds']:.1f} s"
    )
    if done["originals_without_key"]:
        print_line(
            f"{done['originals_without_key']:,} originals cannot be read: the keys they name are not there",
            "bold red",
        )
    if done["heads_equal"] and verdict["holds"]:
        print_line("the seals are equal and hold", "green")
    else:
        print_line("the seals do not hold", "bold red")
