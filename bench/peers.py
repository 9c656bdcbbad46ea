"""Beside Bytewax and Quix Streams, in one run on the same topics; they are installed for this only.

J1: consume, validate, count failed events by user in windows of 5 minutes, alert, commit. J2: J1, and every
event enriched from the tenant directory and stored in a ClickHouse server on the same machine.
Ours does more in both: its full validation, dead letters, the ledger and snapshots, and in place of the
counter a detector of a dozen rules (J1) or all detectors (J2). J1 is also measured with all detectors and
with rows that are made and dropped; J2 with the server and with the engine in its own process.
Writes ``build/peers.json``.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from kafka.admin import KafkaAdminClient, NewTopic

from bench.pipeline import fill
from bench.running import REPOSITORY, kafka, machine, write
from store.database import Database
from store.migrations import migrate
from tests.clickhouse_server import ClickHouseServer

PYTHON: Final = REPOSITORY / "build/peers/bin/python"
REQUIREMENTS: Final = REPOSITORY / "bench/requirements-peers.txt"
ALERTS: Final = "bench.alerts"
DEADLINE_S: Final = 600
SERVER_MEMORY_MB: Final = 4_096


@dataclass(frozen=True)
class Subject:
    """One process to measure.

    Parameters
    ----------
    who, job
        For the table.
    command
        With {bootstrap}, {directory}, {goal} and {url} to be filled in.
    server
        Whether it needs a ClickHouse server.
    """

    who: str
    job: str
    command: tuple[str, ...]
    server: bool


def subjects() -> tuple[Subject, ...]:
    """Return everything that is measured, the jobs of one kind together."""
    ours = (sys.executable, "-m", "bench.subjects")
    where = ("{bootstrap}", "{directory}", "{goal}")
    bytewax = (str(PYTHON), "-m", "bench.peer_bytewax", "{bootstrap}", "{directory}")
    quix = (str(PYTHON), "-m", "bench.peer_quix", *where)
    return (
        Subject("tenantwatch", "J1", (*ours, "failed_logins", *where), server=False),
        Subject("tenantwatch, all of it but rows", "J1", (*ours, "no_store", *where), server=False),
        Subject("bytewax", "J1", bytewax, server=False),
        Subject("quix", "J1", quix, server=False),
        Subject("tenantwatch", "J2", (*ours, "pipeline", *where, "{url}"), server=True),
        Subject("tenantwatch, engine in process", "J2", (*ours, "pipeline", *where), server=False),
        Subject("bytewax", "J2", (*bytewax, "{url}"), server=True),
        Subject("quix", "J2", (*quix, "{url}"), server=True),
    )


def install() -> None:
    """Make the peers' environment, once."""
    if PYTHON.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", str(PYTHON.parent.parent)], check=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", str(REQUIREMENTS)], check=True)


@contextmanager
def clickhouse(directory: Path) -> Iterator[ClickHouseServer]:
    """Run a server with our tables."""
    server = ClickHouseServer(directory, memory_mb=SERVER_MEMORY_MB)
    server.start()
    try:
        database = Database.server(server.url)
        migrate(database)
        database.close()
        yield server
    finally:
        server.stop()


def measure(subject: Subject, bootstrap: str, root: Path, goal: int) -> dict[str, Any]:
    """Run a subject over the whole topics and return what it printed."""
    name = f"{subject.job}-{subject.who}".replace(", ", "-").replace(" ", "-")
    filled = {"bootstrap": bootstrap, "directory": str(root / name), "goal": str(goal)}
    if not subject.server:
        return _run(subject, filled)
    with clickhouse(root / f"{name}-server") as server:
        process = psutil.Process(server.pid)
        before = sum(process.cpu_times()[:2])
        result = _run(subject, filled | {"url": server.url})
        result["server_cpu_us_per_event"] = round((sum(process.cpu_times()[:2]) - before) / goal * 1e6, 2)
        database = Database.server(server.url)
        result["stored"] = database.query("SELECT count() AS n FROM events")[0]["n"]
        database.close()
        return result


def _run(subject: Subject, filled: dict[str, str]) -> dict[str, Any]:
    command = [part.format(**filled) for part in subject.command]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, timeout=DEADLINE_S)
    shown = json.loads(done.stdout.splitlines()[-1])
    result = {
        "who": subject.who,
        "job": subject.job,
        "events_per_s": round(shown["events"] / shown["seconds"]),
        "cpu_us_per_event": round(shown["cpu_s"] / shown["events"] * 1e6, 2),
        "alerts": shown["alerts"],
        "peak_memory_mb": shown["peak_memory_mb"],
    }
    print(f"{subject.job} {subject.who:32} {result['events_per_s']:>9,} events/s", flush=True)
    return result


def main() -> None:
    """Measure all of them and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--tenants", type=int, default=2_000)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", help="of the subjects, those whose name or job contains this")
    parser.add_argument("--out", type=Path, default=Path("build/peers.json"))
    given = parser.parse_args()
    install()
    here = machine()
    with kafka() as (bootstrap, root):
        admin = KafkaAdminClient(bootstrap_servers=bootstrap)
        admin.create_topics([NewTopic(ALERTS, 12, 1)])
        admin.close()
        began = time.perf_counter()
        fill(bootstrap, given.events, given.tenants, given.users, given.seed)
        print(f"filled {given.events:,} events in {time.perf_counter() - began:.0f} s", flush=True)
        results = [
            measure(subject, bootstrap, root, given.events)
            for subject in subjects()
            if given.only is None or given.only in f"{subject.job} {subject.who}"
        ]
    write({"machine": here, "events": given.events, "tenants": given.tenants, "results": results}, given.out)


if __name__ == "__main__":
    main()
