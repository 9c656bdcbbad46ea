"""sshd's log lines become auth events: what counts as an attempt, and whose it was."""

from collections import Counter

import pytest

from tests.sshd_log import FAILED, kinds, line, read, read_one

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


KEY = "Failed publickey for invalid user bob from 192.0.2.1 port 4242 ssh2: RSA SHA256:{}"
NONE = "Failed none for invalid user bob from 192.0.2.1 port 4242 ssh2"


def test_refused_keys_of_an_unknown_user_are_no_guesses() -> None:
    """Whoever mistypes their own name offers a key after the other all the same; each is kept."""
    events, _ = read(
        line(INVALID), *(line(KEY.format(i)) for i in range(5)), line(ENDS[0].format("invalid user bob"))
    )
    assert [event["reason"] for event in events] == ["unknown_user", *["key_refused"] * 5]


@pytest.mark.parametrize("before", [[NONE], [NONE, KEY.format(1)]])
def test_a_password_after_what_is_no_guess_is_the_announced_attempt(before: list[str]) -> None:
    """Clients ask which methods there are, and offer their keys, before anybody types."""
    failed = line(FAILED.replace("root", "invalid user bob"))
    events, _ = read(line(INVALID), *map(line, before), failed, failed)
    assert [event["reason"] for event in events if event["reason"] != "key_refused"] == ["unknown_user"] * 2


def test_the_question_for_methods_tells_of_no_further_attempt() -> None:
    """Where nothing else tells of the connection, it is an event, but no guess."""
    assert len(read(line(INVALID), line(NONE))[0]) == 1
    assert read_one(NONE)["reason"] == "no_credentials"


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
