"""Event time: how far each tenant has got, and how far behind that an event may be."""

from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

import numpy as np

from detectors.segments import by_key, running_max, starts_of
from schemas.batch import Bools, EventBatch, Int32s, Int64s

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
WEEK_MS: Final = 7 * DAY_MS
# Events further behind their tenant's watermark are stored, not detected on: to wait for them is to tell that
# much later that something is over (docs/decisions/0006).
LATE_MS: Final = 15 * MINUTE_MS
# Events further ahead of the clock of the machine that received them come from a clock that is wrong.
FUTURE_MS: Final = 5 * MINUTE_MS
NEVER_MS: Final = 0
FOREVER_MS: Final = 1 << 62


def move_watermarks(watermark_ms: dict[str, int], batch: EventBatch, rows: Int64s) -> tuple[Int64s, Int64s]:
    """Move the watermarks of a batch's tenants; return what they were and what they are, by tenant code.

    Parameters
    ----------
    watermark_ms
        Tenant to the largest event time so far; changed.
    rows
        ``(m,)`` the positions in the batch that may move a watermark.
    """
    tenants = batch.tenant.values
    before = np.fromiter(map(watermark_ms.get, tenants, repeat(NEVER_MS)), np.int64, len(tenants))
    after = before.copy()
    np.maximum.at(after, batch.tenant.codes[rows], batch.time_ms[rows])
    moved = (after > before).nonzero()[0]
    names = tenants if len(moved) == len(tenants) else [tenants[code] for code in moved.tolist()]
    watermark_ms.update(zip(names, after[moved].tolist(), strict=True))
    return before, after


def running_watermark(codes: Int32s, time_ms: Int64s, before: Int64s, moves: Bools | None = None) -> Int64s:
    """Return the watermark of its tenant that each row meets: the largest time of the rows before it.

    Parameters
    ----------
    codes
        ``(m,)`` tenant codes.
    time_ms
        ``(m,)`` event times.
    before
        ``(t,)`` watermarks by code before the first row.
    moves
        ``(m,)`` the rows that move the watermark; None: all.
    """
    order = by_key(codes)
    sorted_codes = codes[order]
    starts = starts_of(sorted_codes)
    times = time_ms[order]
    if moves is not None:
        times = np.where(moves[order], times, NEVER_MS)
    reached = np.empty_like(times)
    reached[1:] = running_max(times, starts, before[sorted_codes[starts]])[:-1]
    reached[starts] = before[sorted_codes[starts]]
    result = np.empty_like(times)
    result[order] = reached
    return result


@dataclass
class Clock:
    """The watermark of each tenant, as one detector has seen it.

    Parameters
    ----------
    watermark_ms
        Tenant to the largest event time folded so far.
    """

    watermark_ms: dict[str, int] = field(default_factory=dict)

    def read(self, batch: EventBatch, rows: Int64s) -> Int64s:
        """Return the event times of the rows, and move the watermarks.

        No time is more than `LATE_MS` behind the watermark that its row meets: admission keeps such
        rows out, and where there was no admission they are lifted. That is what makes an episode's
        end certain: once the watermark is `LATE_MS` past a deadline, nothing can come before it.
        """
        if not len(rows):
            return np.zeros(0, np.int64)
        before, after = move_watermarks(self.watermark_ms, batch, rows)
        time_ms, codes = batch.time_ms[rows], batch.tenant.codes[rows]
        if (time_ms < after[codes] - LATE_MS).any():
            time_ms = np.maximum(time_ms, running_watermark(codes, time_ms, before) - LATE_MS)
        return time_ms

    def settled_ms(self, tenant_id: str) -> int:
        """Return the time before which no event of the tenant can come any more.

        >>> Clock({"tenant-a": LATE_MS + 7}).settled_ms("tenant-a")
        7
        """
        return self.watermark_ms.get(tenant_id, NEVER_MS) - LATE_MS
