"""Impossible travel against a simulation that goes login by login."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios.streams import START_MS, as_set, batch_of, numbered
from sizes import examples

from detectors.failed_login import FailedLogin
from detectors.parameters import FailedLoginParameters
from detectors.snapshot import dumps, freeze, loads
from detectors.travel import distance_km
from schemas.alert import Alert

HOUR_MS = 3_600_000
# Berlin, Munich, Sydney, New York, and an address that is nowhere.
PLACES = ((52.5, 13.4), (48.1, 11.6), (-33.9, 151.2), (40.7, -74.0), (np.nan, np.nan))


def told(events: list[dict[str, Any]], cuts: Any = (), *, keep: bool = False) -> list[Alert]:
    """Return the alerts of impossible travel of a stream; saved and read again between batches, if wished."""
    detector = FailedLogin()
    state, alerts = detector.new_state(), []
    bounds = [0, *sorted({cut for cut in cuts if cut < len(events)}), len(events)]
    for start, stop in itertools.pairwise(bounds):
        batch = batch_of("auth", events[start:stop])
        positions = np.array([PLACES[event["place"]] for event in events[start:stop]], np.float32)
        alerts += detector.fold(replace(batch, positions=positions.reshape(-1, 2)), state)
        if keep:
            state = loads(detector.new_state, dumps(freeze(state)))
    return [alert for alert in alerts if alert.classification == "impossible_travel"]


def login(hour: float, place: int, network: int, device: str | None, user: str = "ana") -> dict[str, Any]:
    """Return a login."""
    return {
        "time_ms": START_MS + int(hour * HOUR_MS),
        "user_id": user,
        "source_ip": f"192.0.{network}.7",
        "user_agent": device,
        "action": "login",
        "place": place,
    }


def some_logins(seed: int, n: int) -> list[dict[str, Any]]:
    """Return logins of three people who are everywhere, with pauses."""
    rng = np.random.default_rng(seed)
    hours = np.cumsum(rng.exponential(1.0, n) * rng.choice([0.1, 1, 20], n))
    return numbered(
        login(
            hour,
            int(rng.integers(5)),
            int(rng.integers(12)),
            ("curl", "wget", "python", None)[rng.integers(4)],
            f"user-{rng.integers(3)}",
        )
        for hour in hours.tolist()
    )


def simulated(events: list[dict[str, Any]]) -> set[str]:
    """Return the ids of logins that are too far from the one before, as the documentation tells it."""
    last: dict[str, tuple[int, int]] = {}
    known: set[tuple[str, str]] = set()
    found = set()
    for event in events:
        user, place, time_ms = event["user_id"], event["place"], event["time_ms"]
        if place == 4:
            continue
        habits = {(user, habit) for habit in (event["source_ip"], event["user_agent"]) if habit}
        if user in last and not habits & known:
            here, there = (np.array([PLACES[p]]) for p in (last[user][1], place))
            km = distance_km(here, there)[0]
            if km > 500 and km > 900 * max(time_ms - last[user][0], 60_000) / HOUR_MS:
                found.add(event["event_id"])
                continue
        last[user] = time_ms, place
        known |= habits
    return found


@pytest.mark.parametrize("seed", range(20))
def test_logins_told_of_equal_those_of_a_simulation(seed: int) -> None:
    """All of them stand in the evidence of some alert, and no other."""
    events = some_logins(seed, 40)
    last = {alert.alert_id: alert for alert in told([*events, login(10_000, 4, 0, "curl", "late")])}
    assert sum(alert.event_count for alert in last.values()) >= len(simulated(events)) - 1
    assert {one for alert in last.values() for one in alert.evidence.event_ids} <= simulated(events)
    assert {alert.evidence.event_ids[0] for alert in last.values()} <= simulated(events)


def test_the_simulation_finds_something() -> None:
    """Else the one above would say nothing."""
    assert sum(len(simulated(some_logins(seed, 40))) for seed in range(20)) > 20


@given(st.integers(0, 1_000), st.lists(st.integers(1, 60), max_size=8), st.booleans())
@examples(10, thorough=40)
def test_it_does_not_depend_on_batches_or_restarts(seed: int, cuts: list[int], keep: bool) -> None:
    """Where people were is remembered from batch to batch."""
    events = some_logins(seed, 60)
    assert as_set(told(events, cuts, keep=keep)) == as_set(told(events))


def test_a_suspicious_login_teaches_nothing() -> None:
    """Its network and its device stay new, and the user is still where they were."""
    events = [
        login(0, 0, 1, "Firefox"),
        login(1, 2, 2, "curl"),
        login(1.1, 2, 2, "curl"),
        login(1.2, 0, 3, "wget"),
    ]
    assert [alert.event_count for alert in told(numbered(events))] == [1, 2]


def test_a_device_that_is_not_named_is_not_known() -> None:
    """A producer without user agents is told of journeys all the same, unless the network is known."""
    [alert] = told(numbered([login(0, 0, 1, None), login(1, 2, 2, None)]))
    assert "a network and a device not known to be theirs" in alert.summary
    assert told(numbered([login(0, 0, 1, None), login(1, 2, 1, None)])) == []


def test_after_a_day_it_is_a_journey() -> None:
    """Sydney is 16,000 km away: 18 hours by the fastest airliner."""
    assert told(numbered([login(0, 0, 1, "Firefox"), login(17, 2, 2, "curl")]))
    assert not told(numbered([login(0, 0, 1, "Firefox"), login(19, 2, 2, "curl")]))


def test_nobody_travels_where_it_is_switched_off() -> None:
    """With a speed of 0."""
    detector = FailedLogin(FailedLoginParameters(travel_kmh=0))
    events = numbered([login(0, 0, 1, "Firefox"), login(1, 2, 2, "curl")])
    positions = np.array([PLACES[0], PLACES[2]], np.float32)
    assert not detector.fold(replace(batch_of("auth", events), positions=positions), detector.new_state())


def test_without_positions_nothing_is_remembered() -> None:
    """Whoever brings no file pays nothing."""
    detector = FailedLogin()
    state = detector.new_state()
    detector.fold(batch_of("auth", some_logins(1, 40)), state)
    assert len(state.travel.users) == 0
