"""Admission: which events detectors may look at. The others are stored and counted all the same."""

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar, Final

import numpy as np

from detectors.clock import FUTURE_MS, LATE_MS, move_watermarks, running_watermark
from detectors.planned_tests import in_planned_test
from schemas.batch import FLAGS, Bools, EventBatch, Int64s

# Two generations of event ids: at least so many of the latest are known, at most twice as many are kept.
# A producer retries within a request's time-out, far fewer events ago.
GENERATION: Final = 16_384

_LATE: Final = np.uint8(FLAGS["late"])
_FUTURE: Final = np.uint8(FLAGS["future"])
_PLANNED_TEST: Final = np.uint8(FLAGS["planned_test"])
_DUPLICATE: Final = np.uint8(FLAGS["duplicate"])


@dataclass
class Admission:
    """Admits the events of one kind in one partition.

    Parameters
    ----------
    watermark_ms
        Tenant to the largest event time admitted.
    latest_ids, earlier_ids
        Tenant and event id, a space between, of the latest events; a generation is replaced when it is full.
        One string each: pairs of two would take twice the memory.

    >>> from schemas.parse import parse
    >>> event = b'{"kind":"auth","event_id":"1","tenant_id":"tenant-a","time":"2026-01-01T00:00:00Z",\
"service":"login","action":"login","outcome":"success"}'
    >>> Admission().admit(parse("auth", [event, event]).batch).flags.tolist() == [0, FLAGS["duplicate"]]
    True
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 1

    watermark_ms: dict[str, int] = field(default_factory=dict)
    latest_ids: set[str] = field(default_factory=set)
    earlier_ids: set[str] = field(default_factory=set)

    def admit(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `flags` and `evaluated`.

        Parameters
        ----------
        batch
            Flags that it has already, such as ``wrong_partition``, are kept.
        """
        flags = np.zeros(len(batch), np.uint8) if batch.flags is None else batch.flags.copy()
        flags[self._repeated(batch)] |= _DUPLICATE
        if batch.ingest_time_ms is not None:
            flags[batch.time_ms > batch.ingest_time_ms + FUTURE_MS] |= _FUTURE
        flags[in_planned_test(batch)] |= _PLANNED_TEST
        flags[self._late(batch, flags == 0)] |= _LATE
        return replace(batch, flags=flags, evaluated=flags == 0)

    def remember(self, batch: EventBatch) -> None:
        """Take up events that were admitted before, as the flags say that they have."""
        self._repeated(batch)
        flags = np.zeros(len(batch), np.uint8) if batch.flags is None else batch.flags
        # What was late moves no watermark: it was behind it.
        self._late(batch, flags == 0)

    def _late(self, batch: EventBatch, admissible: Bools) -> Bools:
        """Return ``(n,)`` what is too far behind the watermark that it met; move the watermarks."""
        before, after = move_watermarks(self.watermark_ms, batch, admissible.nonzero()[0])
        codes = batch.tenant.codes
        late: Bools = batch.time_ms < after[codes] - LATE_MS
        if late.any():
            # Behind the last watermark of the batch; perhaps not behind the one that it met.
            late = batch.time_ms < running_watermark(codes, batch.time_ms, before, admissible) - LATE_MS
        return late

    def _repeated(self, batch: EventBatch) -> Int64s:
        """Return the positions of events whose id was among the latest; remember the ids."""
        tenants = [f"{tenant_id} " for tenant_id in batch.tenant.values]
        codes, event_ids = batch.tenant.codes.tolist(), batch.columns["event_id"]
        ids = [tenants[code] + event_id for code, event_id in zip(codes, event_ids, strict=True)]
        fresh = set(ids)
        if (
            len(fresh) == len(ids)
            and self.latest_ids.isdisjoint(fresh)
            and self.earlier_ids.isdisjoint(fresh)
        ):
            self._remember(ids, fresh)
            return np.zeros(0, np.int64)
        repeated: list[int] = []
        for row, known_as in enumerate(ids):
            if known_as in self.latest_ids or known_as in self.earlier_ids:
                repeated.append(row)
            else:
                self._remember([known_as], {known_as})
        return np.array(repeated, np.int64)

    def _remember(self, ids: list[str], fresh: set[str]) -> None:
        # At exact counts, not at the ends of batches: what is a repeat must not depend on these.
        room = GENERATION - len(self.latest_ids)
        if len(ids) < room:
            self.latest_ids |= fresh
            return
        at = 0
        while at < len(ids):
            part = islice(ids, at, at + room)
            at += room
            self.latest_ids.update(part)
            if len(self.latest_ids) == GENERATION:
                self.earlier_ids, self.latest_ids = self.latest_ids, set()
            room = GENERATION - len(self.latest_ids)
