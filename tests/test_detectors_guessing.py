"""Guessing from many addresses, told of the tenant."""

from typing import Any

import pytest
from scenarios.streams import START_MS, as_set, numbered, run

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


def successes(events: list[dict[str, Any]]) -> list[Alert]:
    """Return all revisions of alerts of logins in the middle of guessing, after four usual weeks."""
    ordered = sorted([*usual_weeks(), *events], key=lambda event: event["time_ms"])
    alerts = run(FailedLogin(), numbered(ordered))
    return [alert for alert in alerts if alert.classification == "success_after_failures"]


def password_monday() -> list[dict[str, Any]]:
    """Return a morning on which everybody has to choose a new password, and tries the old one first."""
    events = []
    for user in range(40):
        # Every third of them on a phone, whose address is new.
        address = f"100.64.{user}.9" if user % 3 == 0 else f"192.0.2.{user}"
        events.append(attempt(LEARNED_S + 60 * user, f"user-{user}", address))
        events.append(attempt(LEARNED_S + 60 * user + 30, f"user-{user}", address, "success"))
    return events


def people_mistype() -> list[dict[str, Any]]:
    """Return what happens every day of four weeks: three mistype where they always are."""
    return [
        attempt(day * DAY_S + 60 * user + 1, f"user-{user}", f"192.0.2.{user}")
        for day in range(1, 28)
        for user in (day % 40, (day + 7) % 40, (day + 19) % 40)
        if day % 7 < 5
    ]


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


@pytest.mark.parametrize(
    ("unnamed", "what"),
    [("source_ip", "of 30 users without an address"), ("user_id", "from 30 addresses")],
)
def test_guesses_of_which_no_user_or_no_address_is_known_are_told(unnamed: str, what: str) -> None:
    """Nothing says that they are one user's, or one network's."""
    made_up = [
        event | {"user_id": f"guess-{i}", unnamed: None, "event_id": f"g{i}"}
        for i, event in enumerate(guesses(30, 200))
    ]
    [*_, alert] = run(FailedLogin(), [*numbered(usual_weeks()), *made_up])
    assert (alert.classification, alert.entity.type) == ("distributed_guessing", "tenant_id")
    assert what.replace("30", "16") in alert.summary


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
    [alert] = successes([*guesses(12, 5), taken, at_home])
    assert (alert.severity, alert.evidence.numbers["user_ids"]) == ("critical", "user-7")


def test_a_login_by_key_while_it_lasts_is_not() -> None:
    """Nobody guesses a key."""
    by_key = attempt(LEARNED_S + 61, "user-7", "203.0.9.9", "success") | {"auth_method": "passkey"}
    assert successes([*guesses(12, 5), by_key]) == []


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
    [*_, last] = successes(events)
    assert last.evidence.numbers["user_ids"] == "user-7, user-31"


def test_accounts_taken_in_one_attack_are_one_alert_that_names_each_at_once() -> None:
    """Nobody has to wait for the next power of two to learn of one more account to be locked."""
    taken = [attempt(LEARNED_S + 61 + i, f"user-{i}", f"203.1.{i}.9", "success") for i in (3, 4, 5)]
    again = attempt(LEARNED_S + 70, "user-3", "203.1.9.9", "success")
    alerts = successes([*guesses(20, 5), *taken, again])
    assert {(a.entity.type, a.entity.value, a.alert_id) for a in alerts} == {
        ("tenant_id", "tenant-a", alerts[0].alert_id)
    }
    named = [(a.event_count, a.evidence.numbers["user_ids"]) for a in alerts]
    assert named == [
        (1, "user-3"),
        (2, "user-3, user-4"),
        (3, "user-3, user-4, user-5"),
        (4, "user-3, user-4, user-5"),
    ]


def test_evidence_holds_a_login_of_every_account_that_an_alert_names() -> None:
    """An alert names as many as its evidence has room for; more go to another one."""
    taken = [
        attempt(LEARNED_S + 61 + i, f"user-{i}", f"203.1.{i}.9", "success") | {"event_id": f"user-{i}"}
        for i in range(27)
    ]
    last = {a.alert_id: a for a in successes([*guesses(30, 5), *taken])}
    assert [a.event_count for a in last.values()] == [20, 7]
    for alert in last.values():
        assert alert.evidence.numbers["user_ids"] == ", ".join(alert.evidence.event_ids)
    assert {name for a in last.values() for name in a.evidence.event_ids} == {f"user-{i}" for i in range(27)}


def test_an_account_that_is_used_again_stays_in_its_alert() -> None:
    """However many accounts were taken since."""
    taken = [attempt(LEARNED_S + 61 + i, f"user-{i}", f"203.1.{i}.9", "success") for i in range(27)]
    again = [attempt(LEARNED_S + 90 + i, "user-3", "203.1.9.9", "success") for i in range(12)]
    last = {a.alert_id: a for a in successes([*guesses(30, 5), *taken, *again])}
    assert [a.event_count for a in last.values()] == [32, 7]


def test_guessers_who_get_in_do_not_make_it_usual() -> None:
    """Nothing is learned from their logins, or the last of them would be above suspicion."""
    tried = [event | {"user_id": f"user-{i % 2}"} for i, event in enumerate(guesses(30, 5))]
    taken = [attempt(LEARNED_S + 61 + i, f"user-{2 + i}", f"203.1.{i}.9", "success") for i in range(38)]
    last = {a.alert_id: a for a in successes([*tried, *taken])}
    assert [a.event_count for a in last.values()] == [20, 18]


def test_two_strangers_are_no_stolen_list() -> None:
    """Whatever their names are: a list has many."""
    unknown = [
        event | {"reason": "unknown_user", "user_id": f"no-{i}"} for i, event in enumerate(guesses(40, 5))
    ]
    alerts = [
        a for a in run(FailedLogin(), numbered([*usual_weeks(), *unknown])) if a.detector == "failed_login"
    ]
    assert alerts[0].classification == "distributed_guessing"
    assert alerts[-1].classification == "credential_stuffing"


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


def test_the_day_on_which_all_passwords_end_is_silent() -> None:
    """So many fail from where they always are that some do from elsewhere."""
    events = sorted([*people_mistype(), *password_monday()], key=lambda event: event["time_ms"])
    ordered = sorted([*usual_weeks(), *events], key=lambda event: event["time_ms"])
    assert run(FailedLogin(), numbered(ordered)) == []


def test_guessing_on_the_day_on_which_all_passwords_end_is_told() -> None:
    """People explain a few failures from elsewhere, not a script's."""
    events = [*people_mistype(), *password_monday(), *guesses(60, 5)]
    ordered = sorted([*usual_weeks(), *events], key=lambda event: event["time_ms"])
    found = {alert.classification for alert in run(FailedLogin(), numbered(ordered))}
    assert "distributed_guessing" in found


@pytest.mark.parametrize("size", [1, 3, 17, 50])
def test_what_explains_does_not_depend_on_batches(size: int) -> None:
    """Nor who is suspected, nor what is learned from it."""
    taken = [attempt(LEARNED_S + 61 + i, f"user-{i}", f"203.1.{i}.9", "success") for i in range(27)]
    later = [event | {"time_ms": event["time_ms"] + DAY_S * 1000} for event in password_monday()]
    events = [*usual_weeks(), *people_mistype(), *password_monday(), *guesses(30, 5), *taken, *later]
    ordered = numbered(sorted(events, key=lambda event: event["time_ms"]))
    first = len(ordered) - 300
    assert as_set(run(FailedLogin(), ordered, range(first, len(ordered), size))) == as_set(
        run(FailedLogin(), ordered)
    )


def test_what_explains_does_so_once_an_hour() -> None:
    """A machine that goes on with an old password hides nobody's guesses."""
    stuck = [attempt(LEARNED_S + 7 * i, "user-1", "192.0.2.1") for i in range(400)]
    events = sorted([*stuck, *guesses(60, 30)], key=lambda event: event["time_ms"])
    assert ("distributed_guessing", "tenant_id") in {(a.classification, a.entity.type) for a in told(events)}


def at_home(day: int, user: int, second: float, outcome: str) -> dict[str, Any]:
    """Return a login from home by IPv6, where the address is another one every day."""
    address = f"2001:db8:7:{user:x}::{day:x}"
    return attempt(day * DAY_S + 9 * HOUR_S + second, f"user-{user}", address, outcome)


@pytest.mark.parametrize(("own_network", "alerts"), [(True, 0), (False, 1)])
def test_with_ipv6_it_is_the_network_that_is_known(own_network: bool, alerts: int) -> None:
    """People at home who mistype do so from where they always are, whatever the address is today."""
    weeks = [at_home(day, user, 30 * user, "success") for day in range(28) for user in range(12)]
    morning = [at_home(28, user if own_network else user + 50, 9 * user, "failure") for user in range(12)]
    morning = [event | {"user_id": f"user-{user}"} for user, event in enumerate(morning)]
    assert len(run_first(sorted([*usual_weeks(), *weeks], key=lambda e: e["time_ms"]) + morning)) == alerts


def run_first(events: list[dict[str, Any]]) -> list[Alert]:
    """Return the first revision of each alert."""
    return [alert for alert in run(FailedLogin(), numbered(events)) if alert.revision == 1]
