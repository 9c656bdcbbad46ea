"""What is the same for every source: limits, ids, tenants, validation."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantwatch.importers import auth0, cloudtrail, entra, okta, windows
from tenantwatch.importers.importer import Importer, Line, Tenancy
from tenantwatch.importers.values import NotUnderstood, source_of, time_of
from tests.importing import TENANT, only, run_lines, run_records

EVENT = {"kind": "auth", "time": "2026-01-05T08:00:00Z", "action": "login", "outcome": "success"}


def made(**fields: Any) -> dict[str, Any]:
    return only(run_lines(lambda line: EVENT | fields, "a line"))


def test_long_texts_are_cut_to_the_contracts_limits() -> None:
    """A name of any length must not cost the event."""
    event = made(user_id="u" * 999, reason="r" * 999, user_agent="a" * 9999)
    assert (len(event["user_id"]), len(event["reason"]), len(event["user_agent"])) == (256, 64, 1024)


@pytest.mark.parametrize("text", ["x" * 9_000, "\u0000" * 9_000, "€" * 9_000, "\ud800" * 9_000])
def test_attributes_are_cut_to_fit_together(text: str) -> None:
    """Thirty-two long ones would be more than the contract keeps."""
    event = made(attributes={f"attribute_{n:02}": text for n in range(32)})
    assert len(event["attributes"]) == 32


def test_what_holds_nothing_is_left_out() -> None:
    """Also numbers that JSON has not."""
    event = made(
        user_id="", session_id=None, attributes={"a": None, "b": "", "c": float("nan"), "d": float("inf")}
    )
    assert set(event) == {"event_id", "tenant_id", "service", *EVENT}


def test_a_sources_id_is_kept_unless_it_is_too_long() -> None:
    """A long one becomes a digest of itself, not the beginning that it may share with others."""
    assert made(event_id="x" * 64)["event_id"] == "x" * 64
    ids = {made(event_id="x" * 64 + end)["event_id"] for end in "ab"}
    assert len(ids) == 2
    assert max(map(len, ids)) <= 64


def test_an_id_is_made_of_tenant_time_and_text() -> None:
    """The same line of another year or tenant is another event."""
    lines = [Line("a line")]
    years = [
        Importer(lambda line, y=y: EVENT | {"time": f"{y}-01-05T08:00:00Z"}, TENANT, "s")
        for y in (2025, 2026)
    ]
    other = Importer(lambda line: EVENT, Tenancy("tenant-b"), "s")
    ids = {next(importer.events(lines))["event_id"] for importer in (*years, other)}
    assert len(ids) == 3


def test_an_event_that_the_contract_refuses_is_reported_and_not_written() -> None:
    """What is written is what the pipeline takes."""
    events, report = run_lines(lambda line: EVENT | {"source_ip": "nowhere"}, "a line")
    assert events == []
    assert "source_ip" in report.examples[0][1]


def test_a_report_cannot_steer_the_terminal() -> None:
    """Whoever writes to a log must not write to the reader's terminal, nor by a reason."""

    def read(line: Line) -> Any:
        raise NotUnderstood(f"found {line.text}")

    _, report = run_lines(read, "\x1b[2J")
    assert "\x1b" not in "".join(report.lines())


@pytest.mark.parametrize(
    ("value", "time"),
    [
        ("2026-01-05T08:00:00Z", "2026-01-05T08:00:00.000Z"),
        ("2026-01-05T09:00:00.5+01:00", "2026-01-05T08:00:00.500Z"),
        ("2026-01-05 08:00:00.123456789", "2026-01-05T08:00:00.123Z"),
        ("2026-01-05 08:00:00 UTC", "2026-01-05T08:00:00.000Z"),
        (1767600000, "2026-01-05T08:00:00.000Z"),
        (1767600000.123, "2026-01-05T08:00:00.123Z"),
        ("1767600000123", "2026-01-05T08:00:00.123Z"),
        ("/Date(1767600000123)/", "2026-01-05T08:00:00.123Z"),
    ],
)
def test_times_are_read_in_their_usual_forms(value: object, time: str) -> None:
    """And written in one."""
    assert time_of(value) == time


@pytest.mark.parametrize(
    "value", [None, "", "yesterday", "2026-02-30T08:00:00Z", "0001-01-01T00:00:00Z", 1e30, True, [], "9" * 30]
)
def test_what_is_no_time_is_refused(value: object) -> None:
    """With the field's name."""
    with pytest.raises(NotUnderstood, match="published is"):
        time_of(value, "published")


@pytest.mark.parametrize(
    ("source", "address"),
    [("192.0.2.1:4242", "192.0.2.1"), ("[2001:db8::1]:443", "2001:db8::1"), ("[2001:db8::1]", "2001:db8::1")],
)
def test_an_address_may_come_with_a_port(source: str, address: str) -> None:
    """Azure writes it so at times."""
    assert source_of(source) == (address, {})


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["0x6", "Failure"]),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=5), values, max_size=3),
    max_leaves=5,
)
SEEDS: dict[Any, dict[str, Any]] = {
    okta.read: {"eventType": "user.session.start", "published": "2026-01-05T08:00:00Z"},
    auth0.read: {"type": "sapi", "date": "2026-01-05T08:00:00Z"},
    entra.read: {"category": "SignInLogs", "createdDateTime": "2026-01-05T08:00:00Z"},
    cloudtrail.read: {"eventName": "ConsoleLogin", "eventTime": "2026-01-05T08:00:00Z"},
    windows.read: {"EventID": 4625, "@timestamp": "2026-01-05T08:00:00Z"},
}
PATHS = """
actor actor.id client client.ipAddress client.userAgent outcome outcome.result outcome.reason target
request request.ipChain debugContext user_name details details.request details.response.statusCode ip
strategy log_id data properties status status.errorCode authenticationDetails isInteractive ipAddress
resultType id userIdentity userIdentity.arn userIdentity.type responseElements additionalEventData
errorCode resources requestParameters eventID sourceIPAddress Status SubStatus LogonType TargetUserName
IpAddress EventData winlog
"""


@settings(deadline=None)
@given(st.sampled_from(list(SEEDS)), st.dictionaries(st.sampled_from(PATHS.split()), VALUES, max_size=4))
def test_no_record_raises_whatever_its_fields_hold(reader: Any, fields: dict[str, Any]) -> None:
    """Vendors change their shapes; every record is then counted, and what is made of it is valid."""
    record = json.loads(json.dumps(SEEDS[reader]))
    for path, value in fields.items():
        *parents, last = path.split(".")
        node = record
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else {}
        if isinstance(node, dict):
            node[last] = value
    _, report = run_records(reader, record)
    assert report.read == 1
