"""Queued events to Kafka messages, and these to the broker."""

from __future__ import annotations

import atexit
import logging
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer
from kafka import errors as kafka_errors

MAX_EVENTS_PER_MESSAGE = 1_000
# Half of what a topic takes where nobody raised Kafka's default; a larger event travels alone.
MAX_ARRAY_BYTES = 512 * 1024

DEFAULTS: dict[str, Any] = {
    # Kafka's limits on one record are a little above the contract's on one event, 1 MiB.
    "max_request_size": 2 * 1024 * 1024,
    "batch_size": 256 * 1024,
    # As long as this lasts the producer repeats a message under its old number, which Kafka recognises.
    # Afterwards we repeat it, and the pipeline recognises the event by its id.
    "delivery_timeout_ms": 300_000,
    # Both in our own thread, which keeps trying; shorter than kafka-python's, to look up addresses anew.
    "bootstrap_timeout_ms": 10_000,
    "max_block_ms": 5_000,
    "reconnect_backoff_max_ms": 5_000,
    "metrics_enabled": False,
}
# kafka-python does not count the time that it spends without any broker; after this long the addresses are
# looked up anew.
GRACE_S = 30.0
# What the contract and the guarantees of this package rest on.
FIXED: dict[str, Any] = {
    "acks": "all",
    "enable_idempotence": True,
    "allow_auto_create_topics": False,
    "key_serializer": None,
    "value_serializer": None,
    "partitioner": KafkaProducer.DEFAULT_CONFIG["partitioner"],  # murmur2 of the key
    "transactional_id": None,
    "kafka_client": KafkaProducer.DEFAULT_CONFIG["kafka_client"],
    "bootstrap_servers": None,
}
# Repeating such a message would not help.
_REFUSALS = (
    kafka_errors.MessageSizeTooLargeError,
    kafka_errors.RecordListTooLargeError,
    kafka_errors.InvalidRecordError,
)

# kafka-python prints whole messages at DEBUG: an audit trail must not end in a service's log by turning
# that on for all.
if logging.getLogger("kafka").level == logging.NOTSET:
    logging.getLogger("kafka").setLevel(logging.INFO)


class Item(NamedTuple):
    """A queued event."""

    topic: str
    key: bytes
    value: bytes


class Undelivered(NamedTuple):
    """What a round of delivery left behind.

    Parameters
    ----------
    unsent
        Events to deliver again, in their order.
    refused
        How many events Kafka will never take.
    error
        The first error.
    """

    unsent: list[Item]
    refused: int
    error: Exception | None


def check_options(options: dict[str, Any]) -> None:
    """Refuse options that kafka-python does not know, or that would break a promise of this package."""
    unknown = sorted(set(options) - set(KafkaProducer.DEFAULT_CONFIG))
    if unknown:
        raise ValueError(f"kafka-python's producer has no option {', '.join(unknown)}; see its documentation")
    fixed = sorted(set(options) & set(FIXED))
    if fixed:
        raise ValueError(f"{', '.join(fixed)} cannot be changed: it is part of the contract with tenantwatch")


def messages(items: Sequence[Item], array_bytes: int) -> Iterator[list[Item]]:
    """Group events into messages: one event, or an array of one tenant's events, each tenant's in its order.

    >>> events = [Item("t", b"a", b"1"), Item("t", b"b", b"2"), Item("t", b"a", b"3")]
    >>> [[item.value for item in message] for message in messages(events, 100)]
    [[b'1', b'3'], [b'2']]
    """
    groups: dict[tuple[str, bytes], list[Item]] = {}
    sizes: dict[tuple[str, bytes], int] = {}
    for item in items:
        stream = item.topic, item.key
        group = groups.get(stream)
        size = sizes.get(stream, 0) + len(item.value) + 1
        if group and (len(group) >= MAX_EVENTS_PER_MESSAGE or size > array_bytes):
            yield group
            group, size = None, len(item.value) + 1
        if not group:
            group = groups[stream] = []
        group.append(item)
        sizes[stream] = size
    yield from groups.values()


class Delivery:
    """A connection to Kafka that is made when it is needed, and made anew when it failed.

    For one thread.

    Parameters
    ----------
    bootstrap_servers
        Kafka's addresses.
    options
        More for ``kafka.KafkaProducer``, e.g. TLS and SASL.
    """

    def __init__(self, bootstrap_servers: str | Sequence[str], options: dict[str, Any]) -> None:
        self._config = {**DEFAULTS, **options, **FIXED, "bootstrap_servers": bootstrap_servers}
        self._renewal = bootstrap_servers, options
        self._producer: Any = None
        self._array_bytes = MAX_ARRAY_BYTES

    def deliver(self, items: Sequence[Item]) -> Undelivered:
        """Send events and wait until Kafka has them on all its replicas, or refused them.

        Returns
        -------
        Undelivered
            What has to be sent again; nothing of it is in doubt because of an array that arrived in part: a
            message is stored whole or not at all.
        """
        try:
            if self._producer is None:
                self._producer = self._connect()
        except Exception as error:  # noqa: BLE001  whatever it is, the events are kept and it is tried again
            return Undelivered(list(items), 0, error)
        failed: dict[str, Exception] = {}  # topic -> its first error
        sent, unsent = self._send(items, failed)
        unanswered, refused = self._await_answers(sent, failed)
        if failed:
            self.close()  # its numbering of messages may have a hole now; a fresh producer starts a fresh one
        again = set(map(id, unsent + unanswered))
        in_order = [item for item in items if id(item) in again]
        return Undelivered(in_order, refused, next(iter(failed.values()), None))

    def _send(
        self, items: Sequence[Item], failed: dict[str, Exception]
    ) -> tuple[list[tuple[list[Item], Any]], list[Item]]:
        sent = []
        unsent: list[Item] = []
        for group in messages(items, self._array_bytes):
            topic, key, value = group[0]
            if len(group) > 1:
                value = b"[" + b",".join(item.value for item in group) + b"]"
            try:
                if topic not in failed:  # else each of its messages would wait for the topic anew
                    sent.append((group, self._producer.send(topic, key=key, value=value)))
                    continue
            except Exception as error:  # noqa: BLE001  as in deliver
                failed[topic] = error
            unsent += group
        return sent, unsent

    def _await_answers(
        self, sent: list[tuple[list[Item], Any]], failed: dict[str, Exception]
    ) -> tuple[list[Item], int]:
        unsent: list[Item] = []
        refused = 0
        deadline = time.monotonic() + self._config["delivery_timeout_ms"] / 1000 + GRACE_S
        for group, answer in sent:
            try:
                answer.get(timeout=max(0.0, deadline - time.monotonic()))
            except _REFUSALS as error:
                failed.setdefault(group[0].topic, error)
                if len(group) == 1:
                    refused += 1
                else:
                    self._array_bytes = 0  # this broker takes less than usual: send events one by one
                    unsent += group
            except Exception as error:  # noqa: BLE001  as in deliver
                failed.setdefault(group[0].topic, error)
                unsent += group
        return unsent, refused

    def _connect(self) -> Any:
        clients: list[Any] = []

        def client_of(**config: Any) -> Any:
            clients.append(FIXED["kafka_client"](**config))
            return clients[-1]

        try:
            producer = KafkaProducer(**{**self._config, "kafka_client": client_of})
        except BaseException:
            for client in clients:
                client.close()  # a constructor that raises leaves its sockets open
            raise
        # Its own exit handler would close it before ours could flush, and in a forked child talk over its
        # parent's sockets.
        atexit.unregister(producer._cleanup)
        return producer

    def close(self) -> None:
        """Close the connection; the next delivery makes a new one."""
        producer, self._producer = self._producer, None
        if producer is not None:
            try:
                producer.close(timeout=1)
            except Exception:  # noqa: BLE001  it gave up before it had closed its sockets
                producer._sender.force_close()

    def renewed(self) -> Delivery:
        """Return a delivery for a forked child, which must not even close the connection of its parent."""
        if self._producer is not None:
            self._producer._closed = True  # its finalizer leaves it alone then
        return Delivery(*self._renewal)
