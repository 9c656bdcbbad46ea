"""Syslog lines: when, which host, which program, what it said.

Reads the shapes that rsyslog, syslog-ng, syslogd, BusyBox and ``journalctl -o short-iso`` write to files, and
RFC 5424's.
"""

import re
from datetime import datetime, tzinfo
from typing import Final, NamedTuple

from tenantwatch.importers.values import FIRST_YEAR, LAST_YEAR, utc_text

MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MONTH_NUMBERS: Final = {name: number for number, name in enumerate(MONTHS, 1)}

# A leap year comes at least once in nine years (1896 to 1904, 2096 to 2104).
LEAP_YEAR_SPAN: Final = 9

LINE: Final = re.compile(
    r"(?:<\d{1,3}>)?"
    r"(?P<stamp>"
    rf"(?P<month>{'|'.join(MONTHS)}) {{1,2}}(?P<day>\d{{1,2}}) (?P<clock>\d\d:\d\d:\d\d(?:\.\d{{1,9}})?)"
    r"|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
    r") "
    # No brackets and no colon at the end: in a line without host the program must not pass for one.
    r"(?P<host>[^\s\[\]]{0,254}[^\s\[\]:]) +"
    # BusyBox says here how important the line is.
    r"(?:(?:kern|user|mail|daemon|auth(?:priv)?|syslog|lpr|news|uucp|cron|ftp|local[0-7])"
    r"\.(?:emerg|alert|crit|err|warn|notice|info|debug) )?"
    # Absent from syslogd's own remarks, such as "last message repeated 2 times".
    r"(?:(?P<program>[^\s\[\]:]{1,255})(?:\[(?P<pid>\d{1,10})\])?: ?(?:\[ID \d+ \w+\.\w+\] )?)?"
    r"(?P<message>.*)",
    re.ASCII | re.DOTALL,
)
# RFC 5424: time, host, program, process, a message's id, structured data; what is not there is a hyphen.
RFC_5424: Final = re.compile(
    r"<\d{1,3}>1 (?P<stamp>\d{4}-\d\d-\d\dT\S{8,24}) (?P<host>\S{1,255}) (?P<program>\S{1,48})"
    r" (?:(?P<pid>\d{1,10})|\S{1,128}) \S{1,32} "
    r"(?:-|(?:\[[^\s\]]+(?: [^\s=\]]+=\"(?:[^\"\\]|\\.)*\")*\])+)(?: \ufeff?(?P<message>.*))?",
    re.ASCII | re.DOTALL,
)


class SyslogLine(NamedTuple):
    """One line taken apart; `time` is RFC 3339 in UTC to the millisecond."""

    time: str
    host: str
    program: str | None
    pid: int | None
    message: str


class SyslogReader:
    """Takes lines apart and gives those without a year the year they lack.

    Classic syslog writes no year. The first line gets `year`, or without one the latest year that does not
    put it after `now`; every later line gets the year that puts it nearest to the line before it. So the
    year goes up from December to January, and a straggler or a wrong file order (``cat auth.log*`` gives
    the newest first) takes it back down.

    Parameters
    ----------
    year
        Year of the first line, 1970 to 2199, or None to work it out from `now`.
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
    >>> reader = SyslogReader(year=2025, zone=UTC, now=None)
    >>> reader.read("Dec 31 23:59:59 web-1 sshd[7]: hello").time
    '2025-12-31T23:59:59.000Z'
    >>> reader.read("Jan  1 00:00:01 web-1 sshd[7]: hello").time
    '2026-01-01T00:00:01.000Z'
    """

    def __init__(self, *, year: int | None, zone: tzinfo, now: datetime | None) -> None:
        if year is not None and not FIRST_YEAR <= year <= LAST_YEAR:
            raise ValueError(f"year is {year}: give the first line's year, {FIRST_YEAR} to {LAST_YEAR}")
        if year is None and (now is None or now.tzinfo is None):
            raise ValueError("year is missing and now is no time with a zone: give one of them")
        self._year = year
        self._zone = zone
        self._now = now
        self._month: int | None = None
        self._last_stamp = ""
        self._last_time: str | None = None

    def read(self, text: str) -> SyslogLine | None:
        """Take one line apart; None if it is no syslog line or its date does not exist."""
        month, day, clock = None, "", ""
        if match := LINE.fullmatch(text):
            stamp, month, day, clock, host, program, pid, message = match.groups()
        elif match := RFC_5424.fullmatch(text):
            stamp, host, program, pid, message = match.groups("")
        else:
            return None
        # Neighbours mostly share their second, and a time costs more than the rest of the line.
        if stamp != self._last_stamp:
            self._last_time = self._time(stamp, month, day, clock)
            self._last_stamp = stamp
        if self._last_time is None:
            return None
        if program and program.startswith("/"):
            # OpenBSD's and some containers' name: the file that was started.
            program = program.rpartition("/")[2]
        return SyslogLine(self._last_time, host, program, int(pid) if pid else None, message)

    def _time(self, stamp: str, month: str | None, day: str, clock: str) -> str | None:
        try:
            if month is None:
                local = datetime.fromisoformat(stamp)
            else:
                number = MONTH_NUMBERS[month]
                year = self._year_of(number, day, clock)
                if year is None:
                    return None
                local = datetime.fromisoformat(f"{year}-{number:02}-{day:0>2}T{clock}")
        except ValueError:
            # No such day or hour, as February 29 in most years.
            return None
        return utc_text(local if local.tzinfo else local.replace(tzinfo=self._zone))

    def _year_of(self, month: int, day: str, clock: str) -> int | None:
        if self._year is None:
            self._year = self._latest_year(month, day, clock)
        elif self._month is not None:
            # Months are near enough: a log that is silent for half a year has no nearest year.
            if month - self._month < -6:
                self._year += 1
            elif month - self._month > 6:
                self._year -= 1
        if self._year is not None:
            self._month = month
        return self._year

    def _latest_year(self, month: int, day: str, clock: str) -> int | None:
        if self._now is None:
            return None
        this_year = self._now.astimezone(self._zone).year
        for year in range(this_year, this_year - LEAP_YEAR_SPAN, -1):
            try:
                first = datetime.fromisoformat(f"{year}-{month:02}-{day:0>2}T{clock}")
            except ValueError:
                continue
            if first.replace(tzinfo=self._zone) <= self._now:
                return year
        return None
