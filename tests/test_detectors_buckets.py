"""Leaky buckets against a simulation that takes one event after the other."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios.streams import START_MS
from sizes import examples

from detectors.bucket_pass import fold_buckets
from detectors.bucket_state import BucketState
from detectors.buckets import Buckets, Events
from detectors.clock import FOREVER_MS
from detectors.columns import Hashed
from detectors.episode import Episode, Story
from detectors.spells import MAX_KNOWN, neighbours
from detectors.tally import Tally
from schemas.alert import Alert, to_ms

KEYS = 3
QUIET_MS = 120_000
EVENTS = st.lists(
    st.tuples(
        st.integers(0, KEYS - 1),
        st.sampled_from([0, 50, 1_000, 9_000, 40_000, 119_999, 120_000, 400_000]),
        st.none() | st.integers(0, 40),
        st.integers(0, 6),
    ),
    max_size=60,
)
CUTS = st.lists(st.integers(0, 60), max_size=6)


class _Teller:
    detector = rule = "buckets"
    facts = Tally

    def tell(self, episode: Episode) -> Story:
        return Story("full", "low", "", {}, (), "")


class Simulated:
    """One key: levels in seconds' thousandths, values met, and the times of each episode's events."""

    def __init__(self, buckets: Buckets) -> None:
        self.buckets = buckets
        self.last_ms = 0
        self.episodes: list[list[int]] = []
        self.forget()

    def forget(self) -> None:
        self.level_ms = [0] * len(self.buckets.sizes)
        self.known: set[str] = set()
        self.more: set[str] = set()
        self.alarmed = False

    def meet(self, time_ms: int, value: str | None, other: str, good: int) -> float:
        """Return how full the fullest bucket is after an event."""
        b = self.buckets
        if self.alarmed and time_ms - self.last_ms >= b.quiet_ms:
            self.forget()
        leaked_ms = time_ms - self.last_ms
        self.last_ms = time_ms
        taken = [good * (leak_ms // b.successes) if b.successes else 0 for leak_ms in b.leaks_ms]
        self.level_ms = [
            max(0, level_ms - leaked_ms - taken_ms)
            for level_ms, taken_ms in zip(self.level_ms, taken, strict=True)
        ]
        every = b.every
        if not any(self.level_ms[:every]):
            self.level_ms[every:] = [0] * (b.new + b.more + b.near)
            self.known, self.more = set(), set()
        new, near = self._news(value, self.known)
        other_new = b.more and self._news(other, self.more)[0]
        counting = [True] * every + [new] * b.new + [other_new] * b.more + [near] * b.near
        for i, counts in enumerate(counting):
            self.level_ms[i] += counts * b.leaks_ms[i]
        full = max(
            level_ms / (size * leak_ms) if size else 0.0
            for level_ms, size, leak_ms in zip(self.level_ms, b.sizes, b.leaks_ms, strict=True)
        )
        if full > 1 and not self.alarmed:
            self.alarmed = True
            self.episodes.append([])
        if self.alarmed:
            self.episodes[-1].append(time_ms)
        return full

    def _news(self, value: str | None, known: set[str]) -> tuple[bool, bool]:
        new = value is not None and value not in known
        near = new and any(other in known for other in neighbours(value))
        if new and len(known) < MAX_KNOWN:
            known.add(value)
        return new, near


@pytest.mark.parametrize(
    "buckets",
    [
        Buckets((4, 0), (10_000, 10_000), QUIET_MS),
        Buckets((4, 9, 3), (10_000, 60_000, 30_000), QUIET_MS),
        Buckets(
            (6, 0, 4, 5, 3), (1_000, 60_000, 2_000, 60_000, 300_000), QUIET_MS, new=2, near=1, successes=4
        ),
        Buckets((0, 2, 3, 4, 3), (60_000, 9_000, 60_000, 30_000, 300_000), QUIET_MS, new=2, more=1, near=1),
    ],
    ids=["one", "new values", "neighbours and good events", "two kinds of values"],
)
@given(events=EVENTS, cuts=CUTS)
@examples(20, thorough=150)
def test_levels_and_episodes_equal_those_of_a_simulation(
    buckets: Buckets, events: list[Any], cuts: list[int]
) -> None:
    """Every event leaves its key's buckets as full as simulated, however the stream is cut."""
    time_ms = START_MS + np.cumsum([gap_ms for _, gap_ms, _, _ in events], dtype=np.int64)
    values = [None if number is None else f"job-{number}" for _, _, number, _ in events]
    keys = [Simulated(buckets) for _ in range(KEYS)]
    expected = [
        keys[key].meet(at_ms, value, f"area-{good}", good)
        for (key, _, _, good), at_ms, value in zip(events, time_ms.tolist(), values, strict=True)
    ]
    state = BucketState(_Teller(), len(buckets.sizes))
    found: list[float] = []
    alerts: list[Alert] = []
    users = Hashed([f"user-{key}" for key in range(KEYS)])
    state.keys.intern(("tenant-a", "user_id", users), np.arange(KEYS))
    for start, stop in pairwise([0, *sorted(min(cut, len(events)) for cut in cuts), len(events)]):
        part = slice(start, stop)
        n = stop - start
        batch = Events(
            np.array([key for key, *_ in events[part]], np.int64),
            time_ms[part],
            np.zeros(n, np.int64),
            [f"e{i}" for i in range(start, stop)],
            values[part],
            marks=np.zeros(n, np.bool_),
            forced=np.zeros(n, np.bool_),
            kinds=(values[part], [f"area-{good}" for *_, good in events[part]]) if buckets.more else None,
            good=np.array([good for *_, good in events[part]], np.int64),
        )
        told, filled = fold_buckets(state, batch, [buckets])
        found += filled.fullness.tolist()
        alerts += told
    alerts += state.settle("tenant-a", FOREVER_MS - 1)
    assert found == pytest.approx(expected)
    opened = {alert.alert_id: alert for alert in alerts if alert.status == "open"}
    assert sorted(
        (
            alert.entity.value,
            to_ms(alert.detected_at),
            to_ms(alert.last_time),
            alert.event_count - opened[alert.alert_id].event_count + 1,
        )
        for alert in alerts
        if alert.status == "resolved"
    ) == sorted(
        (f"user-{i}", times[0], times[-1], len(times)) for i, key in enumerate(keys) for times in key.episodes
    )


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_last_revision_tells_the_highest_level(size: int) -> None:
    """Six events at once into a bucket of four, and another when half of that has leaked."""
    state = BucketState(_Teller(), 2)
    state.keys.intern(("tenant-a", "user_id", Hashed(["ana"])), np.arange(1))
    time_ms = START_MS + np.array([0, 0, 0, 0, 0, 0, 30_000])
    alerts = []
    for start in range(0, 7, size):
        part = time_ms[start : start + size]
        n, ids = len(part), [f"e{start + i}" for i in range(len(part))]
        nothing, no = np.zeros(n, np.int64), np.zeros(n, np.bool_)
        events = Events(nothing, part, nothing, ids, ids, marks=no, forced=no)
        alerts += fold_buckets(state, events, [Buckets((4, 0), (10_000, 10_000), QUIET_MS)])[0]
    alerts += state.settle("tenant-a", FOREVER_MS)
    assert [(a.status, a.event_count, a.score) for a in alerts] == [("open", 5, 5.0), ("resolved", 7, 6.0)]
