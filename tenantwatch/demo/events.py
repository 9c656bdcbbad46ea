"""One made-up event."""

from random import Random
from typing import Any, Final, NamedTuple
from uuid import UUID

from pydantic_core import to_json

from schemas.alert import from_ms, rfc3339
from schemas.event import Kind

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
# Wednesday, 14 January 2026, 00:00 UTC: always the same day, so that everybody sees the same alerts.
DAY_START_MS: Final = 1_768_348_800_000


class Timed(NamedTuple):
    """An event as it is sent, and what is needed to send it."""

    time_ms: int
    kind: Kind
    tenant_id: str
    json: bytes


def uuid7(time_ms: int, draw: Random) -> str:
    """Return a UUIDv7 of that time, as the contract recommends for `event_id`.

    >>> uuid7(DAY_START_MS, Random(1))[:15]
    '019bb9cd-5400-7'
    """
    bits = time_ms << 80 | 7 << 76 | draw.getrandbits(12) << 64 | 2 << 62 | draw.getrandbits(62)
    return str(UUID(int=bits))


def event(draw: Random, time_ms: int, kind: Kind, tenant_id: str, **fields: Any) -> Timed:
    """Return an event.

    Parameters
    ----------
    draw
        Where its id comes from.
    fields
        The contract's, but for those that are given already.
    """
    common = {
        "event_id": uuid7(time_ms, draw),
        "kind": kind,
        "tenant_id": tenant_id,
        "time": rfc3339(from_ms(time_ms)),
    }
    return Timed(time_ms, kind, tenant_id, to_json(common | fields))
