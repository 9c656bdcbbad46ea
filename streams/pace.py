"""How long the broker collects records before it answers a fetch (docs/decisions/0023)."""

from time import monotonic, thread_time
from typing import Final

# The broker answers a fetch after a wait, or as soon as there is so much.
FETCH_MIN_BYTES: Final = 1024 * 1024
# Bounds of that wait, what share of a core it aims at, and how it is sought.
SHORTEST_WAIT_MS: Final = 10.0
LONGEST_WAIT_MS: Final = 200.0
BUSY_SHARE: Final = 0.25
LOOK_S: Final = 0.1
LARGEST_STEP: Final = 1.25
# Where nothing came for so long, and twice that wait, the broker answers with the next record. After a while
# it does so without one, because the fetch that waits is for the partitions of then.
RARE_MS: Final = 30
RARE_WAIT_MS: Final = 250


class Pace:
    """How long to let records collect: as briefly as leaves the event loop's thread mostly idle.

    A few records of a partition cost as much as a hundred. So little traffic comes at once where there are
    few partitions, and a little later where there are many; whatever there is, less of a core goes into
    taking it in crumbs. And where records are rare, each comes at once, and nobody asks in vain.
    """

    def __init__(self) -> None:
        self._wait_ms = SHORTEST_WAIT_MS
        self._rare = False
        self._looked_s, self._worked_s = monotonic(), thread_time()

    def waited(self, waited_s: float) -> None:
        """Note how long it took until there were records."""
        self._rare = 1000 * waited_s > RARE_MS + 2 * self._wait_ms

    def fetch(self) -> tuple[int, int]:
        """Return how long the broker shall collect records, in ms, and how many bytes are enough.

        To be called between two fetches, by the thread that handles what they bring.
        """
        now_s = monotonic()
        if now_s - self._looked_s >= LOOK_S:
            worked_s = thread_time()
            busy = (worked_s - self._worked_s) / (now_s - self._looked_s)
            self._looked_s, self._worked_s = now_s, worked_s
            step = min(max(busy / BUSY_SHARE, 1 / LARGEST_STEP), LARGEST_STEP)
            self._wait_ms = min(max(self._wait_ms * step, SHORTEST_WAIT_MS), LONGEST_WAIT_MS)
        return (RARE_WAIT_MS, 1) if self._rare else (int(self._wait_ms), FETCH_MIN_BYTES)
