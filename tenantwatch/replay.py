"""Replaying events of a file: which message each line is, when it is due, and whose tenants are new."""

import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any, Final, NamedTuple

from pydantic_core import from_json

from schemas.event import KINDS, MAX_MESSAGE_BYTES, TENANT_ID, Kind

_TENANT_ID: Final = re.compile(TENANT_ID)
SEND_EVERY_S: Final = 0.2


class Message(NamedTuple):
    """A line, and where it goes.

    Parameters
    ----------
    events
        How many events it is; None for one that is no array.
    time
        Of its first event, as written.
    """

    kind: Kind
    tenant_id: str
    value: bytes
    events: int | None
    time: Any


def route(line: bytes) -> Message:
    """Return the message that a line is. What else may be wrong with it is for the pipeline to say.

    Raises
    ------
    ValueError
        If it names no topic to send it to, or no tenant.

    >>> route(b'{"kind": "auth", "tenant_id": "tenant-a"}')[:2]
    ('auth', 'tenant-a')
    """
    if len(line) > MAX_MESSAGE_BYTES:
        raise ValueError(f"{len(line):,} bytes, a message may have {MAX_MESSAGE_BYTES:,}")
    content = from_json(line)
    if isinstance(content, dict):
        kind, tenant_id = _address(content)
        return Message(kind, tenant_id, line, None, content.get("time"))
    if not isinstance(content, list) or not all(isinstance(event, dict) for event in content):
        raise ValueError("neither a JSON object nor an array of objects")
    if not content:
        raise ValueError("an array without events")
    addresses = {_address(event) for event in content}
    if len(addresses) > 1:
        raise ValueError("an array of several kinds or tenants; send each in one of its own")
    kind, tenant_id = addresses.pop()
    return Message(kind, tenant_id, line, len(content), content[0].get("time"))


def _address(event: dict[str, Any]) -> tuple[Kind, str]:
    kind, tenant_id = event.get("kind"), event.get("tenant_id")
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r:.60}; it must be one of {', '.join(KINDS)}")
    if not isinstance(tenant_id, str) or not _TENANT_ID.fullmatch(tenant_id):
        raise ValueError(f"tenant_id is {tenant_id!r:.60}; use 1 to 64 of the characters A-Z a-z 0-9 . _ -")
    return kind, tenant_id


class Pace:
    """Waits until an event is due: as long after the first one as its time says, divided by `speed`.

    Parameters
    ----------
    speed
        1 is real time, 60 a minute's events in a second.
    send_queued
        Called at least every 200 ms of waiting, so that what is due is not only queued.
    clock, sleep
        Of the machine; seconds.
    """

    def __init__(
        self,
        speed: float,
        send_queued: Callable[[], None],
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._speed = speed
        self._send_queued = send_queued
        self._clock = clock
        self._sleep = sleep
        self._first: float | None = None
        self._started = self._sent_at = clock()

    def wait(self, time: Any) -> None:
        """Wait until an event of that time is due; one that names no time is due at once."""
        try:
            at = datetime.fromisoformat(time.upper()).timestamp()
        except (AttributeError, ValueError):
            return
        if self._first is None:
            self._first = at
        due = self._started + (at - self._first) / self._speed
        now = self._clock()
        if max(now, due) >= self._sent_at + SEND_EVERY_S:
            self._send_queued()
            self._sent_at = now
        if due > now:
            self._sleep(due - now)


class Newcomers:
    """Finds tenants that are not in the directory yet, each once.

    Parameters
    ----------
    known
        Asked, when ids turn up that were not seen before, for all there are.
    """

    def __init__(self, known: Callable[[], Collection[str]]) -> None:
        self._known = known
        self._seen: set[str] = set()

    def among(self, tenant_ids: set[str]) -> list[str]:
        """Return those that are not in the directory and were not returned before."""
        unseen = tenant_ids - self._seen
        if not unseen:
            return []
        self._seen |= unseen
        return sorted(unseen.difference(self._known()))
