"""Fencing on a real ClickHouse server: an owner who hung and woke up doubles nothing."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import pytest

from schemas.parse import parse
from schemas.tenant import Tenant
from store.database import Database, Fenced
from store.events import KafkaIds
from store.migrations import migrate
from store.ownership import Claim, Ownership
from store.writer import EventBlock, EventWriter
from tests.clickhouse_server import ClickHouseServer
from tests.conftest import eventually
from tests.schema_examples import encode, event

TOPIC = "audit.auth"


@pytest.fixture(scope="module")
def server(clickhouse_server: ClickHouseServer) -> Iterator[Database]:
    opened = Database.server(clickhouse_server.url)
    migrate(opened)
    yield opened
    opened.close()


class Partition:
    """One partition of a topic that nobody else in this session has, on the server."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ids = KafkaIds(f"cluster-{uuid4().hex[:8]}", {TOPIC: uuid4().hex})
        self.ownership = Ownership(database, self.ids, "worker")
        self.writer = EventWriter(database, self.ids, "worker")

    def claim(self, generation: int, partition: int = 0) -> Claim:
        """Take the partition over, as recovery does."""
        term = self.ownership.next_terms(TOPIC, [partition])[partition]
        claim = Claim(TOPIC, partition, term, generation)
        self.ownership.claim({claim: 0})
        self.ownership.end_inserts(generation)
        return claim

    def block(self, claim: Claim, events: int = 3) -> EventBlock:
        batch: Any = parse("auth", [encode(event(event_id=f"e-{i}")) for i in range(events)]).batch
        tenant = Tenant(tenant_id=batch.tenant.values[0], organization_id="o", name="n")
        enriched = replace(
            batch, topic=TOPIC, partition=claim.partition, tenants=(tenant,), tenant_versions=(0,),
            ingest_time_ms=int(datetime.now(UTC).timestamp() * 1000),
        )  # fmt: skip
        (block,) = self.writer.encode_events([(enriched, claim)])
        return block

    def rows(self) -> int:
        stored = self.ownership.stored_from(TOPIC, {0: 0, 1: 0})
        return sum(len(found.rows) for found in stored.values())


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
    partition.ownership.claim({later: 0})
    partition.ownership.claim({earlier: 0})
    with pytest.raises(Fenced):
        partition.writer.insert_events(partition.block(earlier))
    partition.writer.insert_events(partition.block(later))
    assert partition.rows() == 3


def test_one_lost_partition_refuses_the_whole_insert(partition: Partition) -> None:
    """All partitions change hands together, and half an insert would be harder to account for."""
    mine, lost = partition.claim(1, 0), partition.claim(1, 1)
    chunks = [(block.batches[0], claim) for claim in (mine, lost) for block in [partition.block(claim)]]
    (both,) = partition.writer.encode_events(chunks)
    partition.claim(2, 1)
    with pytest.raises(Fenced):
        partition.writer.insert_events(both)
    assert partition.rows() == 0


def test_other_topics_and_other_clusters_are_other_partitions(server: Database, partition: Partition) -> None:
    """A wiped Kafka beside a kept store begins at offset 0 with another topic id, and loses nothing."""
    partition.writer.insert_events(partition.block(partition.claim(9)))
    fresh = Partition(server)
    fresh.writer.insert_events(fresh.block(fresh.claim(1)))
    assert (partition.rows(), fresh.rows()) == (3, 3)


class HalfSent:
    """An insert whose worker stopped in the middle of sending it.

    The server begins with it once it has read 256 KiB or all of it, so the block must be larger than twice that.
    """

    def __init__(self, url: str, block: EventBlock, database: Database) -> None:
        parts = urlsplit(url)
        self._rest = block.payload[len(block.payload) // 2 :]
        names = ", ".join(block.columns)
        types = {row["name"]: row["type"] for row in database.query("DESCRIBE TABLE events")}
        given = ", ".join(f"{name} {types[name]}" for name in block.columns).replace("'", "\\'")
        sql = (
            f"INSERT INTO events ({names}) SELECT {names} FROM input('{given}') "
            f"WHERE NOT throwIf({block.guard.refused_if}, 'fenced') FORMAT ArrowStream"
        )
        bound = "".join(f"&param_{name}={quote(str(v))}" for name, v in block.guard.parameters.items())
        path = f"/?database={parts.path.strip('/')}&query_id={block.guard.query_id}{bound}&query={quote(sql)}"
        self._socket = socket.create_connection((parts.hostname, parts.port), 30)
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {parts.hostname}\r\nX-ClickHouse-User: {parts.username}\r\n"
            f"X-ClickHouse-Key: {parts.password}\r\nContent-Length: {len(block.payload)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + block.payload[: len(block.payload) // 2])

    def go_on(self) -> bytes:
        """Send the rest and return the answer; nothing where the server has closed the connection."""
        try:
            self._socket.sendall(self._rest)
            return self._socket.recv(65_536)
        except OSError:
            return b""
        finally:
            self._socket.close()


def running(database: Database, query_id: str) -> bool:
    sql = "SELECT count() AS n FROM system.processes WHERE query_id = {q:String}"
    return bool(database.query(sql, {"q": query_id})[0]["n"])


def test_an_insert_that_hangs_half_sent_is_ended_by_the_next_owner(
    clickhouse_server: ClickHouseServer, server: Database, partition: Partition
) -> None:
    """Its guard was passed before the partition changed hands: so it is ended, and nothing of it stays."""
    block = partition.block(partition.claim(1), events=20_000)
    hung = HalfSent(clickhouse_server.url, block, server)
    eventually(lambda: running(server, block.guard.query_id))
    partition.claim(2)
    assert not running(server, block.guard.query_id)
    assert partition.rows() == 0
    assert b"200 OK" not in hung.go_on()
    assert partition.rows() == 0


def test_an_insert_half_sent_goes_on_while_nobody_takes_over(
    clickhouse_server: ClickHouseServer, server: Database, partition: Partition
) -> None:
    """A pause is no failure; and this shows that the test above ends something."""
    block = partition.block(partition.claim(1), events=20_000)
    paused = HalfSent(clickhouse_server.url, block, server)
    eventually(lambda: running(server, block.guard.query_id))
    assert b"200 OK" in paused.go_on()
    assert partition.rows() == 20_000
