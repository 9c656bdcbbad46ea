"""What is measured, each in a process of its own: ``python -m bench.subjects NAME BOOTSTRAP DIRECTORY GOAL``.

A URL after these is the ClickHouse server to use instead of the engine in the process. Prints one line of
JSON: events, seconds (from the first event in hand to the last one committed) and CPU seconds of that time,
stages, peak memory.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import faust
from aiokafka.consumer import fetcher
from prometheus_client import Counter
from prometheus_client.samples import Sample

import streams.partition
from bench.memory import peak_memory_mb
from detectors.failed_login import FailedLogin
from detectors.registry import Detector
from schemas.event import KINDS, MODELS, Kind
from store.database import Database
from store.master_key import KEY_BYTES, LocalMasterKey, MasterKeys
from store.migrations import migrate
from store.seals.anchors import AnchorBook
from store.seals.keys import SealKeys
from store.vault import Vault
from store.webhooks import WebhookStore
from store.writer import EventWriter
from streams import metrics, records
from streams.faust_app import StreamConfig
from streams.heap import keep_heap_small
from streams.sealing import SealingConfig
from streams.topics import KIND_OF, TOPIC_OF, ensure_topics
from streams.webhooks.delivery import WebhookDelivery
from streams.worker import Worker
from tenantwatch.logs import configure_logging

GIVE_UP_S = 120
QUIET_LOOKS = 4


def _stage_us(events: int) -> dict[str, float]:
    return {
        sample.labels["stage"]: round(sample.value / events * 1e6, 2)
        for sample in _totals(metrics.STAGE_SECONDS)
    }


def _totals(counter: Counter) -> list[Sample]:
    [family] = counter.collect()
    return [sample for sample in family.samples if sample.name.endswith("_total")]


async def pipeline(
    bootstrap: str,
    directory: Path,
    goal: int,
    *,
    pseudonyms: bool = True,
    sealing: bool = True,
    seal_all: bool = False,
) -> dict[str, Any]:
    """The whole job: validate, enrich, detect, store, commit, seal.

    Parameters
    ----------
    pseudonyms
        Whether identifiers are replaced.
    sealing
        Whether rows are sealed at all.
    seal_all
        Whether it is done only when the last row is sealed: they would be in the next minute.
    """
    keep_heap_small()  # as `tenantwatch` does
    database = _open(directory)
    topics = ensure_topics(bootstrap)
    config = StreamConfig(bootstrap, directory, "bench", app_id=directory.name)
    masters = MasterKeys(LocalMasterKey(os.urandom(KEY_BYTES)))
    vault = Vault(database, masters) if pseudonyms else None
    seals = SealingConfig(SealKeys(directory / "keys"), AnchorBook(directory / "seals")) if sealing else None
    webhooks = WebhookDelivery(WebhookStore(database))
    worker = Worker(config, topics, database, webhooks, vault, sealing=seals)
    begun: list[float] = []
    handle = worker.pipeline.handle

    async def first_seen(*args: Any) -> None:
        if not begun:
            begun.extend((time.perf_counter(), time.process_time()))
        await handle(*args)

    worker.pipeline.handle = first_seen  # type: ignore[method-assign, assignment]  # takes whatever it takes
    await worker.start()
    await _until_committed(worker, goal)
    if seal_all and worker.sealer is not None:
        while await worker.sealer.seal(everything=True):
            pass
    seconds, cpu_s = time.perf_counter() - begun[0], time.process_time() - begun[1]
    await worker.stop()
    await _until_merged(database)
    merged_cpu_s = time.process_time() - begun[1]
    stored = database.query("SELECT count() AS n FROM events")[0]["n"]
    database.close()
    return {
        "events": stored or goal,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "merged_cpu_s": merged_cpu_s,
        "alerts": _published(),
        "stages_us": _stage_us(goal),
    }


def _open(directory: Path) -> Database:
    url = sys.argv[5] if len(sys.argv) > 5 else None
    database = Database.server(url) if url else Database.embedded(directory / "clickhouse")
    migrate(database)
    return database


def _published() -> int:
    return round(sum(sample.value for sample in _totals(metrics.ALERTS_PUBLISHED)))


async def _until_committed(worker: Worker, goal: int) -> None:
    """Wait until every record of the event topics is committed."""
    deadline = time.monotonic() + GIVE_UP_S
    consumer: Any = worker.app.consumer
    while time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        tps = [tp for tp in worker.pipeline.assigned if tp.topic in KIND_OF]
        if tps and sum(consumer._committed_offset.get(tp) or 0 for tp in tps) >= goal:
            return
    raise TimeoutError(f"not committed within {GIVE_UP_S} s")


async def _until_merged(database: Database) -> None:
    """Wait until the engine has nothing more to merge: who ends early would leave work uncounted."""
    deadline, quiet = time.monotonic() + GIVE_UP_S, 0
    while quiet < QUIET_LOOKS and time.monotonic() < deadline:
        await asyncio.sleep(0.5)
        quiet = 0 if database.query("SELECT count() AS n FROM system.merges")[0]["n"] else quiet + 1


async def sealed(bootstrap: str, directory: Path, goal: int) -> dict[str, Any]:
    """The whole job, and every row sealed."""
    return await pipeline(bootstrap, directory, goal, seal_all=True)


async def unsealed(bootstrap: str, directory: Path, goal: int) -> dict[str, Any]:
    """The whole job without seals."""
    return await pipeline(bootstrap, directory, goal, sealing=False)


async def no_vault(bootstrap: str, directory: Path, goal: int) -> dict[str, Any]:
    """The whole job, but identifiers are stored as they come."""
    return await pipeline(bootstrap, directory, goal, pseudonyms=False)


async def no_detectors(bootstrap: str, directory: Path, goal: int) -> dict[str, Any]:
    """Consume, validate and insert, with no detectors."""
    streams.partition.new_detectors = lambda: dict.fromkeys(KINDS, ())  # type: ignore[attr-defined]
    return await pipeline(bootstrap, directory, goal)


async def no_store(bootstrap: str, directory: Path, goal: int) -> dict[str, Any]:
    """Everything but the rows: events are encoded for the store and then dropped; the ledger is kept."""
    EventWriter.insert_events = lambda *_: None  # type: ignore[method-assign]
    return await pipeline(bootstrap, directory, goal)


async def failed_logins(bootstrap: str, directory: Path, goal: int) -> dict[str, Any]:
    """Consume, validate, look for guessing, alert and commit: no row is made, and nothing of one."""
    only: dict[Kind, tuple[Detector, ...]] = dict.fromkeys(KINDS, ())
    only["auth"] = (FailedLogin(),)
    streams.partition.new_detectors = lambda: only  # type: ignore[attr-defined]
    EventWriter.encode_events = lambda *_: []  # type: ignore[method-assign]
    return await pipeline(bootstrap, directory, goal, pseudonyms=False, sealing=False)


async def plain(bootstrap: str, directory: Path, goal: int) -> dict[str, Any]:
    """The same job as a plain Faust agent: one message at a time, a windowed table, rows in batches."""
    # With Kafka's client as it comes, without what `streams.records` puts in its place.
    fetcher.PartitionRecords, fetcher.FetchResult = records.PartitionRecords, records.FetchResult
    database = Database.embedded(directory / "clickhouse")
    migrate(database)
    ensure_topics(bootstrap)
    app = faust.App(
        directory.name,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=str(directory / "faust"),
        web_enabled=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        topic_partitions=12,
    )
    failures = app.Table("failures", default=int, partitions=12).tumbling(300.0, expires=600.0)
    settings = {f"tenant-{i}": {"tier": "free", "region": "eu"} for i in range(10_000)}
    rows: list[dict[str, Any]] = []
    begun: list[float] = []
    done = asyncio.Event()
    handled = 0

    def agent_of(kind: str) -> Any:
        async def consume(stream: Any) -> None:
            nonlocal handled
            async for value in stream:
                if not begun:
                    begun.append(time.perf_counter())
                event = MODELS[kind].model_validate_json(value)  # type: ignore[index]
                row = event.model_dump(exclude_none=True) | settings[event.tenant_id]
                row["time"] = row["time"].rstrip("Z")
                if event.outcome == "failure":
                    key = f"{event.tenant_id}/{event.user_id}"
                    failures[key] += 1
                rows.append(row)
                handled += 1
                if len(rows) >= 1_000:
                    batch = rows[:]
                    rows.clear()
                    await asyncio.to_thread(_insert, database, batch)
                if handled >= goal:
                    done.set()

        return consume

    for kind, topic in TOPIC_OF.items():
        app.agent(app.topic(topic, value_serializer="raw"), name=topic)(agent_of(kind))
    await app.start()
    async with asyncio.timeout(GIVE_UP_S):
        await done.wait()
    seconds = time.perf_counter() - begun[0]
    await app.stop()
    return {"events": handled, "seconds": seconds, "stages_us": {}}


def _insert(database: Database, rows: list[dict[str, Any]]) -> None:
    names = sorted({name for row in rows for name in row})
    database.insert_rows("events", [{name: row.get(name) for name in names} for row in rows])


SUBJECTS: Final[dict[str, Callable[[str, Path, int], Awaitable[dict[str, Any]]]]] = {
    "pipeline": pipeline,
    "sealed": sealed,
    "unsealed": unsealed,
    "no_vault": no_vault,
    "no_detectors": no_detectors,
    "no_store": no_store,
    "failed_logins": failed_logins,
    "plain": plain,
}


async def _run(subject: Callable[[str, Path, int], Awaitable[dict[str, Any]]], *given: Any) -> dict[str, Any]:
    return await subject(*given)


def main() -> None:
    """Run one subject and print its result."""
    name, bootstrap, directory, goal = sys.argv[1:5]
    configure_logging("warning", "console")
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    subject = SUBJECTS[name]
    result = asyncio.run(_run(subject, bootstrap, path, int(goal)))
    result["peak_memory_mb"] = peak_memory_mb()
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
