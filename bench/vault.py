"""What pseudonyms cost: CPU of the stage per event, of a person who is new, and throughput end to end.

Writes ``build/vault.json``. End to end, runs with and without the vault take turns over the same events, with
addresses as ``user_id`` and without: the machine's mood falls on all alike, and of each the best run counts.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, Final

from bench.pipeline import fill, measure
from bench.running import machine
from bench.stages import NOW_MS, PARTITIONS, Chunk, chunks
from bench.traffic import tenants
from schemas.batch import EventBatch
from schemas.parse import parse
from store.database import Database
from store.master_key import KEY_BYTES, LocalMasterKey, MasterKeys
from store.migrations import migrate
from store.vault import Vault
from streams.broker import BrokerConfig, EmbeddedKafka
from streams.directory import Directory, Entry
from streams.faust_app import StreamConfig, create_app
from streams.pseudonyms import Pseudonymiser
from streams.topics import ensure_topics
from tenantwatch.logs import configure_logging

DOMAIN: Final = "@example.com"
ROUNDS: Final = 5
NEW_PEOPLE: Final = 20_000


def batches(found: Sequence[Chunk], directory: Directory) -> list[EventBatch]:
    """Return chunks parsed and enriched, none of their Python values made yet."""
    return [directory.enrich(parse(kind, records.values).batch, NOW_MS)[0] for kind, records in found]


def stage_us(found: Sequence[Chunk], directory: Directory, vault: Vault) -> float:
    """Return CPU µs an event of replacing what is personal in it, once everybody is known."""
    pseudonymiser = Pseudonymiser(vault.pseudonym_key)
    count = sum(len(records) for _, records in found)
    best = float("inf")
    for _ in range(ROUNDS + 1):  # in the first, everybody is new
        prepared = batches(found, directory)
        started = thread_time()
        for batch in prepared:
            pseudonymiser.apply(batch, 0)
        best = min(best, thread_time() - started)
    return best / count * 1e6


def new_person_us(vault: Vault) -> dict[str, float]:
    """Return µs for each person who is met for the first time: a row in the vault, and one who has it."""
    from store.vault import Subject

    names = [f"new-{i}{DOMAIN}" for i in range(NEW_PEOPLE)]
    people = [Subject("tenant-new", vault.pseudonym("tenant-new", name), name, 1) for name in names]
    started = perf_counter()
    vault.keep(people)
    stored = perf_counter()
    vault.keep(people)
    return {
        "stored_us": round((stored - started) / NEW_PEOPLE * 1e6, 1),
        "found_stored_us": round((perf_counter() - stored) / NEW_PEOPLE * 1e6, 1),
    }


def stages(given: argparse.Namespace) -> dict[str, Any]:
    """Measure without Kafka."""
    with tempfile.TemporaryDirectory(prefix="tenantwatch-vault-") as folder:
        database = Database.embedded(Path(folder) / "clickhouse")
        migrate(database)
        vault = Vault(database, MasterKeys(LocalMasterKey(os.urandom(KEY_BYTES))))
        directory = Directory(create_app(StreamConfig("127.0.0.1:1", Path(folder), "vault")), PARTITIONS)
        for version, tenant in enumerate(tenants(given.tenants)):
            directory._entries[tenant.tenant_id] = Entry(tenant, version)
        size = (given.tenants, given.users)
        result: dict[str, Any] = {
            name: round(stage_us(chunks(given.stage_events, *size, 7, domain), directory, vault), 3)
            for name, domain in (("plain_us", ""), ("addresses_us", DOMAIN))
        }
        result["new_person"] = new_person_us(vault)
        database.close()
    return result


def end_to_end(given: argparse.Namespace, domain: str) -> dict[str, Any]:
    """Measure with Kafka, the same events with the vault and without it."""
    found: dict[str, list[dict[str, Any]]] = {"no_vault": [], "pipeline": []}
    with tempfile.TemporaryDirectory(prefix="tenantwatch-vault-") as folder:
        root = Path(folder)
        kafka = EmbeddedKafka(BrokerConfig(root, port=0, controller_port=0))
        bootstrap = kafka.start()
        try:
            ensure_topics(bootstrap)
            fill(bootstrap, given.events, given.tenants, given.users, 7, domain)
            for turn in range(given.turns):
                # Whoever is first finds Kafka's files in memory, or has to warm them for the other.
                for subject in sorted(found, reverse=turn % 2 == 0):
                    found[subject].append(measure(subject, bootstrap, root, given.events, turn))
        finally:
            kafka.stop()
    rate = {name: max(run["events_per_s"] for run in runs) for name, runs in found.items()}
    cpu_us = {name: min(run["cpu_s"] for run in runs) / given.events * 1e6 for name, runs in found.items()}
    return {
        "events_per_s": rate["pipeline"],
        "without_vault_events_per_s": rate["no_vault"],
        "cost_percent": round(100 * (1 - rate["pipeline"] / rate["no_vault"]), 1),
        "cpu_us": round(cpu_us["pipeline"], 2),
        "without_vault_cpu_us": round(cpu_us["no_vault"], 2),
        "cpu_cost_percent": round(100 * (cpu_us["pipeline"] / cpu_us["no_vault"] - 1), 1),
    }


def main() -> None:
    """Measure and write the results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=1_500_000)
    arguments.add_argument("--stage-events", type=int, default=240_000)
    arguments.add_argument("--tenants", type=int, default=300)
    arguments.add_argument("--users", type=int, default=10_000)
    arguments.add_argument("--turns", type=int, default=2)
    arguments.add_argument("--stages-only", action="store_true", help="without Kafka")
    arguments.add_argument("--out", type=Path, default=Path("build/vault.json"))
    given = arguments.parse_args()
    configure_logging("warning", "console")
    result: dict[str, Any] = {"machine": machine(), "stage": stages(given)}
    if not given.stages_only:
        result["addresses"] = end_to_end(given, DOMAIN)
        result["plain"] = end_to_end(given, "")
        result |= {"events": given.events, "tenants": given.tenants, "users": given.users}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
