"""How much waits to be sealed, counted as it is stored: the store is asked only where a worker takes over."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np

from schemas.batch import EventBatch
from store.seals.sealing import Stretch, Weight

NOTHING: Final = Weight(0, 0, 0)
Place = tuple[str, int]


class _Part(NamedTuple):
    # Where the messages ended that the rows came in.
    next_offset: int
    tenants: Mapping[str, int]
    oldest_ms: int


class _Waiting:
    """Rows of one topic and partition: those that are committed added up, the others as they came."""

    def __init__(self) -> None:
        self.tenants: Counter[str] = Counter()
        self.oldest_ms: int | None = None
        # Where the messages ended of what is added up.
        self._reached = 0
        self.later: deque[_Part] = deque()

    def reach(self, end: int) -> None:
        """Add up what came in messages before an offset, which is never less than the last time."""
        while self.later and self.later[0].next_offset <= end:
            part = self.later.popleft()
            self._reached = part.next_offset
            self.tenants.update(part.tenants)
            self.oldest_ms = min(part.oldest_ms, self.oldest_ms or part.oldest_ms)

    def forget(self, end: int) -> None:
        """Drop what came before an offset; where that is only some of what is added up, nothing."""
        self.reach(end)
        if end >= self._reached:
            self.tenants, self.oldest_ms = Counter(), None


class Unsealed:
    """Rows by partition and tenant, in the order in which they were stored.

    What is counted decides when to seal, never what: a row that is not counted is sealed with its neighbours.
    """

    def __init__(self) -> None:
        self._waiting: defaultdict[Place, _Waiting] = defaultdict(_Waiting)
        # By partition, what the store held when it was asked.
        self._found: dict[int, Weight] = {}

    def add(self, batch: EventBatch, next_offset: int) -> None:
        """Count rows that are stored.

        Parameters
        ----------
        batch
            Of one topic and partition, received at its ``ingest_time_ms``.
        next_offset
            Where its messages ended.
        """
        if len(batch) and batch.ingest_time_ms is not None:
            counts = np.bincount(batch.tenant.codes, minlength=len(batch.tenant.values)).tolist()
            tenants = dict(zip(batch.tenant.values, counts, strict=True))
            part = _Part(next_offset, tenants, batch.ingest_time_ms)
            self._waiting[batch.topic, batch.partition].later.append(part)

    def found(self, stretches: Iterable[Stretch], weights: Mapping[int, Weight]) -> None:
        """Begin anew with what the store holds in some stretches; what was counted beyond them stays."""
        for stretch in stretches:
            self.sealed(stretch)
            self._found[stretch.partition] = weights.get(stretch.partition, NOTHING)

    def sealed(self, stretch: Stretch) -> None:
        """Count no longer what a stretch holds.

        After a part of one that was weighed, all of it counts until `found` tells of the rest: too much is
        sealed soon, too little would wait for more to come.
        """
        self._found.pop(stretch.partition, None)
        for topic, _, end in stretch.topics.values():
            self._waiting[topic, stretch.partition].forget(end)

    def keep(self, partitions: Iterable[int]) -> None:
        """Forget partitions that are another worker's by now."""
        kept = set(partitions)
        for place in [place for place in self._waiting if place[1] not in kept]:
            del self._waiting[place]

    def weight(self, stretch: Stretch) -> Weight:
        """Return what was counted within a stretch, which begins where the last sealed one ended."""
        before = self._found.get(stretch.partition, NOTHING)
        tenants: Counter[str] = Counter()
        oldest_ms = [before.oldest_ms] if before.rows else []
        for topic, _, end in stretch.topics.values():
            waiting = self._waiting[topic, stretch.partition]
            waiting.reach(end)
            tenants.update(waiting.tenants)
            if waiting.oldest_ms is not None:
                oldest_ms.append(waiting.oldest_ms)
        largest = max(tenants.values(), default=0)
        return Weight(before.rows + tenants.total(), before.largest + largest, min(oldest_ms, default=0))
