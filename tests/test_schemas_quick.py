"""The quick reader accepts nothing that pydantic would not, and changes nothing."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas.joined
import schemas.parse
from schemas.event import KINDS, MODELS, AuthEvent, Kind
from schemas.parse import Parsed, parse
from schemas.quick import QUICK, QuickReader, Unusual
from tests.schema_examples import VALUES, any_events, encode, event, valid_events


class Refusing(QuickReader):
    """Leaves every message to pydantic."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.one = self.many = self._refuse

    def _refuse(self, value: bytes) -> Any:
        raise ValueError("left to pydantic")


@contextmanager
def only_pydantic() -> Iterator[None]:
    refusing = patch.object(schemas.parse, "QUICK", {kind: Refusing(kind) for kind in KINDS})
    with refusing, patch.object(schemas.joined, "MIN_RECORDS", sys.maxsize):
        yield


def shown(parsed: Parsed) -> tuple[Any, ...]:
    batch = parsed.batch
    columns = {name: list(map(repr, column)) for name, column in batch.columns.items()}
    identity = (batch.time_ms.tolist(), batch.offset.tolist(), batch.message_index.tolist())
    return columns, identity, parsed.rejections, parsed.unknown_fields


def agree(kind: Kind, values: Sequence[bytes]) -> None:
    with only_pydantic():
        expected = parse(kind, values)
    assert shown(parse(kind, values)) == shown(expected)


@given(st.data(), st.sampled_from(KINDS))
def test_quick_and_pydantic_agree_on_any_messages(data: st.DataObject, kind: Kind) -> None:
    """Random events, sound and broken, alone and in arrays, give the same batch and the same rejections."""
    events = valid_events(kind) | any_events(kind)
    messages = events | st.lists(events, max_size=4) | VALUES
    agree(kind, [encode(message) for message in data.draw(st.lists(messages, max_size=6))])


TIMES = st.from_regex(
    r"\A(19|20|21)[0-9][0-9]-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(\.[0-9]{1,10})?([Zz]|[+-][0-9]{2}:[0-9]{2})?\n?\Z"
)


@given(st.lists(TIMES, min_size=1, max_size=5))
def test_quick_and_pydantic_agree_on_times(times: list[str]) -> None:
    """Whatever looks like a time is taken or refused by both."""
    agree("auth", [encode(event(time=time)) for time in times])


@pytest.mark.parametrize(
    "text",
    [
        b'{"kind":"access","kind":"auth",%s}',
        b'{"kind":"auth","kind":"access",%s}',
        b'{"kind":"auth",%s,"user_id":"a","user_id":"b"}',
        b'{"kind":"auth",%s,"attributes":{"n":1,"n":2.0,"big":123456789012345678901234567890}}',
        b'{"kind":"auth",%s,"attributes":{"n":1e400}}',
        b'{"kind":"auth",%s,"user_id":"\\ud800"}',
        b'{"kind":"auth",%s,"user_id":"\xff"}',
        b'{"kind":"auth",%s,"user_id":"a\nb"}',
        b'\xef\xbb\xbf{"kind":"auth",%s}',
        b'{"kind":"auth",%s} trailing',
        b'{"kind":"auth",%s,}',
        b' \n{"kind":"auth",%s}\n',
        b'{"kind":"auth",%s,"source_ip":"2001:DB8::0007"}',
        b'{"kind":"auth",%s,"source_ip":"::ffff:192.0.2.7"}',
        b'{"kind":"auth",%s,"source_ip":"fe80::1%%eth0"}',
        b'{"kind":"auth",%s,"tenant_id":"tenant-a\\n"}',
    ],
)
def test_quick_and_pydantic_agree_on_unusual_json(text: bytes) -> None:
    """Repeated keys, numbers beyond 64 bits, surrogates, byte order marks and the like."""
    rest = encode(event()).replace(b'"kind": "auth", ', b"").replace(b', "kind": "auth"', b"")[1:-1]
    agree("auth", [text % rest, encode(event())])


@pytest.mark.parametrize("kind", KINDS)
def test_usual_events_are_read_without_pydantic(kind: Kind) -> None:
    """The quick way is the one that is taken: it reads the events that producers send."""
    quick = QUICK[kind]
    struct = quick.one(encode(event(kind, source_ip="192.0.2.7", attributes={"port": 22})))
    quick.check([(value,) for value in msgspec.structs.astuple(struct)])


def test_a_rule_that_the_quick_reader_does_not_know_is_an_error_at_import() -> None:
    """A new constraint of a model cannot be overlooked."""

    class Stricter(AuthEvent):
        @classmethod
        def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
            schema = AuthEvent.model_json_schema()
            schema["properties"]["service"]["multipleOf"] = 2
            return schema

    with patch.dict(MODELS, {"auth": Stricter}), pytest.raises(TypeError, match=r"service.*multipleOf"):
        QuickReader("auth")


def test_an_unusual_value_is_left_to_pydantic() -> None:
    """Unknown fields and numbers written as text are not its business."""
    for fields in ({"colour": "blue"}, {"http_status": "200"}):
        with pytest.raises(Unusual):
            QUICK["request"].one(encode(event("request", **fields)))
