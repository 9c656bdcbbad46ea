"""Retention that runs by itself: one worker of all, once a day, and only by a clock that can be right."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from time import monotonic
from typing import Final, Protocol

import structlog

from store.database import Database, Fenced, StoreUnavailable
from store.ownership import Claim, Ownership
from store.retention import newest_known, run_retention, store_time
from store.seals.keys import Signer
from store.vault import Vault, VaultBusy
from store.vault_expiry import expire_people
from streams import metrics
from streams.topics import TOPIC_OF

log = structlog.get_logger()
# Also how soon after a start: a worker that is restarted every day would otherwise never come to it.
TURN_S: Final = 60.0
INTERVAL_S: Final = 24 * 3600.0
# After a turn that the store or the clock did not allow.
RETRY_S: Final = 3600.0
# Whose owner does it. Two that count at once what neither has deleted yet count it twice.
DECIDING: Final = (TOPIC_OF["auth"], 0)
# A worker's clock beside the server's.
MAX_SKEW: Final = timedelta(minutes=5)
# By how much a clock may run ahead while nothing is heard of this process, off or suspended: a long weekend.
MAX_ABSENCE: Final = timedelta(days=4)


class ClaimedState(Protocol):
    """What retention looks at in a partition's state."""

    @property
    def claim(self) -> Claim:
        """Under which its rows are stored."""


class Owner(Protocol):
    """Who has the partitions' states."""

    @property
    def states(self) -> Mapping[tuple[str, int], ClaimedState]:
        """By topic and partition."""


class Retainer:
    """Runs retention while this worker owns the partition that decides who does.

    Parameters
    ----------
    owner
        Of the partitions.
    database, ownership
        Where the events are, and what guards the account of what is removed.
    signer
        Returns what signs that account; None where nothing is sealed.
    vault
        Whose people expire with their events.
    now
        The wall clock, aware.
    """

    def __init__(
        self,
        owner: Owner,
        database: Database,
        ownership: Ownership,
        signer: Callable[[], Signer | None],
        vault: Vault | None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._owner = owner
        self._database = database
        self._ownership = ownership
        self._signer = signer
        self._vault = vault
        self._now = now
        self._due_at: float | None = None
        # Whether the wait until then is for a clock that jumped.
        self._doubting = False
        # Both clocks at the last turn.
        self._looked: tuple[datetime, float] | None = None

    async def run(self) -> None:
        """Take turns until cancelled."""
        while True:
            try:
                await self.turn()
            except (StoreUnavailable, VaultBusy) as error:
                self._postpone(str(error)[:500])
            except Fenced:
                log.info("retention_left_to_the_next_owner")
            await asyncio.sleep(TURN_S)

    async def turn(self) -> bool:
        """Run retention if it is due, ours, and the clock can be right; return whether it ran.

        The first turn only looks at the clock, before events are stored by it.
        """
        now = self._now()
        jumped = self._jumped(now)
        if jumped and not self._doubting:
            # Once: a machine that sleeps a week between two days of work would else never come to it.
            self._due_at, self._doubting = monotonic() + self._doubted(jumped), True
        elif self._due_at is None:
            self._due_at = monotonic() + await self._doubt_s()
            return False
        if monotonic() < self._due_at:
            return False
        metrics.CLOCK_DOUBTED.set(0)
        self._doubting = False
        state = self._owner.states.get(DECIDING)
        if state is None:
            return False
        if self._database.shared:
            theirs = await asyncio.to_thread(store_time, self._database)
            if abs(theirs - now) > MAX_SKEW:
                metrics.CLOCK_DOUBTED.set(1)
                self._postpone(f"the clock here says {now}, ClickHouse's {theirs}: set the wrong one right")
                return False
        self._due_at = monotonic() + INTERVAL_S
        guard = partial(self._ownership.guard, [state.claim])
        await asyncio.to_thread(run_retention, self._database, now, self._signer(), guard)
        if self._vault is not None:
            await asyncio.to_thread(expire_people, self._database, self._vault, now)
        return True

    def _jumped(self, now: datetime) -> str | None:
        """Return what is wrong with the clock, if it ran far ahead since the last turn.

        That is by the clock that stands still while the machine sleeps. `CLOCK_BOOTTIME` goes on, but by what
        the wall clock's own chip says of the sleep.
        """
        before, self._looked = self._looked, (now, monotonic())
        if before is None:
            return None
        passed = timedelta(seconds=self._looked[1] - before[1])
        if now - before[0] - passed <= MAX_ABSENCE:
            return None
        return f"the clock says {now}, and said {before[0]} when this process last looked, {passed} ago"

    async def _doubt_s(self) -> float:
        """Return for how long after the start the clock is not believed.

        A day, where it is far ahead of all that the store knows: a clock that is set right meanwhile has
        deleted nothing, and a machine that was off for so long loses a day.
        """
        if self._database.shared:
            return 0.0
        known, now = await asyncio.to_thread(newest_known, self._database), self._now()
        if known is None or now - known <= MAX_ABSENCE:
            return 0.0
        return self._doubted(f"the clock says {now}, and the newest that the store knows is of {known}")

    def _doubted(self, reason: str) -> float:
        """Say that the clock is not believed, and return for how long."""
        metrics.CLOCK_DOUBTED.set(1)
        log.error(
            "retention_postponed",
            reason=reason,
            fix="set the clock right, if it is wrong; if it is right, there is nothing to do",
            wait_s=INTERVAL_S,
        )
        return INTERVAL_S

    def _postpone(self, reason: str) -> None:
        if self._due_at is not None:
            self._due_at = monotonic() + RETRY_S
        log.error("retention_postponed", reason=reason, wait_s=RETRY_S)
