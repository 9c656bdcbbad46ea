"""How long each partition has been known to be quiet: the time that passes for its tenants without events."""

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

Key = tuple[str, int]
# After a longer time between two looks this process was stopped, or waited for Kafka: nobody knows what came
# meanwhile, nor whose the partitions are. Shorter than a session of the group.
LONGEST_TICK_S: Final = 3.0


class Idleness:
    """Counts time while all events of a partition are handled: where events wait, no tenant is quiet.

    Parameters
    ----------
    clock
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._idle_s: dict[Key, float] = {}
        self._since_s: dict[Key, float] = {}
        self._looked_s = clock()

    def begin(self, keys: Iterable[Key]) -> None:
        """Count for these partitions, from nought, and for no others."""
        self._idle_s = dict.fromkeys(keys, 0.0)
        self._since_s = dict.fromkeys(self._idle_s, self._clock())

    def heard(self, key: Key) -> None:
        """Begin a partition's time anew, because something came."""
        if key in self._idle_s:
            self._idle_s[key], self._since_s[key] = 0.0, self._clock()

    def look(self, is_caught_up: Callable[[Key], bool], at_least_s: float) -> dict[Key, int]:
        """Let time pass since the last look; return how many ms the partitions have been quiet for so long.

        Where events wait no time passes, and where it was too long ago it begins anew.
        """
        now_s = self._clock()
        stopped = now_s - self._looked_s > LONGEST_TICK_S
        self._looked_s = now_s
        quiet: dict[Key, int] = {}
        for key in self._idle_s:
            if stopped:
                self._idle_s[key] = 0.0
            elif is_caught_up(key):
                self._idle_s[key] += now_s - self._since_s[key]
                if self._idle_s[key] >= at_least_s:
                    quiet[key] = int(1000 * self._idle_s[key])
            self._since_s[key] = now_s
        return quiet
