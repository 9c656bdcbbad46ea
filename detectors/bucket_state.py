"""What is remembered of keys with leaky buckets."""

import numpy as np

from detectors.clock import NEVER_MS, Clock
from detectors.closeness import Watch
from detectors.episode import Teller, alert_of
from detectors.episodes import Episodes
from detectors.growing import grown
from detectors.keys import Key, Keys
from detectors.saved import Saved
from detectors.segments import by_key, starts_of
from detectors.spells import Spell
from schemas.alert import Alert
from schemas.batch import Bools, Int32s, Int64s


class BucketState:
    """Buckets by key, and an episode for each key whose bucket runs over.

    Parameters
    ----------
    teller
        Names the episodes.
    width
        Buckets of each key.

    Attributes
    ----------
    keys
        Numbers of the keys.
    empty_ms
        ``(k, width)`` when each bucket will be empty.
    last_ms
        ``(k,)`` time of the key's latest event: it never runs backwards.
    watched_ms, watched_until_ms
        ``(k,)`` until when rows that only look have to: a bucket is as full as `Buckets.watch_share`; and
        the latest of these times there has been.
    good
        ``(k,)`` good events since the key's latest event; see `Buckets.successes`.
    in_alarm
        ``(k,)`` whether an episode is open.
    spells
        ``(k,)`` what else is remembered, packed (`Spell`).
    """

    saved = Saved(
        frozenset({"teller", "watch"}),
        {"spells": list[bytes | None]},
        restored=lambda rule: rule.restored(),
    )

    def __init__(self, teller: Teller, width: int) -> None:
        self.teller = teller
        self.watch: Watch | None = None
        self.keys: Keys[Key] = Keys()
        self.episodes = Episodes()
        self.empty_ms: Int64s = np.full((0, width), NEVER_MS, np.int64)
        self.last_ms: Int64s = np.full(0, NEVER_MS, np.int64)
        self.watched_ms: Int64s = np.full(0, NEVER_MS, np.int64)
        self.watched_until_ms = NEVER_MS
        self.good: Int32s = np.zeros(0, np.int32)
        self.in_alarm: Bools = np.zeros(0, np.bool_)
        self.spells: list[bytes | None] = []

    def restored(self) -> None:
        """Take the place of a saved state; what is no spell must be found out now, and not at a fold."""
        self.episodes.type_facts(self.teller)
        for kept in self.spells:
            Spell.unpacked(kept)

    def reserve(self) -> None:
        """Make room for every key that has a number."""
        n = len(self.keys)
        self.empty_ms = grown(self.empty_ms, n, NEVER_MS)
        self.last_ms = grown(self.last_ms, n, NEVER_MS)
        self.watched_ms = grown(self.watched_ms, n, NEVER_MS)
        self.good = grown(self.good, n, 0)
        self.in_alarm = grown(self.in_alarm, n, False)
        self.spells.extend([None] * (n - len(self.spells)))

    def take_good(self, slot: Int64s, rows: Int64s, good_slot: Int64s, good_rows: Int64s) -> Int64s:
        """Return ``(n,)`` how many good events of its key came since the event before, and keep the others.

        Parameters
        ----------
        slot, rows
            ``(n,)`` keys of events and their places in the batch, ascending.
        good_slot, good_rows
            ``(m,)`` the same of good events; those of keys without a number, -1, count for nothing.
        """
        self.reserve()
        good_slot, good_rows = good_slot[good_slot >= 0], good_rows[good_slot >= 0]
        bound = 1 + max(rows.max(initial=0), good_rows.max(initial=0))
        places = np.sort(good_slot * bound + good_rows)
        order = by_key(slot)
        starts = starts_of(slot[order])
        # Good events up to each event, from the first of the key in the batch on.
        until = np.searchsorted(places, slot[order] * bound + rows[order])
        first = np.searchsorted(places, slot[order][starts] * bound)
        last = until[np.append(starts[1:], len(order)) - 1] if len(order) else until
        good = np.diff(until, prepend=0)
        good[starts] = until[starts] - first + self.good[slot[order][starts]]
        self.good[slot] = 0
        np.add.at(self.good, good_slot, 1)
        self.good[slot[order][starts]] -= (last - first).astype(np.int32)
        result: Int64s = np.empty_like(good)
        result[order] = good
        return result

    def settle(self, tenant_id: str, settled_ms: int) -> list[Alert]:
        """Return the last revision of the tenant's episodes that are over."""
        over = self.episodes.end_due(tenant_id, settled_ms)
        for episode in over:
            self.forget(self.keys.slot_of(episode.key))
        return [alert_of(self.teller, episode, "resolved") for episode in over]

    def forget(self, slot: int) -> None:
        """Let a key start afresh."""
        self.empty_ms[slot] = NEVER_MS
        self.last_ms[slot] = NEVER_MS
        self.watched_ms[slot] = NEVER_MS
        self.in_alarm[slot] = False
        self.spells[slot] = None

    def sweep(self, clock: Clock) -> None:
        """Drop keys whose buckets are empty: they are as if never seen, so no verdict changes."""
        if not self.keys.crowded:
            return
        n = len(self.keys)
        settled_ms = self.keys.by_tenant(clock.settled_ms)
        kept = self.in_alarm[:n] | (self.empty_ms[:n] > settled_ms[:, None]).any(axis=1)
        self.keys.keep(kept)
        self.empty_ms = self.empty_ms[:n][kept]
        self.last_ms = self.last_ms[:n][kept]
        self.watched_ms = self.watched_ms[:n][kept]
        self.watched_until_ms = int(self.watched_ms.max(initial=NEVER_MS))
        self.good = self.good[:n][kept]
        self.in_alarm = self.in_alarm[:n][kept]
        self.spells = [self.spells[slot] for slot in np.flatnonzero(kept).tolist()]
