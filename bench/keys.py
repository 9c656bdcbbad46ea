"""Many keys: what an event costs with 10,000 users and with 1,000,000, and what a user takes in memory.

Admission and detectors only, by CPU time of one thread. Every user has been active in all three kinds before
anything is measured, and each is as busy in the one population as in the other. Chunks are of one partition,
their users drawn uniformly: with many users nearly every event is somebody else's. Partitions take turns, so
that a chunk does not find its state in the processor's caches. Writes ``build/keys.json``.
"""

import argparse
import gc
import json
import random
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import count
from pathlib import Path
from time import thread_time
from typing import Any, Final

import numpy as np

from bench.traffic import START, events, tenants
from detectors.admission import Admission
from detectors.registry import new_detectors
from schemas.alert import from_ms
from schemas.event import KINDS, Kind
from schemas.parse import parse
from streams.records import MAX_CHUNK_RECORDS
from streams.topics import partition_of

PARTITIONS: Final = 12
# Users and tenants: those of `bench.pipeline`, and those of issue 4, part 8.
POPULATIONS: Final = ((10_000, 300), (1_000_000, 5_000))
# A user's events of all kinds are so far apart on average.
SECONDS_BETWEEN: Final = 50
FAILED_SHARE: Final = 0.02


class Traffic:
    """The events of `bench.traffic`, but each of a user who is asked for, at an address of their own."""

    def __init__(self, users: int, tenant_count: int, seed: int) -> None:
        self._tenant_count = tenant_count
        self._pace_ms = 1000 * SECONDS_BETWEEN / users
        self._start_ms = int(START.timestamp() * 1000)
        self._numbers = count()
        self.draw = random.Random(seed)
        self._templates: dict[Kind, dict[str, Any]] = {}
        for kind, _, value in events(len(KINDS), tenant_count=1, user_count=1, seed=seed):
            self._templates[kind] = json.loads(value)

    def records(self, kind: Kind, users: Iterable[int]) -> list[bytes]:
        """Return one event of each of the users, in the order of time."""
        return [json.dumps(self._event(kind, user)).encode() for user in users]

    def _event(self, kind: Kind, user: int) -> dict[str, Any]:
        number = next(self._numbers)
        time = from_ms(self._start_ms + int(number * self._pace_ms))
        return {
            **self._templates[kind],
            "event_id": f"{number:016x}",
            "tenant_id": f"tenant-{user % self._tenant_count}",
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "user_id": f"user-{user}",
            "source_ip": f"10.{user >> 16}.{user >> 8 & 255}.{user & 255}",
            "session_id": f"session-{user}",
            "outcome": "failure" if self.draw.random() < FAILED_SHARE else "success",
        }


@dataclass
class Place:
    """What a worker keeps of one partition of one kind."""

    kind: Kind
    users: list[int]
    admission: Admission
    detectors: list[tuple[Any, Any]]

    def fold(self, records: list[bytes], directory: dict[str, Any]) -> float:
        """Let admission and detectors see a chunk; return the CPU seconds that this took."""
        batch = parse(self.kind, records).batch
        batch = replace(batch, tenants=tuple(directory[name] for name in batch.tenant.values))
        started = thread_time()
        batch = self.admission.admit(batch)
        for detector, state in self.detectors:
            detector.fold(batch, state)
        return thread_time() - started


def places_of(users: int, tenant_count: int) -> list[Place]:
    """Return all partitions of all kinds, with their users."""
    by_partition: list[list[int]] = [[] for _ in range(PARTITIONS)]
    partitions = [partition_of(f"tenant-{i}".encode(), PARTITIONS) for i in range(tenant_count)]
    for user in range(users):
        by_partition[partitions[user % tenant_count]].append(user)
    return [
        Place(kind, mine, Admission(), [(d, d.new_state()) for d in new_detectors()[kind]])
        for mine in by_partition
        if mine
        for kind in KINDS
    ]


def size_of(thing: Any, seen: set[int]) -> int:
    """Return the bytes of an object and of all that it holds and `seen` does not."""
    if id(thing) in seen or isinstance(thing, type):
        return 0
    seen.add(id(thing))
    size = sys.getsizeof(thing)
    if isinstance(thing, np.ndarray):
        return size if thing.base is None else size + thing.nbytes
    return size + sum(size_of(part, seen) for part in _parts_of(thing))


def _parts_of(thing: Any) -> Iterator[Any]:
    if isinstance(thing, dict):
        yield from thing.keys()
        yield from thing.values()
    elif isinstance(thing, (list, tuple, set)):
        yield from thing
    elif is_dataclass(thing):
        yield from (getattr(thing, f.name) for f in fields(thing))
    elif hasattr(thing, "__dict__"):
        yield from vars(thing).values()


def resident_bytes() -> int:
    """Return what the process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def measure(users: int, tenant_count: int, rounds: int, chunk: int, seed: int) -> dict[str, Any]:
    """Return costs and sizes with so many users."""
    directory = {tenant.tenant_id: tenant for tenant in tenants(tenant_count)}
    traffic = Traffic(users, tenant_count, seed)
    places = places_of(users, tenant_count)
    gc.collect()
    resident = resident_bytes()
    warm_up: list[float] = []
    for place in places:
        traffic.draw.shuffle(place.users)
        for first in range(0, len(place.users), MAX_CHUNK_RECORDS):
            records = traffic.records(place.kind, place.users[first : first + MAX_CHUNK_RECORDS])
            warm_up.append(place.fold(records, directory))
    seconds: dict[Kind, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for place in places:
            records = traffic.records(place.kind, traffic.draw.choices(place.users, k=chunk))
            seconds[place.kind].append(place.fold(records, directory))
    by_kind = {kind: round(float(np.median(found)) / chunk * 1e6, 3) for kind, found in seconds.items()}
    gc.collect()
    sizes: dict[str, int] = defaultdict(int)
    for place in places:
        sizes["admission"] += size_of(place.admission, set())
        for detector, state in place.detectors:
            sizes[detector.name] += size_of(state, set())
    return {
        "users": users,
        "tenants": tenant_count,
        "us_per_event": by_kind,
        "us_per_event_mean": round(sum(by_kind.values()) / len(by_kind), 3),
        "slowest_chunk_ms": round(max(map(max, (warm_up, *seconds.values()))) * 1e3, 1),
        "bytes_per_user": {name: round(size / users, 1) for name, size in sizes.items()},
        "state_mb": round(sum(sizes.values()) / 1e6, 1),
        "resident_mb": round((resident_bytes() - resident) / 1e6, 1),
    }


def main() -> None:
    """Measure each population in a process of its own, and write the results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--population", type=int, nargs=2, help="users and tenants: only these")
    arguments.add_argument("--rounds", type=int, default=12, help="chunks of every partition and kind")
    arguments.add_argument("--chunk", type=int, default=MAX_CHUNK_RECORDS, help="events in each of them")
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--out", type=Path, default=Path("build/keys.json"))
    arguments.add_argument("--json", action="store_true", help="print JSON, and write nothing")
    given = arguments.parse_args()
    if given.population:
        users, tenant_count = given.population
        print(json.dumps(measure(users, tenant_count, given.rounds, given.chunk, given.seed)))
        return
    options = ("--rounds", str(given.rounds), "--chunk", str(given.chunk), "--seed", str(given.seed))
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-m", "bench.keys", "--population", *map(str, population), *options],
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
        )
        for population in POPULATIONS
    ]
    few, many = (result["us_per_event_mean"] for result in found)
    result = {"populations": found, "ratio": round(many / few, 2), "chunk": given.chunk, "seed": given.seed}
    print(json.dumps(result, indent=2))
    if not given.json:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
