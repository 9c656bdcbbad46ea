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
from schemas.batch import Bools, Floats, Int64s

# What the rule wants to say about a row.
Look = Callable[[int], Any]


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
    scores, thresholds
        ``(n,)``.
    look
        What to say of a row, by its position here; asked only of one that is higher than all before it, and
        of no more than one between two revisions or two batches.
    grades
        ``(n,)`` how grave each row is by itself, where severity follows from that; a graver row is told at
        once, and is higher than another whatever the scores. None: it does not.
    """

    def __init__(
        self,
        slot: Int64s,
        keys: Keys[Key],
        time_ms: Int64s,
        quiet_ms: Int64s,
        event_ids: Sequence[str],
        scores: Floats,
        thresholds: Floats,
        look: Look,
        grades: Int64s | Bools | None = None,
    ) -> None:
        order = by_key(slot)
        self._slot = slot[order]
        self._keys = keys
        self._time_ms = time_ms[order]
        self._quiet_ms = quiet_ms[order]
        self._rows = order.tolist()
        self._look = look
        self._scores, self._thresholds = scores[order], thresholds[order]
        self.grades = None if grades is None or not grades.any() else grades[order]
        self._grades = np.zeros(len(order), np.int64) if self.grades is None else self.grades
        # Differences, not ratios: most scores are logarithms. Of equal rows the first is the highest.
        n, excess = np.arange(len(order)), self._scores - self._thresholds
        self._rank = np.empty_like(n)
        self._rank[np.lexsort((n[::-1], excess, self._grades))] = n
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

    def measure(self, episode: Episode, start: int, stop: int) -> None:
        """Keep what is to be said of the highest row, unless an earlier one was as high."""
        at = start + int(self._rank[start:stop].argmax())
        grade, score, threshold = (
            int(self._grades[at]),
            float(self._scores[at]),
            float(self._thresholds[at]),
        )
        highest = episode.grade, episode.score - episode.threshold
        if not episode.revision or (grade, score - threshold) > highest:
            episode.grade, episode.score, episode.threshold = grade, score, threshold
            episode.facts = self._look(self._rows[at])
