"""Events and alerts as OCSF: what OCSF's own schema accepts, with nothing lost on the way."""

import json
from functools import cache
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from scenarios import golden
from schema_examples import encode, event, valid_events

from schemas.event import KINDS, Kind
from schemas.ocsf import alert_to_ocsf, event_to_ocsf
from schemas.ocsf.common import OCSF_VERSION
from schemas.parse import parse
from tests.sizes import examples, some

FIRING = [path for path in golden.files() if path.stem.endswith("_firing")]  # the others raise nothing
CLASSES = {3002: "authentication", 6003: "api_activity", 4002: "http_activity", 2004: "detection_finding"}


@cache
def validator(class_uid: int, *profiles: str) -> jsonschema.Draft202012Validator:
    schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=OCSF_VERSION))
    return jsonschema.Draft202012Validator(schema.get_class_schema(CLASSES[class_uid], list(profiles)))


def problems(found: dict[str, Any]) -> list[str]:
    plain = json.loads(json.dumps(found))
    profiles = found["metadata"].get("profiles", [])
    errors = validator(found["class_uid"], *profiles).iter_errors(plain)
    return [f"{error.json_path}: {error.message[:200]}" for error in errors]


def values(found: Any) -> list[Any]:
    """Return every scalar, however deep it is."""
    if isinstance(found, dict):
        return [leaf for value in found.values() for leaf in values(value)]
    if isinstance(found, list):
        return [leaf for value in found for leaf in values(value)]
    return [found]


def as_stored(kind: Kind, data: dict[str, Any]) -> dict[str, Any]:
    """Return an event as the store gives it back."""
    columns = parse(kind, [encode(data)]).batch.columns
    row = {name: column[0] for name, column in columns.items()}
    return {**row, "kind": kind, "time": data["time"], "attributes": json.loads(row["attributes"] or "{}")}


@given(event_=st.sampled_from(KINDS).flatmap(valid_events))
@examples(30, thorough=150)
def test_every_event_is_valid_ocsf(event_: dict[str, Any]) -> None:
    """Whatever the contract accepts, with all its fields or the fewest."""
    assert problems(event_to_ocsf(as_stored(event_["kind"], event_))) == []


COMMON = {
    "user_id": "ana", "source_ip": "192.0.2.1", "user_agent": "Firefox", "session_id": "s-1",
    "trace_id": "t-1", "token_id": "j-1", "token_tenant_id": "tenant-b", "reason": "some_reason",
    "attributes": {"floor": 3},
}  # fmt: skip
EVERY: dict[Kind, dict[str, Any]] = {
    "auth": {**COMMON, "auth_method": "kerberos"},
    "access": {**COMMON, "permission": "jobs:read", "resource_type": "job", "resource_id": "job-1",
               "resource_tenant_id": "tenant-c", "record_count": 12},
    "request": {**COMMON, "http_method": "GET", "http_route": "/v1/jobs/{id}", "http_path": "/v1/jobs/1",
                "http_status": 200, "duration_ms": 12.5, "bytes_in": 7, "bytes_out": 8, "api_key_id": "k-1"},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_no_value_of_an_event_is_lost(kind: Kind) -> None:
    """What has no attribute of its own in OCSF is under ``unmapped``."""
    given_event = as_stored(kind, event(kind, **EVERY[kind]))
    found = values(event_to_ocsf(given_event))
    for name, value in given_event.items():
        if name in ("kind", "time", "outcome", "duration_ms"):
            continue
        for leaf in values(value):
            assert leaf in found, name


@pytest.mark.parametrize("path", some(FIRING, golden.quick), ids=lambda path: path.stem)
def test_every_alert_is_valid_ocsf(path: Any) -> None:
    """Of every class of every detector."""
    scenario = json.loads(path.read_text())
    for alert in golden.backtest(golden.expand(scenario), golden.tenants_of(scenario)).alerts:
        found = alert_to_ocsf(alert)
        assert problems(found) == []
        assert found["finding_info"]["uid"] == alert.alert_id
        assert found["metadata"]["tenant_uid"] == alert.tenant_id


def test_the_schema_refuses_what_is_wrong() -> None:
    """The checks above could not fail otherwise."""
    found = event_to_ocsf(event("auth"))
    del found["user"]
    assert problems(found)
    assert problems({**event_to_ocsf(event("request")), "class_uid": 4002, "time": "yesterday"})
