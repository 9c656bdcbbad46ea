"""Events over HTTP: all of a request are good, or none is sent."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.v1.problems import MAX_ERRORS, Problem
from schemas.event import KINDS, MAX_EVENT_BYTES, MAX_EVENTS_PER_MESSAGE, Kind
from schemas.parse import parse

MAX_EVENTS: Final = 10_000
NDJSON: Final = ("application/x-ndjson", "application/ndjson", "application/jsonl")
JSON: Final = "application/json"
# What the API and the command line tell of themselves: nobody else's word for it is taken here.
OWN_SERVICES: Final = ("tenantwatch-api", "tenantwatch")
# Kafka's producer takes larger ones in one piece less gladly.
MAX_MESSAGE_BYTES: Final = 1024 * 1024


@dataclass(frozen=True)
class Message:
    """Events of one kind, as they are sent: one event, or an array.

    Parameters
    ----------
    value
        JSON.
    events
        How many there are in it.
    """

    kind: Kind
    value: bytes
    events: int


def read_events(content_type: str, body: bytes) -> list[Any]:
    """Return the events in a body, whatever they are.

    Raises
    ------
    Problem
        If it is neither JSON nor NDJSON, or holds none or too many.
    """
    kind = content_type.split(";")[0].strip().lower()
    if kind not in (JSON, *NDJSON):
        raise Problem("unsupported_media_type", f"send {JSON} or {NDJSON[0]}")
    # As a text, which it was found to be before: of bytes the parser guesses the encoding, of each line anew.
    text = body.decode("utf-8-sig")
    if kind == JSON:
        read = _json(text, "body")
        events = read if isinstance(read, list) else [read]
    else:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        events = [_json(line, f"body.{number}") for number, line in lines]
    if not events:
        raise Problem("invalid", "there is no event in the body")
    if len(events) > MAX_EVENTS:
        raise Problem("body_too_large", f"send at most {MAX_EVENTS:,} events at once")
    return events


def _json(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        errors = [{"field": field, "detail": f"not JSON: {error}"[:200]}]
        raise Problem("malformed_request", "the body is not JSON in UTF-8", errors=errors) from None


def messages(events: Sequence[Any], tenant_id: str) -> list[Message]:
    """Return what to send, in the order of the events of each kind.

    Parameters
    ----------
    events
        Those that name no tenant get `tenant_id`.
    tenant_id
        The only tenant that they may be of.

    Raises
    ------
    Problem
        If any of them is wrong: which, and how to fix it. Nothing is to be sent then.
    """
    faults: list[dict[str, str]] = []
    good: dict[Kind, list[bytes]] = {kind: [] for kind in KINDS}
    for at, event in enumerate(events):
        fault = _fault(event, tenant_id)
        if fault is None:
            named = {"tenant_id": tenant_id, **event}
            value = json.dumps(named, ensure_ascii=False, separators=(",", ":")).encode()
            fault = _rejected(named["kind"], value)
            good[named["kind"]].append(value)
        if fault is not None:
            faults.append({"field": f"body.{at}", "detail": fault})
            if len(faults) == MAX_ERRORS:
                break
    if faults:
        raise Problem(
            "invalid", "nothing was taken; `errors` names the events by their number, from 0", errors=faults
        )
    return [message for kind, values in good.items() for message in _messages(kind, values)]


def _fault(event: Any, tenant_id: str) -> str | None:
    if not isinstance(event, Mapping):
        return "an event is a JSON object"
    if event.get("service") in OWN_SERVICES:
        return f"service: {event['service']} is what tenantwatch tells of itself; name your own"
    if event.get("kind") not in KINDS:
        return f"kind: one of {', '.join(KINDS)}"
    if event.get("tenant_id", tenant_id) != tenant_id:
        return "tenant_id: another tenant's than the request is for; leave it out or send it for that tenant"
    return None


def _rejected(kind: Kind, value: bytes) -> str | None:
    if len(value) > MAX_EVENT_BYTES:
        return f"an event may have {MAX_EVENT_BYTES:,} bytes"
    rejections = parse(kind, [value]).rejections
    return rejections[0].detail if rejections else None


def _messages(kind: Kind, values: Sequence[bytes]) -> Iterator[Message]:
    first = size = 0
    for at, value in enumerate(values):
        if at - first == MAX_EVENTS_PER_MESSAGE or (at > first and size + len(value) > MAX_MESSAGE_BYTES):
            yield _message(kind, values[first:at])
            first, size = at, 0
        size += len(value) + 1
    if values:
        yield _message(kind, values[first:])


def _message(kind: Kind, values: Sequence[bytes]) -> Message:
    value = values[0] if len(values) == 1 else b"[" + b",".join(values) + b"]"
    return Message(kind, value, len(values))
