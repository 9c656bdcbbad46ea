"""When a failed attempt is made again."""

import time
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.webhooks.schedule import parse_retry_after, pause_s, retry_delay_s

MINUTE, HOUR = 60, 3_600


def test_ten_attempts_are_spread_over_the_schedule_of_the_standard() -> None:
    """Without jitter the waits are 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h; then it is over."""
    waits = [retry_delay_s(attempts, None, lambda: 0.0) for attempts in range(1, 11)]
    hours = [hours * HOUR for hours in (2, 5, 10, 14, 20, 24)]
    assert waits == [5, 5 * MINUTE, 30 * MINUTE, *hours, None]


@given(st.integers(1, 9), st.floats(0, 1, exclude_max=True))
def test_jitter_makes_a_wait_longer_by_up_to_a_tenth(attempts: int, chance: float) -> None:
    """Jitter never brings an attempt forward."""
    plain = retry_delay_s(attempts, None, lambda: 0.0)
    jittered = retry_delay_s(attempts, None, lambda: chance)
    assert plain is not None
    assert jittered is not None
    assert plain <= jittered <= 1.1 * plain


def test_a_longer_retry_after_replaces_the_schedule_s_wait() -> None:
    """Asked for ten minutes after the first attempt, we wait ten minutes."""
    assert retry_delay_s(1, 600, lambda: 0.0) == 600


def test_a_shorter_retry_after_does_not_hurry_us() -> None:
    """The schedule's wait is the least there is."""
    assert retry_delay_s(3, 1, lambda: 0.0) == 30 * MINUTE


def test_retry_after_is_capped_at_a_day() -> None:
    """A receiver that asks for a year gets a day."""
    assert retry_delay_s(1, 365 * 24 * HOUR, lambda: 0.0) == 24 * HOUR
    assert pause_s(429, 365 * 24 * HOUR, 1) == 24 * HOUR


@pytest.mark.parametrize("status", [429, 502, 504])
def test_an_overloaded_endpoint_is_paused_longer_each_time(status: int) -> None:
    """429, 502 and 504 double the pause up to five minutes."""
    assert [pause_s(status, None, slowed) for slowed in (1, 2, 3, 7, 50)] == [5, 10, 20, 300, 300]


@pytest.mark.parametrize("status", [0, 400, 500, 503])
def test_other_failures_do_not_pause_the_endpoint(status: int) -> None:
    """They concern one delivery, unless the receiver asks with Retry-After."""
    assert pause_s(status, None, 0) == 0
    assert pause_s(status, 30, 0) == 30


def test_retry_after_is_read_as_an_http_date() -> None:
    """A date counts from now."""
    now = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
    later = format_datetime(datetime(2026, 1, 31, 9, 32, tzinfo=UTC), usegmt=True)
    assert parse_retry_after(later, now.timestamp()) == 120


def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this machine stands does not matter."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_retry_after("Thu, 01 Jan 1970 00:01:00 -0000", 0) == 60
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_retry_after_in_the_past_is_no_wait() -> None:
    """A date gone by asks for nothing."""
    assert parse_retry_after("Thu, 01 Jan 1970 00:00:00 GMT", 1e9) == 0


@pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "٣", "Thu, 99 Jan 1970 00:00:00 GMT"])
def test_an_unreadable_retry_after_is_ignored(value: str) -> None:
    """What is neither seconds nor a date counts as absent."""
    assert parse_retry_after(value, 0) is None


@given(
    st.text(max_size=60)
    | st.from_regex(r"[A-Z][a-z]{2}, \d{1,25} (Jan|Feb) \d{1,25} \d\d:\d\d:\d\d [+-]?\w{1,6}", fullmatch=True)
    | st.from_regex(r"\d{1,500}", fullmatch=True)
)
def test_no_retry_after_breaks_us(value: str) -> None:
    """Whatever a receiver writes there, it is a wait that is not negative, or nothing."""
    wait = parse_retry_after(value, 0)
    assert wait is None or wait >= 0
