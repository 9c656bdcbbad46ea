"""Group insert: handled chunks of all partitions wait a moment and are stored together.

An insert costs ClickHouse a part, whatever its size, so chunks are grouped for up to a second or 50,000
rows, or until a large group has all that there was of a backlog. A group is inserted by a thread while the
next chunks are parsed; a bounded amount may wait, and past that `add` waits too, which slows the consumer
down.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, perf_counter
from typing import Any, Final, TypeVar

import structlog

from store.database import Fenced, StoreUnavailable
from store.vault import Shredded, Subject
from store.writer import EventBlock, EventWriter
from streams import metrics
from streams.accounts import dead_letter_rows, ledger_rows
from streams.chunk import Handled
from streams.patience import waits_s

log = structlog.get_logger()
T = TypeVar("T")
# A group is large from this share of its rows on, and complete when so long no chunk has come to it.
LARGE: Final = 0.2
LULL_S: Final = 0.1


class _Abandoned(Exception):
    """The group's partitions are no longer this worker's to store."""


@dataclass(slots=True)
class _Group:
    handled: list[Handled] = field(default_factory=list)
    published: list[Awaitable[Any]] = field(default_factory=list)
    acks: list[Callable[[], Any]] = field(default_factory=list)
    rows: int = 0


class GroupWriter:
    """Stores handled chunks in groups and acknowledges them, in that order.

    Parameters
    ----------
    writer
        Where rows go.
    worker_id
        Named in the ledger.
    max_rows
        A group of this many rows is inserted at once.
    max_wait_s
        A group is inserted this long after its first chunk came; before, if it is large and nothing follows.
    max_pending_rows
        `add` waits while this many rows are not stored.
    keep
        Stores people, and returns those that it left out (`Vault.keep`).
    on_left_out
        Told of these, on the event loop.
    on_stored
        Told of each chunk of which every event is stored, when it is acknowledged.
    """

    def __init__(
        self,
        writer: EventWriter,
        *,
        worker_id: str,
        max_rows: int,
        max_wait_s: float,
        max_pending_rows: int,
        keep: Callable[[Sequence[Subject]], list[Shredded]] | None = None,
        on_left_out: Callable[[Sequence[Shredded]], None] = lambda _: None,
        on_stored: Callable[[Handled], None] = lambda _: None,
    ) -> None:
        self._writer = writer
        self._worker_id = worker_id
        self._max_rows = max_rows
        self._max_wait_s = max_wait_s
        self._max_pending_rows = max_pending_rows
        self._keep, self._on_left_out = keep, on_left_out
        self._on_stored = on_stored
        self._group = _Group()
        self._pending_rows = 0
        self._full = asyncio.Event()
        self._arrived = asyncio.Event()
        self._changed = asyncio.Condition()
        # Of the assignment whose chunks are taken; None between two of them.
        self._generation: int | None = None
        self._abandoned = asyncio.Event()
        self._inserting = asyncio.Lock()
        self._asked_at: float | None = None
        # Another worker owns a partition of ours: Kafka will say so, or something is wrong.
        self.fenced = False
        self._set_store_up(True)  # until an insert says otherwise

    @property
    def insert_waits_s(self) -> float:
        """How long the store has been owing an answer."""
        return 0.0 if self._asked_at is None else monotonic() - self._asked_at

    def begin(self, generation: int) -> None:
        """Take chunks of an assignment from now on."""
        self._generation = generation
        self._abandoned = asyncio.Event()
        self.fenced = False

    async def abandon(self) -> None:
        """Drop what is not stored: it is not acknowledged, and handled by whoever has its partitions next."""
        self._generation = None
        self._abandoned.set()
        async with self._changed:
            self._forget(self._group)
            self._group = _Group()
            self._changed.notify_all()

    async def inserts_ended(self) -> None:
        """Return once no insert of an earlier assignment is running."""
        async with self._inserting:
            pass

    async def add(
        self, handled: Handled, published: Sequence[Awaitable[Any]], ack: Callable[[], Any]
    ) -> None:
        """Take over a chunk; `ack` is called once its rows are durable and `published` has completed."""
        generation = handled.claim.generation
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._pending_rows < self._max_pending_rows or generation != self._generation
            )
        if generation != self._generation or self.fenced:
            return
        group = self._group
        group.handled.append(handled)
        group.published.extend(published)
        group.acks.append(ack)
        rows = _weight(handled)
        group.rows += rows
        self._pending_rows += rows
        metrics.ROWS_PENDING.set(self._pending_rows)
        self._arrived.set()
        if group.rows >= self._max_rows:
            self._full.set()

    async def drained(self) -> None:
        """Wait until everything that was added is stored and acknowledged."""
        self._full.set()
        async with self._changed:
            await self._changed.wait_for(lambda: self._pending_rows == 0)

    async def run(self) -> None:
        """Insert groups until cancelled.

        Raises
        ------
        StoreError
            If the store refuses our SQL: a defect, so nothing is acknowledged and the worker must stop.
        """
        while True:
            await self._arrived.wait()
            await self._collect()
            group, self._group = self._group, _Group()
            self._arrived.clear()
            self._full.clear()
            if not group.handled:
                continue  # abandoned before its time came
            async with self._inserting:
                try:
                    await self._store(group)
                except _Abandoned:
                    log.info("group_abandoned", rows=group.rows)
                except Fenced as error:
                    self.fenced = True
                    log.warning("group_fenced", rows=group.rows, error=str(error)[:300])
            async with self._changed:
                self._forget(group)
                self._changed.notify_all()

    async def _collect(self) -> None:
        """Return when the group is full, old enough, or large and all that there was of a backlog."""
        until_s = monotonic() + self._max_wait_s
        while not self._full.is_set() and (left_s := until_s - monotonic()) > 0:
            rows = self._group.rows
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, LULL_S)):
                    await self._full.wait()
            if rows == self._group.rows >= LARGE * self._max_rows:
                return

    def _forget(self, group: _Group) -> None:
        self._pending_rows -= group.rows
        metrics.ROWS_PENDING.set(self._pending_rows)

    async def _store(self, group: _Group) -> None:
        abandoned = self._abandoned
        started = perf_counter()
        chunks = [(handled.unstored, handled.claim) for handled in group.handled]
        blocks = await asyncio.to_thread(self._writer.encode_events, chunks)
        encoded = perf_counter()
        # Before the events: a pseudonym in the trail that nobody can be found by would stay one for ever.
        subjects = [subject for handled in group.handled for subject in handled.subjects]
        if subjects and self._keep is not None:
            self._on_left_out(await self._durably(abandoned, self._keep, subjects))
        kept = perf_counter()
        for block in blocks:
            await self._store_events(block, abandoned)
        # A row says that a message was set aside and that alerts are out: only when they are.
        await asyncio.gather(*group.published)
        letters = [row for handled in group.handled for row in dead_letter_rows(handled)]
        if letters:
            await self._durably(abandoned, self._writer.insert_rows, "dead_letters", letters)
        await self._durably(
            abandoned, self._writer.insert_rows, "ledger", ledger_rows(group.handled, self._worker_id)
        )
        inserted = perf_counter()
        for handled, ack in zip(group.handled, group.acks, strict=True):
            ack()
            self._on_stored(handled)
        self._report(group, encoded - started, kept - encoded, inserted - kept)

    async def _store_events(self, block: EventBlock, abandoned: asyncio.Event) -> None:
        """Insert a block; where an insert fails, only what of it is not there is tried again."""
        blocks = [block]
        waits = waits_s()
        while blocks:
            started = perf_counter()
            try:
                await self._ask(self._writer.insert_events, blocks[-1])
            except StoreUnavailable as error:
                await self._wait_for_store(error, next(waits), abandoned)
                left = await self._durably(abandoned, self._writer.remaining, blocks.pop())
                blocks.extend(left)
            else:
                blocks.pop()
                metrics.INSERT_SECONDS.observe(perf_counter() - started)
                self._set_store_up(True)

    async def _durably(self, abandoned: asyncio.Event, work: Callable[..., T], *args: Any) -> T:
        """Do something that may be done twice, waiting for the store as long as it takes."""
        waits = waits_s()
        while True:
            try:
                done = await self._ask(work, *args)
            except StoreUnavailable as error:
                await self._wait_for_store(error, next(waits), abandoned)
            else:
                self._set_store_up(True)
                return done

    async def _ask(self, work: Callable[..., T], *args: Any) -> T:
        self._asked_at = monotonic()
        try:
            return await asyncio.to_thread(work, *args)
        finally:
            self._asked_at = None

    async def _wait_for_store(self, error: StoreUnavailable, wait_s: float, abandoned: asyncio.Event) -> None:
        self._set_store_up(False)
        metrics.INSERT_RETRIES.inc()
        log.warning("insert_retried", error=str(error)[:500], wait_s=wait_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await abandoned.wait()
        if abandoned.is_set():
            raise _Abandoned

    def _set_store_up(self, up: bool) -> None:
        self.store_up = up
        metrics.STORE_UP.set(up)

    def _report(self, group: _Group, encode_s: float, keep_s: float, insert_s: float) -> None:
        seconds = {"encode": encode_s, "keep": keep_s, "insert": insert_s}
        for handled in group.handled:
            for stage, spent in handled.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + spent
        for stage, spent in seconds.items():
            metrics.STAGE_SECONDS.labels(stage).inc(spent)
        stored: dict[str, int] = {}
        for handled in group.handled:
            rows = len(handled.batch) - handled.skipped
            stored[handled.batch.kind] = stored.get(handled.batch.kind, 0) + rows
        for kind, rows in stored.items():
            metrics.EVENTS_STORED.labels(kind).inc(rows)
        log.info(
            "batch_stored",
            chunks=len(group.handled),
            **stored,
            skipped=sum(handled.skipped for handled in group.handled),
            rejected=sum(handled.rejected for handled in group.handled),
            alerts=sum(len(handled.alerts) for handled in group.handled),
            **{f"{stage}_ms": round(spent * 1000, 1) for stage, spent in seconds.items()},
        )


def _weight(handled: Handled) -> int:
    # A chunk counts even when all of it was rejected: it still has a ledger row and an ack to come.
    return max(len(handled.batch), 1)
