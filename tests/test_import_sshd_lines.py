"""sshd's log, line by line: shapes, times and years, what an event's id is, and the account of all lines."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.event import AuthEvent
from tenantwatch.importers.importer import Importer, Line, Tenancy
from tenantwatch.importers.sshd import SshdReader
from tests.sshd_log import FAILED, line, read, read_one, times

# --- shapes of lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "program", ["sshd[7]", "sshd-session[7]", "sshd-auth[7]", "sshd", "/usr/sbin/sshd[7]"]
)
def test_every_name_of_sshd_is_read(program: str) -> None:
    """Since 9.8 a connection has a program of its own; some systems log the path."""
    assert read_one(FAILED, program=program)["source_ip"] == "192.0.2.1"


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("Jan  5 06:55:46", "2026-01-05T06:55:46.000Z"),
        ("Jan 15 06:55:46", "2026-01-15T06:55:46.000Z"),
        ("Jan  5 06:55:46.123456", "2026-01-05T06:55:46.123Z"),
        ("<38>Jan  5 06:55:46", "2026-01-05T06:55:46.000Z"),
        ("2025-01-05T06:55:46.123456+01:00", "2025-01-05T05:55:46.123Z"),
        ("2025-01-05T06:55:46.123456789Z", "2025-01-05T06:55:46.123Z"),
        ("2025-01-05T06:55:46+0100", "2025-01-05T05:55:46.000Z"),
        ("2025-01-05 06:55:46", "2025-01-05T06:55:46.000Z"),
        ("<38>2025-01-05T06:55:46-02:30", "2025-01-05T09:25:46.000Z"),
    ],
)
def test_every_shape_of_time_becomes_utc_milliseconds(stamp: str, time: str) -> None:
    """Classic syslog, RFC 3339 and journald's short-iso, with or without a priority."""
    assert times(stamp) == [time]


@pytest.mark.parametrize("data", ["-", r'[origin@1 x="a \"]\" b"][other y="1"]'])
@pytest.mark.parametrize(("pid", "attributes"), [("7", {"pid": 7}), ("-", {})])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_line_of_rfc_5424_is_read(data: str, pid: str, attributes: dict[str, int], mark: str) -> None:
    """As central servers keep them: with structured data, and a mark before a message in UTF-8."""
    events, _ = read(f"<38>1 2026-01-05T06:55:46.123456+01:00 web-1 sshd {pid} - {data} {mark}{FAILED}")
    [event] = events
    assert (event["time"], event["source_ip"]) == ("2026-01-05T05:55:46.123Z", "192.0.2.1")
    assert event["attributes"] == {"host": "web-1", "port": 4242} | attributes


@pytest.mark.parametrize("importance", ["auth.info", "authpriv.notice", "local7.err"])
def test_a_line_of_busybox_is_read(importance: str) -> None:
    """Its syslogd writes between host and program how important the line is."""
    assert read_one(FAILED, host=f"web-1 {importance}")["attributes"]["host"] == "web-1"


def test_a_line_of_rfc_5424_without_time_or_message() -> None:
    """Without a time nothing can be told; without a message nothing is."""
    _, report = read(f"<38>1 - web-1 sshd 7 - - {FAILED}", "<38>1 2026-01-05T06:55:46Z web-1 cron 7 - -")
    assert (report.not_understood, dict(report.without_event)) == (1, {"other_program": 1})


def test_times_without_zone_are_in_the_given_zone() -> None:
    """Also in the RFC 3339 shape, when it lacks an offset."""
    zone = timezone(timedelta(hours=2))
    assert times("Jan  5 06:55:46", "2026-01-05T06:55:46", zone=zone) == ["2026-01-05T04:55:46.000Z"] * 2


@pytest.mark.parametrize("end", ["\n", "\r\n", " \n", " [preauth]\n"])
def test_what_follows_the_message_does_not_matter(end: str) -> None:
    """Line ends of either kind, and sshd's mark of its unprivileged part."""
    events, _ = read(line(FAILED) + end)
    assert events[0]["attributes"]["port"] == 4242


def test_bytes_that_are_not_utf8_are_escaped_alike_however_the_file_was_opened() -> None:
    """Lone surrogates are no JSON, and the event must not depend on the reader's error handler."""
    raw = line("Failed password for invalid user caf\xe9 from 192.0.2.1 port 4242 ssh2").encode("latin-1")
    (surrogates,), _ = read(raw.decode(errors="surrogateescape"))
    (backslashes,), _ = read(raw.decode(errors="backslashreplace"))
    assert surrogates == backslashes
    assert surrogates["user_id"] == "caf\\xe9"


# --- the year ------------------------------------------------------------------------------------------


def test_the_year_goes_up_at_new_year() -> None:
    """The given year is the first line's."""
    assert times("Dec 31 23:59:59", "Jan  1 00:00:00", "Feb  1 00:00:00", year=2025) == [
        "2025-12-31T23:59:59.000Z",
        "2026-01-01T00:00:00.000Z",
        "2026-02-01T00:00:00.000Z",
    ]


def test_a_straggler_from_before_new_year_keeps_its_year() -> None:
    """Lines of several hosts come a little out of order."""
    stamps = ("Dec 31 23:59:58", "Jan  1 00:00:00", "Dec 31 23:59:59", "Jan  1 00:00:01")
    assert [time[:4] for time in times(*stamps, year=2025)] == ["2025", "2026", "2025", "2026"]


@pytest.mark.parametrize(
    ("stamp", "time"),
    [
        ("Jan  5 11:00:00", "2026-01-05T11:00:00.000Z"),
        ("Jan  5 13:00:00", "2025-01-05T13:00:00.000Z"),
        ("Dec 10 06:55:46", "2025-12-10T06:55:46.000Z"),
        ("Feb 29 06:55:46", "2024-02-29T06:55:46.000Z"),
    ],
)
def test_without_a_year_the_first_line_gets_the_latest_that_is_not_in_the_future(
    stamp: str, time: str
) -> None:
    """Logs are of the past; February 29 belongs to the last leap year."""
    assert times(stamp, year=None, now=datetime(2026, 1, 5, 12, tzinfo=UTC)) == [time]


def test_a_day_that_does_not_exist_is_not_understood() -> None:
    """February 29 of a year without one shows that the year is wrong: it must not become another day."""
    events, report = read(line(FAILED, stamp="Feb 29 06:55:46"), year=2026)
    assert events == []
    assert report.not_understood == 1


@pytest.mark.parametrize(
    "options", [{"year": 26}, {"year": None}, {"year": None, "now": datetime(2026, 1, 5)}]
)
def test_a_year_that_can_not_be_known_is_refused(options: dict[str, Any]) -> None:
    """Better than a log in the wrong century."""
    with pytest.raises(ValueError, match="year is"):
        SshdReader(zone=UTC, **options)


# --- identity ------------------------------------------------------------------------------------------


def test_importing_the_same_log_again_gives_the_same_ids() -> None:
    """The pipeline then recognises the repetition."""
    lines = [line(FAILED), line(FAILED), line(FAILED, host="web-2")]
    assert read(*lines)[0] == read(*lines)[0]


def test_identical_lines_have_distinct_ids() -> None:
    """Two attempts in one second are two attempts."""
    events, _ = read(line(FAILED), line(FAILED), line(FAILED, host="web-2"))
    assert len({event["event_id"] for event in events}) == 3


def test_ids_stay_distinct_when_the_memory_of_lines_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is bounded; identical lines that stand close together are still told apart."""
    monkeypatch.setattr("tenantwatch.importers.identity.REMEMBERED_EVENTS", 2)
    events, _ = read(*(line(FAILED, host=host) for host in ("web-1", "web-2", "web-1", "web-1")))
    assert len({event["event_id"] for event in events}) == 4


# --- accounting ----------------------------------------------------------------------------------------


def test_every_line_is_counted_once() -> None:
    """Events, known lines and unknown lines add up to the lines read."""
    events, report = read(
        line(FAILED),
        line("session opened for user root by (uid=0)", program="CRON[9]"),
        line("usb 1-1: new device", program="kernel"),
        "Jan  5 06:55:46 web-1 -- MARK --",
        "",
        line("a message of tomorrow's sshd"),
        "no syslog line",
    )
    assert len(events) == report.events_made == 1
    assert report.read == 7
    assert report.without_event == Counter(other_program=3, blank=1)
    assert report.not_understood == 2


def test_the_report_shows_the_first_lines_that_were_not_understood() -> None:
    """With their numbers, a few of them, and unable to control the terminal."""
    _, report = read(line(FAILED), *(f"\x1b[2J {number}" for number in range(9)))
    text = list(report.lines())
    assert text[:3] == [
        "10 lines read, 1 event made",
        "9 lines not understood",
        r"  line 2: no syslog line: '\x1b[2J 0'",
    ]
    assert text[-1] == "  and 4 more"


def test_events_are_made_while_lines_are_read() -> None:
    """A log of any size streams; nothing waits for its end."""
    importer = Importer(SshdReader(year=2026, zone=UTC).read, Tenancy("tenant-a"), "sshd")

    def endless() -> Any:
        while True:
            yield Line(line(FAILED))

    events = importer.events(endless())
    assert next(events)["outcome"] == "failure"
    assert importer.report.read == 1


# --- any line ------------------------------------------------------------------------------------------

ANY_TEXT = st.text(st.characters(codec=None))
SSHD_MESSAGES = st.one_of(
    ANY_TEXT,
    st.builds("Failed password for {} from {} port {} ssh2{}".format, *[ANY_TEXT] * 4),
    st.builds("error: PAM: {} for {} from {}".format, *[ANY_TEXT] * 3),
    st.builds("Invalid user {} from {} port {}".format, *[ANY_TEXT] * 3),
    st.builds("Connection closed by authenticating user {} {} port {} [preauth]".format, *[ANY_TEXT] * 3),
    st.builds("message repeated {} times: [ {}]".format, st.integers(0, 20), ANY_TEXT),
)
RFC_5424_LINES = st.builds(
    "<38>1 2026-01-05T06:55:46{} {} sshd {} - {} {}".format, *[ANY_TEXT] * 4, SSHD_MESSAGES
)
SSHD_LINES = st.builds(
    "{} web-1 {}: {}".format,
    st.one_of(
        st.datetimes().map(lambda time: f"{time:%b %e %H:%M:%S}"),
        st.datetimes().map(datetime.isoformat),
        ANY_TEXT,
    ),
    st.sampled_from(["sshd[7]", "sshd(pam_unix)[7]", "sshd[99999999999]", "sshd"]),
    SSHD_MESSAGES,
)


@given(st.lists(st.one_of(ANY_TEXT, SSHD_LINES, RFC_5424_LINES), max_size=4))
@example([line("Failed password for \udce9 from \ud800 port 99999 ssh2")])
@example([line(f"Failed password for {'x' * 9_000} from {'y' * 9_000} port 1 ssh2: {'z' * 9_000}")])
@example(["0001-01-01T00:00:00+14:00 h sshd: x", "9999-12-31T23:59:59-14:00 h sshd: x"])
def test_no_line_raises_and_every_event_keeps_the_contract(lines: list[str]) -> None:
    """Whatever is in a log, it is counted, and what is made of it is valid JSON of a valid event."""
    events, report = read(*lines)
    assert report.read == len(lines)
    assert report.events_made == len(events)
    for event in events:
        AuthEvent.model_validate_json(json.dumps(event, ensure_ascii=False))
