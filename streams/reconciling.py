"""Reconciliation that runs by itself: each minute what is new, each hour all of it."""

import asyncio
from datetime import UTC, datetime
from time import monotonic, time
from typing import Final

import structlog

from store.database import Database, StoreUnavailable
from store.duplicates import collapse
from store.events import KafkaIds
from store.ledger_totals import newest_totals, next_step, prune_ledger
from store.reconciliation import Gap, Reconciliation, reconcile
from streams import metrics
from streams.snapshots import Owner

log = structlog.get_logger()
INTERVAL_S: Final = 60.0
# After the start. A minute after it retention runs, and old snapshots go: not all of that at once.
FIRST_S: Final = 40.0
# All of it reads a few columns of every event there is, and the ledger from the last such check on.
WHOLE_INTERVAL_S: Final = 3600.0
# Where something is wrong, sooner; and within the five minutes after which the alert fires, so that what was
# seen while retention was at work is looked at again first.
OPEN_INTERVAL_S: Final = 120.0


class Reconciler:
    """Checks this worker's partitions.

    Parameters
    ----------
    owner
        Of the partitions.
    database, ids
        Where the ledger and the rows are, and of which Kafka cluster.
    """

    def __init__(self, owner: Owner, database: Database, ids: KafkaIds) -> None:
        self._owner = owner
        self._database = database
        self._ids = ids
        self._reached: dict[str, dict[int, int]] = {}
        self._whole_at: dict[str, float] = {}
        # What a check of all found, until another finds it closed: the next minute's looks at what is new.
        self._open: dict[str, list[Gap]] = {}

    async def run(self) -> None:
        """Check until cancelled."""
        await asyncio.sleep(FIRST_S)
        while True:
            try:
                await self.check()
            except StoreUnavailable as error:
                log.warning("reconciliation_postponed", error=str(error)[:500])
            await asyncio.sleep(INTERVAL_S)

    async def check(self) -> list[Gap]:
        """Check what is new since the last check; all of it now and then, and where something is wrong.

        Returns what does not add up, and that of earlier checks too until one finds that it does.
        """
        gaps: list[Gap] = []
        for topic, offsets in self._committed().items():
            if await self._is_due(topic, offsets):
                await self._check_whole(topic, offsets)
            gaps += [gap for gap in self._open[topic] if gap.partition in offsets]
        for gap in gaps:
            log.error(
                "reconciliation_gap",
                topic=gap.topic,
                partition=gap.partition,
                kind=gap.kind,
                detail=gap.detail,
            )
        metrics.RECONCILIATION_GAPS.set(len(gaps))
        metrics.RECONCILED_AT.set(time())
        return gaps

    async def _is_due(self, topic: str, offsets: dict[int, int]) -> bool:
        """Return whether all of a topic is to be checked, having checked what is new where it is not yet."""
        interval_s = OPEN_INTERVAL_S if self._open.get(topic) else WHOLE_INTERVAL_S
        if topic not in self._whole_at or monotonic() - self._whole_at[topic] >= interval_s:
            return True
        known = self._reached[topic]
        if offsets.keys() - known.keys():  # taken over since; their last owners have checked them, too
            totals = await asyncio.to_thread(newest_totals, self._database, self._ids, topic)
            known = {p: total.next_offset for p, total in totals.items()} | known
        since = {p: at for p, at in known.items() if p in offsets}
        if since.keys() != offsets.keys():
            return True
        recent = await asyncio.to_thread(reconcile, self._database, self._ids, topic, None, since)
        if recent.gaps:
            return True
        self._reach(topic, {a.partition: a.next_offset for a in recent.accounts})
        return False

    async def _check_whole(self, topic: str, offsets: dict[int, int]) -> None:
        found = await asyncio.to_thread(self._check_in_steps, topic, offsets)
        if await self._collapse(found.gaps):
            found = await asyncio.to_thread(self._check_in_steps, topic, offsets)
        self._open[topic] = found.gaps
        self._whole_at[topic] = monotonic()
        # A partition in which nothing was handled has no account yet; it will begin at the committed offset.
        self._reach(topic, offsets | {a.partition: a.next_offset for a in found.accounts})
        await asyncio.to_thread(prune_ledger, self._database, self._ids, topic, datetime.now(UTC))

    def _check_in_steps(self, topic: str, offsets: dict[int, int]) -> Reconciliation:
        """Check up to some offsets; each step keeps its totals, so that the next reads no more than it."""
        reached: dict[int, int] = {}
        while True:
            step = next_step(self._database, self._ids, topic, offsets)
            if step == reached:  # something is wrong there, and is told by looking at all of it
                step = offsets
            found = reconcile(self._database, self._ids, topic, step, keep=True)
            if step == offsets:
                return found
            reached = step

    async def _collapse(self, gaps: list[Gap]) -> bool:
        """Remove rows that are there twice; return whether any were."""
        removed = 0
        for gap in gaps:
            if gap.kind == "rows_extra":
                copies = await asyncio.to_thread(
                    collapse, self._database, self._ids, gap.topic, gap.partition
                )
                if copies:
                    log.error("duplicates_collapsed", topic=gap.topic, partition=gap.partition, rows=copies)
                    metrics.DUPLICATES_COLLAPSED.inc(copies)
                    removed += copies
        return removed > 0

    def _reach(self, topic: str, offsets: dict[int, int]) -> None:
        self._reached.setdefault(topic, {}).update(offsets)

    def _committed(self) -> dict[str, dict[int, int]]:
        committed: dict[str, dict[int, int]] = {}
        for topic, partition in self._owner.states:
            at = self._owner.committed((topic, partition))
            if at is not None:
                committed.setdefault(topic, {})[partition] = at
        return committed
