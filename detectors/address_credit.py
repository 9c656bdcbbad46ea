"""Failures at addresses where a tenant's people hardly ever get in: what is worth comparing across tenants.

Behind an office's proxy, a VPN's exit or a mobile carrier's NAT many people log in, and some of them mistype,
at several tenants in the same hour. There each success makes up for one failure; an attacker's address has
none, or few.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from detectors.attempts import are_attempts
from detectors.clock import WEEK_MS, Clock
from detectors.columns import Hashed, Tenants, named, taken
from detectors.growing import grown
from detectors.keys import Keys
from detectors.segments import by_key, group_of, running_count, running_max, starts_of
from schemas.batch import Bools, EventBatch, Int32s, Int64s

# A success is good for its own week and the next: an office that is empty over the weekend, or over
# Christmas, is still one on the first morning after it.
NEVER: Final = -(1 << 30)


@dataclass
class AddressCredit:
    """Successes by (tenant, address) that no failure has used up yet.

    Parameters
    ----------
    clock
        Watermark of each tenant.
    keys
        (tenant, address); only those with a success are kept.
    week
        ``(k,)`` number of the week in which each was last seen.
    credit
        ``(k, 2)`` successes left of that week, and of the one before.

    >>> from schemas.parse import parse
    >>> event = (
    ...     '{"kind":"auth","event_id":"%d","tenant_id":"tenant-a","time":"2026-01-01T00:00:0%dZ",'
    ...     '"service":"login","source_ip":"192.0.2.7","action":"login","outcome":"%s"}'
    ... )
    >>> outcomes = ("failure", "success", "failure", "failure")
    >>> batch = parse("auth", [(event % (i, i, each)).encode() for i, each in enumerate(outcomes)]).batch
    >>> AddressCredit().unexcused(batch).tolist()
    [0, 3]
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 3

    clock: Clock = field(default_factory=Clock)
    keys: Keys[tuple[str, str]] = field(default_factory=lambda: Keys(words=1, texts=1))
    week: Int32s = field(default_factory=lambda: np.zeros(0, np.int32))
    credit: Int32s = field(default_factory=lambda: np.zeros((0, 2), np.int32))

    def unexcused(self, batch: EventBatch) -> Int64s:
        """Return the positions of failed attempts that no success at their address makes up for.

        Parameters
        ----------
        batch
            Events of ``auth``; not changed. What is not to be evaluated counts for nothing.
        """
        attempts = are_attempts(batch) & named(batch.columns["source_ip"])
        rows = np.flatnonzero(batch.mask() & attempts)
        if not len(rows):
            return rows
        week = self.clock.read(batch, rows) // WEEK_MS
        parts = (Tenants(batch, rows), Hashed(taken(batch, "source_ip", rows)))
        failed = batch.failed[rows]
        slot = np.full(len(rows), -1, np.int64)
        won, lost = np.flatnonzero(~failed), np.flatnonzero(failed)
        slot[won] = self.keys.intern(parts, won)
        slot[lost] = self.keys.find(parts, lost)
        self.week = grown(self.week, len(self.keys), NEVER)
        self.credit = grown(self.credit, len(self.keys), 0)
        known = np.flatnonzero(slot >= 0)
        unexcused = slot < 0
        unexcused[known] = self._spend(slot[known], week[known], failed[known])
        self._sweep()
        return rows[unexcused]

    def _spend(self, slot: Int64s, week: Int64s, failed: Bools) -> Bools:
        """Return ``(n,)`` the failures that find no credit; take up the successes."""
        order = by_key(slot)
        slot, failed = slot[order], failed[order]
        starts = starts_of(slot)
        week = running_max(week[order], starts, self.week[slot[starts]].astype(np.int64))
        unexcused = np.zeros(len(slot), np.bool_)
        # A key's weeks one after the other; mostly the batch has one.
        nth_week = running_count(np.diff(week, prepend=week[:1]) != 0, starts)
        nth_week -= nth_week[starts][group_of(starts, len(slot))]
        for nth in range(int(nth_week.max(initial=-1)) + 1):
            rows = np.flatnonzero(nth_week == nth)
            unexcused[rows] = self._spend_in_week(slot[rows], week[rows], failed[rows])
        result = np.empty_like(unexcused)
        result[order] = unexcused
        return result

    def _spend_in_week(self, slot: Int64s, week: Int64s, failed: Bools) -> Bools:
        """Do this for rows sorted by key, those of each key in one week."""
        starts = starts_of(slot)
        keys, now = slot[starts], week[starts]
        passed, (this, last) = now - self.week[keys], self.credit[keys].T.astype(np.int64)
        last = np.where(passed == 0, last, np.where(passed == 1, this, 0))
        this = np.where(passed == 0, this, 0)
        # Credit is a walk that never goes below zero: where it would, a failure is not excused.
        walk = (this + last)[group_of(starts, len(slot))] + running_count(np.where(failed, -1, 1), starts)
        owed = running_max(-walk, starts, np.zeros(len(starts), np.int64))
        before = np.concatenate(([0], owed[:-1]))
        before[starts] = 0
        unexcused: Bools = owed > before
        ends = np.append(starts[1:], len(slot)) - 1
        left = (walk + owed)[ends]
        spent = running_count(failed & ~unexcused, starts)[ends]
        last = np.maximum(last - spent, 0)
        self.week[keys] = now
        self.credit[keys] = np.column_stack((left - last, last))
        return unexcused

    def _sweep(self) -> None:
        """Drop keys without credit: they are as if never seen."""
        if not self.keys.crowded:
            return
        n = len(self.keys)
        settled = self.keys.by_tenant(self.clock.settled_ms) // WEEK_MS
        kept = (self.week[:n] >= settled - 1) & self.credit[:n].any(axis=1)
        self.keys.keep(kept)
        self.week, self.credit = self.week[:n][kept], self.credit[:n][kept]
