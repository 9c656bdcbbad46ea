"""Events in memory between the service that reports them and the thread that delivers them."""

from __future__ import annotations

import collections
import itertools
import logging
import threading
import time
from typing import Literal, NamedTuple

from .delivery import Delivery, Item

log = logging.getLogger("tenantwatch_emitter")

OnFull = Literal["drop", "block", "raise"]

# A round of delivery waits for Kafka's answer, so it should carry much; twice this is copied while it runs.
MAX_ROUND_EVENTS = 2_000
MAX_ROUND_BYTES = 4 * 1024 * 1024
# What an event costs beside its bytes: a tuple, three objects' headers and a place in the queue.
OVERHEAD_BYTES = 250
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
LOG_INTERVAL_S = 60.0


class QueueFull(RuntimeError):
    """The queue has no room and the emitter was told to raise; Kafka is away or too slow."""


class Stats(NamedTuple):
    """What became of the events so far.

    Parameters
    ----------
    sent
        Acknowledged by all of Kafka's in-sync replicas.
    queued
        In memory, on their way included.
    dropped
        Given up here: no room in the queue, or no time left when the emitter was closed.
    failed
        Refused by Kafka for good, e.g. larger than its topic takes.
    invalid
        Broke the contract and were logged instead of raised.
    """

    sent: int
    queued: int
    dropped: int
    failed: int
    invalid: int


class Outbox:
    """A bounded queue and the thread that empties it.

    The thread starts with the first event, so an outbox can be made at import, before a server forks. Where
    the system has no thread left, events wait, and the next event or `flush` tries again.

    Parameters
    ----------
    delivery
        Where events go.
    max_events, max_bytes
        Room for events; whichever is reached first makes the queue full.
    linger_s
        How long an event waits for others to travel with.
    """

    def __init__(self, delivery: Delivery, *, max_events: int, max_bytes: int, linger_s: float) -> None:
        self._delivery = delivery
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._linger_s = linger_s
        self._items: collections.deque[Item] = collections.deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._counts: collections.Counter[str] = collections.Counter()
        self._logged_at: dict[str, float] = {}

    def empty_copy(self) -> Outbox:
        """Return an outbox for a forked child: the parent keeps the events, its thread and its connection."""
        copy = Outbox(
            self._delivery.renewed(),
            max_events=self._max_events,
            max_bytes=self._max_bytes,
            linger_s=self._linger_s,
        )
        copy._closed = self._closed
        return copy

    def put(self, item: Item, on_full: OnFull) -> None:
        """Queue an event; what happens when there is no room is the caller's choice."""
        size = _size(item)
        with self._changed:
            while not self._closed and on_full == "block" and not self._has_room(size):
                # Nobody makes room where no thread runs, so nobody would wake this call.
                self._changed.wait(None if self._runs() else FIRST_PAUSE_S)
            if not self._closed and self._has_room(size):
                self._items.append(item)
                self._bytes += size
                trouble = ("event_delayed", "reason=no_thread")
                if self._runs():
                    if len(self._items) == 1 or self._fills_a_round():
                        self._changed.notify_all()
                    return
            else:
                why = "emitter_closed" if self._closed else "queue_full"
                trouble = ("event_dropped", f"reason={why}")
                self._counts["dropped"] += 1
                if on_full == "raise":
                    raise QueueFull(
                        f"{why}, {len(self._items)} events wait for Kafka; fix: retry, or drop the event"
                    )
        self.warn(*trouble)

    def count_invalid(self) -> None:
        """Count an event that was not queued because it breaks the contract."""
        with self._changed:
            self._counts["invalid"] += 1

    def flush(self, timeout_s: float | None) -> bool:
        """Wait until the queue is empty; return whether it became so in time, and False without a thread."""
        with self._changed:
            if self._items:
                if not self._runs():
                    return False
                self._hurry.set()
                self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._items, timeout_s)

    def close(self, timeout_s: float) -> bool:
        """Take no more events, flush, and end the thread; return whether all events were delivered."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._closed = True
        flushed = self.flush(timeout_s)
        with self._changed:
            lost, thread = len(self._items), self._thread
            self._items.clear()
            self._bytes = 0
            self._counts["dropped"] += lost
            self._changed.notify_all()
        if lost:
            log.error("events_lost count=%d reason=closed_before_delivery timeout_s=%.1f", lost, timeout_s)
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        return flushed

    def stats(self) -> Stats:
        """Return the counts so far."""
        with self._changed:
            counts = {name: self._counts[name] for name in Stats._fields}
            return Stats(**{**counts, "queued": len(self._items)})

    def warn(self, event: str, details: str) -> None:
        """Log with the counts so far, at most once a minute for each kind of trouble."""
        now = time.monotonic()
        with self._changed:
            last = self._logged_at.get(event)
            if last is not None and now - last < LOG_INTERVAL_S:
                return
            self._logged_at[event] = now
        log.warning(
            "%s %s %s", event, details, " ".join(f"{k}={v}" for k, v in self.stats()._asdict().items())
        )

    def _has_room(self, size: int) -> bool:
        # A single event always fits, or one larger than all the room would block for ever.
        return not self._items or (
            len(self._items) < self._max_events and self._bytes + size <= self._max_bytes
        )

    def _runs(self) -> bool:
        """Return whether a thread delivers; where none does, one is started if the system has one left."""
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="tenantwatch-emitter", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The event is kept: raised into a service, it would be reported again, under another id.
                return False
            self._thread = thread
        return True

    def _fills_a_round(self) -> bool:
        return len(self._items) >= min(MAX_ROUND_EVENTS, self._max_events) or self._bytes >= MAX_ROUND_BYTES

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            batch = self._next_batch()
            if not batch:
                break
            left = self._delivery.deliver(batch)
            self._settle(batch, left.unsent, left.refused)
            if left.error is None:
                pause_s = FIRST_PAUSE_S
                continue
            self.warn("delivery_failed", f"error={left.error!r}")
            if self._hurry.wait(pause_s):
                self._hurry.clear()
                pause_s = FIRST_PAUSE_S
            else:
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        self._delivery.close()

    def _next_batch(self) -> list[Item]:
        """Wait for events; they stay in the queue, and count against its bounds, until they are delivered."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed)
            self._changed.wait_for(
                lambda: self._closed or self._hurry.is_set() or self._fills_a_round(), self._linger_s
            )
            self._hurry.clear()
            sizes = itertools.accumulate(len(item.value) for item in self._items)
            return [
                item
                for i, (item, size) in enumerate(zip(itertools.islice(self._items, MAX_ROUND_EVENTS), sizes))
                if i == 0 or size <= MAX_ROUND_BYTES
            ]

    def _settle(self, batch: list[Item], unsent: list[Item], refused: int) -> None:
        with self._changed:
            if not self._items:
                return  # closed meanwhile: these were counted as dropped
            for _ in batch:
                self._items.popleft()
            self._items.extendleft(reversed(unsent))
            self._bytes += sum(map(_size, unsent)) - sum(map(_size, batch))
            self._counts["failed"] += refused
            self._counts["sent"] += len(batch) - len(unsent) - refused
            self._changed.notify_all()


def _size(item: Item) -> int:
    return len(item.key) + len(item.value) + OVERHEAD_BYTES
