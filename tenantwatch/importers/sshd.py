"""OpenSSH's log lines turned into auth events."""

import re
from datetime import datetime, tzinfo
from itertools import repeat
from typing import Final

from tenantwatch.importers.importer import Fields, Line, Reading
from tenantwatch.importers.sshd_messages import (
    MODULE_PROGRAM,
    NO_CREDENTIALS,
    NO_GUESS,
    PROGRAMS,
    Attempt,
    Teller,
    read_message,
)
from tenantwatch.importers.syslog import SyslogLine, SyslogReader
from tenantwatch.importers.values import NotUnderstood, escape_surrogates, source_of

# rsyslog writes the repeated message again, syslogd only says that its last line came again. Up to five
# digits: both write at least every few minutes, so a larger number is no count of repetitions.
REPEATED: Final = re.compile(r"message repeated ([1-9]\d{0,4}) times: \[ (.*)\]", re.ASCII | re.DOTALL)
LAST_REPEATED: Final = re.compile(r"last message repeated ([1-9]\d{0,4}) times?", re.ASCII)

# Connections an attempt of which was told, and may be told again in other words.
REMEMBERED_CONNECTIONS: Final = 4_096


class SshdReader:
    """Reads the lines of an sshd log, in their order.

    One event per login attempt that the log tells of: each ``Failed`` and each ``Accepted`` line. Lines
    about the same attempt from elsewhere in the login stack (``pam_unix(sshd:auth)``,
    ``PAM 2 more authentication failures``) make none, with some exceptions, each for logs in which nothing
    else tells of the attempt:

    - ``Invalid user U from H``, and ``Connection closed by authenticating user U H port P``: of guesses at a
      server that takes only keys, sshd writes no more. The first ``Failed`` line after an ``Invalid user``
      that is a guess, and the end of a connection of which an attempt was told, make no event.

    - ``error: PAM: … for U from H``: with keyboard-interactive, sshd writes it for each refusal but the
      ``Failed`` line only for unknown users and late attempts. If that line follows, it makes no event.
    - ``sshd(pam_unix)[pid]``: the name pam_unix used until about 2005, on systems that kept sshd's own lines
      in another file. It counts until the first line of sshd's own about an attempt on the same host shows
      that this file has both; an attempt under way at that moment may then appear twice.

    Parameters
    ----------
    year
        Year of the first line, for logs that write none, or None to work it out from `now`.
    zone
        Zone of the times written without one.
    now
        The current time, with a zone; only needed without `year`.

    Raises
    ------
    ValueError
        If `year` is out of range, or neither `year` nor a `now` with a zone is given.

    Examples
    --------
    >>> from datetime import UTC
    >>> reader = SshdReader(year=2026, zone=UTC)
    >>> line = "Jan  5 06:55:46 web-1 sshd[7]: Failed password for root from 192.0.2.1 port 4242 ssh2"
    >>> [event] = reader.read(Line(line))
    >>> event["user_id"], event["source_ip"], event["outcome"], event["reason"]
    ('root', '192.0.2.1', 'failure', 'bad_password')
    """

    def __init__(self, *, year: int | None, zone: tzinfo, now: datetime | None = None) -> None:
        self._reader = SyslogReader(year=year, zone=zone, now=now)
        self._previous: SyslogLine | None = None
        self._hosts_with_daemon_lines: set[str] = set()
        # Who told last of a connection's user. A dictionary for its order: the oldest is the first to go.
        self._told: dict[tuple[str, int | None, str], Teller] = {}

    def read(self, line: Line) -> Reading:
        """Return a line's events, as many as it stands for, or the kind of a line without event.

        Bytes that are not UTF-8 may come as surrogates (``errors="surrogateescape"``); in events they are
        written ``\\xNN``.

        Raises
        ------
        NotUnderstood
            If it is no syslog line, or an unknown one of sshd's.
        """
        text = escape_surrogates(line.text).rstrip()
        if not text:
            return "blank"
        told = self._reader.read(text)
        previous, self._previous = self._previous, None
        if told is None:
            raise NotUnderstood("no syslog line")
        times = 1
        if told.program is None:
            repeated = LAST_REPEATED.fullmatch(told.message)
            if repeated is None or previous is None or previous.host != told.host:
                return "other_program"
            # syslogd's line stands for the whole line before it, at its own time.
            told, times = previous._replace(time=told.time), int(repeated[1])
        elif told.message.startswith("message repeated ") and (repeated := REPEATED.fullmatch(told.message)):
            told, times = told._replace(message=repeated[2]), int(repeated[1])
        self._previous = told
        return self._attempt(told, times)

    def _attempt(self, line: SyslogLine, times: int) -> Reading:
        program = line.program or ""
        if program not in PROGRAMS and not MODULE_PROGRAM.fullmatch(program):
            return "other_program"
        # Said by sshd's unprivileged part; which part says a thing changed from version to version.
        message = line.message.removesuffix(" [preauth]").rstrip()
        attempt = read_message(program, message)
        if attempt is None:
            raise NotUnderstood("unknown message of sshd's")
        if isinstance(attempt, str):
            return attempt
        if self._is_told_elsewhere(line, attempt):
            return "same_attempt"
        # One by one: a line may stand for more than memory would hold.
        return repeat(_event(line, attempt), attempt.times * times)

    def _is_told_elsewhere(self, line: SyslogLine, attempt: Attempt) -> bool:
        if attempt.teller is Teller.MODULE:
            return line.host in self._hosts_with_daemon_lines
        self._hosts_with_daemon_lines.add(line.host)
        connection = (line.host, line.pid, attempt.user)
        before = self._told.pop(connection, None)
        if attempt.teller is Teller.END:
            return before is not None
        if attempt.outcome == "success":
            return False
        # What is no guess is not the one that an ``Invalid user`` announced. Of refused keys the trail is to
        # have each; the question which methods there are tells nothing more of a connection.
        announced = before is Teller.ANNOUNCEMENT and attempt.reason in NO_GUESS
        self._told[connection] = Teller.ANNOUNCEMENT if announced else attempt.teller
        if len(self._told) > REMEMBERED_CONNECTIONS:
            del self._told[next(iter(self._told))]
        if announced:
            return attempt.reason == NO_CREDENTIALS
        if before is Teller.CONVERSATION:
            return attempt.teller is Teller.DAEMON and attempt.auth_method == "keyboard_interactive"
        return before is Teller.ANNOUNCEMENT and attempt.teller is not Teller.ANNOUNCEMENT


def _event(line: SyslogLine, attempt: Attempt) -> Fields:
    source_ip, source_attributes = source_of(attempt.source)
    attributes = {"host": line.host, "pid": line.pid, "port": attempt.port, "credential": attempt.credential}
    return {
        "kind": "auth",
        "time": line.time,
        # sshd itself cuts names at 100 bytes, so a longer one was escaped above or is forged.
        "user_id": attempt.user,
        "source_ip": source_ip,
        "outcome": attempt.outcome,
        "reason": attempt.reason,
        "action": "login",
        "auth_method": attempt.auth_method,
        "attributes": attributes | source_attributes,
    }
