"""Alerts become deliveries, durably; deliveries become attempts, in the background."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from random import random as uniform
from typing import Final

import structlog

from schemas.alert import Alert
from store.database import StoreUnavailable
from store.webhook_rows import Delivery, Endpoint
from store.webhooks import WebhookStore
from streams.metrics import WEBHOOKS_PENDING
from streams.patience import waits_s
from streams.webhooks import message
from streams.webhooks.address import Network
from streams.webhooks.attempt import GONE, STORE_FAILED, Attempts
from streams.webhooks.queue import PendingQueue
from streams.webhooks.schedule import TOO_FAST, pause_s
from streams.webhooks.sender import AttemptResult, Sender

PER_ENDPOINT: Final = 4
MAX_IN_FLIGHT: Final = 64
# Attempts whose outcome is not in the store, those under way included: after a crash as many are made again.
MAX_UNSTORED: Final = 256
REFRESH_S: Final = 10.0  # how soon a worker sees what another process changed in the store
STOP_DEADLINE_S: Final = 10.0

_log = structlog.get_logger()


class WebhookDelivery:
    """Delivers alerts to the webhooks of their tenants and of the platform.

    **At least once.** An alert's deliveries are in the store before `on_alerts` returns, and leave the
    queue only when the outcome is in the store. A crash between sending and storing sends again, with
    the same ``webhook-id``: receivers tell repeats by it. Revisions of an alert arrive in order (see
    `PendingQueue`) as long as no crash or rebalance falls between them; ``data.revision`` always tells.

    **One sender each.** A delivery is sent by the worker that owns its partition of ``audit.alerts``, so
    nothing is sent before `assign`. The store's row decides: it is read again before every attempt, so
    that a new secret, a new URL or an endpoint disabled elsewhere counts at once.

    Parameters
    ----------
    store
        Its calls run in threads.
    allow
        Networks that may be reached although they are not public.
    clock
        Seconds since 1970.
    random
        Gives numbers of [0, 1), for the schedule's jitter.
    max_in_flight
        Attempts at a time, over all endpoints; an endpoint has at most four of them.
    sender
        What makes the attempts, if not one for `allow`; closed by `stop`.
    refresh_s
        How often endpoints and queue are read from the store again.
    elapsed
        Seconds since whenever, never backwards: what `refresh_s` is measured by, so that a clock that is set
        back holds up nothing.
    """

    def __init__(
        self,
        store: WebhookStore,
        *,
        allow: Sequence[Network] = (),
        clock: Callable[[], float] = time.time,
        random: Callable[[], float] = uniform,
        max_in_flight: int = MAX_IN_FLIGHT,
        sender: Sender | None = None,
        refresh_s: float = REFRESH_S,
        elapsed: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._sender = sender or Sender(allow=allow)
        self._attempts = Attempts(store, self._sender, clock, random)
        self._elapsed = elapsed
        self._max_in_flight = max_in_flight
        self._refresh_s = refresh_s
        self._refresh_at = 0.0
        self._queue = PendingQueue(PER_ENDPOINT)
        self._endpoints: Sequence[Endpoint] = ()
        self._partitions: set[int] = set()
        self._slowed: dict[str, int] = {}
        self._in_flight: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Load endpoints and queue, and begin to send.

        Raises
        ------
        StoreUnavailable
            If they cannot be loaded now.
        """
        await self._refresh()
        self._loop = asyncio.create_task(self._run(), name="webhook-delivery")

    async def stop(self, deadline_s: float = STOP_DEADLINE_S) -> None:
        """Finish the attempts in flight, but wait no longer than the deadline; the queue is in the store."""
        self._stopping.set()
        self._attempts.hurry()
        self._wake.set()
        tasks = [*self._in_flight, *([self._loop] if self._loop else [])]
        if tasks:
            _, unfinished = await asyncio.wait(tasks, timeout=deadline_s)
            for task in unfinished:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._sender.aclose()

    async def wait(self) -> None:
        """Return when sending has ended, after `stop`; for whoever supervises the worker.

        Raises
        ------
        Exception
            What ended it, if it was not `stop`: an error of ours.
        """
        if self._loop is not None:
            await asyncio.wait([self._loop])
            if not self._loop.cancelled():
                self._loop.result()

    async def on_alerts(self, alerts: Sequence[tuple[Alert, int]]) -> None:
        """Put revisions into the queue, durably; a revision that was there before changes nothing.

        Parameters
        ----------
        alerts
            Each with its partition of ``audit.alerts``; one insert takes them all.

        Raises
        ------
        StoreUnavailable
            If the store does not take them: do not commit their offsets.
        RuntimeError
            If nothing is sending: `start` was not called, or sending ended by an error, its cause.
        """
        if self._loop is None:
            raise RuntimeError("call WebhookDelivery.start() before handing it alerts")
        if self._loop.done():
            cause = None if self._loop.cancelled() else self._loop.exception()
            raise RuntimeError("webhook delivery has ended; restart the worker") from cause
        deliveries = [
            _delivery(endpoint, alert, partition, self._attempts.now())
            for alert, partition in alerts
            for endpoint in self._endpoints
            if message.wants(endpoint, alert)
        ]
        if not deliveries:
            return
        # What was delivered before comes in, and goes: before an attempt the store is asked.
        for delivery in await asyncio.to_thread(self.store.enqueue, deliveries):
            if delivery.kafka_partition in self._partitions:
                self._queue.put(_without_body(delivery))
        self._wake.set()

    async def assign(self, partitions: set[int]) -> None:
        """Send for these partitions of ``audit.alerts`` and no others.

        Returns at once, for it is called in a rebalance: what waits is read in the background. What is
        in flight for other partitions is finished, as it cannot be called back.
        """
        self._partitions = set(partitions)
        self._queue.keep(self._partitions)
        self._refresh_at = 0.0
        self._wake.set()

    async def reload(self) -> None:
        """Read endpoints and queue from the store now, instead of within `refresh_s`.

        Raises
        ------
        StoreUnavailable
            If they cannot be read now; what was known stays in force.
        """
        await self._refresh()
        self._wake.set()

    async def test(self, endpoint_id: str) -> AttemptResult:
        """Send a ``webhook.test`` at once, also to a disabled endpoint, and return what came of it.

        Needs no `start`. It is not in the delivery log and does not disable the endpoint.

        Raises
        ------
        UnknownWebhook
            If there is no such endpoint.
        """
        endpoint = await asyncio.to_thread(self.store.get, endpoint_id)
        body = message.sample_body(endpoint, self._attempts.now())
        result = await self._attempts.send(endpoint, f"msg_{uuid.uuid4().hex}", body)
        _log.info(
            "webhook_tested", endpoint_id=endpoint_id, http_status=result.http_status, error=result.error
        )
        return result

    async def redeliver(self, delivery_id: str) -> Delivery:
        """Put a delivery back into the queue; `WebhookStore.redeliver` does the same from other processes.

        Raises
        ------
        UnknownWebhook
            If there is none, or its endpoint was removed.
        ValueError
            If its endpoint is disabled.
        """
        delivery = await asyncio.to_thread(self.store.redeliver, delivery_id)
        if delivery.kafka_partition in self._partitions:
            self._queue.put(_without_body(delivery))
            self._wake.set()
        return delivery

    async def _run(self) -> None:
        waits = waits_s()
        while not self._stopping.is_set():
            self._wake.clear()
            for finished in [task for task in self._in_flight if task.done()]:
                self._in_flight.discard(finished)
                finished.result()  # an attempt raises only what is our fault: end here, and say so
            try:
                await self._consult_store()
            except StoreUnavailable as error:
                wait_s = next(waits)
                _log.warning(STORE_FAILED, error=str(error)[:500], wait_s=wait_s)
                self._refresh_at = 0.0  # reading is how we find out that it is back
                await _wait(self._stopping, wait_s)
                continue
            waits = waits_s()
            now = self._attempts.now()
            for delivery in self._queue.take(now, self._room()):
                task = asyncio.create_task(self._attempt(delivery), name=delivery.delivery_id)
                task.add_done_callback(lambda _: self._wake.set())
                self._in_flight.add(task)
            WEBHOOKS_PENDING.set(len(self._queue))
            await _wait(self._wake, self._next_round_s(now))

    async def _consult_store(self) -> None:
        if self._elapsed() >= self._refresh_at:
            await self._refresh()
        if superseded := self._queue.take_superseded():
            ids = [delivery.delivery_id for delivery in superseded]
            # If this fails they still wait in the store, and the next refresh brings them back here.
            await asyncio.to_thread(self.store.cancel, ids, "superseded by a later revision")

    async def _refresh(self) -> None:
        # First, so that a rebalance while we read asks for another round.
        self._refresh_at = self._elapsed() + self._refresh_s
        before = self._queue.ids()
        self._endpoints = await asyncio.to_thread(self.store.list)
        pending = await asyncio.to_thread(self.store.pending, set(self._partitions))
        # Only what was here before the query can have left the store; what came since was not in it.
        self._queue.discard(before - {delivery.delivery_id for delivery in pending})
        for delivery in pending:
            if delivery.kafka_partition in self._partitions:
                self._queue.put(delivery)

    def _room(self) -> int:
        """Return how many attempts may begin now."""
        return min(self._max_in_flight - self._queue.in_flight, MAX_UNSTORED - len(self._in_flight))

    def _next_round_s(self, now: datetime) -> float:
        refresh_s = self._refresh_at - self._elapsed()
        due = self._queue.next_due()
        if due is None or self._room() <= 0:
            return refresh_s
        return min(refresh_s, (due - now).total_seconds())

    async def _attempt(self, taken: Delivery) -> None:
        after: Delivery | None = taken
        try:
            outcome = await self._attempts.make(taken, partial(self._on_answer, taken))
            after = outcome.delivery
            if outcome.result is not None:
                self._heed(taken.endpoint_id, outcome.result)
        except StoreUnavailable:
            self._refresh_at = 0.0  # the loop finds the same, and backs off
        finally:
            waits = after is not None and after.status == "pending"
            owned = taken.kafka_partition in self._partitions
            self._queue.done(taken, _without_body(after) if after and waits and owned else None)

    def _on_answer(self, taken: Delivery) -> None:
        self._queue.answered(taken)
        self._wake.set()

    def _heed(self, endpoint_id: str, result: AttemptResult) -> None:
        """Leave an endpoint alone that asked for it."""
        if result.http_status == GONE:
            self._refresh_at = 0.0  # it is disabled in the store, and what waited for it is cancelled there
        if result.http_status in TOO_FAST:
            self._slowed[endpoint_id] = self._slowed.get(endpoint_id, 0) + 1
        elif result.delivered:
            self._slowed.pop(endpoint_id, None)
        wait_s = pause_s(result.http_status, result.retry_after_s, self._slowed.get(endpoint_id, 0))
        if wait_s:
            self._queue.pause(endpoint_id, self._attempts.now() + timedelta(seconds=wait_s))


async def _wait(event: asyncio.Event, at_most_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), max(0.0, at_most_s))


def _without_body(delivery: Delivery) -> Delivery:
    """Return what the queue keeps: a backlog of days would not fit in memory with its bodies."""
    return replace(delivery, body="")


def _delivery(endpoint: Endpoint, alert: Alert, partition: int, now: datetime) -> Delivery:
    return Delivery(
        delivery_id=message.delivery_id(endpoint.endpoint_id, alert),
        endpoint_id=endpoint.endpoint_id,
        tenant_id=endpoint.tenant_id,
        alert_id=alert.alert_id,
        revision=alert.revision,
        event_type=message.event_type(alert),
        kafka_partition=partition,
        status="pending",
        status_reason="",
        attempts=0,
        next_attempt_at=now,
        created_at=now,
        body=message.alert_body(alert),
    )
