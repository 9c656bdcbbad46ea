"""Windows' Security log in its order: a password that two of its events tell of is one attempt."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final, NamedTuple

from tenantwatch.importers.importer import Line, Reading
from tenantwatch.importers.json_stream import of_records
from tenantwatch.importers.record import Record
from tenantwatch.importers.values import NotUnderstood
from tenantwatch.importers.windows import read, written_at

# NTLM checked a password. Where somebody logs in to the same computer, the other two tell of it again and say
# more: the address, and what kind of login it was.
VALIDATION: Final = 4776
LOGONS: Final = frozenset({4624, 4625})
# They are written by different parts of Windows, mostly in the same millisecond.
APART: Final = timedelta(seconds=1)
# Records held back while one of them waits for its other; on a busy domain controller a second has thousands.
MOST_HELD: Final = 256


@dataclass(slots=True, eq=False)
class Told:
    """A record with what it says.

    Parameters
    ----------
    item
        The record, or a line in which there is none.
    reading
        Its event, the kind of a record without one, or why it is not understood.
    waits
        Whether it is not to be handed out yet, because an event that says more may follow.
    """

    item: Record | Line
    reading: Reading | NotUnderstood
    waits: bool = False

    @property
    def text(self) -> str:
        """The record as it was read."""
        return self.item.text

    def find(self, name: str) -> object:
        """Return the value of one of its fields, or None."""
        return self.item.find(name)


class _Login(NamedTuple):
    told: Told
    at: datetime
    is_validation: bool
    # Computer, user and outcome.
    attempt: tuple[Any, ...]

    def is_told_by(self, other: "_Login") -> bool:
        return (
            self.attempt == other.attempt
            and self.is_validation != other.is_validation
            and abs(self.at - other.at) <= APART
            # What was handed out while it waited cannot be taken back.
            and (self if self.is_validation else other).told.waits
        )


class WindowsReader:
    """Reads the records of a log, whichever end it begins with.

    A 4776 beside a 4624 or 4625 of the same computer, user and outcome, about the same second, is the same
    attempt and makes no event. Each of them has one such other, so as many 4625 as there are stay. A domain
    controller's 4776 for a login to another computer stands alone, and is an event.

    Parameters
    ----------
    zone
        Of times that name none.

    Examples
    --------
    >>> from datetime import UTC
    >>> reader = WindowsReader(UTC)
    >>> about = {"@timestamp": "2026-01-05T08:00:00Z", "TargetUserName": "ana", "Status": "0xc000006a"}
    >>> records = [Record({"EventID": number, **about}) for number in (4776, 4625, 4776)]
    >>> [told.reading if told.reading == "same_attempt" else "event" for told in reader.items(records)]
    ['same_attempt', 'event', 'event']
    """

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone
        self._read = of_records(lambda record: read(record, zone))
        # Those whose other may still come.
        self._alone: deque[_Login] = deque(maxlen=MOST_HELD)

    def read(self, told: Told) -> Reading:
        """Return what one of `items` says.

        Raises
        ------
        NotUnderstood
            If it is no event of Windows'.
        """
        if isinstance(told.reading, NotUnderstood):
            raise told.reading
        return told.reading

    def items(self, items: Iterable[Record | Line]) -> Iterator[Told]:
        """Yield records in their order; one that waits, and those behind it, once it is known what it is."""
        held: deque[Told] = deque()
        for item in items:
            told = Told(item, self._reading(item))
            self._release(told)
            if login := _login(told):
                self._pair(login)
            held.append(told)
            while held and (not held[0].waits or len(held) > MOST_HELD):
                held[0].waits = False
                yield held.popleft()
        yield from held

    def _reading(self, item: Record | Line) -> Reading | NotUnderstood:
        try:
            return self._read(item)
        except NotUnderstood as error:
            return error

    def _release(self, told: Told) -> None:
        """Let those wait no longer that a record, whatever it tells of, was written long after.

        Only after, not before: of several logs in one file another may lag behind.
        """
        alone = self._alone
        if not alone or not isinstance(told.item, Record):
            return
        try:
            at = datetime.fromisoformat(written_at(told.item, self._zone))
        except NotUnderstood:
            return
        while alone and at - alone[0].at > APART:
            alone.popleft().told.waits = False

    def _pair(self, login: _Login) -> None:
        alone = self._alone
        while alone and abs(login.at - alone[0].at) > APART:
            alone.popleft().told.waits = False
        for other in alone:
            if other.is_told_by(login):
                told = (login if login.is_validation else other).told
                told.reading, told.waits = "same_attempt", False
                alone.remove(other)
                return
        alone.append(login)


def _login(told: Told) -> _Login | None:
    """Return a record's login, if two events may tell of it; a validation begins to wait."""
    fields = told.reading
    if not isinstance(fields, dict) or fields["action"] != "login":
        return None
    about = fields["attributes"]
    number = about["windows_event_id"]
    if number != VALIDATION and number not in LOGONS:
        return None
    told.waits = number == VALIDATION
    attempt = (about["computer"], fields["user_id"], fields["outcome"])
    return _Login(told, datetime.fromisoformat(fields["time"]), told.waits, attempt)
