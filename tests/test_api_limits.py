"""The rate limiter: never too many in any window, and never refused for longer than it said."""

from hypothesis import given
from hypothesis import strategies as st

from api.v1.limits import SLICES, RateLimiter
from schemas.tenant import RateLimit

GAPS = st.lists(st.floats(0, 40, allow_nan=False), max_size=120)


@given(gaps=GAPS, requests=st.integers(1, 20), window_s=st.integers(1, 100))
def test_no_window_has_more_than_are_allowed(gaps: list[float], requests: int, window_s: int) -> None:
    """Wherever it begins, also across the slices that are counted in."""
    limiter, limit = RateLimiter(), RateLimit(requests=requests, window_s=window_s)
    now_s, taken = 0.0, list[float]()
    for gap_s in gaps:
        now_s += gap_s
        if limiter.take("ana", limit, now_s).allowed:
            taken.append(now_s)
    for start_s in taken:
        assert sum(start_s <= each < start_s + window_s for each in taken) <= requests


@given(gaps=GAPS, requests=st.integers(1, 20), window_s=st.integers(1, 100))
def test_whoever_waits_as_told_is_let_in(gaps: list[float], requests: int, window_s: int) -> None:
    """And is never told to wait much longer than a window."""
    limiter, limit = RateLimiter(), RateLimit(requests=requests, window_s=window_s)
    now_s = 0.0
    for gap_s in gaps:
        now_s += gap_s
        verdict = limiter.take("ana", limit, now_s)
        if not verdict.allowed:
            assert verdict.reset_s <= window_s * (1 + 1 / SLICES) + 1
            now_s += verdict.reset_s
            assert limiter.take("ana", limit, now_s).allowed


@given(gaps=GAPS, requests=st.integers(1, 20))
def test_what_remains_is_what_is_let_in(gaps: list[float], requests: int) -> None:
    """Told 3 remaining, three at once pass and the fourth does not."""
    limiter, limit = RateLimiter(), RateLimit(requests=requests, window_s=60)
    now_s = 0.0
    for gap_s in gaps:
        now_s += gap_s
        limiter.take("ana", limit, now_s)
    remaining = limiter.look("ana", limit, now_s).remaining
    passed = [limiter.take("ana", limit, now_s).allowed for _ in range(remaining + 1)]
    assert passed == [True] * remaining + [False]


def test_a_smaller_limit_holds_at_once() -> None:
    """Whoever has had more by then waits until enough of it is forgotten."""
    limiter = RateLimiter()
    for second in range(10):
        limiter.take("ana", RateLimit(requests=10, window_s=60), float(second))
    verdict = limiter.take("ana", RateLimit(requests=5, window_s=60), 10.0)
    assert not verdict.allowed
    assert limiter.take("ana", RateLimit(requests=5, window_s=60), 10.0 + verdict.reset_s).allowed


def test_whoever_was_silent_longest_is_forgotten_first() -> None:
    """Memory is bounded by callers, not by time."""
    limiter, limit = RateLimiter(max_callers=2), RateLimit(requests=1, window_s=60)
    for caller in ("ana", "ben", "ana", "eve"):
        limiter.take(caller, limit, 0.0)
    assert not limiter.look("ana", limit, 0.0).allowed
    assert limiter.look("ben", limit, 0.0).allowed
