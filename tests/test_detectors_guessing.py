"""Guessing from many addresses, told of the tenant."""

from typing import Any

import pytest
from scenarios.streams import START_MS, numbered, run

from detectors.failed_login import FailedLogin
from schemas.alert import Alert

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
# Four weeks in which a tenant of forty shows what is usual: everybody logs in every working day from their
# own address, and twice a week somebody mistypes at a hotel.
LEARNED_S = 28 * DAY_S


def attempt(second: float, user: str, address: str, outcome: str = "failure") -> dict[str, Any]:
    """Return a login."""
    return {
        "time_ms": START_MS + int(1000 * second),
        "user_id": user,
        "source_ip": address,
        "action": "login",
        "outcome": outcome,
        "reason": "bad_password" if outcome == "failure" else None,
    }


def usual_weeks(weeks: int = 4) -> list[dict[str, Any]]:
    """Return what a tenant of forty people does."""
    events = []
    for day in (d for d in range(7 * weeks) if d % 7 < 5):
        events += [
            attempt(day * DAY_S + 60 * user, f"user-{user}", f"192.0.2.{user}", "success")
            for user in range(40)
        ]
        if day % 7 in (1, 3):
            events.append(attempt(day * DAY_S + 10 * HOUR_S, f"user-{day}", f"198.51.100.{day}"))
    return events


def told(events: list[dict[str, Any]]) -> list[Alert]:
    """Return the first revision of each alert, after four usual weeks."""
    alerts = run(FailedLogin(), numbered([*usual_weeks(), *events]))
    return [alert for alert in alerts if alert.revision == 1]


def guesses(count: int, gap_s: float) -> list[dict[str, Any]]:
    """Return guesses that come from another address each time."""
    return [attempt(LEARNED_S + i * gap_s, f"user-{i % 40}", f"203.0.{i % 200}.9") for i in range(count)]


def test_usual_weeks_are_silent() -> None:
    """People at hotels who mistype now and then are no attack."""
    assert told([]) == []


@pytest.mark.parametrize(("count", "gap_s"), [(10, 5), (30, 200), (60, 3_000)])
def test_guessing_from_many_addresses_is_one_alert_of_the_tenant(count: int, gap_s: float) -> None:
    """At the pace of a script, of a person, and low and slow over two days."""
    [alert] = told(guesses(count, gap_s))
    assert (alert.classification, alert.entity.type) == ("distributed_guessing", "tenant_id")
    assert alert.score > alert.threshold


def test_a_burst_is_told_within_seconds() -> None:
    """A quiet tenant's third or fourth stranger within a minute is one too many."""
    [alert] = told(guesses(10, 5))
    assert (alert.detected_at.timestamp() * 1000 - START_MS) / 1000 - LEARNED_S <= 20


def test_people_at_their_own_addresses_may_fail_all_at_once() -> None:
    """A changed password policy makes a Monday of failures, none of which comes from a new address."""
    monday = [attempt(LEARNED_S + i, f"user-{i}", f"192.0.2.{i}") for i in range(40)]
    assert told(monday) == []


def test_a_new_office_may_fail_as_often_as_an_old_one() -> None:
    """So many logins explain so many failures, however soon after one another they come."""
    opening = [
        attempt(
            LEARNED_S + 20 * i, f"new-{i}", f"198.51.100.{i % 250}", "failure" if i % 60 == 59 else "success"
        )
        for i in range(240)
    ]
    assert told(opening) == []


def test_a_login_from_a_new_address_while_it_lasts_is_critical() -> None:
    """It may be the guess that was right; known addresses are above suspicion."""
    taken = attempt(LEARNED_S + 61, "user-7", "203.0.9.9", "success")
    at_home = attempt(LEARNED_S + 62, "user-8", "192.0.2.8", "success")
    alerts = told([*guesses(12, 5), taken, at_home])
    assert [(a.entity.value, a.severity) for a in alerts if a.classification == "success_after_failures"] == [
        ("user-7", "critical")
    ]


def test_where_new_addresses_are_usual_only_who_was_tried_is_suspected() -> None:
    """Phones change their addresses, so that being new alone is nothing to suspect."""
    phones = [
        attempt(day * DAY_S + 8 * HOUR_S + 60 * user, f"user-{user}", f"100.64.{day}.{user}", "success")
        for day in range(28)
        for user in range(10)
    ]
    by_user = [attempt(LEARNED_S + 61, f"user-{i}", f"100.64.99.{i}", "success") for i in (7, 30)]
    by_address = attempt(LEARNED_S + 62, "user-31", "203.0.3.9", "success")
    events = sorted([*phones, *guesses(12, 5), *by_user, by_address], key=lambda event: event["time_ms"])
    alerts = run(FailedLogin(), numbered(sorted([*usual_weeks(), *events], key=lambda e: e["time_ms"])))
    taken = {a.entity.value for a in alerts if a.classification == "success_after_failures"}
    assert taken == {"user-7", "user-31"}


def test_a_login_from_a_new_address_long_after_is_not() -> None:
    """Ten minutes after a burst of seconds a journey is a journey again."""
    journey = attempt(LEARNED_S + 660, "user-7", "203.0.9.9", "success")
    assert [a.classification for a in told([*guesses(12, 5), journey])] == ["distributed_guessing"]


def test_an_attack_does_not_become_usual() -> None:
    """After two weeks of a guess every five minutes, the next attack at a tenth of that pace is still one."""
    fortnight = guesses(14 * DAY_S // 300, 300)
    later = [attempt(LEARNED_S + 16 * DAY_S + 3_000 * i, f"user-{i % 40}", f"203.0.{i}.9") for i in range(60)]
    assert [alert.classification for alert in told([*fortnight, *later])] == ["distributed_guessing"] * 2


@pytest.mark.parametrize("users", [1, 2])
def test_one_users_attackers_are_told_of_the_user(users: int) -> None:
    """Many addresses at one user fill the user's own buckets; a second user makes it the tenant's."""
    events = [attempt(LEARNED_S + 2 * i, f"user-{i % users}", f"203.0.{i}.9") for i in range(20)]
    entities = {alert.entity.type for alert in told(events)}
    assert ("tenant_id" in entities) == (users > 1)
