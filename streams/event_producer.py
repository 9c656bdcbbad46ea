"""Sending events and alerts from a server: without waiting, or until Kafka has acknowledged them."""

import asyncio
from typing import Any, Final, NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from schemas.alert import Alert
from schemas.event import Kind
from schemas.tenant import Tenant
from streams import metrics
from streams.brokers import PRODUCER, client_options
from streams.patience import waits_s
from streams.producer import SendError
from streams.tenant_log import changed_since
from streams.topics import ALERTS, TENANTS, TOPIC_OF

log = structlog.get_logger()
MAX_WAITING: Final = 10_000
# So many are on their way at once.
MAX_IN_FLIGHT: Final = 500
REQUEST_TIMEOUT_MS: Final = 10_000
SEND_TIMEOUT_S: Final = 15.0
STOP_S: Final = 2.0
CONNECT_WAIT_S: Final = 10.0


class _Message(NamedTuple):
    topic: str
    key: bytes
    value: bytes | None


class EventProducer:
    """A producer on the running event loop that is there also while Kafka is not.

    Parameters
    ----------
    bootstrap
        Broker addresses, ``host:port,host:port``.
    max_waiting
        Events offered and not sent yet; more are dropped, and counted.
    """

    def __init__(self, bootstrap: str, max_waiting: int = MAX_WAITING) -> None:
        self._bootstrap = bootstrap
        self._waiting: asyncio.Queue[_Message] = asyncio.Queue(max_waiting)
        self._alerts: asyncio.Queue[_Message] = asyncio.Queue(max_waiting)
        self._in_flight = asyncio.Semaphore(MAX_IN_FLIGHT)
        self._producer: Any = None
        self._connected = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to connect, and return at once: Kafka may be away."""
        for work in (self._connect(), self._send_offered(), self._send_alerts()):
            self._tasks.append(asyncio.create_task(work))

    @property
    def connected(self) -> bool:
        """Whether Kafka has answered since the start."""
        return self._connected.is_set()

    def offer(self, kind: Kind, tenant_id: str, value: bytes) -> bool:
        """Send an event soon, if that can be done; return whether it was taken.

        For the API's own events: nobody waits for them and no request fails with them.
        """
        try:
            self._waiting.put_nowait(_Message(TOPIC_OF[kind], tenant_id.encode(), value))
        except asyncio.QueueFull:
            metrics.API_EVENTS.labels("dropped").inc()
            return False
        return True

    def offer_alert(self, alert: Alert) -> None:
        """Publish an alert as soon as Kafka takes it; it is tried until this process ends."""
        message = _Message(ALERTS, alert.tenant_id.encode(), alert.model_dump_json().encode())
        try:
            self._alerts.put_nowait(message)
        except asyncio.QueueFull:
            log.error("alert_dropped", alert_id=alert.alert_id, tenant_id=alert.tenant_id)

    async def send(self, kind: Kind, tenant_id: str, value: bytes) -> tuple[int, int]:
        """Send an event, or an array of events, and wait until Kafka has it on disk.

        Returns
        -------
        partition, offset
            Where it is in the topic of its kind.

        Raises
        ------
        SendError
            If Kafka has not acknowledged it. It may be there all the same: send it again with the same
            event ids.
        """
        return await self._acknowledged(_Message(TOPIC_OF[kind], tenant_id.encode(), value))

    async def send_tenant(self, tenant_id: str, tenant: Tenant | None) -> tuple[int, int]:
        """Write a tenant to the directory's topic, or that it is no more; return its partition and offset.

        Raises
        ------
        SendError
            If Kafka has not acknowledged it.
        """
        value = None if tenant is None else tenant.model_dump_json(exclude_none=True).encode()
        return await self._acknowledged(_Message(TENANTS, tenant_id.encode(), value))

    async def tenant_changed(self, tenant_id: str, version: int) -> bool:
        """Return whether the directory's topic holds a later word about a tenant than that of a version.

        Raises
        ------
        SendError
            If Kafka does not say.
        """
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                return await changed_since(self._bootstrap, tenant_id, version)
        except (KafkaError, TimeoutError) as error:
            raise SendError(f"Kafka at {self._bootstrap} does not tell of tenants: {error}") from error

    async def _acknowledged(self, message: _Message) -> tuple[int, int]:
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await self._connected.wait()
                sent = await self._producer.send_and_wait(message.topic, message.value, message.key)
        except (KafkaError, TimeoutError) as error:
            raise SendError(
                f"Kafka at {self._bootstrap} has not acknowledged a message for {message.topic}: "
                f"{str(error) or type(error).__name__}"
            ) from error
        return int(sent.partition), int(sent.offset)

    async def _connect(self) -> None:
        for wait_s in waits_s(CONNECT_WAIT_S):
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                **client_options(self._bootstrap),
                **PRODUCER,
                linger_ms=5,
                max_batch_size=1024 * 1024,
                request_timeout_ms=REQUEST_TIMEOUT_MS,
            )
            try:
                await producer.start()
            except (KafkaError, OSError, ValueError) as error:
                await producer.stop()
                log.warning("producer_not_connected", error=str(error)[:300], wait_s=wait_s)
                await asyncio.sleep(wait_s)
                continue
            self._producer = producer
            self._connected.set()
            return

    async def _send_offered(self) -> None:
        await self._connected.wait()
        while True:
            message = await self._waiting.get()
            await self._in_flight.acquire()
            task = asyncio.create_task(self._send_one(message))
            self._tasks.append(task)
            task.add_done_callback(self._tasks.remove)

    async def _send_one(self, message: _Message) -> None:
        try:
            await self._acknowledged(message)
            metrics.API_EVENTS.labels("sent").inc()
        except SendError as error:
            metrics.API_EVENTS.labels("failed").inc()
            log.warning("own_event_not_sent", error=str(error)[:300])
        finally:
            self._in_flight.release()
            self._waiting.task_done()

    async def _send_alerts(self) -> None:
        while True:
            message = await self._alerts.get()
            for wait_s in waits_s():
                try:
                    await self._acknowledged(message)
                    break
                except SendError as error:
                    log.warning("alert_not_sent", error=str(error)[:300], wait_s=wait_s)
                    await asyncio.sleep(wait_s)
            self._alerts.task_done()

    async def stop(self) -> None:
        """Send what waits, for a moment, and leave."""
        if self._connected.is_set():
            try:
                async with asyncio.timeout(STOP_S):
                    await asyncio.gather(self._waiting.join(), self._alerts.join())
            except TimeoutError:
                log.warning("own_events_left", count=self._waiting.qsize() + self._alerts.qsize())
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._producer is not None:
            await self._producer.stop()
