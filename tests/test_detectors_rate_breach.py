"""The sliding window against a log that keeps every request."""

from collections import deque
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios.streams import START_MS, TENANT, batch_of, numbered, run
from sizes import examples

from detectors import rate_breach, sliding_log
from detectors.rate_breach import RateBreach
from detectors.sliding_log import SlidingLog
from schemas.tenant import RateLimit, Tenant, unknown_tenant


def tenant(requests: int, window_s: int = 60, tier: str = "standard") -> Tenant:
    """Return a tenant with a limit of its own."""
    limit = RateLimit(requests=requests, window_s=window_s)
    return unknown_tenant(TENANT).model_copy(update={"rate_limit": limit, "tier": tier})


def log_of(events: list[tuple[int, int]], limit: int, window_ms: int) -> list[bool]:
    """Return which of (key, time) events are over the limit, by a log that keeps every one."""
    logs: dict[int, deque[int]] = {}
    over: list[bool] = []
    for key, time_ms in events:
        log = logs.setdefault(key, deque())
        time_ms = max(time_ms, log[-1]) if log else time_ms
        log.append(time_ms)
        while log[0] <= time_ms - window_ms:
            log.popleft()
        over.append(len(log) > limit)
    return over


@given(
    seed=st.integers(0, 2**32 - 1),
    keys=st.integers(1, 30),
    limit=st.integers(1, 60),
    pace_ms=st.sampled_from([1, 40, 400, 5_000]),
    cuts=st.lists(st.integers(0, 10_000), max_size=20),
)
@examples(5, thorough=40)
def test_agrees_with_a_log_of_every_request(
    seed: int, keys: int, limit: int, pace_ms: int, cuts: list[int]
) -> None:
    """Every request of ten thousand gets the verdict of a naive sliding log, however the stream is cut."""
    rng = np.random.default_rng(seed)
    n = 10_000
    slot = rng.integers(0, keys, n)
    time_ms = START_MS + np.cumsum(rng.integers(0, 2 * pace_ms, n)) - rng.integers(0, 5 * pace_ms, n)
    log, found = SlidingLog(), np.zeros(n, np.bool_)
    log.reserve(keys)
    bounds = [0, *sorted(set(cuts)), n]
    window_ms = 10_000
    for start, stop in pairwise(bounds):
        if start == stop:
            continue
        order = start + np.argsort(slot[start:stop], kind="stable")
        sorted_slot = slot[order]
        starts = np.flatnonzero(np.diff(sorted_slot, prepend=-1))
        times = time_ms[order].copy()
        for begin, end in zip(starts, [*starts[1:], len(order)], strict=True):
            times[begin] = max(times[begin], log.last_ms(sorted_slot[[begin]])[0])
            times[begin:end] = np.maximum.accumulate(times[begin:end])
        distinct = sorted_slot[starts]
        limits = np.full(len(distinct), limit)
        found[order], _ = log.add(distinct, starts, times, limits, np.full(len(distinct), window_ms))
    expected = log_of(list(zip(slot.tolist(), time_ms.tolist(), strict=True)), limit, window_ms)
    assert found.tolist() == expected


def requests(n: int, every_ms: int, start_ms: int = START_MS, **fields: Any) -> list[dict[str, Any]]:
    """Return n requests of one user."""
    return [{"time_ms": start_ms + i * every_ms, "user_id": "ana", **fields} for i in range(n)]


def test_memory_follows_requests_not_limits() -> None:
    """A thousand users with two requests each take far less room than their limits of a thousand would."""
    detector = RateBreach()
    state = detector.new_state()
    events = numbered({"time_ms": START_MS + i, "user_id": f"user-{i % 1000}"} for i in range(2_000))
    detector.fold(batch_of("request", events, {TENANT: tenant(1_000)}), state)
    assert len(state.log._arena) <= 8 * 1024


def test_a_new_limit_holds_from_the_next_request() -> None:
    """A user at the old limit may go on up to the new one as soon as the tier has changed."""
    events = numbered(requests(100, 10) + requests(10, 10, START_MS + 2_000))
    assert run(RateBreach(), events, tenants={TENANT: tenant(100)})
    state = RateBreach().new_state()
    detector = RateBreach()
    run(detector, events[:100], tenants={TENANT: tenant(100)}, state=state)
    assert run(detector, events[100:], tenants={TENANT: tenant(105, tier="enterprise")}, state=state)
    state = detector.new_state()
    run(detector, events[:100], tenants={TENANT: tenant(100)}, state=state)
    assert not run(detector, events[100:], tenants={TENANT: tenant(110)}, state=state)


def test_the_alert_tells_requests_limit_window_and_tier() -> None:
    """The numbers behind a breach are those of the revision's own request."""
    alerts = run(RateBreach(), numbered(requests(14, 1_000)), tenants={TENANT: tenant(10)})
    assert [alert.evidence.numbers for alert in alerts] == [
        {
            "requests": 10 + n,
            "limit": 10,
            "window_s": 60,
            "tier": "standard",
            "over_limit": n,
            "over_for_s": n - 1,
            "shape": "burst",
            "predicted_requests": predicted,
        }
        for n, predicted in ((1, 61), (2, 61), (4, 61))
    ]


def test_an_episode_is_resolved_after_a_quiet_window() -> None:
    """An hour after the last breach the alert is resolved, and the next breach is another alert."""
    later_ms = START_MS + 3_600_000
    events = numbered(requests(12, 1_000) + requests(12, 1_000, later_ms))
    alerts = run(RateBreach(), events, tenants={TENANT: tenant(10)})
    assert [alert.status for alert in alerts] == ["open", "updated", "resolved", "open", "updated"]
    assert len({alert.alert_id for alert in alerts}) == 2


def test_severity_follows_how_far_over() -> None:
    """Just over the limit is low, twice the limit medium, five times high; told at once."""
    alerts = run(RateBreach(), numbered(requests(80, 10)), tenants={TENANT: tenant(10)})
    assert [(alert.evidence.numbers["requests"], alert.severity) for alert in alerts] == [
        (11, "low"),
        (12, "low"),
        (14, "low"),
        (18, "low"),
        (20, "medium"),
        (26, "medium"),
        (42, "medium"),
        (50, "high"),
        (74, "high"),
    ]


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_the_last_revision_tells_the_most_there_was(size: int) -> None:
    """Six times the limit within ten minutes, then less and less of it until it is over."""
    calm_ms = START_MS + 600_000
    events = numbered(
        requests(600, 1_000) + requests(3, 60_000, calm_ms) + requests(1, 1, calm_ms + 3_600_000)
    )
    limit = {TENANT: tenant(100, window_s=900)}
    last = run(RateBreach(), events, range(0, len(events), size), limit)[-1]
    assert (last.status, last.severity, last.score) == ("resolved", "high", 603.0)
    assert last.summary.startswith("ana made 603 requests in 15 min, where")
    assert "; 503 over the limit" in last.summary


def test_api_keys_have_a_window_where_no_user_is_named() -> None:
    """Requests without a user count for their api key; without either they count for nobody."""
    events = numbered(requests(11, 10, user_id=None, api_key_id="key-1") + requests(11, 10, user_id=None))
    alerts = run(RateBreach(), events, tenants={TENANT: tenant(10)})
    assert [(alert.entity.type, alert.entity.value) for alert in alerts] == [("api_key_id", "key-1")]


def test_an_api_key_has_a_window_whoever_uses_it() -> None:
    """Going by many user ids does not make a key's requests anybody's."""
    events = numbered(
        {**one, "user_id": f"user-{i % 5}"} for i, one in enumerate(requests(11, 10, api_key_id="key-1"))
    )
    [alert] = run(RateBreach(), events, tenants={TENANT: tenant(10)})
    assert (alert.entity.type, alert.entity.value) == ("api_key_id", "key-1")


def test_a_breach_by_a_user_with_a_key_of_their_own_is_one_alert() -> None:
    """The key is not blamed for what its user is."""
    alerts = run(RateBreach(), numbered(requests(30, 10, api_key_id="key-1")), tenants={TENANT: tenant(10)})
    assert {(alert.entity.type, alert.entity.value) for alert in alerts} == {("user_id", "ana")}


def test_a_million_requests_get_the_verdicts_of_an_exact_log() -> None:
    """Counting what is in each request's window gives the same answer; limits differ from key to key."""
    rng = np.random.default_rng(7)
    n, keys, window_ms = 1_000_000, 700, 60_000
    limits = rng.integers(1, 60, keys)
    # Some keys are far busier than others, and everybody has bursts.
    slot = (keys * rng.random(n) ** 2).astype(np.int64)
    gaps_ms = rng.exponential(20, n) * rng.choice([0.01, 1, 4], n, p=[0.4, 0.5, 0.1])
    time_ms = START_MS + np.cumsum(gaps_ms).astype(np.int64)
    log, found = SlidingLog(), np.zeros(n, np.bool_)
    log.reserve(keys)
    cuts = np.cumsum(rng.integers(1, 9_000, n // 4_000))
    for start, stop in pairwise([0, *cuts[cuts < n].tolist(), n]):
        order = start + np.argsort(slot[start:stop], kind="stable")
        starts = np.flatnonzero(np.diff(slot[order], prepend=-1))
        mine = slot[order][starts]
        windows_ms = np.full(len(mine), window_ms)
        found[order], _ = log.add(mine, starts, time_ms[order], limits[mine], windows_ms)
    expected = np.zeros(n, np.bool_)
    for key in range(keys):
        rows = np.flatnonzero(slot == key)
        gone = np.searchsorted(time_ms[rows], time_ms[rows] - window_ms, side="right")
        expected[rows] = np.arange(1, len(rows) + 1) - gone > limits[key]
    assert 0.1 < expected.mean() < 0.9
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("n", "every_ms", "shape"), [(14, 100, "burst"), (14, 4_000, "creeping"), (80, 1_500, "sustained")]
)
def test_a_breach_is_a_burst_creeping_or_sustained(n: int, every_ms: int, shape: str) -> None:
    """All at once, little by little, or for longer than the window."""
    last = run(RateBreach(), numbered(requests(n, every_ms)), tenants={TENANT: tenant(10)})[-1]
    assert last.evidence.numbers["shape"] == shape


def test_what_the_window_will_hold_at_this_pace_is_told() -> None:
    """One a second: when the first one leaves it, a window of a minute will hold sixty-one."""
    first = run(RateBreach(), numbered(requests(11, 1_000)), tenants={TENANT: tenant(10)})[0]
    assert first.evidence.numbers["predicted_requests"] == 61


def test_a_key_without_events_has_no_last_time_in_a_compacted_log() -> None:
    """As after a restart: nothing is in the arena behind the last ring."""
    log, keys = SlidingLog(), np.arange(300)
    log.reserve(301)
    ones = np.ones(300, np.int64)
    log.add(keys, keys, 1_000 + keys, ones, 900_000 * ones)
    log.compact()
    assert log.last_ms(np.array([300, 7, 299])).tolist() == [0, 1_007, 1_299]


def test_places_that_start_over_change_no_count_and_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the very batch that reaches the last place too, every request has its verdict, count and window."""
    most, window_ms, limit = 32, 1_000, 10
    monkeypatch.setattr(sliding_log, "MAX_COUNT", most)
    monkeypatch.setattr(sliding_log, "MAX_RING", 2 * most)
    monkeypatch.setattr(sliding_log, "_MAX_PLACE", 8 * most)
    rng = np.random.default_rng(7)
    log, key, done = SlidingLog(), np.zeros(1, np.int64), 0
    log.reserve(1)
    time_ms = START_MS + np.cumsum(rng.integers(0, 160, 2_000))
    for size in rng.integers(1, most, 60).tolist():
        times = time_ms[done : done + size]
        over, place = log.add(key, key, times, key + limit, key + window_ms)
        counts = log.counts(np.zeros(size, np.int64), place, times)
        for i, now_ms in enumerate(times.tolist()):
            seen = time_ms[: done + i + 1]
            live = seen[seen > now_ms - window_ms][-most:].tolist()
            assert log.window(0, int(place[i]), now_ms).tolist() == live
            assert (over[i], counts[i]) == (len(live) > limit, len(live))
        done += size
    assert done > 2 * 8 * most


def test_a_breach_of_a_large_limit_is_high_where_counting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as are counted is as grave as it gets: five times such a limit is more than that."""
    monkeypatch.setattr(sliding_log, "MAX_COUNT", 32)
    monkeypatch.setattr(sliding_log, "MAX_RING", 64)
    monkeypatch.setattr(rate_breach, "MAX_COUNT", 32)
    alerts = run(RateBreach(), numbered(requests(60, 10)), tenants={TENANT: tenant(10)})
    *_, before, told, _ = alerts
    assert (before.severity, before.summary[:29]) == ("medium", "ana made 26 requests in 1 min")
    assert (told.severity, told.summary[:38]) == ("high", "ana made at least 32 requests in 1 min")
