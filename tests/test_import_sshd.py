"""sshd's log lines become auth events: what counts as an attempt, and whose it was."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.event import AuthEvent
from tenantwatch.importers.importer import Importer, Line, Tenancy
from tenantwatch.importers.report import ImportReport
from tenantwatch.importers.sshd import SshdReader

FAILED = "Failed password for root from 192.0.2.1 port 4242 ssh2"


def line(
    message: str, *, stamp: str = "Jan  5 06:55:46", program: str = "sshd[7]", host: str = "web-1"
) -> str:
    return f"{stamp} {host} {program}: {message}"


def read(*lines: str, **options: Any) -> tuple[list[dict[str, Any]], ImportReport]:
    settings: dict[str, Any] = {"year": 2026, "zone": UTC} | options
    importer = Importer(SshdReader(**settings).read, Tenancy("tenant-a"), "sshd")
    absent = dict.fromkeys(("user_id", "source_ip", "reason", "auth_method"))
    return [absent | event for event in importer.events(map(Line, lines))], importer.report


def read_one(message: str, **parts: str) -> dict[str, Any]:
    events, _ = read(line(message, **parts))
    assert len(events) == 1, f"{len(events)} events from {message!r}"
    return events[0]


def kinds(*lines: str) -> dict[str, int]:
    events, report = read(*lines)
    assert events == []
    return dict(report.without_event)


def times(*stamps: str, **options: Any) -> list[str]:
    events, _ = read(*(line(FAILED, stamp=stamp) for stamp in stamps), **options)
    return [event["time"] for event in events]


# --- attempts -------------------------------------------------------------------------------------------


def test_a_failed_password_is_a_failed_login() -> None:
    """Every field of the contract is filled from the one line."""
    event = read_one(FAILED)
    assert event.pop("event_id")
    assert event == {
        "kind": "auth",
        "tenant_id": "tenant-a",
        "time": "2026-01-05T06:55:46.000Z",
        "service": "sshd",
        "user_id": "root",
        "source_ip": "192.0.2.1",
        "outcome": "failure",
        "reason": "bad_password",
        "action": "login",
        "auth_method": "password",
        "attributes": {"host": "web-1", "pid": 7, "port": 4242},
    }


def test_an_accepted_key_is_a_successful_login_and_names_the_key() -> None:
    """Which key let somebody in is worth keeping."""
    event = read_one("Accepted publickey for bob from 192.0.2.1 port 4242 ssh2: ED25519 SHA256:abc")
    assert (event["outcome"], event["reason"], event["auth_method"]) == ("success", None, "publickey")
    assert event["attributes"]["credential"] == "ED25519 SHA256:abc"


@pytest.mark.parametrize("word", ["invalid user", "illegal user"])
def test_an_unknown_user_is_the_reason(word: str) -> None:
    """Old and new sshd say it in different words."""
    event = read_one(f"Failed password for {word} bob from 192.0.2.1 port 4242 ssh2")
    assert (event["user_id"], event["reason"]) == ("bob", "unknown_user")


@pytest.mark.parametrize(
    ("method", "auth_method", "reason"),
    [
        ("password", "password", "bad_password"),
        ("none", "none", "no_credentials"),
        ("publickey", "publickey", "key_refused"),
        ("hostbased", "hostbased", "key_refused"),
        ("keyboard-interactive/pam", "keyboard_interactive", "bad_response"),
        ("gssapi-with-mic", "kerberos", "ticket_refused"),
        ("made-up-by-the-client", "other", "refused"),
    ],
)
def test_each_method_has_a_word_of_the_contract_and_a_reason(
    method: str, auth_method: str, reason: str
) -> None:
    """Methods become the contract's words; a word that sshd does not know does not become one of ours."""
    event = read_one(f"Failed {method} for root from 192.0.2.1 port 4242 ssh2")
    assert (event["auth_method"], event["reason"]) == (auth_method, reason)


def test_a_repeated_message_is_as_many_events() -> None:
    """rsyslog folds repetitions; each was an attempt."""
    events, report = read(line(FAILED), line(f"message repeated 5 times: [ {FAILED}]"))
    assert len(events) == 6
    assert report.events_made == 6
    assert len({event["event_id"] for event in events}) == 6


def test_syslogds_last_message_repeated_is_as_many_events() -> None:
    """Syslogd folds repetitions without saying of what; they happened at its own line's time."""
    events, _ = read(line(FAILED), "Jan  5 06:56:00 web-1 last message repeated 2 times")
    assert [event["time"][11:19] for event in events] == ["06:55:46", "06:56:00", "06:56:00"]


@pytest.mark.parametrize(
    "between",
    [
        [line("session opened", program="CRON[9]")],
        ["Jan  5 06:55:47 web-1 -- MARK --"],
        ["no syslog line"],
    ],
)
def test_a_repetition_of_another_programs_line_is_no_event(between: list[str]) -> None:
    """What was repeated is the line just before, not sshd's last one."""
    events, _ = read(line(FAILED), *between, "Jan  5 06:56:00 web-1 last message repeated 2 times")
    assert len(events) == 1


def test_a_repetition_on_another_host_is_no_event() -> None:
    """In a central log the line before may be another host's."""
    events, _ = read(line(FAILED), "Jan  5 06:56:00 web-2 last message repeated 2 times")
    assert len(events) == 1


# --- who and whence -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "user_id"),
    [
        (" 0101", " 0101"),
        ("two words", "two words"),
        ("", None),
        ("from 192.0.2.9", "from 192.0.2.9"),
        ("root from 192.0.2.9 port 22 ssh2", "root from 192.0.2.9 port 22 ssh2"),
        ("root from 192.0.2.9 port 22 ssh2: x", "root from 192.0.2.9 port 22 ssh2: x"),
        ("Müller", "Müller"),
    ],
)
def test_a_user_name_may_be_anything_and_does_not_move_the_source(name: str, user_id: str | None) -> None:
    """The client chooses the name, so the line is parsed from the right."""
    event = read_one(f"Failed password for invalid user {name} from 192.0.2.1 port 4242 ssh2")
    assert (event["user_id"], event["source_ip"]) == (user_id, "192.0.2.1")


@pytest.mark.parametrize(
    ("source", "source_ip", "attributes"),
    [
        ("2001:db8::1", "2001:db8::1", {}),
        ("2001:DB8:0::1", "2001:db8::1", {}),
        ("::ffff:192.0.2.1", "192.0.2.1", {}),
        ("fe80::1%eth0", "fe80::1", {"source_zone": "eth0"}),
        ("host.example.com", None, {"source_host": "host.example.com"}),
        ("UNKNOWN", None, {}),
    ],
)
def test_the_source_is_an_address_or_kept_as_a_name(
    source: str, source_ip: str | None, attributes: dict[str, str]
) -> None:
    """Only an address goes into source_ip, in one spelling; a host name is kept beside it."""
    event = read_one(f"Failed password for root from {source} port 4242 ssh2")
    assert event["source_ip"] == source_ip
    assert event["attributes"] == {"host": "web-1", "pid": 7, "port": 4242} | attributes


def test_lines_of_the_oldest_sshd_are_read() -> None:
    """Protocol 1 wrote no protocol, and a port was not always there."""
    assert read_one("Failed password for root from 192.0.2.1 port 4242")["attributes"]["port"] == 4242
    assert "port" not in read_one("Failed password for root from 192.0.2.1")["attributes"]


# --- the same attempt told twice ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("input_userauth_request: invalid user bob [preauth]", "invalid_user"),
        ("pam_unix(sshd:auth): authentication failure; uid=0 tty=ssh rhost=192.0.2.1  user=root", "pam"),
        ("pam_unix(sshd:session): session opened for user bob(uid=1) by (uid=0)", "pam"),
        ("PAM 2 more authentication failures; uid=0 tty=ssh rhost=192.0.2.1  user=root", "pam"),
        (
            "error: maximum authentication attempts exceeded for root from 192.0.2.1 port 9 ssh2 [preauth]",
            "too_many_failures",
        ),
        ("Disconnecting: Too many authentication failures for root [preauth]", "too_many_failures"),
        ("Connection closed by 192.0.2.1 port 4242 [preauth]", "disconnected"),
        ("Disconnected from user root 192.0.2.1 port 4242", "disconnected"),
        (
            "Disconnecting authenticating user root 192.0.2.1 port 4242: Change of username or service not "
            "allowed: (root,ssh-connection) -> (bob 192.0.2.9 port 22,ssh-connection) [preauth]",
            "disconnected",
        ),
        ("Received disconnect from 192.0.2.1: 11: Bye Bye [preauth]", "disconnected"),
        ("Postponed publickey for bob from 192.0.2.1 port 4242 ssh2 [preauth]", "not_finished"),
        ("Partial publickey for bob from 192.0.2.1 port 4242 ssh2: RSA SHA256:abc", "not_finished"),
        ("Accepted key RSA SHA256:abc found at /etc/ssh/authorized_keys/bob:1", "key"),
        ("User root from 192.0.2.1 not allowed because not listed in AllowUsers", "user_refused"),
        ("error: kex_exchange_identification: Connection closed by remote host", "not_ssh"),
        ("reverse mapping checking getaddrinfo for host.example.com [192.0.2.1] failed.", "name_lookup"),
        ("Server listening on 0.0.0.0 port 22.", "daemon"),
    ],
)
def test_other_messages_are_known_and_carry_no_event(message: str, kind: str) -> None:
    """They tell of an attempt that has its own line, or of none."""
    assert kinds(line(message)) == {kind: 1}


def test_a_refused_conversation_is_one_event_when_nothing_else_tells_of_it() -> None:
    """With keyboard-interactive, early failures of a known user have no Failed line."""
    event = read_one("error: PAM: Authentication failure for root from 192.0.2.1")
    assert (event["user_id"], event["source_ip"]) == ("root", "192.0.2.1")
    assert (event["outcome"], event["reason"]) == ("failure", "bad_response")


def test_a_refused_conversation_of_an_unknown_user_says_so() -> None:
    """sshd calls them illegal here, whatever its version."""
    event = read_one("error: PAM: Authentication failure for illegal user bob from 192.0.2.1 via 192.0.2.7")
    assert (event["user_id"], event["source_ip"], event["reason"]) == ("bob", "192.0.2.1", "unknown_user")


def test_a_refusal_after_too_many_tries_names_the_user() -> None:
    """PAM's text for it ends in words that look like the beginning of the name."""
    text = "Have exhausted maximum number of retries for service"
    assert read_one(f"error: PAM: {text} for root from 192.0.2.1")["user_id"] == "root"


def test_a_failed_line_after_its_refused_conversation_is_the_same_attempt() -> None:
    """The two lines of one connection are one attempt; the next pair is the next."""
    refused = line("error: PAM: Authentication failure for illegal user bob from 192.0.2.1")
    failed = line("Failed keyboard-interactive/pam for invalid user bob from 192.0.2.1 port 4242 ssh2")
    events, report = read(refused, failed, refused, failed)
    assert len(events) == 2
    assert report.without_event == Counter(same_attempt=2)


def test_a_refused_conversation_hides_no_other_connections_failure() -> None:
    """Connections are told apart by their process."""
    events, _ = read(
        line("error: PAM: Authentication failure for bob from 192.0.2.1"),
        line("Failed keyboard-interactive/pam for bob from 192.0.2.2 port 4242 ssh2", program="sshd[8]"),
    )
    assert [event["source_ip"] for event in events] == ["192.0.2.1", "192.0.2.2"]


def test_a_refused_conversation_hides_no_failed_password() -> None:
    """A client that falls back to the password makes another attempt."""
    events, _ = read(line("error: PAM: Authentication failure for root from 192.0.2.1"), line(FAILED))
    assert [event["auth_method"] for event in events] == ["keyboard_interactive", "password"]


# --- servers that take only keys -------------------------------------------------------------------------

INVALID = "Invalid user bob from 192.0.2.1 port 4242"
ENDS = [
    "Connection closed by {} 192.0.2.1 port 4242 [preauth]",
    "Connection reset by {} 192.0.2.1 port 4242 [preauth]",
    "Disconnected from {} 192.0.2.1 port 4242 [preauth]",
    "Disconnecting {} 192.0.2.1 port 4242: Too many authentication failures [preauth]",
]


def test_an_unknown_user_is_an_event_when_nothing_else_tells_of_it() -> None:
    """Of a guess at a server that takes only keys, sshd writes no more."""
    event = read_one(INVALID)
    assert (event["user_id"], event["source_ip"], event["outcome"]) == ("bob", "192.0.2.1", "failure")
    assert (event["reason"], event["auth_method"]) == ("unknown_user", None)
    assert event["attributes"]["port"] == 4242


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("user", "reason"), [("invalid user root", "unknown_user"), ("authenticating user root", "refused")]
)
def test_a_connection_that_ends_without_a_login_is_an_event_when_nothing_else_tells_of_it(
    end: str, user: str, reason: str
) -> None:
    """A known user whose keys were refused is told of at the end only."""
    event = read_one(end.format(user))
    assert (event["user_id"], event["source_ip"], event["reason"]) == ("root", "192.0.2.1", reason)
    assert event["attributes"]["port"] == 4242


@pytest.mark.parametrize("end", ENDS)
def test_an_unknown_users_connection_is_one_attempt(end: str) -> None:
    """From its beginning to its end."""
    ending = line(end.format("invalid user bob"))
    events, report = read(line(INVALID), ending, line(INVALID), ending)
    assert len(events) == 2
    assert report.without_event == Counter(same_attempt=2)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    ("messages", "user"),
    [
        ([FAILED], "authenticating user root"),
        ([INVALID, FAILED.replace("root", "invalid user bob")], "invalid user bob"),
        (
            [
                INVALID,
                "error: PAM: Authentication failure for illegal user bob from 192.0.2.1",
                "Failed keyboard-interactive/pam for invalid user bob from 192.0.2.1 port 4242 ssh2",
            ],
            "invalid user bob",
        ),
        (["error: PAM: Authentication failure for root from 192.0.2.1"], "authenticating user root"),
    ],
)
def test_an_attempt_that_is_told_in_several_ways_is_one_event(
    messages: list[str], user: str, end: str
) -> None:
    """Servers that take passwords write all of these."""
    events, report = read(*map(line, messages), line(end.format(user)))
    assert len(events) == 1
    assert report.without_event == Counter(same_attempt=len(messages))


def test_each_further_password_of_an_unknown_user_is_an_attempt() -> None:
    """Only the first is the one that `Invalid user` announced."""
    failed = line(FAILED.replace("root", "invalid user bob"))
    events, _ = read(line(INVALID), failed, failed, failed)
    assert len(events) == 3


def test_after_a_login_a_process_number_may_come_again() -> None:
    """The next connection's end is its own."""
    events, _ = read(
        line(FAILED),
        line("Accepted password for root from 192.0.2.1 port 4242 ssh2"),
        line(ENDS[0].format("authenticating user root")),
    )
    assert [event["reason"] for event in events] == ["bad_password", None, "refused"]


def test_a_name_in_an_ending_does_not_move_the_source() -> None:
    """The client chooses it."""
    event = read_one(ENDS[0].format("invalid user bob 192.0.2.9 port 22: Too many authentication failures"))
    assert event["source_ip"] == "192.0.2.1"


# --- pam_unix on systems whose sshd writes elsewhere ----------------------------------------------------

OLD = "sshd(pam_unix)[7]"
OLD_FAILURE = "authentication failure; logname= uid=0 euid=0 tty=NODEVssh ruser= rhost=192.0.2.1  user=root"


def test_an_old_systems_pam_failure_is_an_event() -> None:
    """It is the only record that such a log has."""
    event = read_one(OLD_FAILURE, program=OLD)
    assert (event["user_id"], event["source_ip"], event["reason"]) == ("root", "192.0.2.1", "bad_password")


def test_an_old_systems_pam_failure_without_user_is_an_unknown_user() -> None:
    """pam_unix does not write names it does not know."""
    event = read_one(OLD_FAILURE.removesuffix("  user=root"), program=OLD)
    assert (event["user_id"], event["reason"]) == (None, "unknown_user")


def test_an_old_systems_further_failures_are_as_many_events() -> None:
    """pam_unix writes a connection's first failure and then only the number of the others."""
    events, _ = read(line(OLD_FAILURE, program=OLD), line(f"2 more {OLD_FAILURE}", program=OLD))
    assert len(events) == 3


def test_an_old_systems_session_is_a_success_from_nowhere() -> None:
    """That somebody got in is worth knowing even without the address."""
    event = read_one("session opened for user bob by (uid=509)", program=OLD)
    assert (event["user_id"], event["outcome"], event["source_ip"]) == ("bob", "success", None)


def test_an_old_systems_pam_lines_stop_counting_once_sshd_tells_of_attempts_itself() -> None:
    """A log with both would have every attempt twice."""
    events, report = read(line(FAILED), line(OLD_FAILURE, program=OLD))
    assert len(events) == 1
    assert report.without_event == Counter(same_attempt=1)


def test_an_old_systems_pam_lines_count_beside_another_hosts_sshd() -> None:
    """A central log holds hosts of both sorts."""
    events, _ = read(line(FAILED, host="web-1"), line(OLD_FAILURE, program=OLD, host="web-2"))
    assert len(events) == 2


def test_an_old_systems_other_pam_lines_carry_no_event() -> None:
    """Checks and the end of a session tell of no attempt."""
    lines = [line(text, program=OLD) for text in ("check pass; user unknown", "session closed for user bob")]
    assert kinds(*lines) == {"pam": 2}


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
    st.builds("message repeated {} times: [ {}]".format, st.integers(0, 20), ANY_TEXT),
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


@given(st.lists(st.one_of(ANY_TEXT, SSHD_LINES), max_size=4))
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
