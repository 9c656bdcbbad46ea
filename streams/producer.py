"""Sending to the topics from our own tools: replayed events, and tenants."""

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.event import MAX_EVENTS_PER_MESSAGE, Kind
from schemas.tenant import Tenant
from schemas.tuning import TUNING_KEY, Tuning
from streams.brokers import PRODUCER, client_options
from streams.topics import TENANTS, TOPIC_OF

# An array of events costs Kafka and Faust as much as one event; a small one keeps the latency low.
MAX_ARRAY_BYTES: Final = 256 * 1024
MAX_ARRAY_EVENTS: Final = min(200, MAX_EVENTS_PER_MESSAGE)
# Handing a message over to the other thread costs as much as making it, so some go together.
HAND_OVER_MESSAGES: Final = 100
HAND_OVER_BYTES: Final = 1024 * 1024
MAX_UNACKNOWLEDGED: Final = 2_000
TIMEOUT_S: Final = 60.0
CLOSE_S: Final = 10.0

T = TypeVar("T")


class SendError(Exception):
    """Kafka did not take what was sent; the message says how much, and what to check."""


class _Message(NamedTuple):
    topic: str
    key: str
    value: bytes | None
    events: int


class Sender:
    """Sends events, grouped into arrays by tenant and kind, in their order; a context manager.

    It blocks, for tools without an event loop; its Kafka client runs in a thread of its own. That client is
    aiokafka, because kafka-python computes checksums in Python: 40 µs an event instead of 5.

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
        self._arrays: dict[tuple[Kind, str], list[bytes]] = {}
        self._bytes: dict[tuple[Kind, str], int] = {}
        self._outbox: list[_Message] = []
        self._outbox_bytes = 0
        self._handing: Future[list[tuple[Any, int]]] | None = None
        self._unacknowledged: list[tuple[Any, int]] = []
        self.acknowledged = 0
        self.messages = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka-sender", daemon=True)
        self._thread.start()
        try:
            self._producer = self._call(_connect(bootstrap))
        except (KafkaError, ValueError, TimeoutError) as error:
            self._stop_loop()
            raise SendError(
                f"Kafka at {bootstrap} does not answer: {error}. Start `tenantwatch up`, "
                "or set TENANTWATCH_KAFKA=host:port to where it is"
            ) from error

    def _call(self, work: Coroutine[Any, Any, T], timeout_s: float = TIMEOUT_S) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def event(self, kind: Kind, tenant_id: str, event: bytes) -> None:
        """Queue one event, given as JSON; `flush` sends what is left over."""
        key = (kind, tenant_id)
        array = self._arrays.setdefault(key, [])
        array.append(event)
        size = self._bytes[key] = self._bytes.get(key, 0) + len(event)
        if len(array) >= MAX_ARRAY_EVENTS or size >= MAX_ARRAY_BYTES:
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
        self._send(_Message(TOPIC_OF[kind], tenant_id, value, events))

    def tenants(self, tenants: Sequence[Tenant]) -> None:
        """Send tenants to the directory."""
        for tenant in tenants:
            value = tenant.model_dump_json(exclude_none=True).encode()
            self._send(_Message(TENANTS, tenant.tenant_id, value, 0))

    def tuning(self, tuning: Tuning) -> None:
        """Send the operator's overrides to the directory, in place of those that hold; empty: none hold."""
        value = tuning.model_dump_json().encode() if tuning != Tuning() else None
        self._send(_Message(TENANTS, TUNING_KEY, value, 0))

    def remove_tenant(self, tenant_id: str) -> None:
        """Take a tenant out of the directory; its stored events stay."""
        self._send(_Message(TENANTS, tenant_id, None, 0))

    def send_queued(self) -> None:
        """Send what is queued without waiting until it is acknowledged."""
        for key in list(self._arrays):
            self._send_array(key)
        with self._refusals():
            self._hand_over()

    def flush(self) -> None:
        """Send everything and wait until Kafka has acknowledged it."""
        self.send_queued()
        with self._refusals():
            self._await_handing()
            self._settle(len(self._unacknowledged))

    def _send_array(self, key: tuple[Kind, str]) -> None:
        array = self._arrays.pop(key)
        self._bytes.pop(key)
        value = array[0] if len(array) == 1 else b"[" + b",".join(array) + b"]"
        self._send(_Message(TOPIC_OF[key[0]], key[1], value, len(array)))

    def _send(self, message: _Message) -> None:
        self.messages += message.events > 0
        self._outbox.append(message)
        self._outbox_bytes += len(message.value or b"")
        if len(self._outbox) >= HAND_OVER_MESSAGES or self._outbox_bytes >= HAND_OVER_BYTES:
            with self._refusals():
                self._hand_over()
                if len(self._unacknowledged) > MAX_UNACKNOWLEDGED:
                    self._settle(MAX_UNACKNOWLEDGED // 2)

    def _hand_over(self) -> None:
        # One hand-over at a time, or messages of a tenant could overtake each other.
        self._await_handing()
        outbox, self._outbox, self._outbox_bytes = self._outbox, [], 0
        self._handing = asyncio.run_coroutine_threadsafe(self._produce(outbox), self._loop)

    def _await_handing(self) -> None:
        if self._handing is not None:
            self._unacknowledged += self._handing.result(TIMEOUT_S)
            self._handing = None

    async def _produce(self, messages: Iterable[_Message]) -> list[tuple[Any, int]]:
        return [
            (await self._producer.send(message.topic, message.value, message.key.encode()), message.events)
            for message in messages
        ]

    def _settle(self, count: int) -> None:
        settled, self._unacknowledged = self._unacknowledged[:count], self._unacknowledged[count:]
        self._call(self._await_acknowledgement(settled))

    async def _await_acknowledgement(self, sent: Iterable[tuple[Any, int]]) -> None:
        for future, events in sent:
            await future
            self.acknowledged += events

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except (KafkaError, TimeoutError) as error:
            raise SendError(
                f"Kafka did not take everything, {self.acknowledged:,} events were acknowledged: "
                f"{str(error) or type(error).__name__}. Is it running, and do the topics exist? "
                "`tenantwatch doctor` looks"
            ) from error

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> "Sender":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            try:
                self._call(asyncio.wait_for(self._producer.stop(), CLOSE_S))
            except (KafkaError, TimeoutError):
                pass  # what was not acknowledged has been told
            finally:
                self._stop_loop()


async def _connect(bootstrap: str) -> Any:
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        **client_options(bootstrap),
        **PRODUCER,
        linger_ms=5,
        max_batch_size=1024 * 1024,
        request_timeout_ms=30_000,
    )
    try:
        await producer.start()
    except BaseException:
        await producer.stop()
        raise
    return producer
