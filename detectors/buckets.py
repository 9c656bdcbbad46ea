"""Leaky buckets over many keys at once, exact in integers, and the episodes they open.

A bucket of size C that leaks one event every tau holds ``L <- max(0, L - dt/tau) + 1`` and alarms at
``L > C``. Kept here is E, the time at which it will be empty: ``E <- max(t, E) + tau``, level
``(E - t)/tau``. For a key's n-th event E - n tau is a running maximum of t - (n - 1) tau, so a whole batch
needs no loop, and integers make every split of a stream give the same level to the millisecond. What good
events in between take out is taken off E in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import numpy as np

from detectors.segments import group_of, running_count, running_max
from schemas.batch import Bools, Floats, Int64s


@dataclass(frozen=True, slots=True)
class Buckets:
    """The buckets that hold for a tenant.

    Parameters
    ----------
    sizes
        Events that each bucket holds; 0: it never alarms. First those that count every event, then those
        for strange ones, then those for new values, then those for new values of the second kind, then those
        for new values, of the first kind, that are neighbours of one met before.
    leaks_ms
        Milliseconds in which each leaks one event.
    quiet_ms
        When an episode is over.
    watch_share
        How full a bucket must be to matter to rows that only look.
    strange, new, more, near
        How many buckets count only strange events, only new values, of the second kind, only neighbours.
    successes
        How many good events take out what one event puts in; 0: they take out nothing.
    """

    sizes: tuple[int, ...]
    leaks_ms: tuple[int, ...]
    quiet_ms: int
    watch_share: float = 1.0
    strange: int = 0
    new: int = 1
    more: int = 0
    near: int = 0
    successes: int = 0

    @property
    def every(self) -> int:
        """How many buckets count every event: those that rows which only look go by."""
        return len(self.sizes) - self.strange - self.new - self.more - self.near

    @property
    def need_ms(self) -> tuple[float, ...]:
        """Levels at which the buckets are full."""
        return tuple(
            size * leak_ms if size else inf for size, leak_ms in zip(self.sizes, self.leaks_ms, strict=True)
        )

    @property
    def good_ms(self) -> tuple[int, ...]:
        """By how much sooner the buckets are empty for each good event."""
        return tuple(leak_ms // self.successes if self.successes else 0 for leak_ms in self.leaks_ms)


@dataclass(slots=True)
class Events:
    """What a rule looks at in a batch, in order of arrival.

    Parameters
    ----------
    slot
        ``(n,)`` the key's number.
    time_ms
        ``(n,)`` event times.
    rule
        ``(n,)`` position of the tenant's `Buckets`.
    event_ids, values
        ``(n,)`` ids, and what is tallied and counted as new or not (an address's users); None is never new.
    marks
        ``(n,)`` what the rule wants to know the share of, e.g. that the user is unknown.
    forced
        ``(n,)`` True where a row opens an episode whatever the level.
    kinds
        One or two columns ``(n,)`` of what is counted as new; None: the values.
    strange
        ``(n,)`` which rows fill the buckets for strange events; None: there is no such bucket.
    good
        ``(n,)`` how many good events of the key came since its row before; None: that counts for nothing.
    """

    slot: Int64s
    time_ms: Int64s
    rule: Int64s
    event_ids: Sequence[str]
    values: Sequence[str | None]
    marks: Bools
    forced: Bools
    kinds: Sequence[Sequence[str | None]] | None = None
    strange: Bools | None = None
    good: Int64s | None = None


def fill(
    time_ms: Int64s,
    counts: Bools,
    starts: Int64s,
    empty_ms: Int64s,
    leak_ms: Int64s,
    taken_ms: Int64s | None = None,
) -> tuple[Int64s, Int64s]:
    """Return level and time of emptiness of every bucket after each row.

    Parameters
    ----------
    time_ms
        ``(n,)`` sorted by key; never running backwards within one.
    counts
        ``(n,)`` whether the row fills the buckets.
    starts
        ``(g,)`` first row of each key.
    empty_ms, leak_ms
        ``(g, b)`` when each key's buckets would have been empty, and how they leak.
    taken_ms
        ``(n, b)`` what else was taken out of them from the key's first row to each row; None: nothing.

    Returns
    -------
    level_ms, empty_ms
        ``(n, b)``; the level is in milliseconds until empty.

    >>> at, two = np.array([0, 1_000, 9_000]), np.array([[0]])
    >>> level_ms, _ = fill(at, np.ones(3, bool), np.array([0]), two, np.array([[2_000]]))
    >>> level_ms[:, 0].tolist()
    [2000, 3000, 2000]
    """
    group = group_of(starts, len(time_ms))
    leak = leak_ms[group]
    filled = running_count(counts, starts)[:, None] * leak
    if taken_ms is not None:
        filled = filled - taken_ms
    # A row that does not fill leaves the maximum where it is.
    floor = np.where(counts[:, None], time_ms[:, None] - filled + leak, empty_ms[group])
    empty = running_max(floor, starts, empty_ms) + filled
    return np.maximum(empty - time_ms[:, None], 0), empty


def columns_of(rules: Sequence[Buckets], number: Int64s) -> tuple[Int64s, Int64s, Floats]:
    """Return ``(g, b)`` sizes and leaks, and ``(g,)`` shares, of the rules given by number."""
    return (
        np.array([b.sizes for b in rules], np.int64)[number],
        np.array([b.leaks_ms for b in rules], np.int64)[number],
        np.array([b.watch_share for b in rules])[number],
    )
