"""The generated documents: current, additive, self-contained, and true to the contract."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from additive import narrowings
from jsonschema import Draft7Validator, Draft202012Validator
from schema_examples import Json, event
from test_schemas_alert import alert

from schemas.alert import from_ms
from schemas.event import KINDS, MODELS
from schemas.generate import BASELINE, DIRECTORY, accepted, documents, json_schemas, main, render

NAMES = sorted(documents())
ASYNCAPI = documents()["asyncapi.json"]
TOPICS = [
    "audit.access",
    "audit.alerts",
    "audit.auth",
    "audit.dead-letters",
    "audit.request",
    "audit.tenants",
]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def resolve(document: Json, reference: str) -> Any:
    root, *path = reference.split("/")
    assert root == "#", f"{reference} leaves the document"
    found: Any = document
    for part in path:
        found = found[part]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_file_is_current(name: str) -> None:
    """What is committed is what the models say."""
    path = DIRECTORY / name
    assert path.exists(), f"{path} is missing: run `make schemas` and commit schemas/json"
    current = path.read_text(encoding="utf-8") == render(documents()[name])
    assert current, (
        f"schemas/json/{name} is not what the models say: run `make schemas` and commit schemas/json"
    )


def test_no_other_file_is_committed() -> None:
    """A file that nothing generates would grow old unseen."""
    assert sorted(path.name for path in DIRECTORY.iterdir()) == sorted([*NAMES, BASELINE.name])


def test_the_models_accept_all_that_the_last_release_accepted() -> None:
    """A change since the last release is additive; its docstring says how the baseline is moved."""
    baseline = json.loads(BASELINE.read_text(encoding="utf-8"))
    now = accepted()
    if now["version"].split(".")[0] != baseline["version"].split(".")[0]:
        pytest.fail("a new contract version needs a new baseline: python -m schemas.generate --move-baseline")
    told = [
        line
        for name, old in baseline["schemas"].items()
        for line in narrowings(old, now["schemas"][name], name)
    ]
    assert told == [], (
        f"not additive, events that version {baseline['version']} allows would be rejected:\n  "
        + "\n  ".join(told)
        + "\nKeep what is accepted and make new fields optional, or see the docstring of schemas.generate."
    )


def test_documents_are_the_same_each_time() -> None:
    """Nothing in a document depends on when or where it is made; the last line ends."""
    assert [render(d) for d in documents().values()] == [render(d) for d in documents().values()]
    assert all(render(document).endswith("}\n") for document in documents().values())


def test_generating_writes_every_document_but_the_baseline(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`make schemas` leaves the baseline alone; only `--move-baseline` writes it."""
    target = tmp_path / "schemas" / "json"
    target.parent.mkdir()
    monkeypatch.setattr("schemas.generate.DIRECTORY", target)
    monkeypatch.setattr("schemas.generate.BASELINE", target / "baseline.json")
    main([])
    assert sorted(path.name for path in target.iterdir()) == NAMES
    main(["--move-baseline"])
    assert json.loads((target / "baseline.json").read_text()) == accepted()
    assert "schemas/json/tenant.json" in capsys.readouterr().out


def test_an_unknown_argument_is_refused() -> None:
    """A misspelt option does not pass for none."""
    with pytest.raises(SystemExit, match="usage"):
        main(["--move-base"])


@pytest.mark.parametrize("name", json_schemas())
def test_a_schema_stands_alone(name: str) -> None:
    """It is valid draft 2020-12, has an id that is no address, and refers to nothing outside."""
    schema = json_schemas()[name]
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert schema["$id"] == f"urn:tenantwatch:schema:{name}"
    for reference in references(schema):
        resolve(schema, reference)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_schema_lists_every_field(kind: Any) -> None:
    """The emitter refuses what is not listed, so every field of the model is, and required where it is."""
    schema = json_schemas()[f"{kind}-event"]
    fields = MODELS[kind].model_fields
    assert list(schema["properties"]) == list(fields)
    assert set(schema["required"]) == {name for name, field in fields.items() if field.is_required()}
    assert schema["additionalProperties"] is True


def test_the_event_schema_takes_each_kind_by_its_word() -> None:
    """One of the three schemas holds, chosen by `kind`; without it none does."""
    validator = Draft202012Validator(json_schemas()["event"])
    for kind in KINDS:
        assert validator.is_valid(event(kind))
        assert not validator.is_valid(event(kind) | {"kind": "login"})
        assert not validator.is_valid({k: v for k, v in event(kind).items() if k != "kind"})


def test_every_reference_in_asyncapi_resolves() -> None:
    """The document refers to nothing that is not in it."""
    found = list(references(ASYNCAPI))
    assert found
    for reference in found:
        resolve(ASYNCAPI, reference)


def test_asyncapi_has_a_channel_for_each_topic() -> None:
    """Each topic of the contract is a channel, with an address and messages keyed by tenant."""
    assert (ASYNCAPI["asyncapi"], sorted(ASYNCAPI["channels"])) == ("3.1.0", TOPICS)
    for topic, channel in ASYNCAPI["channels"].items():
        assert channel["address"] == topic
        assert channel["messages"]
        for reference in channel["messages"].values():
            message = resolve(ASYNCAPI, reference["$ref"])
            assert message["bindings"]["kafka"]["key"]
            assert "payload" in message


def test_every_operation_uses_a_channel_and_its_messages() -> None:
    """Each channel is received from or sent to, with messages that are the channel's own."""
    used = set()
    for operation in ASYNCAPI["operations"].values():
        channel = operation["channel"]["$ref"]
        used.add(channel.removeprefix("#/channels/"))
        assert operation["action"] in ("send", "receive")
        assert all(message["$ref"].startswith(f"{channel}/messages/") for message in operation["messages"])
    assert sorted(used) == TOPICS


def test_asyncapi_says_how_messages_are_partitioned() -> None:
    """A producer that reads only this document still finds its partition."""
    assert "murmur2_random" in ASYNCAPI["info"]["description"]


def payload(message: str) -> Draft7Validator:
    """Return a validator of a message's payload; AsyncAPI reads schemas as draft 7."""
    schema = {**ASYNCAPI["components"]["messages"][message]["payload"], "components": ASYNCAPI["components"]}
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_an_event_or_an_array_of_up_to_1000(kind: Any) -> None:
    """The payload of an event topic is one event or 1 to 1,000 of them."""
    validator = payload(f"{kind}-event")
    one = event(kind)
    assert validator.is_valid(one)
    assert validator.is_valid([one] * 1_000)
    assert not validator.is_valid([])
    assert not validator.is_valid([one] * 1_001)
    assert not validator.is_valid([one, {"kind": kind}])


def test_a_tenant_is_deleted_by_null() -> None:
    """The directory's topic carries tenants and nulls."""
    messages = ASYNCAPI["channels"]["audit.tenants"]["messages"]
    assert sorted(messages) == ["tenant", "tenant-deleted", "tuning"]
    assert payload("tenant-deleted").is_valid(None)
    assert not payload("tenant").is_valid(None)


def test_a_dead_letter_carries_its_headers() -> None:
    """The headers are the contract's, all but one always; the payload may be any bytes."""
    message = ASYNCAPI["components"]["messages"]["dead-letter"]
    headers = resolve(ASYNCAPI, message["headers"]["$ref"])
    names = [
        "detail",
        "reason",
        "rejected_at",
        "rejected_indexes",
        "source_offset",
        "source_partition",
        "source_topic",
        "source_topic_id",
    ]
    assert headers["required"] == names
    assert headers["properties"].keys() - names == {"left_out_bytes"}
    assert message["contentType"] == "application/octet-stream"


def test_the_alert_schema_describes_what_is_sent() -> None:
    """An alert as it is written keeps to its own schema."""
    written = json.loads(alert(published_at=from_ms(1)).model_dump_json())
    Draft202012Validator(json_schemas()["alert"]).validate(written)
