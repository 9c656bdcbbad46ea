"""Alerts on their way from ``audit.alerts`` into the store and to the webhooks."""

import asyncio
from collections.abc import Sequence
from functools import partial
from time import monotonic

from schemas.alert import Alert
from store.writer import EventWriter
from streams.patience import patiently
from streams.webhooks.delivery import WebhookDelivery


class AlertRows:
    """Stores revisions of alerts and queues their webhooks, for as long as the store is away.

    Parameters
    ----------
    writer, webhooks
        Where they go: first to the table ``alerts``, then into the queue.
    """

    def __init__(self, writer: EventWriter, webhooks: WebhookDelivery) -> None:
        self._writer = writer
        self._webhooks = webhooks
        self._taken_at: float | None = None

    @property
    def waiting_s(self) -> float:
        """For how long the alerts in hand have waited: everybody's wait behind them."""
        return 0.0 if self._taken_at is None else monotonic() - self._taken_at

    async def take(self, alerts: Sequence[tuple[Alert, int]]) -> None:
        """Return once revisions are durable; each comes with its partition of ``audit.alerts``."""
        self._taken_at = monotonic()
        rows = [alert for alert, _ in alerts]
        try:
            await patiently(partial(asyncio.to_thread, self._writer.insert_alerts, rows), "insert_retried")
            await patiently(partial(self._webhooks.on_alerts, alerts), "insert_retried")
        finally:
            self._taken_at = None  # also after a rebalance: then they are another's to wait for
