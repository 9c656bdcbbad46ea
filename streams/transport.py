"""Record batches: Faust hands an agent thousands of Kafka records as one message.

Faust costs about 70 µs a message; an agent that receives chunks of 4,000 records pays that once a chunk.
Three public extension points make it: the scheduler yields chunks, the consumer turns a chunk into one
message and keeps its own account of what may be committed, and the transport names that consumer.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from math import inf
from time import monotonic, time
from typing import Any, Final, cast

import structlog
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage, Message
from mode import Service

from streams import records
from streams.calm import CALM_S, MAX_BYTES, MAX_RECORDS, Calm
from streams.pace import Fetch, Pace
from streams.records import Records

log = structlog.get_logger()
# Between two looks for partitions to read, while there are none.
PAUSE_S: Final = 0.05
# Between two signs of life while the group has not let this worker in again.
REJOIN_S: Final = 1.0
# So long ago Kafka said that nothing waits; with nothing to say it answers after a quarter of a second.
ANSWERED_S: Final = 3.0
VOID_GENERATION: Final = -1  # no group ever has it


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Reads what was committed (a record of an aborted transaction never happened), and not one by one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._calm = Calm()
        # How long the last fetch took until there were records.
        self.waited_s = 0.0
        # What ended a fetch for more of them, to be raised once they are handed over.
        self._failed: Exception | None = None

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Faust offers this only together with its own transactions, which the store takes no part in.
        consumer._isolation_level = "read_committed"
        return consumer

    def let_collect(self, fetch: Fetch) -> None:
        """Let the broker collect records, from the next fetch on.

        Faust's 1.5 s are for a broker that answers with the first byte: that is a fetch for every message.
        """
        fetcher = self._ensure_consumer()._fetcher
        fetcher._fetch_max_wait_ms, fetcher._fetch_min_bytes = fetch.wait_ms, fetch.min_bytes
        self._fetch = fetch

    async def _fetch_records(self, consumer: Any, *args: Any, **kwargs: Any) -> Any:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            raise failed
        fetch = self._fetch
        if fetch.everything:
            consumer.resume(*consumer.paused())
        began_s = monotonic()
        found = dict(await super()._fetch_records(consumer, *args, **kwargs))
        self.waited_s = monotonic() - began_s
        if fetch.within_s < inf:
            end_s = began_s + min(self.waited_s + CALM_S, fetch.within_s)
            await self._collect(found, end_s, consumer, *args, **kwargs)
            consumer.pause(*filter(partial(self._can_wait, consumer), found))
        return found

    async def _collect(
        self, found: dict[TP, list[Any]], end_s: float, consumer: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Add what comes next, for as long as all of it can wait, and there is not much of it."""
        more: Mapping[TP, list[Any]] = found
        count = size = 0
        while more and self._calm.can_wait(more):
            count += sum(map(len, more.values()))
            size += sum(map(records.bytes_of, more.values()))
            left_s = end_s - monotonic()
            if left_s <= 0 or count >= MAX_RECORDS or size >= MAX_BYTES:
                return
            try:
                more = await super()._fetch_records(consumer, *args, **kwargs | {"timeout": left_s})
            except Exception as error:  # noqa: BLE001 - whatever it is: what was found must not be lost to it
                self._failed = error
                return
            for tp, some in more.items():
                found.setdefault(tp, []).extend(some)

    def _can_wait(self, consumer: Any, tp: Any) -> bool:
        """Return whether a partition can be left out of fetches: it is patient, and nothing waits."""
        if tp.topic not in records.PATIENT_TOPICS or tp not in consumer.assignment():
            return False
        state = consumer._subscription.subscription.assignment.state_value(tp)
        return bool(state.has_valid_position and state.position >= (state.highwater or 0))


class Consumer(driver.Consumer):
    """Delivers chunks, and commits up to the first chunk that was delivered and is not acknowledged.

    Faust's own account is by single offsets: it would see a gap inside each chunk. Committing the largest
    acknowledged offset instead would skip a chunk whose agent raised.
    """

    # What to finish before partitions go to another worker; the worker sets it.
    before_revoke: Callable[[], Awaitable[None]] | None = None

    def __init__(self, transport: Any, callback: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(transport, self._deliver, *args, **kwargs)
        self._hand_over = callback
        self._delivered: defaultdict[TP, deque[ConsumerMessage]] = defaultdict(deque)
        # What the last fetch held, and how many of its records were delivered.
        self._fetched: dict[TP, list[Any]] = {}
        self._taken: defaultdict[TP, int] = defaultdict(int)
        # Of the assignment in which the agents' topics are read; None: of none yet.
        self._generation: int | None = None
        # Partitions that are held, with the first offset that waits, and those of them to be let go on.
        self._held: dict[TP, int] = {}
        self._released: set[TP] = set()
        # Between two assignments.
        self._rejoining = False
        self._pace = Pace()

    @Service.timer(REJOIN_S)
    async def _stay_while_rejoining(self) -> None:
        # The client rejoins no group for somebody who has not asked for records for `max_poll_interval`, and
        # until partitions are assigned nobody asks: without this it would be out of the group for ever.
        if self._rejoining:
            await self.stay()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def hold(self, tp: TP, offset: int) -> None:
        """Deliver nothing of an event partition from an offset on, until `release`: it waits in Kafka.

        What was delivered of it already is void, as after a rebalance.
        """
        self._held[tp] = offset
        delivered = self._delivered[tp]
        while delivered and cast(Any, delivered[-1].value).offsets[0] >= offset:
            delivered.pop().generation_id = VOID_GENERATION

    def release(self, tp: TP) -> None:
        """Deliver a held partition again, from where it was held."""
        self._released.add(tp)

    async def _go_on_with_released(self) -> None:
        if self._generation != self.app.consumer_generation_id:
            return  # where partitions begin is still to be said, and would undo it
        released, self._released = self._released, set()
        for tp in released:
            offset = self._held.pop(tp, None)
            if offset is not None and tp in self.assignment():
                await self.seek(tp, offset)

    async def _deliver(self, message: ConsumerMessage) -> None:
        tp = message.tp
        if tp in self._held:
            return
        if fetched := self._fetched.get(tp):
            chunk: Any = message.value
            if fetched[self._taken[tp]].offset != chunk.offsets[0]:
                return  # records before these were left out: all of them are fetched again
            self._taken[tp] += len(chunk)
        if message.topic in records.BATCHED_TOPICS:
            self._delivered[tp].append(message)
        await self._hand_over(message)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust calls it so
    ) -> Any:
        fetch = self._pace.fetch()
        cast(ConsumerThread, self._thread).let_collect(fetch)
        await self._seek_to_undelivered()
        await self._go_on_with_released()
        generation = self.app.consumer_generation_id
        # A copy: the fetch runs in another thread, and takes an empty set for all partitions. The original
        # can be emptied meanwhile, by a pause.
        chosen = None if active_partitions is None else active_partitions - self._held.keys()
        if chosen is not None and not await self._begun(generation):
            chosen = {tp for tp in chosen if self._is_changelog_tp(tp)}
        if active_partitions and not chosen:
            await self.stay()
            await self.sleep(PAUSE_S)
            return {}
        found = await super()._getmany(chosen, min(timeout, fetch.within_s))
        patient = sum(len(some) for tp, some in found.items() if tp.topic in records.PATIENT_TOPICS)
        self._pace.came(fetch, cast(ConsumerThread, self._thread).waited_s, patient)
        if generation != self.app.consumer_generation_id:
            # Asked for in an assignment that is over. In this one, where the agents' topics begin is said
            # once more; nobody does so for tables, whose recovery would wait for these records for ever.
            for tp, some in found.items():
                if some and self._is_changelog_tp(tp):
                    await self._thread.call_thread(self._go_back, tp, some[0].offset, some[-1].offset)
            return {}
        self._fetched = {tp: some for tp, some in found.items() if some and not self._is_changelog_tp(tp)}
        self._taken.clear()
        return dict(sorted(found.items(), key=lambda item: item[0].topic in records.PATIENT_TOPICS))

    async def _go_back(self, tp: TP, first: int, last: int) -> None:
        """Let offsets be fetched again, if the position of this assignment is past them."""
        client, theirs = self._thread._ensure_consumer(), driver.ensure_aiokafka_TP(tp)
        if theirs in client.assignment():
            state = client._subscription.subscription.assignment.state_value(theirs)
            if state.has_valid_position and state.position > last:
                log.info("table_read_again", topic=tp.topic, partition=tp.partition, offset=first)
                client.seek(theirs, first)

    @property
    def begun(self) -> bool:
        """Whether the agents' topics are read in the assignment that holds."""
        return self._generation == self.app.consumer_generation_id and not self.app.rebalancing

    async def _begun(self, generation: int) -> bool:
        """Return whether the agents' topics may be read; the first time, seek to where they begin.

        While Faust restores its tables after a rebalance it seeks to the committed offsets, and empties the
        agents' queues, at moments of its own; and a fetch that was under way takes records of the new
        assignment with it. So nothing is read for the agents until Faust is done, and where they begin is
        said once more then: else records are lost to them, or come twice.
        """
        if self.app.rebalancing:
            return False
        if self._generation == generation:
            return True
        tps = {tp for tp in self.assignment() if not self._is_changelog_tp(tp)}
        try:
            for tp, (committed, earliest) in (await self.starts(tps)).items():
                await self.seek(tp, max(committed, earliest))
        except (IllegalStateError, KafkaError) as error:
            log.info("seek_postponed", reason=str(error))  # the assignment has changed, or Kafka is away
            return False
        self._generation = generation
        return generation == self.app.consumer_generation_id and not self.app.rebalancing

    async def _seek_to_undelivered(self) -> None:
        """Go back to what was fetched and not delivered.

        Faust silently leaves out records of a partition that is paused when it comes to them, although
        the position is past them already: without this they would be lost at the next commit.
        """
        fetched, self._fetched = self._fetched, {}
        for tp, found in fetched.items():
            taken = self._taken[tp]
            if taken < len(found) and tp not in self._held and tp in self.assignment():
                offset = found[taken].offset
                log.warning("records_fetched_again", topic=tp.topic, partition=tp.partition, offset=offset)
                await self.seek(tp, offset)

    async def starts(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        """Return each partition's committed offset and the earliest that Kafka still has.

        Where nothing was committed, both are the earliest.
        """
        earliest = await self.earliest_offsets(*tps)
        committed = await self._thread.call_thread(self._fetch_committed, tps)
        # Kafka's client has tuples of its own, which equal Faust's.
        return {
            tp: (start if committed[tp] is None else committed[tp], start) for tp, start in earliest.items()
        }

    async def _fetch_committed(self, tps: set[TP]) -> dict[TP, int | None]:
        client = self._thread._ensure_consumer()
        ours = list(tps)
        offsets = await asyncio.gather(*(client.committed(driver.ensure_aiokafka_TP(tp)) for tp in ours))
        return dict(zip(ours, offsets, strict=True))

    async def confirm(self, offsets: Mapping[TP, int], generation: int) -> bool:
        """Commit where partitions are handled from; return whether this generation is still the group's.

        Kafka refuses the commit of a member whose generation is over: the one answer about membership that
        is no guess.
        """
        if self.app.consumer_generation_id != generation:
            return False
        given = {driver.ensure_aiokafka_TP(tp): offset for tp, offset in offsets.items()}
        try:
            await self._thread.call_thread(self._thread._ensure_consumer().commit, given)
        except (CommitFailedError, IllegalStateError):
            return False
        return bool(self.app.consumer_generation_id == generation)

    def committed(self, tp: TP) -> int | None:
        """Return the offset that was last committed of a partition, where that is known."""
        return self._committed_offset.get(tp)

    async def stay(self) -> None:
        """Tell the group that this worker lives, although it asks for no records: it waits for the store."""
        await self._thread.call_thread(self._touch)

    async def _touch(self) -> None:
        # The client takes a member that has not fetched for `max_poll_interval` to hang.
        with self._thread._ensure_consumer()._fetcher._subscriptions.fetch_context():
            pass

    def _forget(self) -> None:
        self._delivered.clear()
        self._fetched.clear()
        self._taken.clear()
        self._generation = None
        self._held.clear()
        self._released.clear()

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        if not isinstance(record, list):
            return super()._to_message(tp, record)
        last = record[-1]
        value = Records.of(tp, record)
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            None,
            # Faust hands the value to the agent as it is: the event topics are declared raw.
            value,  # type: ignore[arg-type]
            None,
            0,
            None,  # Faust does nothing with the size
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def ack(self, message: Message) -> bool:
        """Mark a chunk as done; it is committed once all chunks before it are."""
        if message.topic not in records.BATCHED_TOPICS:
            return bool(super().ack(message))
        # A chunk of an earlier generation is redelivered, and may end at the same offset as its
        # redelivery: acknowledging it must not acknowledge that one. Faust also "acks" such chunks itself
        # when it skips them.
        if message.acked or message.generation_id != self.app.consumer_generation_id:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        self._acked[message.tp].append(message.offset)
        self._n_acked += 1
        return True

    def lag(self, tp: TP) -> int | None:
        """Return how many records of a partition are not committed yet, where that is known."""
        committed, end = self._committed_offset.get(tp), self.highwater(tp)
        return None if committed is None or end is None else max(end - committed, 0)

    def is_caught_up(self, tp: TP, next_offset: int) -> bool:
        """Return whether nothing of a partition waits, as Kafka has just said.

        What the client's thread lets wait for more (`streams.calm`) counts as handled: 0.2 s are nothing
        beside the quarter of an hour by which deadlines run behind.

        Parameters
        ----------
        next_offset
            The first offset that is not handled.
        """
        subscription = self._thread._ensure_consumer()._subscription.subscription
        assignment = None if subscription is None else subscription.assignment
        theirs = driver.ensure_aiokafka_TP(tp)
        if tp in self._held or assignment is None or theirs not in assignment.tps:
            return False
        state = assignment.state_value(theirs)
        # By the wall clock, as it is noted; after that has jumped, nothing is known until the next answer.
        answered_s = state.timestamp and abs(time() - state.timestamp / 1000)
        if answered_s is None or answered_s > ANSWERED_S:
            return False
        # By position: the last offsets may be a transaction's marker.
        if not state.has_valid_position or state.position < state.highwater:
            return False
        delivered = self._delivered[tp]
        undelivered = self._taken[tp] < len(self._fetched.get(tp, ()))
        return not undelivered and (not delivered or delivered[-1].offset < next_offset)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic not in records.BATCHED_TOPICS:
            return super()._new_offset(tp)
        delivered = self._delivered[tp]
        offset = None
        while delivered and delivered[0].acked:
            offset = delivered.popleft().offset + 1
        self._acked[tp].clear()
        return offset

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit what is acknowledged by now.

        Faust's leaves that to a commit that is under way, which does not know what was acknowledged since it
        began: at a stop or before partitions go, nothing would come after it.
        """
        await self.maybe_wait_for_commit_to_finish()
        return bool(await super().commit(topics, start_new_transaction))

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Let Faust complain about a partition that does not move, unless it is held."""
        if tp not in self._held:
            super().verify_event_path(now, tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        # Offsets between chunks that hold no record (transaction markers, compaction) need no account:
        # the chunk after them commits past them.
        if tp.topic not in records.BATCHED_TOPICS:
            await super()._add_gap(tp, offset_from, offset_to)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit what is in hand, then forget it."""
        if self.before_revoke is not None:
            self.stop_flow()
            await self.before_revoke()
            await self.commit()
        self._forget()
        self._rejoining = True
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Start from the committed offsets, with nothing in hand."""
        self._forget()
        self._rejoining = False
        await super().on_partitions_assigned(assigned, generation_id)


class Transport(driver.Transport):
    """Faust's aiokafka transport with record batches; named by the URL scheme ``audit://``."""

    Consumer = Consumer
