"""Taking partitions over: what the last owner stored is found, and the detectors know what it knew."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from faust.types import TP

from schemas.alert import Alert
from schemas.tenant import Tenant
from store.database import Database
from store.events import KafkaIds
from store.ownership import Ownership, Stored
from store.snapshots import Snapshots
from store.tail import Tail
from store.writer import EventWriter
from streams import metrics
from streams.accounts import dead_letter_rows
from streams.chunk import Handled, handle_chunk, read_chunk
from streams.directory import Directory, Entry
from streams.partition import PartitionState
from streams.records import Records
from streams.recovery import Recovery, Superseded
from streams.snapshots import SnapshotTaker
from streams.topics import partition_of
from tests.schema_examples import encode, event

TOPIC = "audit.auth"
PARTITIONS = 12
TENANT = "tenant-a"
PARTITION = partition_of(TENANT.encode(), PARTITIONS)
# Rows that arrived long ago are not read to rebuild a state.
NOW_MS = int(time.time() * 1000)


class Member:
    """Stands in for the consumer: what is committed, and whether the group still has its generation."""

    def __init__(self, committed: int, earliest: int = 0, *, member: bool = True) -> None:
        self.committed, self.earliest, self.member = committed, earliest, member

    async def starts(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        return dict.fromkeys(tps, (self.committed, self.earliest))

    async def confirm(self, offsets: Mapping[TP, int], generation: int) -> bool:
        return self.member


class Cluster:
    """One topic of a Kafka cluster that nobody else in this session has, handled without Kafka."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.ids = KafkaIds(f"cluster-{uuid4().hex[:8]}", {TOPIC: uuid4().hex})
        self.tenant = Tenant(tenant_id=TENANT, organization_id="org", name="A")
        self.directory: Any = Directory.__new__(Directory)
        self.directory._entries = {TENANT: Entry(self.tenant, 0)}
        self.writer = EventWriter(database, self.ids)

    async def take_over(
        self, committed: int, generation: int = 1, ended: Callable[[], None] = lambda: None, **member: Any
    ) -> PartitionState:
        async def inserts_ended() -> None:
            ended()

        recovery = Recovery(
            self.database, self.ids, "worker-2", PARTITIONS, lambda _: self.tenant, inserts_ended
        )
        states = await recovery.recover(Member(committed, **member), {TP(TOPIC, PARTITION)}, generation)
        return states[TOPIC, PARTITION]

    def handle(self, state: PartitionState, first: int, stop: int) -> Handled:
        """Handle one failed login for each offset, a second of event time apart."""
        ownership = Ownership(self.database, self.ids)
        state.stored = ownership.stored_between(TOPIC, {PARTITION: (first, stop - 1)}).get(PARTITION)
        values: list[bytes | None] = [guess(i) for i in range(first, stop)]
        n = len(values)
        records = Records(
            TOPIC, PARTITION, list(range(first, stop)), [TENANT.encode()] * n, values, [()] * n, [0] * n
        )
        return handle_chunk(records, read_chunk("auth", records), state, self.directory, NOW_MS)

    def store(self, handled: Handled) -> None:
        for block in self.writer.encode_events([(handled.unstored, handled.claim)]):
            self.writer.insert_events(block)

    def rows(self) -> int:
        return int(
            self.database.query(
                "SELECT count() AS n FROM events WHERE kafka_cluster_id = {c:String}",
                {"c": self.ids.cluster_id},
            )[0]["n"]
        )


def guess(i: int) -> bytes:
    at = datetime.fromtimestamp(1_767_200_000 + i, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return encode(
        event(
            event_id=f"e-{i}", tenant_id=TENANT, time=at, user_id="ana", source_ip="192.0.2.7",
            action="login", outcome="failure", reason="bad_password",
        )
    )  # fmt: skip


def essence(alerts: list[Alert]) -> list[dict[str, Any]]:
    return [alert.model_dump(exclude={"published_at"}) for alert in alerts]


@pytest.fixture
def cluster(database: Database) -> Cluster:
    return Cluster(database)


async def test_rows_of_the_last_owner_are_folded_again_and_not_stored_again(cluster: Cluster) -> None:
    """It died after storing offsets 0 to 4 and before committing them."""
    first = await cluster.take_over(0)
    cluster.store(cluster.handle(first, 0, 5))
    second = await cluster.take_over(0, generation=2)
    handled = cluster.handle(second, 0, 10)
    assert (handled.skipped, len(handled.unstored), len(handled.batch)) == (5, 5, 10)
    assert handled.alerts, "the detectors saw all ten"
    cluster.store(handled)
    assert cluster.rows() == 10


async def test_what_is_read_back_is_bounded_by_a_chunk(cluster: Cluster) -> None:
    """The group's commits are lost, and days of rows are stored: they are looked for as they come again."""
    cluster.store(cluster.handle(await cluster.take_over(0), 0, 50))
    state = await cluster.take_over(0, generation=2)
    assert (state.stored, state.stored_end) == (None, 50)
    for first, last, rows in ((0, 9, 10), (45, 54, 5)):
        await state.look_back(first, last)
        assert state.stored is not None
        assert len(state.stored.rows) == rows
    await state.look_back(50, 59)
    assert state.stored is None


async def test_the_store_is_asked_of_no_chunk_beyond_what_the_last_owner_left(cluster: Cluster) -> None:
    """All the time but at the beginning, nothing waits for it."""
    cluster.store(cluster.handle(await cluster.take_over(0), 0, 5))
    state = await cluster.take_over(0, generation=2)
    asked: list[tuple[int, int]] = []

    async def read_back(first: int, last: int) -> None:
        asked.append((first, last))

    state.read_back = read_back
    for first in (0, 4, 5, 6):
        await state.look_back(first, first + 9)
    assert asked == [(0, 9), (4, 13)]


async def test_what_this_worker_was_storing_is_waited_for_and_found(cluster: Cluster) -> None:
    """An insert of the assignment before this one ends while the partition is taken over once more."""
    owner = await cluster.take_over(0)
    inserting = cluster.handle(owner, 0, 5)
    again = await cluster.take_over(0, generation=2, ended=lambda: cluster.store(inserting))
    handled = cluster.handle(again, 0, 10)
    assert (handled.skipped, len(handled.unstored)) == (5, 5)


async def test_detectors_continue_where_the_committed_offset_is(cluster: Cluster) -> None:
    """Without a snapshot, from the stored rows alone: the alerts are those of one owner without an end."""
    alone = await cluster.take_over(0)
    whole = [cluster.handle(alone, first, first + 4) for first in range(0, 20, 4)]
    for handled in whole[:3]:
        cluster.store(handled)
    successor = await cluster.take_over(12, generation=2)
    found = cluster.handle(successor, 12, 20)
    assert essence(found.alerts) == essence([a for h in whole[3:] for a in h.alerts])
    assert found.alerts


async def test_what_is_read_at_a_time_is_bounded_by_rows(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message has up to 1,000 events: few offsets can be more rows than fit in memory."""
    state = await cluster.take_over(0)
    values: list[bytes | None] = [
        b"[" + b",".join(guess(4 * o + i) for i in range(4)) + b"]" for o in range(9)
    ]
    records = Records(TOPIC, PARTITION, list(range(9)), [TENANT.encode()] * 9, values, [()] * 9, [0] * 9)
    cluster.store(handle_chunk(records, read_chunk("auth", records), state, cluster.directory, NOW_MS))
    monkeypatch.setattr("store.tail.ROWS_PER_QUERY", 10)
    tail = Tail(cluster.database, cluster.ids, lambda _: cluster.tenant)
    read = list(tail.batches("auth", TOPIC, PARTITION, 1, 9))
    assert [len(batch) for batch in read] == [8, 8, 8, 8]
    rows = [row for b in read for row in zip(b.offset.tolist(), b.message_index.tolist(), strict=True)]
    assert rows == [(offset, i) for offset in range(1, 9) for i in range(4)]


async def test_a_snapshot_is_loaded_and_the_rows_after_it_are_folded(cluster: Cluster) -> None:
    """The rows before the snapshot are gone from the store here, so only the snapshot can know of them."""
    owner = await cluster.take_over(0)
    cluster.handle(owner, 0, 4)  # never stored
    Snapshots(cluster.database, cluster.ids).save(TOPIC, PARTITION, owner.next_offset, owner.freeze().parts())
    rest = [cluster.handle(owner, 4, 8), cluster.handle(owner, 8, 20)]
    cluster.store(rest[0])
    successor = await cluster.take_over(8, generation=2)
    assert essence(cluster.handle(successor, 8, 20).alerts) == essence(rest[1].alerts)


async def test_a_snapshot_beyond_the_committed_offset_is_not_used(cluster: Cluster) -> None:
    """Its events will be delivered again and folded: they must not be in the state already."""
    owner = await cluster.take_over(0)
    whole = cluster.handle(owner, 0, 20)
    Snapshots(cluster.database, cluster.ids).save(TOPIC, PARTITION, owner.next_offset, owner.freeze().parts())
    successor = await cluster.take_over(0, generation=2)
    assert essence(cluster.handle(successor, 0, 20).alerts) == essence(whole.alerts)


async def test_a_snapshot_of_another_format_is_rebuilt_from_the_stored_rows(cluster: Cluster) -> None:
    """It is not misread, and the detectors know what they would have known."""
    owner = await cluster.take_over(0)
    first = cluster.handle(owner, 0, 5)
    cluster.store(first)
    parts = [part if part.name != "failed_login" else part.__class__(part.name, 60_000, part.state)
             for part in owner.freeze().parts()]  # fmt: skip
    Snapshots(cluster.database, cluster.ids).save(TOPIC, PARTITION, owner.next_offset, parts)
    expected = cluster.handle(owner, 5, 20)
    successor = await cluster.take_over(5, generation=2)
    assert essence(cluster.handle(successor, 5, 20).alerts) == essence(expected.alerts)


async def test_a_message_that_was_set_aside_is_not_set_aside_again(cluster: Cluster) -> None:
    """Its dead letter is out; the chunk still accounts for it."""
    state = await cluster.take_over(0)
    values: list[bytes | None] = [b"{", guess(1)]
    records = Records(TOPIC, PARTITION, [0, 1], [TENANT.encode()] * 2, values, [()] * 2, [0] * 2)
    read = read_chunk("auth", records)
    handled = handle_chunk(records, read, state, cluster.directory, NOW_MS)
    assert len(handled.dead_letters) == 1
    cluster.writer.insert_rows("dead_letters", dead_letter_rows(handled))
    state = await cluster.take_over(0, generation=2)
    again = handle_chunk(records, read, state, cluster.directory, NOW_MS)
    assert (again.dead_letters, again.rejected) == ([], 1)


async def test_each_owner_has_a_higher_term(cluster: Cluster) -> None:
    """Also where the consumer group begins anew, with generation 1."""
    claims = [(await cluster.take_over(0, generation=g)).claim for g in (7, 8, 1)]
    terms = [claim.term for claim in claims]
    assert terms == [1, 2, 3]


async def test_a_worker_that_is_no_member_any_more_claims_nothing(cluster: Cluster) -> None:
    """It was stopped while it took over, and somebody else owns the partition now."""
    with pytest.raises(Superseded):
        await cluster.take_over(0, member=False)
    assert Ownership(cluster.database, cluster.ids).next_terms(TOPIC, [PARTITION]) == {PARTITION: 1}


async def test_what_kafka_no_longer_has_is_a_gap_and_not_hidden(cluster: Cluster) -> None:
    """Retention was faster than the worker: the next interval begins where Kafka does."""
    state = await cluster.take_over(3, earliest=10)
    assert cluster.handle(state, 10, 12).first_offset == 10


async def test_gaps_between_records_belong_to_the_interval_after_them(cluster: Cluster) -> None:
    """Transaction markers and compaction leave offsets out; intervals meet all the same."""
    state = await cluster.take_over(0)
    intervals = [(h.first_offset, h.records.offsets[-1]) for h in
                 (cluster.handle(state, 2, 4), cluster.handle(state, 9, 10))]  # fmt: skip
    assert intervals == [(0, 3), (4, 9)]


def test_a_stored_row_is_known_by_offset_and_position() -> None:
    """Two events of one message are two rows."""
    stored = Stored(np.array([5 << 10 | 1]), np.array([2], np.uint8))
    found, flags = stored.find(np.array([5, 5, 6]), np.array([0, 1, 1], np.int32))
    assert found.tolist() == [False, True, False]
    assert flags.tolist() == [0, 2, 0]


async def test_of_a_block_that_was_stored_in_part_only_the_rest_is_left(cluster: Cluster) -> None:
    """An insert over two months is two parts of the table, and a crash may come between them."""
    state = await cluster.take_over(0)
    months = [cluster.handle(state, 0, 4), cluster.handle(state, 4, 10)]
    last_month_ms = NOW_MS - 31 * 86_400_000
    chunks = [
        (replace(months[0].batch, ingest_time_ms=last_month_ms), months[0].claim),
        (months[1].batch, months[1].claim),
    ]
    (block,) = cluster.writer.encode_events(chunks)
    (half,) = cluster.writer.encode_events(chunks[:1])
    cluster.writer.insert_events(half)
    (rest,) = cluster.writer.remaining(block)
    cluster.writer.insert_events(rest)
    assert cluster.rows() == 10
    assert cluster.writer.remaining(block) == []


async def test_old_snapshots_are_pruned_and_the_newest_usable_one_stays(cluster: Cluster) -> None:
    """One beyond the committed offset may become usable; those before the newest usable one never will."""
    snapshots = Snapshots(cluster.database, cluster.ids)
    parts = (await cluster.take_over(0)).freeze().parts()
    committed = {PARTITION: 25, PARTITION + 1: 35}
    saved = [(partition, at) for partition in (*committed, PARTITION + 2) for at in (10, 20, 30)]
    for partition, at in saved:
        snapshots.save(TOPIC, partition, at, parts)
    snapshots.prune(TOPIC, committed)
    gone = [(partition, at) for partition, at in saved if not snapshots.load(TOPIC, partition, at)]
    assert gone == [(PARTITION, 10), (PARTITION + 1, 10), (PARTITION + 1, 20)]
    assert snapshots.newest(TOPIC, committed) == {PARTITION: 20, PARTITION + 1: 30}


class Owner:
    """Stands in for the pipeline: it has one partition."""

    def __init__(self, state: PartitionState) -> None:
        self.states = {(TOPIC, PARTITION): state}

    def committed(self, key: tuple[str, int]) -> int:
        return self.states[key].next_offset


async def test_a_snapshot_is_taken_of_what_has_changed(cluster: Cluster) -> None:
    """A partition without news is not written again."""
    state = await cluster.take_over(0)
    snapshots = Snapshots(cluster.database, cluster.ids)
    taker = SnapshotTaker(Owner(state), snapshots, 0.05)
    running = asyncio.create_task(taker.run())
    written = metrics.SNAPSHOT_BYTES._value.get()
    for stop in (5, 8):
        cluster.handle(state, state.next_offset, stop)
        async with asyncio.timeout(20):
            # It is counted a moment after it can be read.
            while metrics.SNAPSHOT_BYTES._value.get() == written:
                await asyncio.sleep(0.05)
        assert snapshots.newest(TOPIC, {PARTITION: stop}) == {PARTITION: stop}
        written = metrics.SNAPSHOT_BYTES._value.get()
    await asyncio.sleep(0.5)
    assert metrics.SNAPSHOT_BYTES._value.get() == written
    running.cancel()
    assert essence(cluster.handle(await cluster.take_over(8, generation=2), 8, 20).alerts) == essence(
        cluster.handle(state, 8, 20).alerts
    )
