"""Alerts over HTTP: a page at a time, with what people have done about them."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from api_server import RunningApi, add_tenant, running_api
from stored import IDS, store_alert

from schemas.alert import Alert, Entity
from schemas.received_alert import ReceivedAlert
from store.database import Database
from store.writer import EventWriter

TENANT, OTHER = "alerts-tenant", "alerts-other"
START = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def alerts(database: Database) -> list[Alert]:
    """Twelve alerts, two of them at one moment; every third resolved; one of another tenant."""
    store_alert(database, OTHER, detected_at=START)
    found = []
    for i in range(12):
        at = START + timedelta(minutes=i - i % 2)
        severity = ("low", "medium", "high", "critical")[i % 4]
        alert = store_alert(
            database, TENANT, detected_at=at, severity=severity,
            entity=Entity(type="source_ip", value=f"192.0.2.{i}"),
        )  # fmt: skip
        if i % 3 == 0:
            resolved = alert.model_dump() | {"revision": 2, "status": "resolved"}
            alert = store_alert(database, **resolved)
        found.append(alert)
    return found


@pytest.fixture(scope="module")
def api(
    database: Database, alerts: list[Alert], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningApi]:
    """The API over them."""
    for tenant_id in (TENANT, OTHER):
        add_tenant(database, tenant_id)
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def responder(api: RunningApi) -> httpx.Client:
    return api.client(api.key(TENANT, "responder"))


def listed(client: httpx.Client, **asked: Any) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        answer = client.get("/v1/alerts", params=asked | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        found += [each["alert_id"] for each in answer.json()["alerts"]]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found


@pytest.mark.parametrize("limit", [1, 5, 1000])
def test_pages_hold_every_alert_once_latest_first(
    responder: httpx.Client, alerts: list[Alert], limit: int
) -> None:
    """Also where two are of one moment."""
    expected = sorted(alerts, key=lambda alert: (-alert.detected_at.timestamp(), alert.alert_id))
    assert listed(responder, limit=limit) == [alert.alert_id for alert in expected]


def test_filters_go_by_the_newest_revision(responder: httpx.Client, alerts: list[Alert]) -> None:
    """What is resolved is not open, whatever it was before."""
    assert set(listed(responder, status="open")) == {a.alert_id for a in alerts if a.status != "resolved"}
    assert set(listed(responder, severity="high")) == {
        a.alert_id for a in alerts if a.severity in ("high", "critical")
    }
    assert listed(responder, entity_type="source_ip", entity_value="192.0.2.5") == [alerts[5].alert_id]
    assert listed(responder, entity_value="' OR 1=1 --") == []


def test_what_people_do_is_kept_beside_the_alert(
    api: RunningApi, responder: httpx.Client, alerts: list[Alert]
) -> None:
    """Who, when and why; the newest action says how far they are."""
    url = f"/v1/alerts/{alerts[1].alert_id}"
    assert responder.get(url).json()["alert"]["handling"] == "new"
    assert responder.post(f"{url}/acknowledge", json={"text": "mine"}).status_code == 201
    api.clock.pass_(seconds=1)
    assert responder.post(f"{url}/acknowledge", json={}).status_code == 409
    assert responder.post(f"{url}/comments", json={"text": "looks bad"}).status_code == 201
    api.clock.pass_(seconds=1)
    assert listed(responder, handling="acknowledged") == [alerts[1].alert_id]
    shown = responder.post(f"{url}/resolve", json={"text": "reset the password"}).json()
    assert shown["alert"]["handling"] == "resolved"
    assert listed(responder, handling="resolved") == [alerts[1].alert_id]
    assert listed(responder, handling="acknowledged") == []
    assert [(note["action"], note["text"]) for note in shown["notes"]] == [
        ("acknowledge", "mine"),
        ("comment", "looks bad"),
        ("resolve", "reset the password"),
    ]
    assert {note["created_by"] for note in shown["notes"]} == {responder.get("/v1/me").json()["subject"]}
    api.clock.pass_(seconds=1)
    assert responder.post(f"{url}/reopen", json={}).json()["alert"]["handling"] == "new"
    assert alerts[1].alert_id in listed(responder, handling="new")
    assert listed(responder, handling="resolved") == []


def test_an_alert_is_shown_with_its_revisions(responder: httpx.Client, alerts: list[Alert]) -> None:
    """The oldest first."""
    shown = responder.get(f"/v1/alerts/{alerts[0].alert_id}").json()
    assert [each["revision"] for each in shown["revisions"]] == [1, 2]
    assert shown["alert"]["status"] == "resolved"


def test_an_alert_is_shown_as_ocsf(responder: httpx.Client, alerts: list[Alert]) -> None:
    """A Detection Finding."""
    shown = responder.get(f"/v1/alerts/{alerts[0].alert_id}", params={"format": "ocsf"}).json()
    assert (shown["class_uid"], shown["finding_info"]["uid"]) == (2004, alerts[0].alert_id)


def test_the_platform_sees_everybody_s_alerts_or_one_tenant_s(api: RunningApi) -> None:
    """By the header."""
    operator = api.client(api.key("", "platform_operator"))
    entered = api.client(api.key("", "platform_operator"), X_Tenant_Id=OTHER)
    assert len(listed(operator)) > 12
    assert len(listed(entered)) == 1


def test_what_a_newer_version_adds_is_shown(
    database: Database, responder: httpx.Client, alerts: list[Alert]
) -> None:
    """It stands in the store beside this version's alerts while processes are replaced one by one."""
    body = alerts[1].model_dump(mode="json") | {"alert_id": uuid4().hex, "detector": "newer"}
    body |= {"confidence": {"of": 3}, "entity": body["entity"] | {"label": "Ana"}}
    EventWriter(database, IDS).insert_alerts([ReceivedAlert.model_validate(body)])
    shown = responder.get(f"/v1/alerts/{body['alert_id']}").json()
    assert shown["revisions"] == [body]
    assert shown["alert"] == body | {"handling": "new"}
    page = responder.get("/v1/alerts", params={"detector": "newer"}).json()
    assert page["alerts"] == [shown["alert"]]
