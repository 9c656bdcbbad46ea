"""How many requests a caller may make: a sliding window counted in two halves."""

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from schemas.tenant import RateLimit

# So many callers are remembered; the one that has been silent longest is forgotten first.
MAX_CALLERS: Final = 50_000


@dataclass(slots=True)
class _Window:
    start_s: float
    length_s: float
    now: int = 0
    before: int = 0


@dataclass(frozen=True)
class Verdict:
    """Whether a request may go on.

    Parameters
    ----------
    remaining
        Requests left at this moment.
    reset_s
        Until there is one more than that, in whole seconds; never 0.
    """

    allowed: bool
    limit: int
    remaining: int
    reset_s: int

    def headers(self) -> dict[str, str]:
        """Return the answer's headers."""
        shown = {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset_s),
        }
        return shown if self.allowed else {**shown, "Retry-After": str(self.reset_s)}


class RateLimiter:
    """Counts requests by caller.

    The count of a sliding window is taken to be this window's and as much of the one before as still
    overlaps: two numbers a caller instead of every request's time, and at most a few per cent off.

    >>> limiter = RateLimiter()
    >>> limit = RateLimit(requests=2, window_s=60)
    >>> [limiter.take("ana", limit, now_s).allowed for now_s in (0.0, 1.0, 2.0, 95.0)]
    [True, True, False, True]
    """

    def __init__(self, max_callers: int = MAX_CALLERS) -> None:
        self._windows: OrderedDict[Hashable, _Window] = OrderedDict()
        self._max_callers = max_callers

    def take(self, caller: Hashable, limit: RateLimit, now_s: float) -> Verdict:
        """Count a request, if it may go on; one that is refused does not count."""
        window = self._window(caller, limit, now_s)
        verdict = self._judge(window, limit, now_s)
        if verdict.allowed:
            window.now += 1
        return verdict

    def look(self, caller: Hashable, limit: RateLimit, now_s: float) -> Verdict:
        """Say whether a request might go on, and count nothing."""
        return self._judge(self._window(caller, limit, now_s), limit, now_s)

    def _window(self, caller: Hashable, limit: RateLimit, now_s: float) -> _Window:
        window = self._windows.get(caller)
        if window is None or window.length_s != limit.window_s or now_s < window.start_s:
            window = self._windows[caller] = _Window(now_s, limit.window_s)
        self._windows.move_to_end(caller)
        while len(self._windows) > self._max_callers:
            self._windows.popitem(last=False)
        passed = int((now_s - window.start_s) // window.length_s)
        if passed:
            window.before = window.now if passed == 1 else 0
            window.now = 0
            window.start_s += passed * window.length_s
        return window

    @staticmethod
    def _judge(window: _Window, limit: RateLimit, now_s: float) -> Verdict:
        into = (now_s - window.start_s) / window.length_s
        used = window.now + window.before * (1 - into)
        allowed = used + 1 <= limit.requests
        remaining = max(0, math.floor(limit.requests - used - 1)) if allowed else 0
        return Verdict(allowed, limit.requests, remaining, _reset_s(window, limit.requests, into))


def _reset_s(window: _Window, requests: int, into: float) -> int:
    """Return in how many seconds the count has fallen so far that one more request fits."""
    room = requests - 1
    if window.now <= room and window.before:
        at = 1 - (room - window.now) / window.before
        wait = max(at - into, 0.0) if at > into else 1 - into
    elif window.now > room:
        # It is the next window's turn, in which this one's count fades.
        wait = (1 - into) + max(0.0, 1 - room / window.now)
    else:
        wait = 1 - into
    return max(1, math.ceil(wait * window.length_s))
