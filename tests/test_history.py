"""Stored events read back: in the order in which they came, whatever their times."""

import random
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from detectors.admission import Admission
from schemas.alert import from_ms
from schemas.batch import EventBatch
from schemas.event import KINDS
from schemas.tenant import Tenant, unknown_tenant
from schemas.tuning import NO_VERSION
from store.database import Database
from store.history import page
from store.migrations import migrate
from store.queries import TenantContext
from tenantwatch.history import history
from tests.clickhouse_server import ClickHouseServer
from tests.scenarios.streams import START_MS, batch_of

MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS


def rows_of(batch: EventBatch, tenant_id: str, topic_id: str, came_ms: int) -> list[dict[str, Any]]:
    """Return rows as the writer stores them."""
    assert batch.flags is not None
    return [
        {
            "tenant_id": tenant_id,
            "kind": batch.kind,
            "time": from_ms(int(batch.time_ms[i])),
            "event_id": batch.columns["event_id"][i],
            "user_id": batch.columns["user_id"][i] or "",
            "outcome": "success",
            "flags": int(batch.flags[i]),
            "tenant_version": i // 100,
            "tuning_version": 7 if i < 50 else NO_VERSION,
            "ingest_time": from_ms(came_ms) + timedelta(milliseconds=i // 10),
            "kafka_topic_id": topic_id,
            "kafka_offset": i // 3,
            "message_index": i % 3,
        }
        for i in range(len(batch))
    ]


def jittered(name: str, start_ms: int) -> EventBatch:
    """Return admitted events that come up to half an hour late, so that some are not evaluated."""
    draw = random.Random(7)
    events = [
        {
            "event_id": f"{name}-{i}",
            "user_id": draw.choice(["ana", None]),
            "time_ms": start_ms + i * 20_000 - draw.choice([0, 0, 5, 14, 16, 30]) * MINUTE_MS,
        }
        for i in range(400)
    ]
    return Admission().admit(batch_of("auth", events))


@pytest.fixture(scope="module")
def arrived(database: Database) -> Iterator[list[str]]:
    """The evaluated events of history-a in order of arrival: Kafka was set up anew in the middle."""
    before, after = jittered("before", START_MS), jittered("after", START_MS + 3 * 60 * MINUTE_MS)
    # The younger topic's id is the first by name.
    database.insert_rows("events", rows_of(before, "history-a", "topic-b", START_MS))
    database.insert_rows("events", rows_of(after, "history-a", "topic-a", START_MS + DAY_MS))
    database.insert_rows("events", rows_of(before, "history-a", "topic-b", START_MS)[:50])  # stored twice
    database.insert_rows("events", rows_of(before, "history-b", "topic-b", START_MS))
    yield [
        event_id
        for batch in (before, after)
        for event_id, kept in zip(batch.columns["event_id"], batch.mask(), strict=True)
        if kept
    ]
    database.command("DELETE FROM events WHERE tenant_id IN ('history-a', 'history-b')")


def settings_of(version: int, tuning: int) -> Tenant:
    return unknown_tenant(f"version-{version}.{tuning}")


def read(database: Database, rows: int, since_ms: int = 0, until_ms: int = 2**45) -> list[EventBatch]:
    pages = partial(page, database, TenantContext("history-a"))
    return list(history(pages, settings_of, since_ms, until_ms, rows))


def evaluated(batches: list[EventBatch]) -> list[str]:
    return [batch.columns["event_id"][i] for batch in batches for i in np.flatnonzero(batch.mask()).tolist()]


@pytest.mark.parametrize("rows", [7, 100, 50_000])
def test_events_come_in_the_order_of_their_arrival(database: Database, arrived: list[str], rows: int) -> None:
    """Whatever a page holds, each event once, and none of another tenant."""
    batches = read(database, rows)
    # The old topic's last events and the new one's first are not in one run of offsets.
    assert evaluated(batches) == arrived
    assert sum(map(len, batches)) == 800
    assert {name for batch in batches for name in batch.tenant.values} == {"history-a"}


def test_a_batch_has_one_version_of_the_settings(database: Database, arrived: list[str]) -> None:
    """Those that its events came with are asked for."""
    versions = {batch.tenants[0].tenant_id for batch in read(database, 50_000)}
    assert versions == {"version-0.7", *(f"version-{i}.{NO_VERSION}" for i in range(4))}


def test_times_between_are_read(database: Database, arrived: list[str]) -> None:
    """The first time is included, the last is not."""
    known = np.unique(np.concatenate([batch.time_ms for batch in read(database, 50_000)]))
    since_ms, until_ms = known[[50, 90]].tolist()
    times = np.concatenate([batch.time_ms for batch in read(database, 10, since_ms, until_ms)])
    assert np.array_equal(np.unique(times), known[50:90])


def test_values_are_those_of_a_batch_that_was_just_read(database: Database, arrived: list[str]) -> None:
    """A text that is not there is None, attributes are text, numbers are numbers."""
    columns = read(database, 50_000)[0].columns
    assert set(columns["user_id"]) == {"ana", None}
    assert set(columns["attributes"]) == {""}
    assert columns["event_id"][0].startswith("before-")


def test_a_server_gives_the_same_pages(database: Database, tmp_path: Path) -> None:
    """SQL and format hold on both, also where there is nothing."""
    process = ClickHouseServer(tmp_path)
    process.start()
    server = Database.server(process.url)
    migrate(server)
    batch = jittered("e", START_MS)
    for each in (database, server):
        each.insert_rows("events", rows_of(batch, "history-c", "topic-a", START_MS))
    for kind in KINDS:
        pages = [page(each, TenantContext("history-c"), kind, 0, 2**45, 100) for each in (database, server)]
        one, other = (pa.ipc.open_stream(found).read_all() for found in pages)
        assert one.equals(other)
        assert (len(one) >= 100) == (kind == "auth")
    database.command("DELETE FROM events WHERE tenant_id = 'history-c'")
    server.close()
    process.stop()
