"""The minutes of a batch against the habits of their routes or tenants."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from detectors.clock import HOUR_MS, MINUTE_MS
from detectors.segments import group_of, running_count, starts_of
from detectors.service_health_calendar import HOURS, Pause, bins_of
from detectors.service_health_habit import MIN_SEEN, MORE, SHAPE, is_new, learn, usual_limit
from detectors.service_health_minutes import Minutes
from detectors.service_health_rule import (
    BAD,
    ERROR_SHARE,
    GAP_MS,
    HISTORY_MS,
    QUIET_MS,
    SHIFT,
    SLOW_SHARE,
    THRESHOLD,
    VOLUME,
    VOLUME_RATIO,
)
from detectors.service_health_silence import FORGET_MS, Silences
from detectors.service_health_stories import Share, Shift, Volume
from detectors.service_health_traffic import ERRORS, LOG_UNIT, LOGS, NEVER, REQUESTS, SLOW, TIMED, Traffic
from detectors.surprise import LN_10, count_surprise, share_surprise
from schemas.batch import Bools, Floats, Int64s

# What a share is before anything is known: one in a hundred, as if of fifty requests.
PRIOR_BAD, PRIOR_REQUESTS = 0.5, 50.0
# No share is steadier than one of two hundred requests is, however many there were.
MAX_WEIGHT: Final = 200.0
# Shares are those of ten minutes, as far as these have got; from the third on they count as lasting.
BLOCK_MINUTES: Final = 10
LASTING_MINUTES: Final = 3
# Mean durations of two minutes differ by a tenth for no reason, in log2.
MINUTES_DIFFER: Final = 0.15
# Page's CUSUM: k is half the shift looked for, and no minute counts for more than three deviations.
ALLOWANCE: Final = 0.5
MAX_DEVIATION: Final = 3.0
# It falls below its threshold so many minutes of the usual after the last that were not.
MAX_BEYOND: Final = 10.0
# From this share of the requests that must be missing for a silence on, it is worked out exactly when one
# began, if one did: that takes longer.
NEAR: Final = 0.9
# An hour that never had a request is infinitely surprised by one.
MAX_SCORE: Final = 300.0


class Verdict(NamedTuple):
    """What one test of a minute came to.

    Parameters
    ----------
    slot, minute, time_ms, quiet_ms, event_id
        Of which key, which minute, when its last request was, after which quiet an episode is over, and an
        event that stands for the minute.
    score, threshold, facts
        As in the episode.
    """

    slot: int
    minute: int
    time_ms: int
    quiet_ms: int
    event_id: str
    score: float
    threshold: float
    facts: Any


class HealthFold:
    """Follows keys from minute to minute: gaps, what the hours teach, and whether a minute is as usual.

    Parameters
    ----------
    traffic
        Changed.
    minutes
        Of one batch, as `detectors.service_health_minutes.take_minutes` returns them.
    silences
        Looks for them in the gaps.
    limits
        ``(t, l)`` what holds for each tenant.
    event_ids
        Rows of the batch to ids.

    Attributes
    ----------
    verdicts
        By rule, of minutes that were put to a test closely.
    gone
        Keys' silences that ended: number, and from when until when.
    """

    def __init__(
        self,
        traffic: Traffic,
        minutes: Minutes,
        silences: Silences,
        limits: Floats,
        event_ids: Callable[[Int64s], list[str]],
    ) -> None:
        self.traffic, self.minutes, self.silences = traffic, minutes, silences
        self.limits, self.event_ids = limits, event_ids
        self.verdicts: dict[str, list[Verdict]] = {"errors": [], "slow": [], "volume": [], "duration": []}
        self.gone: list[tuple[int, Pause]] = []

    def run(self) -> None:
        """Go through the minutes, an hour of each key at a time."""
        if not len(self.minutes):
            return
        slot, hour = self.minutes.slot, self.minutes.minute * MINUTE_MS // HOUR_MS
        starts = np.flatnonzero(np.append(True, (slot[1:] != slot[:-1]) | (hour[1:] != hour[:-1])))
        first_runs = starts_of(slot[starts])
        nth = np.arange(len(starts)) - first_runs[group_of(first_runs, len(starts))]
        nth_of_minute = nth[group_of(starts, len(slot))]
        for n in range(int(nth.max()) + 1):
            self._hour(np.flatnonzero(nth_of_minute == n))
        self._remember_ids()

    def _hour(self, places: Int64s) -> None:
        """Follow keys through one hour each, given the places of its minutes."""
        minutes = self.minutes if len(places) == len(self.minutes) else self.minutes.at(places)
        traffic, starts = self.traffic, starts_of(minutes.slot)
        slot = minutes.slot[starts]
        self._begin(minutes, places, starts)
        closed = minutes.at(np.flatnonzero(minutes.closed))
        if len(closed):
            self._judge(closed)
        traffic.last_ms[slot] = minutes.last_ms[np.append(starts[1:], len(minutes)) - 1]
        self.silences.schedule(slot)

    def _remember_ids(self) -> None:
        traffic, minutes = self.traffic, self.minutes
        for ids, rows in (
            (traffic.last_id, minutes.row),
            (traffic.error_id, minutes.error_row),
            (traffic.slow_id, minutes.slow_row),
        ):
            met = np.flatnonzero(rows != NEVER)
            last = met[np.flatnonzero(np.diff(minutes.slot[met], append=NEVER))]
            for key, event_id in zip(minutes.slot[last].tolist(), self.event_ids(rows[last]), strict=True):
                ids[key] = event_id

    def _begin(self, minutes: Minutes, places: Int64s, starts: Int64s) -> None:
        """Look at the gaps before minutes that begin; where another hour begins, learn the one before."""
        traffic, slot = self.traffic, minutes.slot
        before_ms = np.append(NEVER, minutes.last_ms[:-1])
        before_ms[starts] = traffic.last_ms[slot[starts]]
        first = np.zeros(len(slot), np.bool_)
        first[starts] = minutes.fresh[starts]
        known = ~(first & is_new(traffic, slot))
        gap_ms = self.limits[traffic.owner[slot], GAP_MS]
        gaps = np.flatnonzero(minutes.fresh & known & (minutes.first_ms - before_ms >= gap_ms))
        told = np.zeros(len(slot), np.bool_)
        missing = self._look_at_gaps(minutes, places, gaps, before_ms, told)
        hour = minutes.minute * MINUTE_MS // HOUR_MS
        # Of a gap that was told, no more is learned than of everything else.
        most = np.where(told[gaps], MORE / 2 * traffic.needed[slot[gaps]], np.inf)
        missing = np.minimum(missing, most)
        before = first[gaps]
        np.maximum.at(traffic.gap, slot[gaps[before]], missing[before])
        # Who was not heard of for so long is as if new, but for the silence that this was.
        expired = first & known & (minutes.first_ms - before_ms >= FORGET_MS)
        if expired.any():
            traffic.forget(slot[expired])
            known &= ~expired
        turned = np.flatnonzero(first & known & (traffic.hour[slot] != hour))
        if len(turned):
            limits = self.limits[traffic.owner[slot[turned]]]
            learn(traffic, slot[turned], hour[turned], told[turned], limits[:, SHIFT], limits[:, THRESHOLD])
        np.maximum.at(traffic.gap, slot[gaps[~before]], missing[~before])
        born = np.flatnonzero(~known)
        traffic.born_ms[slot[born]] = minutes.first_ms[born]
        traffic.hour[slot[born]] = hour[born]

    def _look_at_gaps(
        self, minutes: Minutes, places: Int64s, gaps: Int64s, before_ms: Int64s, told: Bools
    ) -> Floats:
        """Return what was missing in gaps; tell of silences that begin and end in them, or end."""
        if not len(gaps):
            return np.zeros(0)
        traffic, slot = self.traffic, minutes.slot
        keys = slot[gaps]
        end = np.minimum(minutes.first_ms[gaps], before_ms[gaps] + FORGET_MS)
        missing = self.silences.missing(keys, before_ms[gaps], end)
        near = (traffic.fastest[keys] > 0) & (missing >= NEAR * traffic.needed[keys])
        # One that `Silences.overdue` followed to this end is not looked at again: its pauses are forgotten.
        near &= (end == minutes.first_ms[gaps]) | (traffic.check_ms[keys] <= end)
        near |= traffic.silent[keys]
        for i in np.flatnonzero(near).tolist():
            at = int(gaps[i])
            key, begin_ms, end_ms = int(slot[at]), int(before_ms[at]), int(minutes.first_ms[at])
            last_id = self._last_id(int(places[at]))
            silent = bool(traffic.silent[key])
            if silent or self.silences.look(key, begin_ms, last_id, float(missing[i]), int(end[i])):
                traffic.silent[key] = False
                told[at] = True
                self.silences.alerts += self.silences.rule.end(traffic.keys[key], end_ms)
                self.gone.append((key, (begin_ms, end_ms)))
        # What is known from once only counts as well: a gap that comes every day is told on none.
        return self.silences.missing(keys, before_ms[gaps], end, times=1)

    def _last_id(self, place: int) -> str:
        """Return the last request before the minute at a place."""
        slot, row = self.minutes.slot[place], NEVER
        if place and self.minutes.slot[place - 1] == slot:
            row = int(self.minutes.row[place - 1])
        return self.traffic.last_id[slot] if row == NEVER else self.event_ids(np.array([row]))[0]

    def _judge(self, minutes: Minutes) -> None:
        """Test minutes that are over, and add them to what their hour teaches."""
        traffic, slot = self.traffic, minutes.slot
        limits = self.limits[traffic.owner[slot]]
        counts = minutes.counts.copy()
        requests = counts[:, REQUESTS]
        old = minutes.first_ms - traffic.born_ms[slot] >= limits[:, HISTORY_MS]
        block = self._in_block(minutes)
        bad = block[:, [ERRORS, SLOW]]
        shares = bad / block[:, [REQUESTS]]
        # Of few requests a share says little: it is no record for others to be measured by.
        records = np.where(bad >= np.maximum(limits[:, BAD] / 2, 1)[:, None], shares, 0.0)
        # What lasts some minutes matters when there is half as much of it.
        for_long = np.where(block[:, -1] >= LASTING_MINUTES, 0.5, 1.0)
        usual = np.ones(len(slot), np.bool_)
        for i, (rule, column, limit) in enumerate(
            (("errors", ERRORS, ERROR_SHARE), ("slow", SLOW, SLOW_SHARE))
        ):
            least = np.maximum(limits[:, limit] * for_long, MORE * traffic.worst[slot, i])
            large = old & (bad[:, i] >= limits[:, BAD]) & (shares[:, i] >= least)
            tested = np.flatnonzero(large & (counts[:, column] >= limits[:, limit] / 2 * requests))
            for at in self._test_shares(minutes, block, tested, rule, i, limits).tolist():
                share = self._usual_share(int(slot[at]), i)[0]
                counts[at, column] = min(int(counts[at, column]), int(MORE * share * requests[at]) + 1)
                most = MORE * max(float(traffic.worst[slot[at], i]), limits[at, limit] / 2)
                records[at, i] = min(records[at, i], most)
                usual[at] = False
        top = self._test_volume(minutes, np.flatnonzero(old & (requests >= limits[:, VOLUME])), limits)
        # Requests that fail or are slow take another time than usual, of course: that is told once.
        self._test_durations(minutes, old & usual, limits)
        starts = starts_of(slot)
        keys = slot[starts]
        traffic.sums[keys] += np.add.reduceat(counts, starts, axis=0)
        traffic.active[keys] += np.diff(starts, append=len(slot))
        traffic.top[keys] = np.maximum(traffic.top[keys], np.maximum.reduceat(top, starts))
        traffic.shares[keys] = np.maximum(traffic.shares[keys], np.maximum.reduceat(records, starts, axis=0))

    def _in_block(self, minutes: Minutes) -> Int64s:
        """Return ``(g, 4)`` what came in the same ten minutes so far; see `Traffic.of_block`."""
        traffic, slot, block = self.traffic, minutes.slot, minutes.minute // BLOCK_MINUTES
        found = np.concatenate((minutes.counts[:, :3], np.ones((len(slot), 1), np.int64)), axis=1)
        keys = starts_of(slot)
        going_on = keys[traffic.block[slot[keys]] == block[keys]]
        found[going_on] += traffic.of_block[slot[going_on]]
        starts = np.flatnonzero(np.append(True, (slot[1:] != slot[:-1]) | (block[1:] != block[:-1])))
        found = np.stack([running_count(column, starts) for column in found.T], axis=1)
        last = np.append(keys[1:], len(slot)) - 1
        traffic.block[slot[last]], traffic.of_block[slot[last]] = block[last], found[last]
        return found

    def _usual_share(self, slot: int, i: int) -> tuple[float, float]:
        """Return the usual share, and how steady it is."""
        total = float(self.traffic.total[slot]) + PRIOR_REQUESTS
        return (float(self.traffic.bad[slot, i]) + PRIOR_BAD) / total, min(total, MAX_WEIGHT)

    def _test_shares(
        self, minutes: Minutes, block: Int64s, tested: Int64s, rule: str, i: int, limits: Floats
    ) -> Int64s:
        """Test shares that are large; return the positions of those that are too large."""
        passed = []
        rows, ids = (
            (minutes.error_row, self.traffic.error_id) if i == 0 else (minutes.slow_row, self.traffic.slow_id)
        )
        for at in tested.tolist():
            slot, threshold = int(minutes.slot[at]), float(limits[at, THRESHOLD])
            bad, of = int(block[at, ERRORS + i]), int(block[at, REQUESTS])
            usual, weight = self._usual_share(slot, i)
            score = share_surprise(bad, of, usual, weight)
            self._add(rule, minutes, at, rows, ids, score, threshold, Share(bad, of, usual))
            if score > threshold:
                passed.append(at)
        return np.array(passed, np.int64)

    def _test_volume(self, minutes: Minutes, tested: Int64s, limits: Floats) -> Int64s:
        """Test minutes of many requests; return ``(g,)`` what is to be remembered as the most."""
        traffic, slot = self.traffic, minutes.slot[tested]
        top = minutes.counts[:, REQUESTS].copy()
        if not len(tested):
            return top
        bins = bins_of(minutes.minute[tested] * MINUTE_MS // HOUR_MS)
        day, hour = bins // HOURS * HOURS, bins % HOURS
        # Jobs come an hour early or late, when the clocks change for one.
        near = [day + (hour + step) % HOURS for step in (-1, 0, 1)]
        most = traffic.peak[slot[:, None], np.stack(near, axis=1)].max(axis=1).astype(np.float64)
        large = top[tested] > limits[tested, VOLUME_RATIO] * most
        large &= traffic.seen[slot, bins] >= MIN_SEEN
        for i in np.flatnonzero(large).tolist():
            at, threshold = int(tested[i]), float(limits[tested[i], THRESHOLD])
            requests, usual = int(top[at]), float(traffic.rate[slot[i], bins[i]]) / 60
            score = min(count_surprise(requests, SHAPE, usual), MAX_SCORE)
            facts = Volume(requests, usual, float(most[i]))
            self._add("volume", minutes, at, minutes.row, traffic.last_id, score, threshold, facts)
            if score > threshold:
                top[at] = min(
                    requests, int(MORE * max(most[i], limits[at, VOLUME] / limits[at, VOLUME_RATIO]))
                )
        return top

    def _test_durations(self, minutes: Minutes, which: Bools, limits: Floats) -> None:
        """Let the CUSUM of durations go on."""
        traffic, slot = self.traffic, minutes.slot
        timed = minutes.counts[:, TIMED]
        rows = np.flatnonzero(which & (timed > 0) & (traffic.hours[slot] > 0))
        slot, timed = slot[rows], timed[rows]
        mean = minutes.counts[rows, LOGS] / timed / LOG_UNIT
        limit = usual_limit(traffic.level[slot], traffic.high[slot], limits[rows, SHIFT])
        deviation = (mean - limit) / np.sqrt(traffic.spread[slot] / timed + MINUTES_DIFFER**2)
        step = np.clip(deviation, -MAX_DEVIATION, MAX_DEVIATION) - ALLOWANCE
        drifts = (traffic.drift[slot] > 0) | (step > 0)
        if not drifts.any():
            return
        concerned = np.isin(slot, slot[drifts])
        rows, slot, step, mean = rows[concerned], slot[concerned], step[concerned], mean[concerned]
        for at, key, up, log in zip(rows.tolist(), slot.tolist(), step.tolist(), mean.tolist(), strict=True):
            threshold = float(limits[at, THRESHOLD])
            most = threshold * LN_10 / (2 * ALLOWANCE) + MAX_BEYOND
            drift = traffic.drift[key] = min(max(float(traffic.drift[key]) + up, 0.0), most)
            if up > 0:
                facts = Shift(2**log, 2 ** float(traffic.level[key]), int(minutes.counts[at, TIMED]))
                score = 2 * ALLOWANCE * drift / LN_10
                self._add("duration", minutes, at, minutes.row, traffic.last_id, score, threshold, facts)

    def _add(
        self,
        rule: str,
        minutes: Minutes,
        at: int,
        rows: Int64s,
        ids: list[str],
        score: float,
        threshold: float,
        facts: Any,
    ) -> None:
        slot, row = int(minutes.slot[at]), int(rows[at])
        event_id = ids[slot] if row == NEVER else self.event_ids(np.array([row]))[0]
        minute, last_ms = int(minutes.minute[at]), int(minutes.last_ms[at])
        quiet_ms = int(self.limits[self.traffic.owner[slot], QUIET_MS])
        verdict = Verdict(slot, minute, last_ms, quiet_ms, event_id, score, threshold, facts)
        self.verdicts[rule].append(verdict)
