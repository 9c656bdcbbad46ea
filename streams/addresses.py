"""Reading ``audit.failures-by-ip``: what one address does to all tenants, judged where its failures meet.

The topic is a log, so state needs no other one: a chunk is acknowledged when a snapshot that knows of it is
stored. What is committed is therefore always where a snapshot stands, and whoever takes a partition over
loads it and goes on; what the last owner had read beyond it is read again, with the same verdicts.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec
import structlog
from faust.types import TP

from detectors.cross_tenant_spray import CrossTenantSpray
from detectors.cross_tenant_spray_state import CrossTenantSprayState
from detectors.snapshot import SnapshotError, freeze, loads, version_of
from schemas.alert import Alert
from store.snapshots import Part, Snapshots
from streams.partition import FrozenState
from streams.records import Records
from streams.recovery import GroupMember, Superseded, asked
from streams.rekeying import FailedLogins, Reached
from streams.topics import FAILURES_BY_IP

log = structlog.get_logger()
REACHED: Final = "reached"
SPRAY: Final = "spray_across_tenants"
# Sends an alert; what it returns completes when Kafka has it.
Publish = Callable[[Alert], Awaitable[Awaitable[Any]]]


class HoldingMember(GroupMember, Protocol):
    """What is asked of the consumer: to hold partitions too."""

    def hold(self, tp: TP, offset: int) -> None:
        """Deliver nothing of a partition from an offset on, until `release`."""

    def release(self, tp: TP) -> None:
        """Deliver a held partition again, from where it was held."""

    def committed(self, tp: TP) -> int | None:
        """Return the committed offset of a partition, where it is known."""


@dataclass
class AddressState:
    """What is remembered of one partition of ``audit.failures-by-ip``.

    Parameters
    ----------
    next_offset
        The first offset that is not in the state.
    told_offset
        Alerts of what is before it are out. Until it is reached there is no snapshot, and so no commit:
        whoever loaded one would not know that they are.
    """

    next_offset: int
    told_offset: int = 0
    _reached: Reached = field(default_factory=Reached)
    _spray: CrossTenantSprayState = field(default_factory=CrossTenantSprayState)
    _saved_offset: int = 0
    _done_offset: int = 0
    # Chunks that are not in a snapshot yet: where the next one begins, and how to acknowledge them.
    _unsaved: deque[tuple[int, Callable[[], Any]]] = field(default_factory=deque)

    # Kafka has the alerts that the passing of time raised.
    _time_told: bool = True
    # Whether anything came since time last passed, and when that was by the partition's count. Time passes
    # for all tenants or none: their failures come by way of other partitions, and may wait in one of these.
    _heard: bool = False
    _heard_ms: int = 0

    @property
    def told(self) -> bool:
        """Whether whoever loads a snapshot raises each alert that is not out, and none that is."""
        return self._time_told and self.next_offset >= self.told_offset

    @told.setter
    def told(self, told: bool) -> None:
        self._time_told = told

    def fold(self, detector: CrossTenantSpray, records: Records) -> list[Alert]:
        """Return the revisions that a chunk gives rise to."""
        alerts: list[Alert] = []
        for offset, value, at_ms in zip(records.offsets, records.values, records.timestamps_ms, strict=True):
            try:
                message = msgspec.json.decode(value or b"", type=FailedLogins)
            except msgspec.MsgspecError as error:
                # Nobody but us writes here; what somebody else did must not stop the partition for ever.
                log.error("failures_unreadable", partition=records.partition, offset=offset, error=str(error))
                continue
            told = detector.fold(self._reached.read(message, at_ms), self._spray)
            alerts += told if offset >= self.told_offset else []
        self.next_offset = records.offsets[-1] + 1
        self._heard = True
        return alerts

    def advance(self, detector: CrossTenantSpray, passed_ms: int) -> list[Alert]:
        """Let time pass while nothing comes; as for `PartitionState.advance`."""
        if self._heard:
            self._heard, self._heard_ms = False, passed_ms
        quiet_ms = passed_ms - self._heard_ms
        watermark_ms = self._spray.clock.watermark_ms
        return detector.advance(self._spray, {t: at + quiet_ms for t, at in watermark_ms.items()})

    def done(self, next_offset: int, ack: Callable[[], Any]) -> None:
        """Take over a chunk whose alerts are out; `ack` is called once it is in a snapshot."""
        self._done_offset = next_offset
        self._unsaved.append((next_offset, ack))
        self.saved(self._saved_offset)

    def saved(self, next_offset: int) -> None:
        """Acknowledge what is in a snapshot that was stored: all of it at once, or nothing yet.

        So that what is committed is where a snapshot stands, and not in the middle.
        """
        self._saved_offset = next_offset
        if self._done_offset >= next_offset:
            while self._unsaved and self._unsaved[0][0] <= next_offset:
                self._unsaved.popleft()[1]()

    def freeze(self) -> FrozenState:
        """Return the state as it is now; to be called between two chunks."""
        named = ((REACHED, self._reached), (SPRAY, self._spray))
        return FrozenState([(name, version_of(state), freeze(state)) for name, state in named])

    def restore(self, parts: Sequence[Part]) -> None:
        """Take over a snapshot.

        Raises
        ------
        SnapshotError
            A part is missing, damaged, or of another format.
        """
        found = {part.name: part.state for part in parts}
        reached = loads(Reached, found.get(REACHED, b""))
        self._spray = loads(CrossTenantSprayState, found.get(SPRAY, b""))
        self._reached = reached


class AddressReader:
    """Judges the failures of the partitions that are this worker's.

    Parameters
    ----------
    snapshots
        Where states are stored.

    Attributes
    ----------
    states
        By topic and partition.
    """

    def __init__(self, snapshots: Snapshots) -> None:
        self.states: dict[tuple[str, int], AddressState] = {}
        self._snapshots = snapshots
        self._detector = CrossTenantSpray()
        self._consumer: HoldingMember | None = None

    async def take_over(self, consumer: HoldingMember, assigned: set[TP], generation: int) -> None:
        """Load the states of the partitions among those assigned; waits for the store.

        Raises
        ------
        Superseded
            If the group has gone on to another generation meanwhile.
        """
        mine = {tp for tp in assigned if tp.topic == FAILURES_BY_IP}
        starts = await consumer.starts(mine) if mine else {}
        committed = {tp.partition: max(at) for tp, at in starts.items()}
        newest = await asked(self._snapshots.newest, FAILURES_BY_IP, committed)
        states: dict[tuple[str, int], AddressState] = {}
        for tp, at in starts.items():
            offset, earliest = max(at), at[1]
            state = AddressState(offset)
            if offset > earliest and not await self._load(state, tp.partition, newest.get(tp.partition)):
                state = await self._read_again(consumer, tp, earliest, offset, generation)
            states[tp.topic, tp.partition] = state
        self.states, self._consumer = states, consumer

    async def _load(self, state: AddressState, partition: int, snapshot_at: int | None) -> bool:
        """Load the snapshot that stands where the partition was committed, if it can be read."""
        if snapshot_at != state.next_offset:
            return False
        try:
            state.restore(await asked(self._snapshots.load, FAILURES_BY_IP, partition, snapshot_at))
        except SnapshotError as error:
            log.warning("snapshot_unusable", topic=FAILURES_BY_IP, partition=partition, reason=str(error))
            return False
        return True

    async def _read_again(
        self, consumer: HoldingMember, tp: TP, earliest: int, committed: int, generation: int
    ) -> AddressState:
        """Begin once more with what Kafka still has; the alerts of what was committed are out already."""
        log.info("failures_read_again", partition=tp.partition, first_offset=earliest, committed=committed)
        if not await consumer.confirm({tp: committed}, generation):
            raise Superseded
        consumer.hold(tp, earliest)
        consumer.release(tp)
        return AddressState(earliest, committed)

    def forget(self) -> None:
        """Forget every partition: another worker may have them now."""
        self.states = {}

    async def handle(self, records: Records, ack: Callable[[], Any], publish: Publish) -> None:
        """Judge a chunk and publish its alerts; it is acknowledged once it is in a snapshot."""
        key = (records.topic, records.partition)
        state = self.states[key]
        if records.offsets[0] < state.next_offset:
            raise RuntimeError(
                f"{records.topic} {records.partition}: offset {records.offsets[0]} was delivered after "
                f"{state.next_offset - 1} had been handled"
            )
        alerts = state.fold(self._detector, records)
        next_offset = state.next_offset
        records.forget()
        await asyncio.gather(*[await publish(alert) for alert in alerts])
        state.done(next_offset, ack)

    def advance(self, passed_ms: Mapping[tuple[str, int], int]) -> list[tuple[AddressState, list[Alert]]]:
        """Return the last revisions of what is over in the partitions in which so much time has passed."""
        return [
            (state, state.advance(self._detector, passed_ms[key]))
            for key, state in self.states.items()
            if key in passed_ms
        ]

    def committed(self, key: tuple[str, int]) -> int | None:
        """Return the committed offset of a partition, where it is known."""
        return self._consumer.committed(TP(*key)) if self._consumer is not None else None
