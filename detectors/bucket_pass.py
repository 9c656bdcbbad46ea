"""Folding a batch into leaky buckets: all keys at once, and a loop only over those in alarm."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from detectors.bucket_looks import Filled
from detectors.bucket_state import BucketState
from detectors.buckets import Buckets, Events, columns_of, fill
from detectors.clock import NEVER_MS
from detectors.closeness import Watch
from detectors.episode import Episode
from detectors.keys import Key
from detectors.segments import by_key, group_of, running_count, running_max, starts_of
from detectors.spells import MAX_RECENT, Recent, Spell
from detectors.tally import Tally
from schemas.alert import Alert
from schemas.batch import Bools, Floats, Int64s


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
        if state.watch is not None:
            one_pass.show(state.watch, left)
    return alerts, filled


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows that fill buckets, in runs; see `detectors.buckets.fill`.

    Parameters
    ----------
    time_ms, starts
        ``(n,)`` times, and ``(r,)`` first row of each run.
    leaks_ms, good_ms
        ``(r, width)`` how the buckets leak, and what a good event takes out of them.
    good
        ``(n,)`` good events before each row; None: they count for nothing.
    """

    time_ms: Int64s
    starts: Int64s
    leaks_ms: Int64s
    good: Int64s | None
    good_ms: Int64s

    def fill(self, counts: Bools, which: slice, before_ms: Int64s) -> tuple[Int64s, Int64s]:
        """Return level and time of emptiness of some of the buckets after each row."""
        taken_ms = None
        if self.good is not None:
            run = group_of(self.starts, len(self.time_ms))
            taken_ms = running_count(self.good, self.starts)[:, None] * self.good_ms[run, which]
        return fill(self.time_ms, counts, self.starts, before_ms[:, which], self.leaks_ms[:, which], taken_ms)


class _Pass:
    """One pass over rows sorted by key, each key's up to the end of its episode.

    Parameters
    ----------
    state
        Changed by `follow` only.
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
        self.strange = None if events.strange is None else events.strange[order]
        self.counting = rules[0].new, rules[0].more
        self.near = rules[0].near
        self.looked_at = rules[0].every
        self.every = self.looked_at + rules[0].strange
        self.good = None if events.good is None else events.good[order]
        self.good_ms = np.array([b.good_ms for b in rules], np.int64)[number]
        self.time_ms = running_max(events.time_ms[order], self.starts, state.last_ms[self.slot])
        self.times: list[int] = self.time_ms.tolist()
        picks = order.tolist()
        self.event_ids = [events.event_ids[i] for i in picks]
        self.values = [events.values[i] for i in picks]
        kinds = events.kinds or (events.values,)
        self.kinds = [[column[i] for i in picks] for column in kinds]
        self.marks: list[bool] = events.marks[order].tolist()
        self.forced = events.forced[order]
        self.grades = self.forced if self.forced.any() else None
        self._fill()
        shares = self.level_ms / np.array([b.need_ms for b in rules])[number][self.group]
        self.fullest = shares.argmax(axis=1)
        self.fullness = shares.max(axis=1)
        self.over = (self.fullness > 1.0) | self.forced

    def _fill(self) -> None:
        """Fill the buckets: the first with every row, the others with rows that bring a new value."""
        n, every = len(self.order), self.every
        before_ms = self.state.empty_ms[self.slot]
        rows = _Rows(self.time_ms, self.starts, self.leaks_ms, self.good, self.good_ms)
        level_ms, empty_ms = rows.fill(np.ones(n, np.bool_), slice(every), before_ms)
        put_in_ms = self.leaks_ms[self.group, :every]
        if self.strange is not None:
            which = slice(self.looked_at, every)
            level_ms[:, which], empty_ms[:, which] = rows.fill(self.strange, which, before_ms)
            put_in_ms[:, which] *= self.strange[:, None]
        # Every bucket was empty before this row: a spell begins.
        fresh = (level_ms == put_in_ms).all(axis=1)
        begins = fresh.copy()
        begins[self.starts] = True
        starts = begins.nonzero()[0]
        group = self.group[starts]
        self.run_starts: list[int] = starts.tolist()
        known = self.state.spells
        self.spells = [
            Spell.unpacked(None if is_fresh else known[slot])
            for slot, is_fresh in zip(self.slot[group].tolist(), fresh[starts].tolist(), strict=True)
        ]
        levels, empties = [level_ms], [empty_ms]
        if np.any(self.sizes[:, every:]):
            before_ms = np.where(fresh[starts, None], NEVER_MS, before_ms[group])
            rows = _Rows(self.time_ms, starts, self.leaks_ms[group], self.good, self.good_ms[group])
            for at, counts in enumerate(self._news(), every):
                level_ms, empty_ms = rows.fill(counts, slice(at, at + 1), before_ms)
                levels.append(level_ms)
                empties.append(empty_ms)
        else:
            unused = (n, self.sizes.shape[1] - every)
            levels.append(np.zeros(unused, np.int64))
            empties.append(np.full(unused, NEVER_MS, np.int64))
        self.level_ms = np.concatenate(levels, axis=1)
        self.empty_ms = np.concatenate(empties, axis=1)

    def _news(self) -> list[Bools]:
        """Return for each bucket of new values ``(n,)`` which rows count."""
        counts: list[Bools] = []
        near: list[bool] = []
        bounds = [*self.run_starts, len(self.order)]
        for nth, (values, buckets) in enumerate(zip(self.kinds, self.counting, strict=False)):
            new: list[bool] = []
            for spell, start, stop in zip(self.spells, bounds, bounds[1:], strict=False):
                if nth:
                    new.extend(spell.news_of_more(values[start:stop]))
                else:
                    new.extend(spell.news(values[start:stop], near if self.near else None))
            counts += [np.array(new, np.bool_)] * buckets
        return counts + [np.array(near, np.bool_)] * self.near

    def follow(self, alerts: list[Alert]) -> Int64s:
        """Follow the keys' episodes, keep what comes of them, and return the rows for another pass."""
        state = self.state
        stops = np.append(self.starts[1:], len(self.order))
        self._keep(stops - 1)
        crossings = self.over.nonzero()[0].tolist()
        alarmed = state.in_alarm[self.slot]
        if crossings:
            alarmed = alarmed | np.logical_or.reduceat(self.over, self.starts)
        last_runs = np.searchsorted(self.run_starts, stops) - 1
        left: list[Int64s] = []
        rows = (self.slot, alarmed, self.starts, stops, last_runs)
        for slot, busy, start, stop, run in zip(*(column.tolist() for column in rows), strict=True):
            if busy:
                key = state.keys[slot]
                told, end = state.episodes.follow(state.teller, self, key, start, stop, crossings)
                alerts.extend(told)
                if end < stop:
                    state.forget(slot)
                    left.append(self.order[end:stop])
                    continue
                state.in_alarm[slot] = state.episodes.find(key) is not None
            self._remember(slot, run, start, stop)
        return np.sort(np.concatenate(left)) if left else np.zeros(0, np.int64)

    def show(self, watch: Watch, left: Int64s) -> None:
        """Show how full the fullest bucket was after each row, but for those of another pass."""
        rows = np.isin(self.order, left, invert=True).nonzero()[0]
        forced = self.forced[rows]
        levels, sizes = (column[rows] for column in self._highest)
        scores, thresholds = np.where(forced, 1.0, levels), np.where(forced, 0.0, sizes)
        ids, slot = [self.event_ids[i] for i in rows.tolist()], self.slot[self.group[rows]]
        watch.see(self.state.keys, slot, self.time_ms[rows], ids, lambda at: (scores[at], thresholds[at]))

    def _keep(self, last: Int64s) -> None:
        """Keep how the last row of each key left its buckets."""
        state = self.state
        state.empty_ms[self.slot] = self.empty_ms[last]
        state.last_ms[self.slot] = self.time_ms[last]
        needed_ms = np.floor(self.watch_share[:, None] * self.sizes * self.leaks_ms).astype(np.int64)
        until_ms = np.where(self.sizes > 0, self.empty_ms[last] - needed_ms, NEVER_MS)
        watched_ms = until_ms[:, : self.looked_at].max(axis=1)
        state.watched_ms[self.slot] = watched_ms
        state.watched_until_ms = max(state.watched_until_ms, int(watched_ms.max()))

    def _remember(self, slot: int, run: int, start: int, stop: int) -> None:
        spell = self.spells[run]
        if self.state.in_alarm[slot]:
            spell.recent = ()
        else:
            spell.remember(self._recent(max(start, self.run_starts[run], stop - MAX_RECENT), stop))
        self.state.spells[slot] = spell.packed()

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

    @cached_property
    def _highest(self) -> tuple[Floats, Floats]:
        """``(n,)`` level and size of each row's fullest bucket; one that never alarms is infinitely large."""
        bucket = self.fullest
        sizes = self.sizes[self.group, bucket]
        levels = self.level_ms[np.arange(len(bucket)), bucket] / self.leaks_ms[self.group, bucket]
        return levels, np.where(sizes, sizes, np.inf)

    def measure(self, episode: Episode, start: int, stop: int) -> None:
        """Take the level of the fullest bucket, if it is as full as any before."""
        forced = 0 if self.grades is None else int(self.grades[start:stop].sum())
        if episode.grade or forced:
            # One such event is enough, however full the buckets are. They are counted here, and one at least:
            # the tally counts nothing any more once it is full.
            before = episode.score if episode.grade else 0.0
            episode.grade, episode.score, episode.threshold = 1, max(1.0, before + forced), 0.0
            return
        levels, sizes = (column[start:stop] for column in self._highest)
        fullness = levels / sizes
        # The last of equals, as over several calls.
        at = len(fullness) - 1 - int(fullness[::-1].argmax())
        if fullness[at] >= (episode.score / episode.threshold if episode.threshold else 0.0):
            episode.score, episode.threshold = float(levels[at]), float(sizes[at])
