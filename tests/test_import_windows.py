"""Windows' Security events, however they were made JSON, become auth and access events."""

from typing import Any

import pytest

from tenantwatch.importers.windows import read
from tenantwatch.importers.windows_powershell import PLACES
from tests.importing import Made, only, picked, run_records

TIME = "2026-01-05T08:00:00.1234567Z"
FAILED = {
    "SubjectUserName": "-",
    "TargetUserName": "ana",
    "TargetDomainName": "CORP",
    "Status": "0xc000006d",
    "SubStatus": "0xc000006a",
    "LogonType": "3",
    "AuthenticationPackageName": "NTLM",
    "WorkstationName": "PC-1",
    "IpAddress": "192.0.2.1",
    "IpPort": "4242",
}


def winlogbeat(number: int, data: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "@timestamp": TIME,
        "event": {"code": str(number), "outcome": "failure"},
        "winlog": {
            "channel": "Security",
            "computer_name": "dc.example.com",
            "record_id": 7,
            "event_id": str(number),
            "event_data": data,
        }
        | more,
    }


def evtx(number: Any, data: Any) -> dict[str, Any]:
    return {
        "Event": {
            "#attributes": {"xmlns": "x"},
            "System": {
                "Provider": {"#attributes": {"Name": "Microsoft-Windows-Security-Auditing"}},
                "EventID": number,
                "TimeCreated": {"#attributes": {"SystemTime": TIME}},
                "EventRecordID": 7,
                "Channel": "Security",
                "Computer": "dc.example.com",
            },
            "EventData": data,
        }
    }


def xmltodict(number: int, data: dict[str, Any]) -> dict[str, Any]:
    named = [{"@Name": name, "#text": value} for name, value in data.items()]
    record = evtx({"@Qualifiers": "", "#text": str(number)}, {"Data": named})
    record["Event"]["System"]["TimeCreated"] = {"@SystemTime": TIME}
    return record


def flat(number: int, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "EventID": number,
        "@timestamp": TIME,
        "Channel": "Security",
        "Hostname": "dc.example.com",
        "RecordNumber": 7,
    } | data


def old_winlogbeat(number: int, data: dict[str, Any]) -> dict[str, Any]:
    return {
        "@timestamp": TIME,
        "event_id": number,
        "log_name": "Security",
        "computer_name": "dc.example.com",
        "record_number": "7",
        "event_data": data,
    }


def powershell(number: int, data: dict[str, Any]) -> dict[str, Any]:
    """Return what `Get-WinEvent` and `ConvertTo-Json` make of an event: values without names."""
    values = [data.get(name) for name in PLACES[number]]
    for name in ("Status", "SubStatus"):
        if name in data:
            values[PLACES[number].index(name)] = int(data[name], 16) - (1 << 32)  # as in C
    if "SubjectLogonId" in PLACES[number]:
        values[PLACES[number].index("SubjectLogonId")] = 0
    return {
        "Id": number,
        "Keywords": -9218868437227405312,
        "RecordId": 7,
        "ProviderName": "Microsoft-Windows-Security-Auditing",
        "LogName": "Security",
        "MachineName": "dc.example.com",
        "UserId": None,
        "TimeCreated": "2026-01-05T08:00:00.1234567+00:00",
        "Properties": [{"Value": value} for value in values],
        "Message": "Fehler beim Anmelden eines Kontos.",
    }


SHAPES = [winlogbeat, old_winlogbeat, evtx, xmltodict, flat]

MESSAGE = """An account failed to log on.\r
\r
Subject:\r
\tSecurity ID:\t\tS-1-0-0\r
\tAccount Name:\t\t-\r
\tAccount Domain:\t\t-\r
\r
Logon Type:\t\t\t3\r
\r
Account For Which Logon Failed:\r
\tSecurity ID:\t\tS-1-0-0\r
\tAccount Name:\t\tana\r
\tAccount Domain:\t\tCORP\r
\r
Failure Information:\r
\tFailure Reason:\t\tUnknown user name or bad password.\r
\tStatus:\t\t\t0xC000006D\r
\tSub Status:\t\t0xC000006A\r
\r
Network Information:\r
\tWorkstation Name:\tPC-1\r
\tSource Network Address:\t192.0.2.1\r
\tSource Port:\t\t4242\r
\r
Detailed Authentication Information:\r
\tLogon Process:\t\tNtLmSsp \r
\tAuthentication Package:\tNTLM\r
\r
This event is generated when a logon request fails."""


def made(number: int, **data: Any) -> Made:
    return run_records(read, flat(number, data))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_every_shape_is_the_same_event(shape: Any) -> None:
    """With the same id, so that the same log by two ways is not counted twice."""
    event = only(run_records(read, shape(4625, FAILED)))
    assert dict(event) == dict(only(run_records(read, flat(4625, FAILED))))
    assert picked(event, "time", "action", "outcome", "reason", "user_id", "source_ip", "auth_method") == (
        "2026-01-05T08:00:00.123Z",
        "login",
        "failure",
        "bad_password",
        "ana",
        "192.0.2.1",
        "ntlm",
    )


def test_powershells_events_are_read_by_their_places() -> None:
    """Whatever the language of the message; the id is that of the same event by another way."""
    event = only(run_records(read, powershell(4625, FAILED)))
    assert event == only(run_records(read, flat(4625, FAILED)))


def test_of_powershells_values_numbers_and_identifiers_are_those_of_the_event() -> None:
    """A session has one id, however its log was exported."""
    ended = powershell(4634, {"TargetUserName": "ana", "TargetLogonId": 0x3E7})
    assert only(run_records(read, ended))["session_id"] == "0x3e7"
    identifier = {"BinaryLength": 12, "Value": "S-1-5-18"}
    added = powershell(4732, {"SubjectUserName": "ana", "MemberName": "-", "MemberSid": identifier})
    assert only(run_records(read, added))["attributes"]["member"] == "S-1-5-18"


@pytest.mark.parametrize(
    ("number", "data", "expected"),
    [
        (4624, {"TargetUserName": "ana", "IpAddress": "192.0.2.1"}, ("login", "ana", "192.0.2.1")),
        (4634, {"TargetUserName": "ana"}, ("logout", "ana", None)),
        (4672, {"SubjectUserName": "ana"}, ("privileged_login", "ana", None)),
        (4771, {"TargetUserName": "ana", "IpAddress": "::ffff:192.0.2.1"}, ("login", "ana", "192.0.2.1")),
        (4776, {"TargetUserName": "ana", "Workstation": "PC-1"}, ("login", "ana", None)),
        (4732, {"SubjectUserName": "ana", "TargetUserName": "Administrators"}, ("grant", "ana", None)),
    ],
)
def test_places_differ_from_event_to_event(
    number: int, data: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """As Microsoft documents them."""
    event = only(run_records(read, powershell(number, data)))
    assert picked(event, "action", "user_id", "source_ip") == expected


def test_an_english_message_is_read_where_there_is_nothing_else() -> None:
    """As `Select-Object TimeCreated, Id, Message` leaves it."""
    record = {"TimeCreated": "/Date(1767600000123)/", "Id": 4625, "Message": MESSAGE}
    event = only(run_records(read, record))
    assert picked(event, "time", "user_id", "source_ip", "reason", "auth_method") == (
        "2026-01-05T08:00:00.123Z",
        "ana",
        "192.0.2.1",
        "bad_password",
        "ntlm",
    )
    assert (event["attributes"]["logon_type"], event["attributes"]["workstation"]) == ("network", "PC-1")


def test_a_name_in_a_message_does_not_move_the_address() -> None:
    """The client chooses it, so what stands last counts."""
    message = MESSAGE.replace("\tana\r", "\tana\n\tSource Network Address:\t192.0.2.9\r")
    record = {"TimeCreated": TIME, "Id": 4625, "Message": message}
    assert only(run_records(read, record))["source_ip"] == "192.0.2.1"


def test_the_end_of_a_session_names_its_user_as_the_subject() -> None:
    """In words, not in fields."""
    message = "An account was logged off.\r\n\r\nSubject:\r\n\tAccount Name:\t\tana\r\n"
    record = {"TimeCreated": TIME, "Id": 4634, "Message": message}
    assert picked(only(run_records(read, record)), "action", "user_id") == ("logout", "ana")


@pytest.mark.parametrize("nested", [True, False])
def test_a_record_that_has_only_ecs_fields_is_read(nested: bool) -> None:
    """Pipelines drop `winlog.event_data`."""
    record = winlogbeat(4625, {}) | {"user": {"name": "ana"}, "source": {"ip": "192.0.2.1"}}
    if not nested:
        record |= {"user.name": "ana", "source.ip": "192.0.2.1"}
        del record["user"], record["source"]
    assert picked(only(run_records(read, record)), "user_id", "source_ip", "reason") == (
        "ana",
        "192.0.2.1",
        "refused",
    )


@pytest.mark.parametrize("number", [4625, 4720])
@pytest.mark.parametrize("more", [{}, {"Message": "Fehler beim Anmelden eines Kontos."}])
def test_an_event_that_names_neither_account_nor_address_is_not_understood(
    number: int, more: dict[str, str]
) -> None:
    """A failure of nobody from nowhere would only look as if the log had been read."""
    events, report = run_records(read, flat(number, more))
    assert events == []
    assert "neither an account nor an address" in "\n".join(report.lines())


@pytest.mark.parametrize(
    ("status", "sub_status", "reason"),
    [
        ("0xC000006D", "0xC0000064", "unknown_user"),
        ("0xC000006D", "0xC000006A", "bad_password"),
        ("0xC000006D", "0x0", "bad_password"),
        ("0xC0000234", "0x0", "locked"),
        ("0xC000006E", "0xC0000072", "disabled"),
        ("0xC0000224", "0x0", "expired_password"),
        (-1073741715, -1073741724, "unknown_user"),
        ("0xC0DE0001", "0x0", "status_0xc0de0001"),
        (None, None, "refused"),
    ],
)
def test_the_status_of_a_failed_login_is_its_reason(status: Any, sub_status: Any, reason: str) -> None:
    """The sub-status says more than the status, where it says anything."""
    event = only(made(4625, **FAILED | {"Status": status, "SubStatus": sub_status}))
    assert event["reason"] == reason


@pytest.mark.parametrize(
    ("number", "status", "expected"),
    [
        (4768, "0x0", ("login", "success", None)),
        (4768, "0x6", ("login", "failure", "unknown_user")),
        (4771, "0x18", ("login", "failure", "bad_password")),
        (4771, "0x17", ("login", "failure", "expired_password")),
        (4771, "0x19", ("login_interrupted", "failure", "preauth_required")),
        (4769, "0x20", ("service_ticket", "failure", "ticket_expired")),
        (4776, "0x0", ("login", "success", None)),
        (4776, "0xc0000064", ("login", "failure", "unknown_user")),
    ],
)
def test_tickets_and_validations_are_told_by_their_status(
    number: int, status: str, expected: tuple[str, str, str | None]
) -> None:
    """Kerberos has numbers of its own; asking for the pre-authentication is part of its protocol."""
    event = only(made(number, TargetUserName="ana", Status=status, IpAddress="::ffff:192.0.2.1"))
    assert picked(event, "action", "outcome", "reason", "source_ip") == (*expected, "192.0.2.1")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (4624, ("login", "success", None)),
        (4634, ("logout", "success", None)),
        (4647, ("logout", "success", None)),
        (4740, ("account_lock", "failure", "locked")),
        (4767, ("account_unlock", "success", None)),
        (4648, ("explicit_login", "success", None)),
    ],
)
def test_other_auth_events(number: int, expected: tuple[str, str, str | None]) -> None:
    """What is no attempt has a word of its own."""
    assert picked(only(made(number, TargetUserName="ana")), "action", "outcome", "reason") == expected


def test_special_privileges_are_of_the_subject() -> None:
    """Event 4672 has no target."""
    assert picked(only(made(4672, SubjectUserName="root")), "action", "user_id") == (
        "privileged_login",
        "root",
    )


@pytest.mark.parametrize(
    ("name", "method"), [("Kerberos", "kerberos"), ("Negotiate", "password"), ("-", "password")]
)
def test_the_package_is_the_method(name: str, method: str) -> None:
    """Negotiate says only that one of the others was used."""
    assert only(made(4624, TargetUserName="ana", AuthenticationPackageName=name))["auth_method"] == method


def test_a_refused_object_is_a_failure() -> None:
    """Object access says so in its keywords only."""
    record = winlogbeat(4656, {"SubjectUserName": "ana", "ObjectName": "C:\\x"}, keywords=["Audit Failure"])
    record["event"].pop("outcome")
    assert picked(only(run_records(read, record)), "outcome", "resource_id") == ("failure", "C:\\x")


@pytest.mark.parametrize(
    ("keywords", "outcome"),
    [
        ("0x8010000000000000", "failure"),
        (-9218868437227405312, "failure"),
        ("0x8020000000000000", "success"),
        (-9214364837600034816, "success"),
        ("Audit Failure", "failure"),
    ],
)
def test_keywords_may_be_bits(keywords: str | int, outcome: str) -> None:
    """As the log keeps them, in hexadecimal or as a signed number."""
    record = flat(4663, {"SubjectUserName": "ana"}) | {"Keywords": keywords}
    assert only(run_records(read, record))["outcome"] == outcome


@pytest.mark.parametrize("absent", ["-", "", None])
def test_what_windows_leaves_out_is_absent(absent: str | None) -> None:
    """A hyphen is no user and no address."""
    event = only(made(4625, **FAILED | {"TargetUserName": absent, "IpAddress": absent}))
    assert picked(event, "user_id", "source_ip") == (None, None)


def test_other_events_and_channels_are_not_relevant() -> None:
    """Numbers mean other things in other logs."""
    _, report = run_records(
        read, flat(4688, {}), flat(4624, {}) | {"Channel": "Microsoft-Windows-Sysmon/Operational"}
    )
    assert dict(report.without_event) == {"other_event_id": 1, "other_channel": 1}


@pytest.mark.parametrize("lacking", ["EventID", "@timestamp"])
def test_a_record_without_number_or_time_is_not_understood(lacking: str) -> None:
    """And the report says so."""
    record = {name: value for name, value in flat(4624, FAILED).items() if name != lacking}
    assert "is missing" in "\n".join(run_records(read, record)[1].lines())
