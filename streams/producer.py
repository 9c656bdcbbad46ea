"""Sending to the topics from our own tools: replayed events, and tenants."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
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
# A person waits for the error.
BOOTSTRAP_TIMEOUT_MS: Final = 5_000


class SendError(Exception):
    """Kafka did not take what was sent; the message says how much, and what to check."""


class Sender:
    """Sends events, grouped into arrays by tenant and kind; a context manager.

    Parameters
    ----------
    bootstrap
        Broker addresses, ``host:port,host:port``.

    Attributes
    ----------
    acknowledged
        Events that Kafka has acknowledged.
    messages
        Messages of events that were sent.

    Raises
    ------
    SendError
        From every method, if Kafka does not answer or refuses.
    """

    def __init__(self, bootstrap: str) -> None:
        try:
            self._producer = KafkaProducer(
                bootstrap_servers=bootstrap.split(","),
                acks="all",
                enable_idempotence=True,
                linger_ms=5,
                batch_size=1024 * 1024,
                compression_type="gzip",
                max_request_size=9 * 1024 * 1024,
                max_block_ms=30_000,
                bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
            )
        except (KafkaError, ValueError) as error:
            raise SendError(
                f"Kafka at {bootstrap} does not answer: {error}. Start `tenantwatch up`, "
                "or set TENANTWATCH_KAFKA=host:port to where it is"
            ) from error
        self._arrays: dict[tuple[Kind, str], list[bytes]] = {}
        self._bytes: dict[tuple[Kind, str], int] = {}
        self._pending: list[Any] = []
        self.acknowledged = 0
        self.messages = 0

    def event(self, kind: Kind, tenant_id: str, event: bytes) -> None:
        """Queue one event, given as JSON; `flush` sends what is left over."""
        key = (kind, tenant_id)
        array = self._arrays.setdefault(key, [])
        array.append(event)
        self._bytes[key] = self._bytes.get(key, 0) + len(event)
        if len(array) >= MAX_ARRAY_EVENTS or self._bytes[key] >= MAX_ARRAY_BYTES:
            self._send_array(key)

    def message(self, kind: Kind, tenant_id: str, value: bytes, events: int) -> None:
        """Send a message as it is, after the queued events of its tenant and kind.

        Parameters
        ----------
        value
            An event, or an array of events, as JSON.
        events
            How many it holds.
        """
        if (kind, tenant_id) in self._arrays:
            self._send_array((kind, tenant_id))
        self._send(TOPIC_OF[kind], tenant_id, value, events)

    def send_queued(self) -> None:
        """Send what is queued without waiting until it is acknowledged."""
        for key in list(self._arrays):
            self._send_array(key)

    def _send_array(self, key: tuple[Kind, str]) -> None:
        array = self._arrays.pop(key)
        self._bytes.pop(key)
        value = array[0] if len(array) == 1 else b"[" + b",".join(array) + b"]"
        self._send(TOPIC_OF[key[0]], key[1], value, len(array))

    def _send(self, topic: str, key: str, value: bytes | None, events: int) -> None:
        self.messages += events > 0
        with self._refusals(topic):
            self._pending.append((self._producer.send(topic, key=key.encode(), value=value), events))
            if len(self._pending) >= 1_000:
                self._settle(self._pending[:500])
                del self._pending[:500]

    def _settle(self, sent: Iterable[tuple[Any, int]]) -> None:
        for future, events in sent:
            future.get(timeout=60)
            self.acknowledged += events

    @contextmanager
    def _refusals(self, topic: str = "a message") -> Iterator[None]:
        try:
            yield
        except KafkaError as error:
            raise SendError(
                f"Kafka did not take {topic} after {self.acknowledged} events: {error}. "
                "Is it running, and does the topic exist? `tenantwatch doctor` looks"
            ) from error

    def tenants(self, tenants: Sequence[Tenant]) -> None:
        """Send tenants to the directory."""
        for tenant in tenants:
            self._send(TENANTS, tenant.tenant_id, tenant.model_dump_json(exclude_none=True).encode(), 0)

    def remove_tenant(self, tenant_id: str) -> None:
        """Take a tenant out of the directory; its stored events stay."""
        self._send(TENANTS, tenant_id, None, 0)

    def flush(self) -> None:
        """Send everything and wait until Kafka has acknowledged it."""
        self.send_queued()
        with self._refusals():
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
