"""Taking snapshots: each partition's detectors in turn, so that the work is spread over the interval."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Final, Protocol

import structlog

from store.database import StoreUnavailable
from store.snapshots import Snapshots
from streams import metrics
from streams.partition import FrozenState

log = structlog.get_logger()
MIN_PAUSE_S: Final = 0.05
Key = tuple[str, int]


class Remembered(Protocol):
    """What is remembered of a partition."""

    @property
    def told(self) -> bool:
        """Whether Kafka has the alerts that the passing of time raised in it."""

    @property
    def next_offset(self) -> int:
        """The first offset that is not in it."""

    def freeze(self) -> FrozenState:
        """Return it as it is now."""

    def saved(self, next_offset: int) -> None:
        """Take it that a snapshot which stands for an offset is stored."""


class Owner(Protocol):
    """Who has the partitions' states."""

    @property
    def states(self) -> Mapping[Key, Remembered]:
        """By topic and partition; another dictionary after each assignment."""

    def committed(self, key: Key) -> int | None:
        """Return the committed offset of a partition, where it is known."""


class SnapshotTaker:
    """Stores the state of each partition that has changed, once an interval.

    Parameters
    ----------
    owner
        Of the states.
    snapshots
        Where they are stored.
    interval_s
        Between two snapshots of a partition.
    """

    def __init__(self, owner: Owner, snapshots: Snapshots, interval_s: float) -> None:
        self._owner = owner
        self._snapshots = snapshots
        self._interval_s = interval_s
        self._taken: dict[Key, int] = {}

    async def run(self) -> None:
        """Take snapshots until cancelled."""
        while True:
            states = self._owner.states
            pause_s = max(self._interval_s / max(len(states), 1), MIN_PAUSE_S)
            for key in list(states):
                await asyncio.sleep(pause_s)
                if self._owner.states is not states:
                    break
                with contextlib.suppress(StoreUnavailable):
                    await self._take(key, states[key])
            else:
                await asyncio.sleep(0 if states else 1.0)
                with contextlib.suppress(StoreUnavailable):
                    await self._prune(states)

    async def finish(self, within_s: float) -> None:
        """Take what snapshots can be taken in a given time: they spare the next owner reading events."""
        with contextlib.suppress(TimeoutError, StoreUnavailable):
            async with asyncio.timeout(within_s):
                for key, state in list(self._owner.states.items()):
                    await self._take(key, state)

    async def _take(self, key: Key, state: Remembered) -> None:
        if not state.told:
            return  # who loaded this after a crash would never raise those alerts
        at = state.next_offset
        if self._taken.get(key) != at:
            started = monotonic()
            # The copy is gone before its bytes are stored: it is as large as the state.
            parts = await asyncio.to_thread(state.freeze().parts)
            await asyncio.to_thread(self._snapshots.save, *key, at, parts)
            self._taken[key] = at
            metrics.SNAPSHOT_SECONDS.observe(monotonic() - started)
            metrics.SNAPSHOT_BYTES.inc(sum(len(part.state) for part in parts))
        state.saved(at)

    async def _prune(self, states: Iterable[Key]) -> None:
        committed: dict[str, dict[int, int]] = {}
        for topic, partition in states:
            at = self._owner.committed((topic, partition))
            if at is not None:
                committed.setdefault(topic, {})[partition] = at
        for topic, offsets in committed.items():
            await asyncio.to_thread(self._snapshots.prune, topic, offsets)
