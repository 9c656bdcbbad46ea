"""Who logs in from where: users, pairs of user and place, and when each last did."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from detectors.clock import HOUR_MS
from detectors.columns import Hashed, Tenants
from detectors.growing import grown
from detectors.keys import Keys, fingerprints
from detectors.numbers import NumberTable
from detectors.saved import Saved
from detectors.segments import by_key, starts_of
from schemas.batch import Bools, Int32s, Int64s

# Further back than any time less the longest `known_days`.
LONG_AGO_MS: Final = -(1 << 40)
LONG_AGO_HOUR: Final = LONG_AGO_MS // HOUR_MS


@dataclass
class Pairs:
    """Pairs that logged in.

    Parameters
    ----------
    keys
        (tenant, user, place): see `detectors.networks.place_of`.
    met_ms
        ``(k,)`` when each last logged in.
    known_ms
        ``(k,)`` when it last did so above suspicion.
    failed_hour
        ``(k,)`` hour in which it last failed while known, since 1970.
    users, user_ms, user_of
        (tenant, user) by fingerprint, when each last logged in from anywhere, and ``(k,)`` the number of each
        pair's user; made from the pairs.
    """

    saved: ClassVar[Saved] = Saved(
        frozenset({"users", "user_ms", "user_of"}), restored=lambda pairs: pairs.rebuild()
    )

    keys: Keys[tuple[str, str, str | None]] = field(default_factory=lambda: Keys(words=1, texts=2))
    met_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    known_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    failed_hour: Int32s = field(default_factory=lambda: np.zeros(0, np.int32))
    users: NumberTable = field(default_factory=NumberTable)
    user_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    user_of: Int32s = field(default_factory=lambda: np.zeros(0, np.int32))

    def meet(
        self, parts: tuple[Tenants, Hashed, Hashed], won: Int64s, lost: Int64s, at_ms: Int64s
    ) -> tuple[Int64s, Int64s, Int64s]:
        """Remember the successes of a batch; return pairs, and when they and their users had last succeeded.

        Parameters
        ----------
        parts
            Tenants, users and places, ``(n,)`` each.
        won, lost
            Rows that succeeded and rows that failed, ascending.
        at_ms
            ``(n,)`` times that never run backwards for a tenant.

        Returns
        -------
        pair, pair_ms, user_ms
            ``(n,)`` number of each row's pair, -1: it never succeeded; and the times of the pair's success
            before the row, and of the user's.
        """
        pair, user = np.full(len(at_ms), -1, np.int64), np.full(len(at_ms), -1, np.int64)
        pair[won] = self.keys.intern(parts, won)
        pair[lost] = self.keys.find(parts, lost)
        user[won], _ = self.users.intern(fingerprints(parts[:2], won))
        user[lost] = self.users.find(fingerprints(parts[:2], lost))
        self.met_ms = grown(self.met_ms, len(self.keys), LONG_AGO_MS)
        self.known_ms = grown(self.known_ms, len(self.keys), LONG_AGO_MS)
        self.failed_hour = grown(self.failed_hour, len(self.keys), LONG_AGO_HOUR)
        self.user_ms = grown(self.user_ms, len(self.users), LONG_AGO_MS)
        self.user_of = grown(self.user_of, len(self.keys), 0)
        self.user_of[pair[won]] = user[won]
        pair_ms = last_success(pair, won, lost, at_ms, self.met_ms)
        return pair, pair_ms, last_success(user, won, lost, at_ms, self.user_ms)

    def fail(self, pair: Int64s, at_ms: Int64s) -> Bools:
        """Return ``(m,)`` which failures of known pairs are the first of their pair in an hour.

        Parameters
        ----------
        pair, at_ms
            ``(m,)`` in order of arrival; pairs are those of `meet`.
        """
        hour = at_ms // HOUR_MS
        order = by_key(pair)
        starts = starts_of(pair[order])
        # Times never run backwards for a tenant: the hour of the row before is the latest.
        before = np.append(LONG_AGO_HOUR, hour[order][:-1])
        before[starts] = self.failed_hour[pair[order][starts]]
        first = np.zeros(len(pair), np.bool_)
        first[order] = hour[order] > before
        np.maximum.at(self.failed_hour, pair, hour.astype(np.int32))
        return first

    def sweep(self, settled_ms: Callable[[str], int], kept_ms: int) -> None:
        """Drop pairs whose last success is longer ago than anybody asks about."""
        if not self.keys.crowded:
            return
        n = len(self.keys)
        kept = self.met_ms[:n] >= self.keys.by_tenant(settled_ms) - kept_ms
        self.keys.keep(kept)
        self.met_ms, self.known_ms = self.met_ms[:n][kept], self.known_ms[:n][kept]
        self.failed_hour = self.failed_hour[:n][kept]
        of = self.user_of[:n][kept]
        there = np.zeros(len(self.users), np.bool_)
        there[of] = True
        self.user_of = (np.cumsum(there, dtype=np.int32) - 1)[of]
        self.user_ms = self.user_ms[: len(there)][there]
        self.users.keep(there)

    def rebuild(self) -> None:
        """Make the users anew from the pairs: fingerprints hold in their own process only."""
        n = len(self.keys)
        self.users = NumberTable()
        tenants, users, _ = map(Hashed, self.keys.columns())
        number, _ = self.users.intern(fingerprints((tenants, users), np.arange(n)))
        self.user_ms = np.full(len(self.users), LONG_AGO_MS, np.int64)
        np.maximum.at(self.user_ms, number, self.met_ms[:n])
        self.user_of = number.astype(np.int32)


def last_success(number: Int64s, won: Int64s, lost: Int64s, at_ms: Int64s, met_ms: Int64s) -> Int64s:
    """Return ``(n,)`` when each row's key had last succeeded before the row, and remember the batch's.

    Parameters
    ----------
    number
        ``(n,)`` keys; -1: it never did.
    won, lost, at_ms
        As in `Pairs.meet`.
    met_ms
        ``(k,)`` times by key; changed.

    >>> met_ms = np.array([5])
    >>> key, at_ms = np.array([0, 0, 0]), np.array([7, 8, 9])
    >>> last_success(key, np.array([1]), np.array([0, 2]), at_ms, met_ms).tolist(), met_ms.tolist()
    ([5, 5, 8], [8])
    """
    n = len(at_ms)
    before_ms = np.full(n, LONG_AGO_MS, np.int64)
    rows = np.concatenate((won, lost[number[lost] >= 0]))
    before_ms[rows] = met_ms[number[rows]]
    if len(won):
        order = won[by_key(number[won])]
        places = np.searchsorted(number[order] * n + order, number[rows] * n + rows) - 1
        earlier = order[places]
        preceded = (places >= 0) & (number[earlier] == number[rows])
        before_ms[rows[preceded]] = at_ms[earlier[preceded]]
        np.maximum.at(met_ms, number[won], at_ms[won])
    return before_ms
