"""What is remembered of each group for a rule's window, and how much of it the window holds at each event.

Everywhere here rows are sorted by group, in order of arrival within each, and their times never run backwards
within one. Two events are in one window if less than the timespan lies between them. Of each group as much is
kept as the rule counts, whatever comes: an event_count of 5 the last 159 times, if they are in the window.
"""

from itertools import pairwise

import numpy as np

from detectors.clock import NEVER_MS, Clock
from detectors.growing import grown
from detectors.keys import Key, Keys
from detectors.rules.compiled import MAX_SELECTIONS, Window
from detectors.saved import Saved
from detectors.segments import running_max
from detectors.sliding_log import SlidingLog
from schemas.batch import Bools, Column, Int64s


class Groups:
    """The groups that events of some rules belong to.

    Attributes
    ----------
    keys
        Tenant; rule and fields; their values.
    last_ms, timespan_ms
        ``(k,)`` the latest event of each, and how long it counts.
    """

    saved = Saved()

    def __init__(self) -> None:
        self.keys: Keys[Key] = Keys()
        self.last_ms, self.timespan_ms = np.zeros((2, 0), np.int64)

    def touch(self, slot: Int64s, last_ms: Int64s, timespan_ms: int) -> None:
        """Note the latest events of groups."""
        self.last_ms[slot], self.timespan_ms[slot] = last_ms, timespan_ms

    def reserve(self) -> None:
        """Make room for what `keys` has met."""
        self.last_ms = grown(self.last_ms, len(self.keys), NEVER_MS)
        self.timespan_ms = grown(self.timespan_ms, len(self.keys), 0)

    def sweep(self, clock: Clock) -> Bools | None:
        """Forget groups of whose events none counts any more; return ``(k,)`` which stay, None: all."""
        if not self.keys.crowded:
            return None
        k = len(self.keys)
        kept: Bools = self.last_ms[:k] + self.timespan_ms[:k] > self.keys.by_tenant(clock.settled_ms)
        self.keys.keep(kept)
        self.last_ms, self.timespan_ms = self.last_ms[:k][kept], self.timespan_ms[:k][kept]
        return kept


class EventCounts:
    """The latest times of each group: how many events are in the window."""

    saved = Saved()

    def __init__(self) -> None:
        self.groups = Groups()
        self._log = SlidingLog()

    def counts(self, slot: Int64s, starts: Int64s, time_ms: Int64s, window: Window, least: int) -> Int64s:
        """Return ``(n,)`` how many events the window holds at each, up to `Window.counted`.

        Parameters
        ----------
        slot, starts
            ``(g,)`` the groups, and the first row of each.
        time_ms
            ``(n,)``.
        window
            An event_count.
        least
            Fewer are told as 0.
        """
        self._log.reserve(len(self.groups.keys))
        return self._log.add_counted(slot, starts, time_ms, window.timespan_ms, least, window.counted)

    def sweep(self, clock: Clock) -> None:
        """Forget what no verdict can depend on any more."""
        kept = self.groups.sweep(clock)
        if kept is not None:
            self._log.keep(kept)


class ValueCounts:
    """The latest different values of each group, the one not met for longest first."""

    saved = Saved(containers={"_latest": list[dict[str, int]]})

    def __init__(self) -> None:
        self.groups = Groups()
        self._latest: list[dict[str, int]] = []

    def counts(self, slot: Int64s, starts: Int64s, time_ms: Int64s, window: Window, values: Column) -> Int64s:
        """Return ``(n,)`` how many different values the window holds at each event, up to `Window.counted`.

        Parameters
        ----------
        values
            ``(n,)`` texts.
        slot, starts, time_ms, window
            As in `EventCounts.counts`; a value_count.
        """
        missing = len(self.groups.keys) - len(self._latest)
        self._latest.extend({} for _ in range(missing))
        found = np.zeros(len(time_ms), np.int64)
        times, most = time_ms.tolist(), window.counted
        for group, (start, stop) in zip(slot.tolist(), pairwise([*starts.tolist(), len(times)]), strict=True):
            latest = self._latest[group]
            for at in range(start, stop):
                value, now_ms = values[at], times[at]
                # A dict keeps its keys in the order in which they were put in.
                latest.pop(value, None)
                latest[value] = now_ms
                while latest[oldest := next(iter(latest))] <= now_ms - window.timespan_ms:
                    del latest[oldest]
                if len(latest) > most:
                    del latest[oldest]
                found[at] = len(latest)
        return found

    def sweep(self, clock: Clock) -> None:
        """Forget what no verdict can depend on any more."""
        kept = self.groups.sweep(clock)
        if kept is not None:
            self._latest = [self._latest[i] for i in kept.nonzero()[0].tolist()]


class Steps:
    """When each group last met each selection of a rule, or, in order, all of them up to it."""

    saved = Saved()

    def __init__(self) -> None:
        self.groups = Groups()
        self._met_ms: Int64s = np.zeros((0, MAX_SELECTIONS), np.int64)

    def met(self, slot: Int64s, starts: Int64s, time_ms: Int64s, window: Window, selected: Bools) -> Int64s:
        """Return ``(n,)`` how many different selections the window holds at each event.

        In order: how many, from the first, came one after the other.

        Parameters
        ----------
        selected
            ``(n, s)`` which selections each event belongs to.
        slot, starts, time_ms, window
            As in `EventCounts.counts`; a temporal or temporal_ordered.
        """
        n, s = selected.shape
        self._met_ms = grown(self._met_ms, len(self.groups.keys), NEVER_MS)
        before = self._met_ms[slot, :s]
        if window.type == "temporal":
            met = running_max(np.where(selected, time_ms[:, None], NEVER_MS), starts, before)
        else:
            met = np.empty((n, s), np.int64)
            # When the latest sequence of selections up to this one began: with an event of the first, or
            # where that of the selection before it did, as it stood before this event.
            began = time_ms
            for i in range(s):
                met[:, i] = running_max(np.where(selected[:, i], began, NEVER_MS), starts, before[:, i])
                began = np.concatenate((before[:1, i], met[:-1, i]))
                began[starts] = before[:, i]
        self._met_ms[slot, :s] = met[np.append(starts[1:], n) - 1]
        live: Int64s = (met > time_ms[:, None] - window.timespan_ms).sum(axis=1)
        return live

    def sweep(self, clock: Clock) -> None:
        """Forget what no verdict can depend on any more."""
        kept = self.groups.sweep(clock)
        if kept is not None:
            self._met_ms = self._met_ms[: len(kept)][kept]
