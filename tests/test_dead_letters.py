"""Dead letters: what is kept with a message, and what of it is sent again."""

import json
from datetime import UTC, datetime

import pytest

from streams.chunk import DeadLetter
from streams.dead_letters import (
    Letter,
    Source,
    again_headers,
    elements,
    letter_headers,
    read_letter,
    rejected_elements,
    rejected_part,
)

SOURCE = Source("audit.auth", "id-auth", 3, 17)
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def test_a_letter_is_read_back_as_the_message_was() -> None:
    """Key, value, place and the message's own headers, repeated and empty ones too."""
    headers = (("ce_specversion", b"1.0"), ("tag", b"a"), ("tag", None), ("reason", b"its own"))
    letter = DeadLetter(b"k", b"v", "audit.auth", 3, 17, "invalid_event", "why: é", (0, 2), headers)
    written = letter_headers(letter, "id-auth", NOW)
    ours = dict(written)
    assert (ours["reason"], ours["rejected_indexes"]) == (b"invalid_event", b"0,2")
    assert ours["detail"] == "why: é".encode()
    assert ours["rejected_at"] == b"2026-01-31T09:30:00.000+00:00"
    assert read_letter(b"k", b"v", written) == Letter(SOURCE, b"k", b"v", list(headers))


@pytest.mark.parametrize("headers", [[], [("source_topic", b"audit.auth")]])
def test_what_somebody_else_wrote_is_no_letter(headers: list[tuple[str, bytes | None]]) -> None:
    """A record without a place is left alone."""
    assert read_letter(b"k", b"v", headers) is None


def test_a_message_says_where_it_was_when_it_is_sent_again() -> None:
    """Also the second time: the latest place holds."""
    headers = [("ce_id", b"1"), ("redriven_from", b"audit.auth:3:5")]
    assert again_headers(Letter(SOURCE, b"k", b"v", headers)) == [
        ("ce_id", b"1"),
        ("redriven_from", b"audit.auth:3:17"),
    ]


def test_elements_stay_as_they_are_written() -> None:
    """Numbers, spaces, escapes and what only some JSON libraries write."""
    written = ['{"a" : 1.50, "b": [1, {"c": "]"}]}', '"\\u00e9\\"],"', "NaN", "1e400", "[ ]", "9" * 5_000]
    assert elements((" [" + " ,\n".join(written) + " ] ").encode()) == written
    assert elements(b"[]") == elements(b"[ ]") == []


@pytest.mark.parametrize("value", [b"", b"{}", b"[1", b"[1,", b"[1,]", b"[,1]", b"[1 2]", b"\xff"])
def test_what_is_no_array_is_refused(value: bytes) -> None:
    """A torn or misspelt array is no array."""
    with pytest.raises(ValueError, match=r"."):
        elements(value)


def test_of_an_array_only_what_was_rejected_is_sent_in_its_order() -> None:
    """The others are stored already."""
    events = [{"n": n} for n in range(5)]
    part = rejected_part(json.dumps(events).encode(), "unknown_tenant", (3, 1))
    assert json.loads(part or b"") == [{"n": 1}, {"n": 3}]
    assert rejected_elements(json.dumps(events).encode(), "unknown_tenant", (3,)) == {3: '{"n": 3}'}


@pytest.mark.parametrize(
    ("value", "reason", "indexes"),
    [
        (b"{not json", "invalid_json", (0,)),
        (b"[not json", "invalid_json", (0,)),
        (b"[]", "invalid_array", ()),
        (b'[{"n": 1}, {"n": 2}]', "invalid_array", (0, 1)),
        (b'[{"n": 1},  {"n": 2}]', "unknown_tenant", (0, 1)),
        (b'{"n": [1, 2]}', "invalid_event", (0,)),
        (None, "empty", (0,)),
    ],
)
def test_a_message_of_which_nothing_is_stored_is_sent_as_it_is(
    value: bytes | None, reason: str, indexes: tuple[int, ...]
) -> None:
    """To the byte: an array of which all was rejected too."""
    assert rejected_part(value, reason, indexes) == value
    assert rejected_elements(value, reason, indexes) is None
