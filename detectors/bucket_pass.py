"""Folding a batch into leaky buckets: all keys at once, and a loop only over those in alarm."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np

from detectors.bucket_state import BucketState
from detectors.buckets import Buckets, Events, Floats, columns_of, fill
from detectors.clock import NEVER_MS
from detectors.episode import Episode
from detectors.keys import Key
from detectors.segments import by_key, group_of, running_max, starts_of
from detectors.spells import MAX_RECENT, Recent, Spell
from detectors.tally import Tally
from schemas.alert import Alert
from schemas.batch import Bools, Int64s


def fold_buckets(state: BucketState, events: Events, rules: Sequence[Buckets]) -> tuple[list[Alert], Floats]:
    """Return revisions, and ``(n,)`` how full the fullest bucket was after each row; over 1: alarm.

    Parameters
    ----------
    state
        Changed.
    events, rules
        Rows, and what holds for them.
    """
    state.reserve()
    alerts: list[Alert] = []
    fullness = np.zeros(len(events.slot))
    left: Int64s = np.arange(len(events.slot))
    while len(left):
        # A key whose episode ends in mid-batch starts afresh there: its other rows take another pass.
        one_pass = _Pass(state, events, rules, left)
        fullness[one_pass.order] = one_pass.fullness
        left = one_pass.follow(alerts)
    return alerts, fullness


class _Pass:
    """One pass over rows sorted by key, each key's up to the end of its episode.

    Parameters
    ----------
    state
        Changed by `follow` only (but for the spells' known values).
    events, rules
        As given to `fold_buckets`.
    left
        ``(n,)`` the positions in `events` that the pass is about, ascending.
    """

    def __init__(self, state: BucketState, events: Events, rules: Sequence[Buckets], left: Int64s) -> None:
        self.state = state
        self.order = order = left[by_key(events.slot[left])]
        slot = events.slot[order]
        self.starts = starts_of(slot)
        self.slot = slot[self.starts]
        self.group = group = group_of(self.starts, len(order))
        number = events.rule[order][self.starts]
        self.buckets = [rules[i] for i in number.tolist()]
        self.sizes, self.leaks_ms, self.watch_share = columns_of(rules, number)
        counts = events.counts[order]
        own_ms = events.time_ms[order]
        self.latest_ms = running_max(
            np.where(counts, own_ms, NEVER_MS), self.starts, state.last_ms[self.slot]
        )
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
        before_ms = self.state.empty_ms[self.slot]
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
        known = self.state.spells
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
        state = self.state
        last = np.append(self.starts[1:], len(self.order)) - 1
        state.empty_ms[self.slot] = self.empty_ms[last]
        state.last_ms[self.slot] = self.latest_ms[last]
        needed_ms = np.floor(self.watch_share[:, None] * self.sizes * self.leaks_ms).astype(np.int64)
        watched_ms = np.where(self.sizes > 0, self.empty_ms[last] - needed_ms, NEVER_MS)[:, :-1].max(axis=1)
        state.watched_ms[self.slot] = watched_ms
        state.watched_until_ms = max(state.watched_until_ms, int(watched_ms.max()))
        group = self.group[self.counted]
        starts = starts_of(group)
        bounds = [*starts.tolist(), len(group)]
        crossings = np.flatnonzero(self.over).tolist()
        urgent = np.flatnonzero(self.forced).tolist()
        slots = self.slot[group[starts]]
        alarmed = state.in_alarm[slots]
        if crossings:
            alarmed = alarmed | np.logical_or.reduceat(self.over, starts)
        last_runs = (np.searchsorted(self.run_starts, bounds[1:]) - 1).tolist()
        left: list[Int64s] = []
        for i, (slot, busy) in enumerate(zip(slots.tolist(), alarmed, strict=True)):
            start, stop = bounds[i], bounds[i + 1]
            if busy:
                key = state.keys.names[slot]
                told, end = state.episodes.follow(state.teller, self, key, start, stop, crossings, urgent)
                alerts.extend(told)
                if end < stop:
                    state.forget(slot)
                    left.append(self.order[self.counted[end] : last[group[start]] + 1])
                    continue
                state.in_alarm[slot] = state.episodes.find(key) is not None
            self._remember(slot, last_runs[i], start, stop)
        return np.sort(np.concatenate(left)) if left else np.zeros(0, np.int64)

    def _remember(self, slot: int, run: int, start: int, stop: int) -> None:
        spell = self.spells[run]
        if self.state.in_alarm[slot]:
            spell.recent = []
        else:
            spell.remember(self._recent(max(start, self.run_starts[run], stop - MAX_RECENT), stop))
        self.state.spells[slot] = spell

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
