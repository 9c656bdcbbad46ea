"""How the detection benchmark judges alerts."""

import json
from typing import Any

import numpy as np
import pytest

from bench.detection_logins import TAIL_MS, Attacks, attribute, judge
from bench.detection_tables import parameters, rendered
from bench.detection_windows import FEW_USERS, MANY_USERS, expected
from bench.running import REPOSITORY
from schemas.alert import Alert, Entity, Evidence, from_ms, rfc3339

DOCUMENT = REPOSITORY / "docs/detection.md"

ATTACKS = Attacks(np.array([100_000, 900_000]), np.array([160_000, 960_000]))


# Every event of these tests' attacks.
ATTACK_OF = {"first": 0, "second": 1}


def alert(
    detected_ms: int, *event_ids: str, first_ms: int | None = None, last_ms: int | None = None
) -> Alert:
    """Return an alert that only its times and evidence matter of: an event of the first attack, say."""
    return Alert(
        alert_id=f"{detected_ms}",
        revision=1,
        status="open",
        detector="failed_login",
        classification="brute_force",
        severity="medium",
        tenant_id="tenant-a",
        entity=Entity(type="user_id", value="user@example.com"),
        first_time=from_ms(detected_ms if first_ms is None else first_ms),
        last_time=from_ms(detected_ms if last_ms is None else last_ms),
        event_count=5,
        score=2.0,
        threshold=1.0,
        summary="5 failed logins",
        evidence=Evidence(event_ids=list(event_ids or ["first"])),
        runbook="Look.",
        detected_at=from_ms(detected_ms),
    )


def event(second: int, user_id: str, source_ip: str) -> bytes:
    """Return a login."""
    time = rfc3339(from_ms(1_000 * second))
    who = {"tenant_id": "tenant-a", "user_id": user_id, "source_ip": source_ip}
    return json.dumps({"event_id": f"{second}", "time": time, "outcome": "success", **who}).encode()


@pytest.mark.parametrize(
    ("detected_ms", "false_alerts"),
    [(99_999, 1), (100_000, 0), (160_000 + TAIL_MS, 0), (160_001 + TAIL_MS, 1)],
)
def test_an_alert_belongs_to_an_attack_from_its_start_until_the_tail_after_its_end(
    detected_ms: int, false_alerts: int
) -> None:
    """One that belongs to none is false."""
    assert judge([alert(detected_ms)], ATTACKS, ATTACK_OF, 1.0)["false_alerts"] == false_alerts


def test_an_attack_is_found_once_by_its_first_alert() -> None:
    """Later ones neither count again nor lengthen the delay."""
    verdict = judge([alert(107_000), alert(150_000)], ATTACKS, ATTACK_OF, 1.0)
    assert (verdict["found"], verdict["recall"], verdict["median_s"]) == (1, 0.5, 7.0)
    assert verdict["missed"] == [1]


@pytest.mark.parametrize(
    ("event_ids", "missed"),
    [(["first"], [1]), (["second"], [0]), (["other", "first"], [1]), (["first", "second"], [])],
)
def test_an_alert_belongs_to_the_attacks_whose_events_it_names(
    event_ids: list[str], missed: list[int]
) -> None:
    """Slowed attacks overlap: that one goes on while another is alerted does not find it."""
    verdict = judge([alert(950_000, *event_ids)], ATTACKS.slowed(100), ATTACK_OF, 1.0)
    assert (verdict["missed"], verdict["false_alerts"]) == (missed, 0)


@pytest.mark.parametrize("detected_ms", [110_000, 160_000 + TAIL_MS])
def test_an_alert_that_names_no_event_of_an_attack_is_false(detected_ms: int) -> None:
    """Whatever goes on when it is detected: an attack's time excuses no alarm."""
    verdict = judge([alert(detected_ms, "other")], ATTACKS, ATTACK_OF, 1.0)
    assert (verdict["found"], verdict["false_alerts"], verdict["precision"]) == (0, 1, 0.0)


def test_an_alert_that_begins_before_its_attack_reaches_outside() -> None:
    """Detected in time, it still tells of events that are not the attack's."""
    verdict = judge([alert(110_000, first_ms=90_000), alert(120_000)], ATTACKS, ATTACK_OF, 1.0)
    assert (verdict["false_alerts"], verdict["reaching_outside"]) == (0, 1)


def test_false_alerts_are_counted_by_tenant_week() -> None:
    """Half of two alerts, in four weeks."""
    verdict = judge([alert(1), alert(100_000)], ATTACKS, ATTACK_OF, 4.0)
    assert (verdict["precision"], verdict["false_alerts_per_tenant_week"]) == (0.5, 0.25)


def test_silence_has_no_precision() -> None:
    """Nothing was said, so nothing was wrong."""
    verdict = judge([], ATTACKS, ATTACK_OF, 1.0)
    assert (verdict["found"], verdict["precision"], verdict["median_s"]) == (0, None, None)


def test_slowing_moves_only_what_is_the_attacks() -> None:
    """Somebody who logs in as usual in the middle of it stays where they are."""
    lines = [
        event(10, "ana", "192.0.2.1"),
        event(101, "ana", "198.51.100.9"),
        event(110, "ana", "192.0.2.1"),
        event(120, "bob", "198.51.100.9"),
        event(500, "bob", "192.0.2.2"),
    ]
    logins = attribute(lines, ATTACKS)
    assert logins.attack.tolist() == [-1, 0, -1, 0, -1]
    assert logins.attack_of() == {"101": 0, "120": 0}
    moved: list[dict[str, Any]] = [json.loads(line) for line in logins.slowed(ATTACKS, 10)]
    seconds = [(one["user_id"], one["time"][14:19]) for one in moved]
    assert seconds == [
        ("ana", "00:10"),
        ("ana", "01:50"),
        ("ana", "01:50"),
        ("bob", "05:00"),
        ("bob", "08:20"),
    ]
    assert logins.slowed(ATTACKS, 1) == lines


def test_a_benign_login_in_the_evidence_of_a_taken_account_is_an_accusation() -> None:
    """Attackers' logins are counted apart, also those that no alert names."""
    lines = [event(second, "ana", f"192.0.2.{second}") for second in (10, 101, 102)]
    taken = alert(101_000).model_copy(
        update={"classification": "success_after_failures", "evidence": Evidence(event_ids=["10", "101"])}
    )
    assert attribute(lines, ATTACKS).accused([taken, alert(102_000)]) == {
        "attackers_logins": 2,
        "attackers_logins_alerted": 1,
        "benign_logins_accused": 1,
    }


def test_a_table_of_what_was_not_measured_is_left_out() -> None:
    """Numbers of an earlier run stay; that of accounts taken needs two parts."""
    month = {"events": 9, "tenants": 1, "days": 7, "seed": 1, "worst_tenant": 0, "tenant_weeks": 1.0}
    silent = {"false_alerts": 0, "false_alerts_per_tenant_week": 0.0, "classifications": {}}
    found = {"benign": month | silent, "logins": {}}
    assert "9 events of 1 tenants" in (rendered("benign", found) or "")
    assert rendered("taken", found) is None


def failures(*pairs: tuple[str, str | None]) -> list[dict[str, Any]]:
    """Return failed logins by users from addresses."""
    return [{"outcome": "failure", "user_id": user, "source_ip": address} for user, address in pairs]


def test_many_users_from_one_address_are_expected_to_be_a_spray() -> None:
    """Or one of the names for it that depend on which users exist."""
    sprayed = failures(*((f"user-{i}", "192.0.2.1") for i in range(5)))
    assert expected("win-1", sprayed) == MANY_USERS


@pytest.mark.parametrize("address", [None, "192.0.2.1"])
def test_one_user_again_and_again_is_expected_to_be_brute_force(address: str | None) -> None:
    """With and without an address."""
    assert expected("win-1", failures(*[("ana", address)] * 9, ("bob", address))) == FEW_USERS


def test_recordings_with_few_failures_are_benign() -> None:
    """Nothing is expected of them."""
    assert not expected("win-1", failures(*[("ana", None)] * 4))
    assert not expected("other-1", failures(*[("ana", None)] * 9))


def test_every_parameter_is_documented_as_it_is() -> None:
    """`make bench-tables` writes them there."""
    assert parameters({}) in DOCUMENT.read_text(), "run `make bench-tables`"
