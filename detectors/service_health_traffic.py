"""What is remembered of requests by route, or by tenant: one row of columns for each."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.clock import FOREVER_MS
from detectors.growing import grown
from detectors.keys import Key, Keys
from detectors.service_health_calendar import BINS
from schemas.batch import Bools, Floats, Int64s

# What is counted of a minute: requests, those that failed and that were slow, those with a duration; of these
# the sum of 1,024 log2(ms), and of its squares. Whole numbers, so that sums do not depend on their order.
COUNTS: Final = 6
REQUESTS, ERRORS, SLOW, TIMED, LOGS, SQUARES = range(COUNTS)
LOG_UNIT: Final = 1_024
NEVER: Final = -1

# Columns that begin otherwise than with 0.
_BEGIN: Final = {"minute": NEVER, "hour": NEVER, "block": NEVER, "check_ms": FOREVER_MS}


def _column() -> Int64s:
    return np.zeros(0, np.int64)


def _decimals(width: int | None = None) -> Floats:
    return np.zeros(0 if width is None else (0, width))


@dataclass
class Traffic:
    """Routes, or tenants, by number.

    Parameters
    ----------
    keys
        Tenant, and type and value of the entity.
    owner
        ``(k,)`` number of the tenant.
    born_ms, last_ms
        ``(k,)`` first and latest request.
    minute, first_ms, counts
        The minute that is not over, since when, and ``(k, 6)`` its counts.
    hour, sums, active, top, gap
        The hour that is not over, ``(k, 6)`` what is to be learned of it, minutes with a request, the most of
        them in one, and the most that were expected in a gap.
    block, of_block
        The ten minutes that are not over, and ``(k, 4)`` their requests, those of them that failed and that
        were slow, and minutes with a request.
    shares
        ``(k, 2)`` the largest shares of failed and of slow requests in ten minutes of that hour.
    seen, rate, least, awake, peak
        ``(k, 48)`` how often each hour of the week was met, requests in it, the least of them, the least
        number of minutes with one, and the most of a minute.
    total, bad, worst
        Requests learned, ``(k, 2)`` those that failed and that were slow, and their largest shares in ten
        minutes.
    hours, level, high, spread
        Hours that durations were learned of, their mean in log2(ms), the highest of an hour, and the variance
        of single requests.
    drift
        CUSUM of durations.
    longest, needed, fastest
        What was expected in the longest gap; what must be for a silence; and in the busiest hour.
    check_ms
        When there can be a silence at the earliest.
    silent
        Whether there is one.
    last_id, error_id, slow_id
        Latest request, and the latest that failed and that was slow.
    """

    keys: Keys[Key] = field(default_factory=Keys)
    owner: Int64s = field(default_factory=_column)
    born_ms: Int64s = field(default_factory=_column)
    last_ms: Int64s = field(default_factory=_column)
    minute: Int64s = field(default_factory=_column)
    first_ms: Int64s = field(default_factory=_column)
    counts: Int64s = field(default_factory=lambda: np.zeros((0, COUNTS), np.int64))
    hour: Int64s = field(default_factory=_column)
    sums: Int64s = field(default_factory=lambda: np.zeros((0, COUNTS), np.int64))
    active: Int64s = field(default_factory=_column)
    top: Int64s = field(default_factory=_column)
    gap: Floats = field(default_factory=_decimals)
    block: Int64s = field(default_factory=_column)
    of_block: Int64s = field(default_factory=lambda: np.zeros((0, 4), np.int64))
    shares: Floats = field(default_factory=lambda: _decimals(2))
    seen: NDArray[np.uint8] = field(default_factory=lambda: np.zeros((0, BINS), np.uint8))
    rate: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, BINS), np.float32))
    least: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, BINS), np.float32))
    awake: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, BINS), np.float32))
    peak: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, BINS), np.float32))
    total: Floats = field(default_factory=_decimals)
    bad: Floats = field(default_factory=lambda: _decimals(2))
    worst: Floats = field(default_factory=lambda: _decimals(2))
    hours: Int64s = field(default_factory=_column)
    level: Floats = field(default_factory=_decimals)
    high: Floats = field(default_factory=_decimals)
    spread: Floats = field(default_factory=_decimals)
    drift: Floats = field(default_factory=_decimals)
    longest: Floats = field(default_factory=_decimals)
    needed: Floats = field(default_factory=_decimals)
    fastest: Floats = field(default_factory=_decimals)
    check_ms: Int64s = field(default_factory=_column)
    silent: Bools = field(default_factory=lambda: np.zeros(0, np.bool_))
    last_id: list[str] = field(default_factory=list)
    error_id: list[str] = field(default_factory=list)
    slow_id: list[str] = field(default_factory=list)

    def reserve(self, owner: Sequence[int] | Int64s) -> None:
        """Make room for every key that has a number; `owner` are the tenants of the new ones."""
        n, old = len(self.keys), len(self.last_id)
        if n == old:
            return
        for name, column in self.columns().items():
            setattr(self, name, grown(column, n, _BEGIN.get(name, 0)))
        self.owner[old:n] = owner
        for ids in (self.last_id, self.error_id, self.slow_id):
            ids.extend([""] * (n - old))

    def columns(self) -> dict[str, NDArray[np.generic]]:
        """Return the columns by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def forget(self, slot: Int64s) -> None:
        """Make some keys as new."""
        for name, column in self.columns().items():
            if name != "owner":
                column[slot] = _BEGIN.get(name, 0)

    def keep(self, kept: Bools) -> None:
        """Forget all keys but some, and number those anew, in the same order."""
        n = len(self.keys)
        self.keys.keep(kept)
        for name, column in self.columns().items():
            setattr(self, name, column[:n][kept])
        rows = kept.nonzero()[0].tolist()
        for name in ("last_id", "error_id", "slow_id"):
            ids = getattr(self, name)
            setattr(self, name, [ids[row] for row in rows])
