"""What is learned of routes and tenants, hour by hour: within an hour every minute meets the same habit."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.clock import HOUR_MS
from detectors.service_health_calendar import BINS, HOURS, bins_of, visits
from detectors.service_health_traffic import (
    ERRORS,
    LOG_UNIT,
    LOGS,
    NEVER,
    REQUESTS,
    SLOW,
    SQUARES,
    TIMED,
    Traffic,
)
from schemas.batch import Bools, Floats, Int64s

# What was learned fades within four weeks, records within one.
FADE: Final = 1 - 1 / (28 * 24)
RECORDS_FADE: Final = 1 - 1 / (7 * 24)
# An hour of the week counts at least a tenth of its habit, and its record fades by a twentieth each time.
MAX_SEEN: Final = 10
PEAK_FADE: Final = 0.95
# The least of an hour falls at once and is raised by a fifth each time.
RECOVER: Final = 0.2
# Whoever is heard of in three minutes of four is expected all the time.
EVEN_MINUTES: Final = 45
# So often an hour of the week must have been met before anything is expected of it.
MIN_SEEN: Final = 2
# Durations are learned like the mean of two days; their highest hour a third of the way: what happens three
# times is a habit.
LEVEL_HOURS: Final = 48
HIGH_SHARE: Final = 1 / 3
# Before so many hours the highest one is learned as it is.
YOUNG_HOURS: Final = 24
# Who is below a tenth of the mean in some hour sleeps, and who sleeps may have a day off: one day in a
# hundred (two decades), with a tenth of the usual.
SLEEP: Final = 0.1
DAY_OFF: Final = 0.1
DAY_OFF_DECADES: Final = 2.0
# Nobody's habits are steadier than this (`detectors.guessing_pressure`).
SHAPE: Final = 8.0
# A silence is longer than the longest gap, by so much.
LONGER: Final = 2.0
# Of what was told in an alert, half as much again as the most so far is learned.
MORE: Final = 1.5


def certain_rate(traffic: Traffic, slot: Int64s, times: int = MIN_SEEN) -> Floats:
    """Return ``(n, 48)`` requests an hour that come at the least; 0 for hours not met so many times."""
    return np.where(traffic.seen[slot] >= times, traffic.least[slot], 0.0).astype(np.float64)


def even_rate(traffic: Traffic, slot: Int64s, certain: Floats) -> Floats:
    """Return ``(n, 48)`` of certain rates those that hold within an hour as well.

    A job that is through after ten minutes is not silent for the rest of its hour, and neither is an office
    in the last hour of its day: clocks that are changed let it come, and leave, an hour early or late.
    """
    steady = (traffic.awake[slot] >= EVEN_MINUTES).reshape(-1, BINS // HOURS, HOURS)
    within = steady & np.roll(steady, 1, axis=2) & np.roll(steady, -1, axis=2)
    return np.where(within.reshape(-1, BINS), certain, 0.0)


def learn(
    traffic: Traffic, slot: Int64s, hour: Int64s, told: Bools, shift: Floats, threshold: Floats
) -> None:
    """Learn the hours that are over, and the empty ones after them.

    Parameters
    ----------
    slot
        ``(m,)`` keys, each once.
    hour
        ``(m,)`` the hours that begin for them.
    told
        ``(m,)`` whether the empty hours are a silence that was told: nothing is learned from that.
    shift, threshold
        ``(m,)`` step of log2 durations that is no habit, and decades that make an alarm.
    """
    before = traffic.hour[slot]
    passed = hour - before
    ages = passed.astype(np.float64)
    fade = np.power(RECORDS_FADE, ages)
    sums = traffic.sums[slot]
    _learn_shares(traffic, slot, sums, np.power(FADE, ages), fade)
    _learn_durations(traffic, slot, sums, fade, shift)
    # An hour that a key was born in is none to judge others by.
    whole = before * HOUR_MS >= traffic.born_ms[slot]
    _learn_volume(traffic, slot[whole], before[whole], sums[whole, REQUESTS])
    empty = ~told & (passed > 1)
    _learn_nothing(traffic, slot[empty], before[empty] + 1, hour[empty])
    traffic.longest[slot] = np.maximum(traffic.longest[slot] * fade, traffic.gap[slot])
    _need(traffic, slot, threshold)
    traffic.hour[slot] = hour
    for column in (traffic.sums, traffic.active, traffic.top, traffic.gap, traffic.shares):
        column[slot] = 0


def _learn_shares(traffic: Traffic, slot: Int64s, sums: Int64s, fade: Floats, records_fade: Floats) -> None:
    requests = sums[:, REQUESTS]
    traffic.total[slot] = traffic.total[slot] * fade + requests
    traffic.bad[slot] = traffic.bad[slot] * fade[:, None] + sums[:, [ERRORS, SLOW]]
    traffic.worst[slot] = np.maximum(traffic.worst[slot] * records_fade[:, None], traffic.shares[slot])


def _learn_durations(traffic: Traffic, slot: Int64s, sums: Int64s, fade: Floats, shift: Floats) -> None:
    timed = sums[:, TIMED] > 0
    slot, sums, fade, shift = slot[timed], sums[timed], fade[timed], shift[timed]
    n = sums[:, TIMED]
    mean = sums[:, LOGS] / n / LOG_UNIT
    hours, level, high = traffic.hours[slot], traffic.level[slot], traffic.high[slot]
    usual = np.where(hours < YOUNG_HOURS, mean, np.minimum(mean, usual_limit(level, high, shift)))
    weight = np.maximum(1 / (hours + 1), 1 / LEVEL_HOURS)
    level += weight * (usual - level)
    high = np.where(hours == 0, mean, level + np.maximum(high - level, 0) * fade)
    share = np.where(hours < YOUNG_HOURS, 1.0, HIGH_SHARE)
    high += share * np.maximum(mean - high, 0)
    traffic.level[slot], traffic.high[slot], traffic.hours[slot] = level, high, hours + 1
    several = n > 1
    spread = np.maximum(sums[:, SQUARES] / n / LOG_UNIT**2 - mean**2, 0.0)
    old = traffic.spread[slot]
    traffic.spread[slot] = np.where(several, old + weight * (spread - old), old)


def usual_limit(level: Floats, high: Floats, shift: Floats) -> Floats:
    """Return ``(n,)`` the log2 duration up to which nothing has shifted."""
    return np.maximum(level + shift, high)


def _learn_volume(traffic: Traffic, slot: Int64s, hour: Int64s, requests: Int64s) -> None:
    place = slot, bins_of(hour)
    seen = np.minimum(traffic.seen[place] + 1, MAX_SEEN)
    traffic.seen[place] = seen
    for least, found in ((traffic.least, requests), (traffic.awake, traffic.active[slot])):
        step = found - least[place]
        least[place] += (step * np.where((step > 0) & (seen > 1), RECOVER, 1.0)).astype(np.float32)
    traffic.rate[place] += ((requests - traffic.rate[place]) / seen).astype(np.float32)
    traffic.peak[place] = np.maximum(traffic.peak[place] * np.float32(PEAK_FADE), traffic.top[slot])


def _learn_nothing(traffic: Traffic, slot: Int64s, start: Int64s, stop: Int64s) -> None:
    """Learn hours without a request: as one by one, but at once."""
    if not len(slot):
        return
    times = visits(start, stop)
    seen = traffic.seen[slot].astype(np.int64)
    grown = np.minimum(seen + times, MAX_SEEN)
    # (1 - 1/2)(1 - 1/3)... up to a tenth, then the same factor each time.
    factor = np.where(times > 0, seen / np.maximum(grown, 1), 1.0)
    factor *= (1 - 1 / MAX_SEEN) ** np.maximum(seen + times - MAX_SEEN, 0)
    traffic.rate[slot] *= factor.astype(np.float32)
    traffic.peak[slot] *= (PEAK_FADE**times).astype(np.float32)
    traffic.seen[slot] = grown.astype(np.uint8)
    traffic.least[slot] *= times == 0
    traffic.awake[slot] *= times == 0


def _sleeps(traffic: Traffic, slot: Int64s) -> Bools:
    known: NDArray[np.bool_] = traffic.seen[slot] >= MIN_SEEN
    rate = traffic.rate[slot]
    mean = np.where(known, rate, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    least = np.where(known, rate, np.inf).min(axis=1)
    return np.asarray(least < SLEEP * mean, np.bool_)


def _need(traffic: Traffic, slot: Int64s, threshold: Floats) -> None:
    """Work out how many requests must be missing before a silence is one.

    With the rate known as a Gamma distribution of that shape, none of E expected requests comes with the
    chance ``(1 + E / shape) ** -shape`` (docs/detection.md, models).
    """
    asleep = _sleeps(traffic, slot)
    decades = threshold - np.where(asleep, DAY_OFF_DECADES, 0.0)
    needed = SHAPE * (10 ** (np.maximum(decades, 0.0) / SHAPE) - 1) / np.where(asleep, DAY_OFF, 1.0)
    traffic.needed[slot] = np.maximum(needed, LONGER * traffic.longest[slot])
    traffic.fastest[slot] = certain_rate(traffic, slot).max(axis=1)


def silence_decades(traffic: Traffic, slot: int, expected: float) -> float:
    """Return how surprising it is that none of so many requests came."""
    asleep = bool(_sleeps(traffic, np.array([slot]))[0])
    missing = expected * DAY_OFF if asleep else expected
    return SHAPE * float(np.log10(1 + missing / SHAPE)) + (DAY_OFF_DECADES if asleep else 0.0)


def is_new(traffic: Traffic, slot: Int64s) -> Bools:
    """Return ``(n,)`` which keys nothing is known of."""
    return np.asarray(traffic.hour[slot] == NEVER, np.bool_)
