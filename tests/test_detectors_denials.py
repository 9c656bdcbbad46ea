"""Denials: what is one attack, and what is a client that works."""

from typing import Any

import pytest
from scenarios.streams import START_MS, numbered, run

from detectors.access_anomaly import AccessAnomaly
from schemas.alert import Alert

MINUTE_MS = 60_000


def denied(n: int, every_ms: int = 1_000, begin_ms: int = START_MS, **fields: Any) -> list[dict[str, Any]]:
    """Return denied accesses of one user; ``{i}`` in a field is the number of each."""
    common = {"user_id": "ana", "action": "read", "outcome": "failure", "reason": "missing_permission"}
    return [
        {
            "time_ms": begin_ms + i * every_ms,
            **common,
            **{name: value and value.replace("{i}", str(i)) for name, value in fields.items()},
        }
        for i in range(n)
    ]


def told_of(*streams: list[dict[str, Any]]) -> list[Alert]:
    """Return the last revision of each alert."""
    events = numbered(sorted((e for stream in streams for e in stream), key=lambda event: event["time_ms"]))
    return list({alert.alert_id: alert for alert in run(AccessAnomaly(), events)}.values())


def names(alerts: list[Alert]) -> list[str]:
    """Return what alerts are called."""
    return [alert.classification for alert in alerts]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"permission": "jobs:read", "resource_id": "job-1"}, "denied_burst"),
        ({"permission": "area-{i}:read", "resource_id": "page-{i}"}, "permission_probing"),
        ({"permission": "jobs:read", "resource_id": "job-{i}"}, "enumeration"),
        ({"permission": "jobs:read", "resource_id": "job-{i}", "reason": "not_found"}, "enumeration"),
    ],
)
def test_one_attack_is_one_alert(fields: dict[str, Any], name: str) -> None:
    """The same again and again, one permission after the other, one resource after the other."""
    assert names(told_of(denied(40, **fields))) == [name]


@pytest.mark.parametrize("size", [1, 50, 200])
def test_the_permission_of_many_resources_is_one_permission(size: int) -> None:
    """However many ids there are, and however many of them come in one batch."""
    events = numbered(denied(200, permission="jobs:read", resource_id="job-{i}"))
    first = run(AccessAnomaly(), events, range(0, 200, size))[0]
    assert (first.classification, first.event_count, first.threshold) == ("enumeration", 17, 15.0)


@pytest.mark.parametrize(
    "reason", ["timeout", "internal_error", "rate_limited", "conflict", "privilege_not_held"]
)
def test_faults_of_a_service_are_no_denials(reason: str) -> None:
    """When it is down, everything fails, for everybody; a program tries privileges that it does not need."""
    assert told_of(denied(200, permission="area-{i}:read", resource_id="page-{i}", reason=reason)) == []


@pytest.mark.parametrize(
    ("reasons", "met"),
    [
        (["missing_permission"], "denied"),
        (["not_found"], "not found"),
        (["not_found", "not_found", "missing_permission"], "denied or not found"),
    ],
)
def test_what_was_not_there_is_not_told_as_denied(reasons: list[str], met: str) -> None:
    """Whoever reads the alert would look for a permission that was taken away."""
    events = denied(42, resource_id="job-{i}")
    for i, event in enumerate(events):
        event["reason"] = reasons[i % len(reasons)]
    [alert] = told_of(events)
    assert f" of ana {met} in " in alert.summary
    assert "different permission" not in alert.summary


def test_things_that_are_not_there_are_no_burst_however_often_each_is_asked_for() -> None:
    """Three questions about each: what fills the bucket are the things, as nothing was denied."""
    asked = [
        {**event, "resource_id": f"job-{i // 3}"}
        for i, event in enumerate(denied(120, every_ms=200, reason="not_found"))
    ]
    [alert] = told_of(asked)
    assert alert.classification == "enumeration"
    assert f"{alert.evidence.numbers['resources']} different resources" in alert.summary


def test_denials_without_permissions_say_nothing_of_them() -> None:
    """Not every producer names them."""
    [alert] = told_of(denied(40, resource_id="job-1"))
    assert (alert.classification, "different" in alert.summary) == ("denied_burst", False)


def test_asking_for_one_thing_that_is_gone_is_no_enumeration() -> None:
    """A client that polls what was deleted learns nothing by it."""
    assert told_of(denied(500, resource_id="job-1", reason="not_found")) == []


def test_a_client_that_works_makes_up_for_what_it_is_denied() -> None:
    """Five in a hundred are silent for as long as it goes on; the same without the others are told."""
    few = denied(200, every_ms=20_000, permission="jobs:read", resource_id="job-{i}")
    allowed = [
        {"time_ms": START_MS + 1_000 * i, "user_id": "ana", "action": "read", "permission": "jobs:read"}
        for i in range(4_000)
        if i % 20
    ]
    assert told_of(few, allowed) == []
    assert names(told_of(few)) == ["enumeration"]


def test_others_do_not_make_up_for_it() -> None:
    """Whatever colleagues are allowed."""
    allowed = [
        {"time_ms": START_MS + 500 * i, "user_id": "ben", "action": "read", "permission": "jobs:read"}
        for i in range(100)
    ]
    assert names(told_of(denied(40, permission="jobs:read"), allowed)) == ["denied_burst"]


def test_ids_in_a_row_are_told_however_slowly() -> None:
    """One every ten minutes would go unnoticed, were they not neighbours."""
    scattered = [f"job-{i * 37 % 1_000}" for i in range(24)]
    in_a_row = denied(24, every_ms=10 * MINUTE_MS, resource_id="job-{i}")
    anywhere = [{**event, "resource_id": name} for event, name in zip(in_a_row, scattered, strict=True)]
    assert names(told_of(in_a_row)) == ["enumeration"]
    assert told_of(anywhere) == []
