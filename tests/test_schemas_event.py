"""The event models: which values the contract allows."""

import ipaddress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from schema_examples import any_events, encode, event

from schemas.event import KINDS, MAX_ATTRIBUTES, MAX_ATTRIBUTES_BYTES, MODELS, Kind
from schemas.generate import json_schemas
from schemas.parse import parse

SCHEMAS = {kind: json_schemas()[f"{kind}-event"] for kind in KINDS}


def accepts(kind: Kind = "auth", **fields: Any) -> bool:
    try:
        MODELS[kind].model_validate_json(encode(event(kind, **fields)))
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_the_required_fields_are_enough(kind: Kind) -> None:
    """An event with only the required fields is valid, whatever its kind."""
    assert accepts(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_each_required_field_is_needed(kind: Kind) -> None:
    """Without any one of the required fields an event is refused."""
    smallest = event(kind)
    for name in smallest:
        without = {key: value for key, value in smallest.items() if key != name}
        with pytest.raises(ValidationError, match=name):
            MODELS[kind].model_validate_json(encode(without))


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("event_id", "x" * 64, True),
        ("event_id", "x" * 65, False),
        ("event_id", "", False),
        ("event_id", "é" * 64, True),
        ("tenant_id", "A-z.0_9", True),
        ("tenant_id", "tenant a", False),
        ("tenant_id", "tenant-a\n", False),
        ("tenant_id", "ténant", False),
        ("user_id", "u" * 256, True),
        ("user_id", "u" * 257, False),
        ("user_id", None, True),
        ("user_id", "", False),
        ("source_ip", "2001:db8::7", True),
        ("source_ip", "192.0.2.256", False),
        ("source_ip", "fe80::1%eth0", False),
        ("source_ip", "", False),
        ("outcome", "denied", False),
        ("outcome", None, False),
        ("action", "a_word_of_our_own", True),
        ("action", "Log in", False),
        ("auth_method", "", False),
        ("token_tenant_id", "tenant-b", True),
        ("token_tenant_id", "tenant b", False),
        ("reason", "r" * 65, False),
        ("attributes", None, True),
        ("attributes", {"a": ["no list"]}, False),
        ("attributes", "text", False),
    ],
)
def test_a_field_keeps_to_its_rule(field: str, value: Any, allowed: bool) -> None:
    """Each rule of the contract's table allows its edge and refuses what lies past it."""
    assert accepts(**{field: value}) is allowed


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("http_status", 100, True),
        ("http_status", 599, True),
        ("http_status", 99, False),
        ("http_status", 600, False),
        ("http_status", 200.5, False),
        ("duration_ms", 0, True),
        ("duration_ms", -0.1, False),
        ("duration_ms", float("nan"), False),
        ("duration_ms", float("inf"), False),
        ("bytes_out", 2**63 - 1, True),
        ("bytes_out", 2**63, False),
        ("bytes_in", -1, False),
        ("http_method", "PATCH", True),
        ("http_method", "GET /", False),
    ],
)
def test_a_number_keeps_to_its_limits(field: str, value: Any, allowed: bool) -> None:
    """Numbers are refused where the store's columns, or sense, would not hold them."""
    assert accepts("request", **{field: value}) is allowed


@pytest.mark.parametrize(
    ("time", "allowed"),
    [
        ("2026-01-31T09:30:00Z", True),
        ("2026-01-31 09:30:00.123456789+05:30", True),
        ("2026-01-31t09:30:60z", True),
        ("1970-01-01T00:00:00Z", True),
        ("2199-12-31T23:59:59Z", True),
        ("1969-12-31T23:59:59Z", False),
        ("2200-01-01T00:00:00Z", False),
        ("2026-01-31T09:30:00", False),
        ("2026-01-31T09:30Z", False),
        ("2026-01-31T24:00:00Z", False),
        ("2026-01-31T09:30:00.1234567890Z", False),
        ("2026-01-31T09:30:00+0530", False),
        ("2026-01-31", False),
        ("2026-01-31T09:3\u0661:00Z", False),
        ("2026-01-31T09:30:00Z\n", False),
    ],
)
def test_a_time_has_a_zone_and_ascii_digits(time: str, allowed: bool) -> None:
    """A time is RFC 3339 with a zone, between 1970 and 2199, in the digits 0 to 9."""
    assert accepts(time=time) is allowed


def test_addresses_are_written_one_way() -> None:
    """The same address has one spelling afterwards, so that it can be counted."""
    written = MODELS["auth"].model_validate(event(source_ip="2001:DB8:0:0:0:0:0:7"))
    assert written.source_ip == "2001:db8::7"
    mapped = MODELS["auth"].model_validate(event(source_ip="::FFFF:c000:207"))
    assert mapped.source_ip == "192.0.2.7"


@given(st.ip_addresses())
def test_every_address_is_accepted(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    """Any address without a zone is accepted and kept as the same address, one of IPv4 as that."""
    kept = MODELS["auth"].model_validate(event(source_ip=str(address))).source_ip
    assert kept is not None
    assert ipaddress.ip_address(kept) == (getattr(address, "ipv4_mapped", None) or address)


@pytest.mark.parametrize(
    "address", ["192.0.2.256", "192.0.2.07", "192.0.2", "192.0.2.7.1", "192.0.2.7\n", "١٩٢.0.2.7"]
)
def test_what_only_looks_like_an_address_is_refused(address: str) -> None:
    """Four numbers up to 255 without leading zeros are an IPv4 address, and nothing else is one."""
    with pytest.raises(ValidationError):
        MODELS["auth"].model_validate(event(source_ip=address))


def test_attributes_keep_their_types() -> None:
    """true stays true, 1.0 stays 1.0 and "1" stays "1": nothing is bent to another type."""
    attributes = {"a": True, "b": False, "c": 1, "d": 1.0, "e": "1", "f": None, "g": 2**70}
    kept = MODELS["auth"].model_validate_json(encode(event(attributes=attributes))).attributes
    assert kept is not None
    assert {key: (type(value), value) for key, value in kept.items()} == {
        key: (type(value), value) for key, value in attributes.items()
    }


def test_attributes_have_at_most_32_keys() -> None:
    """32 keys are kept, 33 are refused."""
    keys = [f"k{i}" for i in range(MAX_ATTRIBUTES + 1)]
    assert accepts(attributes=dict.fromkeys(keys[:-1]))
    assert not accepts(attributes=dict.fromkeys(keys))


@pytest.mark.parametrize(
    ("letter", "width"),
    [("x", 1), ("é", 2), ("€", 3), ("😀", 4), ('"', 2), ("\n", 2), ("\x00", 6)],
)
def test_attributes_are_measured_in_bytes_of_json(letter: str, width: int) -> None:
    """The limit of 8 KiB counts bytes as stored, for characters outside ASCII and escaped ones too."""
    room = MAX_ATTRIBUTES_BYTES - len('{"k":""}')
    assert accepts(attributes={"k": letter * (room // width)})
    assert not accepts(attributes={"k": letter * (room // width + 1)})


def test_long_numbers_count_towards_the_size_of_attributes() -> None:
    """An integer of thousands of digits takes the room that its digits take."""
    assert not accepts(attributes={f"k{i}": 10**4000 for i in range(3)})


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_what_the_json_schema_accepts_the_pipeline_stores(kind: Kind, data: st.DataObject) -> None:
    """A producer that keeps to the JSON Schema is never rejected."""
    drawn = data.draw(any_events(kind))
    validator = Draft202012Validator(SCHEMAS[kind], format_checker=Draft202012Validator.FORMAT_CHECKER)
    if validator.is_valid(drawn):
        assert parse(kind, [encode(drawn)]).rejections == []


def test_the_json_schema_knows_the_rules_that_pydantic_does_not_export() -> None:
    """Addresses, the limits of attributes and of an event stand in the JSON Schema."""
    schema = SCHEMAS["auth"]
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert validator.is_valid(event(source_ip="192.0.2.7"))
    assert not validator.is_valid(event(source_ip="host.example.com"))
    assert not validator.is_valid(event(attributes={f"k{i}": 1 for i in range(MAX_ATTRIBUTES + 1)}))
    assert not validator.is_valid(event(time="2026-01-31T09:30:00"))
    assert schema["x-max-bytes"] == 1024 * 1024
    assert schema["properties"]["attributes"]["anyOf"][0]["x-max-bytes"] == 8192
