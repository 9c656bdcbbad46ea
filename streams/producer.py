"""Sending to the topics from our own tools: replayed events, and tenants."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from schemas.event import MAX_EVENTS_PER_MESSAGE, Kind
from schemas.tenant import Tenant
from streams.topics import TENANTS, TOPIC_OF

# An array of events costs Kafka and Faust as much as one event; a small one keeps the latency low.
MAX_ARRAY_BYTES: Final = 256 * 1024
MAX_ARRAY_EVENTS: Final = min(200, MAX_EVENTS_PER_MESSAGE)


class SendError(Exception):
    """Kafka did not take what was sent; the message says how much, and what to check."""


class Sender:
    """Sends events, grouped into arrays by tenant and kind; a context manager.

    Parameters
    ----------
    bootstrap
        Broker addresses, ``host:port,host:port``.
    """

    def __init__(self, bootstrap: str) -> None:
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap.split(","),
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                max_request_size=9 * 1024 * 1024,
                max_block_ms=30_000,
            )
        except KafkaError as error:
            raise SendError(f"Kafka at {bootstrap} does not answer ({error}); is `tenantwatch up` running?") from error
        self._arrays: dict[tuple[Kind, str], list[bytes]] = {}
        self._bytes: dict[tuple[Kind, str], int] = {}
        self._pending: list[Any] = []
        self.acknowledged = 0

    def event(self, kind: Kind, tenant_id: str, event: bytes) -> None:
        """Queue one event, given as JSON; `flush` sends what is left over."""
        key = (kind, tenant_id)
        array = self._arrays.setdefault(key, [])
        array.append(event)
        self._bytes[key] = self._bytes.get(key, 0) + len(event)
        if len(array) >= MAX_ARRAY_EVENTS or self._bytes[key] >= MAX_ARRAY_BYTES:
            self._send_array(key)

    def _send_array(self, key: tuple[Kind, str]) -> None:
        array = self._arrays.pop(key)
        self._bytes.pop(key)
        value = array[0] if len(array) == 1 else b"[" + b",".join(array) + b"]"
        self._send(TOPIC_OF[key[0]], key[1], value, len(array))

    def _send(self, topic: str, key: str, value: bytes | None, count: int) -> None:
        self._pending.append((self._producer.send(topic, key=key.encode(), value=value), count))
        if len(self._pending) >= 1_000:
            self._settle(self._pending[:500])
            del self._pending[:500]

    def _settle(self, sent: Iterable[tuple[Any, int]]) -> None:
        try:
            for future, count in sent:
                future.get(timeout=60)
                self.acknowledged += count
        except KafkaError as error:
            raise SendError(
                f"Kafka refused or did not acknowledge after {self.acknowledged} events: {error}"
            ) from error

    def tenants(self, tenants: Sequence[Tenant]) -> None:
        """Send tenants to the directory."""
        for tenant in tenants:
            self._send(TENANTS, tenant.tenant_id, tenant.model_dump_json(exclude_none=True).encode(), 1)

    def remove_tenant(self, tenant_id: str) -> None:
        """Take a tenant out of the directory; its stored events stay."""
        self._send(TENANTS, tenant_id, None, 1)

    def flush(self) -> None:
        """Send everything and wait until Kafka has acknowledged it.

        Raises
        ------
        SendError
            If Kafka did not.
        """
        for key in list(self._arrays):
            self._send_array(key)
        self._producer.flush(timeout=60)
        self._settle(self._pending)
        self._pending.clear()

    def __enter__(self) -> "Sender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            self._producer.close(timeout=10)
