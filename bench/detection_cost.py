"""What detectors cost: CPU time of an event, and bytes of a user, when there are many users.

Traffic is that of `bench.traffic`, 2 % of it failures. Bytes are those that dropping the state frees, of
Python and numpy (tracemalloc) and of large columns, which are pages of their own: what the detector keeps,
without what the allocator wastes, which is a matter of the whole process (`make bench-soak`). Arrays grow
ahead of need, so they count more than they hold; what a snapshot holds is given beside them.
"""

import gc
import mmap
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from time import thread_time
from typing import Any, Final, Self
from unittest.mock import patch

from bench.traffic import events
from detectors.registry import Detector
from detectors.snapshot import dumps, freeze
from schemas.alert import Alert
from schemas.batch import EventBatch
from schemas.event import KINDS, Kind
from schemas.parse import parse
from tenantwatch.backtest import Backtest, Trial

BATCH: Final = 4_000
# How often a user is met before the clock runs, in the mean and in each kind: 98 of 100 at least once.
MET: Final = 4
USERS_OF_TENANT: Final = 100
MEASURED_BATCHES: Final = 40
# Kind of event, and detector.
Name = tuple[Kind, str]


class Clocked:
    """A detector whose CPU time is taken.

    Attributes
    ----------
    spent_s
        CPU seconds of this thread in `fold`.
    """

    def __init__(self, detector: Detector) -> None:
        self.name, self.kind = detector.name, detector.kind
        self.new_state, self.advance = detector.new_state, detector.advance
        self._fold = detector.fold
        self.spent_s = 0.0

    def fold(self, batch: EventBatch, state: Any) -> list[Alert]:
        """Fold, and take the time."""
        begin = thread_time()
        alerts = self._fold(batch, state)
        self.spent_s += thread_time() - begin
        return alerts


def batches(users: int, seed: int) -> Iterator[EventBatch]:
    """Yield batches of one kind each, without end, of events in order of time."""
    rows: dict[Kind, list[bytes]] = {kind: [] for kind in KINDS}
    tenants = max(users // USERS_OF_TENANT, 1)
    for kind, _, value in events(2**62, tenant_count=tenants, user_count=users, seed=seed):
        rows[kind].append(value)
        if len(rows[kind]) == BATCH:
            yield parse(kind, rows[kind]).batch
            rows[kind].clear()


def warm_up(run: Backtest, source: Iterator[EventBatch], users: int) -> None:
    """Let nearly every user be met."""
    run.read(islice(source, max(MET * users // BATCH, 1) * len(KINDS)))


def spent(users: int, seed: int) -> tuple[dict[Name, float], Counter[Kind], int]:
    """Return CPU seconds of each detector, the events by kind that they were spent on, and alerts."""
    trial = Trial()
    clocks: dict[Name, Clocked] = {}
    for kind, known in trial.detectors.items():
        for i, (detector, state) in enumerate(known):
            clocks[kind, detector.name] = clock = Clocked(detector)
            known[i] = clock, state
    run, source = Backtest([trial]), batches(users, seed)
    warm_up(run, source, users)
    met, before = run.events.copy(), {name: clock.spent_s for name, clock in clocks.items()}
    # As the worker does: what stays is looked at no more.
    gc.collect()
    gc.freeze()
    run.read(islice(source, MEASURED_BATCHES * len(KINDS)))
    gc.unfreeze()
    spent_s = {name: clock.spent_s - before[name] for name, clock in clocks.items()}
    return spent_s, run.events - met, len(trial.alerts())


class _Pages(mmap.mmap):
    """Pages of a large column, counted: tracemalloc knows nothing of them."""

    held = 0

    def __new__(cls, *args: Any) -> Self:
        pages = super().__new__(cls, *args)
        _Pages.held += len(pages)
        return pages

    def __del__(self) -> None:
        _Pages.held -= len(self)


def _held() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0] + _Pages.held


def kept(users: int, seed: int) -> dict[Name, tuple[int, int]]:
    """Return the bytes that each detector keeps of users met `MET` times, and those of its snapshot."""
    found: dict[Name, tuple[int, int]] = {}
    tracemalloc.start()
    try:
        with patch("mmap.mmap", _Pages):
            run = Backtest([Trial()])
            warm_up(run, batches(users, seed), users)
        for kind, known in run.trials[0].detectors.items():
            for name in [detector.name for detector, _ in known]:
                snapshot = len(dumps(freeze(known[0][1])))
                before = _held()
                del known[0]
                found[kind, name] = before - _held(), snapshot
    finally:
        tracemalloc.stop()
    return found


def run(users: int, seed: int) -> dict[str, Any]:
    """Return what each detector costs, and all together.

    Parameters
    ----------
    users, seed
        Of the traffic.
    """
    spent_s, counts, alerts = spent(users, seed)
    sizes = kept(users, seed)
    return {
        "users": users,
        "events": counts.total(),
        "alerts": alerts,
        "detectors": {
            f"{kind}/{name}": _cost(spent_s[kind, name], counts[kind], users, *sizes[kind, name])
            for kind, name in spent_s
        },
        "together": _cost(
            sum(spent_s.values()), counts.total(), users, *map(sum, zip(*sizes.values(), strict=True))
        ),
    }


def _cost(seconds: float, events: int, users: int, resident: int, snapshot: int) -> dict[str, float]:
    return {
        "us_per_event": round(1e6 * seconds / events, 3),
        "bytes_per_user": round(resident / users, 1),
        "snapshot_bytes_per_user": round(snapshot / users, 1),
    }
