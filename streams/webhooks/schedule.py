"""When to try again, by Standard Webhooks."""

from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

# Waits after the first, second, … failed attempt; the first attempt is made at once, the tenth is the last.
RETRY_DELAYS_S: Final = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
# A wait is up to a tenth longer, never shorter, so that what failed together is not retried together.
JITTER: Final = 0.1
MAX_RETRY_AFTER_S: Final = 86_400  # the longest wait of the schedule: a receiver cannot ask for more

TOO_FAST: Final = frozenset({429, 502, 504})  # statuses that slow the whole endpoint down
FIRST_PAUSE_S: Final = 5
MAX_PAUSE_S: Final = 300


def retry_delay_s(attempts: int, retry_after_s: float | None, random: Callable[[], float]) -> float | None:
    """Return how long to wait after a failed attempt, or None if it was the last.

    Parameters
    ----------
    attempts
        Made so far, the failed one included.
    retry_after_s
        What the receiver asked for: waited for if it is longer than the schedule's wait.
    random
        Gives numbers of [0, 1).

    Examples
    --------
    >>> [retry_delay_s(n, None, lambda: 0) for n in (1, 2, 9, 10)]
    [5.0, 300.0, 86400.0, None]
    >>> retry_delay_s(1, 120, lambda: 0.5)
    126.0
    """
    if attempts > len(RETRY_DELAYS_S):
        return None
    asked_s = min(retry_after_s or 0, MAX_RETRY_AFTER_S)
    return max(RETRY_DELAYS_S[attempts - 1], asked_s) * (1 + JITTER * random())


def pause_s(http_status: int, retry_after_s: float | None, slowed: int) -> float:
    """Return how long to leave the whole endpoint alone after a failed attempt.

    Parameters
    ----------
    slowed
        How many times in a row it has answered 429, 502 or 504, this one included.

    Examples
    --------
    >>> [pause_s(429, None, n) for n in (1, 2, 3, 20)], pause_s(500, None, 0), pause_s(503, 60, 0)
    ([5, 10, 20, 300], 0, 60)
    """
    asked_s = min(retry_after_s or 0, MAX_RETRY_AFTER_S)
    if http_status not in TOO_FAST:
        return asked_s
    return max(asked_s, min(FIRST_PAUSE_S << min(slowed - 1, 10), MAX_PAUSE_S))


def parse_retry_after(value: str, now_s: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, or None if it cannot be read.

    Parameters
    ----------
    value
        Seconds, or an HTTP date.
    now_s
        Seconds since 1970.

    Examples
    --------
    >>> parse_retry_after("120", 0), parse_retry_after("Thu, 01 Jan 1970 00:01:00 GMT", 0)
    (120.0, 60.0)
    """
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        time = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    return max(0.0, time.timestamp() - now_s)
