"""Service health: what is told of a route or a tenant, what is not, and when."""

from collections.abc import Iterator
from math import exp, lgamma, log10
from typing import Any

import numpy as np
import pytest
from scenarios.streams import START_MS, TENANT, as_set, numbered, run

from detectors.service_health import ServiceHealth
from detectors.service_health_routes import OTHER
from detectors.service_health_rule import MAX_ROUTES
from detectors.snapshot import dumps, freeze, loads
from detectors.surprise import share_surprise
from schemas.alert import Alert, to_ms

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
# Far into the third working day of what is usual.
INCIDENT_MS = START_MS + 3 * DAY_MS


def requests(
    start_ms: int, stop_ms: int, *, a_minute: int = 12, route: str | None = "/v1/jobs", **fields: Any
) -> Iterator[dict[str, Any]]:
    """Yield requests at an even pace; durations go round some values about 100 ms."""
    gap_ms = MINUTE_MS // a_minute
    for i, time_ms in enumerate(range(start_ms, stop_ms, gap_ms)):
        usual = {"http_status": 200, "duration_ms": 80.0 + 10 * (i % 5)}
        yield {"time_ms": time_ms, "http_route": route, **usual, **fields}


def alerts_of(*parts: Iterator[dict[str, Any]], cuts: Any = ()) -> list[Alert]:
    """Return the alerts of parts of a stream, put in order."""
    events = numbered(sorted((event for part in parts for event in part), key=lambda e: e["time_ms"]))
    return run(ServiceHealth(), events, cuts)


def classes(alerts: list[Alert]) -> set[tuple[str, str]]:
    """Return classification and entity of alerts."""
    return {(alert.classification, alert.entity.value) for alert in alerts}


def usual(until_ms: int = INCIDENT_MS, **fields: Any) -> Iterator[dict[str, Any]]:
    """Yield three days of a route."""
    return requests(START_MS, until_ms, **fields)


def test_what_is_usual_raises_nothing() -> None:
    """Days of the same."""
    assert alerts_of(usual(INCIDENT_MS + DAY_MS)) == []


def test_requests_that_fail_are_told_within_minutes_with_one_that_failed() -> None:
    """The route is named, and the evidence is a request that failed."""
    bad = [*requests(INCIDENT_MS, INCIDENT_MS + 10 * MINUTE_MS, http_status=503)]
    found = alerts_of(usual(), iter(bad), requests(INCIDENT_MS + 10 * MINUTE_MS, INCIDENT_MS + HOUR_MS))
    assert classes(found) == {("error_burst", "/v1/jobs")}
    first = found[0]
    assert to_ms(first.detected_at) < INCIDENT_MS + 2 * MINUTE_MS
    assert (first.severity, first.status) == ("high", "open")
    assert first.evidence.numbers["requests"] == first.evidence.numbers["errors"]


def test_the_last_revision_tells_the_worst_minute() -> None:
    """Of three minutes the third, by which as many requests had failed as in all."""
    end_ms = INCIDENT_MS + 3 * MINUTE_MS
    bad = requests(INCIDENT_MS, end_ms, http_status=503)
    last = alerts_of(usual(), bad, requests(end_ms, INCIDENT_MS + HOUR_MS))[-1]
    numbers = last.evidence.numbers
    assert (last.status, numbers["minutes"], numbers["errors"], numbers["requests"]) == (
        "resolved",
        3,
        36,
        36,
    )


def test_what_clients_do_wrong_is_no_failure_of_the_service() -> None:
    """Any number of 404 is somebody else's business."""
    bad = requests(INCIDENT_MS, INCIDENT_MS + HOUR_MS, http_status=404, outcome="failure")
    assert alerts_of(usual(), bad) == []


def test_requests_that_are_slow_are_told_once() -> None:
    """Slow requests take longer than usual, of course; that is not another alert."""
    slow = requests(INCIDENT_MS, INCIDENT_MS + HOUR_MS, duration_ms=4_000.0)
    assert classes(alerts_of(usual(), slow)) == {("slow_requests", "/v1/jobs")}


def test_one_slow_request_in_a_hundred_is_nothing_to_tell() -> None:
    """It is the share that counts."""
    slow = requests(INCIDENT_MS, INCIDENT_MS + HOUR_MS, a_minute=1, duration_ms=4_000.0)
    fast = requests(INCIDENT_MS, INCIDENT_MS + HOUR_MS, a_minute=60)
    assert alerts_of(usual(), fast, slow) == []


def test_durations_that_stay_twice_as_long_are_a_level_shift() -> None:
    """None of the requests is slow by itself."""
    later = requests(INCIDENT_MS, INCIDENT_MS + HOUR_MS, duration_ms=220.0)
    assert classes(alerts_of(usual(), later)) == {("level_shift", "/v1/jobs")}


def test_a_deployment_is_no_level_shift() -> None:
    """Two minutes of twice the duration."""
    end_ms = INCIDENT_MS + 2 * MINUTE_MS
    during = requests(INCIDENT_MS, end_ms, duration_ms=220.0)
    assert alerts_of(usual(), during, requests(end_ms, INCIDENT_MS + HOUR_MS)) == []


def test_many_times_the_most_so_far_is_a_volume_anomaly_of_the_route() -> None:
    """The route is to blame, so nothing is told of the tenant."""
    flood = requests(INCIDENT_MS, INCIDENT_MS + 10 * MINUTE_MS, a_minute=300)
    after = requests(INCIDENT_MS + 10 * MINUTE_MS, INCIDENT_MS + HOUR_MS)
    assert classes(alerts_of(usual(), flood, after)) == {("volume_anomaly", "/v1/jobs")}


def test_a_flood_over_many_routes_is_told_of_the_tenant() -> None:
    """No single route has enough of it."""
    floods = [
        requests(INCIDENT_MS + i, INCIDENT_MS + 10 * MINUTE_MS, a_minute=60, route=f"/v1/{i}")
        for i in range(6)
    ]
    before = [requests(START_MS + i, INCIDENT_MS, a_minute=2, route=f"/v1/{i}") for i in range(6)]
    after = requests(INCIDENT_MS + 10 * MINUTE_MS, INCIDENT_MS + HOUR_MS, route="/v1/0")
    assert ("volume_anomaly", TENANT) in classes(alerts_of(*before, *floods, after))


def test_a_new_route_is_not_judged_for_a_day() -> None:
    """Whatever it does: nobody knows what is usual there."""
    new = requests(INCIDENT_MS, INCIDENT_MS + HOUR_MS, a_minute=30, route="/v2/jobs", http_status=500)
    assert alerts_of(usual(INCIDENT_MS + HOUR_MS, a_minute=30), new) == []


def test_a_route_that_falls_silent_is_told_while_its_tenant_speaks() -> None:
    """And that it is back, with how long it was away."""
    other = usual(INCIDENT_MS + 3 * HOUR_MS, route="/v1/users")
    back = requests(INCIDENT_MS + 2 * HOUR_MS, INCIDENT_MS + 3 * HOUR_MS)
    found = alerts_of(other, usual(), back)
    assert classes(found) == {("silence", "/v1/jobs")}
    assert [alert.status for alert in found] == ["open", "resolved"]
    assert to_ms(found[0].detected_at) <= INCIDENT_MS + HOUR_MS
    assert "for 2 h" in found[1].summary


def test_a_silent_tenant_is_told_of_and_none_of_its_routes() -> None:
    """Its routes are silent with it; one alert is enough."""
    back = requests(INCIDENT_MS + 2 * HOUR_MS, INCIDENT_MS + 3 * HOUR_MS)
    users = requests(INCIDENT_MS + 3 * HOUR_MS, INCIDENT_MS + 4 * HOUR_MS, route="/v1/users")
    found = alerts_of(usual(), usual(route="/v1/users"), back, users)
    assert ("silence", TENANT) in classes(found)
    early = [alert for alert in found if to_ms(alert.detected_at) < INCIDENT_MS + 2 * HOUR_MS]
    assert classes(early) == {("silence", TENANT)}


def test_time_alone_tells_of_a_silence_as_the_next_request_would() -> None:
    """The same first revision, whoever finds out."""
    events = numbered(usual())
    back = numbered(requests(INCIDENT_MS + 3 * HOUR_MS, INCIDENT_MS + 3 * HOUR_MS + 1))
    detector = ServiceHealth()
    waiting, asking = detector.new_state(), detector.new_state()
    for state in (waiting, asking):
        run(detector, events, state=state)
    waited = detector.advance(waiting, {TENANT: INCIDENT_MS + 3 * HOUR_MS})
    assert classes(waited) == {("silence", TENANT)}
    assert as_set(waited) <= as_set(run(detector, back, state=asking))
    [resolved] = run(detector, back, state=waiting)
    assert resolved.status == "resolved"


def test_a_tenants_silences_are_remembered_for_four_weeks() -> None:
    """So long as a route's silence can begin before them; what comes every other day would else add up."""
    days = range(0, 44, 4)
    events = numbered(
        event
        for day in days
        for event in requests(START_MS + day * DAY_MS, START_MS + (day + 2) * DAY_MS, a_minute=1)
    )
    detector = ServiceHealth()
    state = detector.new_state()
    run(detector, events, range(0, len(events), 1_000), state=state)
    back = [START_MS + day * DAY_MS for day in days]
    assert [until for _, until in state.pauses[TENANT]] == back[-7:]
    after = numbered(requests(back[-1] + 35 * DAY_MS, back[-1] + 35 * DAY_MS + 1))
    run(detector, after, state=state)
    assert [until for _, until in state.pauses[TENANT]] == [back[-1] + 35 * DAY_MS]


@pytest.mark.parametrize(("days", "told"), [(20, {"/v1/jobs", TENANT}), (27, {TENANT}), (35, {TENANT})])
def test_nothing_is_expected_of_routes_while_their_tenant_is_silent(days: int, told: set[str]) -> None:
    """However long that is, and however the stream is cut; after four weeks a route is forgotten."""
    first_ms = INCIDENT_MS + 20 * MINUTE_MS
    again_ms = first_ms + DAY_MS
    long_ms = again_ms + 20 * MINUTE_MS
    back_ms = long_ms + days * DAY_MS
    users = [
        requests(start, stop, a_minute=1, route="/v1/users")
        for start, stop in ((START_MS, first_ms), (again_ms, long_ms), (back_ms, back_ms + 3 * HOUR_MS))
    ]
    jobs = usual(a_minute=1), requests(back_ms + 2 * HOUR_MS, back_ms + 2 * HOUR_MS + 1)
    events = numbered(sorted((e for part in (*jobs, *users) for e in part), key=lambda e: e["time_ms"]))
    detector = ServiceHealth()
    whole = run(detector, events)
    assert {alert.entity.value for alert in whole} == told
    last = next(i for i, event in enumerate(events) if event["time_ms"] >= back_ms)
    for cuts in ([last], [last + 1], [last - 1, last + 30], range(last - 25, len(events), 3)):
        assert as_set(run(detector, events, cuts)) == as_set(whole)


def test_time_alone_tells_of_weeks_of_silence_as_the_next_request_would() -> None:
    """The same revisions, whoever finds out, and none of a route."""
    users = requests(START_MS + 1, INCIDENT_MS, a_minute=1, route="/v1/users")
    events = numbered(sorted((*usual(a_minute=1), *users), key=lambda e: e["time_ms"]))
    back_ms = INCIDENT_MS + 35 * DAY_MS
    back = numbered(requests(back_ms, back_ms + HOUR_MS, a_minute=1))
    detector = ServiceHealth()
    waiting, asking = detector.new_state(), detector.new_state()
    for state in (waiting, asking):
        assert run(detector, events, state=state) == []
    waited = detector.advance(waiting, {TENANT: back_ms})
    assert [(alert.entity.value, alert.status) for alert in waited] == [
        (TENANT, "open"),
        (TENANT, "resolved"),
    ]
    assert as_set([*waited, *run(detector, back, state=waiting)]) == as_set(waited)
    assert as_set(run(detector, back, state=asking)) == as_set(waited)


def test_a_night_in_which_there_never_is_anything_is_no_silence() -> None:
    """Office hours, day after day."""
    days = [requests(START_MS + d * DAY_MS, START_MS + d * DAY_MS + 8 * HOUR_MS) for d in range(5)]
    assert alerts_of(*days) == []


def test_routes_without_end_are_one() -> None:
    """Memory is bounded, and the routes that came first are still told apart."""
    events = numbered(
        {"time_ms": START_MS + i, "http_route": f"/v1/jobs/{i}", "http_status": 200, "duration_ms": 9.0}
        for i in range(3 * MAX_ROUTES)
    )
    detector = ServiceHealth()
    state, whole = detector.new_state(), detector.new_state()
    run(detector, events, [100, 300, 301], state=state)
    run(detector, events, state=whole)
    names = [state.routes.keys[slot][2] for slot in range(len(state.routes.keys))]
    assert names == [f"/v1/jobs/{i}" for i in range(MAX_ROUTES)] + [OTHER]
    assert names == [whole.routes.keys[slot][2] for slot in range(len(whole.routes.keys))]


@pytest.mark.parametrize("seed", range(3))
def test_days_of_trouble_are_told_alike_however_they_are_cut(seed: int) -> None:
    """Sums, records and silences depend on the events, not on the batches."""
    rng = np.random.default_rng(seed)
    parts = [usual(a_minute=6), usual(a_minute=4, route="/v1/users")]
    at = INCIDENT_MS
    for length in rng.integers(5, 90, 8).tolist():
        end = at + length * MINUTE_MS
        if rng.random() < 0.7:
            status, slower = (503, 1.0) if rng.random() < 0.4 else (200, float(rng.choice([1.0, 3.0, 40.0])))
            pace = int(rng.choice([2, 6, 200]))
            parts.append(requests(at, end, a_minute=pace, http_status=status, duration_ms=100 * slower))
        parts.append(requests(at, end, a_minute=1, route="/v1/users"))
        at = end
    events = numbered(sorted((e for part in parts for e in part), key=lambda e: e["time_ms"]))
    detector = ServiceHealth()
    whole = as_set(run(detector, events))
    cuts = sorted(rng.integers(0, len(events), 60).tolist())
    assert whole
    assert as_set(run(detector, events, cuts)) == whole
    # Nor on a restart in the middle of it.
    middle = int(np.searchsorted([e["time_ms"] for e in events], (INCIDENT_MS + at) // 2))
    state = detector.new_state()
    told = run(detector, events[:middle], state=state)
    restored = loads(detector.new_state, dumps(freeze(state)))
    assert as_set([*told, *run(detector, events[middle:], state=restored)]) == whole


@pytest.mark.parametrize(("count", "of", "share"), [(18, 20, 0.01), (10, 50, 0.01), (900, 9_000, 0.02)])
def test_a_shares_surprise_is_that_of_the_tail_written_out(count: int, of: int, share: float) -> None:
    """Never more than the exact sum of the Beta-binomial distribution, and close to it."""

    a, b = 200 * share, 200 * (1 - share)

    def ln_beta(x: float, y: float) -> float:
        return lgamma(x) + lgamma(y) - lgamma(x + y)

    exact = -log10(
        sum(
            exp(
                lgamma(of + 1) - lgamma(k + 1) - lgamma(of - k + 1)
                + ln_beta(k + a, of - k + b) - ln_beta(a, b)
            )
            for k in range(count, of + 1)
        )
    )  # fmt: skip
    assert exact - 0.05 < share_surprise(count, of, share, 200.0) <= exact + 1e-9
