"""Rules of one's own as they are evaluated: selections, windows, groups, episodes."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rule_texts import FAILURES, LOGINS, SUCCESSES, correlation, plain, ruled
from scenarios.streams import START_MS, numbered, run
from sizes import examples

from detectors import keys
from detectors.custom_rule import CustomRule
from detectors.parameters import CustomRuleParameters
from detectors.rules import ruleset
from detectors.rules.compiled import COUNTED_VALUES
from detectors.rules.compiled import Window as RuleWindow
from detectors.sliding_log import SlidingLog
from schemas.alert import Alert, to_ms
from schemas.event import Kind
from schemas.tenant import Tenant, unknown_tenant

MINUTE_MS = 60_000


def alerts_of(
    tenant: Tenant,
    events: Sequence[dict[str, Any]],
    kind: Kind = "auth",
    cuts: Sequence[int] = (),
    quiet_s: int = 1_800,
) -> list[Alert]:
    """Return the alerts that a tenant's rules give, of events a second apart unless they say otherwise."""
    timed = [{"time_ms": START_MS + 1_000 * i, **event} for i, event in enumerate(events)]
    detector = CustomRule(kind, CustomRuleParameters(quiet_s))
    return run(detector, numbered(timed), cuts, {tenant.tenant_id: tenant})


def fires(selection: Any, event: dict[str, Any], kind: Kind = "auth", condition: str = "selection") -> bool:
    """Return whether a plain rule selects an event."""
    return bool(alerts_of(ruled(plain(selection, kind, condition)), [event], kind))


@pytest.mark.parametrize(
    ("selection", "chosen", "passed_over"),
    [
        ({"user_id": "Ana"}, ["ana", "ANA"], ["anna", None]),
        ({"user_id|cased": "Ana"}, ["Ana"], ["ana"]),
        ({"user_id": ["ana", "ben"]}, ["ben"], ["eve"]),
        ({"user_id": "svc-*"}, ["svc-backup", "SVC-"], ["my-svc-1", None]),
        ({"user_id": "svc-?"}, ["svc-1"], ["svc-12", "svc-"]),
        ({"user_id": r"svc-\*"}, ["svc-*"], ["svc-1"]),
        ({"user_id|contains": "adm"}, ["sysADMin", "adm"], ["root"]),
        ({"user_id|contains|cased": "adm"}, ["sysadmin"], ["sysADMin"]),
        ({"user_id|startswith": "a.b"}, ["a.bc"], ["axbc", "xa.b"]),
        ({"user_id|endswith": ["@example.com", ".test"]}, ["ana@example.com", "x.test"], ["ana@example.org"]),
        ({"user_id|contains|all": ["a", "b"]}, ["cab"], ["ca", "cb"]),
        ({"user_id|re": "^u[0-9]+$"}, ["u17"], ["u", "xu1", "U1"]),
        ({"user_id|re|i": "^u[0-9]+$"}, ["U1"], ["x"]),
        ({"user_id|contains": "a\nb"}, ["xa\nbx"], ["ab"]),
        ({"user_id": None}, [None], ["", "ana"]),
        ({"user_id": ""}, [""], [None, "ana"]),
        ({"user_id|exists": True}, ["ana"], [None]),
        ({"user_id|exists": False}, [None], ["ana"]),
        ({"user_id|neq": ["ana", "ben"]}, ["eve", None], ["ana", "Ben"]),
        ({"user_id": ["ana", None]}, ["ana", None], ["ben"]),
    ],
)
def test_texts(selection: dict[str, Any], chosen: list[Any], passed_over: list[Any]) -> None:
    """Texts are compared without regard to case unless `cased`; a missing one equals null only."""
    assert [user for user in chosen if not fires(selection, {"user_id": user})] == []
    assert [user for user in passed_over if fires(selection, {"user_id": user})] == []


@pytest.mark.parametrize(
    ("selection", "chosen", "passed_over"),
    [
        ({"http_status": 500}, [500], [404, None]),
        ({"http_status": [500, 503]}, [503], [501]),
        ({"http_status|gte": 500}, [500, 599], [499, None]),
        ({"http_status|gt": 500}, [501], [500]),
        ({"http_status|lt": 500}, [404], [500, None]),
        ({"http_status|lte": 500}, [500], [501]),
        ({"http_status": None}, [None], [0, 200]),
    ],
)
def test_numbers(selection: dict[str, Any], chosen: list[Any], passed_over: list[Any]) -> None:
    """Numbers are compared as such; a missing one is on no side of any."""
    for statuses, expected in ((chosen, True), (passed_over, False)):
        for status in statuses:
            assert fires(selection, {"http_status": status}, "request") is expected


@pytest.mark.parametrize(
    ("selection", "attributes", "expected"),
    [
        ({"attributes.country": "de"}, '{"country":"DE"}', True),
        ({"attributes.country": "de"}, '{"city":"DE"}', False),
        ({"attributes.country": "de"}, "", False),
        ({"attributes.country|exists": False}, "", True),
        ({"attributes.country": None}, '{"country":null}', True),
        ({"attributes.risk|gt": 0.5}, '{"risk":0.75}', True),
        ({"attributes.risk|gt": 0.5}, '{"risk":"0.75"}', False),
        ({"attributes.risk|gt": 0}, '{"risk":true}', False),
        ({"attributes.risk": 1}, '{"risk":1}', True),
        ({"attributes.risk": 1}, '{"risk":true}', False),
        ({"attributes.mfa": False}, '{"mfa":false}', True),
        ({"attributes.mfa": False}, '{"mfa":0}', False),
        ({"attributes.mfa": False}, "", False),
        ({"attributes.a.b|startswith": "x"}, '{"a.b":"xy"}', True),
        ({"attributes.a.b|startswith": "x"}, '{"a.b":7}', False),
    ],
)
def test_attributes(selection: dict[str, Any], attributes: str, expected: bool) -> None:
    """An attribute may hold any scalar, and is compared with values of its own type only."""
    assert fires(selection, {"attributes": attributes}) is expected


@pytest.mark.parametrize(
    ("network", "address", "expected"),
    [
        ("192.0.2.0/24", "192.0.2.255", True),
        ("192.0.2.0/24", "198.51.100.1", False),
        ("192.0.2.0/24", "2001:db8::1", False),
        ("192.0.2.0/24", None, False),
        ("2001:db8::/32", "2001:db8:1::1", True),
        ("::ffff:192.0.2.0/120", "192.0.2.7", True),
    ],
)
def test_networks(network: str, address: str | None, expected: bool) -> None:
    """An address of either family is in a network or it is not; none is in none."""
    assert fires({"source_ip|cidr": network}, {"source_ip": address}) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("selection and other", False),
        ("selection or other", True),
        ("selection and not other", True),
        ("not (selection or other)", False),
        ("1 of them", True),
        ("all of them", False),
        ("all of sel* and not 1 of oth*", True),
    ],
)
def test_conditions(condition: str, expected: bool) -> None:
    """Selections are joined by and, or, not, and by the number of them that hold."""
    selections = {"selection": {"user_id": "ana"}, "other": {"user_id": "ben"}}
    assert fires(selections, {"user_id": "ana"}, condition=condition) is expected


def test_a_list_of_mappings_is_a_choice() -> None:
    """Within a mapping all must hold, of a list one must."""
    selection = [{"user_id": "ana", "action": "logout"}, {"user_id": "ben"}]
    found = [fires({"selection": selection}, {"user_id": user, "action": "login"}) for user in ("ana", "ben")]
    assert found == [False, True]


def test_the_logsources_service_narrows_the_rule() -> None:
    """A rule about one service does not see the others' events."""
    rule = plain(LOGINS)
    rule["logsource"]["service"] = "Billing-Api"
    services = ["billing-api", "other"]
    alerts = alerts_of(ruled(rule), [{"action": "login", "user_id": s, "service": s} for s in services])
    assert [alert.entity.value for alert in alerts] == ["billing-api"]


def test_a_rule_sees_events_of_its_kind_only() -> None:
    """The detector of another kind has no rule."""
    tenant = ruled(plain({"action": "read"}, "access"))
    assert alerts_of(tenant, [{"action": "read"}], "auth") == []
    assert len(alerts_of(tenant, [{"action": "read"}], "access")) == 1


@pytest.mark.parametrize(
    ("kind", "event", "entity"),
    [
        ("auth", {"user_id": "ana", "source_ip": "192.0.2.1"}, ("user_id", "ana")),
        ("auth", {"source_ip": "192.0.2.1"}, ("source_ip", "192.0.2.1")),
        ("auth", {}, ("tenant_id", "tenant-a")),
        ("request", {"api_key_id": "key-1", "source_ip": "192.0.2.1"}, ("api_key_id", "key-1")),
    ],
)
def test_a_plain_rule_is_about_who_acted(kind: Kind, event: dict[str, Any], entity: tuple[str, str]) -> None:
    """The user, or else the next best that the event names."""
    [alert] = alerts_of(ruled(plain({"service": None}, kind)), [event], kind)
    assert (alert.entity.type, alert.entity.value) == entity


@pytest.mark.parametrize(
    ("group_by", "entity"),
    [
        (["source_ip"], ("source_ip", "192.0.2.1")),
        (["user_id", "source_ip"], ("user_id", "ana")),
        (["session_id", "source_ip"], ("source_ip", "192.0.2.1")),
        (["session_id"], ("tenant_id", "tenant-a")),
        (["attributes.country"], ("tenant_id", "tenant-a")),
        ([], ("tenant_id", "tenant-a")),
    ],
)
def test_a_correlation_is_about_the_first_field_that_names_somebody(
    group_by: list[str], entity: tuple[str, str]
) -> None:
    """Of those that it groups by; else about the tenant, with the group in the evidence."""
    event = {**FAILURES, "user_id": "ana", "source_ip": "192.0.2.1", "session_id": "s-1"}
    event["attributes"] = '{"country":"DE"}'
    rule = correlation("event_count", [plain(FAILURES)], group_by=group_by, condition={"gte": 2})
    [alert] = alerts_of(ruled(rule), [event, event])
    assert (alert.entity.type, alert.entity.value) == entity
    common = {"attributes.country": "DE", **event}
    assert {field: alert.evidence.numbers[field] for field in group_by} == {f: common[f] for f in group_by}


def test_events_without_a_group_are_in_none() -> None:
    """Those of nobody are not those of one person."""
    rule = correlation("event_count", [plain(FAILURES)], group_by=["user_id"], condition={"gte": 2})
    assert alerts_of(ruled(rule), [FAILURES] * 5) == []


Window = list[dict[str, Any]]
STEPS = (FAILURES, {"action": "logout"}, SUCCESSES)


def in_order(window: Window) -> bool:
    """Return whether a failure, a logout and a success come one after the other, whatever lies between."""
    steps = iter(STEPS)
    wanted = next(steps, None)
    for event in window:
        if wanted is not None and all(event[field] == value for field, value in wanted.items()):
            wanted = next(steps, None)
    return wanted is None


def some(needed: int) -> Callable[[Window], bool]:
    """Return what tells whether so many of the steps are in a window."""
    return lambda window: (
        sum(any(all(e[f] == v for f, v in step.items()) for e in window) for step in STEPS) >= needed
    )


ANY = [plain(step, title=f"Step {i}") for i, step in enumerate(STEPS)]
# A rule, which events it looks at, and a naive judgement on those of the last minute.
NAIVE: dict[str, tuple[list[dict[str, Any]], Callable[[dict[str, Any]], bool], Callable[[Window], bool]]] = {
    "event_count": (
        correlation("event_count", ANY[:1], group_by=["user_id"], condition={"gte": 3}),
        lambda e: e["outcome"] == "failure" and e["action"] == "login",
        lambda window: len(window) >= 3,
    ),
    "event_count_of_one": (
        correlation("event_count", ANY, group_by=["user_id"], condition={"gt": 0}),
        lambda e: True,
        lambda window: len(window) >= 1,
    ),
    "value_count": (
        correlation("value_count", ANY, group_by=["user_id"], condition={"field": "source_ip", "gt": 2}),
        lambda e: e["source_ip"] is not None,
        lambda window: len({e["source_ip"] for e in window}) >= 3,
    ),
    "temporal": (correlation("temporal", ANY, group_by=["user_id"]), lambda e: True, some(3)),
    "two_of_three": (
        correlation("temporal", ANY, group_by=["user_id"], condition={"gte": 2}),
        lambda e: True,
        some(2),
    ),
    "temporal_ordered": (
        correlation("temporal_ordered", ANY, group_by=["user_id"]),
        lambda e: True,
        in_order,
    ),
}


@st.composite
def streams(draw: st.DrawFn) -> Window:
    """Return failures, logouts and successes of two people: close together, a minute apart, and between."""
    gaps = draw(st.lists(st.sampled_from([0, 1, 700, 20_000, 59_999, 60_000]), max_size=60))
    times = (START_MS + np.cumsum(gaps)).astype(int).tolist()
    one = st.tuples(
        st.sampled_from(STEPS), st.sampled_from("ab"), st.sampled_from([None, "1", "2", "3", "4"])
    )
    return [
        {"outcome": "success", **step, "user_id": user, "time_ms": t, "source_ip": ip and f"192.0.2.{ip}"}
        for t, (step, user, ip) in zip(
            times, draw(st.lists(one, min_size=len(times), max_size=len(times))), strict=True
        )
    ]


@pytest.mark.parametrize("name", NAIVE)
@given(events=streams(), cuts=st.lists(st.integers(0, 60), max_size=6))
@examples(15, thorough=150)
def test_a_window_slides(name: str, events: Window, cuts: list[int]) -> None:
    """Alerts open where a naive look at the last minute of each user says so, and nowhere else."""
    rule, looked_at, full = NAIVE[name]
    expected: list[tuple[str, int]] = []
    for user in "ab":
        own = [event for event in events if event["user_id"] == user and looked_at(event)]
        before_ms = START_MS - MINUTE_MS
        for i, now_ms in enumerate(event["time_ms"] for event in own):
            if full([event for event in own[: i + 1] if event["time_ms"] > now_ms - MINUTE_MS]):
                if now_ms - before_ms >= MINUTE_MS:
                    expected.append((user, now_ms))
                before_ms = now_ms
    opened = [alert for alert in alerts_of(ruled(rule), events, cuts=cuts, quiet_s=60) if alert.revision == 1]
    assert sorted((a.entity.value, to_ms(a.detected_at)) for a in opened) == sorted(expected)


def test_one_event_is_one_step_of_an_order() -> None:
    """An event that two rules select does not come after itself."""
    rule = correlation("temporal_ordered", [plain(LOGINS), plain(FAILURES)], group_by=["user_id"])
    failure = {**FAILURES, "user_id": "ana"}
    assert alerts_of(ruled(rule), [failure]) == []
    assert len(alerts_of(ruled(rule), [failure, failure])) == 1
    unordered = correlation("temporal", [plain(LOGINS), plain(FAILURES)], group_by=["user_id"])
    assert len(alerts_of(ruled(unordered), [failure])) == 1


@pytest.mark.parametrize("first", ["ana", "ben"])
def test_one_persons_steps_are_not_anothers(first: str) -> None:
    """What one begins another does not end, whoever is met first."""
    rule = correlation("temporal_ordered", ANY, group_by=["user_id"])
    begins, ends = [{**STEPS[0], "user_id": "ana"}], [{**step, "user_id": "ben"} for step in STEPS[1:]]
    known = [{"action": "logout", "user_id": first}]
    assert alerts_of(ruled(rule), [*known, *begins, *ends]) == []


@given(
    gaps=st.lists(st.sampled_from([0, 1, 5, 40]), min_size=1, max_size=150),
    least=st.integers(1, 40),
    beyond=st.integers(0, 40),
    cuts=st.lists(st.integers(0, 150), max_size=20),
)
@examples(15, thorough=100)
def test_a_log_needs_no_more_times_than_it_counts(
    gaps: list[int], least: int, beyond: int, cuts: list[int]
) -> None:
    """However the events come, those in the last 500 ms are counted: not below `least`, and up to `most`."""
    time_ms, most = START_MS + np.cumsum(gaps), least + beyond
    log, key = SlidingLog(), np.zeros(1, np.int64)
    log.reserve(1)
    found: list[int] = []
    for part in np.split(time_ms, sorted({cut for cut in cuts if 0 < cut < len(gaps)})):
        found += log.add_counted(key, key, part, 500, least, most).tolist()
    counts = [int(np.count_nonzero(time_ms[: i + 1] > now - 500)) for i, now in enumerate(time_ms)]
    assert found == [min(count, most) if count >= least else 0 for count in counts]


BOTH = [plain(FAILURES), plain(SUCCESSES)]
LONG = {
    "event_count": correlation("event_count", [plain(LOGINS)], condition={"gte": 2}),
    "value_count": correlation("value_count", [plain(LOGINS)], condition={"field": "event_id", "gte": 2}),
    "temporal": correlation("temporal", BOTH),
    "temporal_ordered": correlation("temporal_ordered", BOTH),
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_window_is_neither_swept_away_nor_cut_into_alerts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group is remembered for the timespan, and one alert goes on as long as the window is full."""
    monkeypatch.setattr(keys, "SWEEP_MIN_KEYS", 0)
    LONG[name][-1]["correlation"] |= {"timespan": "2h", "group-by": ["user_id"]}
    steps = [FAILURES, SUCCESSES] * 3
    events = [
        {**step, "user_id": "ana", "time_ms": START_MS + 50 * MINUTE_MS * i} for i, step in enumerate(steps)
    ]
    others = [
        {**FAILURES, "user_id": f"user-{i}", "time_ms": event["time_ms"] + 30 * MINUTE_MS}
        for i, event in enumerate(events)
    ]
    mixed = [event for pair in zip(events, others, strict=True) for event in pair]
    alerts = alerts_of(ruled(LONG[name]), mixed, cuts=range(12))
    assert len({alert.alert_id for alert in alerts}) == 1
    assert to_ms(alerts[0].detected_at) == events[1]["time_ms"]


def test_two_rules_count_apart() -> None:
    """Rules of one tenant about the same people have an alert each."""
    first = correlation("event_count", [plain(FAILURES)], group_by=["user_id"], condition={"gte": 2})
    second = correlation("event_count", [plain(LOGINS)], group_by=["user_id"], condition={"gte": 3})
    second[-1]["title"] = "Another"
    alerts = alerts_of(ruled(first, second), [{**FAILURES, "user_id": "ana"}] * 3)
    assert [(a.event_count, a.revision) for a in alerts] == [(1, 1), (2, 2), (1, 1)]
    assert len({a.alert_id for a in alerts}) == 2


def test_a_rule_that_another_refers_to_alerts_only_if_it_is_told_to() -> None:
    """As Sigma has it: `generate`."""
    rule = correlation("event_count", [plain(FAILURES)], group_by=["user_id"], condition={"gte": 9})
    assert alerts_of(ruled(rule), [{**FAILURES, "user_id": "ana"}]) == []
    rule[-1]["correlation"]["generate"] = True
    assert len(alerts_of(ruled(rule), [{**FAILURES, "user_id": "ana"}])) == 1


def test_an_alert_says_what_its_rule_says() -> None:
    """Title, level, techniques, what to do; and the numbers behind it."""
    rule = correlation("event_count", [plain(FAILURES)], group_by=["user_id"], condition={"gte": 2})
    rule[-1] |= {
        "title": "Trying hard",
        "level": "high",
        "tags": ["attack.credential-access", "attack.t1110.001"],
        "description": "Ask them",
        "falsepositives": ["a new phone."],
        "author": "Ana",
    }
    alert = alerts_of(ruled(rule), [{**FAILURES, "user_id": "ana"}] * 2)[-1]
    assert (alert.detector, alert.classification, alert.severity) == ("custom_rule", "event_count", "high")
    assert alert.attack == ["T1110.001"]
    assert alert.runbook == "Ask them. No attack, perhaps: a new phone. Rule by Ana."
    assert alert.summary == "Trying hard: user_id ana, 2 events within 1 min; last at 09:00:01 UTC"
    assert alert.evidence.numbers == {
        "rule": "Trying hard", "events": 1, "user_id": "ana", "event_count": 2, "timespan_s": 60,
    }  # fmt: skip
    assert (alert.score, alert.threshold) == (2, 2)


@pytest.mark.parametrize("cuts", [(), range(0, 531, 100), range(531)], ids=("whole", "parts", "single"))
@pytest.mark.parametrize("counted", ["event_count", "value_count"])
def test_an_alert_says_how_much_more_than_its_rule_needs_there_was(counted: Any, cuts: Sequence[int]) -> None:
    """Its score is what the window held at the 1st, 2nd, 4th, … event; different values up to a bound."""
    field = {"field": "event_id"} if counted == "value_count" else {}
    rule = correlation(counted, [plain(FAILURES)], group_by=["user_id"], condition={**field, "gte": 20})
    events = [{**FAILURES, "user_id": "ana", "time_ms": START_MS + i} for i in range(531)]
    alerts = alerts_of(ruled(rule), events, cuts=cuts)
    scores = [20 + 2**i - 1 for i in range(10)]
    most = 20 * COUNTED_VALUES if counted == "value_count" else 531
    assert [(a.score, a.threshold) for a in alerts] == [(min(score, most), 20) for score in scores]
    assert scores[-1] == 531


@pytest.mark.parametrize(("needed", "counted"), [(2, 64), (900, 1_900), (10_000, 11_000)])
def test_a_window_counts_to_32_times_its_need_or_1000_beyond_it(needed: int, counted: int) -> None:
    """What is remembered of a group is bounded by what its rule asks for."""
    assert RuleWindow("event_count", MINUTE_MS, needed).counted == counted


def test_a_changed_rule_starts_anew_and_a_reworded_one_goes_on() -> None:
    """What a window holds belongs to what the rule selects, not to what it says."""
    detector, event = CustomRule("auth"), {**FAILURES, "user_id": "ana", "time_ms": START_MS}

    def second_alert(**changed: Any) -> list[Alert]:
        state = detector.new_state()
        rule = correlation("event_count", [plain(FAILURES)], group_by=["user_id"], condition={"gte": 2})
        run(detector, [event], (), {"tenant-a": ruled(rule)}, state)
        rule[-1] |= {"description": "Other words."}
        rule[0]["detection"]["selection"] |= changed
        return run(detector, [event], (), {"tenant-a": ruled(rule)}, state)

    assert len(second_alert()) == 1
    assert second_alert(user_id="ana") == []


def test_a_tenant_without_rules_leaves_no_trace() -> None:
    """Nothing is looked at, and nothing remembered."""
    detector = CustomRule("auth")
    state = detector.new_state()
    run(detector, numbered([{**FAILURES, "time_ms": START_MS}]), (), None, state)
    assert state.clock.watermark_ms == {}


def test_an_episode_outlives_its_rule() -> None:
    """A rule that is taken away leaves no alert open for ever."""
    detector = CustomRule("auth")
    state = detector.new_state()
    run(detector, [{**LOGINS, "time_ms": START_MS}], (), {"tenant-a": ruled(plain(LOGINS))}, state)
    later = [{"action": "logout", "time_ms": START_MS + 60 * MINUTE_MS}]
    [alert] = run(detector, later, (), {"tenant-a": unknown_tenant("tenant-a")}, state)
    assert alert.status == "resolved"
    assert alert.summary == "A rule: 1 event; last at 09:00:00 UTC"


def test_a_rule_that_cannot_be_read_does_not_stop_the_worker() -> None:
    """What got past the check is passed over, the other rules hold."""
    tenant = ruled("title: no rule", "[", plain(LOGINS))
    assert len(alerts_of(tenant, [{**LOGINS, "user_id": "ana"}])) == 1


def test_a_text_is_compiled_once() -> None:
    """However many tenants have it, and however often their other settings change."""
    ruleset.compiled.cache_clear()
    detector = CustomRule("auth")
    for i in range(20):
        tenants = {
            f"tenant-{n}": ruled(plain(LOGINS), tenant_id=f"tenant-{n}", name=str(i)) for n in range(5)
        }
        events = [{**LOGINS, "tenant_id": name, "time_ms": START_MS} for name in tenants]
        run(detector, numbered(events), (), tenants)
    assert ruleset.compiled.cache_info().misses == 1


def test_memory_of_a_group_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many events come in the timespan, as many are kept as the rule counts."""
    rules = [
        correlation("event_count", [plain(FAILURES)], group_by=["user_id"], condition={"gte": 5}),
        correlation(
            "value_count", [plain(FAILURES)], group_by=["user_id"], condition={"field": "event_id", "gte": 5}
        ),
    ]
    detector = CustomRule("auth")
    state = detector.new_state()
    events = [{**FAILURES, "user_id": "ana", "time_ms": START_MS + i} for i in range(5_000)]
    run(detector, numbered(events), range(0, 5_000, 500), {"tenant-a": ruled(*rules)}, state)
    assert state.event_counts._log._used == 256
    assert [len(latest) for latest in state.value_counts._latest] == [5 * COUNTED_VALUES]
    monkeypatch.setattr(keys, "SWEEP_MIN_KEYS", 0)
    state.event_counts.groups.keys._sweep_at = state.value_counts.groups.keys._sweep_at = 0
    later = {**LOGINS, "user_id": "ben", "outcome": "success", "time_ms": START_MS + 3_600_000}
    run(detector, [later], (), {"tenant-a": ruled(*rules)}, state)
    assert len(state.event_counts.groups.keys) == len(state.value_counts._latest) == 0
