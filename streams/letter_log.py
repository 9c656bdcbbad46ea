"""Reading ``audit.dead-letters`` and sending what is in it again, for tools that run beside the workers."""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from streams.brokers import PRODUCER, client_options
from streams.dead_letters import Letter, Source, again_headers, read_letter
from streams.topics import DEAD_LETTERS, TopicError

# A letter is in Kafka before its row is in the store, by as long as the store was away. What is not found
# from here on is looked for from the topic's beginning.
EARLIER: Final = timedelta(minutes=15)
POLL_MS: Final = 100
REQUEST_TIMEOUT_MS: Final = 10_000  # also how long a missing topic is waited for

Span = dict[TopicPartition, tuple[int, int]]


class LetterLog:
    """``audit.dead-letters``, and the topics that letters came from; a context manager.

    It blocks, for tools without an event loop.

    Parameters
    ----------
    bootstrap
        Broker addresses, ``host:port,host:port``.

    Raises
    ------
    TopicError
        From every method, if Kafka does not answer, or there is no such topic.
    """

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._consumer: Any = None
        self._producer: Any = None

    def __enter__(self) -> "LetterLog":
        try:
            self._consumer = self._run(self._start(AIOKafkaConsumer, DEAD_LETTERS, **_CONSUMER))
            self._producer = self._run(self._start(AIOKafkaProducer, **PRODUCER, request_timeout_ms=30_000))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave Kafka."""
        with suppress(KafkaError, TimeoutError):  # what was not acknowledged has been told
            self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _start(self, make: Any, *topics: str, **options: Any) -> Any:
        secured = client_options(self._bootstrap)
        client = make(*topics, bootstrap_servers=self._bootstrap, **secured, **options)
        self._stack.push_async_callback(client.stop)
        await client.start()
        return client

    def _run(self, work: Any) -> Any:
        try:
            return self._runner.run(work)
        except UnknownTopicOrPartitionError as error:
            raise TopicError(
                f"Kafka at {self._bootstrap} has no topic {DEAD_LETTERS}; "
                "`tenantwatch up` or `worker` creates it"
            ) from error
        except (KafkaError, ValueError, TimeoutError) as error:
            raise TopicError(
                f"Kafka at {self._bootstrap} does not answer: {error or type(error).__name__}. "
                "Is it running, and is TENANTWATCH_KAFKA right?"
            ) from error

    def find(self, sources: Collection[Source], rejected_after: datetime) -> Iterator[Letter]:
        """Yield letters of messages, each once, a tenant's in the order of their messages.

        Those that Kafka has let go of are left out.

        Parameters
        ----------
        sources
            Where the messages were.
        rejected_after
            Where in time to begin; earlier ones are found too, but later.
        """
        missing = set(sources)
        whole: Span = self._run(self._whole())
        late: Span = self._run(self._from_time(whole, rejected_after - EARLIER))
        early: Span = {tp: (whole[tp][0], start) for tp, (start, _) in late.items()}
        for span in (late, early):
            for tp, (start, _) in span.items():
                self._consumer.seek(tp, start)
            while missing and (letters := self._run(self._poll(span))) is not None:
                for letter in letters:
                    if letter.source in missing:
                        missing.discard(letter.source)
                        yield letter

    async def _whole(self) -> Span:
        # Without a group every partition is assigned.
        tps = self._consumer.assignment()
        starts, ends = await self._consumer.beginning_offsets(tps), await self._consumer.end_offsets(tps)
        return {tp: (starts[tp], ends[tp]) for tp in tps}

    async def _from_time(self, span: Span, at: datetime) -> Span:
        at_ms = max(int(at.timestamp() * 1000), 0)
        found = await self._consumer.offsets_for_times(dict.fromkeys(span, at_ms))
        return {tp: (found[tp].offset if found[tp] else end, end) for tp, (_, end) in span.items()}

    async def _poll(self, span: Span) -> list[Letter] | None:
        """Return the next letters, or None at the end."""
        consumer = self._consumer
        # By position, not by record: the last offset may be a transaction's marker.
        if not [tp for tp, (_, end) in span.items() if await consumer.position(tp) < end]:
            return None
        polled: Mapping[Any, list[Any]] = await consumer.getmany(timeout_ms=POLL_MS)
        found = (
            read_letter(record.key, record.value, record.headers)
            for records in polled.values()
            for record in records
        )
        return [letter for letter in found if letter is not None]

    def send_again(self, messages: Iterable[tuple[Letter, bytes | None]]) -> list[KafkaError | None]:
        """Send messages to the topics that they came from, and wait until Kafka has them.

        Parameters
        ----------
        messages
            Letters, and what of each is sent.

        Returns
        -------
        list
            For each None, or why Kafka did not take it.
        """
        sent: list[KafkaError | None] = self._run(self._send(list(messages)))
        return sent

    async def _send(self, messages: list[tuple[Letter, bytes | None]]) -> list[KafkaError | None]:
        results: list[Any] = []
        for letter, value in messages:  # one after the other, so that they stay in their order
            topic, key, headers = letter.source.topic, letter.key, again_headers(letter)
            try:
                results.append(await self._producer.send(topic, value, key=key, headers=headers))
            except KafkaError as error:
                results.append(error)
        for i, sent in enumerate(results):
            if not isinstance(sent, KafkaError):
                try:
                    await sent
                    results[i] = None
                except KafkaError as error:
                    results[i] = error
        return results


_CONSUMER: Final[dict[str, Any]] = {
    "group_id": None,
    "enable_auto_commit": False,
    "auto_offset_reset": "earliest",
    "request_timeout_ms": REQUEST_TIMEOUT_MS,
}
