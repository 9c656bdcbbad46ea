"""Spraying across tenants: who is told, of what, and that neither order nor batches matter."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scenarios.streams import START_MS, as_set, batch_of, numbered
from sizes import examples

from detectors.address_credit import AddressCredit
from detectors.clock import WEEK_MS
from detectors.cross_tenant_spray import CrossTenantSpray
from detectors.snapshot import dumps, freeze, loads
from schemas.alert import Alert, to_ms

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
TENANTS = tuple(f"tenant-{name}" for name in "abcdef")
Event = Mapping[str, Any]


def failure(tenant_id: str, after_ms: int, address: str = "192.0.2.7", **fields: Any) -> dict[str, Any]:
    return {
        "tenant_id": tenant_id, "time_ms": START_MS + after_ms, "source_ip": address, "user_id": "ana",
        "action": "login", "outcome": "failure", **fields,
    }  # fmt: skip


def success(tenant_id: str, after_ms: int, **fields: Any) -> dict[str, Any]:
    return failure(tenant_id, after_ms, outcome="success", **fields)


def alerts_of(events: Iterable[Event], cuts: Iterable[int] = (), restart: int = -1) -> list[Alert]:
    """Return the alerts of a stream cut at positions; at one of them the state goes through a snapshot."""
    listed = numbered(events)
    detector, credit = CrossTenantSpray(), AddressCredit()
    state = detector.new_state()
    alerts: list[Alert] = []
    for start, stop in pairwise([0, *sorted({*cuts} & set(range(len(listed)))), len(listed)]):
        batch = batch_of("auth", listed[start:stop])
        alerts += detector.fold(batch.select(credit.unexcused(batch)), state)
        if stop == restart:
            state = loads(detector.new_state, dumps(freeze(state)))
            credit = loads(AddressCredit, dumps(freeze(credit)))
    return alerts


def told(alerts: Iterable[Alert]) -> set[str]:
    return {alert.tenant_id for alert in alerts}


def test_three_tenants_within_an_hour_are_each_told() -> None:
    """One failure at each is enough; the alert is about the address."""
    alerts = alerts_of(failure(tenant_id, i * 29 * MINUTE_MS) for i, tenant_id in enumerate(TENANTS[:3]))
    assert told(alerts) == set(TENANTS[:3])
    for alert in alerts:
        assert (alert.detector, alert.classification, alert.severity) == (
            "failed_login", "cross_tenant_spray", "high",
        )  # fmt: skip
        assert (alert.entity.type, alert.entity.value) == ("source_ip", "192.0.2.7")
        assert alert.attack == ["T1110.003"]
        assert alert.score > alert.threshold


def test_two_tenants_are_not_enough() -> None:
    """However often the address fails there."""
    assert alerts_of(failure(TENANTS[i % 2], i * 1000) for i in range(100)) == []


def test_three_tenants_in_more_than_an_hour_are_not_told() -> None:
    """The window is an hour, from the first failure to the last."""
    assert alerts_of(failure(tenant_id, i * 31 * MINUTE_MS) for i, tenant_id in enumerate(TENANTS[:3])) == []


def test_three_addresses_are_not_one() -> None:
    """A tenant each."""
    assert alerts_of(failure(t, i, f"192.0.2.{i}") for i, t in enumerate(TENANTS[:3])) == []


def test_an_alert_shows_its_tenants_own_part_only() -> None:
    """Counts, users, ids and times are its own; the others are a number that says nothing."""
    events = numbered(
        failure(tenant_id, i * MINUTE_MS + 7 * n, user_id=f"user-{i % 3}-{n}")
        for i in range(10)
        for n, tenant_id in enumerate(TENANTS[:5])
        if n != 1 or i > 4
    )
    alerts = alerts_of(events)
    for tenant_id in TENANTS[:5]:
        mine = [event for event in events if event["tenant_id"] == tenant_id]
        last = [alert for alert in alerts if alert.tenant_id == tenant_id][-1]
        own = mine[: last.event_count]
        assert last.evidence.event_ids == [event["event_id"] for event in own]
        assert last.evidence.numbers == {
            "failures": len(own), "users": len({event["user_id"] for event in own}),
            "other_tenants": "2 or more",
        }  # fmt: skip
        times = {to_ms(last.first_time), to_ms(last.last_time), to_ms(last.detected_at)}
        assert times <= {event["time_ms"] for event in own}
        others = [*TENANTS[:5], *(f"user-{i}-{n}" for i in range(3) for n in range(5))]
        text = last.model_dump_json(exclude={"tenant_id"})
        assert not any(name in text for name in others)


def test_revisions_are_due_at_powers_of_two_and_at_the_end() -> None:
    """Those that were due before the third tenant came are told when it comes."""
    events = [failure("tenant-a", i * 1000) for i in range(5)]
    events += [failure("tenant-b", 6000), failure("tenant-c", 7000)]
    events += [failure("tenant-a", 8000 + i) for i in range(6)]
    events += [failure("tenant-a", 3 * HOUR_MS, "198.51.100.9")]
    mine = [alert for alert in alerts_of(events) if alert.tenant_id == "tenant-a"]
    assert [(alert.revision, alert.status, alert.event_count) for alert in mine] == [
        (1, "open", 1), (2, "updated", 2), (3, "updated", 4), (4, "updated", 8), (5, "resolved", 11),
    ]  # fmt: skip
    assert len({alert.alert_id for alert in mine}) == 1


def test_an_office_of_several_tenants_is_silent() -> None:
    """Its people get in at each of them, last week or just now, and some mistype."""
    events = [success(t, -8 * WEEK_MS // 7 + i) for i, t in enumerate(TENANTS[:3])]
    events += [failure(t, i * MINUTE_MS) for i, t in enumerate(TENANTS[:3])]
    assert alerts_of(events) == []


def test_an_address_with_more_failures_than_successes_is_no_office() -> None:
    """Each success makes up for one failure, and not for ever."""
    events = [success(t, i) for i, t in enumerate(TENANTS[:3])]
    twice = [failure(t, (i + 1) * MINUTE_MS) for i, t in enumerate((*TENANTS[:3], *TENANTS[:3]))]
    assert told(alerts_of([*events, *twice])) == set(TENANTS[:3])
    long_ago = [{**event, "time_ms": event["time_ms"] - 3 * WEEK_MS} for event in events]
    assert told(alerts_of([*long_ago, *twice[:3]])) == set(TENANTS[:3])


def test_an_office_is_one_for_its_own_tenant_only() -> None:
    """Successes at one tenant say nothing about the others."""
    events = [success("tenant-a", 0), *(failure(t, 1 + i) for i, t in enumerate(TENANTS[:4]))]
    assert told(alerts_of(events)) == set(TENANTS[1:4])


def credit_one_by_one(events: Iterable[Event]) -> list[int]:
    """Return the positions of failures without credit, by the rule's own words."""
    left: dict[tuple[str, str], dict[int, int]] = {}
    found = []
    for i, event in enumerate(events):
        mine = left.setdefault((event["tenant_id"], event["source_ip"]), {})
        week = max(event["time_ms"] // WEEK_MS, *mine) if mine else event["time_ms"] // WEEK_MS
        mine.setdefault(week, 0)
        if event["outcome"] == "success":
            mine[week] += 1
            continue
        valid = [each for each in (week - 1, week) if mine.get(each)]
        if valid:
            mine[valid[0]] -= 1
        else:
            found.append(i)
    return found


@given(seed=st.integers(0, 2**32 - 1), cuts=st.lists(st.integers(0, 300), max_size=6))
@examples(10, thorough=60)
def test_credit_is_what_a_count_one_by_one_finds(seed: int, cuts: list[int]) -> None:
    """Over weeks, however the stream is cut and however often keys are swept."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(rng.choice([1e5, 2e7, 2e8]), 300)).astype(int)
    events = numbered(
        failure(
            TENANTS[rng.integers(0, 3)], int(at), f"192.0.2.{rng.integers(0, 3)}",
            outcome=("failure", "success")[rng.integers(0, 2)],
        )
        for at in times
    )  # fmt: skip
    credit, found = AddressCredit(), list[int]()
    credit.keys._sweep_at = 1
    for start, stop in pairwise([0, *sorted(set(cuts) & set(range(300))), 300]):
        found += [start + row for row in credit.unexcused(batch_of("auth", events[start:stop])).tolist()]
    assert found == credit_one_by_one(events)


def stream(seed: int) -> list[dict[str, Any]]:
    """Return failures at some tenants from few addresses, each tenant's nearly in order of time."""
    rng = np.random.default_rng(seed)
    pace_ms = rng.choice([MINUTE_MS, 10 * MINUTE_MS, HOUR_MS / 2])
    times = np.cumsum(rng.exponential(pace_ms, 200)).astype(int)
    return numbered(
        failure(
            TENANTS[rng.integers(0, 6)], int(at - rng.choice([0, 0, 0, 5]) * MINUTE_MS),
            f"192.0.2.{rng.integers(0, 3)}", user_id=f"user-{rng.integers(0, 9)}",
        )
        for at in times
    )  # fmt: skip


SEEDS = st.integers(0, 2**32 - 1)


@given(seed=SEEDS, cuts=st.lists(st.integers(0, 200), max_size=8), restart=st.integers(0, 200))
@examples(10, thorough=60)
def test_batches_and_restarts_do_not_matter(seed: int, cuts: list[int], restart: int) -> None:
    """The same stream gives the same alerts, to the last number."""
    events = stream(seed)
    assert as_set(alerts_of(events, [*cuts, restart], restart)) == as_set(alerts_of(events))


@given(seed=SEEDS)
@examples(5, thorough=20)
def test_an_alert_that_is_made_later_says_the_same(seed: int) -> None:
    """What came after a revision was due changes nothing in it: a backtest makes the last ones at the end."""
    detector, credit = CrossTenantSpray(), AddressCredit()
    state, events = detector.new_state(), stream(seed)
    due = []
    for start in range(0, len(events), 20):
        batch = batch_of("auth", events[start : start + 20])
        due += detector.revisions(batch.select(credit.unexcused(batch)), state)
    assert as_set(map(detector.alert, due)) == as_set(alerts_of(events))
    last = {revision.of: detector.alert(revision) for revision in due}
    newest = {alert.alert_id: alert.revision for alert in sorted(alerts_of(events), key=lambda a: a.revision)}
    assert {alert.alert_id: alert.revision for alert in last.values()} == newest


def test_the_streams_of_this_suite_raise_alerts() -> None:
    """The invariants would say nothing about streams in which nothing happens."""
    statuses = {alert.status for seed in range(20) for alert in alerts_of(stream(seed))}
    assert statuses == {"open", "updated", "resolved"}
    counts = [len(alerts_of(stream(seed))) for seed in range(20)]
    assert len(set(counts)) > 10


def arrived(events: list[dict[str, Any]]) -> list[Alert]:
    """Return the alerts of events that all arrive within the hour, all but for what is over at the end."""
    detector = CrossTenantSpray()
    state = detector.new_state()
    alerts: list[Alert] = []
    for event in events:
        batch = batch_of("auth", [event])
        object.__setattr__(batch, "ingest_time_ms", START_MS)
        alerts += detector.fold(batch, state)
    return alerts


@given(seed=SEEDS)
@examples(10, thorough=60)
def test_the_order_between_tenants_does_not_matter(seed: int) -> None:
    """One partition lags behind another by hours of event time: the same alerts, to the last number."""
    events = stream(seed)
    rng = np.random.default_rng(seed)
    turns = rng.permutation([event["tenant_id"] for event in events])
    waiting = {t: iter([event for event in events if event["tenant_id"] == t]) for t in TENANTS}
    assert as_set(arrived([next(waiting[t]) for t in turns])) == as_set(arrived(events))


@given(seed=SEEDS)
@examples(10, thorough=60)
def test_who_is_told_is_what_a_search_of_all_windows_finds(seed: int) -> None:
    """A failure belongs to an alert exactly if its visit shares an hour with those of two other tenants."""
    events = sorted(stream(seed), key=lambda event: event["time_ms"])
    expected: set[tuple[str, str, int]] = set()
    for address in {event["source_ip"] for event in events}:
        mine = [event for event in events if event["source_ip"] == address]
        for start in mine:
            inside = [e for e in mine if 0 <= e["time_ms"] - start["time_ms"] < HOUR_MS]
            if len({e["tenant_id"] for e in inside}) >= 3:
                expected |= {(e["tenant_id"], address, visit_start(mine, e)) for e in inside}
    found = {(a.tenant_id, a.entity.value, to_ms(a.first_time)) for a in arrived(events)}
    assert found == expected


def visit_start(events: list[dict[str, Any]], event: dict[str, Any]) -> int:
    """Return when the visit began to which a failure belongs."""
    start_ms = event["time_ms"]
    for earlier in reversed(events):
        if earlier["tenant_id"] == event["tenant_id"] and earlier["time_ms"] <= start_ms:
            if start_ms - earlier["time_ms"] >= HOUR_MS:
                break
            start_ms = earlier["time_ms"]
    return int(start_ms)


def test_time_that_passes_resolves_what_is_open() -> None:
    """With the very revision that a later event would bring about."""
    detector = CrossTenantSpray()
    events = numbered(failure(t, i) for i, t in enumerate(TENANTS[:3]))
    state, other = detector.new_state(), detector.new_state()
    for each in (state, other):
        detector.fold(batch_of("auth", events), each)
    waited = detector.advance(state, dict.fromkeys(TENANTS, START_MS + 2 * HOUR_MS))
    later = [failure(t, 2 * HOUR_MS, "198.51.100.1", event_id="x") for t in TENANTS[:2]]
    came = [alert for alert in detector.fold(batch_of("auth", later), other) if alert.status == "resolved"]
    assert {alert.status for alert in waited} == {"resolved"}
    assert as_set(came) == {a.model_dump_json() for a in waited if a.tenant_id in TENANTS[:2]}
    assert detector.advance(state, dict.fromkeys(TENANTS, START_MS + 3 * HOUR_MS)) == []


def test_what_was_said_to_be_over_is_over() -> None:
    """A failure that comes late all the same is another visit's: revisions of one alert have one end."""
    detector = CrossTenantSpray()
    state = detector.new_state()
    detector.fold(batch_of("auth", numbered(failure(t, i) for i, t in enumerate(TENANTS[:3]))), state)
    first = detector.advance(state, {"tenant-a": START_MS + 2 * HOUR_MS})
    late = [failure("tenant-a", 30 * MINUTE_MS, event_id=f"late-{i}") for i in range(2)]
    more = detector.fold(batch_of("auth", late), state)
    assert [(alert.status, alert.event_count) for alert in more] == [("open", 1), ("updated", 2)]
    assert {alert.alert_id for alert in first}.isdisjoint(alert.alert_id for alert in more)


def test_a_visit_that_goes_on_is_not_forgotten() -> None:
    """However long ago it began: one address, one alert."""
    steps = [failure(t, i * 40 * MINUTE_MS + n) for i in range(12) for n, t in enumerate(TENANTS[:3])]
    assert len({alert.alert_id for alert in alerts_of(steps)}) == 3


def test_visits_are_forgotten_hours_after_their_last_failure_arrived() -> None:
    """Memory is bounded by what arrives, whatever times the events claim."""
    detector = CrossTenantSpray()
    state = detector.new_state()
    alerts: list[Alert] = []
    for hour in range(30):
        events = [failure(t, hour, f"192.0.2.{hour}", event_id=f"{hour}{t}") for t in TENANTS[:3]]
        batch = batch_of("auth", events)
        object.__setattr__(batch, "ingest_time_ms", START_MS + hour * HOUR_MS)
        alerts += detector.fold(batch, state)
    assert len(state.visits) == 3
    assert len([alert for alert in alerts if alert.status == "resolved"]) == 3 * 27


def test_events_that_were_not_admitted_do_not_exist() -> None:
    """Neither a late failure nor a late success counts."""
    events = numbered([success("tenant-a", 0), *(failure(t, 1 + i) for i, t in enumerate(TENANTS[:3]))])
    batch = batch_of("auth", events)
    object.__setattr__(batch, "evaluated", np.array([False, True, True, False]))
    assert AddressCredit().unexcused(batch).tolist() == [1, 2]


def test_a_key_that_was_offered_is_no_failed_login() -> None:
    """An administrator's agent offers one key after the other at each tenant's servers."""
    offered = [failure(t, i, reason="key_refused") for i, t in enumerate(TENANTS[:3])]
    guessed = [failure(t, 3 + i, reason="bad_password") for i, t in enumerate(TENANTS[:3])]
    assert AddressCredit().unexcused(batch_of("auth", numbered(offered + guessed))).tolist() == [3, 4, 5]


def test_keys_of_a_flood_of_failures_are_not_kept() -> None:
    """Only addresses with a success have a key."""
    credit = AddressCredit()
    batch = batch_of("auth", numbered(failure("tenant-a", i, f"192.0.2.{i}") for i in range(200)))
    assert len(credit.unexcused(batch)) == 200
    assert len(credit.keys) == 0
