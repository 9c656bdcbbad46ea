"""What failed logins are judged by: a tenant's rule, and what is remembered of a partition."""

from dataclasses import dataclass, field
from typing import ClassVar, Final

import numpy as np

from detectors.bucket_state import BucketState
from detectors.buckets import Buckets
from detectors.clock import Clock
from detectors.episodes import EpisodeRule
from detectors.failed_login_stories import AddressTeller, SuccessTeller, UserTeller
from detectors.keys import Keys
from detectors.parameters import DAY_S, FailedLoginParameters
from detectors.settling import Rule
from schemas.batch import Int64s

# Four buckets for failures, one for users new to an address.
WIDTH: Final = 5
# Further back than any time less the longest `known_days`.
NEVER_SUCCEEDED_MS: Final = -(1 << 40)


@dataclass
class FailedLoginState:
    """What is remembered of one partition's logins.

    Parameters
    ----------
    clock
        Watermark of each tenant.
    addresses, users
        Leaky buckets by (tenant, address) and by (tenant, user).
    pairs, pair_ms
        (tenant, user, address) that logged in, and when last, milliseconds.
    known_ms
        The longest that any tenant's successes have counted: what a sweep must spare. Part of the state,
        because whoever goes on from a snapshot has not met every tenant's rule yet.
    successes
        Open episodes of logins in the middle of guessing.
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 2

    clock: Clock = field(default_factory=Clock)
    addresses: BucketState = field(default_factory=lambda: BucketState(AddressTeller(), WIDTH))
    users: BucketState = field(default_factory=lambda: BucketState(UserTeller(), WIDTH))
    pairs: Keys[tuple[str, str, str | None]] = field(default_factory=lambda: Keys(words=1, texts=2))
    pair_ms: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    known_ms: int = 0
    successes: EpisodeRule = field(default_factory=lambda: EpisodeRule(SuccessTeller()))

    def rules(self) -> tuple[Rule, ...]:
        """Return what has episodes."""
        return self.addresses, self.users, self.successes

    def sweep(self, known_ms: int) -> None:
        """Drop what no verdict can depend on any more; successes older than `known_ms` count for nothing."""
        self.known_ms = max(self.known_ms, known_ms)
        self.addresses.sweep(self.clock)
        self.users.sweep(self.clock)
        if self.pairs.crowded:
            n = len(self.pairs)
            settled_ms = self.pairs.by_tenant(self.clock.settled_ms)
            kept = self.pair_ms[:n] >= settled_ms - self.known_ms
            self.pairs.keep(kept)
            self.pair_ms = self.pair_ms[:n][kept]


@dataclass(frozen=True, slots=True)
class FailedLoginRule:
    """What holds for a tenant.

    Parameters
    ----------
    by_address, by_user
        Buckets.
    known_ms
        How long a user's address stays known after its last success.
    quiet_ms
        When an episode of suspicious successes is over.
    """

    by_address: Buckets
    by_user: Buckets
    known_ms: int
    quiet_ms: int


def rule_of(p: FailedLoginParameters) -> FailedLoginRule:
    """Return what parameters amount to."""
    sizes = (p.burst_failures, p.minute_failures, p.hour_failures, p.strict_failures)
    leaks = (p.burst_leak_s, p.minute_leak_s, p.hour_leak_s, p.strict_leak_s, p.new_users_leak_s)
    leaks_ms, quiet_ms = tuple(1000 * leak_s for leak_s in leaks), 1000 * p.quiet_s
    return FailedLoginRule(
        Buckets((*sizes, p.new_users), leaks_ms, quiet_ms, p.success_share),
        Buckets((*sizes, 0), leaks_ms, quiet_ms, p.success_share),
        1000 * DAY_S * p.known_days,
        quiet_ms,
    )
