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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from operator import methodcaller
from pathlib import Path
from typing import Any, Final, cast

from bench.trail import fill
from dashboards.grafana.macros import expand
from store.alert_search import AlertSearch, revisions, search_alerts
from store.database import Database
from store.duplicates import collapse
from store.events import KafkaIds
from store.health import health
from store.migrations import migrate
from store.ownership import Ownership
from store.people import counts as people_counts
from store.queries import PlatformContext, Reader, Scope, TenantContext
from store.reconciliation import reconcile, reconcile_all
from store.reports import Span, access_review, activity, alerting
from store.search import EventSearch, search
from store.tail import Tail
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
TAIL_OFFSETS: Final = 20_000  # of the partition of the largest tenant: about 100,000 rows

Call = Callable[[Any], object]


class Metered:
    """A database whose queries run with the settings of this benchmark."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """As `Database.query`."""
        with self._database._client() as client:
            result = client.query(sql, parameters=dict(parameters or {}), settings=SETTINGS)
            return [dict(row) for row in result.named_results()]

    def query_columns(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Sequence[Any]]:
        """As `Database.query_columns`."""
        with self._database._client() as client:
            result = client.query(sql, parameters=dict(parameters or {}), settings=SETTINGS)
            columns = result.result_columns or [()] * len(result.column_names)
            return dict(zip(result.column_names, columns, strict=True))


def _rows_read(database: Database) -> int:
    """Return how many rows the engine has read from tables since it was opened."""
    rows = database.query("SELECT value FROM system.events WHERE event = 'SelectedRows'")
    return int(rows[0]["value"]) if rows else 0


@dataclass(frozen=True)
class Subject:
    """One thing to measure."""

    name: str
    range: str
    scope: str
    run: Call


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
    metered = cast(Database, Metered(database))
    wall, cpu, rows = [], [], 0
    for _ in range(repeats):
        rows = _rows_read(database)
        started, worked = time.perf_counter(), time.process_time()
        subject.run(metered)
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - worked)
        rows = _rows_read(database) - rows
    ms, cpu_ms = (round(min(seconds) * 1000, 1) for seconds in (wall, cpu))
    return Result(subject.name, subject.range, subject.scope, ms, cpu_ms, rows)


def _interval_s(panel: Mapping[str, Any], span: timedelta) -> int:
    unit = {"s": 1, "m": 60}
    least = str(panel.get("interval") or "1s")
    return max(int(least[:-1]) * unit[least[-1]], int(span.total_seconds()) // POINTS)


def panels(end: datetime) -> Iterator[Subject]:
    """Yield every SQL query of every panel, for each range and scope that it has."""
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
                        run = methodcaller("query", text)
                        yield Subject(f"{path.stem}: {panel['title']}", name, scope, run)


def reads(database: Database, end: datetime) -> Iterator[Subject]:
    """Yield every read of the API and of the command line."""
    day = end - timedelta(days=1)
    store = WebhookStore(database)
    delivery_id = store.deliveries(limit=1)[0].delivery.delivery_id
    for scope, tenant_id in SCOPES.items():
        context: Scope = TenantContext(tenant_id) if tenant_id else PlatformContext("bench")
        found = search_alerts(database, context, AlertSearch(), 1).alerts
        for name, call in _alert_calls(context, day).items():
            yield Subject(name, "", scope, call)
        for name, call in _reader_calls(found[0]["alert_id"] if found else "none").items():
            yield Subject(f"Reader.{name}", "", scope, _on(partial(Reader, scope=context), call))
        yield Subject("WebhookStore.list", "", scope, _on(WebhookStore, methodcaller("list", tenant_id)))
        listing = methodcaller("deliveries", tenant_id)
        yield Subject("WebhookStore.deliveries", "", scope, _on(WebhookStore, listing))
    for name, call in {
        "pending": methodcaller("pending", range(12)),
        "pending, of one partition": methodcaller("pending", [3]),
        "delivery": methodcaller("delivery", delivery_id),
        "attempts": methodcaller("attempts", delivery_id),
    }.items():
        yield Subject(f"WebhookStore.{name}", "", "platform", _on(WebhookStore, call))
    yield Subject("doctor", "24 h", "platform", health)


def _on(make: Callable[[Database], Any], call: Call) -> Call:
    return lambda database: call(make(database))


def _alert_calls(scope: Scope, day: datetime) -> dict[str, Call]:
    """Return searches for alerts."""
    high = AlertSearch(status="open", severity="high")
    of_the_day = AlertSearch(published_after=day)
    return {
        "search_alerts": lambda database: search_alerts(database, scope, AlertSearch(), 100),
        "search_alerts, open, high": lambda database: search_alerts(database, scope, high, 100),
        "search_alerts, 10,000": lambda database: search_alerts(database, scope, AlertSearch(), 10_000),
        "revisions": lambda database: revisions(database, scope, of_the_day, 100),
    }


def _reader_calls(alert_id: str) -> dict[str, Call]:
    """Return calls of every public method of `Reader`."""
    calls: dict[str, Call] = {
        "alert": methodcaller("alert", alert_id),
        "alert, by its beginning": methodcaller("alert", alert_id[:12]),
        "is_stored": methodcaller("is_stored"),
        "tenants": methodcaller("tenants"),
        "counts": methodcaller("counts"),
        "dead_letters": methodcaller("dead_letters"),
        "dead_letter_counts": methodcaller("dead_letter_counts"),
    }
    public = {name for name in vars(Reader) if not name.startswith("_")}
    if missing := public - {name.split(",")[0] for name in calls}:
        raise NotImplementedError(f"say how to call {', '.join(sorted(missing))} of Reader")
    return calls


def tenant_reads(database: Database, end: datetime) -> Iterator[Subject]:
    """Yield what the API tells a tenant of its events: searches, reports, and where people are named."""
    for scope, tenant_id in SCOPES.items():
        if tenant_id is None:
            continue
        tenant = TenantContext(tenant_id)
        event = _old_event(database, tenant_id, end)
        for name, wanted in _event_searches(event, end).items():
            run = partial(search, tenant=tenant, wanted=wanted, rows=100)
            yield Subject(f"events, {name}", "", scope, run)
        page = search(database, tenant, EventSearch(), 1_000)
        yield Subject(
            "events, next 1,000",
            "",
            scope,
            partial(search, tenant=tenant, wanted=EventSearch(), rows=1_000, after=page.next),
        )
        span = Span(tenant, end - timedelta(days=30), end)
        for report in (activity, alerting, access_review):
            yield Subject(f"report, {report.__name__}", "30 d", scope, partial(report, span=span))
        people = [event["user_id"]]
        yield Subject(
            "people, counts", "all", scope, partial(people_counts, tenant=tenant, pseudonyms=people)
        )


def _event_searches(event: Mapping[str, Any], end: datetime) -> dict[str, EventSearch]:
    """Return searches for events: for any, for what one of them has, for what few and what no event has."""
    day = end - timedelta(days=1)
    return {
        "newest": EventSearch(),
        "oldest": EventSearch(newest_first=False),
        "of an id": EventSearch(equal={"event_id": [event["event_id"]]}),
        "of a trace": EventSearch(equal={"trace_id": [event["trace_id"]]}),
        "of a user": EventSearch(equal={"user_id": [event["user_id"]]}),
        "of an address": EventSearch(equal={"source_ip": [event["source_ip"]]}),
        "failures": EventSearch(equal={"outcome": ["failure"]}),
        "status 500": EventSearch(status=500),
        "of no user": EventSearch(equal={"user_id": ["nobody"]}),
        "of no session": EventSearch(equal={"session_id": ["none"]}),
        "text, found": EventSearch(texts=("mozilla",)),
        "text, not found, 24 h": EventSearch(since=day, texts=("nowhere to be found",)),
        "text, not found": EventSearch(texts=("nowhere to be found",)),
    }


def _old_event(database: Database, tenant_id: str, end: datetime) -> dict[str, Any]:
    """Return what somebody looks for: an event of a tenant from before the newest month."""
    [event] = database.query(
        "SELECT event_id, trace_id, user_id, source_ip FROM events WHERE tenant_id = {tenant_id:String} "
        "AND kind = 'request' AND user_id != '' AND time < {before:DateTime64(3)} LIMIT 1",
        {"tenant_id": tenant_id, "before": end - timedelta(days=40)},
    )
    return event


def searches(database: Database, end: datetime) -> Iterator[Subject]:
    """Yield searches for one value in the events of all tenants, as an operator makes them."""
    for column, value in _old_event(database, "tenant-1500", end).items():
        sql = f"SELECT * FROM events WHERE {column} = {{value:String}} ORDER BY time DESC LIMIT 100"
        yield Subject(f"search by {column}", "", "platform", methodcaller("query", sql, {"value": value}))


def recovery(database: Database, end: datetime) -> Iterator[Subject]:
    """Yield what a worker reads when it is assigned partitions, and what reconciliation reads."""
    topic, ids = "audit.request", KafkaIds("cluster", {"audit.request": "id-request"})
    [last] = database.query("SELECT max(kafka_offset) AS at FROM events")
    [recent] = database.query(
        "SELECT min(kafka_offset) AS at FROM events WHERE ingest_time > {since:DateTime64(3)}",
        {"since": end - timedelta(minutes=5)},
    )
    starts = dict.fromkeys(range(6), recent["at"])
    spans = {partition: (start, last["at"]) for partition, start in starts.items()}
    tail = methodcaller("batches", "request", topic, 0, last["at"] - TAIL_OFFSETS, last["at"])
    since = methodcaller("first_since", topic, 0, last["at"], end - timedelta(hours=2))
    for name, call in {
        "stored_ends, 6 partitions, 5 minutes": methodcaller("stored_ends", topic, starts),
        "stored_between, 6 partitions, 5 minutes": methodcaller("stored_between", topic, spans),
        "set_aside_from, 6 partitions": methodcaller("set_aside_from", topic, starts),
    }.items():
        make = partial(Ownership, ids=ids)
        yield Subject(f"Ownership.{name}", "", "platform", _on(make, call))
    make_tail = partial(Tail, ids=ids, fallback=lambda tenant_id: None)
    yield Subject(
        f"Tail.batches, {TAIL_OFFSETS:,} offsets", "", "platform", _on(make_tail, lambda t: list(tail(t)))
    )
    yield Subject("Tail.first_since", "2 h", "platform", _on(make_tail, since))
    yield Subject("reconcile, since", "5 min", "platform", lambda db: reconcile(db, ids, topic, since=starts))
    yield Subject("reconcile_all", "all", "platform", reconcile_all)
    yield Subject("collapse, one partition", "all", "platform", lambda db: collapse(db, ids, topic, 0))


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
    found = (
        panels(end),
        reads(database, end),
        tenant_reads(database, end),
        searches(database, end),
        recovery(database, end),
    )
    for subject in chain.from_iterable(found):
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
