"""From keyword arguments to the bytes of a valid event."""

from __future__ import annotations

import datetime
import difflib
import functools
import json
import os
import time
import uuid
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from .validation import InvalidEvent, Schema, json_bytes

KINDS = ("auth", "access", "request")


def new_event_id() -> str:
    """Return a UUIDv7: unique, and sorted by time, which keeps a store's indexes small.

    >>> uuid.UUID(new_event_id()).version
    7
    """
    # RFC 9562, section 5.7: 48 bits of milliseconds, version, 12 random bits, variant, 62 random bits. From
    # the system's randomness, which a forked child does not share with its parent.
    now_ms = time.time_ns() // 1_000_000
    random_bits = int.from_bytes(os.urandom(10), "big")
    value = now_ms << 80 | random_bits
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    return str(uuid.UUID(int=value))


def rfc3339(moment: datetime.datetime) -> str:
    """Return an aware datetime in UTC to the millisecond, as the contract stores it.

    >>> rfc3339(datetime.datetime(2026, 1, 31, 9, 30, tzinfo=datetime.timezone.utc))
    '2026-01-31T09:30:00.000Z'
    """
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise InvalidEvent(
            ["time: a datetime without a zone; fix: send an aware one, datetime.now(timezone.utc)"]
        )
    try:
        utc = moment.astimezone(datetime.timezone.utc)
    except OverflowError:
        raise InvalidEvent(
            ["time: before the year 1 or after 9999 in UTC; fix: send when it happened"]
        ) from None
    return utc.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


@functools.cache
def schema_of(kind: str) -> Schema:
    """Return the contract's schema of a kind of event.

    The wheel carries a copy made when it was built; in a checkout of tenantwatch the one copy is
    ``schemas/json``.
    """
    name = f"{kind}-event.json"
    packaged = resources.files(__package__ or "tenantwatch_emitter").joinpath("schemas", name)
    source = packaged if packaged.is_file() else Path(__file__).parents[3] / "schemas" / "json" / name
    return Schema(json.loads(source.read_text(encoding="utf-8")))


def encode(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return an event as JSON.

    Parameters
    ----------
    kind
        One of `KINDS`.
    fields
        The event's fields; ``time`` may be an aware datetime, and None stands for a field that is not given.

    Raises
    ------
    InvalidEvent
        If the event breaks the contract or has a field that the contract does not know.
    """
    event = {name: value for name, value in fields.items() if value is not None}
    if isinstance(event.get("time"), datetime.datetime):
        event["time"] = rfc3339(event["time"])
    schema = schema_of(kind)
    problems = [_unknown_field(name, schema) for name in event if name not in schema.properties]
    known = {name: value for name, value in event.items() if name in schema.properties}
    problems += map(str, schema.problems(known))
    if problems:
        raise InvalidEvent(problems)
    return json_bytes(known)


def _unknown_field(name: str, schema: Schema) -> str:
    # The pipeline keeps fields that it does not know, for the sake of newer producers. Here they are a slip
    # of the pen.
    near = difflib.get_close_matches(name, schema.properties, n=1)
    fix = f"did you mean `{near[0]}`?" if near else "remove it, or move it under `attributes`"
    return f"{name}: not a field of this kind of event; fix: {fix}"
