"""How many requests a caller may make: a sliding window, counted in slices."""

import math
from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Final

from schemas.tenant import RateLimit

# So many callers are remembered; the one that has been silent longest is forgotten first.
MAX_CALLERS: Final = 50_000
# Of a window. A slice is forgotten as a whole, once its last moment has left the window: so no window has
# more requests than are allowed, and a caller waits at most a thirtieth longer than it had to.
SLICES: Final = 30


@dataclass(slots=True)
class _Counted:
    length_s: float
    # Number of the slice since the clock's beginning, and requests in it; the oldest first.
    slices: deque[list[int]] = field(default_factory=deque)
    requests: int = 0


@dataclass(frozen=True)
class Verdict:
    """Whether a request may go on.

    Parameters
    ----------
    remaining
        Requests left at this moment.
    reset_s
        Until there are more again, in whole seconds; never 0.
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

    >>> limiter = RateLimiter()
    >>> limit = RateLimit(requests=2, window_s=60)
    >>> [limiter.take("ana", limit, now_s).allowed for now_s in (0.0, 1.0, 2.0, 63.0)]
    [True, True, False, True]
    """

    def __init__(self, max_callers: int = MAX_CALLERS) -> None:
        self._counted: OrderedDict[Hashable, _Counted] = OrderedDict()
        self._max_callers = max_callers

    def take(self, caller: Hashable, limit: RateLimit, now_s: float) -> Verdict:
        """Count a request, if it may go on; one that is refused does not count."""
        counted = self._at(caller, limit, now_s)
        if counted.requests < limit.requests:
            number = _slice_of(now_s, counted.length_s)
            if not counted.slices or counted.slices[-1][0] != number:
                counted.slices.append([number, 0])
            counted.slices[-1][1] += 1
            counted.requests += 1
            return _verdict(counted, limit, now_s, allowed=True)
        return _verdict(counted, limit, now_s, allowed=False)

    def take_all(self, limits: Mapping[Hashable, RateLimit], now_s: float) -> Verdict:
        """Count a request against several limits, if every one lets it on, and return the one that binds.

        That is of those that refuse it the one that does longest, else the one that leaves least.

        >>> limiter, ten, two = RateLimiter(), RateLimit(requests=10), RateLimit(requests=2)
        >>> [limiter.take_all({"tenant": two, user: ten}, 0.0).allowed for user in ("ana", "ben", "eve")]
        [True, True, False]
        """
        if (refusal := self.refusal(limits, now_s)) is not None:
            return refusal
        taken = [self.take(*each, now_s) for each in limits.items()]
        return min(taken, key=lambda verdict: verdict.remaining)

    def refusal(self, limits: Mapping[Hashable, RateLimit], now_s: float) -> Verdict | None:
        """Return which of several limits would refuse a request for longest, and count nothing."""
        refused = [v for v in (self.look(*each, now_s) for each in limits.items()) if not v.allowed]
        return max(refused, key=lambda verdict: verdict.reset_s, default=None)

    def look(self, caller: Hashable, limit: RateLimit, now_s: float) -> Verdict:
        """Say whether a request might go on, and count nothing."""
        counted = self._at(caller, limit, now_s)
        return _verdict(counted, limit, now_s, allowed=counted.requests < limit.requests)

    def _at(self, caller: Hashable, limit: RateLimit, now_s: float) -> _Counted:
        counted = self._counted.get(caller)
        if counted is None or counted.length_s != limit.window_s:
            counted = self._counted[caller] = _Counted(limit.window_s)
        self._counted.move_to_end(caller)
        while len(self._counted) > self._max_callers:
            self._counted.popitem(last=False)
        while counted.slices and _forgotten_at(counted.slices[0][0], counted.length_s) <= now_s:
            counted.requests -= counted.slices.popleft()[1]
        return counted


def _slice_of(now_s: float, length_s: float) -> int:
    return math.floor(now_s * SLICES / length_s)


def _forgotten_at(number: int, length_s: float) -> float:
    return (number + 1 + SLICES) * length_s / SLICES


def _verdict(counted: _Counted, limit: RateLimit, now_s: float, *, allowed: bool) -> Verdict:
    over = counted.requests - limit.requests + 1
    freed, at_s = 0, now_s
    for number, requests in counted.slices:
        at_s = _forgotten_at(number, counted.length_s)
        freed += requests
        if freed >= over:
            break
    remaining = max(0, limit.requests - counted.requests)
    return Verdict(allowed, limit.requests, remaining, max(1, math.ceil(at_s - now_s)))
