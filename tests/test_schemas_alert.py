"""The alert: identity, limits and the form in which it is written."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.alert import Alert, Entity, alert_id, from_ms

WHO = Entity(type="user_id", value="ana")
AT = datetime(2026, 1, 31, 9, 30, 0, 123_000, tzinfo=UTC)


def alert(**fields: Any) -> Alert:
    smallest: dict[str, Any] = {
        "alert_id": "a",
        "revision": 1,
        "status": "open",
        "detector": "failed_login",
        "classification": "brute_force",
        "severity": "high",
        "tenant_id": "tenant-a",
        "entity": WHO,
        "first_time": AT,
        "last_time": AT,
        "event_count": 1,
        "score": 12.5,
        "threshold": 10,
        "summary": "Somebody tries passwords.",
        "evidence": {},
        "runbook": "Lock the account.",
        "detected_at": AT,
    }
    return Alert.model_validate(smallest | fields)


def test_times_are_written_in_utc_to_the_millisecond() -> None:
    """Whatever zone a time came in, it is written with Z and three digits."""
    berlin = timezone(timedelta(hours=1))
    written = json.loads(alert(last_time=AT.astimezone(berlin)).model_dump_json())
    assert written["first_time"] == written["last_time"] == "2026-01-31T09:30:00.123Z"
    assert written["published_at"] is None


def test_an_alert_survives_its_topic() -> None:
    """What is written as JSON is read back equal, evidence and all."""
    full = alert(
        evidence={"numbers": {"failures": 12, "ratio": 0.5, "country": "NZ"}, "event_ids": ["e-1"]},
        attack=["T1110.001"],
        published_at=from_ms(1),
    )
    again = Alert.model_validate_json(full.model_dump_json())
    assert again == full
    assert [type(value) for value in again.evidence.numbers.values()] == [int, float, str]


@pytest.mark.parametrize(
    "fields",
    [
        {"revision": 0},
        {"event_count": 0},
        {"status": "closed"},
        {"severity": "info"},
        {"entity": {"type": "planet", "value": "x"}},
        {"evidence": {"event_ids": ["e"] * 21}},
        {"first_time": datetime(2026, 1, 31)},
        {"score": float("nan")},
        {"threshold": float("inf")},
        {"evidence": {"numbers": {"rate": float("inf")}}},
        {"colour": "red"},
    ],
)
def test_what_could_not_be_read_back_is_refused(fields: dict[str, Any]) -> None:
    """A time without a zone, a number that JSON cannot write, an unknown word: refused where it is made."""
    with pytest.raises(ValidationError):
        alert(**fields)


def test_the_same_episode_has_the_same_id() -> None:
    """An id depends on nothing but its parts."""
    assert alert_id("d", "c", "tenant-a", WHO, 5) == alert_id("d", "c", "tenant-a", WHO.model_copy(), 5)


def test_each_part_changes_the_id() -> None:
    """Detector, classification, tenant, entity's type and value, and first time each tell episodes apart."""
    other = Entity(type="source_ip", value="ana")
    ids = {
        alert_id("d", "c", "t", WHO, 5),
        alert_id("x", "c", "t", WHO, 5),
        alert_id("d", "x", "t", WHO, 5),
        alert_id("d", "c", "x", WHO, 5),
        alert_id("d", "c", "t", other, 5),
        alert_id("d", "c", "t", Entity(type="user_id", value="bob"), 5),
        alert_id("d", "c", "t", WHO, 6),
        alert_id("dc", "", "t", WHO, 5),
    }
    assert len(ids) == 8
