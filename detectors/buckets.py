"""Leaky buckets over many keys at once, exact in integers, and the episodes they open.

A bucket of size C that leaks one event every tau holds ``L <- max(0, L - dt/tau) + 1`` and alarms at
``L > C``. Kept here is E, the time at which it will be empty: ``E <- max(t, E) + tau``, level
``(E - t)/tau``. For a key's n-th event E - n tau is a running maximum of t - (n - 1) tau, so a whole batch
needs no loop, and integers make every split of a stream give the same level to the millisecond.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.clock import NEVER_MS, Clock
from detectors.episodes import Episode, Episodes, Teller, alert_of
from detectors.keys import Key, Keys, grown
from detectors.segments import by_key, group_of, running_count, running_max, starts_of
from detectors.spells import MAX_RECENT, Recent, Spell
from detectors.tally import Tally
from schemas.alert import Alert
from schemas.batch import Bools, Int64s

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets that hold for a tenant.

    Parameters
    ----------
    sizes
        Events that each bucket holds; 0: it never alarms. The last one counts only new values.
    leaks_ms
        Milliseconds in which each leaks one event.
    quiet_ms
        When an episode is over.
    watch_share
        How full a bucket must be to matter to rows that only look.
    """

    sizes: tuple[int, ...]
    leaks_ms: tuple[int, ...]
    quiet_ms: int
    watch_share: float = 1.0


@dataclass(slots=True)
class Events:
    """What a rule looks at in a batch, in order of arrival.

    Parameters
    ----------
    slot
        ``(n,)`` the key's number.
    time_ms
        ``(n,)`` event times.
    rule
        ``(n,)`` position of the tenant's `Buckets`.
    event_ids, values
        ``(n,)`` ids, and what is counted as new or not (an address's users); None is never new.
    marks
        ``(n,)`` what the rule wants to know the share of, e.g. that the user is unknown.
    counts
        ``(n,)`` False where a row only asks how full the key's buckets are.
    forced
        ``(n,)`` True where a row opens an episode whatever the level.
    """

    slot: Int64s
    time_ms: Int64s
    rule: Int64s
    event_ids: Sequence[str]
    values: Sequence[str | None]
    marks: Bools
    counts: Bools
    forced: Bools


def fill(
    time_ms: Int64s, counts: Bools, starts: Int64s, empty_ms: Int64s, leak_ms: Int64s
) -> tuple[Int64s, Int64s]:
    """Return level and time of emptiness of every bucket after each row.

    Parameters
    ----------
    time_ms
        ``(n,)`` sorted by key; never running backwards within one.
    counts
        ``(n,)`` whether the row fills the buckets.
    starts
        ``(g,)`` first row of each key.
    empty_ms, leak_ms
        ``(g, b)`` when each key's buckets would have been empty, and how they leak.

    Returns
    -------
    level_ms, empty_ms
        ``(n, b)``; the level is in milliseconds until empty.

    >>> at, two = np.array([0, 1_000, 9_000]), np.array([[0]])
    >>> level_ms, _ = fill(at, np.ones(3, bool), np.array([0]), two, np.array([[2_000]]))
    >>> level_ms[:, 0].tolist()
    [2000, 3000, 2000]
    """
    group = group_of(starts, len(time_ms))
    leak = leak_ms[group]
    filled = running_count(counts, starts)[:, None] * leak
    # A row that only looks leaves the maximum where it is.
    floor = np.where(counts[:, None], time_ms[:, None] - filled + leak, empty_ms[group])
    empty = running_max(floor, starts, empty_ms) + filled
    return np.maximum(empty - time_ms[:, None], 0), empty


class BucketRule:
    """Buckets by key, and an episode for each key whose bucket runs over.

    Parameters
    ----------
    teller
        Names the episodes.
    width
        Buckets of each key.

    Attributes
    ----------
    keys
        Numbers of the keys.
    empty_ms
        ``(k, width)`` when each bucket will be empty.
    last_ms
        ``(k,)`` time of the key's latest event: it never runs backwards.
    watched_ms, watched_until_ms
        ``(k,)`` until when rows that only look must be folded: a bucket is as full as
        `Buckets.watch_share`; and the latest of these times there has been.
    in_alarm
        ``(k,)`` whether an episode is open.
    spells
        ``(k,)`` what else is remembered.
    """

    def __init__(self, teller: Teller, width: int) -> None:
        self.teller = teller
        self.keys: Keys[Key] = Keys()
        self.episodes = Episodes()
        self.empty_ms: Int64s = np.full((0, width), NEVER_MS, np.int64)
        self.last_ms: Int64s = np.full(0, NEVER_MS, np.int64)
        self.watched_ms: Int64s = np.full(0, NEVER_MS, np.int64)
        self.watched_until_ms = NEVER_MS
        self.in_alarm: Bools = np.zeros(0, np.bool_)
        self.spells: list[Spell | None] = []

    def fold(self, events: Events, rules: Sequence[Buckets]) -> tuple[list[Alert], Floats]:
        """Return revisions, and ``(n,)`` how full the fullest bucket was after each row; over 1: alarm."""
        self._reserve()
        alerts: list[Alert] = []
        fullness = np.zeros(len(events.slot))
        left: Int64s = np.arange(len(events.slot))
        while len(left):
            # A key whose episode ends in mid-batch starts afresh there: its other rows take another pass.
            one_pass = Pass(self, events, rules, left)
            fullness[one_pass.order] = one_pass.fullness
            left = one_pass.follow(alerts)
        return alerts, fullness

    def suspects(self, slot: Int64s, time_ms: Int64s, rules: Sequence[Buckets], rule: Int64s) -> Int64s:
        """Return the keys that may become as full as `Buckets.watch_share` in a batch.

        Few do, and rows that only look need not be folded for the others.

        Parameters
        ----------
        slot, time_ms, rule
            ``(m,)`` of the batch's rows that fill buckets.
        """
        self._reserve()
        keys, first, counts = np.unique(slot, return_index=True, return_counts=True)
        if not len(keys):
            return keys
        least_ms = time_ms.min()
        sizes, leaks_ms, share = _columns(rules, rule[first])
        level = np.maximum(self.empty_ms[keys] - least_ms, 0) / leaks_ms + counts[:, None]
        # A hair less, so that rounding cannot leave out what the fold itself finds just full enough.
        may = (sizes > 0) & (level >= share[:, None] * sizes - 1e-6)
        suspects: Int64s = keys[may[:, :-1].any(axis=1)]
        return suspects

    def _reserve(self) -> None:
        n = len(self.keys)
        self.empty_ms = grown(self.empty_ms, n, NEVER_MS)
        self.last_ms = grown(self.last_ms, n, NEVER_MS)
        self.watched_ms = grown(self.watched_ms, n, NEVER_MS)
        self.in_alarm = grown(self.in_alarm, n, False)
        self.spells.extend([None] * (n - len(self.spells)))

    def settle(self, tenant_id: str, settled_ms: int) -> list[Alert]:
        """Return the last revision of the tenant's episodes that are over."""
        over = self.episodes.end_due(tenant_id, settled_ms)
        for episode in over:
            self.forget(self.keys.slot_of(episode.key))
        return [alert_of(self.teller, episode, "resolved") for episode in over]

    def forget(self, slot: int) -> None:
        """Let a key start afresh."""
        self.empty_ms[slot] = NEVER_MS
        self.last_ms[slot] = NEVER_MS
        self.watched_ms[slot] = NEVER_MS
        self.in_alarm[slot] = False
        self.spells[slot] = None

    def sweep(self, clock: Clock) -> None:
        """Drop keys whose buckets are empty: they are as if never seen, so no verdict changes."""
        if not self.keys.crowded:
            return
        n = len(self.keys)
        settled_ms = np.fromiter((clock.settled_ms(key[0]) for key in self.keys.names), np.int64, n)
        kept = self.in_alarm[:n] | (self.empty_ms[:n] > settled_ms[:, None]).any(axis=1)
        self.keys.keep(kept)
        self.empty_ms = self.empty_ms[:n][kept]
        self.last_ms = self.last_ms[:n][kept]
        self.watched_ms = self.watched_ms[:n][kept]
        self.in_alarm = self.in_alarm[:n][kept]
        self.spells = [self.spells[slot] for slot in np.flatnonzero(kept).tolist()]


def _columns(rules: Sequence[Buckets], number: Int64s) -> tuple[Int64s, Int64s, Floats]:
    """Return ``(g, b)`` sizes and leaks, and ``(g,)`` shares, of the rules given by number."""
    return (
        np.array([b.sizes for b in rules], np.int64)[number],
        np.array([b.leaks_ms for b in rules], np.int64)[number],
        np.array([b.watch_share for b in rules])[number],
    )


class Pass:
    """One pass over rows sorted by key, each key's up to the end of its episode.

    Parameters
    ----------
    rule
        The state, changed by `follow` only (but for the spells' known values).
    events, rules
        As given to `BucketRule.fold`.
    left
        ``(n,)`` the positions in `events` that the pass is about, ascending.
    """

    def __init__(self, rule: BucketRule, events: Events, rules: Sequence[Buckets], left: Int64s) -> None:
        self.rule = rule
        self.order = order = left[by_key(events.slot[left])]
        slot = events.slot[order]
        self.starts = starts_of(slot)
        self.slot = slot[self.starts]
        self.group = group = group_of(self.starts, len(order))
        number = events.rule[order][self.starts]
        self.buckets = [rules[i] for i in number.tolist()]
        self.sizes, self.leaks_ms, self.watch_share = _columns(rules, number)
        counts = events.counts[order]
        own_ms = events.time_ms[order]
        self.latest_ms = running_max(np.where(counts, own_ms, NEVER_MS), self.starts, rule.last_ms[self.slot])
        time_ms = np.maximum(own_ms, self.latest_ms)
        self._take_rows(events, counts, time_ms)
        self._fill(counts, time_ms)
        need_ms = (self.sizes * self.leaks_ms)[group]
        shares = np.divide(self.level_ms, need_ms, out=np.zeros(need_ms.shape), where=need_ms > 0)
        self.fullest = shares.argmax(axis=1)
        self.fullness = shares.max(axis=1)
        over = (self.fullness > 1.0) | events.forced[order]
        self.over = over[self.counted]
        self.forced = events.forced[order][self.counted]
        # A row that only looks asks for the buckets of all events, and finds them empty once an episode
        # of the key would be over.
        looks = ~counts
        self.fullness[looks] = shares[looks, :-1].max(axis=1)
        quiet_ms = np.array([b.quiet_ms for b in rules], np.int64)[number]
        self.fullness[looks & (time_ms - self.latest_ms >= quiet_ms[group])] = 0.0

    def _take_rows(self, events: Events, counts: Bools, time_ms: Int64s) -> None:
        self.counted = np.flatnonzero(counts)
        picks = self.order[self.counted]
        self.times: list[int] = time_ms[self.counted].tolist()
        self.event_ids = [events.event_ids[i] for i in picks.tolist()]
        self.values = [events.values[i] for i in picks.tolist()]
        self.marks: list[bool] = events.marks[picks].tolist()

    def _fill(self, counts: Bools, time_ms: Int64s) -> None:
        before_ms = self.rule.empty_ms[self.slot]
        level_ms, empty_ms = fill(time_ms, counts, self.starts, before_ms[:, :-1], self.leaks_ms[:, :-1])
        # Every bucket was empty before this row: a spell begins.
        fresh = counts & (level_ms == self.leaks_ms[self.group, :-1]).all(axis=1)
        begins = fresh.copy()
        begins[self.starts] = True
        starts = np.flatnonzero(begins)
        self._find_runs(fresh, starts)
        level_new_ms = np.zeros((len(counts), 1), np.int64)
        empty_new_ms = np.full((len(counts), 1), NEVER_MS, np.int64)
        if np.any(self.sizes[:, -1]):
            new = np.zeros(len(counts), np.bool_)
            new[self.counted] = self._news()
            group = self.group[starts]
            before_new_ms = np.where(fresh[starts], NEVER_MS, before_ms[group, -1])
            level_new_ms, empty_new_ms = fill(
                time_ms, new, starts, before_new_ms[:, None], self.leaks_ms[group, -1:]
            )
        self.level_ms = np.concatenate((level_ms, level_new_ms), axis=1)
        self.empty_ms = np.concatenate((empty_ms, empty_new_ms), axis=1)

    def _find_runs(self, fresh: Bools, starts: Int64s) -> None:
        """Find the runs of counted rows that belong to one spell, and the spells."""
        run_starts = starts_of(group_of(starts, len(fresh))[self.counted])
        firsts = self.counted[run_starts]
        self.run_starts = run_starts.tolist()
        known = self.rule.spells
        self.spells = [
            (None if begins else known[slot]) or Spell()
            for slot, begins in zip(
                self.slot[self.group[firsts]].tolist(), fresh[firsts].tolist(), strict=True
            )
        ]

    def _news(self) -> list[bool]:
        """Return which counted rows bring their spell a new value."""
        new: list[bool] = []
        bounds = [*self.run_starts, len(self.counted)]
        for spell, start, stop in zip(self.spells, bounds, bounds[1:], strict=False):
            new.extend(spell.news(self.values[start:stop]))
        return new

    def follow(self, alerts: list[Alert]) -> Int64s:
        """Follow the keys' episodes, keep what comes of them, and return the rows for another pass."""
        rule = self.rule
        last = np.append(self.starts[1:], len(self.order)) - 1
        rule.empty_ms[self.slot] = self.empty_ms[last]
        rule.last_ms[self.slot] = self.latest_ms[last]
        needed_ms = np.floor(self.watch_share[:, None] * self.sizes * self.leaks_ms).astype(np.int64)
        watched_ms = np.where(self.sizes > 0, self.empty_ms[last] - needed_ms, NEVER_MS)[:, :-1].max(axis=1)
        rule.watched_ms[self.slot] = watched_ms
        rule.watched_until_ms = max(rule.watched_until_ms, int(watched_ms.max()))
        group = self.group[self.counted]
        starts = starts_of(group)
        bounds = [*starts.tolist(), len(group)]
        crossings = np.flatnonzero(self.over).tolist()
        urgent = np.flatnonzero(self.forced).tolist()
        slots = self.slot[group[starts]]
        alarmed = rule.in_alarm[slots]
        if crossings:
            alarmed = alarmed | np.logical_or.reduceat(self.over, starts)
        left: list[Int64s] = []
        for i, (slot, busy) in enumerate(zip(slots.tolist(), alarmed, strict=True)):
            start, stop = bounds[i], bounds[i + 1]
            if busy:
                key = rule.keys.names[slot]
                told, end = rule.episodes.follow(rule.teller, self, key, start, stop, crossings, urgent)
                alerts.extend(told)
                if end < stop:
                    rule.forget(slot)
                    left.append(self.order[self.counted[end] : last[group[start]] + 1])
                    continue
                rule.in_alarm[slot] = rule.episodes.find(key) is not None
            self._remember(slot, start, stop)
        return np.sort(np.concatenate(left)) if left else np.zeros(0, np.int64)

    def _remember(self, slot: int, start: int, stop: int) -> None:
        run = bisect_right(self.run_starts, stop - 1) - 1
        spell = self.spells[run]
        if self.rule.in_alarm[slot]:
            spell.recent = []
        else:
            spell.remember(self._recent(max(start, self.run_starts[run], stop - MAX_RECENT), stop))
        self.rule.spells[slot] = spell

    def _recent(self, start: int, stop: int) -> Iterable[Recent]:
        rows = slice(start, stop)
        return zip(self.times[rows], self.event_ids[rows], self.values[rows], self.marks[rows], strict=True)

    def begin(self, key: Key, at: int) -> Episode:
        """Return the episode that a row opens, with the events of its bucket's length before it."""
        row = self.counted[at]
        group = self.group[row]
        span_ms = int(self.sizes[group, self.fullest[row]] * self.leaks_ms[group, self.fullest[row]])
        run = bisect_right(self.run_starts, at) - 1
        start = max(self.run_starts[run], at + 1 - MAX_RECENT)
        events = [*self.spells[run].recent, *self._recent(start, at + 1)][-MAX_RECENT:]
        since_ms = self.times[at] - span_ms
        events = [event for event in events[:-1] if event[0] > since_ms] + events[-1:]
        times, event_ids, values, marks = zip(*events, strict=True)
        tally = Tally()
        tally.add(values, marks)
        quiet_ms = self.buckets[group].quiet_ms
        episode = Episode(key, times[0], times[-1], self.times[at], quiet_ms, facts=tally)
        episode.extend(event_ids, times[-1])
        return episode

    def gather(self, episode: Episode, start: int, stop: int) -> None:
        """Tally rows of an episode."""
        episode.facts.add(self.values[start:stop], self.marks[start:stop])

    def measure(self, episode: Episode, at: int) -> None:
        """Take the level of the row's fullest bucket, if it is as full as any before."""
        if episode.urgent or self.forced[at]:
            # One such event is enough, however full the buckets are.
            episode.score, episode.threshold = float(episode.facts.marks), 0.0
            return
        row = self.counted[at]
        group, bucket = self.group[row], self.fullest[row]
        size = int(self.sizes[group, bucket])
        level = float(self.level_ms[row, bucket] / self.leaks_ms[group, bucket])
        if size and level * episode.threshold >= episode.score * size:
            episode.score, episode.threshold = level, float(size)
