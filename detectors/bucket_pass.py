"""Folding a batch into leaky buckets: all keys at once, and a loop only over those in alarm."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence

import numpy as np

from detectors.bucket_looks import Filled
from detectors.bucket_state import BucketState
from detectors.buckets import Buckets, Events, columns_of, fill
from detectors.clock import NEVER_MS
from detectors.episode import Episode
from detectors.keys import Key
from detectors.segments import by_key, group_of, running_max, starts_of
from detectors.spells import MAX_RECENT, Recent, Spell
from detectors.tally import Tally
from schemas.alert import Alert
from schemas.batch import Bools, Int64s


def fold_buckets(state: BucketState, events: Events, rules: Sequence[Buckets]) -> tuple[list[Alert], Filled]:
    """Return revisions, and how full each row found and left the buckets of its key.

    Parameters
    ----------
    state
        Changed.
    events, rules
        Rows, and what holds for them.
    """
    state.reserve()
    alerts: list[Alert] = []
    filled = Filled(state, events.slot)
    left: Int64s = np.arange(len(events.slot))
    while len(left):
        # A key whose episode ends in mid-batch starts afresh there: its other rows take another pass.
        one_pass = _Pass(state, events, rules, left)
        filled.put(one_pass.order, one_pass.fullness, one_pass.empty_ms, one_pass.time_ms)
        left = one_pass.follow(alerts)
    return alerts, filled


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
        self.group = group_of(self.starts, len(order))
        number = events.rule[order][self.starts]
        self.buckets = [rules[i] for i in number.tolist()]
        self.sizes, self.leaks_ms, self.watch_share = columns_of(rules, number)
        self.time_ms = running_max(events.time_ms[order], self.starts, state.last_ms[self.slot])
        self.times: list[int] = self.time_ms.tolist()
        picks = order.tolist()
        self.event_ids = [events.event_ids[i] for i in picks]
        self.values = [events.values[i] for i in picks]
        self.marks: list[bool] = events.marks[order].tolist()
        self.forced = events.forced[order]
        self._fill()
        shares = self.level_ms / np.array([b.need_ms for b in rules])[number][self.group]
        self.fullest = shares.argmax(axis=1)
        self.fullness = shares.max(axis=1)
        self.over = (self.fullness > 1.0) | self.forced

    def _fill(self) -> None:
        """Fill all buckets but the last with every row, and that one with those that bring a new value."""
        n, before_ms = len(self.order), self.state.empty_ms[self.slot]
        every = np.ones(n, np.bool_)
        level_ms, empty_ms = fill(self.time_ms, every, self.starts, before_ms[:, :-1], self.leaks_ms[:, :-1])
        # Every bucket was empty before this row: a spell begins.
        fresh = (level_ms == self.leaks_ms[self.group, :-1]).all(axis=1)
        begins = fresh.copy()
        begins[self.starts] = True
        starts = begins.nonzero()[0]
        group = self.group[starts]
        self.run_starts: list[int] = starts.tolist()
        known = self.state.spells
        self.spells = [
            (None if is_fresh else known[slot]) or Spell()
            for slot, is_fresh in zip(self.slot[group].tolist(), fresh[starts].tolist(), strict=True)
        ]
        level_new_ms, empty_new_ms = np.zeros((n, 1), np.int64), np.full((n, 1), NEVER_MS, np.int64)
        if np.any(self.sizes[:, -1]):
            before_new_ms = np.where(fresh[starts], NEVER_MS, before_ms[group, -1])
            level_new_ms, empty_new_ms = fill(
                self.time_ms, self._news(), starts, before_new_ms[:, None], self.leaks_ms[group, -1:]
            )
        self.level_ms = np.concatenate((level_ms, level_new_ms), axis=1)
        self.empty_ms = np.concatenate((empty_ms, empty_new_ms), axis=1)

    def _news(self) -> Bools:
        """Return ``(n,)`` which rows bring their spell a new value."""
        new: list[bool] = []
        bounds = [*self.run_starts, len(self.order)]
        for spell, start, stop in zip(self.spells, bounds, bounds[1:], strict=False):
            new.extend(spell.news(self.values[start:stop]))
        return np.array(new, np.bool_)

    def follow(self, alerts: list[Alert]) -> Int64s:
        """Follow the keys' episodes, keep what comes of them, and return the rows for another pass."""
        state = self.state
        stops = np.append(self.starts[1:], len(self.order))
        self._keep(stops - 1)
        crossings, urgent = self.over.nonzero()[0].tolist(), self.forced.nonzero()[0].tolist()
        alarmed = state.in_alarm[self.slot]
        if crossings:
            alarmed = alarmed | np.logical_or.reduceat(self.over, self.starts)
        last_runs = np.searchsorted(self.run_starts, stops) - 1
        left: list[Int64s] = []
        rows = (self.slot, alarmed, self.starts, stops, last_runs)
        for slot, busy, start, stop, run in zip(*(column.tolist() for column in rows), strict=True):
            if busy:
                key = state.keys[slot]
                told, end = state.episodes.follow(state.teller, self, key, start, stop, crossings, urgent)
                alerts.extend(told)
                if end < stop:
                    state.forget(slot)
                    left.append(self.order[end:stop])
                    continue
                state.in_alarm[slot] = state.episodes.find(key) is not None
            self._remember(slot, run, start, stop)
        return np.sort(np.concatenate(left)) if left else np.zeros(0, np.int64)

    def _keep(self, last: Int64s) -> None:
        """Keep how the last row of each key left its buckets."""
        state = self.state
        state.empty_ms[self.slot] = self.empty_ms[last]
        state.last_ms[self.slot] = self.time_ms[last]
        needed_ms = np.floor(self.watch_share[:, None] * self.sizes * self.leaks_ms).astype(np.int64)
        watched_ms = np.where(self.sizes > 0, self.empty_ms[last] - needed_ms, NEVER_MS)[:, :-1].max(axis=1)
        state.watched_ms[self.slot] = watched_ms
        state.watched_until_ms = max(state.watched_until_ms, int(watched_ms.max()))

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
        group, bucket = self.group[at], self.fullest[at]
        since_ms = self.times[at] - int(self.sizes[group, bucket] * self.leaks_ms[group, bucket])
        run = bisect_right(self.run_starts, at) - 1
        start = max(self.run_starts[run], at + 1 - MAX_RECENT)
        events = [*self.spells[run].recent, *self._recent(start, at + 1)][-MAX_RECENT:]
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
        group, bucket = self.group[at], self.fullest[at]
        size = int(self.sizes[group, bucket])
        level = float(self.level_ms[at, bucket] / self.leaks_ms[group, bucket])
        if size and level * episode.threshold >= episode.score * size:
            episode.score, episode.threshold = level, float(size)
