"""How long each tenant has been known to be quiet: the time that passes for it without events."""

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Final

Key = tuple[str, int]
# In a longer time events waited, Kafka was away, or this process was stopped: nobody knows what was kept back
# meanwhile, nor whose the partitions were. In steady traffic a chunk is often in hand, but not for so long.
LONGEST_GAP_S: Final = 3.0
# A shorter silence tells nothing; in steady traffic most tenants have one.
LEAST_QUIET_MS: Final = 1_000


class Idleness:
    """Counts the time in which all events of a partition were handled: where events wait, no tenant is quiet.

    Parameters
    ----------
    clock
        Returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._passed_s: dict[Key, float] = {}
        self._caught_up_s: dict[Key, float] = {}

    def begin(self, keys: Iterable[Key]) -> None:
        """Count for these partitions, from nought, and for no others."""
        self._passed_s = dict.fromkeys(keys, 0.0)
        self._caught_up_s = dict.fromkeys(self._passed_s, self._clock())

    def look(self, is_caught_up: Callable[[Key], bool]) -> dict[Key, int]:
        """Return the partitions in which nothing waits, each with how many ms have passed in it so far.

        Between two such looks time has passed, unless they are too far apart.
        """
        now_s = self._clock()
        passed: dict[Key, int] = {}
        for key in filter(is_caught_up, self._passed_s):
            gap_s = now_s - self._caught_up_s[key]
            if gap_s <= LONGEST_GAP_S:
                self._passed_s[key] += gap_s
            self._caught_up_s[key] = now_s
            passed[key] = int(1000 * self._passed_s[key])
        return passed


class Quiet:
    """How long each tenant of a partition has been quiet, by the partition's own count of time.

    A busy tenant must not hold up the time of those beside it: their episodes would never be resolved, and
    their silence never told.
    """

    def __init__(self) -> None:
        # Since the last look, and when each of the others was heard, where that was not before the first.
        self._heard: set[str] = set()
        self._heard_ms: dict[str, int] = {}

    def hear(self, tenants: Iterable[str]) -> None:
        """Begin the time of some tenants anew, because something of them came."""
        self._heard.update(tenants)

    def until_ms(self, watermark_ms: Mapping[str, int], passed_ms: int) -> dict[str, int]:
        """Return the times that quiet tenants must have reached, given where their events were.

        Parameters
        ----------
        watermark_ms
            Tenant to its latest event's time.
        passed_ms
            As `Idleness.look` counts it.
        """
        # Heard at some moment before this look: to take that for now tells of less silence than there was.
        self._heard_ms.update((tenant, passed_ms) for tenant in self._heard if tenant in watermark_ms)
        self._heard.clear()
        heard_ms, latest_ms = self._heard_ms.get, passed_ms - LEAST_QUIET_MS
        return {
            tenant: at_ms + passed_ms - since_ms
            for tenant, at_ms in watermark_ms.items()
            if (since_ms := heard_ms(tenant, 0)) <= latest_ms
        }
