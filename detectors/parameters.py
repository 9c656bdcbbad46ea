"""Detector parameters: defaults, then the tier's, then the tenant's own."""

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, Final, Generic, TypeVar

import numpy as np

from detectors.wording import advice
from schemas.batch import EventBatch, Int64s
from schemas.tenant import ParameterValue, Tenant, Tier, unknown_tenant

HOUR_S: Final = 3_600
DAY_S: Final = 86_400


def _parameter(default: float | int, low: float, high: float, why: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "why": why})


def _bucket(default: int, why: str) -> Any:
    return _parameter(default, 0, 10_000, f"{why}; 0 turns it off")


def _leak(default: int, bucket: str) -> Any:
    return _parameter(default, 1, DAY_S, f"seconds in which the bucket of {bucket} leaks one event")


def _quiet(default: int) -> Any:
    return _parameter(
        default, 60, DAY_S, "an episode is over after so many seconds without an event of its own"
    )


@dataclass(frozen=True, slots=True)
class BudgetParameters:
    """What all rules together may cost a tenant: thresholds of rules that weigh chances follow from it."""

    false_alarms_per_week: float = _parameter(
        1.0, 0.001, 1_000.0, "false alarms that the tenant's people put up with, over all rules"
    )


@dataclass(frozen=True, slots=True)
class FailedLoginParameters:
    """Parameters of `failed_login`."""

    burst_failures: int = _bucket(4, "a script's pace: a person who retypes needs about 5 s a try")
    burst_leak_s: int = _leak(10, "burst_failures")
    minute_failures: int = _bucket(10, "faster than one a minute and kept up: no person")
    minute_leak_s: int = _leak(60, "minute_failures")
    hour_failures: int = _bucket(20, "a slow guesser, who stays under burst_failures and minute_failures")
    hour_leak_s: int = _leak(HOUR_S, "hour_failures")
    strict_failures: int = _bucket(
        4, "failures of users who never logged in at all: whoever mistypes mostly got in before"
    )
    strict_leak_s: int = _leak(60, "strict_failures")
    new_users: int = _bucket(4, "different users who fail at one address, where offices have a few a morning")
    new_users_leak_s: int = _leak(60, "new_users")
    network_users: int = _bucket(
        6,
        "strangers who fail in one /24 or /64, no address beyond its own bucket; and users who fail without "
        "an address",
    )
    network_users_leak_s: int = _leak(60, "network_users")
    network_memory_s: int = _parameter(
        300, 1, DAY_S, "seconds by which each of their failures keeps the network's users in mind"
    )
    challenges: int = _bucket(4, "second factors denied: the fifth within ten minutes is no slip of a thumb")
    challenges_leak_s: int = _leak(600, "challenges")
    success_share: float = _parameter(
        0.5, 0.1, 1.0, "a success is suspicious while a bucket is at least so full"
    )
    travel_km: int = _parameter(
        500, 0, 20_100, "nearer than this nobody travels: where an address is, is roughly known"
    )
    travel_kmh: int = _parameter(
        900, 0, 1_000_000, "km/h between two logins that airliners do not exceed; 0 turns it off"
    )
    known_days: int = _parameter(
        90,
        1,
        3_650,
        "a user's address stays known so long after its last success; a quarter's absence is usual",
    )
    quiet_s: int = _quiet(1_800)


@dataclass(frozen=True, slots=True)
class RateBreachParameters:
    """Parameters of `rate_breach`; the limit itself is the tenant's ``rate_limit``, or its tier's."""

    medium_ratio: float = _parameter(2.0, 1.0, 1_000.0, "requests by limit from which severity is medium")
    high_ratio: float = _parameter(5.0, 1.0, 1_000.0, "requests by limit from which severity is high")


@dataclass(frozen=True, slots=True)
class AccessAnomalyParameters:
    """Parameters of `access_anomaly`."""

    cross_tenant_failures: int = _bucket(3, "denied accesses across tenants")
    cross_tenant_leak_s: int = _leak(600, "cross_tenant_failures")
    denied: int = _bucket(
        20, "denied accesses of a user: one page of a console asks for about a dozen things"
    )
    denied_leak_s: int = _leak(30, "denied")
    new_permissions: int = _bucket(8, "different permissions denied to a user: more than one page needs")
    new_permissions_leak_s: int = _leak(300, "new_permissions")
    resources: int = _bucket(15, "different resources denied or not found (a page asks for a dozen)")
    resources_leak_s: int = _leak(10, "resources")
    slow_resources: int = _bucket(30, "different resources denied or not found, too slowly for resources")
    slow_resources_leak_s: int = _leak(600, "slow_resources")
    neighbours: int = _bucket(16, "ids next to one tried before")
    neighbours_leak_s: int = _leak(HOUR_S, "neighbours")
    allowed_per_denied: int = _parameter(
        10,
        0,
        10_000,
        "accesses allowed that make up for one denied: services have a few denials in a hundred; 0: none do",
    )
    tenant_habit_min: int = _parameter(
        200,
        1,
        1_000_000,
        "hours at work that a tenant's users must have shown together before anybody is judged by habits; "
        "first_seen counts each action of such an hour",
    )
    user_habit_min: int = _parameter(
        20,
        1,
        1_000_000,
        "hours at work that a user must have shown before they are judged by what they never did; first_seen "
        "counts each action of such an hour",
    )
    volume_days_min: int = _parameter(
        3,
        0,
        365,
        "days that a tenant must be known for before volume is judged: one tells little of the others",
    )
    volume_quiet_s: int = _parameter(
        DAY_S, 60, DAY_S, "one alert for what a user takes too much of, until a day without more of it"
    )
    quiet_s: int = _quiet(1_800)


@dataclass(frozen=True, slots=True)
class ServiceHealthParameters:
    """Parameters of `service_health`. Its thresholds follow from the budget."""

    error_share: float = _parameter(
        0.2,
        0.001,
        1.0,
        "share of requests that fail from which it matters; half of it, where it lasts for some minutes",
    )
    slow_share: float = _parameter(
        0.3,
        0.001,
        1.0,
        "share of requests that are slow from which it matters; half of it, where it lasts for some minutes",
    )
    slow_ms: int = _parameter(1_000, 1, 3_600_000, "a request slower than this is slow")
    bad_requests: int = _parameter(
        10,
        1,
        1_000_000,
        "failed or slow requests in ten minutes from which they matter: fewer may all be one user's",
    )
    volume_requests: int = _parameter(
        120, 1, 100_000_000, "requests a minute from which volume matters: two a second"
    )
    volume_ratio: float = _parameter(
        3.0,
        1.0,
        1_000.0,
        "volume matters from so many times the most so far at this time of day: a launch may double it",
    )
    duration_ratio: float = _parameter(
        1.3, 1.01, 1_000.0, "durations up to so many times the usual are no shift: load makes for as much"
    )
    history_s: int = _parameter(
        DAY_S, 0, 365 * DAY_S, "a route is judged once it is known for so long: once around the clock"
    )
    silence_s: int = _parameter(
        # A route that was not heard of for four weeks is forgotten, and its silence with it.
        600,
        60,
        27 * DAY_S,
        "no request for less than this is no silence: a deployment takes minutes",
    )
    quiet_s: int = _quiet(1_800)


@dataclass(frozen=True, slots=True)
class CustomRuleParameters:
    """Parameters of `custom_rule`; the rules themselves are the tenant's ``rules``."""

    quiet_s: int = _quiet(1_800)


Parameters = TypeVar(
    "Parameters",
    BudgetParameters,
    FailedLoginParameters,
    RateBreachParameters,
    AccessAnomalyParameters,
    ServiceHealthParameters,
    CustomRuleParameters,
)
Rule = TypeVar("Rule")

DEFAULTS: Final[dict[str, Any]] = {
    "budget": BudgetParameters(),
    "failed_login": FailedLoginParameters(),
    "rate_breach": RateBreachParameters(),
    "access_anomaly": AccessAnomalyParameters(),
    "service_health": ServiceHealthParameters(),
    "custom_rule": CustomRuleParameters(),
}
# How rules that weigh chances divide the budget; what is left is for the buckets, whose limits are counts.
SHARES: Final = {
    "distributed_guessing": 0.2,
    "first_seen": 0.2,
    "volume": 0.1,
    "privilege_change": 0.1,  # and as much for impersonations, a kind of their own
    "service_health": 0.2,
}
# Offices of an enterprise put hundreds of people behind one address: twice the mornings' mistypers.
TIERS: Final[dict[Tier, dict[str, dict[str, ParameterValue]]]] = {
    "enterprise": {"failed_login": {"new_users": 8, "network_users": 12, "hour_failures": 40}},
}


def _fault(parameter: Field[Any], value: ParameterValue) -> str | None:
    whole = parameter.type is int
    if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
        return f"is {type(value).__name__}, found {value!r}; fix: send a {'whole ' if whole else ''}number"
    low, high = parameter.metadata["low"], parameter.metadata["high"]
    if not low <= value <= high:
        return f"is {value!r}, out of range; fix: send {low} to {high}"
    return None


def check_overrides(overrides: Mapping[str, Mapping[str, ParameterValue]]) -> list[str]:
    """Return what is wrong with a tenant's ``detectors``, one line for a person each; empty: nothing.

    >>> check_overrides({"failed_login": {"burst_failure": 3}})
    ['detectors.failed_login.burst_failure: no such parameter; did you mean `burst_failures`?']
    """
    faults: list[str] = []
    for detector, values in overrides.items():
        if detector not in DEFAULTS:
            faults.append(f"detectors.{detector}: no such detector; {advice(detector, DEFAULTS)}")
            continue
        known = {parameter.name: parameter for parameter in fields(DEFAULTS[detector])}
        for name, value in values.items():
            where = f"detectors.{detector}.{name}"
            if name not in known:
                faults.append(f"{where}: no such parameter; {advice(name, known)}")
            elif fault := _fault(known[name], value):
                faults.append(f"{where}: {fault}")
    return faults


def without_faults(detector: str, values: Mapping[str, ParameterValue]) -> dict[str, ParameterValue]:
    """Return one detector's overrides, but for those that `check_overrides` faults.

    >>> without_faults("rate_breach", {"high_ratio": 3, "medium_ratio": 0})
    {'high_ratio': 3}
    """
    return {name: value for name, value in values.items() if not check_overrides({detector: {name: value}})}


def resolve(detector: str, defaults: Parameters, tenant: Tenant) -> Parameters:
    """Return the parameters that hold for a tenant.

    An override that `check_overrides` faults is passed over: a tenant's record that got past
    ``tenantwatch tenants apply`` must not stop the worker that reads it.

    >>> own = {"detectors": {"rate_breach": {"high_ratio": 3}}}
    >>> tenant = unknown_tenant("tenant-a").model_copy(update=own)
    >>> resolve("rate_breach", RateBreachParameters(), tenant)
    RateBreachParameters(medium_ratio=2.0, high_ratio=3)
    """
    own = without_faults(detector, tenant.detectors.get(detector, {}))
    values: dict[str, Any] = {**TIERS.get(tenant.tier, {}).get(detector, {}), **own}
    return replace(defaults, **values)


def budget_share(rule: str, tenant: Tenant) -> float:
    """Return the false alarms a week that a rule may raise at a tenant.

    Parameters
    ----------
    rule
        A name in `SHARES`.

    >>> budget_share("first_seen", unknown_tenant("tenant-a"))
    0.2
    """
    return SHARES[rule] * resolve("budget", BudgetParameters(), tenant).false_alarms_per_week


class Rules(Generic[Rule]):
    """What each tenant's parameters amount to, computed once for each version of its settings.

    Parameters
    ----------
    derive
        Tenant to the rule that holds for it; equal rules are kept once.
    """

    def __init__(self, derive: Callable[[Tenant], Rule]) -> None:
        self._derive = derive
        self._latest: dict[str, Tenant] = {}
        # By identity, which takes a tenth of the time of a look at the tenant; `_latest` keeps it from
        # becoming another's.
        self._number_of: dict[int, int] = {}
        self._numbers: dict[Rule, int] = {}
        self.distinct: list[Rule] = []

    def number(self, tenant: Tenant) -> int:
        """Return the position in `distinct` of a tenant's rule."""
        known = self._latest.get(tenant.tenant_id)
        # The directory hands out one object for each version of a tenant's settings.
        if known is tenant:
            return self._number_of[id(tenant)]
        rule = self._derive(tenant)
        number = self._numbers.setdefault(rule, len(self.distinct))
        if number == len(self.distinct):
            self.distinct.append(rule)
        if known is not None:
            del self._number_of[id(known)]
        self._latest[tenant.tenant_id] = tenant
        self._number_of[id(tenant)] = number
        return number

    def of(self, batch: EventBatch) -> Int64s:
        """Return ``(t,)`` positions in `distinct` by tenant code; defaults before enrichment."""
        tenants = batch.tenants or (_NOBODY,) * len(batch.tenant.values)
        numbers = list(map(self._number_of.get, map(id, tenants)))
        if None in numbers:
            numbers = list(map(self.number, tenants))
        return np.array(numbers, np.int64)


# Stands for every tenant where there is no directory: all defaults.
_NOBODY: Final = unknown_tenant("unknown")
