"""Failed logins on their way to ``audit.failures-by-ip``, where one address's failures at all tenants meet.

A chunk is acknowledged once its failures are there, so a chunk that is handled again repeats them: whoever
reads leaves out what is not beyond what it has of the same source partition. That loses nothing, because
each partition's failures are sent in their order, and none before those ahead of it are there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Final, NamedTuple

import msgspec
import numpy as np

from detectors.columns import values_at
from schemas.batch import EventBatch, Int64s
from streams.topics import partition_of

# Failures of so long go together: a message for each handful of them would cost more than the events did.
COLLECT_S: Final = 0.1
# With the longest ids, users and addresses there can be, a message stays below 9 MiB.
MAX_FAILURES: Final = 4_000
# Sends a message to a partition; what it returns completes when Kafka has it.
Send = Callable[[int, bytes], Awaitable[Awaitable[Any]]]


class FailedLogin(NamedTuple):
    """One failure.

    Parameters
    ----------
    source
        Position in the message's `sources`.
    offset, message_index
        Where it is in its topic.
    """

    source: int
    offset: int
    message_index: int
    time_ms: int
    tenant_id: str
    source_ip: str
    user_id: str | None
    event_id: str


class FailedLogins(msgspec.Struct):
    """A message of ``audit.failures-by-ip``: JSON; all its addresses belong to its partition.

    Parameters
    ----------
    topic
        They came from.
    sources
        Id of that topic, and partition.
    failures
        Those of each source in their order.
    """

    topic: str
    sources: list[tuple[str, int]]
    failures: list[FailedLogin]


@lru_cache(maxsize=1 << 16)
def home_of(source_ip: str, partitions: int) -> int:
    """Return the partition of an address.

    >>> home_of("192.0.2.7", 12)
    2
    """
    return partition_of(source_ip.encode(), partitions)


@dataclass(slots=True)
class _Waiting:
    batch: EventBatch
    rows: Int64s
    sent: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Rekeyer:
    """Collects failures for a moment and sends them.

    Parameters
    ----------
    send
        Where to.
    topic_id
        Of the topic that they come from.
    partitions
        Of ``audit.failures-by-ip``.
    """

    def __init__(self, send: Send, topic_id: str, partitions: int) -> None:
        self._send = send
        self._topic_id = topic_id
        self._partitions = partitions
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()

    def add(self, batch: EventBatch, rows: Int64s) -> asyncio.Future[None]:
        """Take over failures of a chunk, after those of the chunks before it.

        Returns
        -------
        Future
            Done when Kafka has them.
        """
        waiting = _Waiting(batch, rows)
        self._waiting.append(waiting)
        self._arrived.set()
        return waiting.sent

    async def run(self) -> None:
        """Send what was added, until cancelled.

        Raises
        ------
        Exception
            Kafka refuses it. Nothing that comes after it is sent: the worker must stop.
        """
        while True:
            await self._arrived.wait()
            await asyncio.sleep(COLLECT_S)
            waiting, self._waiting = self._waiting, []
            self._arrived.clear()
            for messages in _rounds(_by_partition(waiting, self._partitions)):
                sent = [
                    await self._send(partition, self._encode(waiting, failures))
                    for partition, failures in messages
                ]
                # Before the next ones: were these refused, the later must not be there.
                await asyncio.gather(*sent)
            for each in waiting:
                each.sent.set_result(None)

    def _encode(self, waiting: Sequence[_Waiting], failures: list[FailedLogin]) -> bytes:
        sources = [(self._topic_id, each.batch.partition) for each in waiting]
        return msgspec.json.encode(FailedLogins(waiting[0].batch.topic, sources, failures))


def _by_partition(waiting: Sequence[_Waiting], partitions: int) -> dict[int, list[FailedLogin]]:
    """Return failures by the partition of their address, in their order."""
    found: dict[int, list[FailedLogin]] = {}
    for source, (batch, rows) in enumerate((each.batch, each.rows) for each in waiting):
        names = ("tenant_id", "source_ip", "user_id", "event_id")
        columns = (values_at(batch.columns[name], rows) for name in names)
        numbers = (batch.offset, batch.message_index, batch.time_ms)
        for failure in map(
            FailedLogin, [source] * len(rows), *(column[rows].tolist() for column in numbers), *columns
        ):
            found.setdefault(home_of(failure.source_ip, partitions), []).append(failure)
    return found


def _rounds(found: dict[int, list[FailedLogin]]) -> Iterator[list[tuple[int, list[FailedLogin]]]]:
    """Yield one message for each partition that has failures left, until none has."""
    longest = max(map(len, found.values()), default=0)
    for first in range(0, longest, MAX_FAILURES):
        messages = ((p, failures[first : first + MAX_FAILURES]) for p, failures in found.items())
        yield [(partition, part) for partition, part in messages if part]


@dataclass
class Reached:
    """How far each source partition has been read, and reading on from there.

    Parameters
    ----------
    reached
        Topic id and partition to the offset and message index of the latest failure.
    """

    # To be raised whenever this is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 1

    reached: dict[str, tuple[int, int]] = field(default_factory=dict)

    def read(self, message: FailedLogins, arrived_ms: int) -> EventBatch:
        """Return the failures of a message that are not repeats, as they were before.

        Parameters
        ----------
        arrived_ms
            When Kafka had the message.
        """
        fresh = [each for each in message.failures if self._pass(message.sources[each.source], each)]
        columns = list(zip(*fresh, strict=True)) or [()] * len(FailedLogin._fields)
        named = dict(zip(FailedLogin._fields, columns, strict=True))
        return EventBatch(
            "auth",
            {name: list(named[name]) for name in ("tenant_id", "source_ip", "user_id", "event_id")},
            np.array(named["time_ms"], np.int64),
            np.array(named["offset"], np.int64),
            np.array(named["message_index"], np.int32),
            message.topic,
            ingest_time_ms=arrived_ms,
        )

    def _pass(self, source: tuple[str, int], failure: FailedLogin) -> bool:
        key, at = f"{source[0]}:{source[1]}", (failure.offset, failure.message_index)
        if at <= self.reached.get(key, (-1, -1)):
            return False
        self.reached[key] = at
        return True
