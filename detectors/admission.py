"""Admission: which events detectors may look at. The others are stored and counted all the same."""

from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

import numpy as np

from detectors.clock import FUTURE_MS, LATE_MS, move_watermarks, running_watermark
from detectors.known_ids import KnownIds
from detectors.planned_tests import in_planned_test
from schemas.batch import FLAGS, Bools, EventBatch

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
    known_ids
        Of the latest events.

    >>> from schemas.parse import parse
    >>> event = b'{"kind":"auth","event_id":"1","tenant_id":"tenant-a","time":"2026-01-01T00:00:00Z",\
"service":"login","action":"login","outcome":"success"}'
    >>> Admission().admit(parse("auth", [event, event]).batch).flags.tolist() == [0, FLAGS["duplicate"]]
    True
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 2

    watermark_ms: dict[str, int] = field(default_factory=dict)
    known_ids: KnownIds = field(default_factory=KnownIds)

    def admit(self, batch: EventBatch) -> EventBatch:
        """Return the batch with `flags` and `evaluated`.

        Parameters
        ----------
        batch
            Flags that it has already, such as ``wrong_partition``, are kept.
        """
        flags = np.zeros(len(batch), np.uint8) if batch.flags is None else batch.flags.copy()
        flags[self.known_ids.add(batch)] |= _DUPLICATE
        if batch.ingest_time_ms is not None:
            flags[batch.time_ms > batch.ingest_time_ms + FUTURE_MS] |= _FUTURE
        flags[in_planned_test(batch)] |= _PLANNED_TEST
        flags[self._late(batch, flags == 0)] |= _LATE
        return replace(batch, flags=flags, evaluated=flags == 0)

    def remember(self, batch: EventBatch) -> None:
        """Take up events that were admitted before, as the flags say that they have."""
        self.known_ids.add(batch)
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
