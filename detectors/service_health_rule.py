"""What holds for a tenant's service health, as numbers that the state can keep."""

from math import log2, log10
from typing import Final, NamedTuple

from detectors.parameters import ServiceHealthParameters, budget_share, resolve
from schemas.tenant import Tenant

# A tenant's routes that are told apart; the others are one.
MAX_ROUTES: Final = 256
# Failed and slow requests, volume, durations and silence, every minute and for every route.
TESTS_A_WEEK: Final = 5 * 7 * 24 * 60 * MAX_ROUTES


class HealthRule(NamedTuple):
    """Limits; `ServiceHealthParameters` says what they are for.

    Parameters
    ----------
    error_share, slow_share, bad, volume, volume_ratio
        As there.
    shift
        Step of log2 durations that is no habit.
    history_ms, gap_ms, quiet_ms, slow_ms
        In milliseconds.
    threshold
        Decades of surprise.
    """

    error_share: float
    slow_share: float
    bad: float
    volume: float
    volume_ratio: float
    shift: float
    history_ms: float
    gap_ms: float
    quiet_ms: float
    slow_ms: float
    threshold: float


# Columns of what the state keeps of them.
(
    ERROR_SHARE,
    SLOW_SHARE,
    BAD,
    VOLUME,
    VOLUME_RATIO,
    SHIFT,
    HISTORY_MS,
    GAP_MS,
    QUIET_MS,
    SLOW_MS,
    THRESHOLD,
) = range(len(HealthRule._fields))


def rule_of(defaults: ServiceHealthParameters, tenant: Tenant) -> HealthRule:
    """Return what holds for a tenant."""
    p = resolve("service_health", defaults, tenant)
    return HealthRule(
        p.error_share,
        p.slow_share,
        p.bad_requests,
        p.volume_requests,
        p.volume_ratio,
        log2(p.duration_ratio),
        1_000 * p.history_s,
        1_000 * p.silence_s,
        1_000 * p.quiet_s,
        p.slow_ms,
        log10(TESTS_A_WEEK / budget_share("service_health", tenant)),
    )
