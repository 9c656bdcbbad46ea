"""A dead letter in ``audit.dead-letters``: how it is written, read back, and what of it is sent again."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from schemas.cloudevents import Headers
from schemas.event import MAX_DEAD_LETTER_BYTES

# Headers of ours say why; those that the message came with are kept beside them under this prefix, because
# without its headers a CloudEvent is none.
KEPT: Final = "source_header."
REDRIVEN_FROM: Final = "redriven_from"
# Says of a message that it was too large to be set aside, and how large.
LEFT_OUT: Final = "left_out_bytes"
# In what the topic takes, for what Kafka and we add.
_ROOM: Final = 64 * 1024
_PER_HEADER: Final = 10  # for its lengths
# A longer key is no tenant's, and as easily left out as the rest.
MAX_KEY_BYTES: Final = 16 * 1024
# Nothing of such a message was read, so there is no part of it to send.
WHOLE: Final = frozenset(
    {"invalid_json", "invalid_array", "invalid_cloudevent", "empty", "message_too_large"}
)
_SPACE: Final = " \t\n\r"
# Numbers stay text: only where an element ends is of interest.
_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of which at least one event cannot be stored: where it was, and why."""

    key: bytes | None
    value: bytes | None
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    indexes: tuple[int, ...]
    headers: Headers = ()


class Source(NamedTuple):
    """Where a message was; the topic's id tells it from an earlier topic of the same name."""

    topic: str
    topic_id: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True, slots=True)
class Letter:
    """A message that could not be stored, as ``audit.dead-letters`` holds it.

    Parameters
    ----------
    source
        Where it was.
    key, value, headers
        As they were there.
    left_out_bytes
        More than 0: the message was too large to be set aside, and nothing of it is here.
    """

    source: Source
    key: bytes | None
    value: bytes | None
    headers: Headers
    left_out_bytes: int = 0

    @property
    def left_out(self) -> str:
        """Say where the message is, if it is not here."""
        if not self.left_out_bytes:
            return ""
        source = self.source
        return (
            f"the message was too large to be set aside ({self.left_out_bytes:,} bytes): it is only in "
            f"{source.topic} partition {source.partition} at offset {source.offset}, "
            "as long as Kafka keeps that topic"
        )


class Record(NamedTuple):
    """What is written to ``audit.dead-letters``."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


def letter_record(letter: DeadLetter, topic_id: str, now: datetime, *, whole: bool = True) -> Record:
    """Return the record with which a message is set aside, without the message where Kafka would refuse it.

    Kafka counts what is compressed, so a message that it took may be too large for it here.

    Parameters
    ----------
    topic_id
        Of the topic it was in.
    whole
        With the message, if it is not too large.
    """
    headers = letter_headers(letter, topic_id, now)
    size = len(letter.key or b"") + len(letter.value or b"")
    kept = sum(len(name.encode()) + len(value or b"") + _PER_HEADER for name, value in headers)
    if whole and size + kept + _ROOM <= MAX_DEAD_LETTER_BYTES:
        return Record(letter.key, letter.value, headers)
    size += sum(len(name.encode()) + len(value or b"") for name, value in letter.headers)
    ours = [(name, value) for name, value in headers if not name.startswith(KEPT)]
    key = letter.key if len(letter.key or b"") <= MAX_KEY_BYTES else None
    return Record(key, None, [*ours, (LEFT_OUT, str(size).encode())])


def letter_headers(letter: DeadLetter, topic_id: str, now: datetime) -> list[tuple[str, bytes | None]]:
    """Return the headers with which a message is set aside.

    Parameters
    ----------
    topic_id
        Of the topic it was in.
    """
    ours = {
        "reason": letter.reason,
        "detail": letter.detail,
        "source_topic": letter.topic,
        "source_topic_id": topic_id,
        "source_partition": str(letter.partition),
        "source_offset": str(letter.offset),
        "rejected_indexes": ",".join(map(str, letter.indexes)),
        "rejected_at": now.isoformat(timespec="milliseconds"),
    }
    return [
        *((name, text.encode()) for name, text in ours.items()),
        *((KEPT + name, value) for name, value in letter.headers),
    ]


def read_letter(key: bytes | None, value: bytes | None, headers: Headers) -> Letter | None:
    """Return the letter that a record of ``audit.dead-letters`` is; None if somebody else wrote it."""
    ours = {name: (text or b"").decode("utf-8", "replace") for name, text in headers}
    try:
        source = Source(
            ours["source_topic"],
            ours.get("source_topic_id", ""),
            int(ours["source_partition"]),
            int(ours["source_offset"]),
        )
        left_out_bytes = int(ours.get(LEFT_OUT, "0"))
    except (KeyError, ValueError):
        return None
    kept = [(name[len(KEPT) :], text) for name, text in headers if name.startswith(KEPT)]
    return Letter(source, key, value, kept, left_out_bytes)


def again_headers(letter: Letter) -> list[tuple[str, bytes | None]]:
    """Return the headers with which a letter's message is sent again: its own, and where it comes from."""
    kept = [(name, value) for name, value in letter.headers if name != REDRIVEN_FROM]
    return [*kept, (REDRIVEN_FROM, str(letter.source).encode())]


def elements(value: bytes) -> list[str]:
    """Return the elements of a JSON array, each as it is written there.

    Raises
    ------
    ValueError
        If it is none.

    >>> elements(b'[{"a": 1.50}, NaN]')
    ['{"a": 1.50}', 'NaN']
    """
    text = value.decode()
    found: list[str] = []
    at = _skip(text, 0, "[")
    while text[at : at + 1] != "]":
        if found:
            at = _skip(text, at, ",")
        _, end = _DECODER.raw_decode(text, at)
        found.append(text[at:end])
        at = _skip(text, end)
    return found


def _skip(text: str, at: int, mark: str = "") -> int:
    """Return where the next thing begins, past white space and a mark that must be there."""
    while text[at : at + 1] in _SPACE and at < len(text):
        at += 1
    if not mark:
        return at
    if text[at : at + 1] != mark:
        raise ValueError(f"no {mark} at character {at}")
    return _skip(text, at + 1)


def rejected_part(value: bytes | None, reason: str, indexes: Iterable[int]) -> bytes | None:
    """Return what of a message is sent again: of an array only what was rejected, for the rest is stored.

    Parameters
    ----------
    reason
        Of the dead letter.
    indexes
        Positions of the rejected events in the message's array.

    >>> rejected_part(b'[{"a": 1}, {"b": 2}, {"c": 3}]', "unknown_tenant", (0, 2))
    b'[{"a": 1},{"c": 3}]'
    """
    parts = rejected_elements(value, reason, indexes)
    return value if parts is None else b"[" + ",".join(parts.values()).encode() + b"]"


def rejected_elements(value: bytes | None, reason: str, indexes: Iterable[int]) -> dict[int, str] | None:
    """Return the rejected events of an array by their position; None where the whole message was rejected."""
    if value is None or reason in WHOLE or not value.lstrip().startswith(b"["):
        return None
    written = elements(value)
    chosen = {i: written[i] for i in sorted(set(indexes)) if i < len(written)}
    return chosen if chosen and len(chosen) < len(written) else None


def count_events(letter: dict[str, Any]) -> int:
    """Return how many events a row of ``dead_letters`` stands for."""
    return max(len(letter["rejected_indexes"]), 1)
