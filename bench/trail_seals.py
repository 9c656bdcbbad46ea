"""What seals and backups cost: ``python -m bench.trail_seals``; writes ``build/trail_seals.json``.

Fills a store of a million rows, seals it, verifies it, backs it up, restores that into an empty directory in
a process of its own and verifies it there; at last the first is tampered with in nine ways. With ``--people
100``, so many people are forgotten before the backup, and the trail is verified again; then their originals'
bytes, and what these were encrypted to, are looked for in the store's files and in the backup. With
``--pipeline``, three pipelines read the same topics in turn: one without seals; one as it is, which seals at
10,000 rows and every minute beside all else; and one that is not done before the last row is sealed. Their
CPU is counted until the engine has merged what it wrote.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from bench.running import REPOSITORY, machine, write
from bench.tampering import tamper
from bench.trail import fill
from schemas.event import KINDS
from store.backups.create import CODEC, create
from store.backups.manifest import Backup, newest
from store.backups.restore import prove, restore
from store.database import Database
from store.events import KafkaIds
from store.master_key import KEY_BYTES, LocalMasterKey, MasterKeys
from store.migrations import migrate
from store.privacy import Privacy
from store.queries import TenantContext
from store.seals.keys import SealKeys, Signer, Trust
from store.seals.sealing import Sealing
from store.seals.trail import StoredTrail
from store.seals.verification import Verification
from store.vault import Subject, Vault
from tenantwatch.logs import configure_logging

PARTITIONS = 12
# As a worker: so many rows are read and hashed together.
SHARE = 4


class Clock:
    """Wall clock and CPU seconds of a block, of all threads."""

    def __enter__(self) -> "Clock":
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *exc: object) -> None:
        self.seconds = round(time.perf_counter() - self._wall, 2)
        self.cpu_s = round(time.process_time() - self._cpu, 2)


def seal_all(database: Database, signer: Signer, partitions: Sequence[int] = range(PARTITIONS)) -> int:
    """Seal every row from the first on, in rounds as large as a worker's; return how many seals that made."""
    ids = KafkaIds("cluster", {f"audit.{kind}": f"id-{kind}" for kind in KINDS})
    sealing, made = Sealing(database, ids), 0
    ends = {
        (row["kafka_partition"], row["kafka_topic"]): row["position"]
        for row in database.query(
            "SELECT kafka_partition, kafka_topic, max(kafka_offset) + 1 AS position FROM events "
            "GROUP BY kafka_partition, kafka_topic"
        )
    }
    for first in range(0, len(partitions), PARTITIONS // SHARE):
        some = partitions[first : first + PARTITIONS // SHARE]
        stretches = [
            sealing.stretch(p, None, {topic: ends.get((p, topic), 0) for topic in ids.topic_ids})
            for p in some
        ]
        made += len(sealing.seal(stretches, {}, signer, datetime.now(UTC)))
    return made


def tampered(database: Database, ring: SealKeys) -> dict[str, Any]:
    """Return by kind whether tampering was named, and what verifying took at most."""
    found = tamper(database, ring.trust(), lambda partition: seal_all(database, ring.signer, [partition]))
    return {
        "tampering": {one.kind: one.named for one in found},
        "verify_tampered_s": max(one.verify_s for one in found),
    }


def name_people(database: Database, vault: Vault, count: int) -> tuple[TenantContext, list[str]]:
    """Let users of the largest tenant be people in the vault; return it, and those of the most events."""
    [row] = database.query(
        "SELECT tenant_id FROM events GROUP BY tenant_id ORDER BY count() DESC, tenant_id LIMIT 1"
    )
    tenant = TenantContext(row["tenant_id"])
    condition, bound = tenant.condition()
    users = database.query_columns(
        f"SELECT user_id FROM events WHERE {condition} AND user_id != '' GROUP BY user_id "
        "ORDER BY count() DESC, user_id LIMIT {count:UInt32}",
        {**bound, "count": count},
    )["user_id"]
    originals = [f"{user}@example.com" for user in users]
    people = [
        Subject(tenant.tenant_id, vault.pseudonym(tenant.tenant_id, original), original, 1)
        for original in originals
    ]
    vault.keep(people)
    database.command(
        "ALTER TABLE events UPDATE user_id = transform(user_id, {users:Array(String)}, "
        f"{{pseudonyms:Array(String)}}, user_id) WHERE {condition} SETTINGS mutations_sync = 2",
        {**bound, "users": list(users), "pseudonyms": [person.pseudonym for person in people]},
    )
    return tenant, originals


def bytes_of(database: Database, vault: Vault, tenant: TenantContext, originals: list[str]) -> list[bytes]:
    """Return what must be found of nobody who was forgotten: originals, and the ends of their ciphertexts."""
    condition, bound = tenant.condition()
    rows = database.query(
        f"SELECT hex(original) AS sealed FROM vault WHERE {condition} AND pseudonym IN {{who:Array(String)}}",
        {**bound, "who": [vault.pseudonym(tenant.tenant_id, original) for original in originals]},
    )
    return [*(original.encode() for original in originals), *(bytes.fromhex(r["sealed"])[-30:] for r in rows)]


def holding(contents: Iterable[bytes], needles: list[bytes]) -> int:
    """Return how many of some contents hold any of some bytes."""
    return sum(any(needle in content for needle in needles) for content in contents)


def unpacked(backup: Backup) -> Iterator[bytes]:
    """Yield what is in a backup's files."""
    for name, said in backup.files():
        content = (backup.path / name).read_bytes()
        yield pa.Codec(CODEC).decompress(content, said["bytes"], asbytes=True) if "bytes" in said else content


def forgotten(
    database: Database, rights: Privacy, tenant: TenantContext, originals: list[str], trust: Trust
) -> dict[str, Any]:
    """Forget people, and return what that and verifying afterwards took."""
    with Clock() as forgot:
        told = rights.forget(tenant, originals, actor="bench", reason="measured", now=datetime.now(UTC))
    with Clock() as verified:
        verdict = Verification(StoredTrail(database), trust).run()
    return {
        "people": len(originals),
        "rows_that_speak_of_them": told["kept"]["rows"]["events"],
        "forget_s": forgot.seconds,
        "verify_s": verified.seconds,
        "holds": verdict.holds,
        "findings": sorted({finding.kind for finding in verdict.findings}),
    }


def measured(rows: int, people: int, root: Path) -> dict[str, Any]:
    """Return what each step took on a store of so many rows."""
    database = Database.embedded(root / "first" / "clickhouse")
    migrate(database)
    *_, _ = fill(database, rows)
    ring = SealKeys(root / "keys")
    vault = Vault(database, MasterKeys(LocalMasterKey(os.urandom(KEY_BYTES))))
    if people:  # three times as many, because others stay
        tenant, originals = name_people(database, vault, 3 * people)
        database.command("OPTIMIZE TABLE vault FINAL")
        gone = bytes_of(database, vault, tenant, originals[:people])
        others = bytes_of(database, vault, tenant, originals[people:])
    with Clock() as sealed:
        seals = seal_all(database, ring.signer)
    with Clock() as verified:
        verdict = Verification(StoredTrail(database), ring.trust()).run()
    assert verdict.holds, verdict.findings[:3]
    assert verdict.rows == rows, verdict
    [size] = database.query(
        "SELECT sumIf(bytes_on_disk, table = 'seals') AS seals, "
        "sumIf(bytes_on_disk, table = 'events') AS events "
        "FROM system.parts WHERE active AND database = currentDatabase()"
    )
    forgetting = {}
    if people:
        rights = Privacy(database, vault)
        forgetting = {"forgetting": forgotten(database, rights, tenant, originals[:people], ring.trust())}
    with Clock() as backed_up:
        backup = create(database, root / "backups", ring.signer, datetime.now(UTC))
    tampering = tampered(database, ring)
    database.close()
    if people:
        files = [path for path in (root / "first").rglob("*") if path.is_file()]
        forgetting["forgetting"] |= {
            "searched_files": len(files),
            "files_with_them": holding((path.read_bytes() for path in files), gone),
            "backup_files_with_them": holding(unpacked(backup), gone),
            # That the search finds anything: those who were not forgotten are there, encrypted.
            "files_with_others": holding((path.read_bytes() for path in files), others),
            "backup_files_with_others": holding(unpacked(backup), others),
        }
    return {
        "rows": rows,
        "tenants": verdict.tenants,
        "seals": seals,
        "seal_us_per_event": round(sealed.cpu_s / rows * 1e6, 2),
        "seal_rows_per_s": round(rows / sealed.seconds),
        "seal_bytes_per_event": round(size["seals"] / rows, 1),
        "event_bytes": round(size["events"] / rows, 1),
        "verify_s": verified.seconds,
        "verify_cpu_s": verified.cpu_s,
        **forgetting,
        "backup_s": backed_up.seconds,
        "backup_bytes": sum((backup.path / name).stat().st_size for name, _ in backup.files()),
        "backup_rows": backup.rows(),
        **restored(root),
        **tampering,
    }


def restored(root: Path) -> dict[str, Any]:
    """Restore in a process of its own: a process has one engine."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.trail_seals", "--restore", root],
        stdout=subprocess.PIPE, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def restore_here(root: Path) -> dict[str, Any]:
    """Restore the newest backup into an empty directory, and compare seals."""
    backup: Backup = newest(root / "backups")
    trust: Trust = SealKeys(root / "keys").trust()
    database = Database.embedded(root / "second" / "clickhouse")
    with Clock() as took:
        restore(database, backup, trust)
    with Clock() as verified:
        verdict, differ = prove(database, backup, trust)
    database.close()
    return {
        "restore_s": took.seconds,
        "verify_restored_s": verified.seconds,
        "seals_equal": verdict.holds and not differ,
        "restored_events": verdict.rows,
    }


def piped(events: int, tenant_count: int, rounds: int) -> dict[str, Any]:
    """Return throughput and CPU of the pipeline without seals, as it is, and until all is sealed, in turn."""
    from bench.pipeline import fill as fill_topics
    from bench.pipeline import measure
    from bench.running import kafka

    found: dict[str, list[dict[str, Any]]] = {"unsealed": [], "pipeline": [], "sealed": []}
    with kafka() as (bootstrap, root):
        fill_topics(bootstrap, events, tenant_count, 10_000, 7)
        for number in range(rounds):
            # Whoever is first finds Kafka's files in memory, or has to warm them for the others.
            for subject in sorted(found, reverse=number % 2 == 0):
                found[subject].append(measure(subject, bootstrap, root, events, number))
    best = {name: max(r["events_per_s"] for r in results) for name, results in found.items()}
    cpu_us = {
        name: round(min(r["merged_cpu_s"] for r in results) / events * 1e6, 2)
        for name, results in found.items()
    }
    return {
        "events": events,
        "tenants": tenant_count,
        "events_per_s": best,
        "all_events_per_s": {name: [r["events_per_s"] for r in results] for name, results in found.items()},
        "cpu_us_per_event": cpu_us,
        "sealing_cpu_us_per_event": round(cpu_us["sealed"] - cpu_us["unsealed"], 2),
        "sealed_to_unsealed_cpu": round(cpu_us["sealed"] / cpu_us["unsealed"], 3),
        "pipeline_to_unsealed": round(best["pipeline"] / best["unsealed"], 3),
        "sealed_to_unsealed": round(best["sealed"] / best["unsealed"], 3),
    }


def main() -> None:
    """Measure and write the results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--people", type=int, default=0, help="to be forgotten")
    arguments.add_argument("--pipeline", action="store_true", help="also the pipeline with and without seals")
    arguments.add_argument("--events", type=int, default=2_000_000, help="that the pipeline reads")
    arguments.add_argument("--tenants", type=int, default=300)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--restore", type=Path, help=argparse.SUPPRESS)
    arguments.add_argument("--out", type=Path, default=Path("build/trail_seals.json"))
    given = arguments.parse_args()
    configure_logging("warning", "console")
    if given.restore:
        sys.stdout.write(json.dumps(restore_here(given.restore)))
        return
    here = machine()
    with tempfile.TemporaryDirectory(prefix="tenantwatch-bench-") as folder:
        result: dict[str, Any] = {"machine": here, "store": measured(given.rows, given.people, Path(folder))}
    print(json.dumps(result["store"]), file=sys.stderr, flush=True)
    if given.pipeline:
        result["pipeline"] = piped(given.events, given.tenants, given.rounds)
    write(result, given.out)


if __name__ == "__main__":
    main()
