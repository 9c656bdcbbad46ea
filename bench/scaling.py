"""What more events a second need: unit costs measured here, a model, and how far it is right here.

One, two and three workers share this machine with Kafka and a ClickHouse server and work off the same
backlog. The highest of their unit costs say what 1, 10 and 100 million events a second need elsewhere, and
what should come of it here, where the cores are what runs out. Writes ``build/scaling.json``.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from math import ceil
from pathlib import Path
from typing import Any, Final

import psutil

from bench.peers import clickhouse
from bench.pipeline import fill
from bench.running import RunningWorker, broker, kafka, machine, workers, write
from store.database import Database
from store.master_key import new_secret
from streams.topics import KIND_OF

POLL_S: Final = 0.25
GIVE_UP_S: Final = 900.0
DAY_S: Final = 86_400


@dataclass(frozen=True)
class UnitCosts:
    """What an event costs.

    Parameters
    ----------
    worker_us, loop_us
        CPU of the worker, and of its event loop alone, which is one thread whatever the machine.
    server_us, kafka_us
        CPU of ClickHouse, merges included, and of Kafka, for consuming.
    stored_bytes, kafka_bytes
        On disk: in ClickHouse after merging, and in Kafka, lz4.
    """

    worker_us: float
    loop_us: float
    server_us: float
    kafka_us: float
    stored_bytes: float
    kafka_bytes: float


@dataclass(frozen=True)
class Assumptions:
    """What the model takes for granted; change them with what your machines are like.

    Parameters
    ----------
    busy
        Share of a core, or of a worker's loop, that may be used at the peak.
    shard_cores, broker_cores
        Of one ClickHouse server and of one broker.
    broker_mb_per_s
        What one broker writes, replicas included.
    replicas
        Copies of each event, in Kafka and in ClickHouse.
    partitions_per_worker
        So that a rebalance can spread what a lost worker had, and unequal partitions even out.
    """

    busy: float = 0.6
    shard_cores: int = 16
    broker_cores: int = 8
    broker_mb_per_s: float = 150.0
    replicas: int = 2
    partitions_per_worker: int = 4


def highest(costs: Sequence[UnitCosts]) -> UnitCosts:
    """Return the highest of each cost: each says how many there must be of something else.

    >>> highest([UnitCosts(20.0, 9.0, 5.0, 1.0, 30.0, 75.0), UnitCosts(22.0, 8.0, 10.0, 2.0, 30.0, 77.0)])
    UnitCosts(worker_us=22.0, loop_us=9.0, server_us=10.0, kafka_us=2.0, stored_bytes=30.0, kafka_bytes=77.0)
    """
    return UnitCosts(*map(max, zip(*map(astuple, costs), strict=True)))


def needs(rate: float, cost: UnitCosts, given: Assumptions) -> dict[str, float]:
    """Return what so many events a second need.

    >>> cost = UnitCosts(10.0, 5.0, 4.0, 1.0, 60.0, 100.0)
    >>> needs(1e6, cost, Assumptions(busy=0.5))["workers"]
    10
    """
    workers = ceil(rate * cost.loop_us / 1e6 / given.busy)
    shards = ceil(rate * cost.server_us / 1e6 / given.busy / given.shard_cores)
    by_cpu = rate * cost.kafka_us * given.replicas / 1e6 / given.busy / given.broker_cores
    by_disk = rate * cost.kafka_bytes * given.replicas / 1e6 / given.broker_mb_per_s
    return {
        "rate": rate,
        "workers": workers,
        "worker_cores": ceil(rate * cost.worker_us / 1e6 / given.busy),
        "partitions": workers * given.partitions_per_worker,
        "shards": shards,
        "servers": shards * given.replicas,
        "brokers": max(3, ceil(by_cpu), ceil(by_disk)),
        "stored_tb_per_day": round(rate * DAY_S * cost.stored_bytes * given.replicas / 1e12, 1),
    }


def predicted_events_per_s(workers: int, cost: UnitCosts, cores: int) -> float:
    """Return what workers do on one machine with Kafka and the server: their loops or its cores run out."""
    by_loops = workers * 1e6 / cost.loop_us
    by_cores = cores * 1e6 / (cost.worker_us + cost.server_us + cost.kafka_us)
    return min(by_loops, by_cores)


def measure(count: int, given: argparse.Namespace) -> dict[str, Any]:
    """Let some workers work off a backlog; measure from when all are at work until everything is stored."""
    with kafka(given.partitions) as (bootstrap, root), clickhouse(root / "server") as server:
        fill(bootstrap, given.events, given.tenants, given.users, given.seed)
        database = Database.server(server.url)
        shared = {"clickhouse": server.url, "master_key": new_secret()}
        with workers(count, bootstrap, root, **shared) as ours:
            others = {"server": psutil.Process(server.pid), "kafka": broker()}
            at_first, began, before = _stored(database), time.perf_counter(), _cpu(ours, others)
            while (stored := _stored(database)) < given.events:
                if time.perf_counter() - began > GIVE_UP_S:
                    raise TimeoutError(f"{stored:,} of {given.events:,} events stored in {GIVE_UP_S:.0f} s")
                time.sleep(POLL_S)
            took_s, used = time.perf_counter() - began, _cpu(ours, others)
            rss_mb = [round(one.rss_mb()) for one in ours]
        handled = max(given.events - at_first, 1)
        cpu_us = {name: (used[name] - before[name]) / handled * 1e6 for name in used}
        cost = UnitCosts(
            cpu_us["workers"],
            cpu_us["loops"],
            cpu_us["server"],
            cpu_us["kafka"],
            _stored_bytes(database),
            _kafka_bytes(root) / given.events,
        )
        database.close()
    return {
        "workers": count,
        "events_per_s": round(handled / took_s),
        "events_after_all_were_ready": handled,
        "rss_mb_each": rss_mb,
        "cost": {name: round(value, 2) for name, value in asdict(cost).items()},
    }


def _stored(database: Database) -> int:
    return int(database.query("SELECT count() AS n FROM events")[0]["n"])


def _stored_bytes(database: Database) -> float:
    database.command("OPTIMIZE TABLE events FINAL")
    sql = "SELECT sum(bytes_on_disk) / sum(rows) AS size FROM system.parts WHERE active AND table = 'events'"
    return float(database.query(sql)[0]["size"])


def _kafka_bytes(root: Path) -> int:
    folders = (folder for topic in KIND_OF for folder in (root / "kafka/data").glob(f"{topic}-*"))
    return sum(file.stat().st_size for folder in folders for file in folder.glob("*.log"))


def _cpu(ours: list[RunningWorker], others: dict[str, psutil.Process]) -> dict[str, float]:
    used = {name: float(sum(process.cpu_times()[:2])) for name, process in others.items()}
    used["workers"] = sum(one.cpu_s() for one in ours)
    used["loops"] = sum(one.cpu_by_thread_s()["main"] for one in ours)
    return used


def main() -> None:
    """Measure, predict, compare, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--tenants", type=int, default=2_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("build/scaling.json"))
    given = parser.parse_args()
    here = machine()
    measured = [measure(count, given) for count in given.workers]
    cost = highest([UnitCosts(**one["cost"]) for one in measured])
    for one in measured:
        one["predicted_events_per_s"] = round(predicted_events_per_s(one["workers"], cost, here["cpus"]))
    assumptions = Assumptions()
    result = {
        "machine": here,
        "measured": measured,
        "assumptions": asdict(assumptions),
        "model": [needs(rate, cost, assumptions) for rate in (1e6, 1e7, 1e8)],
    }
    write(result, given.out)


if __name__ == "__main__":
    main()
