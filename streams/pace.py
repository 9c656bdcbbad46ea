"""How long the broker collects records before it answers a fetch (docs/decisions/0023)."""

from dataclasses import dataclass
from math import inf
from time import monotonic, thread_time
from typing import Final

# The broker answers a fetch after a wait, or as soon as there is so much.
FETCH_MIN_BYTES: Final = 256 * 1024
# Bounds of that wait, what share of a core it aims at, and how it is sought.
SHORTEST_WAIT_MS: Final = 10.0
LONGEST_WAIT_MS: Final = 200.0
BUSY_SHARE: Final = 0.25
LOOK_S: Final = 0.1
LARGEST_STEP: Final = 1.25
# Records of patient topics collect for so long, or until there are about so many: more of them would keep the
# others waiting when they come.
LONGEST_PATIENCE_S: Final = 1.0
PATIENT_RECORDS: Final = 4_000
# They are counted for so long: what a turn brings often comes with one of the next fetches.
COUNT_S: Final = 1.0
# Where nothing came for so long, and twice that wait, the broker answers with the next record. After a while
# it does so without one, because the fetch that waits is for the partitions of then.
RARE_MS: Final = 30
RARE_WAIT_MS: Final = 250


@dataclass(frozen=True, slots=True)
class Fetch:
    """What to ask the broker for.

    Parameters
    ----------
    wait_ms
        How long it shall collect records.
    min_bytes
        How many are enough.
    everything
        Patient topics too.
    within_s
        Until it is their turn again; for ever: they are always in it.
    """

    wait_ms: int
    min_bytes: int
    everything: bool
    within_s: float


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
        # When patient topics had their turn, and how long they collect now; how many of their records came
        # since when.
        self._everything_s = -inf
        self._patient, self._counted_s = 0, self._looked_s
        self._patience_s = LONGEST_PATIENCE_S

    def came(self, fetch: Fetch, waited_s: float, patient: int) -> None:
        """Note what came of a fetch.

        Parameters
        ----------
        waited_s
            How long it took until there were records.
        patient
            How many were of patient topics.
        """
        if fetch.everything:
            self._rare = 1000 * waited_s > RARE_MS + 2 * self._wait_ms
        self._patient += patient

    def fetch(self) -> Fetch:
        """Return what to fetch next.

        To be called between two fetches, by the thread that handles what they bring.
        """
        now_s = monotonic()
        if now_s - self._looked_s >= LOOK_S:
            worked_s = thread_time()
            busy = (worked_s - self._worked_s) / (now_s - self._looked_s)
            self._looked_s, self._worked_s = now_s, worked_s
            step = min(max(busy / BUSY_SHARE, 1 / LARGEST_STEP), LARGEST_STEP)
            self._wait_ms = min(max(self._wait_ms * step, SHORTEST_WAIT_MS), LONGEST_WAIT_MS)
        if self._rare:
            self._patient, self._counted_s = 0, now_s
            return Fetch(RARE_WAIT_MS, 1, everything=True, within_s=inf)
        counted_s = now_s - self._counted_s
        if counted_s >= COUNT_S:
            self._patience_s = min(PATIENT_RECORDS * counted_s / max(self._patient, 1), LONGEST_PATIENCE_S)
            self._patient, self._counted_s = 0, now_s
        everything = now_s - self._everything_s >= self._patience_s
        if everything:
            self._everything_s = now_s
        within_s = self._everything_s + self._patience_s - now_s
        return Fetch(int(self._wait_ms), FETCH_MIN_BYTES, everything, within_s)
