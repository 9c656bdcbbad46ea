"""CloudEvents on Kafka: the event inside is treated like any other."""

import json

import pytest
from schema_examples import Json, encode, event

from schemas.cloudevents import Headers, is_cloudevent
from schemas.parse import Parsed, parse

STRUCTURED: Headers = [("content-type", b"application/cloudevents+json; charset=UTF-8")]


def binary(**attributes: str) -> Headers:
    named = {"specversion": "1.0", "type": "com.example.audit"} | attributes
    return [(f"ce_{name}", text.encode()) for name, text in named.items()]


def parsed(value: bytes | None, headers: Headers) -> Parsed:
    return parse("auth", [value], [headers])


def without(*names: str) -> Json:
    return {name: value for name, value in event().items() if name not in names}


def test_binary_mode_takes_missing_fields_from_the_headers() -> None:
    """`ce_id`, `ce_time` and `ce_source` stand in for what the event does not repeat."""
    headers = binary(id="e-9", time="2026-01-31T09:30:00Z", source="billing-api")
    batch = parsed(encode(without("event_id", "time", "service")), headers).batch
    assert (batch.columns["event_id"], batch.columns["service"]) == (["e-9"], ["billing-api"])
    assert batch.time_ms.tolist() == [1769851800000]


def test_structured_mode_takes_the_event_from_the_envelope() -> None:
    """The event is the envelope's `data`, and the envelope's attributes stand in."""
    envelope = {"specversion": "1.0", "id": "e-9", "source": "s", "type": "t", "data": without("event_id")}
    batch = parsed(encode(envelope), STRUCTURED).batch
    assert (batch.columns["event_id"], batch.columns["service"]) == (["e-9"], ["billing-api"])


def test_the_event_says_it_better_than_the_envelope() -> None:
    """What the event itself holds is not replaced."""
    assert parsed(encode(event()), binary(id="other")).batch.columns["event_id"] == ["e-1"]


def test_values_survive_unwrapping() -> None:
    """Text, numbers, nulls and unknown fields come out of an envelope as they went in."""
    sent = event(user_id="Zoë 🙂", x=[1.0, 2**70, None, float("nan")], attributes={"a": 1.0})
    inside = parsed(encode({"specversion": "1.0", "data": sent}), STRUCTURED)
    assert inside.batch.columns == parse("auth", [encode(sent)]).batch.columns
    assert json.loads(inside.batch.columns["attributes"][0])["x"] == [1.0, 2**70, None, "NaN"]


def test_plain_events_stand_beside_cloudevents() -> None:
    """A record with other headers, or none, is a plain event."""
    trace: Headers = [("traceparent", b"00-0-0-00"), ("content-type", b"application/json")]
    values = [encode(event(event_id=name)) for name in "abc"]
    assert parse("auth", values, [trace, (), binary(id="x")]).batch.columns["event_id"] == ["a", "b", "c"]


def test_a_header_may_have_no_value() -> None:
    """Kafka allows a header without a value; it says nothing and breaks nothing."""
    assert not is_cloudevent([("content-type", None)])
    assert len(parsed(encode(event()), [("ce_specversion", b"1.0"), ("ce_id", None)]).batch) == 1


@pytest.mark.parametrize(
    ("value", "headers", "said"),
    [
        (b"{", STRUCTURED, "the CloudEvent is not JSON"),
        (None, STRUCTURED, "the CloudEvent is not JSON"),
        (b"[]", STRUCTURED, "no JSON object"),
        (b'{"specversion": "1.0"}', STRUCTURED, "has no `data`"),
        (b'{"data": "text"}', STRUCTURED, "`data` is no object"),
        (b"[]", [("content-type", b"application/cloudevents-batch+json")], "not defined for Kafka"),
        (b"[]", binary(id="x"), "the message's value is no JSON object"),
        (b"{", binary(id="x"), "the message's value is not JSON"),
    ],
)
def test_a_broken_envelope_is_rejected(value: bytes | None, headers: Headers, said: str) -> None:
    """What is wrong with the envelope is said, with the fix, and the neighbours are stored."""
    result = parse("auth", [encode(event()), value, encode(event())], [(), headers, ()])
    assert result.batch.offset.tolist() == [0, 2]
    [rejection] = result.rejections
    assert (rejection.record, rejection.reason) == (1, "invalid_cloudevent")
    assert said in rejection.detail
    assert "; fix: " in rejection.detail


def test_a_bad_event_in_a_good_envelope_is_the_events_fault() -> None:
    """An envelope does not hide which field is wrong."""
    [rejection] = parsed(encode({"data": event(outcome="?")}), STRUCTURED).rejections
    assert rejection.reason == "invalid_event"
    assert rejection.detail.startswith("outcome: ")
