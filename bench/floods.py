"""One tenant floods at 100 times its normal rate: what the other tenants notice.

Latency from produce to alert, before, while and after one tenant sends 100 times what it usually does; of
tenants in the flooding tenant's partition and of tenants elsewhere. Writes ``build/floods.json``.
"""

import argparse
import time
from pathlib import Path
from typing import Any, Final

from bench.latency import DRAIN_S, alert_arrivals, summary, traffic
from bench.running import kafka, machine, worker, write
from bench.traffic import tenants
from streams.topics import partition_of

# It has a few neighbours in its partition, as `neighbours` finds.
FLOODING: Final = 1


def neighbours(tenant_count: int, partitions: int) -> tuple[list[str], list[str]]:
    """Return as many tenants in the flooding tenant's partition as elsewhere; the flooding one in neither."""
    names = [tenant.tenant_id for tenant in tenants(tenant_count)]
    home = partition_of(names[FLOODING].encode(), partitions)
    others = [name for i, name in enumerate(names) if i != FLOODING]
    beside = [name for name in others if partition_of(name.encode(), partitions) == home]
    elsewhere = [name for name in others if name not in beside]
    return beside, elsewhere[: len(beside)]


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Let one tenant flood in the middle third and return everyone else's latency."""
    beside, elsewhere = neighbours(given.tenants, given.partitions)
    usual = given.rate / given.tenants
    normal = {"tenants": given.tenants, "users": given.users}
    attacked = [name for pair in zip(beside, elsewhere, strict=True) for name in pair]
    with (
        kafka(given.partitions) as (bootstrap, root),
        worker(bootstrap, root / "worker") as ours,
        alert_arrivals(bootstrap) as alerts,
    ):
        whole = {"rate": given.rate, "seconds": given.warmup + 3 * given.seconds}
        attacks = {"attacks_per_s": given.attacks_per_s, "attack": attacked}
        with traffic(bootstrap, **whole, **attacks, **normal) as sending:
            time.sleep(given.warmup)
            marks = [time.time_ns()]
            time.sleep(given.seconds)
            marks.append(time.time_ns())
            flood = {"rate": given.times * usual, "seconds": given.seconds, "only": FLOODING}
            with traffic(bootstrap, **flood, attacks_per_s=0, seed=8, **normal) as flooding:
                flooding.wait()
            marks.append(time.time_ns())
            time.sleep(given.seconds)
            marks.append(time.time_ns())
            sending.wait()
        time.sleep(DRAIN_S)
        stored = ours.stored()
    phases = zip(("before", "during", "after"), marks[:-1], marks[1:], strict=True)
    return {
        "rate": given.rate,
        "flood_rate": given.times * usual,
        "partitions": given.partitions,
        "tenants_in_its_partition": len(beside),
        "stored": stored,
        "produce_to_alert": {
            name: {
                "same_partition": summary(alerts.delays_ms(begin, end, beside)),
                "other_partitions": summary(alerts.delays_ms(begin, end, elsewhere)),
            }
            for name, begin, end in phases
        },
        "other_alert_revisions": alerts.others,
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=5_000, help="events a second of all tenants together")
    parser.add_argument(
        "--times", type=float, default=100, help="the flood's rate, by the tenant's usual one"
    )
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--partitions", type=int, default=12)
    parser.add_argument("--attacks-per-s", type=float, default=8)
    parser.add_argument("--warmup", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=30, help="of each phase")
    parser.add_argument("--out", type=Path, default=Path("build/floods.json"))
    given = parser.parse_args()
    write({"machine": machine(), **run(given)}, given.out)


if __name__ == "__main__":
    main()
