"""The check that a change of the contract cuts no producer off, tried on both kinds of change."""

from collections.abc import Callable
from copy import deepcopy
from typing import Annotated, Any, Literal

import pytest
from additive import narrowings
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field
from schema_examples import Json

from schemas.event import AccessEvent
from schemas.generate import accepted, rules

SCHEMAS = accepted()["schemas"]
Change = Callable[[Json], Any]


def after(change: Change, name: str = "access-event") -> list[str]:
    """Return what the check says of a change to a schema of ours."""
    changed = deepcopy(SCHEMAS[name])
    change(changed)
    assert changed != SCHEMAS[name]
    return narrowings(SCHEMAS[name], changed, name)


def nullable(schema: Json, field: str) -> Json:
    """Return the part of a nullable field's schema that is not null."""
    part: Json = schema["properties"][field]["anyOf"][0]
    return part


@pytest.mark.parametrize("name", SCHEMAS)
def test_no_change_is_additive(name: str) -> None:
    """A schema accepts all that it accepts."""
    assert narrowings(SCHEMAS[name], deepcopy(SCHEMAS[name]), name) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s["properties"].update(geo={"type": "string", "maxLength": 2}),
        lambda s: s["properties"]["event_id"].update(maxLength=128),
        lambda s: s["properties"]["event_id"].pop("maxLength"),
        lambda s: s["properties"]["event_id"].update(minLength=0),
        lambda s: s["properties"]["tenant_id"].pop("pattern"),
        lambda s: s["properties"]["outcome"]["enum"].append("unknown"),
        lambda s: s["properties"]["outcome"].pop("enum"),
        lambda s: s["properties"].update(
            event_id={"anyOf": [s["properties"]["event_id"], {"type": "integer"}]}
        ),
        lambda s: s["properties"].update(event_id={}),
        lambda s: s["required"].remove("service"),
        lambda s: nullable(s, "record_count").update(type="number"),
        lambda s: nullable(s, "record_count").update(minimum=-1),
        lambda s: nullable(s, "attributes").update(maxProperties=64),
        lambda s: s.update({"x-max-bytes": 2 * 1024 * 1024}),
        lambda s: s["properties"]["event_id"].update(description="Something else."),
    ],
)
def test_a_wider_contract_passes(change: Change) -> None:
    """A new optional field, a wider limit, one more word or type cut nobody off."""
    plain = deepcopy(SCHEMAS["access-event"])
    change(plain)
    assert narrowings(SCHEMAS["access-event"], rules(plain), "access-event") == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: s["properties"].pop("reason"), "access-event.reason: the field was removed"),
        (lambda s: s["required"].append("user_id"), "access-event.user_id: the field became required"),
        (
            lambda s: (s["properties"].update(geo={"type": "string"}), s["required"].append("geo")),
            "access-event.geo: the field is new and required",
        ),
        (
            lambda s: s["properties"]["event_id"].update(maxLength=32),
            "access-event.event_id: maxLength 64 became 32",
        ),
        (
            lambda s: nullable(s, "session_id").update(maxLength=64),
            "access-event.session_id: maxLength without limit became 64",
        ),
        (
            lambda s: nullable(s, "record_count").update(minimum=1),
            "access-event.record_count: minimum 0 became 1",
        ),
        (
            lambda s: nullable(s, "attributes").update(maxProperties=16),
            "access-event.attributes: maxProperties 32 became 16",
        ),
        (
            lambda s: nullable(s, "attributes").update({"x-max-bytes": 1024}),
            "access-event.attributes: x-max-bytes 8192 became 1024",
        ),
        (
            lambda s: nullable(s, "attributes")["additionalProperties"]["anyOf"].pop(),
            "access-event.attributes[additionalProperties]: null is not accepted any more",
        ),
        (
            lambda s: s["properties"]["reason"]["anyOf"].pop(),
            "access-event.reason: null is not accepted any more",
        ),
        (
            lambda s: s["properties"]["event_id"].update(type="integer"),
            "access-event.event_id: string is not accepted any more",
        ),
        (
            lambda s: s["properties"]["outcome"]["enum"].remove("failure"),
            "access-event.outcome: 'failure' is not accepted any more",
        ),
        (
            lambda s: s["properties"]["service"].update(enum=["billing-api"]),
            "access-event.service: 'any value' is not accepted any more",
        ),
        (
            lambda s: s["properties"]["kind"].update(const="resource"),
            "access-event.kind: 'access' is not accepted any more",
        ),
        (
            lambda s: s["properties"]["service"].update(pattern="^[a-z]+$"),
            "access-event.service: pattern 'without rule' became '^[a-z]+$'",
        ),
        (
            lambda s: s.update(additionalProperties=False),
            "access-event: additionalProperties are not accepted any more",
        ),
    ],
)
def test_a_narrower_contract_is_told(change: Change, told: str) -> None:
    """What is refused from now on is named by field, with what changed."""
    assert after(change) == [told]


def test_narrowing_inside_a_nested_model_is_told() -> None:
    """Items of lists and models inside models are looked at too."""

    def change(schema: Json) -> None:
        schema["properties"]["contacts"]["items"]["required"].append("email")
        schema["properties"]["roles"]["propertyNames"]["maxLength"] = 8

    assert after(change, "tenant") == [
        "tenant.roles[propertyNames]: maxLength 64 became 8",
        "tenant.contacts[items].email: the field became required",
    ]


class WithOptional(AccessEvent):
    """An event with one more field, that may be missing."""

    country: str | None = None


class WithRequired(AccessEvent):
    """An event with one more field, that may not."""

    country: str


class WithNarrower(AccessEvent):
    """An event with fewer words and a shorter text."""

    action: Literal["read"]
    permission: Annotated[str, Field(max_length=8)] | None = None


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (WithOptional, []),
        (WithRequired, ["e.country: the field is new and required"]),
        (
            WithNarrower,
            [
                "e.action: 'any value' is not accepted any more",
                "e.permission: maxLength without limit became 8",
            ],
        ),
    ],
)
def test_models_are_compared_as_pydantic_describes_them(model: type[BaseModel], told: list[str]) -> None:
    """The check understands the form in which changed models come out of pydantic."""
    new = {**rules(model.model_json_schema()), "x-max-bytes": SCHEMAS["access-event"]["x-max-bytes"]}
    assert narrowings(SCHEMAS["access-event"], new, "e") == told


SMALL_SCHEMAS = st.recursive(
    st.sampled_from(
        [
            {},
            {"type": "string"},
            {"type": "string", "maxLength": 3},
            {"type": "integer", "minimum": 0},
            {"type": "number", "maximum": 9},
            {"type": "null"},
            {"type": "boolean"},
            {"enum": ["a", 1]},
            {"const": "a"},
            {"type": ["string", "null"]},
        ]
    ),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda choices: {"anyOf": choices})
        | inner.map(lambda item: {"type": "array", "items": item, "maxItems": 2})
        | st.builds(
            lambda fields, required: {"type": "object", "properties": fields, "required": required},
            st.fixed_dictionaries({"a": inner, "b": inner}),
            st.lists(st.sampled_from("ab"), unique=True),
        )
    ),
    max_leaves=4,
)
SMALL_VALUES = st.recursive(
    st.sampled_from([None, True, 0, 5, 50, -1, 1.5, "", "a", "abcd"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)


@given(SMALL_SCHEMAS, SMALL_SCHEMAS, SMALL_VALUES)
def test_nothing_narrower_is_missed(old: Json, new: Json, value: Any) -> None:
    """Where the check says additive, every value that was valid still is.

    Both schemas know the same fields: a new optional field takes over a name that anyone could have used.
    """
    if narrowings(rules(old), rules(new), "v") == [] and Draft202012Validator(old).is_valid(value):
        assert Draft202012Validator(new).is_valid(value)
