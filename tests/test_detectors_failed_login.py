"""Failed logins against a simulation that goes event by event."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scenarios.streams import START_MS, as_set, numbered, run

from detectors.failed_login import FailedLogin
from detectors.parameters import FailedLoginParameters
from detectors.spells import MAX_KNOWN, MAX_RECENT

MINUTE_MS = 60_000
LATE_MS = 15 * MINUTE_MS
P = FailedLoginParameters()
SIZES = (P.burst_failures, P.minute_failures, P.hour_failures, P.strict_failures, P.new_users)
LEAKS_MS = tuple(
    1000 * leak_s
    for leak_s in (P.burst_leak_s, P.minute_leak_s, P.hour_leak_s, P.strict_leak_s, P.new_users_leak_s)
)


class Simulated:
    """One key's buckets and episode, one event at a time, as the documentation tells it."""

    def __init__(self, new_users: bool) -> None:
        self.sizes = SIZES if new_users else (*SIZES[:-1], 0)
        self.episodes: list[dict[str, object]] = []
        self.episode: dict[str, object] | None = None
        self.forget()

    def forget(self) -> None:
        self.empty_ms = [0] * len(SIZES)
        self.last_ms = 0
        self.recent: list[tuple[int, str]] = []
        self.known: set[str] = set()

    def fail(self, time_ms: int, event_id: str, value: str) -> bool:
        """Count a failure; return whether a bucket runs over."""
        time_ms = max(time_ms, self.last_ms)
        if self.episode and time_ms - self.episode["last_ms"] >= 1000 * P.quiet_s:
            self.episode["over"] = True
            self.episode = None
            self.forget()
        if all(empty_ms <= time_ms for empty_ms in self.empty_ms[:-1]):
            self.empty_ms[-1], self.recent, self.known = 0, [], set()
        new = value not in self.known
        if new and len(self.known) < MAX_KNOWN:
            self.known.add(value)
        for i, leak_ms in enumerate(LEAKS_MS):
            if i < len(LEAKS_MS) - 1 or new:
                self.empty_ms[i] = max(time_ms, self.empty_ms[i]) + leak_ms
        self.last_ms = time_ms
        shares = [
            (empty_ms - time_ms) / (size * leak_ms) if size else 0.0
            for empty_ms, size, leak_ms in zip(self.empty_ms, self.sizes, LEAKS_MS, strict=True)
        ]
        self.recent = [*self.recent, (time_ms, event_id)][-MAX_RECENT:]
        if self.episode:
            self.episode["last_ms"] = time_ms
            self.episode["count"] += 1
            if self.episode["count"].bit_count() == 1:
                self.episode["told"] = (time_ms, self.episode["count"])
        elif max(shares) > 1.0:
            fullest = shares.index(max(shares))
            span_ms = self.sizes[fullest] * LEAKS_MS[fullest]
            before = [e for e in self.recent[:-1] if e[0] > time_ms - span_ms]
            self.episode = {
                "first_ms": (before or [(time_ms, event_id)])[0][0],
                "last_ms": time_ms,
                "count": len(before) + 1,
                "detected_ms": time_ms,
                "over": False,
                "told": (time_ms, len(before) + 1),
            }
            self.episodes.append(self.episode)
        return max(shares) > 1.0


def simulate(events: list[dict[str, object]]) -> set[tuple[object, ...]]:
    """Return what the simulation finds: entity, first, detected and last time, count, whether over."""
    addresses: dict[object, Simulated] = {}
    users: dict[object, Simulated] = {}
    watermark_ms = 0
    for event in events:
        time_ms = max(event["time_ms"], watermark_ms - LATE_MS)
        watermark_ms = max(watermark_ms, time_ms)
        user, address = event["user_id"], event["source_ip"]
        full = False
        if address:
            full = addresses.setdefault(address, Simulated(True)).fail(time_ms, event["event_id"], user)
        if not full:
            users.setdefault(user, Simulated(False)).fail(time_ms, event["event_id"], address)
    result: set[tuple[object, ...]] = set()
    for keys in (addresses, users):
        for name, simulated in keys.items():
            for episode in simulated.episodes:
                over = episode["over"] or episode["last_ms"] + 1000 * P.quiet_s <= watermark_ms - LATE_MS
                told = (episode["last_ms"], episode["count"]) if over else episode["told"]
                result.add((name, episode["first_ms"], episode["detected_ms"], *told, over))
    return result


def found(alerts) -> set[tuple[object, ...]]:
    """Return the same of the last revisions."""
    last = {alert.alert_id: alert for alert in alerts}

    def ms(value) -> int:
        return round(value.timestamp() * 1000)

    return {
        (
            a.entity.value,
            ms(a.first_time),
            ms(a.detected_at),
            ms(a.last_time),
            a.event_count,
            a.status == "resolved",
        )
        for a in last.values()
    }


def failures(seed: int, n: int, pace_ms: float) -> list[dict[str, object]]:
    """Return failures of a few users from a few addresses, bursts and pauses among them, some out of order."""
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(pace_ms, n) * rng.choice([0.05, 1, 20], n, p=[0.6, 0.3, 0.1])
    times = START_MS + np.cumsum(gaps).astype(np.int64) - rng.integers(0, 3, n) * rng.integers(0, 60_000, n)
    addresses = [f"192.0.2.{i}" for i in range(4)] + [None]
    return numbered(
        {
            "time_ms": int(time_ms),
            "user_id": f"user-{rng.integers(0, 1 + 12 * (i % 3))}",
            "source_ip": addresses[rng.choice(5, p=[0.5, 0.2, 0.1, 0.1, 0.1])],
            "action": "login",
            "outcome": "failure",
        }
        for i, time_ms in enumerate(times)
    )


@pytest.mark.parametrize("pace_ms", [500, 20_000, 300_000])
@pytest.mark.parametrize("seed", range(5))
def test_episodes_equal_those_of_a_simulation(seed: int, pace_ms: float) -> None:
    """Buckets, spells and episodes agree with a simulation that takes one event after the other."""
    events = failures(seed, 1_000, pace_ms)
    expected = simulate(events)
    assert expected
    assert found(run(FailedLogin(), events)) == expected


@given(
    st.integers(0, 1_000), st.sampled_from([500, 20_000, 300_000]), st.lists(st.integers(0, 200), max_size=8)
)
@settings(max_examples=60, deadline=None)
def test_splits(seed: int, pace_ms: float, cuts: list[int]) -> None:
    events = failures(seed, 200, pace_ms)
    for i, event in enumerate(events):
        if i % 5 == 4:
            event["outcome"] = "success"
    assert as_set(run(FailedLogin(), events, cuts)) == as_set(run(FailedLogin(), events))
