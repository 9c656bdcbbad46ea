"""Windows' Security log: what is a login of somebody, and what is told of it by two events."""

import json
from datetime import UTC
from typing import Any

import pytest

from tenantwatch.importers.json_stream import read_json
from tenantwatch.importers.windows import read
from tenantwatch.importers.windows_attempts import MOST_HELD, WindowsReader
from tests.importing import Made, only, run, run_records

FAILED = {"Status": "0xc000006d", "SubStatus": "0xc000006a"}


def record(number: int, at: str = "08:00:00.000", **data: Any) -> dict[str, Any]:
    """Return an event of one computer."""
    about = {"EventID": number, "@timestamp": f"2026-01-05T{at}Z", "Channel": "Security", "Computer": "srv-1"}
    return about | {"TargetUserName": "ana"} | data


def validated(at: str = "08:00:00.000", **data: Any) -> dict[str, Any]:
    """Return NTLM's refusal of a password, which names no address."""
    return record(4776, at, **{"Status": "0xc000006a", "Workstation": "pc-1"} | data)


def refused(at: str = "08:00:00.000", **data: Any) -> dict[str, Any]:
    """Return a refused login."""
    return record(4625, at, **FAILED | {"IpAddress": "192.0.2.1"} | data)


def read_log(*records: dict[str, Any]) -> Made:
    """Return what becomes of a log."""
    reader = WindowsReader(UTC)
    return run(reader.read, reader.items(read_json([json.dumps(one).encode() for one in records])))


def numbers(made: Made) -> list[int]:
    """Return which events are left."""
    return [event["attributes"]["windows_event_id"] for event in made[0]]


# --- nobody ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "action"),
    [
        ({"TargetUserSid": "S-1-5-7", "TargetUserName": "ANONYMOUS-ANMELDUNG"}, "anonymous_login"),
        ({"TargetUserName": "ANONYMOUS LOGON"}, "anonymous_login"),
        ({"TargetAccount": r"NT AUTHORITY\ANONYMOUS LOGON"}, "anonymous_login"),
        ({"TargetUserSid": "S-1-5-21-1-2-3-1001", "TargetUserName": "ANONYMOUS LOGON"}, "login"),
    ],
)
def test_a_null_session_is_no_login(data: dict[str, str], action: str) -> None:
    """Guessing over SMB begins each try with one; nobody has proved to be anybody."""
    assert only(run_records(read, record(4624, **{"TargetUserName": None} | data)))["action"] == action


def test_a_failure_under_the_name_of_a_null_session_is_a_guess() -> None:
    """Who guesses chooses the name."""
    assert only(run_records(read, refused(TargetUserName="ANONYMOUS LOGON")))["action"] == "login"


# --- one account ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ana", "ANA", r"CORP\ana", r"corp.example\Ana"])
def test_an_account_has_one_name(name: str) -> None:
    """However it is written, as Windows does not tell them apart; else each spelling had its own guesses."""
    assert only(run_records(read, refused(TargetUserName=name)))["user_id"] == "ana"


@pytest.mark.parametrize(
    ("data", "domain"),
    [
        ({"TargetUserName": r"CORP\ana"}, "CORP"),
        ({"TargetUserName": r"corp\ana", "TargetDomainName": "CORP"}, "CORP"),
        ({"TargetUserName": None, "TargetAccount": r"CORP\ana"}, "CORP"),
        ({"TargetUserName": "ana"}, None),
    ],
)
def test_the_domain_before_a_name_is_kept(data: dict[str, Any], domain: str | None) -> None:
    """Unless the event tells of it elsewhere."""
    assert only(run_records(read, refused(**data)))["attributes"].get("domain") == domain


@pytest.mark.parametrize(
    ("name", "user_id"), [("Ana@corp.example", "ana@corp.example"), ("CORP\\", "corp\\")]
)
def test_what_is_no_account_of_a_domain_is_the_name(name: str, user_id: str) -> None:
    """An address may begin with another name than the account has."""
    assert only(run_records(read, refused(TargetUserName=name)))["user_id"] == user_id


def test_who_changes_something_is_the_same_account() -> None:
    """In accesses too; what they changed is called what the log calls it."""
    event = only(run_records(read, record(4720, SubjectUserName="ADMIN", TargetUserName="Ana")))
    assert (event["user_id"], event["resource_id"]) == ("admin", "Ana")


# --- one attempt ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [False, True])
def test_one_bad_password_is_one_attempt(newest_first: bool) -> None:
    """Of three, Windows writes six events; those with the address stay, whichever end the log begins with."""
    log = [
        one for at in ("08:00:00.000", "08:00:20.000", "08:00:40.000") for one in (validated(at), refused(at))
    ]
    made = read_log(*(reversed(log) if newest_first else log))
    assert numbers(made) == [4625, 4625, 4625]
    assert made[1].without_event == {"same_attempt": 3}


def test_a_right_password_is_one_attempt() -> None:
    """As well."""
    assert numbers(read_log(validated(Status="0x0"), record(4624, IpAddress="192.0.2.1"))) == [4624]


def test_each_login_has_one_validation() -> None:
    """Three of the five were logins to somewhere else."""
    assert numbers(read_log(*[validated()] * 5, *[refused()] * 2)) == [4776, 4776, 4776, 4625, 4625]


@pytest.mark.parametrize(
    "other",
    [
        refused(Computer="srv-2"),
        refused(TargetUserName="ben"),
        refused("08:00:01.001"),
        record(4624),
        record(4771, Status="0x18"),
    ],
)
def test_another_attempt_hides_none(other: dict[str, Any]) -> None:
    """On another computer, of another user, at another time, with another outcome, or of another protocol."""
    assert len(numbers(read_log(validated(), other))) == 2
    assert len(numbers(read_log(other, validated()))) == 2


def test_the_order_of_the_log_stays() -> None:
    """What stands behind a validation that waits, waits too; so does what is no event."""
    log = [validated(TargetUserName="eve"), record(4634), {"no": "event"}, validated(), refused()]
    made = read_log(*log)
    assert numbers(made) == [4776, 4634, 4625]
    assert made[1].not_understood == 1


@pytest.mark.parametrize(
    ("later", "taken_at_first"),
    [
        (record(4634, "08:00:01.001"), 2),  # an event that is no login
        (record(5156, "08:00:01.001"), 2),  # no event
        (record(7036, "08:00:01.001", Channel="System"), 2),
        (record(4634, "08:00:01.000"), 3),
        (record(7036, "07:59:00.000", Channel="System"), 3),  # a log that lags behind
    ],
)
def test_a_validation_waits_for_a_later_record_only(later: dict[str, Any], taken_at_first: int) -> None:
    """From a pipe, in which the next login may be hours away."""
    taken = 0

    def log() -> Any:
        nonlocal taken
        for one in read_json([json.dumps(each).encode() for each in (validated(), later, refused())]):
            taken += 1
            yield one

    next(WindowsReader(UTC).items(log()))
    assert taken == taken_at_first


def test_a_validation_waits_for_so_many_records_only() -> None:
    """A log of any length needs no more memory than a short one."""
    reader, taken = WindowsReader(UTC), 0

    def log() -> Any:
        nonlocal taken
        for one in read_json([json.dumps(validated()).encode(), b"{}" * 2_000]):
            taken += 1
            yield one

    next(reader.items(log()))
    assert taken == MOST_HELD + 1
