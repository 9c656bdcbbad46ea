"""What guessing from many addresses is judged by: a tenant's rule, and what is remembered of a partition."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from detectors.clock import HOUR_MS
from detectors.episodes import EpisodeRule
from detectors.failed_login_stories import GuessingTeller
from detectors.growing import grown
from detectors.guessing_pressure import WINDOWS, Pressure
from detectors.keys import Keys
from detectors.pairs import LONG_AGO_MS, Pairs
from schemas.batch import Int64s


class GuessingRule(NamedTuple):
    """What holds for a tenant.

    Parameters
    ----------
    threshold
        Decades of surprise.
    known_ms
        How long a user's place stays known after its last success.
    quiet_ms
        When an episode is over.
    """

    threshold: float
    known_ms: int
    quiet_ms: int


@dataclass
class GuessingState:
    """What is remembered of one partition's tenants, and of where their users come from.

    Parameters
    ----------
    pairs
        Users and places that logged in.
    failed, counted_ms
        (tenant, user, place) of failures, and when one last counted.
    tenants, last_ms
        Number of each tenant, and the time of its latest attempt.
    window, in_window
        ``(t, 4)`` number of the current window of each length, and ``(t, 4, 2)`` what explains failures in
        it: logins, and failures from where their users often log in.
    recent
        ``(t, 3)`` since the last failure that counted: logins, those of known users from new places, and
        failures from where their users often log in.
    pressures
        Tenant to what its failures amount to; only for tenants that had one.
    alarms
        Open episodes.
    """

    pairs: Pairs = field(default_factory=Pairs)
    failed: Keys[tuple[str, str | None, str | None]] = field(default_factory=lambda: Keys(words=1, texts=2))
    counted_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    tenants: dict[str, int] = field(default_factory=dict)
    last_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    window: Int64s = field(default_factory=lambda: np.zeros((0, len(WINDOWS)), np.int64))
    in_window: Int64s = field(default_factory=lambda: np.zeros((0, len(WINDOWS), 2), np.int64))
    recent: Int64s = field(default_factory=lambda: np.zeros((0, 3), np.int64))
    pressures: dict[str, Pressure] = field(default_factory=dict)
    alarms: EpisodeRule = field(default_factory=lambda: EpisodeRule(GuessingTeller()))

    def reserve(self, tenants: Sequence[str]) -> Int64s:
        """Return ``(t,)`` the numbers of tenants, and make room for every key that has one."""
        numbers = [self.tenants.setdefault(tenant, len(self.tenants)) for tenant in tenants]
        n = len(self.tenants)
        self.last_ms, self.recent = grown(self.last_ms, n, 0), grown(self.recent, n, 0)
        self.in_window, self.window = grown(self.in_window, n, 0), grown(self.window, n, -1)
        self.counted_ms = grown(self.counted_ms, len(self.failed), LONG_AGO_MS)
        return np.array(numbers, np.int64)

    def sweep(self, settled_ms: Callable[[str], int], known_ms: int) -> None:
        """Drop what no verdict can depend on any more; successes older than `known_ms` count for nothing."""
        self.pairs.sweep(settled_ms, max(known_ms, HOUR_MS))
        if self.failed.crowded:
            n = len(self.failed)
            kept = self.counted_ms[:n] >= self.failed.by_tenant(settled_ms) - HOUR_MS
            self.failed.keep(kept)
            self.counted_ms = self.counted_ms[:n][kept]
