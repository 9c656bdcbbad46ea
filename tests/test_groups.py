"""Group insert: what is stored together, and when a chunk may be acknowledged."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schemas.batch import EventBatch
from schemas.parse import parse
from store.database import Fenced, StoreError, StoreUnavailable
from store.ownership import Claim
from store.vault import Shredded, Subject
from streams.chunk import Handled
from streams.dead_letters import DeadLetter
from streams.groups import LULL_S, GroupWriter
from streams.records import Records
from tests.schema_examples import encode, event

CLAIM = Claim("audit.auth", 2, term=1, generation=1)
Block = list[tuple[EventBatch, Claim]]


class MemoryWriter:
    """Stands in for the store; fails as often as it is told to."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.rows: dict[str, list[dict[str, Any]]] = {"dead_letters": [], "ledger": []}
        self.failures: list[Exception] = []
        # How many rows of a block that failed are found to be there all the same.
        self.stored_by_failure = 0
        self.hold: threading.Event | None = None

    def encode_events(self, chunks: Block) -> list[Block]:
        return [chunks] if sum(len(batch) for batch, _ in chunks) else []

    def insert_events(self, block: Block) -> None:
        if self.hold is not None:
            self.hold.wait(10)
        if self.failures:
            raise self.failures.pop(0)
        self.groups.append(sum(len(batch) for batch, _ in block))

    def remaining(self, block: Block) -> list[Block]:
        (batch, claim), *rest = block
        return self.encode_events(
            [(batch.select(np.arange(self.stored_by_failure, len(batch))), claim), *rest]
        )

    def insert_rows(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        self.rows[table].extend(rows)


def chunk(
    events: int, first_offset: int = 0, letters: Sequence[DeadLetter] = (), claim: Claim = CLAIM
) -> Handled:
    """Return a handled chunk of so many events."""
    parsed = parse("auth", [encode(event(event_id=f"e-{i}")) for i in range(events)])
    offsets = list(range(first_offset, first_offset + max(events, 1)))
    values: list[bytes | None] = [b""] * len(offsets)
    records = Records(
        "audit.auth", 2, offsets, [b"k"] * len(offsets), values, [()] * len(offsets), [0] * len(offsets)
    )
    rejected = sum(len(letter.indexes) for letter in letters)
    return Handled(
        records,
        parsed.batch,
        claim,
        first_offset,
        None,
        [],
        list(letters),
        rejected,
        0,
        {"failed_login": events},
        {"parse": 0.001},
    )


@asynccontextmanager
async def running(
    writer: MemoryWriter, **options: Any
) -> AsyncIterator[tuple[GroupWriter, asyncio.Task[None]]]:
    chosen = {"max_rows": 100, "max_wait_s": 0.05, "max_pending_rows": 300, **options}
    groups = GroupWriter(writer, worker_id="w", **chosen)  # type: ignore[arg-type]
    groups.begin(CLAIM.generation)
    task = asyncio.create_task(groups.run())
    try:
        yield groups, task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_a_backlog_ends_with_does_not_wait() -> None:
    """A large group that nothing follows is stored before its time; a small one is not."""
    writer = MemoryWriter()
    async with running(writer, max_wait_s=3600) as (groups, _):
        await groups.add(chunk(19), [], lambda: None)
        await asyncio.sleep(3 * LULL_S)
        assert not writer.groups
        await groups.add(chunk(1, 19), [], lambda: None)
        await until(lambda: writer.groups == [20])


async def test_chunks_are_stored_together_and_then_acknowledged() -> None:
    """Small chunks wait for each other; each is acknowledged once the group is stored."""
    writer, acked = MemoryWriter(), list[int]()
    async with running(writer) as (groups, _):
        for i in range(3):
            await groups.add(chunk(10, 10 * i), [], lambda i=i: acked.append(i))  # type: ignore[misc]
        await groups.drained()
    assert writer.groups == [30]
    assert acked == [0, 1, 2]
    (row,) = writer.rows["ledger"]
    assert (row["first_offset"], row["last_offset"], row["records"], row["stored"]) == (0, 29, 30, 30)
    assert row["evaluated_by"] == {"failed_login": 30}


async def test_a_full_group_does_not_wait() -> None:
    """With enough rows a group is stored at once."""
    writer = MemoryWriter()
    async with running(writer, max_wait_s=3600) as (groups, _):
        await groups.add(chunk(100), [], lambda: None)
        await until(lambda: writer.groups == [100])


async def test_nothing_is_acknowledged_before_the_alert_is_out() -> None:
    """Durable rows are not enough: an alert that Kafka has not acknowledged would be lost."""
    writer, acked = MemoryWriter(), list[bool]()
    published: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with running(writer) as (groups, _):
        await groups.add(chunk(1), [published], lambda: acked.append(True))
        await until(lambda: bool(writer.groups))
        await asyncio.sleep(0.1)
        assert acked == []
        assert writer.rows["ledger"] == []
        published.set_result(None)
        await groups.drained()
    assert acked == [True]


async def test_an_outage_of_the_store_is_waited_for() -> None:
    """The rows are inserted when the store is back; nothing was acknowledged before, nothing is dropped."""
    writer, acked = MemoryWriter(), list[bool]()
    writer.failures = [StoreUnavailable("down"), StoreUnavailable("still down")]
    async with running(writer) as (groups, task):
        await groups.add(chunk(5), [], lambda: acked.append(True))
        await until(lambda: not groups.store_up)
        assert acked == []
        await groups.drained()
        assert groups.store_up
        assert not task.done()
    assert writer.groups == [5]
    assert acked == [True]


async def test_a_defect_of_ours_stops_the_writer_without_an_acknowledgement() -> None:
    """A statement that the store will always refuse is not tried for ever."""
    writer, acked = MemoryWriter(), list[bool]()
    writer.failures = [StoreError("no such column")]
    async with running(writer) as (groups, task):
        await groups.add(chunk(5), [], lambda: acked.append(True))
        with pytest.raises(StoreError):
            await task
    assert acked == []


async def test_an_alert_that_kafka_refuses_stops_the_writer_without_an_acknowledgement() -> None:
    """The chunk is handled again by the next worker, and its alerts with it."""
    acked = list[bool]()
    published: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    published.set_exception(RuntimeError("record too large"))
    async with running(MemoryWriter()) as (groups, task):
        await groups.add(chunk(1), [published], lambda: acked.append(True))
        with pytest.raises(RuntimeError, match="too large"):
            await task
    assert acked == []


async def test_a_bounded_amount_waits_for_the_store() -> None:
    """Behind a store that is away the consumer is held back, and memory with it."""
    writer = MemoryWriter()
    writer.failures = [StoreUnavailable("down")] * 1_000
    async with running(writer) as (groups, _):
        for i in range(3):
            await groups.add(chunk(100, 100 * i), [], lambda: None)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await groups.add(chunk(1, 300), [], lambda: None)
        writer.failures.clear()
        await groups.drained()


async def test_the_ledger_and_the_dead_letters_account_for_a_chunk() -> None:
    """A chunk of which nothing could be stored still has its row, its letter and its acknowledgement."""
    writer, acked = MemoryWriter(), list[bool]()
    letter = DeadLetter(b"k", b"{", "audit.auth", 2, 7, "invalid_json", "why", (0,))
    async with running(writer) as (groups, _):
        await groups.add(chunk(0, 7, [letter]), [], lambda: acked.append(True))
        await groups.drained()
    ledger, dead = writer.rows["ledger"][0], writer.rows["dead_letters"][0]
    assert (ledger["first_offset"], ledger["last_offset"], ledger["records"]) == (7, 7, 1)
    assert (ledger["stored"], ledger["rejected"]) == (0, 1)
    assert (dead["kafka_offset"], dead["reason"], dead["value_bytes"]) == (7, "invalid_json", 1)
    assert acked == [True]


async def test_rows_that_a_failed_insert_had_stored_are_not_stored_again() -> None:
    """An insert that broke may have been done, in part or whole: only the rest is tried again."""
    writer, acked = MemoryWriter(), list[bool]()
    writer.failures, writer.stored_by_failure = [StoreUnavailable("connection reset")], 3
    async with running(writer) as (groups, _):
        await groups.add(chunk(5), [], lambda: acked.append(True))
        await groups.drained()
    assert writer.groups == [2]
    assert acked == [True]
    assert writer.rows["ledger"][0]["stored"] == 5


async def test_an_abandoned_chunk_is_neither_stored_nor_acknowledged() -> None:
    """After a rebalance the chunk is its next owner's, and storing it here would double it."""
    writer, acked = MemoryWriter(), list[bool]()
    async with running(writer, max_wait_s=0.2) as (groups, _):
        await groups.add(chunk(5), [], lambda: acked.append(True))
        await groups.abandon()
        groups.begin(2)
        await groups.add(chunk(7, claim=replace(CLAIM, generation=2)), [], lambda: acked.append(False))
        await groups.drained()
    assert writer.groups == [7]
    assert acked == [False]


async def test_a_chunk_of_an_earlier_assignment_is_not_taken() -> None:
    """It waited for room while its partition went to somebody else."""
    writer, acked = MemoryWriter(), list[bool]()
    writer.failures = [StoreUnavailable("down")] * 1_000
    async with running(writer) as (groups, _):
        for i in range(3):
            await groups.add(chunk(100, 100 * i), [], lambda: None)
        late = asyncio.create_task(groups.add(chunk(1, 300), [], lambda: acked.append(True)))
        await asyncio.sleep(0.05)
        assert not late.done()
        await groups.abandon()
        await late
        writer.failures.clear()
        await groups.inserts_ended()
        groups.begin(2)
        await groups.drained()
    assert writer.groups == []
    assert acked == []


async def test_an_abandoned_insert_is_waited_for() -> None:
    """What it stores must be there before the next owner reads back what is stored."""
    writer = MemoryWriter()
    writer.hold = threading.Event()
    async with running(writer) as (groups, _):
        await groups.add(chunk(5), [], lambda: None)
        await asyncio.sleep(0.1)
        await groups.abandon()
        ended = asyncio.create_task(groups.inserts_ended())
        await asyncio.sleep(0.05)
        assert not ended.done()
        writer.hold.set()
        await ended
        assert writer.groups == [5]


async def test_a_fenced_group_is_dropped_and_said() -> None:
    """The store has another owner for the partition: nothing is acknowledged, nothing more is taken."""
    writer, acked = MemoryWriter(), list[bool]()
    writer.failures = [Fenced("another owner")]
    async with running(writer) as (groups, task):
        await groups.add(chunk(5), [], lambda: acked.append(True))
        await until(lambda: groups.fenced)
        await groups.add(chunk(5, 5), [], lambda: acked.append(True))
        await groups.drained()
        assert not task.done()
        groups.begin(2)
        assert not groups.fenced
    assert writer.groups == []
    assert acked == []


def kept_chunk(events: int, first_offset: int = 0) -> Handled:
    """Return a chunk that speaks of somebody."""
    handled = chunk(events, first_offset)
    handled.subjects = [Subject("tenant-a", f"p_{first_offset}", "jane@example.com", 0)]
    return handled


async def test_people_are_durable_before_their_events_are() -> None:
    """A crash between the two leaves a person without events, never a pseudonym without a person."""
    writer, told = MemoryWriter(), list[str]()
    insert = writer.insert_events
    writer.insert_events = lambda block: (told.append("events"), insert(block))[1]  # type: ignore[method-assign]

    def keep(subjects: Sequence[Subject]) -> list[Shredded]:
        told.append(f"people {len(subjects)}")
        return []

    async with running(writer, keep=keep) as (groups, _):
        await groups.add(kept_chunk(3), [], lambda: told.append("ack"))
        await groups.add(kept_chunk(2, 3), [], lambda: told.append("ack"))
        await groups.drained()
    assert told == ["people 2", "events", "ack", "ack"]


async def test_events_wait_for_a_vault_that_is_away() -> None:
    """Nothing of the group is stored or acknowledged until its people are."""
    writer, failures, acked = MemoryWriter(), [StoreUnavailable("away")] * 2, list[int]()

    def keep(subjects: Sequence[Subject]) -> list[Shredded]:
        assert not writer.groups
        assert not acked
        if failures:
            raise failures.pop()
        return []

    async with running(writer, keep=keep) as (groups, _):
        await groups.add(kept_chunk(3), [], lambda: acked.append(1))
        await groups.drained()
    assert (writer.groups, acked, failures) == ([3], [1], [])


async def test_who_was_left_out_is_told() -> None:
    """So that the next event of theirs makes them known."""
    left_out, told = [Shredded("tenant-a", "p_0")], list[Sequence[Shredded]]()
    async with running(MemoryWriter(), keep=lambda _: left_out, on_left_out=told.append) as (groups, _):
        await groups.add(kept_chunk(3), [], lambda: None)
        await groups.drained()
    assert told == [left_out]


async def test_a_group_without_people_asks_no_vault() -> None:
    """Where there is no personal data, nothing is spent on it."""

    def keep(subjects: Sequence[Subject]) -> list[Shredded]:
        raise AssertionError("asked")

    async with running(MemoryWriter(), keep=keep) as (groups, _):
        await groups.add(chunk(3), [], lambda: None)
        await groups.drained()
