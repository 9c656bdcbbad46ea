"""One attempt at one delivery: read it again, send it, store what came of it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog

from store.webhook_rows import Attempt, Delivery, Endpoint
from store.webhooks import UnknownWebhook, WebhookStore
from streams.metrics import WEBHOOK_ATTEMPTS
from streams.patience import patiently
from streams.together import Together
from streams.webhooks.schedule import retry_delay_s
from streams.webhooks.sender import AttemptResult, Sender
from streams.webhooks.signing import headers

GONE: Final = 410
STORE_FAILED: Final = "webhook_store_failed"
# Outcomes are stored together: a delivery after an alert costs the store as much as many.
OUTCOMES_COLLECT_S: Final = 0.5

_log = structlog.get_logger()


@dataclass(frozen=True)
class Outcome:
    """What became of a delivery; `result` is None if it turned out that there was nothing to send."""

    delivery: Delivery | None
    result: AttemptResult | None = None


class Attempts:
    """Makes attempts.

    Parameters
    ----------
    clock
        Seconds since 1970.
    random
        Gives numbers of [0, 1), for the schedule's jitter.
    """

    def __init__(
        self,
        store: WebhookStore,
        sender: Sender,
        clock: Callable[[], float],
        random: Callable[[], float],
    ) -> None:
        self._store = store
        # Each costs the store a few reads or inserts, for one delivery or for all that are due.
        self._reads: Together[Delivery, tuple[Delivery, Endpoint] | None] = Together(store.to_send)
        self._outcomes: Together[tuple[Delivery, Attempt], Delivery] = Together(
            store.record_attempts, OUTCOMES_COLLECT_S
        )
        self._sender = sender
        self._clock = clock
        self._random = random

    def hurry(self) -> None:
        """Let outcomes collect no longer: the worker is about to end."""
        self._outcomes.hurry()

    def now(self) -> datetime:
        """Return the clock's time."""
        return datetime.fromtimestamp(self._clock(), UTC)

    async def send(self, endpoint: Endpoint, message_id: str, text: str) -> AttemptResult:
        """Sign and post a body, whatever it is, and store nothing."""
        body, now = text.encode(), self.now()
        signed = headers(endpoint.secrets_at(now), message_id, int(now.timestamp()), body)
        return await self._sender.send(endpoint.url, signed, body)

    async def make(self, waiting: Delivery, on_answer: Callable[[], None]) -> Outcome:
        """Make one attempt, unless the store says that there is nothing to do, or not yet.

        Parameters
        ----------
        on_answer
            Called when the receiver has taken it; that is still to be stored. After a failure it is not:
            what it says of the endpoint comes first.

        Raises
        ------
        StoreUnavailable
            If the store cannot say; nothing was sent.
        """
        found = await self._reads.ask(waiting)
        if found is None or found[1].status != "enabled":
            reason = "endpoint disabled or removed"
            await asyncio.to_thread(self._store.cancel, [waiting.delivery_id], reason)
            return Outcome(None)
        delivery, endpoint = found
        if delivery.status != "pending" or delivery.next_attempt_at > self.now():
            return Outcome(delivery)
        started = self.now()
        result = await self.send(endpoint, delivery.delivery_id, delivery.body)
        if result.delivered:
            on_answer()
        return Outcome(await self._conclude(endpoint, delivery, started, result), result)

    async def _conclude(
        self, endpoint: Endpoint, delivery: Delivery, started: datetime, result: AttemptResult
    ) -> Delivery:
        after = self._after(delivery, result)
        attempt = Attempt(
            delivery_id=delivery.delivery_id,
            endpoint_id=delivery.endpoint_id,
            tenant_id=delivery.tenant_id,
            attempt=after.attempts,
            attempted_at=started,
            duration_ms=result.duration_ms,
            http_status=result.http_status,
            error=result.error,
        )
        # What has happened cannot be taken back, however long the store takes.
        after = await patiently(lambda: self._outcomes.ask((after, attempt)), STORE_FAILED)
        _report(after, attempt)
        if result.http_status == GONE:
            disable = partial(self._store.disable, endpoint.endpoint_id, "answered 410 Gone")
            with suppress(UnknownWebhook):  # removed meanwhile, perhaps by the receiver itself
                await patiently(lambda: asyncio.to_thread(disable), STORE_FAILED)
                _log.warning(
                    "webhook_endpoint_disabled",
                    endpoint_id=endpoint.endpoint_id,
                    tenant_id=endpoint.tenant_id,
                )
        return after

    def _after(self, delivery: Delivery, result: AttemptResult) -> Delivery:
        made = replace(delivery, attempts=delivery.attempts + 1)
        if result.delivered:
            return replace(made, status="delivered")
        if result.http_status == GONE:
            return replace(made, status="failed", status_reason="answered 410 Gone")
        wait_s = retry_delay_s(made.attempts, result.retry_after_s, self._random)
        if wait_s is None:
            return replace(made, status="failed", status_reason=f"gave up after {made.attempts} attempts")
        return replace(made, next_attempt_at=self.now() + timedelta(seconds=wait_s))


def _report(after: Delivery, attempt: Attempt) -> None:
    result = {"delivered": "delivered", "pending": "retried"}.get(after.status, "failed")
    WEBHOOK_ATTEMPTS.labels(result).inc()
    log = _log.info if after.status == "delivered" else _log.warning
    log(
        f"webhook_{result}",
        delivery_id=after.delivery_id,
        endpoint_id=after.endpoint_id,
        tenant_id=after.tenant_id,
        alert_id=after.alert_id,
        revision=after.revision,
        attempt=attempt.attempt,
        http_status=attempt.http_status,
        duration_ms=attempt.duration_ms,
        error=attempt.error,
    )
