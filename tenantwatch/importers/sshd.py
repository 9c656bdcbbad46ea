"""OpenSSH's log lines turned into auth events."""

import ipaddress
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, tzinfo
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from tenantwatch.importers.report import ImportReport
from tenantwatch.importers.sshd_messages import MODULE_PROGRAM, PROGRAMS, Attempt, Teller, read_message
from tenantwatch.importers.syslog import SyslogLine, SyslogReader, escape_surrogates

# rsyslog writes the repeated message again, syslogd only says that its last line came again. Up to five
# digits: both write at least every few minutes, so a larger number is no count of repetitions.
REPEATED: Final = re.compile(r"message repeated ([1-9]\d{0,4}) times: \[ (.*)\]", re.ASCII | re.DOTALL)
LAST_REPEATED: Final = re.compile(r"last message repeated ([1-9]\d{0,4}) times?", re.ASCII)

# Identical lines are told apart by counting them. How many different ones are remembered is bounded, so
# that a log of any length streams; they are identical in their second, so they stand close together.
REMEMBERED_EVENTS: Final = 50_000
# Connections with a refused conversation whose `Failed` line, if any, has not come yet.
REMEMBERED_REFUSALS: Final = 4_096

# The contract's limit, and what is left of a key's description in the 8 KiB of all attributes.
USER_ID_CHARACTERS: Final = 256
ATTRIBUTE_CHARACTERS: Final = 256


class SshdImporter:
    """Turns the lines of an sshd log into auth events of the contract, in their order.

    One event per login attempt that the log tells of: each ``Failed`` and each ``Accepted`` line. Lines
    about the same attempt from elsewhere in the login stack (``pam_unix(sshd:auth)``, ``Invalid user``,
    ``PAM 2 more authentication failures``) make none, with two exceptions, each for logs in which nothing
    else tells of the attempt:

    - ``error: PAM: … for U from H``: with keyboard-interactive, sshd writes it for each refusal but the
      ``Failed`` line only for unknown users and late attempts. If that line follows, it makes no event.
    - ``sshd(pam_unix)[pid]``: the name pam_unix used until about 2005, on systems that kept sshd's own lines
      in another file. It counts until the first line of sshd's own about an attempt on the same host shows
      that this file has both; an attempt under way at that moment may then appear twice.

    Parameters
    ----------
    tenant_id
        The tenant that the events belong to.
    year
        Year of the first line, for logs that write none, or None to work it out from `now`.
    zone
        Zone of the times written without one.
    now
        The current time, with a zone; only needed without `year`.
    service
        Who reports the events.

    Raises
    ------
    ValueError
        If `year` is out of range, or neither `year` nor a `now` with a zone is given.

    Examples
    --------
    >>> from datetime import UTC
    >>> importer = SshdImporter("tenant-a", year=2026, zone=UTC)
    >>> line = "Jan  5 06:55:46 web-1 sshd[7]: Failed password for root from 192.0.2.1 port 4242 ssh2"
    >>> event, = importer.events([line])
    >>> event["user_id"], event["source_ip"], event["outcome"], event["reason"]
    ('root', '192.0.2.1', 'failure', 'bad_password')
    """

    def __init__(
        self,
        tenant_id: str,
        *,
        year: int | None,
        zone: tzinfo,
        now: datetime | None = None,
        service: str = "sshd",
    ) -> None:
        self.report = ImportReport()
        self._tenant_id = tenant_id
        self._service = service
        self._reader = SyslogReader(year=year, zone=zone, now=now)
        self._previous: SyslogLine | None = None
        self._hosts_with_daemon_lines: set[str] = set()
        # Dictionaries for their order: the oldest is the first to go.
        self._refusals: dict[tuple[str, int | None], None] = {}
        self._occurrences: dict[str, int] = {}
        self._older_occurrences: dict[str, int] = {}

    def events(self, lines: Iterable[str]) -> Iterator[dict[str, object]]:
        """Yield the events of `lines` in their order, and count every line in `report`.

        Parameters
        ----------
        lines
            The log's lines, with or without line ends. Bytes that are not UTF-8 may come as surrogates
            (``errors="surrogateescape"``); in events they are written ``\\xNN``.

        Yields
        ------
        dict
            An auth event, ready for ``json.dumps``.
        """
        report = self.report
        for raw in lines:
            report.lines_read += 1
            text = escape_surrogates(raw).rstrip()
            read = self._read(text)
            if isinstance(read, str):
                report.count_without_event(read)
            elif read is None:
                report.count_not_understood(report.lines_read, text)
            else:
                line, attempt = read
                for _ in range(attempt.times):
                    report.events_made += 1
                    yield self._event(line, attempt)

    def _read(self, text: str) -> tuple[SyslogLine, Attempt] | str | None:
        """Return a line and its attempt, or the kind of a line without event, or None."""
        if not text:
            return "blank"
        line = self._reader.read(text)
        previous, self._previous = self._previous, None
        if line is None:
            return None
        times = 1
        if line.program is None:
            repeated = LAST_REPEATED.fullmatch(line.message)
            if repeated is None or previous is None or previous.host != line.host:
                return "other_program"
            # syslogd's line stands for the whole line before it, at its own time.
            line, times = previous._replace(time=line.time), int(repeated[1])
        elif line.message.startswith("message repeated ") and (repeated := REPEATED.fullmatch(line.message)):
            line, times = line._replace(message=repeated[2]), int(repeated[1])
        self._previous = line
        return self._attempt(line, times)

    def _attempt(self, line: SyslogLine, times: int) -> tuple[SyslogLine, Attempt] | str | None:
        program = line.program or ""
        if program not in PROGRAMS and not MODULE_PROGRAM.fullmatch(program):
            return "other_program"
        # Said by sshd's unprivileged part; which part says a thing changed from version to version.
        message = line.message.removesuffix(" [preauth]").rstrip()
        attempt = read_message(program, message)
        if not isinstance(attempt, Attempt):
            return attempt
        if self._is_told_elsewhere(line, attempt):
            return "same_attempt"
        if times > 1:
            attempt = attempt._replace(times=attempt.times * times)
        return line, attempt

    def _is_told_elsewhere(self, line: SyslogLine, attempt: Attempt) -> bool:
        if attempt.teller is Teller.MODULE:
            return line.host in self._hosts_with_daemon_lines
        self._hosts_with_daemon_lines.add(line.host)
        connection = (line.host, line.pid)
        if attempt.teller is Teller.CONVERSATION:
            self._refusals[connection] = None
            if len(self._refusals) > REMEMBERED_REFUSALS:
                del self._refusals[next(iter(self._refusals))]
            return False
        if attempt.auth_method == "keyboard_interactive" and connection in self._refusals:
            del self._refusals[connection]
            return attempt.outcome == "failure"
        return False

    def _event(self, line: SyslogLine, attempt: Attempt) -> dict[str, object]:
        source_ip, source_attributes = _source(attempt.source)
        attributes: dict[str, str | int] = {"host": line.host}
        if line.pid is not None:
            attributes["pid"] = line.pid
        if attempt.port is not None:
            attributes["port"] = attempt.port
        if attempt.credential is not None:
            attributes["credential"] = attempt.credential[:ATTRIBUTE_CHARACTERS]
        attributes.update(source_attributes)
        return {
            "event_id": self._event_id(line),
            "kind": "auth",
            "tenant_id": self._tenant_id,
            "time": line.time,
            "service": self._service,
            # sshd itself cuts names at 100 bytes, so a longer one was escaped above or is forged.
            "user_id": attempt.user[:USER_ID_CHARACTERS] or None,
            "source_ip": source_ip,
            "outcome": attempt.outcome,
            "reason": attempt.reason,
            "action": "login",
            "auth_method": attempt.auth_method,
            "attributes": attributes,
        }

    def _event_id(self, line: SyslogLine) -> str:
        """Derive the id from the line, so that importing a log again repeats ids and adds no events."""
        told = f"{self._tenant_id}\0{line.host}\0{line.pid}\0{line.time}\0{line.message}"
        digest = blake2b(told.encode(), digest_size=16).hexdigest()
        occurrence = self._occurrences.get(digest) or self._older_occurrences.get(digest, 0)
        self._occurrences[digest] = occurrence + 1
        if len(self._occurrences) >= REMEMBERED_EVENTS:
            self._older_occurrences, self._occurrences = self._occurrences, {}
        return f"{digest}-{occurrence}" if occurrence else digest


@lru_cache(maxsize=1 << 14)
def _source(source: str) -> tuple[str | None, dict[str, str]]:
    """Return a source's address, and as attributes what an address can not hold."""
    # "UNKNOWN" is sshd's word for a peer without address.
    if source in ("", "UNKNOWN"):
        return None, {}
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return None, {"source_host": source[:ATTRIBUTE_CHARACTERS]}
    if isinstance(address, ipaddress.IPv4Address):
        return str(address), {}
    if address.ipv4_mapped is not None:
        # A dual-stack socket's spelling: the same client must be one address, however the socket was opened.
        return str(address.ipv4_mapped), {}
    if address.scope_id is not None:
        plain = str(ipaddress.IPv6Address(int(address)))
        return plain, {"source_zone": address.scope_id[:ATTRIBUTE_CHARACTERS]}
    return str(address), {}
