"""The store on the embedded engine: rows, migrations, scopes, retention."""

import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

import schemas.joined
import store.migrations
import store.writer
from schemas.alert import Alert, Entity, Evidence
from schemas.batch import EventBatch
from schemas.columns import ArrowColumn
from schemas.event import Kind
from schemas.parse import parse
from schemas.tenant import Tenant
from schemas.tuning import NO_VERSION
from store.alert_search import AlertSearch, search_alerts
from store.database import Database, StoreError
from store.events import KafkaIds
from store.lock import StoreLocked
from store.migrations import migrate, migrations
from store.ownership import Claim
from store.queries import PlatformContext, Reader, TenantContext
from store.retention import run_retention
from store.writer import EventWriter
from tests.schema_examples import encode, event

IDS = KafkaIds("cluster", {"audit.auth": "id-auth", "audit.access": "id-access"})
CLAIM = Claim("audit.auth", 3, term=1, generation=1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)


def batch(kind: Kind, *events: dict[str, Any], **changes: Any) -> EventBatch:
    """Return an enriched batch of valid events."""
    parsed = parse(kind, [encode(e) for e in events])
    assert parsed.rejections == []
    tenants = tuple(
        Tenant(
            tenant_id=t, organization_id=f"org-{t}", name=t, tier="enterprise" if t.endswith("b") else "free"
        )
        for t in parsed.batch.tenant.values
    )
    enriched = replace(
        parsed.batch,
        topic=f"audit.{kind}",
        partition=3,
        tenants=tenants,
        tenant_versions=tuple(range(10, 10 + len(tenants))),
        ingest_time_ms=int(NOW.timestamp() * 1000),
        flags=np.zeros(len(events), np.uint8),
        _tenant=parsed.batch.tenant,
    )
    return replace(enriched, **changes)


def insert(database: Database, *batches: EventBatch) -> None:
    writer = EventWriter(database, IDS)
    for block in writer.encode_events([(found, CLAIM) for found in batches]):
        writer.insert_events(block)


def test_an_event_is_stored_with_every_field_and_its_identity(database: Database) -> None:
    """What was sent, what enrichment added, and where in Kafka it was."""
    sent = event(
        "auth", tenant_id="rows-b", event_id="e-1", user_id="ana", source_ip="2001:db8::7", reason="locked",
        attributes={"port": 22}, auth_method="password",
    )  # fmt: skip
    insert(database, batch("auth", sent, offset=np.array([41])))
    row = database.query("SELECT * FROM events WHERE tenant_id = 'rows-b'")[0]
    given = {k: v for k, v in sent.items() if k not in ("time", "attributes")}
    assert {name: row[name] for name in given} == given
    assert row["time"] == datetime(2026, 1, 31, 9, 30, 0, 123_000, tzinfo=UTC)
    assert row["attributes"] == '{"port":22}'
    assert (row["organization_id"], row["tier"], row["tenant_version"]) == ("org-rows-b", "enterprise", 10)
    assert (row["kafka_cluster_id"], row["kafka_topic_id"], row["kafka_topic"]) == (
        "cluster",
        "id-auth",
        "audit.auth",
    )
    assert (row["kafka_partition"], row["kafka_offset"], row["message_index"]) == (3, 41, 0)
    assert row["session_id"] == ""


def test_zero_is_a_number_and_null_is_none(database: Database) -> None:
    """A count of 0 is not the absence of a count."""
    events = [
        event("access", tenant_id="zeros", event_id="a", record_count=0),
        event("access", tenant_id="zeros", event_id="b"),
    ]
    insert(database, batch("access", events[0]), batch("access", events[1]))
    rows = database.query(
        "SELECT event_id, record_count FROM events WHERE tenant_id = 'zeros' ORDER BY event_id"
    )
    assert [row["record_count"] for row in rows] == [0, None]


@pytest.mark.parametrize(("few", "inserts"), [(10_000, 1), (4, 2)])
def test_rows_of_many_tenants_and_kinds_are_one_insert_if_few_and_else_one_for_each_topic(
    each_store: Database, few: int, inserts: int
) -> None:
    """Enrichment follows each row's own tenant, and what a kind lacks has its default."""
    tenants = [f"many-{few}-{name}" for name in "ab"]
    auth = batch("auth", *[event(tenant_id=name, auth_method="password") for name in tenants])
    more = replace(batch("auth", event(tenant_id=tenants[1])), tuning_version=7)
    access = batch("access", event("access", tenant_id=tenants[0], record_count=0))
    with patch.object(store.writer, "FEW_ROWS", few):
        writer = EventWriter(each_store, IDS)
        blocks = writer.encode_events([(found, CLAIM) for found in (auth, access, more)])
    assert len(blocks) == inserts
    for block in blocks:
        writer.insert_events(block)
    rows = each_store.query(
        "SELECT tenant_id, kind, any(tier) AS chosen, uniqExact(tier) AS tiers, count() AS n, "
        "groupUniqArray(record_count) AS counts, arraySort(groupUniqArray(auth_method)) AS methods, "
        "arraySort(groupArray(tuning_version)) AS versions "
        "FROM events WHERE tenant_id IN {tenants:Array(String)} GROUP BY tenant_id, kind "
        "ORDER BY tenant_id, kind",
        {"tenants": tenants},
    )
    assert [tuple(row.values()) for row in rows] == [
        (tenants[0], "access", "free", 1, 1, [0], [""], [NO_VERSION]),
        (tenants[0], "auth", "free", 1, 1, [], ["password"], [NO_VERSION]),
        (tenants[1], "auth", "enterprise", 1, 2, [], ["", "password"], [NO_VERSION, 7]),
    ]


def test_what_is_left_of_an_insert_of_several_topics_is_told_apart_by_topic(database: Database) -> None:
    """The same offsets of two topics: one of each was stored."""
    writer = EventWriter(database, replace(IDS, cluster_id="cluster-left"))
    chunks = []
    for kind, stored in (("access", 0), ("auth", 1)):
        events = [event(kind, tenant_id="left", event_id=f"{kind}-{offset}") for offset in range(2)]
        found = batch(kind, *events, offset=np.arange(2))
        chunks.append((found, replace(CLAIM, topic=found.topic)))
        for block in writer.encode_events([(found.select(np.array([stored])), chunks[-1][1])]):
            writer.insert_events(block)
    [whole] = writer.encode_events(chunks)
    [rest] = writer.remaining(whole)
    writer.insert_events(rest)
    rows = database.query("SELECT event_id FROM events WHERE tenant_id = 'left' ORDER BY event_id")
    assert [row["event_id"] for row in rows] == ["access-0", "access-1", "auth-0", "auth-1"]
    assert writer.remaining(whole) == []


def test_settings_that_change_between_two_batches_hold_for_their_own_rows(database: Database) -> None:
    """Both are in one insert."""
    before = batch("auth", event(tenant_id="moving", event_id="1"))
    [moved] = before.tenants
    after = replace(
        batch("auth", event(tenant_id="moving", event_id="2")),
        tenants=(moved.model_copy(update={"tier": "enterprise", "region": "eu"}),),
        tenant_versions=(11,),
    )
    insert(database, before, after)
    rows = database.query(
        "SELECT tier, region, tenant_version FROM events WHERE tenant_id = 'moving' ORDER BY event_id"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("free", moved.region or "", 10),
        ("enterprise", "eu", 11),
    ]


def test_events_are_stored_alike_however_they_were_read(database: Database) -> None:
    """Many are read together into Arrow's columns, few singly into lists; one insert may hold both."""
    sent = [
        event(
            "request", tenant_id="alike", event_id=f"{i:03}", user_id="Zoë" if i % 3 else None, bytes_in=0,
            http_status=None if i % 2 else 200, duration_ms=i / 2, attributes={"i": i} if i == 7 else None,
        )
        for i in range(100)
    ]  # fmt: skip
    with patch.object(schemas.joined, "MIN_RECORDS", 50):
        many, few = batch("request", *sent), [batch("request", e) for e in sent]
    assert isinstance(many.columns["user_id"], ArrowColumn)
    assert isinstance(few[0].columns["user_id"], list)
    insert(database, many, *few)
    rows = database.query(
        "SELECT * EXCEPT (kafka_offset) FROM events WHERE tenant_id = 'alike' ORDER BY event_id"
    )
    assert len(rows) == 200
    assert rows[::2] == rows[1::2]
    assert [row["duration_ms"] for row in rows[::2]] == [e["duration_ms"] for e in sent]


def test_migrating_again_does_nothing(database: Database) -> None:
    """Every start migrates; only what is new is applied."""
    assert migrate(database) == []


def test_an_edited_migration_is_refused(database: Database) -> None:
    """What was applied elsewhere can no longer be told from what the file says."""
    edited = [(number, name, sql + "\n-- edited") for number, name, sql in migrations()]
    with (
        patch.object(store.migrations, "migrations", lambda: edited),
        pytest.raises(StoreError, match="was edited"),
    ):
        migrate(database)


def test_a_store_that_is_newer_than_the_program_is_refused(database: Database) -> None:
    """An older version must not write into tables that it does not know."""
    with (
        patch.object(store.migrations, "migrations", lambda: migrations()[:1]),
        pytest.raises(StoreError, match="does not know"),
    ):
        migrate(database)


def test_a_wrong_statement_is_our_fault(database: Database) -> None:
    """It is told apart from a store that is away: trying again cannot help."""
    with pytest.raises(StoreError, match="no_such_column"):
        database.query("SELECT no_such_column FROM events")
    with pytest.raises(StoreError):
        database.insert("events", ["no_such_column"], b"", "JSONEachRow")


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    """The engine admits one process; the message says which has it."""
    program = (
        "import sys; from pathlib import Path; from store.database import Database\n"
        "db = Database.embedded(Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    path = tmp_path / "clickhouse"
    command = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=str(first.pid)):
            Database.embedded(path)
        first.communicate("")


def test_a_store_may_be_reached_by_a_link(tmp_path: Path) -> None:
    """A data directory on another disk."""
    program = (
        "import pathlib, sys; from store.database import Database; "
        "database = Database.embedded(pathlib.Path(sys.argv[1])); "
        "print(database.query('SELECT 7 AS n')[0]['n']); database.close()"
    )
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    command = [sys.executable, "-c", program, str(tmp_path / "data" / "clickhouse")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == "7\n"


def alert(tenant_id: str, alert_id: str, revision: int, **fields: Any) -> Alert:
    base: dict[str, Any] = {
        "alert_id": alert_id, "revision": revision, "status": "open", "detector": "failed_login",
        "classification": "brute_force", "severity": "medium", "tenant_id": tenant_id,
        "entity": Entity(type="user_id", value="ana"), "first_time": NOW, "last_time": NOW,
        "event_count": revision, "score": 6.0, "threshold": 5.0, "summary": "many failures",
        "evidence": Evidence(), "runbook": "look", "detected_at": NOW,
        "published_at": NOW + timedelta(seconds=revision),
    }  # fmt: skip
    return Alert(**{**base, **fields})


def test_the_engine_is_configured_by_our_file(tmp_path: Path) -> None:
    """By that of its clients which starts it; where the engine finds no file it says nothing."""
    config = tmp_path / "a folder.xml"
    config.write_text("<clickhouse><mark_cache_size>7654321</mark_cache_size></clickhouse>")
    code = (
        "import sys, pathlib, store.database as d\n"
        "assert d._ENGINE_CONFIG.is_file()\n"
        "d._ENGINE_CONFIG = pathlib.Path(sys.argv[1])\n"
        "opened = d.Database.embedded(pathlib.Path(sys.argv[2]))\n"
        "sql = \"SELECT value FROM system.server_settings WHERE name = 'mark_cache_size'\"\n"
        "print(opened.query(sql)[0]['value'])\n"
        "opened.close()"
    )
    command = [sys.executable, "-c", code, str(config), str(tmp_path / "store")]
    assert subprocess.run(command, capture_output=True, text=True, check=False).stdout == "7654321\n"


def test_the_highest_revision_of_an_alert_is_the_current_one(database: Database) -> None:
    """Revisions may be stored in any order and more than once."""
    revisions = [alert("current", "id-1", n) for n in (1, 3, 2, 3)]
    EventWriter(database, IDS).insert_alerts([*revisions, alert("current", "id-2", 1, status="resolved")])
    tenant = TenantContext("current")
    [newest] = search_alerts(database, tenant, AlertSearch(status="open"), 10).alerts
    assert (newest["alert_id"], newest["revision"]) == ("id-1", 3)
    [resolved] = search_alerts(database, tenant, AlertSearch(status="resolved"), 10).alerts
    assert resolved["alert_id"] == "id-2"
    reader = Reader(database, tenant)
    assert [revision["revision"] for revision in reader.alert("id-1")] == [1, 2, 3]
    assert reader.alert("id-") == []


def test_a_tenants_reader_sees_nothing_of_another(database: Database) -> None:
    """Every read is bound; the platform's view has to be asked for by name."""
    EventWriter(database, IDS).insert_alerts([alert("wall-a", "wall-1", 1), alert("wall-b", "wall-2", 1)])
    insert(database, batch("auth", event(tenant_id="wall-a"), event(tenant_id="wall-b")))
    tenant = TenantContext("wall-a")
    reader = Reader(database, tenant)
    found = search_alerts(database, tenant, AlertSearch(), 10).alerts
    assert {row["tenant_id"] for row in found} == {"wall-a"}
    assert reader.alert("wall-2") == []
    assert {row["tenant_id"] for row in reader.counts()} == {"wall-a"}
    everyone = Reader(database, PlatformContext("test")).counts()
    assert {"wall-a", "wall-b"} <= {row["tenant_id"] for row in everyone}


def test_a_filter_cannot_leave_the_scope(database: Database) -> None:
    """Values are bound, not spliced."""
    EventWriter(database, IDS).insert_alerts(
        [alert("inject-a", "inject-1", 1), alert("inject-b", "inject-2", 1)]
    )
    quoting = "x' OR '1'='1"
    tenant, other = TenantContext("inject-a"), TenantContext("inject-a' OR '1'='1")
    assert search_alerts(database, tenant, AlertSearch(detector=quoting), 10).alerts == []
    assert Reader(database, tenant).alert("' OR startsWith(alert_id, '") == []
    assert search_alerts(database, other, AlertSearch(), 10).alerts == []


def test_retention_follows_each_tenants_settings_by_kind(database: Database) -> None:
    """Old events of one kind go, the other kind stays, and what went is logged."""
    old, ms = NOW - timedelta(days=40), lambda t: int(t.timestamp() * 1000)
    tenant = Tenant(
        tenant_id="keep", organization_id="o", name="n", retention_days={"auth": 30, "access": 90}
    )
    database.insert_rows(
        "tenants", [{"tenant_id": "keep", "version": 1, "body": tenant.model_dump_json(), "applied_at": NOW}]
    )
    for kind in ("auth", "access"):
        aged = event(kind, tenant_id="keep", event_id=f"old-{kind}", time="2025-12-01T00:00:00Z")
        insert(database, batch(kind, aged, ingest_time_ms=ms(old)))  # type: ignore[arg-type]
    insert(
        database, batch("auth", event(tenant_id="keep", event_id="old-by-time", time="2020-01-01T00:00:00Z"))
    )
    run_retention(database, NOW)
    left = {row["event_id"] for row in database.query("SELECT event_id FROM events WHERE tenant_id = 'keep'")}
    # A freshly imported old event is as young as its arrival.
    assert left == {"old-access", "old-by-time"}
    logged = database.query(
        "SELECT kind, retention_days, rows_removed FROM retention_runs WHERE tenant_id = 'keep'"
    )
    assert logged == [{"kind": "auth", "retention_days": 30, "rows_removed": 1}]
    assert run_retention(database, NOW) == 0


def test_a_retention_run_that_was_cut_short_is_finished_and_counted_once(database: Database) -> None:
    """It had written what it would remove, and a crash came before the rows were gone."""
    old = int((NOW - timedelta(days=40)).timestamp() * 1000)
    aged = event("auth", tenant_id="cut", event_id="old", time="2025-12-01T00:00:00Z")
    insert(database, batch("auth", aged, ingest_time_ms=old))
    run = {"run_at": NOW - timedelta(days=1), "tenant_id": "cut", "kind": "auth", "retention_days": 30,
           "cutoff": NOW - timedelta(days=31), "rows_removed": 1}  # fmt: skip
    database.insert_rows("retention_runs", [run])
    run_retention(database, NOW)
    assert database.query("SELECT count() AS n FROM events WHERE tenant_id = 'cut'") == [{"n": 0}]
    counted = database.query("SELECT sum(rows_removed) AS n FROM retention_runs WHERE tenant_id = 'cut'")
    assert counted == [{"n": 1}]
