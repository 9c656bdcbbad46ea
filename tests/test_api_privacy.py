"""People behind pseudonyms at the HTTP API: who may know, search by and forget them."""

import json
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from api_server import RunningApi, add_tenant, running_api
from schema_examples import event
from stored import store_alert, store_events

from schemas.alert import Entity
from store.certificates import why_not_proven
from store.database import Database
from store.privacy_log import entries
from store.queries import TenantContext
from store.seals.keys import SealKeys
from store.vault import Subject
from tenantwatch.settings import Settings
from tenantwatch.vault import open_privacy_if_keyed

JANE = "jane@example.com"
OWN, OTHER = f"people-{uuid4().hex[:8]}", f"people-{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with two tenants; Jane is known to the first, and one event of hers is stored."""
    for tenant_id in (OWN, OTHER):
        add_tenant(database, tenant_id)
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        known(running, JANE)
        store_events(database, event("auth", tenant_id=OWN, event_id="janes", user_id=pseudonym(running)))
        yield running


def pseudonym(api: RunningApi, who: str = JANE) -> str:
    assert api.parts.privacy is not None
    return api.parts.privacy.vault.pseudonym(OWN, who)


def known(api: RunningApi, who: str) -> str:
    """Put somebody into the first tenant's vault, and return the pseudonym."""
    assert api.parts.privacy is not None
    api.parts.privacy.vault.keep([Subject(OWN, pseudonym(api, who), who, 2**43)])
    return pseudonym(api, who)


def found(api: RunningApi, role: str, user_id: str, tenant_id: str = OWN) -> list[str]:
    """Return the ids of the events that a role finds of a user."""
    client = api.client(api.key(tenant_id, role))
    answer = client.get("/v1/events", params={"user_id": user_id})
    assert answer.status_code == 200, answer.text
    return [one["event_id"] for one in answer.json()["events"]]


def test_events_are_found_by_the_original_by_those_who_may_read_it(api: RunningApi) -> None:
    """In any spelling; to others an address is a word that no event has, so they learn nothing from it."""
    assert found(api, "tenant_admin", "Jane@Example.com") == ["janes"]
    assert found(api, "viewer", JANE) == []
    assert found(api, "viewer", pseudonym(api)) == ["janes"]
    assert found(api, "tenant_admin", JANE, OTHER) == []


def test_events_that_hold_an_address_as_it_is_are_found_by_it(api: RunningApi, database: Database) -> None:
    """Beside those that hold its pseudonym."""
    mia = "mia@example.com"
    store_events(
        database,
        event("auth", tenant_id=OWN, event_id="of-now", user_id=pseudonym(api, mia)),
        event("auth", tenant_id=OWN, event_id="of-before", user_id=mia),
    )
    assert sorted(found(api, "tenant_admin", mia)) == ["of-before", "of-now"]


@pytest.fixture(scope="module")
def eve(api: RunningApi, database: Database) -> str:
    """Somebody who is named wherever one can be, and in an alert; the address."""
    who, number = "eve@example.com", "987-65-4321"
    stood = known(api, who)
    store_events(
        database,
        event("auth", tenant_id=OWN, event_id="session", session_id=f"of:{stood}", user_id="ana"),
        event("access", tenant_id=OWN, event_id="resource", resource_id=f"user:{stood}", user_id="ana"),
        event("access", tenant_id=OWN, event_id="ssn", attributes={"ssn": known(api, number)}, user_id="ana"),
        event("request", tenant_id=OWN, event_id="path", http_path=f"/users/{stood}/jobs", user_id="ana"),
    )
    store_alert(database, OWN, entity=Entity(type="user_id", value=stood))
    store_alert(database, OWN, entity=Entity(type="user_id", value="ana"))
    return who


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"session_id": "of:Eve@example.com"}, ["session"]),
        ({"resource_id": "user:eve@example.com"}, ["resource"]),
        ({"text": "eve@example.com"}, ["path", "resource"]),
        ({"text": "/users/eve%40example.com"}, ["path"]),
        ({"text": "987-65-4321"}, ["ssn"]),
        ({"text": "/users/"}, ["path"]),
    ],
)
def test_every_field_that_holds_pseudonyms_is_searched_by_the_original(
    api: RunningApi, eve: str, filters: dict[str, str], expected: list[str]
) -> None:
    """Among other words too, by those who may read it; to others it is a word that no event has."""
    admin, viewer = (api.client(api.key(OWN, role)) for role in ("tenant_admin", "viewer"))
    by_role = [
        sorted(one["event_id"] for one in client.get("/v1/events", params=filters).json()["events"])
        for client in (admin, viewer)
    ]
    assert by_role == [expected, expected if filters == {"text": "/users/"} else []]


def test_an_event_is_shown_by_the_original_in_its_id_to_those_who_may_read_it(
    api: RunningApi, database: Database
) -> None:
    """A producer that makes ids of addresses still finds its events; to others there is no such event."""
    stored_as = f"welcome:{known(api, 'kim@example.com')}"
    store_events(database, event("auth", tenant_id=OWN, event_id=stored_as))
    admin, viewer = (api.client(api.key(OWN, role)) for role in ("tenant_admin", "viewer"))
    shown = admin.get("/v1/events/welcome:Kim@example.com")
    assert [one["event_id"] for one in shown.json()["events"]] == [stored_as]
    assert viewer.get("/v1/events/welcome:Kim@example.com").status_code == 404
    assert viewer.get(f"/v1/events/{stored_as}").status_code == 200
    two = "-".join([stored_as] * 2)
    assert viewer.get(f"/v1/events/{two}").status_code == 404, "no refusal: with two people it may be so long"


@pytest.mark.parametrize("asked", [{}, {"entity_type": "user_id"}])
def test_alerts_are_found_by_the_original_by_those_who_may_read_it(
    api: RunningApi, eve: str, asked: dict[str, str]
) -> None:
    """With or without saying that it is a user."""
    admin, viewer = (api.client(api.key(OWN, role)) for role in ("tenant_admin", "viewer"))
    asked = {**asked, "entity_value": eve.upper()}
    [found] = admin.get("/v1/alerts", params=asked).json()["alerts"]
    assert found["entity"]["value"] == pseudonym(api, eve)
    assert viewer.get("/v1/alerts", params=asked).json()["alerts"] == []


@pytest.mark.parametrize("asked", ["Eve@Example.com", "eve%40example.com", "+44 20 7946 0000"])
def test_who_names_a_person_and_no_tenant_is_told_to_name_one(api: RunningApi, eve: str, asked: str) -> None:
    """Nothing would be found: a person has another pseudonym in each tenant. All else is found in all."""
    admin, within = (api.client(api.key("", "platform_admin"), **h) for h in ({}, {"x_tenant_id": OWN}))
    refused = admin.get("/v1/alerts", params={"entity_value": asked})
    assert (refused.status_code, refused.json()["code"]) == (400, "tenant_required")
    assert within.get("/v1/alerts", params={"entity_value": asked}).status_code == 200
    assert within.get("/v1/alerts", params={"entity_value": eve}).json()["alerts"]
    for word in ("ana", pseudonym(api, eve)):
        assert admin.get("/v1/alerts", params={"entity_value": word}).json()["alerts"]
    # To whom may not read originals an address is a word that no alert has, with a tenant and without.
    auditor = api.client(api.key("", "platform_auditor"))
    assert auditor.get("/v1/alerts", params={"entity_value": asked}).json()["alerts"] == []


def test_an_export_of_events_goes_by_the_original_too(api: RunningApi) -> None:
    """The same filters, the same people."""
    client = api.client(api.key(OWN, "tenant_admin"))
    rows = client.get("/v1/events/export", params={"user_id": JANE}).text.splitlines()
    assert [json.loads(row)["user_id"] for row in rows] == [pseudonym(api)]
    viewer = api.client(api.key(OWN, "analyst"))
    assert viewer.get("/v1/events/export", params={"user_id": JANE}).text == ""


def test_everybody_who_sees_events_sees_people_masked(api: RunningApi) -> None:
    """Of the own tenant only."""
    body = {"pseudonyms": [pseudonym(api), "ana"]}
    answer = api.client(api.key(OWN, "viewer")).post("/v1/privacy/masked", json=body)
    assert answer.json() == {"people": {pseudonym(api): "j***@example.com"}}
    answer = api.client(api.key(OTHER, "viewer")).post("/v1/privacy/masked", json=body)
    assert answer.json() == {"people": {}}


def test_a_reveal_is_noted_and_in_the_trail(api: RunningApi, database: Database) -> None:
    """With who and why; once."""
    client = api.client(api.key(OWN, "tenant_admin", name="officer"))
    told: list[Any] = []
    assert api.parts.privacy is not None
    api.parts.privacy.vault.on_reveal.append(lambda *what: told.append(what))
    body = {"pseudonyms": [pseudonym(api)], "reason": "case 17"}
    assert client.post("/v1/privacy/reveal", json=body).json() == {"people": {pseudonym(api): JANE}}
    noted = entries(database, TenantContext(OWN), action="reveal")[0]
    assert (noted["reason"], noted["actor"].startswith("key:")) == ("case 17", True)
    trail = [one for one in api.produced.of("access", OWN) if one["action"] == "reveal"]
    assert [(one["permission"], one["outcome"], one["record_count"]) for one in trail] == [
        ("pii:read", "success", 1)
    ]
    assert told == []


def test_an_export_of_a_person_tells_the_trail_how_many_records(api: RunningApi) -> None:
    """As the command line does: without the lines on whom it is about, and on who else is named."""
    client = api.client(api.key(OWN, "tenant_admin"))
    wish = {"subjects": [JANE], "reason": "case 18"}
    rows = client.post("/v1/privacy/export", json=wish).text.splitlines()
    told = [one for one in api.produced.of("access", OWN) if one["resource_type"] == "person"][-1]
    assert (told["action"], told["permission"], told["record_count"]) == ("export", "pii:read", len(rows) - 2)
    assert len(rows) > 3


def test_another_tenant_s_person_is_nobody(api: RunningApi) -> None:
    """Neither revealed nor exported by its pseudonym."""
    client = api.client(api.key(OTHER, "tenant_admin"))
    body = {"pseudonyms": [pseudonym(api)], "reason": "curious"}
    assert client.post("/v1/privacy/reveal", json=body).json() == {"people": {}}
    wish = {"subjects": [pseudonym(api)], "reason": "curious"}
    head, *rows = client.post("/v1/privacy/export", json=wish).text.splitlines()
    assert json.loads(head)["pseudonyms"] == {pseudonym(api): None}
    assert [json.loads(row)["type"] for row in rows] == ["dealing", "dealing", "others"]
    assert client.post("/v1/privacy/forget", json=wish).json()["removed"]["rows"] == {"vault": 0}
    assert found(api, "tenant_admin", JANE) == ["janes"]


def test_a_person_is_exported_held_and_forgotten(api: RunningApi) -> None:
    """One after the other, each by the original."""
    client = api.client(api.key(OWN, "tenant_admin"))
    wish = {"subjects": ["ben@example.com"], "reason": "request 3"}
    who = known(api, "ben@example.com")
    head = json.loads(client.post("/v1/privacy/export", json=wish).text.splitlines()[0])
    assert head["pseudonyms"] == {who: "ben@example.com"}
    hold = client.post("/v1/privacy/holds", json={"subject": "ben@example.com", "reason": "case 4"}).json()
    refused = client.post("/v1/privacy/forget", json=wish)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert hold["hold_id"] in refused.json()["detail"]
    assert [one["hold_id"] for one in client.get("/v1/privacy/holds").json()["holds"]] == [hold["hold_id"]]
    assert client.delete(f"/v1/privacy/holds/{hold['hold_id']}").status_code == 204
    told = client.post("/v1/privacy/forget", json=wish).json()
    assert told["removed"]["rows"] == {"vault": 1}
    assert client.get(f"/v1/privacy/certificates/{told['certificate_id']}").json() == told
    body = {"pseudonyms": [who], "reason": "after"}
    assert client.post("/v1/privacy/reveal", json=body).json() == {"people": {}}
    forgotten = client.get("/v1/privacy/report").json()["forgotten"]
    assert told["certificate_id"] in [one["certificate_id"] for one in forgotten]


@pytest.mark.parametrize(
    "since", ["0001-01-02T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T00:00:00Z"]
)
def test_a_report_since_any_time_is_given(api: RunningApi, since: str) -> None:
    """Also since one that ClickHouse cannot hold."""
    client = api.client(api.key(OWN, "tenant_admin"))
    client.post("/v1/privacy/holds", json={"subject": "nora@example.com", "reason": "case 9"})
    told = client.get("/v1/privacy/report", params={"since": since})
    assert told.status_code == 200, told.text
    assert ("case 9" in {one["reason"] for one in told.json()["noted"]}) is since.startswith("0001")


def test_an_api_process_signs_certificates(database: Database, tmp_path: Path) -> None:
    """With the key of the settings, as workers of a cluster share it."""
    keys = {"master_key": b64encode(b"m" * 32).decode(), "seal_key": b64encode(b"s" * 32).decode()}
    settings = Settings(data_dir=tmp_path, **keys)  # type: ignore[arg-type]
    privacy = open_privacy_if_keyed(settings, database)
    ring = SealKeys.existing(tmp_path, settings.seal_key)
    assert privacy is not None
    assert ring is not None
    told = privacy.forget(
        TenantContext(OWN), ["nobody@example.com"], actor="officer", reason="test", now=datetime.now(UTC)
    )
    assert why_not_proven(told, ring.trust()) is None


def test_without_a_master_key_the_vault_is_not_set_up(
    database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An API process may serve all else without one."""
    with running_api(database, tmp_path_factory.mktemp("api"), privacy=False) as keyless:
        client = keyless.client(keyless.key(OWN, "tenant_admin"))
        answer = client.get("/v1/privacy/holds")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_configured")
        assert client.get("/v1/events").status_code == 200
