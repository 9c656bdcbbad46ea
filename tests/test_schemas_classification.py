"""What kind of data each field holds is said, and shown where producers and readers look."""

from pathlib import Path
from typing import get_args

import pytest

from schemas.classification import CLASSIFICATION, Classification
from schemas.generate import documents, json_schemas
from tests.schema_examples import Json


def models(schema: Json) -> dict[str, Json]:
    own = {schema["title"]: schema} if "properties" in schema else {}
    return own | schema.get("$defs", {})


@pytest.mark.parametrize("stem", sorted(json_schemas()))
def test_each_field_of_each_schema_has_a_classification(stem: str) -> None:
    """A field that is added without one cannot be published."""
    found = {
        f"{name}.{field}": definition.get("x-data-classification")
        for name, model in models(json_schemas()[stem]).items()
        for field, definition in model.get("properties", {}).items()
    }
    assert found
    assert {name for name, said in found.items() if said not in get_args(Classification)} == set()


def test_asyncapi_shows_the_same() -> None:
    """Who reads only AsyncAPI sees it too."""
    models = documents()["asyncapi.json"]["components"]["schemas"]
    assert models["AuthEvent"]["properties"]["user_id"]["x-data-classification"] == "direct_identifier"


def test_nothing_is_classified_that_is_no_field() -> None:
    """An entry for a field that is gone would be read as true."""
    schemas = [model for schema in json_schemas().values() for model in models(schema).items()]
    fields = {name: set(model.get("properties", {})) for name, model in schemas}
    assert {name: set(said) for name, said in CLASSIFICATION.items()} == {
        name: fields[name] for name in CLASSIFICATION
    }


def test_the_documentation_names_every_personal_field() -> None:
    """Who asks what is personal finds it, each under its class."""
    text = (Path(__file__).parent.parent / "docs/privacy.md").read_text()
    rows = {line.split("|")[1].strip(" `"): line for line in text.splitlines() if line.startswith("| `")}
    events = {
        name: said
        for kind in ("AuthEvent", "AccessEvent", "RequestEvent")
        for name, said in CLASSIFICATION[kind].items()
    }
    for name, said in events.items():
        if said in ("personal", "direct_identifier", "public"):
            assert f"`{name}`" in rows[said], name
