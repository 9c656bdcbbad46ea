"""Habits and surprise against a simulation that goes row by row."""

import math
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios.streams import START_MS, TENANT, numbered, run
from sizes import examples

from detectors import first_seen
from detectors.access_anomaly import AccessAnomaly
from detectors.features import FEATURES, user_agent_family
from detectors.first_seen import STRANGER, TENANT_WEIGHT
from detectors.habits import FORGET_HOURS
from detectors.networks import wide_network_of
from detectors.parameters import AccessAnomalyParameters
from detectors.working_hours import HALF_LIFE_HOURS, KERNEL, LEAST, MOST
from schemas.tenant import unknown_tenant

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# 1970 began on a Thursday.
WEEKEND = (2, 3)
BINS = 96
# Every surprising event is an episode of its own: one revision each tells its score.
PARAMETERS = AccessAnomalyParameters(
    tenant_habit_min=4, user_habit_min=2, quiet_s=60, denied=0, new_permissions=0
)
GENEROUS = unknown_tenant(TENANT).model_copy(
    update={"detectors": {"budget": {"false_alarms_per_week": 1_000}}}
)


class Hours:
    """When a tenant's users were there, an event at a time, as the documentation tells it."""

    def __init__(self) -> None:
        self.hour = -1
        self.tenant, self.new = [0.0] * BINS, [0] * BINS
        self.users: dict[str, list[int]] = {}
        self.waiting: dict[str, int] = {}
        self.last: dict[str, int] = {}

    def meet(self, user: str, time_ms: int) -> float:
        """Return the surprise of the hour, and remember it for the hours to come."""
        if time_ms // HOUR_MS > self.hour:
            passed = time_ms // HOUR_MS - self.hour
            self.tenant = [
                (old + new) * 2 ** (-passed / HALF_LIFE_HOURS)
                for old, new in zip(self.tenant, self.new, strict=True)
            ]
            self.hour, self.new = time_ms // HOUR_MS, [0] * BINS
        if time_ms // HOUR_MS - self.last.get(user, self.hour) > FORGET_HOURS:
            del self.users[user], self.waiting[user], self.last[user]
        mine = self.users.setdefault(user, [0] * BINS)
        if self.last.get(user, -1) < self.hour:
            if user in self.waiting:
                mine[self.waiting[user]] += 1
            self.waiting[user] = self.bin(max(time_ms, self.hour * HOUR_MS))
            self.new[self.waiting[user]] += 1
            self.last[user] = self.hour
        at = self.bin(time_ms)
        stranger = (5 / 7 if at < 48 else 2 / 7) / 48
        of_tenant = (self.around(self.tenant, at) + 5 * stranger) / (sum(self.tenant) + 5)
        of_user = (self.around(mine, at) + 5 * of_tenant) / (sum(mine) + 5)
        return min(max(math.log10(stranger / of_user), LEAST), MOST)

    @staticmethod
    def bin(time_ms: int) -> int:
        """Return the half-hour, on weekends after those of weekdays."""
        time = datetime.fromtimestamp(time_ms / 1000, UTC)
        return 2 * time.hour + time.minute // 30 + 48 * (time.weekday() >= 5)

    @staticmethod
    def around(counts: Sequence[float], at: int) -> float:
        """Return the smoothed count at a half-hour."""
        day = at - at % 48
        return sum(w * counts[day + (at + off) % 48] for off, w in zip(range(-2, 3), KERNEL, strict=True))


def simulate(events: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Return score and threshold of each surprising event, as the documentation tells it."""
    of_user: dict[Any, int] = defaultdict(int)
    user_total: dict[Any, int] = defaultdict(int)
    counted_hour: dict[Any, int] = {}
    seen_hour: dict[str, int] = {}
    users_of: dict[Any, int] = defaultdict(int)
    actions = 0
    hours = Hours()
    found: dict[str, tuple[float, float]] = {}
    for event in events:
        user, hour = event["user_id"], event["time_ms"] // HOUR_MS
        if user in seen_hour and hour - seen_hour[user] > FORGET_HOURS:
            for table in (of_user, user_total, counted_hour):
                for key in [key for key in table if key[0] == user]:
                    del table[key]
        seen_hour[user] = max(hour, seen_hour.get(user, 0))
        shown = (
            event["source_ip"] and wide_network_of(event["source_ip"]),
            event["user_agent"] and user_agent_family(event["user_agent"]),
            *(event[name] for name in FEATURES[2:]),
        )
        values = [(name, value) for name, value in zip(FEATURES, shown, strict=True) if value is not None]
        score = hours.meet(user, event["time_ms"])
        for name, value in values:
            of_tenant = users_of[name, value]
            total = sum(n for (feature, _), n in users_of.items() if feature == name)
            distinct = sum(1 for (feature, _), n in users_of.items() if feature == name and n)
            left = (1 + 0.5 * distinct) / (1 + total)
            q_new = STRANGER[FEATURES.index(name)]
            by_tenant = (1 - left) * of_tenant / total if of_tenant else left
            by_stranger = (1 - q_new) * of_tenant / total if of_tenant else q_new
            known = min(user_total[user, name], first_seen.FULL_HABIT)
            mine = of_user[user, name, value] * known / max(user_total[user, name], 1)
            p = (mine + TENANT_WEIGHT * by_tenant) / (known + TENANT_WEIGHT)
            score += math.log10(by_stranger / p)
        new = any(of_user[user, name, value] == 0 for name, value in values)
        if new and user_total[user, "action"] >= 2 and actions >= 4:
            weeks = max(event["time_ms"] - events[0]["time_ms"], 24 * HOUR_MS) / (7 * 24 * HOUR_MS)
            threshold = max(math.log10(actions / weeks / 200), 0.0)
            if score > threshold:
                found[event["event_id"]] = (round(score, 2), round(threshold, 2))
        for name, value in values:
            if hour > counted_hour.get((user, name, value), -1):
                counted_hour[user, name, value] = hour
                users_of[name, value] += of_user[user, name, value] == 0
                of_user[user, name, value] += 1
                user_total[user, name] += 1
                actions += name == "action"
    return found


def accesses(seed: int, n: int, pause_days: int = 0) -> list[dict[str, Any]]:
    """Return accesses of a few people who now and then do something new."""
    rng = np.random.default_rng(seed)
    times = START_MS + np.cumsum(rng.exponential(rng.choice([0.1, 1, 5]) * HOUR_MS, n)).astype(np.int64)
    times[n // 2 :] += pause_days * 24 * HOUR_MS
    addresses = [None, *(f"192.0.2.{i}" for i in range(3)), *(f"198.51.{i}.7" for i in range(20))]
    agents = [None, "curl/8.5", "Mozilla/5.0 (Windows NT 10.0) Chrome/126.0"]
    return numbered(
        {
            "time_ms": int(time_ms),
            "user_id": f"user-{rng.integers(0, 4)}",
            "source_ip": addresses[min(int(rng.exponential(2)), 23)],
            "user_agent": agents[min(int(rng.exponential(1)), 2)],
            "action": ("read", "update", "export", "grant")[min(int(rng.exponential(0.8)), 3)],
            "permission": None if rng.random() < 0.2 else f"permission-{int(rng.exponential(2))}",
            "resource_type": f"type-{int(rng.exponential(1))}",
        }
        for time_ms in times.tolist()
    )


@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 150), max_size=6),
    pause_days=st.sampled_from([0, 0, 89, 95]),
    full=st.sampled_from([10, first_seen.FULL_HABIT]),
)
@examples(8, thorough=50)
def test_scores_equal_those_of_a_simulation(seed: int, cuts: list[int], pause_days: int, full: int) -> None:
    """Every surprising access has the simulated score and threshold; the others are silent."""
    events = accesses(seed, 150, pause_days)
    with mock.patch.object(first_seen, "FULL_HABIT", full):
        expected = simulate(events)
        alerts = run(AccessAnomaly(PARAMETERS), events, cuts, {TENANT: GENEROUS})
    alerts = [alert for alert in alerts if alert.classification == "first_seen"]
    told = {alert.evidence.event_ids[0]: alert for alert in alerts if alert.status == "open"}
    assert set(told) <= set(expected)
    assert {event_id: (a.score, a.threshold) for event_id, a in told.items()} == {
        event_id: pytest.approx(expected[event_id], abs=0.011) for event_id in told
    }
    # What opened no episode went on with one.
    assert sum(a.event_count for a in last_revisions(alerts)) >= len(told)
    assert bool(expected) == bool(told)


def last_revisions(alerts: list[Any]) -> list[Any]:
    """Return the last revision of each alert."""
    return list({alert.alert_id: alert for alert in alerts}.values())


def habit(user: str, hours: int, **fields: Any) -> list[dict[str, Any]]:
    """Return an access of a user in each of so many hours."""
    return [
        {
            "time_ms": START_MS + hour * HOUR_MS,
            "user_id": user,
            "source_ip": "192.0.2.1",
            "user_agent": "Firefox",
            "action": "read",
            "permission": "jobs:read",
            "resource_type": "job",
            **fields,
        }
        for hour in range(hours)
    ]


STRANGE = {
    "time_ms": START_MS + 300 * HOUR_MS,
    "user_id": "ana",
    "source_ip": "203.0.113.9",
    "user_agent": "curl/8",
    "action": "export",
    "permission": "invoices:export",
    "resource_type": "invoice",
}


def in_time(*streams: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the streams as one."""
    return numbered(sorted((e for stream in streams for e in stream), key=lambda event: event["time_ms"]))


def test_somebody_unlike_the_user_is_surprising() -> None:
    """Everything new at once, after weeks of one habit, is raised for the user and says what was new."""
    alerts = run(AccessAnomaly(), in_time(habit("ana", 300), habit("ben", 300), [STRANGE]))
    assert [(a.classification, a.entity.value) for a in alerts] == [("first_seen", "ana")]
    assert "network 203.0.113.0/24, user agent curl, resource type invoice" in alerts[0].summary


def test_a_new_user_is_not_judged_by_a_habit_of_an_hour() -> None:
    """Whoever is new does everything for the first time."""
    new = [{**STRANGE, "user_id": "dora", "time_ms": START_MS + (280 + i) * HOUR_MS} for i in range(10)]
    assert run(AccessAnomaly(), in_time(habit("ana", 300), habit("ben", 300), new)) == []


def test_a_cold_tenant_is_silent() -> None:
    """A tenant that has taught too little raises nothing, however strange."""
    assert run(AccessAnomaly(), in_time(habit("ana", 150), [STRANGE])) == []


def test_what_colleagues_do_is_no_surprise() -> None:
    """A value that the tenant's others show is far less surprising than one that nobody has shown."""
    others = [
        event
        for i in range(20)
        for event in habit(f"user-{i}", 30, action="export", permission="invoices:export")
    ]
    familiar = {**STRANGE, "source_ip": "192.0.2.1", "user_agent": "Firefox", "resource_type": "job"}
    assert run(AccessAnomaly(), in_time(habit("ana", 300), others, [familiar])) == []


def test_an_afternoon_is_not_a_habit() -> None:
    """A thousand accesses in one hour teach as much as one."""
    busy = [{**habit("ana", 1)[0], "time_ms": START_MS + i * 1_000} for i in range(1_000)]
    assert run(AccessAnomaly(), in_time(habit("ben", 300), busy, [STRANGE])) == []


def test_an_unusual_hour_adds_to_the_surprise_and_is_none_alone() -> None:
    """By night a stranger is likelier than by day; what is usual is silent at three in the morning too."""
    days = [
        e for user in ("ana", "ben") for e in habit(user, 24 * 40) if 9 <= e["time_ms"] // HOUR_MS % 24 < 17
    ]
    last_ms = max(event["time_ms"] for event in days) // (24 * HOUR_MS) * 24 * HOUR_MS

    def at(hour: int, **fields: Any) -> list[Any]:
        event = {**STRANGE, **fields, "time_ms": last_ms + (24 + hour) * HOUR_MS}
        return run(AccessAnomaly(), in_time(days, [event]))

    [night], [noon] = at(3), at(12)
    assert night.evidence.numbers["surprise_hour"] > 0.9
    assert noon.evidence.numbers["surprise_hour"] < 0
    assert at(3, **{name: days[0][name] for name in STRANGE if name != "time_ms"}) == []


def office(weeks: int) -> list[dict[str, Any]]:
    """Return what five people do on weekdays from nine to five, each from a network of their own."""
    return [
        {**event, "source_ip": f"198.51.{i}.7"}
        for event in habit("ana", weeks * 7 * 24)
        if 9 <= event["time_ms"] // HOUR_MS % 24 < 17 and event["time_ms"] // DAY_MS % 7 not in WEEKEND
        for i, event["user_id"] in enumerate(("ana", "ben", "cleo", "dora", "eve"))
    ]


@pytest.mark.parametrize("weeks", [4, 26])
def test_a_long_time_makes_nobody_suspect(weeks: int) -> None:
    """A journey across time zones is silent after half a year as after four weeks; somebody else is not."""
    days = office(weeks)
    begin_ms = START_MS + weeks * 7 * DAY_MS - 6 * HOUR_MS
    journey = [
        {**days[0], "time_ms": begin_ms + night * DAY_MS, "source_ip": f"203.0.{night}.7"}
        for night in (1, 2, 3)
    ]
    stranger = {**STRANGE, "time_ms": begin_ms + 8 * DAY_MS, "event_id": "stranger"}
    alerts = run(AccessAnomaly(), numbered([*days, *journey, stranger]))
    assert [alert.evidence.event_ids for alert in alerts] == [["stranger"]]


def test_tenant_is_the_default_of_the_stream() -> None:
    """The streams above are one tenant's."""
    assert TENANT == "tenant-a"
