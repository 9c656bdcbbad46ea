"""Events a second of `tenantwatch backtest` on one core: ``python -m bench.backtest [FILE]``.

Without a file the seeded traffic is written to one first. The best of three rounds counts; with ``--compare``
each event goes through two sets of detectors.
"""

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

from bench.traffic import events
from tenantwatch.backtest import Backtest, Trial
from tenantwatch.commands.input import opened
from tenantwatch.lines import read_lines
from tenantwatch.ordering import in_order

ROUNDS = 3


def one_round(path: Path, trials: int) -> dict[str, Any]:
    """Return what one backtest of the file took."""
    run = Backtest([Trial() for _ in range(trials)])
    started = process_time()
    with opened(str(path), progress=False) as source:
        run.read(in_order(read_lines(source.lines(), [])))
    seconds = process_time() - started
    count = run.events.total()
    alerts = len(run.trials[0].alerts())
    return {"events": count, "cpu_s": seconds, "events_per_s": count / seconds, "alerts": alerts}


def main() -> None:
    """Measure, and print JSON."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("file", nargs="?", type=Path)
    arguments.add_argument("--events", type=int, default=600_000)
    arguments.add_argument("--tenants", type=int, default=2_000)
    arguments.add_argument("--users", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--compare", action="store_true")
    given = arguments.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="tenantwatch-backtest-") as folder:
        path = given.file or Path(folder) / "traffic.ndjson"
        if given.file is None:
            traffic = events(
                given.events, tenant_count=given.tenants, user_count=given.users, seed=given.seed
            )
            with path.open("wb") as file:
                file.writelines(value + b"\n" for _, _, value in traffic)
        rounds = [one_round(path, 2 if given.compare else 1) for _ in range(ROUNDS)]
    json.dump(max(rounds, key=lambda one: float(one["events_per_s"])), sys.stdout, indent=2)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
