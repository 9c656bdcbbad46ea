"""Memory over time: a worker that knows a million users in 5,000 tenants, under steady traffic.

Every user first shows up once in each kind, as fast as the worker takes it; then the traffic is steady and
memory is read every 5 s: what is resident of the worker's process, the engine in it included, Kafka not.
Flat means that the slope over the second half leads nowhere. Writes ``build/soak.json``.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.latency import traffic
from bench.memory import peak_memory_mb, status_mb
from bench.pipeline import produce_all
from bench.running import RunningWorker, kafka, machine, worker, write
from bench.steady import event_of, now_text
from bench.traffic import tenants
from schemas.event import KINDS
from streams.topics import TENANTS, TOPIC_OF

SAMPLE_S: Final = 5.0
CATCH_UP_DEADLINE_S: Final = 1_800.0


def introduce(bootstrap: str, users: int, tenant_count: int) -> None:
    """Produce the directory, and an event of each kind for each user."""
    names = [tenant.tenant_id for tenant in tenants(tenant_count)]
    produce_all(bootstrap, ((TENANTS, t.model_dump_json(), t.tenant_id) for t in tenants(tenant_count)))

    def hellos() -> Iterator[tuple[str, str, str]]:
        for user in range(users):
            tenant_id, text = names[user % tenant_count], now_text()
            for kind in KINDS:
                value = event_of(user, tenant_id, kind, f"hello-{user}-{kind}", text, failed=False)
                yield TOPIC_OF[kind], value, tenant_id

    produce_all(bootstrap, hellos())


def until_stored(ours: RunningWorker, events: int) -> float:
    """Wait until so many events are stored and return how long it took."""
    began = time.monotonic()
    while ours.stored() < events:
        if time.monotonic() - began > CATCH_UP_DEADLINE_S:
            raise TimeoutError(f"{ours.stored():,} of {events:,} events stored in {CATCH_UP_DEADLINE_S} s")
        time.sleep(0.5)
    return time.monotonic() - began


def watch(ours: RunningWorker, seconds: float) -> list[tuple[float, float]]:
    """Return (second, MiB) every 5 s."""
    began = time.monotonic()
    samples = []
    while (elapsed_s := time.monotonic() - began) < seconds:
        samples.append((round(elapsed_s, 1), round(ours.rss_mb(), 1)))
        time.sleep(SAMPLE_S)
    return samples


def slope_mb_per_minute(samples: list[tuple[float, float]]) -> float:
    """Return the slope of a line through the samples of the second half."""
    half = np.array(samples[len(samples) // 2 :])
    return float(60 * np.polyfit(half[:, 0], half[:, 1], 1)[0]) if len(half) > 1 else 0.0


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Introduce the users, let time pass, and return what memory did."""
    with kafka() as (bootstrap, root), worker(bootstrap, root / "worker") as ours:
        began_mb = ours.rss_mb()
        introduce(bootstrap, given.users, given.tenants)
        took_s = until_stored(ours, 3 * given.users)
        known_mb, known_peak_mb = ours.rss_mb(), peak_memory_mb(ours.process.pid)
        print(f"{given.users:,} users known after {took_s:.0f} s more: {known_mb:.0f} MiB", flush=True)
        seconds = 60 * given.minutes
        options = {"rate": given.rate, "seconds": seconds, "tenants": given.tenants, "users": given.users}
        with traffic(bootstrap, **options) as sending:
            samples = watch(ours, seconds)
            sent = json.loads(sending.communicate()[0])["sent"]
        behind = 3 * given.users + sent - ours.stored()
        return {
            "users": given.users,
            "tenants": given.tenants,
            "rate": given.rate,
            "minutes": given.minutes,
            "rss_mb_at_start": round(began_mb),
            "rss_mb_with_all_users": round(known_mb),
            "peak_mb_with_all_users": known_peak_mb,
            "peak_mb": peak_memory_mb(ours.process.pid),
            "anonymous_mb_at_the_end": status_mb("RssAnon", ours.process.pid),
            "slope_mb_per_minute": round(slope_mb_per_minute(samples), 2),
            # Some are always on their way; a number that grows with the rate means that it fell behind.
            "events_not_stored_at_the_end": behind,
            "rss_mb_every_5_s": [round(mb) for _, mb in samples],
        }


def main() -> None:
    """Soak and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--tenants", type=int, default=5_000)
    parser.add_argument("--rate", type=float, default=10_000, help="events a second")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--out", type=Path, default=Path("build/soak.json"))
    given = parser.parse_args()
    write({"machine": machine(), **run(given)}, given.out)


if __name__ == "__main__":
    main()
