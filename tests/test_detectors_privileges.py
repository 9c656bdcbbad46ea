"""Privilege changes: whose first is told."""

from pathlib import Path
from typing import Any

import pytest
from scenarios.streams import START_MS, numbered, run

from detectors.access_anomaly import AccessAnomaly
from detectors.closeness import watch_rules
from detectors.denials import FAULTS, NOT_FOUND
from detectors.privileges import CHANGES, IDENTITY_ACTIONS, RIGHTS_ACTIONS, RIGHTS_TYPES
from schemas.alert import Alert
from tenantwatch.recording import Recorder, of_events, raised

DOCUMENT = Path(__file__).parent.parent / "docs/detection.md"
HOUR_MS = 3_600_000
GRANT = {"action": "grant", "permission": "roles:grant", "resource_type": "role"}


def work(user: str, hours: int = 300, begin_h: int = 0, **fields: Any) -> list[dict[str, Any]]:
    """Return an access of a user in each of so many hours."""
    read = {"user_id": user, "action": "read", "permission": "jobs:read", "resource_type": "job"}
    return [{"time_ms": START_MS + (begin_h + hour) * HOUR_MS, **read, **fields} for hour in range(hours)]


def told_of(*streams: list[dict[str, Any]]) -> list[Alert]:
    """Return the last revision of each alert of this rule."""
    events = numbered(sorted((e for stream in streams for e in stream), key=lambda event: event["time_ms"]))
    last = {alert.alert_id: alert for alert in run(AccessAnomaly(), events, (200,))}
    return [alert for alert in last.values() if alert.classification == "privilege_change"]


TEAM = [*work("ana"), *work("ben"), *work("cleo")]


@pytest.mark.parametrize(
    "change",
    [
        GRANT,
        {**GRANT, "action": "revoke"},
        {**GRANT, "action": "role_change"},
        {**GRANT, "action": "update", "resource_type": "role_binding"},
        {**GRANT, "action": "impersonate", "resource_type": "user"},
    ],
    ids=lambda change: change["action"],
)
def test_a_first_of_somebody_known_is_told(change: dict[str, Any]) -> None:
    """Whichever way rights are changed; what follows within the hour is part of it."""
    [alert] = told_of(TEAM, work("ana", 2, 300, **change))
    assert (alert.entity.value, alert.event_count) == ("ana", 2)


def test_what_somebody_does_as_a_rule_is_not() -> None:
    """Nor what fails, nor a change to something that gives no rights."""
    assert told_of(TEAM, work("ana", 30, **GRANT), work("ana", 1, 300, **GRANT)) == []
    assert told_of(TEAM, work("ana", 1, 300, **GRANT, outcome="failure")) == []
    assert told_of(TEAM, work("ana", 1, 300, action="update")) == []


def test_support_that_acts_as_customers_is_not_known_for_giving_rights() -> None:
    """A habit of one is none of the other."""
    support = work("ana", 30, **{**GRANT, "action": "impersonate"})
    assert len(told_of(TEAM, support, work("ana", 1, 300, **GRANT))) == 1


@pytest.mark.parametrize("who", ["ana", "ben"])
@pytest.mark.parametrize("pause_h", [0, 1])
def test_a_first_grant_hides_no_first_impersonation(who: str, pause_h: int) -> None:
    """Nor of whoever granted, be it in the same millisecond: it is an alert of its own, and a high one."""
    acts = {**GRANT, "action": "impersonate", "resource_type": "user"}
    alerts = told_of(TEAM, work("ana", 1, 300, **GRANT), work(who, 1, 300 + pause_h, **acts))
    told = {(a.entity.value, a.severity, a.evidence.numbers["action"], a.event_count) for a in alerts}
    assert told == {("ana", "medium", "grant", 1), (who, "high", "impersonate", 1)}


def test_explanations_find_the_rule_of_either_alert() -> None:
    """By the name that the alert's id is made of."""
    acts = {**GRANT, "action": "impersonate", "resource_type": "user"}
    streams = [*TEAM, *work("ana", 1, 300, **GRANT), *work("ben", 1, 301, **acts)]
    events = numbered(sorted(streams, key=lambda event: event["time_ms"]))
    detector, recorders = AccessAnomaly(), dict[str, Recorder]()
    state = detector.new_state()
    everything = of_events({event["event_id"] for event in events})
    watch_rules(state, lambda _, rule: recorders.setdefault(rule, Recorder(everything)))
    last = {alert.alert_id: alert for alert in run(detector, events, (200,), state=state)}
    told = [alert for alert in last.values() if alert.classification == "privilege_change"]
    for alert in told:
        rule = "impersonation" if alert.evidence.numbers["action"] == "impersonate" else "privilege_change"
        point = recorders[rule].closest
        assert point is not None
        assert raised(alert, detector.name, rule, point.key)
        assert round(point.score, 2) == alert.score
    assert len(told) == 2


def test_somebody_new_and_a_new_tenant_are_not_told() -> None:
    """Nobody knows what they do as a rule."""
    assert told_of(TEAM, work("dora", 1, 300, **GRANT)) == []
    assert told_of(work("ana", 30), work("ben", 30), work("ana", 1, 30, **GRANT)) == []


def test_where_firsts_are_usual_they_are_not_told() -> None:
    """The first one is; when another follows every day, that is how the tenant works."""
    people = [f"user-{i}" for i in range(8)]
    team = [event for user in people for event in work(user, 500)]
    firsts = [work(user, 1, 300 + 24 * i, **GRANT) for i, user in enumerate(people)]
    assert [alert.entity.value for alert in told_of(team, *firsts)] == ["user-0"]


def test_another_first_is_told_when_the_last_is_long_ago() -> None:
    """Half a year later the tenant's firsts are rare again."""
    later = work("ben", 100, 24 * 200) + work("ben", 1, 24 * 200 + 100, **GRANT)
    between = [event for day in range(13, 200) for event in work("ben", 3, 24 * day)]
    firsts = told_of(TEAM, work("ana", 1, 300, **GRANT), between, later)
    assert [alert.entity.value for alert in firsts] == ["ana", "ben"]


@pytest.mark.parametrize(
    "words", [RIGHTS_ACTIONS, IDENTITY_ACTIONS, CHANGES, RIGHTS_TYPES, FAULTS, NOT_FOUND]
)
def test_every_word_that_is_known_is_documented(words: frozenset[str]) -> None:
    """A producer that uses another one is not understood."""
    assert [word for word in sorted(words) if f"`{word}`" not in DOCUMENT.read_text()] == []
