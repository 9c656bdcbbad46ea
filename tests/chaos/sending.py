"""Sending the plan at a steady pace, whatever happens to Kafka meanwhile.

Producers are idempotent, wait for acknowledgement and never give up, so that what fails here is never taken
for a failure of the worker. What Kafka acknowledged is kept, to be looked for in the topics at the end.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from queue import Empty, Queue
from random import Random
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from streams.topics import TENANTS
from tests.chaos.traffic import LANES, TRANSACTIONS, Message, tenant

Place = tuple[str, int, int]  # topic, partition, offset
# A transaction that stays open this long under a dead Kafka is aborted by it and sent again.
TRANSACTION_TIMEOUT_S: Final = 60
MESSAGES_A_TRANSACTION: Final = (1, 40)
ABORTED: Final = 0.15
NAP_S: Final = 0.01
# How much faster than its pace the rest is sent when nothing is left to break.
HURRY: Final = 8


def _producer(bootstrap: str, codec: str, **more: Any) -> Producer:
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "compression.type": codec,
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": 5,
            "message.timeout.ms": 0,  # for ever
            "socket.timeout.ms": 10_000,
            "retry.backoff.max.ms": 500,
            "reconnect.backoff.max.ms": 500,
            "queue.buffering.max.messages": 1_000_000,
            "log_level": 0,  # else it tells of every connection that the broken Kafka refuses
            **more,
        }
    )


class Lane:
    """A producer of single messages, each acknowledged.

    Attributes
    ----------
    acknowledged
        Where Kafka promised to keep what was sent.
    failures
        What the producer gave up on: it makes the run worthless.
    """

    def __init__(self, bootstrap: str, codec: str) -> None:
        self._producer = _producer(bootstrap, codec)
        self.acknowledged: list[Place] = []
        self.failures: list[str] = []

    def send(self, message: Message) -> None:
        """Hand a message over to the producer."""
        _produce(self._producer, message, self._on_delivery)

    def poll(self) -> None:
        """Take note of what was acknowledged."""
        self._producer.poll(0)

    def finish(self) -> None:
        """Wait until everything is acknowledged."""
        while self._producer.flush(1.0):
            pass

    def tell_directory(self, tenant_id: str, version: int) -> None:
        """Send a tenant's settings."""
        self._producer.produce(TENANTS, tenant(tenant_id, version).model_dump_json(), tenant_id)

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self.acknowledged.append((message.topic(), message.partition(), message.offset()))
        else:
            self.failures.append(str(error))


class TransactionLane:
    """A producer whose messages become visible a transaction at a time; some are aborted and sent again.

    Attributes
    ----------
    acknowledged, aborted
        Where the messages of transactions are that were committed, and aborted.
    failures
        As of `Lane`.
    unsure
        Transactions of which it is not known whether they were committed; they were sent again.
    """

    def __init__(self, bootstrap: str, codec: str, draw: Random) -> None:
        self.acknowledged: list[Place] = []
        self.aborted: list[Place] = []
        self.failures: list[str] = []
        self.unsure = 0
        self._connect: Callable[[], Producer] = lambda: _producer(
            bootstrap,
            codec,
            **{
                "transactional.id": "chaos",
                "transaction.timeout.ms": 1000 * TRANSACTION_TIMEOUT_S,
                "message.timeout.ms": 1000 * TRANSACTION_TIMEOUT_S,
            },
        )
        self._draw = draw
        self._pending: list[Place] = []
        self._queue: Queue[Message | None] = Queue()
        self._thread = threading.Thread(target=self._run, name="transactions", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Queue a message for a transaction to come."""
        self._queue.put(message)

    def poll(self) -> None:
        """Do nothing: transactions have a thread of their own."""

    def finish(self) -> None:
        """Wait until everything is committed."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            producer = self._begin_anew()
            while messages := self._gather():
                if self._draw.random() < ABORTED:
                    producer, _ = self._transact(producer, messages, commit=False)
                committed = False
                while not committed:
                    producer, committed = self._transact(producer, messages, commit=True)
        except Exception as error:  # noqa: BLE001 - told at the end of the run, which fails by it
            self.failures.append(repr(error))

    def _gather(self) -> list[Message]:
        """Return the next transaction's messages; none: everything is sent."""
        wanted = self._draw.randint(*MESSAGES_A_TRANSACTION)
        messages: list[Message] = []
        while len(messages) < wanted:
            message = self._queue.get()
            if message is None:
                self._queue.put(None)
                break
            messages.append(message)
        return messages

    def _transact(
        self, producer: Producer, messages: Sequence[Message], *, commit: bool
    ) -> tuple[Producer, bool]:
        """Send messages in one transaction; return the producer to go on with, and whether it worked."""
        self._pending = []
        try:
            producer.begin_transaction()
            for message in messages:
                _produce(producer, message, self._on_delivery)
            # Else an aborted transaction would never have reached Kafka.
            producer.flush(TRANSACTION_TIMEOUT_S)
            _insist(producer.commit_transaction if commit else producer.abort_transaction)
        except KafkaException as error:
            if error.args[0].txn_requires_abort():
                _insist(producer.abort_transaction)
                self.aborted += self._pending
                return producer, False
            # A new producer of this id aborts what the old one had open. What that had committed may be in
            # the topics twice now; `topics` sees it there.
            self.unsure += 1
            return self._begin_anew(), False
        (self.acknowledged if commit else self.aborted).extend(self._pending)
        return producer, True

    def _begin_anew(self) -> Producer:
        producer = self._connect()
        _insist(producer.init_transactions)
        return producer

    def _on_delivery(self, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self._pending.append((message.topic(), message.partition(), message.offset()))


def _produce(producer: Producer, message: Message, on_delivery: Callable[..., None]) -> None:
    where = -1 if message.partition is None else message.partition
    producer.produce(message.topic, message.value, message.key, where, on_delivery=on_delivery)


def _insist(step: Callable[[], None]) -> None:
    while True:
        try:
            step()
            return
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
            time.sleep(0.1)


class Sending:
    """Sends messages from a thread, in step with the rounds.

    Parameters
    ----------
    bootstrap
        Where Kafka is, now and after each restart.
    messages
        The plan.
    per_round
        Events that each round adds to what is to be sent.
    round_s
        How long a round usually takes: what is to be sent goes out over so many seconds.
    seed
        Cuts the transactions.
    """

    def __init__(
        self, bootstrap: str, messages: Iterable[Message], *, per_round: int, round_s: float, seed: int
    ) -> None:
        self.transactions = TransactionLane(bootstrap, "gzip", Random(f"{seed}/transactions"))
        self._main = Lane(bootstrap, LANES[0])
        singles = {name: Lane(bootstrap, name) for name in LANES[1:] if name != TRANSACTIONS}
        self._lanes: dict[str, Lane | TransactionLane] = {
            LANES[0]: self._main,
            **singles,
            TRANSACTIONS: self.transactions,
        }
        self.events = 0
        self._messages = iter(messages)
        self._per_round = per_round
        self._round_s = round_s
        self._rounds = 0
        self._hurry = False
        self._directory: Queue[tuple[str, int]] = Queue()
        self._thread = threading.Thread(target=self._run, name="sending", daemon=True)

    def set_up(self, tenant_ids: Iterable[str]) -> None:
        """Fill the directory and wait for it."""
        for tenant_id in tenant_ids:
            self._main.tell_directory(tenant_id, 0)
        self._main.finish()

    def next_round(self) -> None:
        """Let the next round's events go out."""
        self._rounds += 1
        if self._rounds == 1:
            self._thread.start()

    def change_directory(self, tenant_id: str, version: int) -> None:
        """Send a tenant's settings with a harmless change, between two events."""
        self._directory.put((tenant_id, version))

    def finish(self, finale: Iterable[Message]) -> None:
        """Send what is left in a hurry, then the finale, each acknowledged."""
        self._hurry = True
        self._thread.join()
        for lane in self._lanes.values():
            lane.finish()
        for message in finale:
            self._main.send(message)
            self.events += message.events
        self._main.finish()

    @property
    def failures(self) -> list[str]:
        """What the producers gave up on."""
        return [failure for lane in self._lanes.values() for failure in lane.failures]

    @property
    def acknowledged(self) -> list[Place]:
        """What Kafka has promised to keep."""
        return [place for lane in self._lanes.values() for place in lane.acknowledged]

    def _run(self) -> None:
        clock_s = time.monotonic()
        allowed = 0.0
        for message in self._messages:
            while self.events > allowed:
                time.sleep(NAP_S)
                now_s = time.monotonic()
                allowed += (now_s - clock_s) * self._pace()
                clock_s = now_s
                self._tell_directory()
                for lane in self._lanes.values():
                    lane.poll()
            self._lanes[message.lane].send(message)
            self.events += message.events
        self._tell_directory()

    def _pace(self) -> float:
        """Return events a second: fewer, but never none, the longer a round takes."""
        per_round_s = self._per_round / self._round_s
        if self._hurry:
            return HURRY * per_round_s
        return max(self._per_round * self._rounds - self.events, 0) / self._round_s

    def _tell_directory(self) -> None:
        while True:
            try:
                self._main.tell_directory(*self._directory.get_nowait())
            except Empty:
                return
