"""CPU time of each stage of the worker, without Kafka: µs of one thread per event.

Chunks are those of the real run: 4,000 records of one kind and partition, the tenants of 12 partitions.
Each round handles all chunks once with fresh state; of each stage the best round counts. Detectors see the
events of one kind only, but count per event of any. Chunks stay alive as long as they wait in a busy worker;
``cold`` is with the processor's caches swept before each chunk besides.
"""

import argparse
import gc
import json
import sys
import tempfile
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import thread_time
from typing import Any, Final, TypeVar

import numpy as np

from bench.traffic import events, tenants
from schemas.batch import EventBatch
from schemas.event import Kind
from schemas.parse import parse
from store.events import KafkaIds, encode
from store.ownership import Claim
from streams.chunk import _check_keys
from streams.directory import Directory, Entry
from streams.faust_app import StreamConfig, create_app
from streams.partition import PartitionState
from streams.records import MAX_CHUNK_RECORDS, Records
from streams.topics import TOPIC_OF, partition_of

PARTITIONS: Final = 12
# What waits in a worker: three groups of 50,000 rows.
LIVE_CHUNKS: Final = 37
ROWS_PER_INSERT: Final = 50_000
# Far ahead of the traffic, so that no event is in the future.
NOW_MS: Final = 2**42
BALLAST_BYTES: Final = 200 * 1024 * 1024
IDS: Final = KafkaIds("cluster", {topic: f"id-{topic}" for topic in TOPIC_OF.values()})
Result = TypeVar("Result")
Chunk = tuple[Kind, Records]


def chunks(count: int, tenant_count: int, user_count: int, seed: int, domain: str = "") -> list[Chunk]:
    """Return the chunks in which a worker would receive the traffic, partitions in turns."""
    waiting: dict[tuple[Kind, int], list[tuple[bytes, bytes]]] = defaultdict(list)
    offsets: dict[tuple[Kind, int], int] = defaultdict(int)
    found: list[Chunk] = []
    traffic = events(count, tenant_count=tenant_count, user_count=user_count, seed=seed, domain=domain)
    for kind, tenant_id, value in traffic:
        key = tenant_id.encode()
        place = kind, partition_of(key, PARTITIONS)
        waiting[place].append((key, value))
        if len(waiting[place]) == MAX_CHUNK_RECORDS:
            keys, values = map(list, zip(*waiting.pop(place), strict=True))
            first = offsets[place]
            offsets[place] += MAX_CHUNK_RECORDS
            numbers = list(range(first, first + MAX_CHUNK_RECORDS))
            headers: list[tuple[tuple[str, bytes], ...]] = [()] * MAX_CHUNK_RECORDS
            found.append((kind, Records(TOPIC_OF[kind], place[1], numbers, keys, values, headers, numbers)))
    return found


class Stopwatch:
    """CPU seconds of this thread by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def time(self, stage: str, work: Callable[..., Result], *args: Any) -> Result:
        """Do the work and return its result."""
        started = thread_time()
        result = work(*args)
        self.seconds[stage] += thread_time() - started
        return result


def handle(found: list[Chunk], directory: Directory, ballast: Any, watch: Stopwatch) -> Iterator[EventBatch]:
    """Handle the chunks as `streams.chunk` does, and yield the batches to store."""
    states: dict[tuple[Kind, int], PartitionState] = {}
    for kind, records in found:
        claim = Claim(records.topic, records.partition, 1, 1)
        state = states.setdefault((kind, records.partition), PartitionState(kind, PARTITIONS, claim))
        if ballast is not None:
            ballast += 1
        batch = watch.time("parse", parse, kind, records.values).batch
        batch, _ = watch.time("keys", _check_keys, batch, records)
        batch, _ = watch.time("enrich", directory.enrich, batch, NOW_MS)
        watch.time("placement", state.placement.misplaced, records.keys, records.partition)
        offset = np.array(records.offsets, np.int64)[batch.offset]
        batch = replace(batch, topic=records.topic, partition=records.partition, offset=offset)
        batch = watch.time("admit", state.admission.admit, batch)
        for detector, memory in state.detectors:
            watch.time(detector.name, detector.fold, batch, memory)
        watch.time("address_credit", state.unexcused, batch)
        yield batch


def store(group: Sequence[EventBatch], watch: Stopwatch) -> None:
    """Encode a group of batches, as the writer does."""
    for kind in sorted({batch.kind for batch in group}):
        watch.time("encode", encode, kind, [batch for batch in group if batch.kind == kind], IDS)


def one_round(found: list[Chunk], directory: Directory, ballast: Any) -> dict[str, float]:
    """Return CPU seconds by stage."""
    waiting: deque[EventBatch] = deque(maxlen=LIVE_CHUNKS)
    group: list[EventBatch] = []
    watch = Stopwatch()
    gc.collect()
    for batch in handle(found, directory, ballast, watch):
        waiting.append(batch)
        group.append(batch)
        if len(group) * MAX_CHUNK_RECORDS >= ROWS_PER_INSERT:
            store(group, watch)
            group = []
    store(group, watch)
    return dict(watch.seconds)


def measure(found: list[Chunk], directory: Directory, rounds: int, cold: bool) -> dict[str, float]:
    """Return CPU µs per event by stage."""
    ballast = np.zeros(BALLAST_BYTES // 8, np.int64) if cold else None
    results = [one_round(found, directory, ballast) for _ in range(rounds)]
    events_all = sum(len(records) for _, records in found)
    return {stage: min(r[stage] for r in results) / events_all * 1e6 for stage in results[0]}


def main() -> None:
    """Measure and print a table, or JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=300_000)
    arguments.add_argument("--tenants", type=int, default=300)
    arguments.add_argument("--users", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", action="store_true", help="print JSON")
    given = arguments.parse_args()
    found = chunks(given.events, given.tenants, given.users, given.seed)
    with tempfile.TemporaryDirectory(prefix="tenantwatch-stages-") as folder:
        directory = Directory(create_app(StreamConfig("127.0.0.1:1", Path(folder), "stages")), PARTITIONS)
        for version, tenant in enumerate(tenants(given.tenants)):
            directory._entries[tenant.tenant_id] = Entry(tenant, version)
        # As the worker does.
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        warm = measure(found, directory, given.rounds, cold=False)
        cold = measure(found, directory, given.rounds, cold=True)
    if given.json:
        json.dump({"warm_us": warm, "cold_us": cold}, sys.stdout, indent=2)
        return
    print(f"{'CPU µs per event':16} {'warm':>6} {'cold':>6}")
    for stage in warm:
        print(f"{stage:16} {warm[stage]:6.2f} {cold[stage]:6.2f}")
    print(f"{'all':16} {sum(warm.values()):6.2f} {sum(cold.values()):6.2f}")


if __name__ == "__main__":
    main()
