"""Sealing that runs by itself: what is new in this worker's partitions, every minute and at 10,000 rows."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from time import monotonic
from typing import Final, Protocol

import structlog

from store.database import Database, Fenced, StoreUnavailable
from store.events import KafkaIds
from store.ownership import Claim, Ownership
from store.seals.anchors import Anchor, AnchorBook
from store.seals.keys import SealKeys
from store.seals.seal import ChainId, Seal
from store.seals.sealing import Sealing, Stretch, Weight
from streams import metrics
from streams.topics import KIND_OF
from streams.unsealed import Unsealed
from streams.webhooks.address import Network

log = structlog.get_logger()
# Rarely enough to cost nothing; a look that comes late finds several seals to be made, one after the other.
CHECK_S: Final = 1.0
# Where there is nothing to seal, or the last try failed: each begins with reading where the chains end.
LATER_S: Final = 5.0
# Read and hashed together; some 500 bytes each while that lasts.
ROWS_AT_ONCE: Final = 125_000
# No partition waits with more, whatever the time and the tenants: it bounds the memory that a seal needs.
MAX_WAITING_ROWS: Final = 250_000
Key = tuple[str, int]


class SealedState(Protocol):
    """What is asked of a partition's state."""

    @property
    def claim(self) -> Claim:
        """Under which its rows are stored."""

    @property
    def first_offset(self) -> int:
        """What was committed when it was taken over."""


class Owner(Protocol):
    """Who has the partitions."""

    @property
    def states(self) -> Mapping[Key, SealedState]:
        """By topic and partition; another dictionary after each assignment."""

    def committed(self, key: Key) -> int | None:
        """Return the committed offset of a partition, where it is known."""


@dataclass(frozen=True)
class SealingConfig:
    """How a worker seals and anchors; every value is a setting of `tenantwatch`.

    Parameters
    ----------
    ring
        The signing key of the moment: it can be rotated.
    book
        Remembers the heads beside the store.
    interval_s, max_rows
        A partition is sealed when its oldest row is this old, or a tenant of it has so many.
    anchor_interval_s, anchor_webhook, anchor_topic, webhook_allow
        How often the newest heads are kept outside the store, and where besides the book.
    """

    ring: SealKeys
    book: AnchorBook
    interval_s: float = 60.0
    max_rows: int = 10_000
    anchor_interval_s: float = 600.0
    anchor_webhook: str | None = None
    anchor_topic: str | None = None
    webhook_allow: Sequence[Network] = ()


class Sealer:
    """Seals the rows of this worker's partitions.

    Parameters
    ----------
    owner
        Of the partitions.
    database, ids
        Where the rows are, and of which Kafka cluster.
    config
        When a partition is sealed, and with which key.
    now
        The time, aware.
    """

    def __init__(
        self,
        owner: Owner,
        database: Database,
        ids: KafkaIds,
        config: SealingConfig,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._owner = owner
        self._ids = ids
        self._ownership = Ownership(database, ids)
        self._sealing = Sealing(database, ids)
        self._config = config
        self._now = now
        self._states: Mapping[Key, SealedState] | None = None
        self._heads: dict[ChainId, Seal] = {}
        self._cut: set[int] = set()
        # What is stored is to be counted here.
        self.unsealed = Unsealed()
        # The oldest row that waits, as far as is known; while the store is away, when that was first found.
        self._oldest_ms: float | None = None
        # The insert of which the store has not said what became of it.
        self._undecided: str | None = None
        self._sealing_now = asyncio.Lock()
        self._finishing = False

    async def run(self) -> None:
        """Seal until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S if self._states is not None else LATER_S)
            try:
                while await self.seal():
                    pass  # there was more than is sealed at once
            except StoreUnavailable as error:
                log.warning("sealing_postponed", error=str(error)[:500])

    async def finish(self, within_s: float) -> None:
        """Seal what is committed, if that can be done in a given time; nothing is begun after it."""
        self._finishing = True
        try:
            async with asyncio.timeout(within_s):
                await self.seal(everything=True)
        except (TimeoutError, StoreUnavailable) as error:
            log.info("sealing_left_to_the_next_start", reason=type(error).__name__)

    def anchors(self) -> list[Anchor]:
        """Return the heads of this worker's partitions."""
        return [Anchor.of(seal) for chain, seal in self._heads.items() if not chain.tenant_id]

    async def seal(self, *, everything: bool = False) -> bool:
        """Seal the partitions that are due; return whether some of them have more.

        Raises
        ------
        StoreUnavailable
            If the store does not answer; what was to be sealed is sealed later.
        """
        async with self._sealing_now:
            if self._finishing and not everything:
                # Where `finish` gives up, its thread goes on: a seal of the same rows would fork the chain.
                return False
            states = self._owner.states
            claims = _whole_partitions(states)
            if not claims:
                self._states, self._heads = None, {}
                self._report_age(None)
                return False
            try:
                if self._states is not states:
                    await self._look_back(states, claims)
                return await self._seal_due(states, claims, everything)
            except StoreUnavailable:
                self._report_age(self._oldest_ms or 1000 * self._now().timestamp())
                raise

    def _report_age(self, oldest_ms: float | None) -> None:
        self._oldest_ms = oldest_ms
        age_s = 0.0 if oldest_ms is None else max(self._now().timestamp() - oldest_ms / 1000, 0.0)
        metrics.UNSEALED_AGE.set(age_s)

    async def _look_back(self, states: Mapping[Key, SealedState], claims: Mapping[int, list[Claim]]) -> None:
        """Read the heads that the last owners left, and see whether they are what is remembered here."""
        if self._undecided is not None:
            await asyncio.to_thread(self._ownership.end_insert, self._undecided)
            self._undecided = None
        self._heads = await asyncio.to_thread(self._sealing.heads, list(claims))
        remembered = await asyncio.to_thread(self._config.book.heads)
        cut = []
        for partition in claims:
            known = remembered.get((self._ids.cluster_id, partition))
            head = self._heads.get(self._sealing.partition_chain(partition))
            if known is None or (head is not None and head.sequence > known.sequence):
                continue
            if head is None or head.digest != known.digest:
                log.error("seal_chain_cut", partition=partition, sequence=known.sequence)
                cut.append(known)
        if cut:  # the next heads will take their place: what `verify` compares with must stay
            await asyncio.to_thread(self._config.book.append, cut)
        self._cut = {anchor.partition for anchor in cut}
        metrics.SEAL_CHAINS_CUT.set(len(self._cut))
        self.unsealed.keep(claims)
        await self._count([self._stretch(states, partition) for partition in claims])
        self._states = states

    async def _count(self, stretches: Sequence[Stretch]) -> None:
        """Ask the store what waits in some stretches: what others stored there was not counted here."""
        some = [stretch for stretch in stretches if stretch.offsets]
        weights = await asyncio.to_thread(self._sealing.weigh, some) if some else {}
        self.unsealed.found(stretches, weights)

    async def _seal_due(
        self, states: Mapping[Key, SealedState], claims: Mapping[int, list[Claim]], everything: bool
    ) -> bool:
        stretches = [s for partition in claims if (s := self._stretch(states, partition)).offsets]
        weights = [self.unsealed.weight(stretch) for stretch in stretches]
        now = self._now()
        oldest_ms = min((weight.oldest_ms for weight in weights if weight.rows), default=None)
        self._report_age(oldest_ms)
        due, rest = [], []
        for stretch, weight in zip(stretches, weights, strict=True):
            if not everything and not self._is_due(stretch, weight, now):
                continue
            if weight.rows > ROWS_AT_ONCE:
                rest.append(stretch.partition)
                stretch = stretch.cut(ROWS_AT_ONCE / weight.rows)
            due.append((stretch, min(weight.rows, ROWS_AT_ONCE)))
        for group in _groups(due):
            await self._seal_group(group, [c for s in group for c in claims[s.partition]])
        if self._states is states:
            await self._count([self._stretch(states, partition) for partition in rest])
        sealed_all = not rest and len(due) == len(stretches)
        self._report_age(None if sealed_all else oldest_ms)
        return bool(rest)

    def _stretch(self, states: Mapping[Key, SealedState], partition: int) -> Stretch:
        ends = {}
        for topic in KIND_OF:
            committed = self._owner.committed((topic, partition))
            ends[topic] = max(committed or 0, states[topic, partition].first_offset)
        return self._sealing.stretch(
            partition, self._heads.get(self._sealing.partition_chain(partition)), ends
        )

    def _is_due(self, stretch: Stretch, weight: Weight, now: datetime) -> bool:
        if weight.largest >= self._config.max_rows or weight.rows >= MAX_WAITING_ROWS:
            return True
        if weight.rows:
            return now.timestamp() - weight.oldest_ms / 1000 >= self._config.interval_s
        # Nothing but dead letters. Their offsets are sealed all the same, or a row could be put there later.
        head = self._heads.get(self._sealing.partition_chain(stretch.partition))
        if head is None:
            return True
        return (now - datetime.fromisoformat(head.sealed_at)).total_seconds() >= self._config.interval_s

    async def _seal_group(self, group: Sequence[Stretch], claims: Iterable[Claim]) -> None:
        guard = self._ownership.guard(claims)
        started = monotonic()
        work = partial(self._sealing.seal, group, self._heads, self._config.ring.signer, self._now(), guard)
        try:
            made = await asyncio.to_thread(work)
        except Fenced:
            self._states = None
            log.info("seals_fenced", partitions=[s.partition for s in group])
            return
        except StoreUnavailable:
            # They may be there, or come yet: `_look_back` decides that before anything follows them.
            self._states = None
            self._undecided = guard.query_id
            raise
        self._heads |= {seal.chain: seal for seal in made}
        for stretch in group:
            self.unsealed.sealed(stretch)
        own = [seal for seal in made if not seal.chain.tenant_id]
        await asyncio.to_thread(self._config.book.remember, [Anchor.of(seal) for seal in own])
        rows = sum(seal.rows for seal in own)
        metrics.SEALS.inc(len(made))
        metrics.ROWS_SEALED.inc(rows)
        metrics.SEAL_SECONDS.observe(monotonic() - started)
        log.info("rows_sealed", partitions=len(own), seals=len(made), rows=rows)


def _whole_partitions(states: Mapping[Key, SealedState]) -> dict[int, list[Claim]]:
    """Return the partition numbers of which every event topic is this worker's, with the claims."""
    found: dict[int, list[Claim]] = {}
    for (topic, number), state in states.items():
        if topic in KIND_OF:
            found.setdefault(number, []).append(state.claim)
    return {number: claims for number, claims in found.items() if len(claims) == len(KIND_OF)}


def _groups(due: Sequence[tuple[Stretch, int]]) -> list[list[Stretch]]:
    """Return stretches in groups that are read together: one pass over the newest rows for all of them."""
    groups: list[list[Stretch]] = []
    room = 0
    for stretch, rows in due:
        if rows > room or not groups:
            groups.append([])
            room = ROWS_AT_ONCE
        groups[-1].append(stretch)
        room -= rows
    return groups
