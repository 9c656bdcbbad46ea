"""Records as columns: what an agent receives in place of single messages, and how it is cut.

All topics that have an agent are batched. Tables keep Faust's own path, or their recovery breaks.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter
from time import monotonic
from typing import Any, Final

from aiokafka.consumer import consumer, fetcher
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from faust.types import TP
from faust.types.transports import SchedulingStrategyT

from schemas.event import MAX_MESSAGE_BYTES
from streams.topics import ALERTS, FAILURES_BY_IP, TOPIC_OF

BATCHED_TOPICS: Final = frozenset({*TOPIC_OF.values(), FAILURES_BY_IP, ALERTS})
# Whose records may be fetched less often (docs/decisions/0024): no attack on a password is in them.
PATIENT_TOPICS: Final = frozenset({TOPIC_OF["access"], TOPIC_OF["request"]})
MAX_CHUNK_RECORDS: Final = 4_000
MAX_CHUNK_BYTES: Final = MAX_MESSAGE_BYTES
# So long the broker collects for some partitions while others' records wait here, and so long these count:
# those of a partition that is held may wait for days.
UNTAKEN_WAIT_MS: Final = 10
UNTAKEN_S: Final = 1.0
_VALUE: Final = attrgetter("value")


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of one partition, as columns ``(k,)`` in offset order."""

    topic: str
    partition: int
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    headers: list[tuple[tuple[str, bytes], ...]]
    timestamps_ms: list[int]

    @classmethod
    def of(cls, tp: TP, records: Sequence[Any]) -> "Records":
        """Return records as Kafka's client has them."""
        headers = list(map(attrgetter("headers"), records))
        return cls(
            tp.topic,
            tp.partition,
            offsets=list(map(attrgetter("offset"), records)),
            keys=list(map(attrgetter("key"), records)),
            values=list(map(_VALUE, records)),
            # Kafka's client makes a list of each; ours are one thing to the garbage collector.
            headers=list(map(tuple, headers)) if any(headers) else [()] * len(records),
            timestamps_ms=list(map(attrgetter("timestamp"), records)),
        )

    def __len__(self) -> int:
        return len(self.offsets)

    def forget(self) -> None:
        """Keep the offsets only: what was received waits no longer in memory than it has to."""
        for column in (self.keys, self.values, self.headers, self.timestamps_ms):
            column.clear()


class _Unpacked(PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """Records of the batched topics as they were unpacked.

    aiokafka makes a `ConsumerRecord` of eleven fields of each, which takes as long as unpacking it: 1.1 of
    2.3 µs, under Python's lock. Only five of the fields are asked for here.
    """

    def _consumer_record(self, tp: Any, record: Any) -> Any:
        return record if tp.topic in BATCHED_TOPICS else super()._consumer_record(tp, record)


class _Fetched(FetchResult):  # type: ignore[misc]
    """What was fetched of a partition, taken without a step of Python's for each record."""

    _partition_records: Any

    def getall(self, max_records: int | None = None) -> list[Any]:
        if self._topic_partition.topic not in BATCHED_TOPICS:
            return list(super().getall(max_records))
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        found = list(islice(self._partition_records._records_iterator, max_records))
        self._update_position()
        if max_records is None or len(found) < max_records:
            self._partition_records = None
        return found


class _Fetcher(fetcher.Fetcher):  # type: ignore[misc]
    """Lets the broker collect records for a moment only while others wait here to be taken.

    It is asked for the other partitions then, and for nothing else until it has answered. Where nothing comes
    to these, that kept logins waiting for 0.2 s.
    """

    _chosen_wait_ms: int

    @property
    def _fetch_max_wait_ms(self) -> int:
        now_s = monotonic()
        # A tuple at once: the event loop's thread can take some of them out meanwhile.
        waiting = tuple(self._records.values())
        if any(now_s - result._created < UNTAKEN_S for result in waiting):
            return min(self._chosen_wait_ms, UNTAKEN_WAIT_MS)
        return self._chosen_wait_ms

    @_fetch_max_wait_ms.setter
    def _fetch_max_wait_ms(self, wait_ms: int) -> None:
        self._chosen_wait_ms = wait_ms


# There is no other way in: aiokafka names the classes itself.
fetcher.PartitionRecords = _Unpacked
fetcher.FetchResult = _Fetched
consumer.Fetcher = _Fetcher


def _size_of(record: Any) -> int:
    return len(record.value or b"")


def bytes_of(records: Sequence[Any]) -> int:
    """Return the size of the records' values."""
    try:
        return sum(map(len, map(_VALUE, records)))
    except TypeError:  # tombstones
        return sum(map(_size_of, records))


def chunks(records: list[Any]) -> Iterator[list[Any]]:
    """Cut records into chunks of at most 4,000 records and, but for a single larger one, 8 MiB."""
    for first in range(0, len(records), MAX_CHUNK_RECORDS):
        chunk = records[first : first + MAX_CHUNK_RECORDS]
        if bytes_of(chunk) <= MAX_CHUNK_BYTES:
            yield chunk
        else:
            yield from _chunks_by_size(chunk)


def _chunks_by_size(records: list[Any]) -> Iterator[list[Any]]:
    start = size = 0
    for i, record in enumerate(records):
        length = _size_of(record)
        if i > start and size + length > MAX_CHUNK_BYTES:
            yield records[start:i]
            start, size = i, 0
        size += length
    yield records[start:]


class Scheduler(SchedulingStrategyT):
    """Yields chunks of the batched topics' records and single records of tables, in turns."""

    def iterate(self, records: Mapping[TP, list[Any]]) -> Iterator[tuple[TP, Any]]:
        """Go round the partitions, one chunk or record of each at a time."""
        queues: deque[tuple[TP, Iterator[Any]]] = deque(
            (tp, chunks(found) if tp.topic in BATCHED_TOPICS else iter(found))
            for tp, found in records.items()
        )
        while queues:
            tp, queue = queues.popleft()
            for item in queue:
                yield tp, item
                queues.append((tp, queue))
                break
