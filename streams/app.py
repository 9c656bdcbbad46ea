"""The pipeline: an agent for each event topic, for failures by address, for alerts; and the directory."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from time import monotonic, time
from typing import Any, Final, cast

import faust
import structlog
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from faust.types import TP
from mode.supervisors import CrashingSupervisor

from schemas.alert import Alert
from schemas.event import Kind
from schemas.joined import MIN_RECORDS
from streams import metrics
from streams.accounts import count
from streams.addresses import AddressReader, AddressState
from streams.breaker import Limits
from streams.chunk import Read, handle_chunk, read_chunk
from streams.dead_letters import DeadLetter, letter_record
from streams.directory import Directory, Listener, TuningListener
from streams.floods import Flood, Floods
from streams.groups import GroupWriter
from streams.idleness import Idleness
from streams.partition import PartitionState
from streams.patience import waits_s
from streams.pseudonyms import Pseudonymiser
from streams.received_alerts import read_alerts
from streams.records import Records
from streams.recovery import LONGEST_WAIT_S, GroupMember, Superseded
from streams.rekeying import Rekeyer
from streams.topics import ALERTS, DEAD_LETTERS, FAILURES_BY_IP, KIND_OF, TOPIC_OF, Topics
from streams.transport import Consumer

log = structlog.get_logger()
AlertHandler = Callable[[list[tuple[Alert, int]]], Awaitable[None]]
States = dict[tuple[str, int], PartitionState]
# Takes partitions over in a generation of the group, and returns their states.
TakeOver = Callable[[GroupMember, set[TP], int], Awaitable[States]]
# A chunk as Faust hands it over, and its events as soon as they are read; None: not before its turn.
_Reading = tuple[Any, Future[Read] | None]
# Reads chunks that are large enough for Arrow, mostly without the interpreter's lock, while the one before is
# handled. More threads than one would only take the lock from each other.
_READER: Final = ThreadPoolExecutor(1, "reader")
NO_GENERATION: Final = -1
IDLE_TICK_S: Final = 1.0
# Chunks of a topic that are read before their turn has come.
READ_AHEAD: Final = 2
# Chunks of alerts that are stored together, at most.
ALERTS_TOGETHER: Final = 16


class Pipeline:
    """What happens to each chunk, and what is remembered of each partition.

    Parameters
    ----------
    app, topics, writer
        The app, the cluster's topics, and where rows go.
    addresses
        Judges failures by address.
    take_over
        Called at each assignment; no event is handled before it returns.
    on_alerts
        Called with alerts consumed from ``audit.alerts`` and their partition, before they are committed.
    on_tenant, on_tuning
        Told of each change of the directory, and of the operator's overrides.
    fail
        Called with an error of ours: the worker must stop without acknowledging anything.
    limits
        How much of a partition may be rejected before it is stopped.
    pseudonymiser
        Replaces personal data; None: events stay as they are.
    """

    def __init__(
        self,
        app: faust.App,
        topics: Topics,
        writer: GroupWriter,
        *,
        addresses: AddressReader,
        take_over: TakeOver,
        on_alerts: AlertHandler,
        on_tenant: Listener | None = None,
        on_tuning: TuningListener | None = None,
        fail: Callable[[BaseException], None],
        limits: Limits = Limits(),  # noqa: B008 - frozen
        pseudonymiser: Pseudonymiser | None = None,
    ) -> None:
        self.app = app
        self.pseudonymiser = pseudonymiser
        self.topics = topics
        self.directory = Directory(app, topics.partitions, on_tenant, on_tuning)
        self.floods = Floods(limits, self.directory.holds)
        self.states: States = {}
        self.assigned: set[TP] = set()
        # Set while events may be handled, and of which generation of the group.
        self.taken_over = asyncio.Event()
        self.generation = NO_GENERATION
        self._take_over = take_over
        self._writer = writer
        self._on_alerts = on_alerts
        self._fail = fail
        self._idleness = Idleness()
        self._taking_over: asyncio.Task[None] | None = None
        self._alerts = self._raw_topic(ALERTS)
        self._dead_letters = self._raw_topic(DEAD_LETTERS)
        self._addresses = addresses
        self._by_ip = self._raw_topic(FAILURES_BY_IP)
        auth = TOPIC_OF["auth"]
        self.rekeyer = Rekeyer(self._send_by_ip, topics.topic_ids.get(auth, ""), topics.address_partitions)
        for kind, topic in TOPIC_OF.items():
            self._add_agent(topic, self._agent_of(kind))
        self._add_agent(FAILURES_BY_IP, self._consume_failures)
        self._add_agent(ALERTS, self._consume_alerts)
        app.on_partitions_assigned.connect(cast(Any, self._on_assigned))
        app.on_partitions_revoked.connect(cast(Any, self._on_revoked))

    def _add_agent(self, topic: str, body: Callable[[Any], Awaitable[None]]) -> None:
        # Restarting an agent would go on after the failed chunk; the process ends instead, uncommitted.
        self.app.agent(self._raw_topic(topic), name=topic, supervisor_strategy=CrashingSupervisor)(body)

    def _raw_topic(self, topic: str) -> Any:
        # Bytes as they are; with another serializer Faust writes a missing value as the text `null`.
        return self.app.topic(topic, key_type=bytes, key_serializer="raw", value_serializer="raw")

    def _agent_of(self, kind: Kind) -> Callable[[Any], Awaitable[None]]:
        def begin(event: Any) -> _Reading:
            many = len(event.value) >= MIN_RECORDS
            return event, _READER.submit(read_chunk, kind, event.value) if many else None

        async def consume(stream: Any) -> None:
            await _read_ahead(stream, READ_AHEAD, begin, partial(self._handle_all, kind))

        return consume

    async def _handle_all(self, kind: Kind, ahead: asyncio.Queue[_Reading]) -> None:
        try:
            while True:
                event, reading = await ahead.get()
                read: Read | None = None
                if reading is not None:
                    read = await asyncio.wrap_future(reading)
                await self.handle(kind, event.message, event.value, event.ack, read)
        except Exception as error:
            log.exception("chunk_failed", kind=kind, topic=TOPIC_OF[kind])
            self._fail(error)

    async def handle(
        self, kind: Kind, message: Any, records: Records, ack: Callable[[], Any], read: Read | None = None
    ) -> None:
        """Take one chunk through parse, enrich, detect, publish; the group writer stores and acks it."""
        await self.taken_over.wait()
        read = read or read_chunk(kind, records)
        await self.directory.look_for_unknown(read.batch)
        tp = (records.topic, records.partition)
        if tp in self.states:
            await self.states[tp].look_back(records.offsets[0], records.offsets[-1])
        if message.generation_id != self.generation:
            return  # of an assignment that is over: whoever has the partition now is given it again
        state = self.states[tp]
        if records.offsets[0] < state.next_offset:
            raise RuntimeError(
                f"{records.topic} {records.partition}: offset {records.offsets[0]} was delivered after "
                f"{state.next_offset - 1} had been handled"
            )
        now_ms = int(time() * 1000)
        handled = handle_chunk(records, read, state, self.directory, now_ms, self.pseudonymiser)
        # At once: after an await the partition may be another worker's.
        flood = self.floods.judge(handled)
        if flood is not None:
            cast(Consumer, self.app.consumer).hold(TP(*tp), flood.next_offset)
            log.error("partition_stopped", topic=tp[0], partition=tp[1], problem=flood.problem)
        rekeyed = [self.rekeyer.add(handled.batch, handled.unexcused)] if len(handled.unexcused) else []
        published = [*rekeyed, *[await self._publish(alert) for alert in handled.alerts]]
        if handled.alerts:
            newest = max(records.timestamps_ms)
            published[-1].add_done_callback(
                lambda _: metrics.ALERT_LATENCY.observe(max(time() - newest / 1000, 0))
            )
        published += [await self._set_aside(letter) for letter in handled.dead_letters]
        if flood is not None:
            published.append(await self._publish(flood.alert))
        count(handled)
        records.forget()
        await self._writer.add(handled, published, ack)

    async def resume(self, topic: str | None = None, partition: int | None = None) -> list[Flood]:
        """Go on with partitions that a flood of invalid events stopped: all, those of a topic, or one."""
        floods = self.floods.resume(topic, partition)
        # All of them before anything is awaited: what `floods` has forgotten must not stay held.
        for flood in floods:
            cast(Consumer, self.app.consumer).release(TP(flood.topic, flood.partition))
            log.info("partition_resumed", topic=flood.topic, partition=flood.partition)
        await self._publish_all([flood.resolved() for flood in floods])
        return floods

    async def _publish(self, alert: Alert) -> Any:
        alert = alert.model_copy(update={"published_at": datetime.now(UTC)})
        metrics.ALERTS_PUBLISHED.labels(alert.detector, alert.severity, alert.status).inc()
        log.info(
            "alert_raised",
            alert_id=alert.alert_id,
            revision=alert.revision,
            status=alert.status,
            detector=alert.detector,
            classification=alert.classification,
            severity=alert.severity,
            tenant_id=alert.tenant_id,
        )
        return await self._alerts.send(key=alert.tenant_id.encode(), value=alert.model_dump_json().encode())

    async def _publish_all(self, alerts: Sequence[Alert]) -> None:
        """Publish alerts, and return when Kafka has them."""
        await asyncio.gather(*[await self._publish(alert) for alert in alerts])

    async def send_event(self, kind: Kind, tenant_id: str, event: bytes) -> None:
        """Send an event of our own; it comes back as everybody's do. What Kafka refuses is only logged."""
        try:
            await self._raw_topic(TOPIC_OF[kind]).send(key=tenant_id.encode(), value=event)
        except Exception as error:  # noqa: BLE001 - of whatever kind: nobody waits for it
            log.warning("own_event_not_sent", kind=kind, error=str(error)[:300])

    async def _send_by_ip(self, partition: int, value: bytes) -> Any:
        return await self._by_ip.send(value=value, partition=partition)

    async def _set_aside(self, letter: DeadLetter) -> Awaitable[Any]:
        now = datetime.now(UTC)
        topic_id = self.topics.topic_ids[letter.topic]
        sent = await self._dead_letters.send(**letter_record(letter, topic_id, now)._asdict())

        async def kept() -> None:
            try:
                await sent
            except MessageSizeTooLargeError:  # an operator has lowered the topic's limit
                record = letter_record(letter, topic_id, now, whole=False)
                await (await self._dead_letters.send(**record._asdict()))

        return asyncio.create_task(kept())

    async def _consume_failures(self, stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await self.taken_over.wait()
                if event.message.generation_id == self.generation:
                    await self._addresses.handle(event.value, event.ack, self._publish)
            except Exception as error:
                log.exception("failures_failed")
                self._fail(error)
                raise

    async def _consume_alerts(self, stream: Any) -> None:
        await _read_ahead(stream, ALERTS_TOGETHER, lambda event: event, self._handle_alerts)

    async def _handle_alerts(self, waiting: asyncio.Queue[Any]) -> None:
        """Hand over what came in the meantime all at once: to the store that costs as much as one chunk."""
        try:
            while True:
                events = [await waiting.get()]
                while not waiting.empty():
                    events.append(waiting.get_nowait())
                # What an earlier assignment delivered comes again, perhaps to another worker.
                ours = [e for e in events if e.message.generation_id == self.app.consumer_generation_id]
                if alerts := await asyncio.to_thread(read_alerts, [event.value for event in ours]):
                    await self._on_alerts(alerts)
                for event in ours:
                    event.ack()
        except Exception as error:
            log.exception("alerts_failed")
            self._fail(error)

    async def run_idle(self) -> None:
        """Let deadlines of quiet tenants pass with the wall clock, once a second, until cancelled."""
        while True:
            await asyncio.sleep(IDLE_TICK_S)
            told = self._advance()
            for state, alerts in told:
                await self._publish_all(alerts)
                state.told = True
            self._measure_lag()

    def _advance(self) -> list[tuple[PartitionState | AddressState, list[Alert]]]:
        """Let time pass where nothing waits, at once: after an await a partition may be another worker's."""
        passed = self._idleness.look(self._is_caught_up)
        advanced: list[tuple[PartitionState | AddressState, list[Alert]]] = []
        for tp, passed_ms in passed.items():
            if tp in self.states:
                advanced.append((self.states[tp], self.states[tp].advance(passed_ms, self.directory.holds)))
        advanced += self._addresses.advance(passed)
        told = [(state, alerts) for state, alerts in advanced if alerts]
        for state, _ in told:
            state.told = False
        return told

    def _is_caught_up(self, tp: tuple[str, int]) -> bool:
        state = self.states.get(tp) or self._addresses.states.get(tp)
        if state is None or self.floods.is_stopped(tp):
            return False
        return cast(Consumer, self.app.consumer).is_caught_up(TP(*tp), state.next_offset)

    def _measure_lag(self) -> None:
        consumer = cast(Consumer, self.app.consumer)
        for tp in self.assigned:
            if tp.topic in KIND_OF or tp.topic == ALERTS:
                lag = consumer.lag(tp)
                if lag is not None:
                    metrics.CONSUMER_LAG.labels(tp.topic, tp.partition).set(lag)

    async def _on_assigned(self, app: Any, assigned: set[TP], **kwargs: Any) -> None:
        self.assigned = set(assigned)
        self._end_taking_over()
        self._taking_over = asyncio.create_task(self._prepare(set(assigned), self.app.consumer_generation_id))

    async def _prepare(self, assigned: set[TP], generation: int) -> None:
        """Make ready for the events of an assignment: until then they stay unread.

        For as long as Kafka is away it is begun again, until another assignment ends that.
        """
        began_s = monotonic()
        try:
            for wait_s in waits_s(LONGEST_WAIT_S):
                try:
                    await self._make_ready(assigned, generation)
                    return metrics.RECOVERY_SECONDS.set(monotonic() - began_s)
                except KafkaError as error:
                    log.warning("take_over_postponed", reason=repr(error)[:500], wait_s=wait_s)
                    await asyncio.sleep(wait_s)
        except Superseded:
            log.info("take_over_superseded", generation=generation)
        except Exception as error:
            log.exception("take_over_failed")
            self._fail(error)

    async def _make_ready(self, assigned: set[TP], generation: int) -> None:
        await self.directory.follow()
        consumer = cast(Any, self.app.consumer)
        await self._addresses.take_over(consumer, assigned, generation)
        self.states = await self._take_over(consumer, assigned, generation)
        self._idleness.begin([*self.states, *self._addresses.states])
        self.generation = generation
        self.taken_over.set()

    def _end_taking_over(self) -> None:
        if self._taking_over is not None:
            self._taking_over.cancel()
        self.taken_over.clear()
        self.generation = NO_GENERATION
        self.states = {}
        self._addresses.forget()
        self._idleness.begin(())  # or what has passed would be taken for the next states' silence
        self.floods.clear()
        if self.pseudonymiser is not None:
            self.pseudonymiser.reset()  # who was met in what is now dropped is not stored

    async def _on_revoked(self, app: Any, revoked: set[TP], **kwargs: Any) -> None:
        await self._writer.abandon()
        for tp in self.assigned:
            # Another worker's number now; the last one of ours would look like a lag for ever.
            with contextlib.suppress(KeyError):
                metrics.CONSUMER_LAG.remove(tp.topic, tp.partition)
        self.assigned = set()
        self.directory.ready.clear()
        self._end_taking_over()

    def committed(self, key: tuple[str, int]) -> int | None:
        """Return the committed offset of a partition, where it is known."""
        return cast(Consumer, self.app.consumer).committed(TP(*key))


async def _read_ahead(
    stream: Any,
    most: int,
    begin: Callable[[Any], Any],
    handle: Callable[[asyncio.Queue[Any]], Coroutine[Any, Any, None]],
) -> None:
    """Begin with up to so many chunks while those before them are handled."""
    ahead: asyncio.Queue[Any] = asyncio.Queue(most)
    handling = asyncio.create_task(handle(ahead))
    try:
        async for event in stream.noack().events():
            await ahead.put(begin(event))
    finally:
        handling.cancel()
