"""What failed logins are judged by: a tenant's rule, and what is remembered of a partition."""

from dataclasses import dataclass, field
from math import log10
from typing import ClassVar, Final

from detectors.bucket_state import BucketState
from detectors.buckets import Buckets
from detectors.clock import Clock
from detectors.episodes import EpisodeRule
from detectors.failed_login_stories import (
    AddressTeller,
    ApprovalTeller,
    ChallengeTeller,
    SuccessTeller,
    TakenTeller,
    UserTeller,
)
from detectors.guessing_pressure import TESTS_A_WEEK
from detectors.guessing_state import GuessingRule, GuessingState
from detectors.parameters import DAY_S, FailedLoginParameters
from detectors.settling import Rule
from detectors.travel_state import TravelRule, TravelState

# Four buckets for failures, one for users new to an address.
WIDTH: Final = 5


@dataclass
class FailedLoginState:
    """What is remembered of one partition's logins.

    Parameters
    ----------
    clock
        Watermark of each tenant.
    addresses, networks, users, challenges
        Leaky buckets by (tenant, address), of strangers by (tenant, network) and of users without an address
        by tenant, by (tenant, user), and of second factors denied by (tenant, user).
    guessing
        Where users come from, and how hard each tenant is tried.
    known_ms
        The longest that any tenant's successes have counted: what a sweep must spare. Part of the state,
        because whoever goes on from a snapshot has not met every tenant's rule yet.
    travel
        Where people are, if that is known.
    successes, taken, approvals
        Open episodes of logins after failures of their user or address, in the middle of guessing at the
        whole tenant, and after many denied second factors.
    """

    # To be raised whenever this or anything in it is laid out otherwise, or means something else.
    format_version: ClassVar[int] = 9

    clock: Clock = field(default_factory=Clock)
    addresses: BucketState = field(default_factory=lambda: BucketState(AddressTeller(), WIDTH))
    networks: BucketState = field(default_factory=lambda: BucketState(AddressTeller("network"), 2))
    users: BucketState = field(default_factory=lambda: BucketState(UserTeller(), WIDTH))
    challenges: BucketState = field(default_factory=lambda: BucketState(ChallengeTeller(), 2))
    guessing: GuessingState = field(default_factory=GuessingState)
    known_ms: int = 0
    travel: TravelState = field(default_factory=TravelState)
    successes: EpisodeRule = field(default_factory=lambda: EpisodeRule(SuccessTeller()))
    taken: EpisodeRule = field(default_factory=lambda: EpisodeRule(TakenTeller()))
    approvals: EpisodeRule = field(default_factory=lambda: EpisodeRule(ApprovalTeller()))

    def rules(self) -> tuple[Rule, ...]:
        """Return what has episodes."""
        buckets = (self.addresses, self.networks, self.users, self.challenges)
        alone = self.successes, self.taken, self.approvals, self.travel.journeys
        return *buckets, self.guessing.alarms, *alone

    def sweep(self, known_ms: int) -> None:
        """Drop what no verdict can depend on any more; successes older than `known_ms` count for nothing."""
        self.known_ms = max(self.known_ms, known_ms)
        self.addresses.sweep(self.clock)
        self.networks.sweep(self.clock)
        self.users.sweep(self.clock)
        self.challenges.sweep(self.clock)
        self.guessing.sweep(self.clock.settled_ms, self.known_ms)
        self.travel.sweep(self.clock.settled_ms, self.known_ms)


@dataclass(frozen=True, slots=True)
class FailedLoginRule:
    """What holds for a tenant.

    Parameters
    ----------
    by_address, by_network, by_user, by_challenge
        Buckets.
    guessing
        Of the tenant as a whole.
    travel
        Between a user's logins; None: it is switched off.
    quiet_ms
        When an episode of suspicious successes is over.
    """

    by_address: Buckets
    by_network: Buckets
    by_user: Buckets
    by_challenge: Buckets
    guessing: GuessingRule
    travel: TravelRule | None
    quiet_ms: int


def rule_of(p: FailedLoginParameters, false_alarms_per_week: float) -> FailedLoginRule:
    """Return what parameters amount to, and the share of the budget that guessing from many addresses has."""
    sizes = (p.burst_failures, p.minute_failures, p.hour_failures, p.strict_failures)
    leaks = (p.burst_leak_s, p.minute_leak_s, p.hour_leak_s, p.strict_leak_s, p.new_users_leak_s)
    known_ms = 1000 * DAY_S * p.known_days
    leaks_ms, quiet_ms = tuple(1000 * leak_s for leak_s in leaks), 1000 * p.quiet_s
    return FailedLoginRule(
        Buckets((*sizes, p.new_users), leaks_ms, quiet_ms, p.success_share, strange=1, successes=1),
        # The first never alarms: it remembers the network's users until it is empty.
        Buckets(
            (0, p.network_users),
            (1000 * p.network_memory_s, 1000 * p.network_users_leak_s),
            quiet_ms,
            successes=1,
        ),
        Buckets((*sizes, 0), leaks_ms, quiet_ms, p.success_share, strange=1),
        Buckets((p.challenges, 0), (1000 * p.challenges_leak_s,) * 2, quiet_ms),
        GuessingRule(log10(TESTS_A_WEEK / false_alarms_per_week), known_ms, quiet_ms),
        TravelRule(p.travel_km, p.travel_kmh, known_ms, quiet_ms) if p.travel_kmh else None,
        quiet_ms,
    )
