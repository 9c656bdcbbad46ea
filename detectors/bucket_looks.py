"""How full a key's buckets are at a row that does not fill them: a success in the middle of failures."""

from collections.abc import Sequence

import numpy as np

from detectors.bucket_state import BucketState
from detectors.buckets import Buckets
from detectors.segments import by_key
from schemas.batch import Bools, Floats, Int64s


class Filled:
    """What filling buckets in a batch came to: ``(f,)`` rows in order of arrival.

    Parameters
    ----------
    state
        Before the batch.
    slot
        The rows' keys.

    Attributes
    ----------
    fullness
        How full the fullest bucket was after each row; over 1: alarm.
    touched
        ``(k,)`` which keys have such rows.
    """

    def __init__(self, state: BucketState, slot: Int64s) -> None:
        self._slot = slot
        self._before = state.empty_ms[slot], state.last_ms[slot]
        self._after = state.empty_ms[slot], state.last_ms[slot]
        self.fullness: Floats = np.zeros(len(slot))
        self.touched: Bools = np.zeros(len(state.keys), np.bool_)
        self.touched[slot] = True

    def put(self, rows: Int64s, fullness: Floats, empty_ms: Int64s, last_ms: Int64s) -> None:
        """Keep how some of the rows left their keys."""
        self.fullness[rows] = fullness
        self._after[0][rows], self._after[1][rows] = empty_ms, last_ms

    def met(self, state: BucketState, slot: Int64s, arrived: Int64s) -> tuple[Int64s, Int64s]:
        """Return how rows that look find their keys: when each bucket will be empty, and the latest time.

        Parameters
        ----------
        state
            After the batch.
        slot, arrived
            ``(m,)`` the keys of the rows that look, and how many of the rows that fill came before each.
        """
        empty_ms, last_ms = state.empty_ms[slot], state.last_ms[slot]
        looks = self.touched[slot].nonzero()[0]
        if not len(looks):
            return empty_ms, last_ms
        n = len(self._slot)
        order = by_key(self._slot)
        places = np.searchsorted(self._slot[order] * n + order, slot[looks] * n + arrived[looks])
        earlier, later = order[places - 1], order[np.minimum(places, n - 1)]
        preceded = (places > 0) & (self._slot[earlier] == slot[looks])
        for found, before, after in zip((empty_ms, last_ms), self._before, self._after, strict=True):
            found[looks[preceded]] = after[earlier[preceded]]
            found[looks[~preceded]] = before[later[~preceded]]
        return empty_ms, last_ms


def fullness_at(
    rules: Sequence[Buckets], rule: Int64s, time_ms: Int64s, empty_ms: Int64s, last_ms: Int64s
) -> Floats:
    """Return ``(m,)`` how full the fullest of the buckets of all events is.

    Parameters
    ----------
    rules, rule
        Buckets, and ``(m,)`` the number of those that hold.
    time_ms
        ``(m,)`` when.
    empty_ms, last_ms
        ``(m, width)`` and ``(m,)`` as `Filled.met` returns them.
    """
    at_ms = np.maximum(time_ms, last_ms)
    need_ms = np.array([b.need_ms[: b.every] for b in rules])[rule]
    level_ms = np.maximum(empty_ms[:, : need_ms.shape[1]] - at_ms[:, None], 0)
    fullness: Floats = (level_ms / need_ms).max(axis=1)
    quiet_ms = np.array([b.quiet_ms for b in rules], np.int64)[rule]
    # An episode of the key would be over, and with it the key starts afresh.
    fullness[at_ms - last_ms >= quiet_ms] = 0.0
    return fullness
