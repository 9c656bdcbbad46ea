"""How long each panel and each read takes on a store of many rows, with two threads.

Fills a store (`bench.trail`), waits for its merges, then runs every panel's SQL over several time ranges,
for all tenants, the largest and a median one; every read of the API; and what recovery and reconciliation
ask. Best of three, without the query condition cache; the operating system's page cache is warm. Writes
``build/queries.json``.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, cast

from bench.trail import fill
from dashboards.grafana.macros import expand
from store.database import Database
from store.health import health
from store.migrations import migrate
from store.queries import PlatformContext, Reader, Scope, TenantContext
from store.webhooks import WebhookStore

BOARDS: Final = Path(__file__).parent.parent / "dashboards/grafana/json"
RANGES: Final = {
    "1 h": timedelta(hours=1),
    "24 h": timedelta(hours=24),
    "7 d": timedelta(days=7),
    "30 d": timedelta(days=30),
}
SCOPES: Final = {"platform": None, "largest": "tenant-0", "median": "tenant-1500"}
# Of a panel's width; Grafana divides the range by them and rounds.
POINTS: Final = 1_000
BYTES_PER_ROW: Final = 250  # on disk, parts that merges are about to remove included
SETTINGS: Final = {"max_threads": 2, "use_query_condition_cache": 0}
REPEATS: Final = 3


class Metered:
    """A database that remembers what it was asked."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._asked: list[tuple[str, Mapping[str, Any]]] = []

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """As `Database.query`, with the settings of this benchmark."""
        self._asked.append((sql, parameters or {}))
        with self._database._client() as client:
            result = client.query(sql, parameters=dict(parameters or {}), settings=SETTINGS)
            return [dict(row) for row in result.named_results()]

    def rows_read(self) -> int:
        """Return how many rows the engine means to read for all that was asked, by its indexes."""
        plans = [self._database.query(f"EXPLAIN ESTIMATE {sql}", bound) for sql, bound in self._asked]
        return sum(row["rows"] for plan in plans for row in plan)


@dataclass(frozen=True)
class Subject:
    """One thing to measure."""

    name: str
    range: str
    scope: str
    run: Callable[[Database], object]


@dataclass(frozen=True)
class Result:
    """What it took; the CPU time, of both threads, says more on a machine that others use too."""

    name: str
    range: str
    scope: str
    ms: float
    cpu_ms: float
    rows_read: int


def measure(database: Database, subject: Subject, repeats: int = REPEATS) -> Result:
    """Run a subject several times and return its best time."""
    wall, cpu, metered = [], [], Metered(database)
    for _ in range(repeats):
        metered = Metered(database)
        started, worked = time.perf_counter(), time.process_time()
        subject.run(cast(Database, metered))
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
    ms, cpu_ms = (round(min(seconds) * 1000, 1) for seconds in (wall, cpu))
    return Result(subject.name, subject.range, subject.scope, ms, cpu_ms, metered.rows_read())


def _interval_s(panel: Mapping[str, Any], span: timedelta) -> int:
    unit = {"s": 1, "m": 60}
    least = str(panel.get("interval") or "1s")
    return max(int(least[:-1]) * unit[least[-1]], int(span.total_seconds()) // POINTS)


def panels(end: datetime) -> Iterator[Subject]:
    """Yield every SQL query of every panel, for each range and scope that it has."""

    def query(sql: str) -> Callable[[Database], object]:
        return lambda database: database.query(sql)

    for path in sorted(BOARDS.glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                sql = target.get("rawSql", "")
                for scope, tenant_id in SCOPES.items():
                    if not sql or (tenant_id and "$tenant" not in sql):
                        continue
                    chosen = {"tenant": [tenant_id]} if tenant_id else {}
                    for name, span in RANGES.items():
                        text = expand(sql, chosen, end - span, end, _interval_s(panel, span))
                        yield Subject(f"{path.stem}: {panel['title']}", name, scope, query(text))


def reads(database: Database, end: datetime) -> Iterator[Subject]:
    """Yield every read of the API and of the command line."""
    day = end - timedelta(days=1)
    for scope, tenant_id in SCOPES.items():
        context: Scope = TenantContext(tenant_id) if tenant_id else PlatformContext("bench")
        found = Reader(database, context).alerts(limit=1)
        alert_id = found[0]["alert_id"] if found else "none"
        calls: dict[str, Callable[[Reader], object]] = {
            "alerts": lambda reader: reader.alerts(),
            "alerts, open, high": lambda reader: reader.alerts(status="open", severity="high"),
            "alerts, 10,000": lambda reader: reader.alerts(limit=10_000),
            "revisions": lambda reader: reader.revisions(day),
            "alert": lambda reader, wanted=alert_id: reader.alert(wanted),
            "alert, by its beginning": lambda reader, wanted=alert_id: reader.alert(wanted[:12]),
            "tenants": lambda reader: reader.tenants(),
            "counts": lambda reader: reader.counts(),
            "dead_letters": lambda reader: reader.dead_letters(),
            "dead_letter_counts": lambda reader: reader.dead_letter_counts(),
        }
        public = {name for name in vars(Reader) if not name.startswith("_")}
        if missing := public - {name.split(",")[0] for name in calls}:
            raise NotImplementedError(f"say how to call {', '.join(sorted(missing))} of Reader")
        for name, call in calls.items():
            run = lambda db, call=call, context=context: call(Reader(db, context))  # noqa: E731
            yield Subject(f"Reader.{name}", "", scope, run)
        for name, listing in {
            "list": lambda store, of=tenant_id: store.list(of),
            "deliveries": lambda store, of=tenant_id: store.deliveries(of),
        }.items():
            yield Subject(f"WebhookStore.{name}", "", scope, lambda db, call=listing: call(WebhookStore(db)))
    delivery_id = WebhookStore(database).deliveries(limit=1)[0].delivery.delivery_id
    for name, listing in {
        "pending": lambda store: store.pending(),
        "pending, of one partition": lambda store: store.pending([3]),
        "delivery": lambda store: store.delivery(delivery_id),
        "attempts": lambda store: store.attempts(delivery_id),
    }.items():
        yield Subject(f"WebhookStore.{name}", "", "platform", lambda db, call=listing: call(WebhookStore(db)))
    yield Subject("doctor", "24 h", "platform", health)


def settle(database: Database, seconds: float) -> int:
    """Wait until no merge or mutation runs, or for so long; return the number of parts of ``events``."""
    busy = (
        "SELECT (SELECT count() FROM system.merges) "
        "+ (SELECT count() FROM system.mutations WHERE NOT is_done) AS n"
    )
    deadline = time.monotonic() + seconds
    quiet = 0
    while time.monotonic() < deadline and quiet < 5:
        quiet = 0 if database.query(busy)[0]["n"] else quiet + 1
        time.sleep(1)
    parts = database.query(
        "SELECT count() AS n FROM system.parts "
        "WHERE active AND database = currentDatabase() AND table = 'events'"
    )
    return int(parts[0]["n"])


def run(database: Database, chosen: str) -> list[Result]:
    """Measure everything whose name contains a text, and print it."""
    end = database.query("SELECT max(ingest_time) AS at FROM events")[0]["at"]
    results = []
    for subject in [*panels(end), *reads(database, end)]:
        if chosen in subject.name:
            result = measure(database, subject)
            results.append(result)
            late = " <-- over 1 s" if result.ms > 1000 else ""
            print(
                f"{result.name:64} {result.range:5} {result.scope:9} {result.ms:8,.0f} ms "
                f"{result.cpu_ms:8,.0f} ms of CPU {result.rows_read:12,} rows{late}",
                flush=True,
            )
    return results


def main() -> None:
    """Fill, measure, write the results and remove the store."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=50_000_000)
    arguments.add_argument("--store", type=Path, help="keep the store here, and use what is there")
    arguments.add_argument("--only", default="", help="measure only what has this in its name")
    arguments.add_argument("--out", type=Path, default=Path("build/queries.json"))
    given = arguments.parse_args()
    root = given.store or Path(tempfile.mkdtemp(prefix="tenantwatch-queries-"))
    root.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(root).free < 2 * BYTES_PER_ROW * given.rows:
        raise SystemExit(f"{root} has not twice the {BYTES_PER_ROW * given.rows / 1e9:.0f} GB that it takes")
    database = Database.embedded(root / "clickhouse")
    try:
        migrate(database)
        if not database.query("SELECT 1 FROM events LIMIT 1"):
            for rows in fill(database, given.rows):
                print(f"\rfilled {rows:,} events", end="", flush=True)
            print()
        parts = settle(database, seconds=600)
        rows = database.query("SELECT count() AS n FROM events")[0]["n"]
        print(f"{rows:,} events in {parts} parts; {SETTINGS['max_threads']} threads, best of {REPEATS}")
        results = run(database, given.only)
    finally:
        database.close()
        if not given.store:
            shutil.rmtree(root)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    found = {"rows": rows, "parts": parts, "results": [asdict(result) for result in results]}
    given.out.write_text(json.dumps(found, indent=1) + "\n")
    slow = [result for result in results if result.ms > 1000]
    print(f"{len(results)} measured, {len(slow)} over 1 s; {given.out}")


if __name__ == "__main__":
    main()
