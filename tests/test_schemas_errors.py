"""What a person is told about a bad value: which field, what was found, how to fix it."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from schema_examples import VALUES, encode, event

from schemas.errors import describe
from schemas.event import KINDS, MODELS, Kind
from schemas.tenant import Tenant


def told(kind: Kind = "auth", /, prefix: str = "", **fields: Any) -> str:
    with pytest.raises(ValidationError) as raised:
        MODELS[kind].model_validate_json(encode(event(kind, **fields)))
    return describe(raised.value, prefix)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in event().items() if key != name}


def told_of_tenant(**fields: Any) -> list[str]:
    tenant = {"tenant_id": "tenant-a", "organization_id": "org-a", "name": "A"}
    with pytest.raises(ValidationError) as raised:
        Tenant.model_validate_json(encode(tenant | fields))
    return describe(raised.value).split(" | ")


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        (
            "tenant_id",
            "a b",
            "tenant_id: not of the form that the contract asks for, found 'a b'; fix: use 1 to 64",
        ),
        (
            "time",
            "yesterday",
            "time: not of the form that the contract asks for, found 'yesterday'; fix: send RFC",
        ),
        ("time", 5, "time: input should be a valid string, found 5; fix: send a JSON string"),
        (
            "source_ip",
            "host",
            "source_ip: not an IPv4 or IPv6 address, found 'host'; fix: send an address like",
        ),
        (
            "outcome",
            "ok",
            "outcome: input should be 'success' or 'failure', found 'ok'; fix: send one of the",
        ),
        (
            "kind",
            "access",
            "kind: input should be 'auth', found 'access'; fix: send `auth`, `access` and `request`",
        ),
        ("service", None, "service: input should be a valid string, found null; fix: send a JSON string"),
        (
            "event_id",
            "",
            "event_id: string should have at least 1 character, found ''; fix: send at least one",
        ),
        (
            "reason",
            "x" * 65,
            f"reason: string should have at most 64 characters, found '{'x' * 58}…; fix: shorten",
        ),
        (
            "attributes",
            {"a": [1]},
            "attributes.a: not a string, number, boolean or null, found an array of 1 element; fix: send an",
        ),
        (
            "attributes",
            {"str": [1]},
            "attributes.str: not a string, number, boolean or null, found an array of 1 element; fix:",
        ),
        (
            "attributes",
            [1],
            "attributes: input should be an object, found an array of 1 element; fix: send an object of",
        ),
    ],
)
def test_a_line_names_field_found_and_fix(field: str, value: Any, line: str) -> None:
    """The line reads: field, what is wrong, found what, fix how."""
    assert told(**{field: value}).startswith(line)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_every_line_names_field_found_and_fix(kind: Kind, data: st.DataObject) -> None:
    """Whatever stands in whichever field, the line has all four parts and stays short."""
    field = data.draw(st.sampled_from(sorted(MODELS[kind].model_fields)))
    value = data.draw(VALUES)
    try:
        MODELS[kind].model_validate_json(encode(event(kind, **{field: value})))
    except ValidationError as error:
        for line in describe(error).split(" | " + field):
            assert re.search(r": .+, found .+; fix: .+", line, re.DOTALL), line
            assert len(line) < 400


def test_a_missing_field_is_named() -> None:
    """Of a missing field nothing can be found; the fix is to add it."""
    with pytest.raises(ValidationError) as raised:
        MODELS["auth"].model_validate_json(encode(without("service")))
    assert describe(raised.value) == "service: missing; fix: add the field"


def test_a_long_value_and_a_long_name_are_cut() -> None:
    """Neither a value nor a key of any length makes the line long."""
    assert len(told(attributes={"k" * 100_000: ["v" * 100_000]})) < 400


def test_five_lines_are_told_and_the_rest_counted() -> None:
    """An event with everything wrong gives five lines and a number."""
    with pytest.raises(ValidationError) as raised:
        MODELS["auth"].model_validate_json(b"{}")
    lines = describe(raised.value).split(" | ")
    assert len(lines) == 6
    assert lines[-1] == "and 2 more"


def test_a_position_in_an_array_is_part_of_the_name() -> None:
    """The prefix says which event of an array is meant."""
    assert told(prefix="[17].", outcome="?").startswith("[17].outcome: ")


def test_a_union_is_told_once_and_where_it_failed() -> None:
    """Of a number-or-object field only the deepest complaint is told, without the names of types."""
    [line] = told_of_tenant(retention_days={"auth": 0})
    assert line.startswith("retention_days.auth: input should be greater than or equal to 1, found 0; fix: ")
    [line] = told_of_tenant(detectors={"failed_login": {"threshold": "high"}})
    assert line.startswith("detectors.failed_login.threshold: ")


def test_an_item_of_a_list_is_named_by_position() -> None:
    """`contacts[0].name` says which contact."""
    [line] = told_of_tenant(contacts=[{"name": ""}])
    assert line.startswith("contacts[0].name: ")


def test_a_misspelt_field_of_a_tenant_is_told() -> None:
    """Operators write tenants: an unknown field is an error, and the fix is its spelling."""
    [line] = told_of_tenant(tierr="free")
    assert line == "tierr: extra inputs are not permitted, found 'free'; fix: remove it, or correct its name"
