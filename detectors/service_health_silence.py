"""Silences: from the moment when too many requests are missing, until the next one comes."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from detectors.clock import DAY_MS, FOREVER_MS, HOUR_MS, MINUTE_MS
from detectors.columns import Hashed
from detectors.episode import Episode, alert_of
from detectors.episodes import EpisodeRule
from detectors.keys import Key, Keys
from detectors.service_health_calendar import Pause, expected, reached_ms
from detectors.service_health_habit import MIN_SEEN, certain_rate, even_rate, silence_decades
from detectors.service_health_rule import GAP_MS, THRESHOLD
from detectors.service_health_stories import Silence, SilenceTeller
from detectors.service_health_traffic import NEVER, Traffic
from schemas.alert import Alert
from schemas.batch import Floats, Int64s

# Who was not heard of for so long is forgotten, and a silence is over: it is the usual.
FORGET_MS: Final = 28 * DAY_MS
# Sums of many numbers may fall short by as much.
_ROUNDING: Final = 1 - 1e-6


class SilenceRule(EpisodeRule):
    """Open silences.

    The one event of a silence is the last request before it. What is told depends only on that and on the
    habit until then, not on when somebody looks: the moment from which on it is a silence is worked out.
    """

    def __init__(self) -> None:
        super().__init__(SilenceTeller())

    def open(
        self,
        traffic: Traffic,
        slot: int,
        last_ms: int,
        last_id: str,
        at_ms: int,
        missing: float,
        threshold: float,
    ) -> Alert:
        """Return the first revision of a silence, given when too many requests were missing (`at_ms`)."""
        episode = Episode(traffic.keys[slot], last_ms, last_ms, at_ms, FORGET_MS, facts=None)
        episode.extend([last_id], last_ms)
        rate = certain_rate(traffic, np.array([slot]))[0]
        episode.facts = Silence(missing, float(rate.sum() / max(np.count_nonzero(rate), 1)), 0)
        episode.score = max(silence_decades(traffic, slot, missing), threshold)
        episode.threshold = threshold
        self.episodes.start(episode)
        self._show(episode)
        return alert_of(self.teller, episode, "open")

    def end(self, key: Key, resumed_ms: int) -> list[Alert]:
        """Return the last revision of a silence, given when the next request came; none if it was told."""
        episode = self.episodes.find(key)
        if episode is None:
            return []
        if resumed_ms < episode.due_ms:
            episode.facts = episode.facts._replace(resumed_ms=resumed_ms)
        self.episodes.end(episode)
        return [alert_of(self.teller, episode, "resolved")]

    def _show(self, episode: Episode) -> None:
        if self.watch is None:
            return
        keys = Keys[Key]()
        slot = keys.intern([Hashed([part]) for part in episode.key], np.zeros(1, np.int64))
        score, threshold = np.array([episode.score]), np.array([episode.threshold])
        self.watch.see(
            keys,
            slot,
            np.array([episode.detected_ms]),
            episode.event_ids,
            lambda at: (score[at], threshold[at]),
        )


class Silences:
    """Looks for silences among some keys.

    Parameters
    ----------
    traffic, rule
        Changed.
    limits
        ``(t, l)`` what holds for each tenant.
    pauses
        Tenant to the times in which it was silent itself: then nothing is expected of its routes.
    """

    def __init__(
        self, traffic: Traffic, rule: SilenceRule, limits: Floats, pauses: Mapping[str, Sequence[Pause]]
    ) -> None:
        self.traffic, self.rule, self.limits, self.pauses = traffic, rule, limits, pauses
        self.alerts: list[Alert] = []

    def missing(self, slot: Int64s, start_ms: Int64s, stop_ms: Int64s, times: int = MIN_SEEN) -> Floats:
        """Return ``(n,)`` how many requests were expected between two times (see `certain_rate`)."""
        whole = certain_rate(self.traffic, slot, times)
        even = even_rate(self.traffic, slot, whole)
        found = expected(whole, even, start_ms, stop_ms)
        if not self.pauses:
            return found
        for i, key in enumerate(slot.tolist()):
            for begin, end in self.pauses.get(self.traffic.keys[key][0], ()):
                lo, hi = max(begin, int(start_ms[i])), min(end, int(stop_ms[i]))
                if lo < hi:
                    one = slice(i, i + 1)
                    found[i] -= expected(whole[one], even[one], np.array([lo]), np.array([hi]))[0]
        return found

    def look(self, slot: int, last_ms: int, last_id: str, missing: float, stop_ms: int) -> bool:
        """Return whether a gap had become a silence by `stop_ms`; if so, tell of it."""
        traffic = self.traffic
        needed = float(traffic.needed[slot])
        if not traffic.fastest[slot] or missing < needed * _ROUNDING:
            return False
        limits = self.limits[traffic.owner[slot]]
        pauses = self.pauses.get(traffic.keys[slot][0], ())
        whole = certain_rate(traffic, np.array([slot]))
        even = even_rate(traffic, np.array([slot]), whole)
        at_ms = reached_ms(whole[0], even[0], last_ms, needed, pauses, stop_ms)
        at_ms = max(at_ms, -(-(last_ms + int(limits[GAP_MS])) // MINUTE_MS) * MINUTE_MS)
        if at_ms > stop_ms:
            return False
        threshold = float(limits[THRESHOLD])
        self.alerts.append(self.rule.open(traffic, slot, last_ms, last_id, at_ms, needed, threshold))
        return True

    def schedule(self, slot: Int64s) -> None:
        """Set when keys can be silent at the earliest."""
        traffic = self.traffic
        fastest = traffic.fastest[slot]
        hours = np.divide(traffic.needed[slot], fastest, out=np.zeros(len(slot)), where=fastest > 0)
        after_ms = np.maximum((hours * HOUR_MS).astype(np.int64), self._gap_ms(slot))
        traffic.check_ms[slot] = np.where(fastest > 0, traffic.last_ms[slot] + after_ms, FOREVER_MS)

    def _gap_ms(self, slot: Int64s) -> Int64s:
        return np.asarray(self.limits[self.traffic.owner[slot], GAP_MS], np.int64)

    def overdue(self, now_ms: Int64s) -> None:
        """Tell of keys that are silent at the given times ``(k,)``, of which none is forgotten yet."""
        traffic, k = self.traffic, len(now_ms)
        now_ms = np.minimum(now_ms, traffic.last_ms[:k] + FORGET_MS)
        due = traffic.check_ms[:k] <= now_ms
        due &= ~traffic.silent[:k] & (traffic.minute[:k] == NEVER)
        slots = due.nonzero()[0]
        if not len(slots):
            return
        last_ms, until_ms = traffic.last_ms[slots], now_ms[slots]
        missing = self.missing(slots, last_ms, until_ms)
        left = np.maximum(traffic.needed[slots] - missing, 0.0)
        later_ms = np.maximum((left / traffic.fastest[slots] * HOUR_MS).astype(np.int64), MINUTE_MS)
        traffic.check_ms[slots] = until_ms + later_ms
        for slot, last, lacking, until in zip(
            slots.tolist(), last_ms.tolist(), missing.tolist(), until_ms.tolist(), strict=True
        ):
            if self.look(slot, last, traffic.last_id[slot], lacking, until):
                traffic.silent[slot] = True
