"""Fencing on a real ClickHouse server: an owner who hung and woke up doubles nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from test_recovery import Cluster

from schemas.alert import rfc3339
from schemas.parse import parse
from schemas.tenant import Tenant
from store.database import Database, Fenced, Guard, StoreUnavailable
from store.events import KafkaIds
from store.ownership import Claim, Ownership
from store.retention import run_retention
from store.writer import EventBlock, EventWriter
from streams.topics import KIND_OF
from tests.clickhouse_server import ClickHouseServer
from tests.conftest import eventually
from tests.schema_examples import encode, event

TOPIC = "audit.auth"
ANOTHER = "audit.access"


class Partition:
    """Partitions of two topics that nobody else in this session has, on the server."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ids = KafkaIds(f"cluster-{uuid4().hex[:8]}", {topic: uuid4().hex for topic in (TOPIC, ANOTHER)})
        self.ownership = Ownership(database, self.ids)
        self.writer = EventWriter(database, self.ids)

    def claim(self, generation: int, partition: int = 0, topic: str = TOPIC) -> Claim:
        """Take the partition over, as recovery does."""
        term = self.ownership.next_terms(topic, [partition])[partition]
        claim = Claim(topic, partition, term, generation)
        self.ownership.claim({claim: 0}, "worker")
        self.ownership.end_inserts(generation)
        return claim

    def block(self, claim: Claim, events: int = 3, at: datetime | None = None) -> EventBlock:
        at = at or datetime.now(UTC)
        kind = KIND_OF[claim.topic]
        sent = [event(kind, event_id=f"e-{i}", time=rfc3339(at)) for i in range(events)]
        batch: Any = parse(kind, [encode(each) for each in sent]).batch
        tenant = Tenant(tenant_id=batch.tenant.values[0], organization_id="o", name="n")
        enriched = replace(
            batch, topic=claim.topic, partition=claim.partition, tenants=(tenant,), tenant_versions=(0,),
            ingest_time_ms=int(at.timestamp() * 1000),
        )  # fmt: skip
        (block,) = self.writer.encode_events([(enriched, claim)])
        return block

    def rows(self) -> int:
        spans = dict.fromkeys((0, 1), (0, 1 << 40))
        stored = [self.ownership.stored_between(topic, spans) for topic in (TOPIC, ANOTHER)]
        return sum(len(found.rows) for of_topic in stored for found in of_topic.values())


@pytest.fixture
def partition(server: Database) -> Partition:
    return Partition(server)


def test_an_owner_stores_its_rows(partition: Partition) -> None:
    """The guard lets the owner through."""
    partition.writer.insert_events(partition.block(partition.claim(1)))
    assert partition.rows() == 3


def test_the_rows_of_an_owner_that_was_replaced_are_refused(partition: Partition) -> None:
    """It was stopped between its check and its insert, and another worker has the partition."""
    hung = partition.block(partition.claim(1))
    partition.claim(2)
    with pytest.raises(Fenced):
        partition.writer.insert_events(hung)
    assert partition.rows() == 0


def test_of_two_claims_to_one_term_the_later_generation_owns(partition: Partition) -> None:
    """Both read the same highest term; Kafka gave the later one the partition."""
    earlier, later = Claim(TOPIC, 0, 1, 4), Claim(TOPIC, 0, 1, 5)
    partition.ownership.claim({later: 0}, "worker")
    partition.ownership.claim({earlier: 0}, "worker")
    with pytest.raises(Fenced):
        partition.writer.insert_events(partition.block(earlier))
    partition.writer.insert_events(partition.block(later))
    assert partition.rows() == 3


@pytest.mark.parametrize(("held", "gone"), [(TOPIC, TOPIC), (TOPIC, ANOTHER), (ANOTHER, TOPIC)])
def test_one_lost_partition_refuses_the_whole_insert(partition: Partition, held: str, gone: str) -> None:
    """All partitions change hands together, and half an insert would be harder to account for."""
    mine, lost = partition.claim(1, 0, held), partition.claim(1, 1, gone)
    chunks = [(block.batches[0], claim) for claim in (mine, lost) for block in [partition.block(claim)]]
    (both,) = partition.writer.encode_events(chunks)
    partition.claim(2, 1, gone)
    with pytest.raises(Fenced):
        partition.writer.insert_events(both)
    assert partition.rows() == 0


def test_other_topics_and_other_clusters_are_other_partitions(server: Database, partition: Partition) -> None:
    """A wiped Kafka beside a kept store begins at offset 0 with another topic id, and loses nothing."""
    partition.writer.insert_events(partition.block(partition.claim(9)))
    fresh = Partition(server)
    fresh.writer.insert_events(fresh.block(fresh.claim(1)))
    assert (partition.rows(), fresh.rows()) == (3, 3)


def test_what_two_owners_want_to_remove_is_counted_once(server: Database, partition: Partition) -> None:
    """The first had counted when the second took over: its account is refused, and the other's stands."""
    claim = partition.claim(1)
    now = datetime.now(UTC)
    partition.writer.insert_events(partition.block(claim, at=now - timedelta(days=400)))

    def take_over_and_guard() -> Guard:
        partition.claim(2)
        return partition.ownership.guard([claim])

    with pytest.raises(Fenced):
        run_retention(server, now, None, take_over_and_guard)
    assert partition.rows() == 3
    run_retention(server, now, None, lambda: partition.ownership.guard([Claim(TOPIC, 0, 2, 2)]))
    counted = server.query(
        "SELECT sum(rows_removed) AS n FROM retention_runs WHERE kafka_cluster_id = {c:String}",
        {"c": partition.ids.cluster_id},
    )
    assert (partition.rows(), counted) == (0, [{"n": 3}])


class HalfSent:
    """An insert whose worker stopped in the middle of sending it."""

    def __init__(self, url: str, block: EventBlock) -> None:
        self._half_sent, self._go_on = threading.Event(), threading.Event()
        self._payload = block.payload
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._insert, args=(url, block))
        self._thread.start()
        assert self._half_sent.wait(10)

    def _insert(self, url: str, block: EventBlock) -> None:
        database = Database.server(url)
        with patch("store.database.iter", self._slowly, create=True):
            try:
                EventWriter(database, KafkaIds("", {})).insert_events(block)
            except (Fenced, StoreUnavailable) as error:
                self._error = error
        database.close()

    def _slowly(self, body: tuple[bytes, bytes]) -> Iterator[bytes]:
        sql, payload = body
        yield sql
        if payload is not self._payload:
            yield payload  # of the next owner, who is in this process too
            return
        yield payload[: len(payload) // 2]
        self._half_sent.set()
        self._go_on.wait(30)
        yield payload[len(payload) // 2 :]

    def go_on(self) -> Exception | None:
        """Send the rest; return what the insert ended with."""
        self._go_on.set()
        self._thread.join()
        return self._error


def test_an_insert_that_hung_half_sent_stores_nothing_after_a_take_over(
    clickhouse_server: ClickHouseServer, partition: Partition
) -> None:
    """The guard is judged when the last byte has come, not when the first did."""
    hung = HalfSent(clickhouse_server.url, partition.block(partition.claim(1), events=20_000))
    partition.claim(2)
    assert partition.rows() == 0
    assert isinstance(hung.go_on(), Fenced)
    assert partition.rows() == 0


def test_an_insert_half_sent_goes_on_while_nobody_takes_over(
    clickhouse_server: ClickHouseServer, partition: Partition
) -> None:
    """A pause is no failure; and this shows that the test above refuses something."""
    paused = HalfSent(clickhouse_server.url, partition.block(partition.claim(1), events=20_000))
    assert paused.go_on() is None
    assert partition.rows() == 20_000


def test_an_insert_that_its_owner_gave_up_stores_nothing_beside_its_repetition(
    clickhouse_server: ClickHouseServer, partition: Partition
) -> None:
    """The server had it in part and no query of it, so there was none to end; then the rest came."""
    block = partition.block(partition.claim(1), events=20_000)
    given_up = HalfSent(clickhouse_server.url, block)
    for left in partition.writer.remaining(block):
        partition.writer.insert_events(left)
    assert isinstance(given_up.go_on(), Fenced)
    assert partition.rows() == 20_000


@contextmanager
def storing_slowly(url: str, block: EventBlock) -> Iterator[None]:
    """An insert that has passed its guard, runs for three seconds and only then stores its three rows."""
    guard = replace(block.guard, refused_if=f"{block.guard.refused_if} OR sleepEachRow(1) > 0")
    inserting = threading.Thread(target=_insert_quietly, args=(url, replace(block, guard=guard)))
    inserting.start()
    yield
    inserting.join()


def _insert_quietly(url: str, block: EventBlock) -> None:
    database = Database.server(url)
    with suppress(Fenced, StoreUnavailable):
        EventWriter(database, KafkaIds("", {})).insert_events(block)
    database.close()


async def test_what_a_predecessor_is_storing_is_ended_before_a_partition_is_taken_over(
    clickhouse_server: ClickHouseServer, server: Database
) -> None:
    """What the new owner does not find it will store: the predecessor's rows must not come after that."""
    cluster = Cluster(server)
    handled = cluster.handle(await cluster.take_over(0, generation=1), 0, 3)
    (block,) = cluster.writer.encode_events([(handled.unstored, handled.claim)])
    with storing_slowly(clickhouse_server.url, block):
        eventually(lambda: running(server, block.guard.query_id))
        state = await cluster.take_over(0, generation=2)
        assert state.stored_end == 0
    assert cluster.rows() == 0


@pytest.mark.parametrize("by", ["the next owner", "the one that gave it up"])
def test_an_insert_that_runs_is_ended_before_what_it_stored_is_read(
    clickhouse_server: ClickHouseServer, server: Database, partition: Partition, by: str
) -> None:
    """What is seen is all that there will be of it: nothing is added afterwards."""
    block = partition.block(partition.claim(1))
    with storing_slowly(clickhouse_server.url, block):
        eventually(lambda: running(server, block.guard.query_id))
        if by == "the next owner":
            partition.claim(2)
        else:
            partition.writer.remaining(block)
        assert not running(server, block.guard.query_id)
        assert partition.rows() == 0
    assert partition.rows() == 0


def running(database: Database, query_id: str) -> bool:
    sql = "SELECT count() AS n FROM system.processes WHERE query_id = {q:String}"
    return bool(database.query(sql, {"q": query_id})[0]["n"])
