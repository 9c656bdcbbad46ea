"""Taking partitions over: claim them, see what is stored, bring the detectors to the committed offset."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Final, ParamSpec, Protocol, TypeVar

import structlog
from faust.types import TP

from detectors.snapshot import SnapshotError
from schemas.tenant import Tenant
from schemas.tuning import Tuning
from store.database import Database
from store.events import KafkaIds
from store.ownership import Claim, Ownership, Stored
from store.snapshots import Snapshots
from store.tail import Tail
from streams import metrics
from streams.geography import Locate, locate_with
from streams.partition import PartitionState
from streams.patience import patiently
from streams.topics import KIND_OF

log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")
# Somebody waits for these partitions.
LONGEST_WAIT_S: Final = 5.0
# Without a snapshot that can be read, detectors learn from so many days of stored events.
REBUILD: Final = timedelta(days=14)


class GroupMember(Protocol):
    """What recovery asks of the consumer."""

    async def starts(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        """Return where each partition is handled from, and the earliest offset that Kafka still has."""

    async def confirm(self, offsets: Mapping[TP, int], generation: int) -> bool:
        """Commit offsets; return whether this generation is still the group's."""


class Superseded(Exception):
    """The group has another generation: somebody else takes the partitions over, or this worker once more."""


@dataclass(frozen=True, slots=True)
class _Start:
    committed: int
    earliest: int

    @property
    def offset(self) -> int:
        return max(self.committed, self.earliest)


class Recovery:
    """Brings partitions to where their last owner committed.

    Parameters
    ----------
    database, ids
        As in `Ownership`.
    worker_id
        Named in the claims.
    partitions
        Of each topic.
    tenant
        Returns a tenant's settings of now.
    inserts_ended
        Returns once no insert of an earlier generation runs in this process.
    tuning
        Returns the operator's overrides of now.
    locate
        Adds the positions of addresses.
    """

    def __init__(
        self,
        database: Database,
        ids: KafkaIds,
        worker_id: str,
        partitions: int,
        tenant: Callable[[str], Tenant | None],
        inserts_ended: Callable[[], Awaitable[None]],
        tuning: Callable[[], Tuning] = Tuning,
        locate: Locate | None = None,
    ) -> None:
        self._ownership = Ownership(database, ids)
        self._worker_id = worker_id
        self._snapshots = Snapshots(database, ids)
        self._database, self._ids = database, ids
        self._partitions = partitions
        self._tenant = tenant
        self._inserts_ended = inserts_ended
        self._tuning = tuning
        self._locate = locate or locate_with(None)

    async def recover(
        self, consumer: GroupMember, tps: set[TP], generation: int
    ) -> dict[tuple[str, int], PartitionState]:
        """Claim the event partitions among `tps` and return their states.

        Waits for the store for as long as it takes.

        Raises
        ------
        Superseded
            If the group has gone on to another generation meanwhile.
        """
        started = monotonic()
        events = {tp for tp in tps if tp.topic in KIND_OF}
        if not events:
            return {}
        starts = {tp: _Start(*at) for tp, at in (await consumer.starts(events)).items()}
        by_topic: dict[str, dict[int, int]] = {}
        for tp, start in sorted(starts.items()):
            if start.earliest > start.committed:
                log.error(
                    "events_expired_in_kafka",
                    topic=tp.topic,
                    partition=tp.partition,
                    first_offset=start.committed,
                    last_offset=start.earliest - 1,
                    fix="Kafka's retention removed events before they were handled: raise it, or add workers",
                )
            by_topic.setdefault(tp.topic, {})[tp.partition] = start.offset
        claims = await self._claim(consumer, by_topic, generation)
        states: dict[tuple[str, int], PartitionState] = {}
        for topic, offsets in by_topic.items():
            states |= await asked(self._read_back, topic, offsets, claims)
        await self._restore(by_topic, states)
        log.info("partitions_recovered", partitions=len(states), seconds=round(monotonic() - started, 2))
        return states

    async def _claim(
        self, consumer: GroupMember, by_topic: Mapping[str, Mapping[int, int]], generation: int
    ) -> dict[tuple[str, int], Claim]:
        terms = {
            (topic, partition): term
            for topic, offsets in by_topic.items()
            for partition, term in (await asked(self._ownership.next_terms, topic, offsets)).items()
        }
        # After the terms were read: were there a newer generation already, its term could be the same.
        starts = {TP(t, p): offset for t, offsets in by_topic.items() for p, offset in offsets.items()}
        if not await consumer.confirm(starts, generation):
            raise Superseded
        claims = {key: Claim(*key, term, generation) for key, term in terms.items()}
        dated = {claim: by_topic[claim.topic][claim.partition] for claim in claims.values()}
        await asked(self._ownership.claim, dated, self._worker_id)
        await asked(self._ownership.end_inserts, generation)
        await self._inserts_ended()
        return claims

    def _read_back(
        self, topic: str, offsets: Mapping[int, int], claims: Mapping[tuple[str, int], Claim]
    ) -> dict[tuple[str, int], PartitionState]:
        ends = self._ownership.stored_ends(topic, offsets)
        set_aside = self._ownership.set_aside_from(topic, offsets)
        return {
            (topic, partition): PartitionState(
                KIND_OF[topic],
                self._partitions,
                claims[topic, partition],
                offset,
                ends.get(partition, offset),
                partial(self._stored, topic, partition),
                set_aside.get(partition, set()),
                self._locate,
            )
            for partition, offset in offsets.items()
        }

    async def _stored(self, topic: str, partition: int, first: int, last: int) -> Stored | None:
        spans = {partition: (first, last)}
        return (await asked(self._ownership.stored_between, topic, spans)).get(partition)

    async def _restore(
        self, by_topic: Mapping[str, Mapping[int, int]], states: Mapping[tuple[str, int], PartitionState]
    ) -> None:
        tail = Tail(self._database, self._ids, self._tenant, self._tuning())
        for topic, offsets in by_topic.items():
            newest = await asked(self._snapshots.newest, topic, offsets)
            for partition, offset in offsets.items():
                state, at = states[topic, partition], newest.get(partition)
                await asked(self._catch_up, state, at, offset, tail)

    def _catch_up(self, state: PartitionState, snapshot_at: int | None, offset: int, tail: Tail) -> None:
        """Load a snapshot where there is one, and fold the stored rows from there to the offset."""
        topic, partition = state.claim.topic, state.claim.partition
        state.reset()
        first = snapshot_at
        if snapshot_at is not None:
            try:
                state.restore(self._snapshots.load(topic, partition, snapshot_at))
            except SnapshotError as error:
                log.warning("snapshot_unusable", topic=topic, partition=partition, reason=str(error))
                state.reset()
                first = None
        if first is None:
            first = tail.first_since(topic, partition, offset, datetime.now(UTC) - REBUILD)
        rows = 0
        for batch in tail.batches(state.kind, topic, partition, first, offset):
            state.relearn(batch)
            rows += len(batch)
        metrics.RECOVERY_EVENTS.inc(rows)


async def asked(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what the store answers, asked in a thread, for as long as it takes."""
    return await patiently(
        partial(asyncio.to_thread, work, *args, **kwargs), "recovery_retried", LONGEST_WAIT_S
    )
