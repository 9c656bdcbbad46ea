"""What impossible travel is judged by: a tenant's rule, and where a partition's people were."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.episodes import EpisodeRule
from detectors.failed_login_stories import JourneyTeller
from detectors.growing import grown
from detectors.keys import Keys
from detectors.pairs import LONG_AGO_MS
from schemas.batch import Int64s


class TravelRule(NamedTuple):
    """What holds for a tenant.

    Parameters
    ----------
    least_km, most_kmh
        Nearer than this nobody travels: positions of addresses are rough. Faster nobody does.
    known_ms
        How long a network or a device stays known after its last login.
    quiet_ms
        When an episode is over.
    """

    least_km: int
    most_kmh: int
    known_ms: int
    quiet_ms: int


@dataclass
class TravelState:
    """Where people logged in last, from which networks and with what.

    Parameters
    ----------
    users
        (tenant, user) of those who were somewhere.
    positions, at_ms
        ``(k, 2)`` where in degrees, and ``(k,)`` when each last was, suspicious logins aside.
    seen_ms
        ``(k,)`` time of the latest login.
    habits, met_ms
        (tenant, ``network`` or ``device``, user, value), and when each last was met, above suspicion.
    journeys
        Open episodes.
    """

    users: Keys[tuple[str, str]] = field(default_factory=lambda: Keys(words=1, texts=1))
    positions: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 2)))
    at_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    seen_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    habits: Keys[tuple[str, str, str, str]] = field(default_factory=lambda: Keys(words=2, texts=2))
    met_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    journeys: EpisodeRule = field(default_factory=lambda: EpisodeRule(JourneyTeller()))

    def reserve(self) -> None:
        """Make room for every key that has a number."""
        self.positions = grown(self.positions, len(self.users), 0.0)
        self.at_ms = grown(self.at_ms, len(self.users), LONG_AGO_MS)
        self.seen_ms = grown(self.seen_ms, len(self.users), LONG_AGO_MS)
        self.met_ms = grown(self.met_ms, len(self.habits), LONG_AGO_MS)

    def sweep(self, settled_ms: Callable[[str], int], known_ms: int) -> None:
        """Forget people, networks and devices that were not met for so long."""
        if self.users.crowded:
            n = len(self.users)
            kept = self.seen_ms[:n] >= self.users.by_tenant(settled_ms) - known_ms
            self.users.keep(kept)
            self.positions, self.at_ms = self.positions[:n][kept], self.at_ms[:n][kept]
            self.seen_ms = self.seen_ms[:n][kept]
        if self.habits.crowded:
            n = len(self.habits)
            kept = self.met_ms[:n] >= self.habits.by_tenant(settled_ms) - known_ms
            self.habits.keep(kept)
            self.met_ms = self.met_ms[:n][kept]
