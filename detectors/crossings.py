"""Episodes of rules whose every row crosses a threshold by itself."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from detectors.clock import NEVER_MS
from detectors.episode import Episode
from detectors.episodes import EpisodeRule
from detectors.keys import Key, Keys
from detectors.segments import by_key, running_max, starts_of
from schemas.alert import Alert
from schemas.batch import Int64s

# Score, threshold, and what else the rule wants to say about a row.
Look = Callable[[int], tuple[float, float, Any]]


class Crossings:
    """Rows that each cross a threshold, in order of arrival.

    Parameters
    ----------
    slot
        ``(n,)`` number of each row's key.
    keys
        Keys by number.
    time_ms, quiet_ms
        ``(n,)`` event times, and after which quiet an episode is over.
    event_ids
        ``(n,)``.
    look
        What to say of a row, by its position here; asked only where a revision is cut.
    """

    def __init__(
        self,
        slot: Int64s,
        keys: Keys[Key],
        time_ms: Int64s,
        quiet_ms: Int64s,
        event_ids: Sequence[str],
        look: Look,
    ) -> None:
        order = by_key(slot)
        self._slot = slot[order]
        self._keys = keys
        self._time_ms = time_ms[order]
        self._quiet_ms = quiet_ms[order]
        self._rows = order.tolist()
        self._look = look
        self.event_ids = [event_ids[i] for i in self._rows]
        self.times: list[int] = []

    def fold(self, rule: EpisodeRule) -> list[Alert]:
        """Return the revisions that the rows give rise to."""
        alerts: list[Alert] = []
        starts = starts_of(self._slot)
        keys = [self._keys[slot] for slot in self._slot[starts].tolist()]
        latest_ms = [episode.last_ms if (episode := rule.episodes.find(key)) else NEVER_MS for key in keys]
        self.times = running_max(self._time_ms, starts, np.array(latest_ms, np.int64)).tolist()
        crossings = range(len(self._slot))
        for key, (at, stop) in zip(keys, pairwise([*starts.tolist(), len(self._slot)]), strict=True):
            while at < stop:
                told, at = rule.episodes.follow(rule.teller, self, key, at, stop, crossings)
                alerts.extend(told)
        return alerts

    def begin(self, key: Key, at: int) -> Episode:
        """Return the episode that starts with a row."""
        time_ms = self.times[at]
        episode = Episode(key, time_ms, time_ms, time_ms, int(self._quiet_ms[at]), facts=None)
        episode.extend(self.event_ids[at : at + 1], time_ms)
        return episode

    def gather(self, episode: Episode, start: int, stop: int) -> None:
        """Nothing is gathered but what `measure` takes."""

    def measure(self, episode: Episode, at: int) -> None:
        """Keep what is to be said of the row, unless more was to be said of an earlier one."""
        score, threshold, said = self._look(self._rows[at])
        if episode.facts is None or score * episode.threshold > episode.score * threshold:
            episode.score, episode.threshold, episode.facts = score, threshold, said
