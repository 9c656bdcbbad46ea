"""Write the JSON Schemas and the AsyncAPI document of the contract: ``make schemas``.

The models are the one source; nothing in ``schemas/json`` is edited by hand. A test fails when a
committed file differs from what the models say, and another when a change of the models is not additive:
when something that `baseline.json` accepts would be refused (a field removed or made required, a type or a
limit narrowed). Producers of the last release are then cut off by the next.

``baseline.json`` is what the last release accepted. It is moved when a release is cut, after the last
change of the models and never to silence the test::

    python -m schemas.generate --move-baseline

A change that is not additive needs a new contract version: raise `CONTRACT_VERSION`, say in the changelog
what producers have to do, and move the baseline in the same commit.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from schemas import asyncapi
from schemas.alert import Alert
from schemas.classification import CLASSIFICATION, classification_of
from schemas.event import MAX_EVENT_BYTES, AccessEvent, AuthEvent, RequestEvent
from schemas.tenant import Tenant
from schemas.tuning import Tuning

Json = dict[str, Any]

CONTRACT_VERSION: Final = "1.0.0"
DIRECTORY: Final = Path(__file__).parent / "json"
BASELINE: Final = DIRECTORY / "baseline.json"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
EVENTS: Final[dict[str, type[BaseModel]]] = {
    "auth-event": AuthEvent,
    "access-event": AccessEvent,
    "request-event": RequestEvent,
}
MODELS: Final[dict[str, type[BaseModel]]] = {**EVENTS, "tenant": Tenant, "tuning": Tuning, "alert": Alert}
# What only explains a value and never refuses one.
_ANNOTATIONS: Final = frozenset(
    {"$schema", "$id", "$defs", "title", "description", "default", "examples", "x-data-classification"}
)


def _without_field_titles(schema: Json) -> Json:
    # pydantic titles each field with its own name in capitals: noise in every diff.
    for definition in [schema, *schema.get("$defs", {}).values()]:
        for field in definition.get("properties", {}).values():
            field.pop("title", None)
    return schema


def _classified(model: str, definition: Json) -> Json:
    """Say of each field of a model what kind of data it holds."""
    for name, field in definition.get("properties", {}).items():
        field["x-data-classification"] = classification_of(model, name)
    return definition


def _definitions(models: Sequence[type[BaseModel]], ref_template: str) -> dict[str, Json]:
    """Return the schema of each model, and of the models inside it, by class name."""
    _, schema = models_json_schema([(model, "validation") for model in models], ref_template=ref_template)
    definitions: dict[str, Json] = _without_field_titles(schema)["$defs"]
    for model in EVENTS.values():
        if model.__name__ in definitions:
            definitions[model.__name__]["x-max-bytes"] = MAX_EVENT_BYTES
    for name in definitions.keys() & CLASSIFICATION.keys():
        _classified(name, definitions[name])
    return dict(sorted(definitions.items()))


def json_schemas() -> dict[str, Json]:
    """Return the JSON Schema of everything that flows, by file stem.

    Each stands alone: references stay inside the document. ``x-max-bytes`` is a limit that JSON Schema has
    no word for: the size in bytes of the value as compact JSON in UTF-8. ``x-data-classification`` says what
    kind of data a field holds (`schemas.classification`).

    >>> json_schemas()["auth-event"]["properties"]["kind"]
    {'const': 'auth', 'type': 'string', 'x-data-classification': 'public'}
    """
    schemas: dict[str, Json] = {}
    for stem, model in MODELS.items():
        definitions = _definitions([model], "#/$defs/{model}")
        schema = definitions.pop(model.__name__)
        schemas[stem] = _identified(stem, schema | ({"$defs": definitions} if definitions else {}))
    event: Json = {
        "title": "Event",
        "description": "An event of any kind; `kind` says which.",
        "oneOf": [{"$ref": f"#/$defs/{model.__name__}"} for model in EVENTS.values()],
        "$defs": _definitions(list(EVENTS.values()), "#/$defs/{model}"),
    }
    return schemas | {"event": _identified("event", event)}


def _identified(stem: str, schema: Json) -> Json:
    return {"$schema": DIALECT, "$id": f"urn:tenantwatch:schema:{stem}", **schema}


def documents() -> dict[str, Json]:
    """Return every generated document by file name."""
    components = _definitions(list(MODELS.values()), "#/components/schemas/{model}")
    return {f"{stem}.json": schema for stem, schema in json_schemas().items()} | {
        "asyncapi.json": asyncapi.document(components, CONTRACT_VERSION)
    }


def rules(schema: Json) -> Json:
    """Return a schema without its explanations and with its own references written out.

    >>> rules({"$defs": {"A": {"type": "string", "title": "A"}}, "items": {"$ref": "#/$defs/A"}})
    {'items': {'type': 'string'}}
    """
    definitions = schema.get("$defs", {})

    def plain(value: Any, names_fields: bool = False) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if not isinstance(value, dict):
            return value
        if "$ref" in value and not names_fields:
            value = definitions[value["$ref"].rpartition("/")[2]]
        return {
            key: sorted(item) if key == "required" and not names_fields else plain(item, key == "properties")
            for key, item in value.items()
            if names_fields or key not in _ANNOTATIONS
        }

    written_out: Json = plain(schema)
    return written_out


def accepted() -> Json:
    """Return what the models accept, in the form that `baseline.json` has."""
    schemas = json_schemas()
    return {
        "version": CONTRACT_VERSION,
        "schemas": {stem: rules(schemas[stem]) for stem in sorted(MODELS)},
    }


def render(document: Json) -> str:
    """Return the text of a document: the same for the same models, on every machine."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Write the files; with ``--move-baseline`` only the baseline."""
    if arguments not in ([], ["--move-baseline"]):
        raise SystemExit("usage: python -m schemas.generate [--move-baseline]")
    texts = {BASELINE: accepted()} if arguments else {DIRECTORY / n: d for n, d in documents().items()}
    DIRECTORY.mkdir(exist_ok=True)
    for path, document in texts.items():
        path.write_text(render(document), encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(DIRECTORY.parent.parent)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
