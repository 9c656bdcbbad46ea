"""Records that are read together mean what each of them means alone."""

import json
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import schemas.joined
import schemas.times
from schemas.event import KINDS, MAX_EVENT_BYTES, AuthEvent, Kind
from schemas.joined import JOINED, JoinedReader, Unjoinable, read_joined
from schemas.parse import parse
from tests.schema_examples import VALUES, any_events, encode, event, valid_events
from tests.test_schemas_quick import TIMES, agree


@pytest.fixture(scope="module", autouse=True)
def any_number_of_records() -> Iterator[None]:
    with patch.object(schemas.joined, "MIN_RECORDS", 1), patch.object(schemas.times, "MIN_TIMES", 1):
        yield


def usual(kind: Kind) -> st.SearchStrategy[dict[str, Any]]:
    """Draw valid events without what is left to the other ways."""
    odd = ("attributes", "Größe", "unknown.x", "x", "http_status")
    return valid_events(kind).map(lambda e: {name: value for name, value in e.items() if name not in odd})


def read(kind: Kind, *values: bytes) -> list[int]:
    """Return which of the records are read together."""
    return list(read_joined(kind, values)[0])


@settings(max_examples=200)
@given(st.data(), st.sampled_from(KINDS))
def test_joined_and_pydantic_agree_on_usual_messages(data: st.DataObject, kind: Kind) -> None:
    """What producers mostly send is read together, and gives the batch that pydantic gives."""
    values = [encode(drawn) for drawn in data.draw(st.lists(usual(kind), min_size=1, max_size=6))]
    assert read(kind, *values) == list(range(len(values)))
    agree(kind, values)


@settings(max_examples=200)
@given(st.data(), st.sampled_from(KINDS))
def test_joined_and_pydantic_agree_on_any_messages(data: st.DataObject, kind: Kind) -> None:
    """Sound and broken messages, alone and in arrays, give the same batch and the same rejections."""
    events = usual(kind) | valid_events(kind) | any_events(kind)
    messages = events | st.lists(events, max_size=3) | VALUES
    agree(kind, [encode(message) for message in data.draw(st.lists(messages, max_size=6))])


SNIPPETS = [
    *(bytes([character]) for character in b'{}[],:"\\ \t\r\n\0/-+.e0n'),
    *(b"null", b"true", b"NaN", b"Infinity", b"}{", b"}\n{", b'"}', b'{"', b"/*", b"*/", b"//", b"\\u0000"),
    *(b"\\ud800", b"\\udc00", b"\\ud83d\\ude42", b"\xff", b"\xed\xa0\x80", b"\xef\xbb\xbf", "ä".encode()),
    *(b'"user_id":"a",', b'"user_id":null,', b'"x":[', b'"x":{', b'"attributes":{"a":1},', b'"kind":"auth",'),
]
EDITS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0), st.sampled_from(SNIPPETS), st.integers(0, 3)), max_size=4
)


@settings(max_examples=300)
@given(st.lists(usual("auth"), min_size=1, max_size=6), EDITS)
def test_joined_and_pydantic_agree_on_damaged_messages(
    events: list[dict[str, Any]], edits: list[tuple[int, int, bytes, int]]
) -> None:
    """However records are cut up and mixed with what means something in JSON, each is what it is alone."""
    values = [encode(sent) for sent in events]
    for record, place, snippet, gone in edits:
        value = values[record % len(values)]
        at = place % (len(value) + 1)
        values[record % len(values)] = value[:at] + snippet + value[at + gone :]
    agree("auth", values)


@given(st.lists(TIMES, min_size=1, max_size=5))
def test_joined_and_pydantic_agree_on_times(times: list[str]) -> None:
    """Whatever looks like a time is taken or refused by both."""
    agree("auth", [encode(event(time=time)) for time in times])


BODY = encode(event())[1:-1]
GOOD = b"{" + BODY + b"}"


@pytest.mark.parametrize(
    "crafted",
    [
        GOOD + GOOD,
        GOOD + b" " + GOOD,
        GOOD + b"null{}",
        GOOD + b" \tnull" + GOOD,
        GOOD + b"\0" + GOOD,
        GOOD + b"\n" + GOOD,
        GOOD + b"\r" + GOOD,
        b"{" + BODY + b"}{",
        b"}" + BODY + b"{",
        b'{"x":[' + GOOD,
        b'{"x":"' + GOOD,
        b'{"x":{' + BODY + b"}",
        GOOD[:-1] + b',"x":1}',
        GOOD[:-1] + b',"user_id":"a\\"}',
        GOOD[:-1] + b',"user_id":"a\nb"}',
        GOOD[:-1] + b',"user_id":"a","user_id":"b"}',
        GOOD[:-1] + b',"user_id":7}',
        GOOD[:-1] + b',"user_id":"\xff"}',
        GOOD[:-1] + b',"user_id":"\xed\xa0\x80"}',
        GOOD[:-1] + b',"user_id":"\\udc00"}',
        GOOD[:-1] + b',"attributes":{}}',
        GOOD[:-1] + b',"attributes":"text"}',
        GOOD[:-1] + b",}",
        GOOD[:-1] + b"/* comment */}",
        GOOD[:-1].replace(b'"auth"', b'"access"') + b"}",
        b"{}",
        b"{" + b" " * MAX_EVENT_BYTES + BODY + b"}",
    ],
)
def test_a_crafted_record_is_left_to_the_other_ways(crafted: bytes) -> None:
    """It is not read together with its neighbours, and they are what they were."""
    assert 1 not in read("auth", GOOD, crafted, GOOD)
    agree("auth", [GOOD, crafted, GOOD])
    assert {0, 2} <= set(parse("auth", [GOOD, crafted, GOOD]).batch.offset.tolist())


@pytest.mark.parametrize(
    "number",
    ["-0", "-0.0", "1.0", "1e2", "NaN", "-Infinity", "1e400", "9223372036854775808", '"5"', "true", "-1"],
)
@pytest.mark.parametrize("field", ["bytes_in", "duration_ms"])
def test_joined_and_pydantic_agree_on_numbers(field: str, number: str) -> None:
    """Whole, broken, negative, endless and too large ones, and what only looks like one."""
    value = encode(event("request"))[:-1] + f', "{field}": {number}}}'.encode()
    agree("request", [value])


def test_white_space_within_a_record_is_usual() -> None:
    """JSON printed for people is read together with the rest."""
    value = json.dumps(event(), indent=2).encode()
    assert read("auth", value, encode(event()), value.replace(b"\n", b"\r\n")) == [0, 1, 2]
    agree("auth", [value, encode(event()), value])


def test_braces_within_texts_are_usual() -> None:
    """A route's template is no reason to read slowly."""
    value = encode(event("request", http_route="/v1/jobs/{id}", http_path="/v1/{x"))
    assert read("request", value, value) == [0, 1]


def test_records_with_attributes_do_not_slow_the_others() -> None:
    """They are parsed singly, and end up where they were among the others."""
    plain = encode(event(event_id="plain", attributes=None))
    rich = encode(event(event_id="rich", attributes={"port": 22}))
    assert read("auth", plain, rich, plain) == [0, 2]
    parsed = parse("auth", [plain, rich, plain])
    assert parsed.batch.columns["event_id"] == ["plain", "rich", "plain"]
    assert parsed.batch.columns["attributes"] == ["", '{"port":22}', ""]


def test_fields_that_were_not_met_before_are_learnt() -> None:
    """Only fields that producers send are looked for, until one sends another."""
    reader = JoinedReader("auth")
    plain, more = encode(event()), encode(event(user_id="ana"))
    assert len(reader._parse(plain).column_names) < len(reader._parse(more).column_names)
    assert "user_id" in reader._parse(plain).column_names
    assert "token_id" not in reader._parse(plain).column_names


def test_addresses_are_kept_in_canonical_form() -> None:
    """As pydantic keeps them."""
    written = ("2001:DB8::0007", "192.0.2.1", "::ffff:192.0.2.1", None)
    values = [encode(event(source_ip=ip)) for ip in written]
    assert read("auth", *values) == [0, 1, 2, 3]
    assert parse("auth", values).batch.columns["source_ip"] == ["2001:db8::7", "192.0.2.1", "192.0.2.1", None]


def test_a_text_that_is_no_utf_8_is_refused() -> None:
    """Arrow itself would let it through."""
    with pytest.raises(Unjoinable, match="UTF8"):
        JOINED["auth"].read(GOOD.replace(b"e-1", b"\xff"), 1)


def test_a_rule_that_the_readers_do_not_know_is_an_error_at_import() -> None:
    """A new constraint of a model cannot be overlooked."""

    class Stricter(AuthEvent):
        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
            schema = AuthEvent.model_json_schema()
            schema["properties"]["service"]["multipleOf"] = 2
            return schema

    with (
        patch.dict("schemas.event.MODELS", {"auth": Stricter}),
        pytest.raises(TypeError, match=r"service.*multipleOf"),
    ):
        JoinedReader("auth")


def test_a_field_that_is_always_null_is_looked_for_from_then_on() -> None:
    """Else each batch of a producer that sends all fields would be read twice."""
    reader, value = JoinedReader("auth"), encode(event("auth") | {"trace_id": None})
    assert reader.read(value, 1) == reader.read(value, 1)
    with patch.object(schemas.joined.pj, "read_json", wraps=schemas.joined.pj.read_json) as read_json:
        reader.read(value, 1)
    assert read_json.call_count == 1
