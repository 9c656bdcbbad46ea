"""Volume against a simulation that goes event by event, and what it is to be silent about."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scenarios.streams import START_MS, TENANT, numbered, run
from sizes import examples

from detectors import volume_habits as habits
from detectors.access_anomaly import AccessAnomaly
from detectors.parameters import AccessAnomalyParameters
from detectors.volume import BUSY_SHARE
from detectors.working_hours import HALF_LIFE_HOURS as TAUGHT_HALF_LIFE_HOURS
from schemas.tenant import unknown_tenant

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
COLUMNS = range(habits.WIDTH)
# Every row that takes too much is an episode of its own, or goes on with one that did a minute ago.
PARAMETERS = AccessAnomalyParameters(tenant_habit_min=4, volume_days_min=0, volume_quiet_s=60)
BUDGET = 100.0
TENANTS = {TENANT: unknown_tenant(TENANT).model_copy(update={"detectors": {"budget": {
    "false_alarms_per_week": BUDGET}}})}  # fmt: skip


def hours_of(column: int) -> int:
    """Return the length of a column's window."""
    return habits.WINDOW_HOURS[column // habits.M]


class Sums:
    """Times there and times, cubes, peaks and excess by column."""

    def __init__(self) -> None:
        self.there = [0.0] * habits.WIDTH
        self.times, self.cubes, self.peaks, self.excess = ([0.0] * habits.WIDTH for _ in range(4))

    def decay(self, hours: int) -> None:
        for name, values in vars(self).items():
            setattr(self, name, [value * 2 ** (-hours / habits.HALF_LIFE_HOURS) for value in values])

    def add(self, other: "Sums") -> None:
        for name, values in vars(self).items():
            setattr(self, name, [a + b for a, b in zip(values, getattr(other, name), strict=True)])


class User:
    """What is remembered of somebody."""

    def __init__(self) -> None:
        self.hour = -1
        self.sums = Sums()
        self.count = [0] * habits.WIDTH
        self.limit = [math.inf] * habits.WIDTH


class Simulated:
    """One tenant's users, an event at a time, as the documentation tells it."""

    def __init__(self) -> None:
        self.hour = self.first_hour = -1
        self.tenant, self.new = Sums(), Sums()
        self.busy: list[set[str]] = [set() for _ in COLUMNS]
        self.users: dict[str, User] = {}
        self.taught, self.came = 0.0, 0

    def take(self, event: dict[str, Any]) -> tuple[float, float] | None:
        """Return score and threshold of an event that takes too much."""
        hour = max(event["time_ms"] // HOUR_MS, self.hour)
        if hour > self.hour:
            self.turn(hour)
        user = self.users.setdefault(event["user_id"], User())
        if user.hour < hour:
            self.meet(user)
        taken = self.amounts(event)
        excess = []
        for column in COLUMNS:
            amount = taken[column % habits.M]
            half = BUSY_SHARE * user.limit[column]
            if amount and user.count[column] <= half < user.count[column] + amount:
                self.busy[column].add(event["user_id"])
            user.count[column] = min(user.count[column] + amount, habits.MAX_COUNT)
            people = max(len(self.busy[column]), 1)
            excess.append(user.count[column] / people / user.limit[column] if amount else 0.0)
        most = max(COLUMNS, key=lambda column: excess[column])
        if excess[most] <= 1:
            return None
        people = max(len(self.busy[most]), 1)
        times, theta, rare = self.expected(user, most)
        score, threshold = (
            rare + times * math.log10(1 + amount / times / theta)
            for amount in (user.count[most] / people, user.limit[most])
        )
        return round(score, 2), round(threshold, 2)

    def amounts(self, event: dict[str, Any]) -> list[int]:
        if event["outcome"] == "failure" or event["action"] not in ("read", "export"):
            return [0, 0, 0]
        return [
            event["action"] == "read",
            event["action"] == "export",
            min(event["record_count"] or 0, habits.MAX_COUNT),
        ]

    def turn(self, hour: int) -> None:
        """Begin another hour of the tenant."""
        if self.hour < 0:
            self.first_hour = hour
        passed = hour - self.hour
        self.tenant.add(self.new)
        self.tenant.decay(passed)
        self.taught = (self.taught + self.came) * 2 ** (-passed / TAUGHT_HALF_LIFE_HOURS)
        for column in COLUMNS:
            if hour // hours_of(column) > self.hour // hours_of(column):
                self.busy[column] = set()
        self.hour, self.new, self.came = hour, Sums(), 0

    def meet(self, user: User) -> None:
        """Learn what somebody took before, and set their limits."""
        learned = Sums()
        over = [c for c in COLUMNS if self.hour // hours_of(c) > user.hour // hours_of(c)]
        for column in over if user.hour >= 0 else ():
            learned.there[column] = 1
            taken = min(user.count[column], user.limit[column])
            user.count[column] = 0
            if taken:
                times, theta, _ = self.expected(user, column)
                excess = times * math.log10(1 + taken / times / theta) - habits.PEAK
                learned.times[column], learned.cubes[column] = 1, taken**3
                learned.peaks[column], learned.excess[column] = excess > 0, max(excess, 0)
        self.new.add(learned)
        user.sums.add(learned)
        user.sums.decay(self.hour - user.hour)
        user.hour = self.hour
        self.came += 1
        for column in over:
            times, theta, rare = self.expected(user, column)
            needed = self.needed(column, rare)
            limit = times * theta * (10 ** (needed / times) - 1)
            user.limit[column] = limit if self.taught >= PARAMETERS.tenant_habit_min else math.inf

    def expected(self, user: User, column: int) -> tuple[float, float, float]:
        """Return a, theta and -log10 pi."""
        known, there = self.tenant.times[column], self.tenant.there[column]
        prior = math.log(habits.PRIOR[column])
        by_tenant = (log_mean(self.tenant, column) * known + habits.PRIOR_WEIGHT * prior) / (
            known + habits.PRIOR_WEIGHT
        )
        times = user.sums.times[column] + habits.PEER_WEIGHT
        theta = log_mean(user.sums, column) * user.sums.times[column] + habits.PEER_WEIGHT * by_tenant
        share = (known + habits.PRIOR_WEIGHT * habits.PRIOR_SHARE) / (there + habits.PRIOR_WEIGHT)
        share = (user.sums.times[column] + habits.PEER_WEIGHT * share) / (
            user.sums.there[column] + habits.PEER_WEIGHT
        )
        return times, max(math.exp(theta / times), habits.PRIOR[column]), max(-math.log10(share), 0.0)

    def needed(self, column: int, rare: float) -> float:
        """Return the surprise from which on an amount is too much."""
        remembered = habits.HALF_LIFE_HOURS / math.log(2)
        weeks = remembered * (1 - math.exp(-max(self.hour - self.first_hour, 24) / remembered)) / 168
        granted = habits.PEAKS_GRANTED
        stretch = (self.tenant.excess[column] * math.log(10) + granted) / (
            self.tenant.peaks[column] + granted
        )
        tests = (self.tenant.there[column] + 1) * habits.WIDTH
        threshold = max(stretch, 1.0) * math.log10(tests / (0.1 * BUDGET * weeks))
        return max(max(threshold, habits.LEAST_THRESHOLD) - rare, habits.LEAST_AMOUNT)


def log_mean(sums: Sums, column: int) -> float:
    """Return the logarithm of the cubic mean."""
    return math.log(sums.cubes[column] / sums.times[column]) / 3 if sums.times[column] else 0.0


def takings(seed: int, n: int) -> list[dict[str, Any]]:
    """Return accesses of a few people who take little as a rule, some events out of order."""
    rng = np.random.default_rng(seed)
    gaps_ms = rng.exponential(rng.choice([2, 20]) * 60_000, n) * rng.choice(
        [0.01, 1, 20], n, p=[0.4, 0.5, 0.1]
    )
    times_ms = START_MS + np.cumsum(gaps_ms).astype(np.int64) - rng.choice([0, 600_000], n, p=[0.9, 0.1])
    return numbered(
        {
            "time_ms": int(time_ms),
            "user_id": f"user-{rng.integers(0, 4)}",
            "action": ("read", "export", "update")[rng.choice(3, p=[0.6, 0.3, 0.1])],
            "outcome": "failure" if rng.random() < 0.05 else "success",
            "record_count": None if rng.random() < 0.5 else int(10 ** rng.exponential(1.2)),
        }
        for time_ms in times_ms.tolist()
    )


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 400), max_size=6))
@example(seed=631888427, cuts=[])  # somebody busy takes more records than are counted
@examples(8, thorough=60)
def test_scores_equal_those_of_a_simulation(seed: int, cuts: list[int]) -> None:
    """Every episode opens where an amount is too much in the simulation, with its score and threshold."""
    events = takings(seed, 400)
    simulated = Simulated()
    expected = {event["event_id"]: simulated.take(event) for event in events}
    expected = {event_id: told for event_id, told in expected.items() if told}
    alerts = run(AccessAnomaly(PARAMETERS), events, cuts, TENANTS)
    told = {a.evidence.event_ids[0]: a for a in alerts if a.classification == "volume" and a.status == "open"}
    assert set(told) <= set(expected)
    for event_id, alert in told.items():
        assert (alert.score, alert.threshold) == pytest.approx(expected[event_id], abs=0.011)
    assert bool(told) == bool(expected)


def test_the_streams_of_the_simulation_raise_alerts() -> None:
    """The comparison above would say nothing about streams in which nobody takes much."""
    raised = [run(AccessAnomaly(PARAMETERS), takings(seed, 400), (), TENANTS) for seed in range(10)]
    assert any(a.classification == "volume" for alerts in raised for a in alerts)


def month(people: int, days: int = 12) -> list[dict[str, Any]]:
    """Return people who read all day and export three reports a day."""
    hours = range(9, 17)
    return [
        {"time_ms": at_ms(day, hour, 5 * person + minute), "user_id": f"user-{person}", "action": action}
        for day in range(days)
        for person in range(people)
        for hour in hours
        for minute, action in ((0, "read"), (1, "read"), *(((2, "export"),) if hour in (9, 12, 15) else ()))
    ]


def at_ms(day: int, hour: int, minute: float = 0) -> int:
    """Return a time."""
    return START_MS - START_MS % DAY_MS + day * DAY_MS + hour * HOUR_MS + int(minute * 60_000)


def exports(user: str, n: int, day: int = 12, hour: int = 13, every_s: float = 5) -> list[dict[str, Any]]:
    """Return so many exports."""
    begin_ms = at_ms(day, hour)
    return [
        {"time_ms": begin_ms + int(1_000 * every_s * i), "user_id": user, "action": "export"}
        for i in range(n)
    ]


def told_of(*streams: list[dict[str, Any]]) -> set[str]:
    """Return the users whom volume alerts are about."""
    events = numbered(sorted((e for stream in streams for e in stream), key=lambda event: event["time_ms"]))
    return {a.entity.value for a in run(AccessAnomaly(), events, (1_000,)) if a.classification == "volume"}


def test_fifty_times_the_usual_exports_are_told() -> None:
    """Within an hour, and spread over a working day."""
    assert told_of(month(6), exports("user-0", 150)) == {"user-0"}
    assert told_of(month(6), exports("user-0", 150, hour=9, every_s=190)) == {"user-0"}


def test_ten_times_the_usual_exports_are_not() -> None:
    """Busy days happen."""
    assert told_of(month(6), exports("user-0", 30)) == set()


def test_when_everybody_is_busy_nobody_stands_out() -> None:
    """At a month's end each of the six exports what would be too much for one alone."""
    ends = [exports(f"user-{i}", 60, every_s=20 + i) for i in range(6)]
    assert told_of(month(6), ends[0]) == {"user-0"}
    assert told_of(month(6), *ends) == set()


def test_somebody_new_is_compared_with_colleagues() -> None:
    """They may do what others do; hundreds of times as much is told on the first day."""
    assert told_of(month(6), exports("newcomer", 30)) == set()
    assert told_of(month(6), exports("newcomer", 900, every_s=2)) == {"newcomer"}


def test_a_tenant_in_its_first_days_is_silent() -> None:
    """Nobody knows yet what is much there."""
    assert told_of(month(6, days=2), exports("user-0", 900, day=2, every_s=2)) == set()


def test_what_was_too_much_does_not_become_usual() -> None:
    """It is learned as the limit, so the same again some days later is told again."""
    events = numbered(
        sorted(
            month(6, 20) + exports("user-0", 300) + exports("user-0", 300, day=15),
            key=lambda event: event["time_ms"],
        )
    )
    alerts = [a for a in run(AccessAnomaly(), events) if a.classification == "volume"]
    assert len({a.alert_id for a in alerts}) == 2


def test_the_last_revision_tells_all_that_was_taken() -> None:
    """However the exports lie to the powers of two at which revisions are cut."""
    streams = month(6) + exports("user-0", 150) + month(6, 14)[-1:]
    events = numbered(sorted(streams, key=lambda event: event["time_ms"]))
    last = [a for a in run(AccessAnomaly(), events, (1_000,)) if a.classification == "volume"][-1]
    assert (last.status, last.evidence.numbers["amount"]) == ("resolved", 150)
