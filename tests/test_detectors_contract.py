"""What every detector promises, whatever it detects."""

import copy
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_texts import FAILURES, SUCCESSES, correlation, plain, text_of
from scenarios.classes import CLASSES
from scenarios.streams import START_MS, as_set, batch_of, numbered, run
from sizes import examples

from detectors import keys
from detectors.access_anomaly import AccessAnomaly
from detectors.custom_rule import CustomRule
from detectors.failed_login import FailedLogin
from detectors.parameters import AccessAnomalyParameters, FailedLoginParameters, ServiceHealthParameters
from detectors.rate_breach import RateBreach
from detectors.registry import new_detectors
from detectors.service_health import ServiceHealth
from schemas.alert import Alert
from schemas.event import KINDS, Kind
from schemas.tenant import RateLimit, unknown_tenant

TENANTS = ("tenant-a", "tenant-b", "tenant-c")
DAY_MS = 86_400_000
BOTH = [plain(FAILURES), plain(SUCCESSES)]
RULES = [
    plain({"action": "mfa", "outcome": "failure", "user_agent|contains": "curl"}, name="selection"),
    correlation("event_count", BOTH[:1], group_by=["user_id"], condition={"gte": 4}, timespan="10m"),
    correlation("value_count", BOTH[:1], group_by=["source_ip"], condition={"field": "user_id", "gte": 3}),
    correlation("temporal", BOTH, group_by=["user_id", "source_ip"]),
    correlation("temporal_ordered", BOTH, timespan="10s"),
]
SETTINGS = {
    name: unknown_tenant(name).model_copy(
        update={
            "tier": tier,
            "rate_limit": RateLimit(requests=3 + i, window_s=60 + i),
            "detectors": {"budget": {"false_alarms_per_week": 1_000}},
            # Not each of them has all the rules.
            "rules": [*map(text_of, RULES[: 5 - i])],
        }
    )
    for i, (name, tier) in enumerate(zip(TENANTS, ("free", "standard", "enterprise"), strict=True))
}
# With its own defaults first_seen needs weeks of habit before it says anything.
MAKERS: dict[str, Callable[[], Any]] = {
    "failed_login": lambda: FailedLogin(FailedLoginParameters(network_users=2)),
    "rate_breach": RateBreach,
    "access_anomaly": lambda: AccessAnomaly(
        AccessAnomalyParameters(
            denied=4,
            new_permissions=3,
            resources=1,
            slow_resources=2,
            tenant_habit_min=5,
            user_habit_min=2,
            volume_days_min=0,
            allowed_per_denied=60,
        )
    ),
    "service_health": lambda: ServiceHealth(
        ServiceHealthParameters(
            history_s=0, bad_requests=1, error_share=0.5, slow_share=0.5, volume_requests=5, volume_ratio=1.0
        )
    ),
    "custom_rule": lambda: CustomRule("auth"),
}
DETECTORS = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
SEEDS = st.integers(0, 2**32 - 1)
CUTS = st.lists(st.integers(0, 300), max_size=12)


def stream(kind: Kind, seed: int, n: int = 300) -> list[dict[str, Any]]:
    """Return events of a few people of three tenants: bursts, pauses of hours, some out of order."""
    rng = np.random.default_rng(seed)
    pace_ms = rng.choice([300, 5_000, 60_000])
    gaps = rng.exponential(pace_ms, n) * rng.choice([0.1, 1, 100], n, p=[0.7, 0.28, 0.02])
    behind = rng.choice([0, 0, 0, 2_000, 600_000, 1_500_000], n)
    times = START_MS + np.cumsum(gaps).astype(np.int64) - behind
    # After a quarter of a year everybody is forgotten.
    times[2 * n // 3 :] += 95 * DAY_MS * (seed % 5 == 4)
    addresses = [None, "192.0.2.1", "192.0.2.2", "198.51.100.3", "2001:db8::1"]
    agents = [None, "curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0"]
    share, people = rng.uniform(0.1, 0.9), int(rng.integers(1, 5))
    permissions, resources = (1, 30)[seed % 2], (2, 60)[seed // 2 % 2]

    def one(i: int, time_ms: int) -> dict[str, Any]:
        user = int(rng.integers(-1, people + i // 40))
        fields: dict[str, Any] = {
            "time_ms": time_ms,
            "tenant_id": TENANTS[rng.choice(3, p=[0.6, 0.3, 0.1])],
            "user_id": None if user < 0 else f"user-{user}",
            "source_ip": addresses[rng.integers(0, 5)],
            "user_agent": agents[rng.integers(0, 3)],
            "outcome": "failure" if rng.random() < share else "success",
        }
        if kind == "auth":
            fields["action"] = ("login", "login", "mfa", "logout")[rng.integers(0, 4)]
            mfa = fields["action"] == "mfa"
            reasons = ("mfa_denied", "mfa_timeout") if mfa else ("bad_password", "unknown_user")
            others = "bad_mfa_code" if mfa else "key_refused"
            fields["reason"] = (*reasons, others)[rng.integers(0, 2) if i % 9 else 2]
        elif kind == "access":
            fields["action"] = ("read", "read", "update", "export", "grant", "impersonate")[
                rng.choice(6, p=[0.3, 0.2, 0.2, 0.2, 0.06, 0.04])
            ]
            fields["reason"] = (None, "missing_permission", "not_found", "timeout")[
                rng.choice(4, p=[0.4, 0.3, 0.2, 0.1])
            ]
            fields["resource_id"] = (None, f"job-{rng.integers(0, resources)}")[int(rng.random() < 0.8)]
            fields["record_count"] = (None, int(10 ** rng.uniform(0, 7)))[int(rng.random() < 0.3)]
            fields["permission"] = f"permission-{rng.integers(0, permissions)}"
            fields["resource_type"] = f"type-{rng.integers(0, 2 + i // 60)}"
            fields["resource_tenant_id"] = (None, *TENANTS)[rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])]
        else:
            fields["api_key_id"] = (None, "key-1")[rng.integers(0, 2)]
            # After a hundred it fails and takes its time, for as long as there are failures elsewhere.
            trouble = i > 100 and rng.random() < share
            fields["http_route"] = (None, "/v1/jobs", "/v1/jobs/{id}")[rng.integers(0, 3)]
            fields["http_status"] = 503 if trouble else 200
            fields["duration_ms"] = 5_000.0 if trouble else float(rng.exponential(100))
        return fields

    return numbered(one(i, int(time_ms)) for i, time_ms in enumerate(times))


def alerts_of(make: Callable[[], Any], events: list[dict[str, Any]], cuts: Any = ()) -> list[Alert]:
    """Return the alerts of a stream, from a new detector."""
    return run(make(), events, cuts, SETTINGS)


def test_every_detector_is_under_this_contract() -> None:
    """A detector that the registry gains is tested here, under the kind that it names."""
    registered = {(d.name, kind) for kind, detectors in new_detectors().items() for d in detectors}
    assert {name for name, _ in registered} == MAKERS.keys()
    assert {(name, make().kind) for name, make in MAKERS.items()} <= registered
    assert all(d.kind == kind for kind, detectors in new_detectors().items() for d in detectors)
    assert set(new_detectors()) == set(KINDS)


# A list of names each tried once from one address does not come about by chance, nor does a past of weeks;
# what is compared across tenants is not folded with the rest (tests/test_detectors_cross_tenant_spray.py).
# And nobody looks up where the addresses of these streams are.
ONLY_SCENARIOS = {
    "impossible_travel",
    "credential_stuffing",
    "cross_tenant_spray",
    "volume_anomaly",
    "level_shift",
    "silence",
}


@DETECTORS
def test_the_streams_of_this_suite_raise_alerts(make: Callable[[], Any]) -> None:
    """The invariants below would say nothing about streams in which nothing happens."""
    found = [alert for seed in range(30) for alert in alerts_of(make, stream(make().kind, seed))]
    assert {alert.status for alert in found} == {"open", "updated", "resolved"}
    assert CLASSES[make().name] - ONLY_SCENARIOS <= {alert.classification for alert in found}


@DETECTORS
@given(seed=SEEDS, cuts=CUTS)
@examples(8, thorough=60)
def test_batches_do_not_matter(make: Callable[[], Any], seed: int, cuts: list[int]) -> None:
    """The same stream gives the same alerts, to the last number, however it is cut into batches."""
    events = stream(make().kind, seed)
    assert as_set(alerts_of(make, events, cuts)) == as_set(alerts_of(make, events))


@DETECTORS
@given(seed=SEEDS)
@examples(2, thorough=10)
def test_one_event_at_a_time_is_no_different(make: Callable[[], Any], seed: int) -> None:
    """A stream that comes in batches of one gives the alerts of one batch."""
    events = stream(make().kind, seed)
    assert as_set(alerts_of(make, events, range(len(events)))) == as_set(alerts_of(make, events))


@DETECTORS
@given(seed=SEEDS, cuts=CUTS)
@examples(5, thorough=30)
def test_forgetting_changes_no_verdict(make: Callable[[], Any], seed: int, cuts: list[int]) -> None:
    """Keys are dropped only when they are as if never seen, so dropping them at once changes nothing."""
    events = stream(make().kind, seed)
    usual = as_set(alerts_of(make, events, cuts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "SWEEP_MIN_KEYS", 0)
        assert as_set(alerts_of(make, events, cuts)) == usual


@DETECTORS
@given(seed=SEEDS, weeks=st.integers(-52, 520))
@examples(5, thorough=30)
def test_the_date_does_not_matter(make: Callable[[], Any], seed: int, weeks: int) -> None:
    """Events moved by whole weeks, which leaves weekends where they are, give the same alerts, moved too."""
    days = 7 * weeks
    events = stream(make().kind, seed)
    moved = [{**event, "time_ms": event["time_ms"] + days * DAY_MS} for event in events]

    def told(alerts: list[Alert], back: timedelta) -> list[dict[str, Any]]:
        return sorted(
            (
                {
                    **alert.model_dump(exclude={"alert_id"}),
                    **{
                        name: getattr(alert, name) - back
                        for name in ("first_time", "last_time", "detected_at")
                    },
                }
                for alert in alerts
            ),
            key=repr,
        )

    assert told(alerts_of(make, moved), timedelta(days=days)) == told(alerts_of(make, events), timedelta(0))


@DETECTORS
@given(seed=SEEDS, cuts=CUTS)
@examples(5, thorough=30)
def test_tenants_are_walls(make: Callable[[], Any], seed: int, cuts: list[int]) -> None:
    """What other tenants do in between changes nothing for a tenant."""
    events = stream(make().kind, seed)
    mixed = alerts_of(make, events, cuts)
    for tenant_id in TENANTS:
        own = [event for event in events if event["tenant_id"] == tenant_id]
        assert as_set(alerts_of(make, own)) == as_set(a for a in mixed if a.tenant_id == tenant_id)


@DETECTORS
def test_a_replay_gives_the_same_alerts_in_the_same_order(make: Callable[[], Any]) -> None:
    """Ids, revisions and order are a function of the stream."""
    events = stream(make().kind, 3)
    assert alerts_of(make, events, [100]) == alerts_of(make, events, [100])


@DETECTORS
def test_revisions_of_an_alert_count_up_from_one(make: Callable[[], Any]) -> None:
    """An alert opens with revision 1, is resolved by its last one, and keeps its id and first time."""
    by_id: dict[str, list[Alert]] = {}
    for seed in range(10):
        for alert in alerts_of(make, stream(make().kind, seed), [50, 150]):
            by_id.setdefault(alert.alert_id + str(seed), []).append(alert)
    for revisions in by_id.values():
        revisions.sort(key=lambda alert: alert.revision)
        assert [alert.revision for alert in revisions] == list(range(1, len(revisions) + 1))
        assert revisions[0].status == "open"
        assert all(alert.status == "updated" for alert in revisions[1:-1])
        assert len({alert.first_time for alert in revisions}) == 1
        assert all(len(alert.evidence.event_ids) == min(20, alert.event_count) for alert in revisions)
        assert revisions[0].score >= revisions[0].threshold


@DETECTORS
def test_a_batch_is_not_changed(make: Callable[[], Any]) -> None:
    """Columns, times and flags are the same after a fold."""
    detector = make()
    batch = batch_of(detector.kind, stream(detector.kind, 1), SETTINGS)
    before = copy.deepcopy((batch.columns, batch.time_ms.tolist(), batch.evaluated, batch.flags))
    batch.time_ms.flags.writeable = False
    detector.fold(batch, detector.new_state())
    assert (batch.columns, batch.time_ms.tolist(), batch.evaluated, batch.flags) == before


@DETECTORS
def test_an_empty_batch_gives_nothing(make: Callable[[], Any]) -> None:
    """No events, no alerts, on a new state and on one that has seen much."""
    detector = make()
    empty = batch_of(detector.kind, [])
    state = detector.new_state()
    assert detector.fold(empty, state) == []
    run(detector, stream(detector.kind, 1), tenants=SETTINGS, state=state)
    assert detector.fold(empty, state) == []


@DETECTORS
@given(seed=SEEDS)
@examples(4, thorough=20)
def test_events_that_were_not_admitted_do_not_exist(make: Callable[[], Any], seed: int) -> None:
    """Rows that are not to be evaluated change neither alerts nor what is learned."""
    events = stream(make().kind, seed)
    admitted = np.random.default_rng(seed).random(len(events)) < 0.7
    batch = batch_of(make().kind, events, SETTINGS)
    object.__setattr__(batch, "evaluated", admitted)
    detector = make()
    state = detector.new_state()
    alerts = [*detector.fold(batch, state), *run(detector, events[:50], tenants=SETTINGS, state=state)]
    kept = [event for event, keep in zip(events, admitted, strict=True) if keep]
    assert as_set(alerts) == as_set(alerts_of(make, [*kept, *events[:50]], [len(kept)]))


@DETECTORS
def test_the_wall_clock_tells_the_end_earlier_but_not_otherwise(make: Callable[[], Any]) -> None:
    """Advancing resolves what is open with the very revision that a later event would bring about."""
    detector = make()
    found = 0
    for seed in range(5):
        events = stream(detector.kind, seed)
        late_ms = max(event["time_ms"] for event in events) + DAY_MS
        # A logout, a read at home, a single request of nobody: no part of any episode.
        harmless = [
            {"time_ms": late_ms, "tenant_id": tenant_id, "action": "logout", "event_id": "later"}
            for tenant_id in TENANTS
        ]
        state, other = detector.new_state(), detector.new_state()
        run(detector, events, tenants=SETTINGS, state=state)
        run(detector, events, tenants=SETTINGS, state=other)
        waited = detector.advance(state, dict.fromkeys(TENANTS, late_ms))
        found += len(waited)
        # A minute of `service_health` is judged when it is over.
        assert {alert.status for alert in waited} <= {"resolved"} or detector.name == "service_health"
        assert as_set(waited) == as_set(run(detector, harmless, tenants=SETTINGS, state=other))
        assert detector.advance(state, dict.fromkeys(TENANTS, late_ms)) == []
    assert found
