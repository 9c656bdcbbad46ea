"""Who logs in from where: pairs of user and address, and when each last did."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from detectors.columns import Hashed, Tenants
from detectors.growing import grown
from detectors.keys import Keys
from detectors.segments import by_key
from schemas.batch import Int64s

# Further back than any time less the longest `known_days`.
NEVER_MS: Final = -(1 << 40)


@dataclass
class Pairs:
    """Pairs that logged in.

    Parameters
    ----------
    keys
        (tenant, user, address).
    met_ms
        ``(k,)`` when each last logged in.
    known_ms
        ``(k,)`` when it last did so above suspicion.
    """

    keys: Keys[tuple[str, str, str | None]] = field(default_factory=lambda: Keys(words=1, texts=2))
    met_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    known_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))

    def meet(
        self, parts: tuple[Tenants, Hashed, Hashed], won: Int64s, lost: Int64s, at_ms: Int64s
    ) -> tuple[Int64s, Int64s]:
        """Remember the successes of a batch; return pairs, and when each had last succeeded.

        Parameters
        ----------
        parts
            Tenants, users and addresses, ``(n,)`` each.
        won, lost
            Rows that succeeded and rows that failed, ascending.
        at_ms
            ``(n,)`` times that never run backwards for a tenant.

        Returns
        -------
        pair, before_ms
            ``(n,)`` number of each row's pair, -1: it never succeeded; and the time of the pair's success
            before the row.
        """
        n = len(at_ms)
        pair, before_ms = np.full(n, -1, np.int64), np.full(n, NEVER_MS, np.int64)
        pair[won] = self.keys.intern(parts, won)
        pair[lost] = self.keys.find(parts, lost)
        self.met_ms = grown(self.met_ms, len(self.keys), NEVER_MS)
        self.known_ms = grown(self.known_ms, len(self.keys), NEVER_MS)
        rows = np.concatenate((won, lost[pair[lost] >= 0]))
        before_ms[rows] = self.met_ms[pair[rows]]
        # The latest success before each row in the batch itself, if its pair has one.
        order = won[by_key(pair[won])]
        places = np.searchsorted(pair[order] * n + order, pair[rows] * n + rows) - 1
        earlier = order[places] if len(order) else rows
        preceded = (places >= 0) & (pair[earlier] == pair[rows])
        before_ms[rows[preceded]] = at_ms[earlier[preceded]]
        np.maximum.at(self.met_ms, pair[won], at_ms[won])
        return pair, before_ms

    def sweep(self, settled_ms: Callable[[str], int], kept_ms: int) -> None:
        """Drop pairs whose last success is longer ago than anybody asks about."""
        if not self.keys.crowded:
            return
        n = len(self.keys)
        kept = self.met_ms[:n] >= self.keys.by_tenant(settled_ms) - kept_ms
        self.keys.keep(kept)
        self.met_ms, self.known_ms = self.met_ms[:n][kept], self.known_ms[:n][kept]
