"""The times of every key's latest events, exactly, in one arena of rings."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from detectors.growing import grown
from detectors.saved import Saved
from detectors.segments import group_of
from schemas.batch import Bools, Int32s, Int64s

UInt32s = NDArray[np.uint32]

# More than the largest limit that a tenant may set (schemas.tenant: 100,000), so that no limit is missed.
MAX_COUNT: Final = 1 << 17
# Room for that many and for the rows of one call after them.
MAX_RING: Final = 2 * MAX_COUNT
MIN_RING: Final = 4
ABSENT_MS: Final = -(1 << 60)
_COLUMNS: Final = ("_next", "window_ms", "_begin", "_size")
_RING: Final = ("_begin", "_size", "_next")
# Places are counted to here, and to the end of the call; the next call starts again from so far back, a
# multiple of every ring: they fit into 32 bits.
_MAX_PLACE: Final = 1 << 30


def ring_sizes(needed: Int64s) -> Int64s:
    """Return the powers of two that hold so many entries.

    >>> ring_sizes(np.array([1, 5, 64, 10**9])).tolist() == [4, 8, 64, MAX_RING]
    True
    """
    bits = np.ceil(np.log2(np.clip(needed, MIN_RING, MAX_RING))).astype(np.int64)
    return np.left_shift(np.int64(1), bits)


class SlidingLog:
    """A sliding log of each key: whether the event `limit` places before another is still in its window.

    A ring grows only when it would otherwise overwrite a time that is still in its window, so memory
    follows the events in the windows, not the limits.

    Attributes
    ----------
    window_ms
        ``(k,)`` the window last used. One that is made longer cannot bring back what the shorter one let go.
    """

    saved = Saved(packed=lambda log: log.compact())

    def __init__(self) -> None:
        self.window_ms: UInt32s = np.zeros(0, np.uint32)
        # The place of each key's next event, where its ring begins, and how many times that holds.
        self._next: Int32s = np.zeros(0, np.int32)
        self._begin: Int32s = np.zeros(0, np.int32)
        self._size: Int32s = np.zeros(0, np.int32)
        self._arena: Int64s = np.zeros(1024, np.int64)
        self._used = 0

    def reserve(self, keys: int) -> None:
        """Make room for so many keys."""
        for name in _COLUMNS:
            setattr(self, name, grown(getattr(self, name), keys, 0))

    def add(
        self,
        slot: Int64s,
        starts: Int64s,
        time_ms: Int64s,
        limit: Int64s,
        window_ms: Int64s,
    ) -> tuple[Bools, Int64s]:
        """Add events; return ``(n,)`` which are more than `limit` in their window, and the events' places.

        Parameters
        ----------
        slot, limit, window_ms
            ``(g,)`` distinct keys, and what holds for each.
        starts
            ``(g,)`` first row of each key.
        time_ms
            ``(n,)``, at most `MAX_COUNT`, sorted by key, never running backwards within one, nor behind
            `last_ms`.
        """
        group, place = self._places(slot, starts, len(time_ms), window_ms)
        earlier_ms = self._times_at(slot, group, starts, place - limit[group], time_ms)
        live_from_ms = time_ms - window_ms[group]
        self._append(slot, starts, group, place, time_ms, MAX_RING)
        return earlier_ms > live_from_ms, place

    def add_counted(
        self, slot: Int64s, starts: Int64s, time_ms: Int64s, window_ms: int, least: int, most: int
    ) -> Int64s:
        """Add events; return ``(n,)`` how many each one's window holds, with itself.

        Of each key no more times are kept than that takes; `counts` then knows of no others.

        Parameters
        ----------
        slot, starts, time_ms
            As in `add`.
        window_ms
            The same for all keys.
        least, most
            Fewer than `least` are told as 0, more than `most` as `most`; what is in between takes a search.
        """
        group, place = self._places(slot, starts, len(time_ms), np.full(len(slot), window_ms))
        live_from_ms = time_ms - window_ms

        def live(rows: Int64s, back: Int64s | int) -> Bools:
            earlier_ms = self._times_at(slot, group[rows], starts, place[rows] - back, time_ms)
            inside: Bools = earlier_ms > live_from_ms[rows]
            return inside

        rows = np.flatnonzero(live(np.arange(len(time_ms)), least - 1))
        low, high = np.full(len(rows), least), np.full(len(rows), most)
        while (low < high).any():
            middle = (low + high + 1) // 2
            inside = live(rows, middle - 1)
            low, high = np.where(inside, middle, low), np.where(inside, high, middle - 1)
        counts = np.zeros(len(time_ms), np.int64)
        counts[rows] = low
        self._append(slot, starts, group, place, time_ms, most - 1)
        return counts

    def _places(self, slot: Int64s, starts: Int64s, n: int, window_ms: Int64s) -> tuple[Int64s, Int64s]:
        """Set the keys' windows; return ``(n,)`` the group of each row, and its place."""
        longer = np.flatnonzero(window_ms > self.window_ms[slot])
        if len(longer):
            self._let_go(slot[longer])
        self.window_ms[slot] = window_ms
        group, first = group_of(starts, n), self._next[slot].astype(np.int64)
        # Before places are made of them: those of one call are good until the next.
        first[first >= _MAX_PLACE] -= _MAX_PLACE - MAX_RING
        self._next[slot] = first
        return group, first[group] + np.arange(n) - starts[group]

    def last_ms(self, slot: Int64s) -> Int64s:
        """Return ``(g,)`` the times of the keys' latest events, which never run backwards; 0: none."""
        size = self._size[slot].astype(np.int64)
        known = np.flatnonzero(size)
        keys = slot[known]
        last_ms = np.zeros(len(slot), np.int64)
        # A key without a ring has no place in the arena: behind all others' it would be beyond the end.
        last_ms[known] = self._arena[self._begin[keys] + (self._next[keys] - 1 & size[known] - 1)]
        return last_ms

    def _let_go(self, slot: Int64s) -> None:
        """Forget the times of keys that their windows have let go."""
        gone_ms = self.last_ms(slot) - self.window_ms[slot]
        for begin, size, until_ms in zip(
            self._begin[slot].tolist(), self._size[slot].tolist(), gone_ms.tolist(), strict=True
        ):
            ring = self._arena[begin : begin + size]
            ring[ring <= until_ms] = ABSENT_MS

    def _times_at(
        self, slot: Int64s, group: Int64s, starts: Int64s, place: Int64s, time_ms: Int64s
    ) -> Int64s:
        """Return the times at places, of the batch or before it; `ABSENT_MS` where nothing is kept."""
        first = self._next[slot].astype(np.int64)
        found = np.full(len(place), ABSENT_MS, np.int64)
        here = place >= first[group]
        found[here] = time_ms[(starts[group] + place - first[group])[here]]
        kept = ~here & (place >= 0) & (place >= (first - self._size[slot])[group])
        rows = np.flatnonzero(kept)
        if len(rows):
            keys = slot[group[rows]]
            found[rows] = self._arena[self._begin[keys] + (place[rows] & (self._size[keys] - 1))]
        return found

    def _append(
        self, slot: Int64s, starts: Int64s, group: Int64s, place: Int64s, time_ms: Int64s, kept: int
    ) -> None:
        count = np.diff(starts, append=len(time_ms))
        self._make_room(slot, count, time_ms[starts], kept)
        size = self._size[slot].astype(np.int64)
        after = self._next[slot] + count
        latest = place >= (after - size)[group]
        keys = group[latest]
        self._arena[self._begin[slot][keys] + (place[latest] & (size[keys] - 1))] = time_ms[latest]
        self._next[slot] = after

    def _make_room(self, slot: Int64s, count: Int64s, first_ms: Int64s, kept: int) -> None:
        """Enlarge the rings in which the events would overwrite a time still in its window."""
        size, seen = self._size[slot].astype(np.int64), self._next[slot].astype(np.int64)
        needed = np.minimum(np.minimum(seen, size) + count, max(kept, MIN_RING))
        newest_lost = seen + count - size - 1
        short = (needed > size) & (size < MAX_RING)
        in_ring = short & (newest_lost < seen) & (size > 0)
        rows = np.flatnonzero(in_ring)
        lost_ms = self._arena[self._begin[slot[rows]] + (newest_lost[rows] & (size[rows] - 1))]
        short[rows] = lost_ms > first_ms[rows] - self.window_ms[slot[rows]]
        rows = np.flatnonzero(short)
        if len(rows):
            self._enlarge(slot[rows], ring_sizes(needed[rows]))

    def _enlarge(self, slot: Int64s, size: Int64s) -> None:
        begin = self._used + np.cumsum(size) - size
        self._used += int(size.sum())
        self._arena = grown(self._arena, self._used, 0)
        old_begin, old_size, seen = (getattr(self, name)[slot].astype(np.int64) for name in _RING)
        # Rings of one size move together; there are few sizes.
        for one_size in np.unique(old_size[old_size > 0]).tolist():
            rows = np.flatnonzero(old_size == one_size)
            place = seen[rows, None] - 1 - np.arange(one_size)
            moved = place >= 0
            source = old_begin[rows, None] + (place & (one_size - 1))
            target = begin[rows, None] + (place & (size[rows, None] - 1))
            self._arena[target[moved]] = self._arena[source[moved]]
        self._begin[slot], self._size[slot] = begin, size

    def window(self, slot: int, until_place: int, time_ms: int) -> Int64s:
        """Return the times ``(n,)`` of a key's events, up to a place, in the window that ends at `time_ms`.

        Parameters
        ----------
        slot
            The key.
        until_place
            Of an event added in the latest call.
        time_ms
            Its time.

        Returns
        -------
        Int64s
            Ascending; the latest `MAX_COUNT` at most.
        """
        size = int(self._size[slot])
        first = max(0, int(self._next[slot]) - size)
        places = np.arange(first, until_place + 1)
        times = self._arena[self._begin[slot] + (places & (size - 1))]
        live_from_ms = time_ms - int(self.window_ms[slot])
        live_ms: Int64s = times[np.searchsorted(times, live_from_ms, side="right") :]
        return live_ms[-MAX_COUNT:]

    def counts(self, slot: Int64s, until_place: Int64s, time_ms: Int64s) -> Int64s:
        """Return ``(m,)`` how many events there are in as many a `window`, all found at once."""
        size, begin = self._size[slot].astype(np.int64), self._begin[slot].astype(np.int64)
        live_from_ms = time_ms - self.window_ms[slot]
        first, stop = np.maximum(self._next[slot] - size, 0), until_place
        while (first < stop).any():
            middle = (first + stop) // 2
            live = self._arena[begin + (middle & (size - 1))] > live_from_ms
            first, stop = np.where(live, first, middle + 1), np.where(live, middle, stop)
        counts: Int64s = np.minimum(until_place + 1 - first, MAX_COUNT)
        return counts

    def compact(self) -> None:
        """Close the gaps that rings left in the arena when they grew."""
        self.keep(np.ones(len(self._size), np.bool_))

    def keep(self, kept: Bools) -> None:
        """Forget all keys but some, and close the gaps in the arena."""
        n = len(kept)
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name)[:n][kept])
        arena, begin = self._arena, self._begin
        self._begin = np.cumsum(self._size, dtype=np.int32) - self._size
        self._used = int(self._size.sum())
        self._arena = np.zeros(max(1024, self._used), np.int64)
        for one_size in np.unique(self._size[self._size > 0]).tolist():
            rows = np.flatnonzero(self._size == one_size)
            inside = np.arange(one_size)
            self._arena[self._begin[rows, None] + inside] = arena[begin[rows, None] + inside]
