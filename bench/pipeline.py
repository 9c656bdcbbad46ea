"""Throughput end to end on this machine, beside a plain Faust agent on the same topic, in one run.

Starts Kafka, fills the topics once, then lets each subject read them from the beginning in a process of
its own, with a consumer group and a store of its own. Writes ``build/bench.json``.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from bench.running import machine
from bench.traffic import events, tenants
from streams.broker import BrokerConfig, EmbeddedKafka
from streams.topics import TENANTS, TOPIC_OF, ensure_topics
from tenantwatch.logs import configure_logging


def produce_all(bootstrap: str, messages: Iterable[tuple[str, str | bytes, str]]) -> None:
    """Produce topic, value and key as fast as Kafka takes them, and wait until it has them."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "linger.ms": 50,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for topic, value, key in messages:
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def fill(bootstrap: str, count: int, tenant_count: int, user_count: int, seed: int, domain: str = "") -> None:
    """Produce the directory and the events, one event a message."""
    directory = ((TENANTS, tenant.model_dump_json(), tenant.tenant_id) for tenant in tenants(tenant_count))
    traffic = events(count, tenant_count=tenant_count, user_count=user_count, seed=seed, domain=domain)
    sent = ((TOPIC_OF[kind], value, tenant_id) for kind, tenant_id, value in traffic)
    produce_all(bootstrap, chain(directory, sent))


def measure(subject: str, bootstrap: str, root: Path, goal: int, turn: int = 0) -> dict[str, Any]:
    """Run a subject in a process of its own and return what it printed.

    Parameters
    ----------
    turn
        Tells apart runs over the same topics: each has a consumer group and a store of its own.
    """
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bench.subjects",
            subject,
            bootstrap,
            str(root / f"bench-{subject}-{turn}"),
            str(goal),
        ],
        stdout=subprocess.PIPE,
        check=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    result["events_per_s"] = round(result["events"] / result["seconds"])
    print(f"{subject:13} {result['events_per_s']:>9,} events/s  {result['peak_memory_mb']} MB", flush=True)
    return result


def main() -> None:
    """Measure and write the results."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=3_000_000, help="events in the topics")
    arguments.add_argument(
        "--plain-events", type=int, default=60_000, help="events that the plain agent handles"
    )
    arguments.add_argument("--tenants", type=int, default=300)
    arguments.add_argument("--users", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--out", type=Path, default=Path("build/bench.json"))
    given = arguments.parse_args()
    configure_logging("warning", "console")
    here = machine()
    with tempfile.TemporaryDirectory(prefix="tenantwatch-bench-") as folder:
        root = Path(folder)
        kafka = EmbeddedKafka(BrokerConfig(root, port=0, controller_port=0))
        bootstrap = kafka.start()
        try:
            ensure_topics(bootstrap)
            started = time.perf_counter()
            fill(bootstrap, given.events, given.tenants, given.users, given.seed)
            print(
                f"filled        {given.events:>9,} events in {time.perf_counter() - started:.0f} s",
                flush=True,
            )
            whole = measure("pipeline", bootstrap, root, given.events)
            bare = measure("no_detectors", bootstrap, root, given.events)
            plain = measure("plain", bootstrap, root, given.plain_events)
        finally:
            kafka.stop()
    result = {
        "events_per_s": whole["events_per_s"],
        "stages_us": whole["stages_us"],
        "peak_memory_mb": whole["peak_memory_mb"],
        "plain_faust_events_per_s": plain["events_per_s"],
        "ratio_to_plain_faust": round(whole["events_per_s"] / plain["events_per_s"], 1),
        "no_detectors_events_per_s": bare["events_per_s"],
        "ratio_to_no_detectors": round(whole["events_per_s"] / bare["events_per_s"], 2),
        "events": given.events,
        "tenants": given.tenants,
        "users": given.users,
        "seed": given.seed,
        "machine": here,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
