"""When to stop: a partition of which too much is rejected is not dead-lettered to its end.

A producer that was deployed with a defect, or a directory that lost its tenants, makes every message
invalid. Setting all of them aside would empty the topic into ``audit.dead-letters`` and look like progress;
stopped, the messages wait in Kafka until somebody has mended the cause. Pure: no clock, no I/O.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

RATIO_WINDOW: Final = 1_000


@dataclass(frozen=True)
class Limits:
    """How much may be rejected of one partition.

    Parameters
    ----------
    max_run
        So many messages rejected in a row open the breaker; 0 switches it off.
    max_ratio
        A larger share of the last `window` messages opens it; 1.0 switches it off.
    window
        The share is judged once so many messages were handled.
    """

    max_run: int = 1_000
    max_ratio: float = 0.5
    window: int = RATIO_WINDOW


@dataclass(frozen=True, slots=True)
class Trip:
    """What opened a breaker.

    Parameters
    ----------
    position
        In its chunk, of the message that was one too many.
    rule
        ``run`` or ``ratio``.
    rejected, of
        That many of the last so many messages were rejected.
    """

    position: int
    rule: Literal["run", "ratio"]
    rejected: int
    of: int


class Breaker:
    """Watches one partition; once open, it stays so until it is replaced by a new one.

    It is judged at each rejected message, so that a flood that is over opens nothing any more.

    >>> breaker = Breaker(Limits(max_run=3))
    >>> breaker.count(5, [1, 2])
    >>> breaker.count(5, [0, 1, 2, 3])
    Trip(position=2, rule='run', rejected=3, of=3)
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._handled = 0
        self._last = -2  # the latest rejected message, counted from the first one handled
        self._run = 0
        # The rejected messages among the last `window`.
        self._rejected: deque[int] = deque()

    def count(self, handled: int, rejected: Iterable[int]) -> Trip | None:
        """Take in a chunk; return what opened the breaker, if it did.

        Parameters
        ----------
        handled
            How many messages the chunk had.
        rejected
            Positions of those that were rejected, ascending.
        """
        first = self._handled
        self._handled += handled
        for position in rejected:
            if trip := self._reject(first + position, position):
                return trip
        return None

    def _reject(self, number: int, position: int) -> Trip | None:
        limits = self._limits
        self._run = self._run + 1 if number == self._last + 1 else 1
        self._last = number
        self._rejected.append(number)
        while self._rejected[0] <= number - limits.window:
            self._rejected.popleft()
        if limits.max_run and self._run >= limits.max_run:
            return Trip(position, "run", self._run, self._run)
        rejected = len(self._rejected)
        if number + 1 >= limits.window and rejected > limits.max_ratio * limits.window:
            return Trip(position, "ratio", rejected, limits.window)
        return None
