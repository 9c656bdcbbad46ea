"""Dead letters: what is kept of a message, how it is found again, and what of it is sent again."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import MAX_DEAD_LETTER_BYTES, MAX_MESSAGE_BYTES
from store.database import Database
from store.queries import LetterFilter, PlatformContext, Reader, TenantContext
from store.redrives import claim, record
from streams.app import Pipeline
from streams.chunk import _dead_letters, read_chunk
from streams.dead_letters import (
    MAX_KEY_BYTES,
    DeadLetter,
    Letter,
    Source,
    again_headers,
    elements,
    letter_headers,
    letter_record,
    read_letter,
    rejected_elements,
    rejected_part,
)
from streams.faust_app import StreamConfig, create_app
from streams.letter_log import LetterLog
from streams.records import Records
from streams.topics import DEAD_LETTERS, TopicError, Topics, ensure_topics
from tests.schema_examples import VALUES, encode, event

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


@pytest.mark.parametrize(
    ("key", "value", "headers"),
    [
        (b"k", bytes(12 << 20), ()),
        (b"k", bytes(MAX_DEAD_LETTER_BYTES - 1_000), ()),
        (b"k", b"v", (("ce_id", bytes(10 << 20)),)),
        (b"k", None, tuple(("", None) for _ in range(1 << 20))),
        (bytes(10 << 20), b"v", ()),
    ],
    ids=["value", "a-little", "header", "headers", "key"],
)
def test_a_message_that_is_too_large_is_set_aside_without_its_bytes(
    key: bytes, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...]
) -> None:
    """Whatever of it is too large: where it is and how large is still said."""
    letter = DeadLetter(key, value, "audit.auth", 3, 17, "invalid_event", "why", (0,), headers)
    written = letter_record(letter, "id-auth", NOW)
    read = read_letter(*written)
    assert read is not None
    assert (read.source, read.value, read.headers) == (SOURCE, None, [])
    assert (read.key == key) == (len(key) <= MAX_KEY_BYTES)
    size = len(key) + len(value or b"") + sum(len(name) + len(text or b"") for name, text in headers)
    assert read.left_out_bytes == size
    assert "audit.auth partition 3 at offset 17" in read.left_out


def test_a_message_that_kafka_takes_is_set_aside_whole() -> None:
    """As large as a message may be."""
    letter = DeadLetter(b"k", bytes(8 << 20), "audit.auth", 3, 17, "invalid_event", "why", (0,))
    written = letter_record(letter, "id-auth", NOW)
    assert written.value == letter.value
    assert read_letter(*written) == Letter(SOURCE, b"k", letter.value, [])
    assert letter_record(letter, "id-auth", NOW, whole=False).value is None


async def test_a_letter_that_kafka_refuses_is_set_aside_without_its_bytes(tmp_path: Path) -> None:
    """An operator may have lowered the topic's limit: the worker goes on all the same."""
    sent: list[bytes | None] = []

    async def send(*, key: bytes | None, value: bytes | None, headers: Any) -> Any:
        acknowledged = asyncio.get_running_loop().create_future()
        sent.append(value)
        if value is None:
            acknowledged.set_result(None)
        else:
            acknowledged.set_exception(MessageSizeTooLargeError())
        return acknowledged

    pipeline = Pipeline(
        create_app(StreamConfig("127.0.0.1:1", tmp_path, "w")),
        Topics("cluster", {"audit.auth": "id-auth"}, 12, 12),
        Mock(),
        addresses=Mock(),
        take_over=Mock(),
        on_alerts=Mock(),
        fail=Mock(),
    )
    pipeline._dead_letters = Mock(send=send)
    await (await pipeline._set_aside(DeadLetter(b"k", b"v", "audit.auth", 3, 17, "empty", "", (0,))))
    assert sent == [b"v", None]


def test_a_message_beyond_the_limit_is_not_read() -> None:
    """Kafka's limit is of what is compressed: without ours a small message could be any amount of memory."""
    many = b"[" + b",".join([encode(event(user_agent="x" * 9_000))] * 1_000) + b"]"
    assert len(many) > MAX_MESSAGE_BYTES
    read = read_chunk("auth", Records("audit.auth", 3, [7], [b"tenant-a"], [many], [()], [0]))
    assert [(one.reason, one.indexes) for one in read.rejections] == [("message_too_large", (0,))]
    assert len(read.batch) == 0
    assert rejected_part(many, "message_too_large", (0,)) == many


def test_of_a_long_array_no_more_positions_are_noted_than_a_message_may_have() -> None:
    """Nothing of it is stored; the positions would be larger than the message."""
    long = b"[" + b",".join([b"0"] * 100_000) + b"]"
    records = Records("audit.auth", 3, [7], [b"tenant-a"], [long], [()], [0])
    [letter] = _dead_letters(read_chunk("auth", records).rejections, records)
    assert len(letter.indexes) == 1_000


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


@given(st.lists(VALUES), st.sampled_from([None, 2]))
def test_any_array_that_was_read_can_be_taken_apart(values: list[Any], indent: int | None) -> None:
    """Whatever is in it, and however it is laid out."""
    written = json.dumps(values, indent=indent).encode()
    assert [json.dumps(json.loads(text)) for text in elements(written)] == [json.dumps(v) for v in values]


def row(tenant_id: str, offset: int, **fields: Any) -> dict[str, Any]:
    """Return a row of ``dead_letters``, rejected `offset` seconds after NOW."""
    return {
        "tenant_id": tenant_id,
        "kind": "auth",
        "reason": "invalid_event",
        "detail": "why",
        "rejected_indexes": [0],
        "value_bytes": 2,
        "rejected_at": NOW + timedelta(seconds=offset),
        "kafka_cluster_id": "cluster",
        "kafka_topic_id": "id-auth",
        "kafka_topic": "audit.auth",
        "kafka_partition": 3,
        "kafka_offset": offset,
        **fields,
    }


def offsets(rows: Sequence[dict[str, Any]]) -> list[int]:
    return [found["kafka_offset"] for found in rows]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (LetterFilter(), [3, 2, 1]),
        (LetterFilter(reason="invalid_json"), [2]),
        (LetterFilter(kind="access"), [3]),
        (LetterFilter(since=NOW + timedelta(seconds=2)), [3, 2]),
        (LetterFilter(position=("audit.auth", 3, 1)), [1]),
        (LetterFilter(position=("audit.access", 3, 1)), []),
        (LetterFilter(waiting=True), [3, 1]),
    ],
)
def test_letters_are_chosen_by_each_filter(
    database: Database, chosen: LetterFilter, expected: list[int]
) -> None:
    """Alone; what is left out excludes none, and the counts are of the same."""
    access = {"kind": "access", "kafka_topic": "audit.access"}
    rows = [row("chosen", 1), row("chosen", 2, reason="invalid_json"), row("chosen", 3, **access)]
    database.insert_rows("dead_letters", [*rows, row("others", 4)])
    record(database, [rows[1]], "sent")
    record(database, [rows[2]], "failed")
    reader = Reader(database, TenantContext("chosen"))
    assert offsets(reader.dead_letters(chosen=chosen)) == expected
    assert offsets(reader.dead_letters(chosen=chosen, oldest_first=True, limit=1)) == expected[-1:]
    assert sum(counted["messages"] for counted in reader.dead_letter_counts(chosen)) == len(expected)


def test_a_message_that_was_rejected_twice_is_one_letter(database: Database) -> None:
    """A redelivery may find another reason; the latest holds. Another topic of the same name is another."""
    twice = [row("twice", 7), row("twice", 7, reason="unknown_tenant", rejected_at=NOW + timedelta(days=1))]
    database.insert_rows("dead_letters", [*twice, row("twice", 7, kafka_topic_id="id-new")])
    reader = Reader(database, TenantContext("twice"))
    assert [found["reason"] for found in reader.dead_letters()] == ["unknown_tenant", "invalid_event"]
    assert offsets(reader.dead_letters(chosen=LetterFilter(reason="invalid_event"))) == [7]
    assert [count["messages"] for count in reader.dead_letter_counts()] == [1, 1]


def test_a_letter_is_claimed_once(database: Database) -> None:
    """Until it failed for certain, or `again` is asked for; another topic's letter is free."""
    letters = [row("claimed", 1), row("claimed", 2), row("claimed", 1, kafka_topic_id="id-new")]
    database.insert_rows("dead_letters", letters)
    assert claim(database, letters[:2]) == letters[:2]
    assert claim(database, letters) == letters[2:]
    record(database, letters[:1], "sent")
    record(database, letters[1:2], "failed")
    assert claim(database, letters) == letters[1:2]
    assert claim(database, letters, again=True) == letters
    shown = Reader(database, TenantContext("claimed")).dead_letters()
    assert {found["redrive_status"] for found in shown} == {"sending"}
    counts = Reader(database, PlatformContext("test")).dead_letter_counts()
    assert sum(count["interrupted"] for count in counts) == 3


class Written:
    """Letters of a topic of their own in ``audit.dead-letters``."""

    def __init__(self, bootstrap: str) -> None:
        ensure_topics(bootstrap)
        self.bootstrap = bootstrap
        self.topic_id = uuid4().hex

    def source(self, offset: int) -> Source:
        return Source("audit.auth", self.topic_id, 3, offset)

    def write(self, *offsets: int, value: bytes = b"v") -> None:
        asyncio.run(self._write(offsets, value))

    async def _write(self, offsets: Sequence[int], value: bytes) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            await producer.send_and_wait(DEAD_LETTERS, b"somebody else's", key=b"k")
            for offset in offsets:
                letter = DeadLetter(b"k", value, "audit.auth", 3, offset, "empty", "", (0,))
                headers = letter_headers(letter, self.topic_id, NOW)
                await producer.send_and_wait(DEAD_LETTERS, value, key=b"k", headers=headers)


def found(written: Written, *sources: Source, after: datetime | None = None) -> list[Letter]:
    with LetterLog(written.bootstrap) as log:
        return list(log.find(sources, after or datetime.now(UTC)))


def test_letters_are_found_once_in_the_order_of_their_messages(kafka: str) -> None:
    """A letter that was written twice is one; what is not asked for, or of another topic, is left out."""
    written, other = Written(kafka), Written(kafka)
    other.write(5, 6)
    written.write(5, 6, 7)
    written.write(6, 5, value=b"again")
    letters = found(written, written.source(6), written.source(5), written.source(99))
    assert [(letter.source.offset, letter.value) for letter in letters] == [(5, b"v"), (6, b"v")]


def test_a_letter_that_is_older_than_its_row_is_found(kafka: str) -> None:
    """The store was away for hours between the two; from the topic's beginning on, everything is found."""
    written = Written(kafka)
    written.write(8, 9)
    sources = [written.source(8), written.source(9)]
    letters = found(written, *sources, after=datetime.now(UTC) + timedelta(hours=5))
    assert [letter.source for letter in letters] == sources


def test_a_kafka_that_does_not_answer_is_told() -> None:
    """With the setting to correct."""
    with pytest.raises(TopicError, match="TENANTWATCH_KAFKA"), LetterLog("127.0.0.1:1"):
        pass
