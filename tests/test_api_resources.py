"""Tenants, webhooks, tuning, backtests and reports over HTTP."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from api_server import RunningApi, add_tenant, running_api
from conftest import eventually
from schema_examples import event
from stored import store_alert, store_events

from api.v1.backtesting import Backtests
from store.backtests import StoredBacktest, put_backtest
from store.database import Database

TENANT, OTHER = "resources-tenant", "resources-other"
NOWHERE = "http://127.0.0.1:1025/hook"
SPAN = {"from": "2026-02-01T00:00:00Z", "to": "2026-02-03T00:00:00Z"}


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with two tenants."""
    for tenant_id in (TENANT, OTHER):
        add_tenant(database, tenant_id)
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(api: RunningApi) -> httpx.Client:
    return api.client(api.key(TENANT, "tenant_admin"))


@pytest.fixture(scope="module")
def operator(api: RunningApi) -> httpx.Client:
    return api.client(api.key("", "platform_operator"))


def test_a_tenant_is_added_changed_and_removed(operator: httpx.Client) -> None:
    """By the platform; it holds when the answer comes."""
    url = "/v1/tenants/resources-new"
    settings = {"tenant_id": "resources-new", "organization_id": "org", "name": "New", "tier": "enterprise"}
    assert operator.put(url, json=settings).status_code == 200
    assert operator.get(url).json()["tier"] == "enterprise"
    assert operator.put(url, json={**settings, "name": "Newer"}).json()["name"] == "Newer"
    assert operator.delete(url).status_code == 204
    assert operator.get(url).status_code == 404


def test_a_tenant_with_a_fault_is_refused(operator: httpx.Client) -> None:
    """The field is named: misspelt, another's id, a parameter no detector has, a rule, a test."""
    url = "/v1/tenants/resources-new"
    settings = {"tenant_id": "resources-new", "organization_id": "org", "name": "New"}
    times = {"start": "2026-01-05T09:00:00Z", "end": "2026-01-05T17:00:00Z"}
    everybody = {**times, "source_networks": ["::ffff:0:0/96"]}
    for change, field in (
        ({"teir": "free"}, "body.teir"),
        ({"tenant_id": "resources-else"}, "body.tenant_id"),
        ({"detectors": {"failed_login": {"no_such": 1}}}, "body.detectors"),
        ({"rules": ["nonsense: ["]}, "body.rules"),
        ({"planned_tests": [everybody]}, "body.planned_tests"),
    ):
        answer = operator.put(url, json={**settings, **change})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == field


def test_a_tenant_tunes_its_own_detectors(admin: httpx.Client) -> None:
    """What holds says who said so; a value out of range is refused with the range."""
    own = {"failed_login": {"quiet_s": 1200}}
    shown = admin.put("/v1/tuning", json={"own": own}).json()
    assert shown["own"] == own
    [setting] = [
        s for s in shown["settings"] if (s["detector"], s["parameter"]) == ("failed_login", "quiet_s")
    ]
    assert (setting["value"], setting["source"]) == (1200, "tenant")
    assert admin.get("/v1/tuning").json() == shown
    refused = admin.put("/v1/tuning", json={"own": {"failed_login": {"quiet_s": -1}}})
    assert refused.status_code == 422
    assert "quiet_s" in refused.text
    assert admin.put("/v1/tuning", json={"own": {}}).json()["own"] == {}


def test_tuning_undoes_no_change_that_is_under_way(api: RunningApi, admin: httpx.Client) -> None:
    """A suspension that no worker has taken up yet would be written over by what the store has."""
    api.produced.changing.add(TENANT)
    refused = admin.put("/v1/tuning", json={"own": {}})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    api.produced.changing.clear()
    assert admin.put("/v1/tuning", json={"own": {}}).status_code == 200


def test_a_webhook_lives_over_http(admin: httpx.Client) -> None:
    """Its secret is shown when it is made and rotated, and never else."""
    added = admin.post("/v1/webhooks", json={"url": NOWHERE, "min_severity": "high"}).json()
    url = f"/v1/webhooks/{added['endpoint_id']}"
    assert added["secret"].startswith("whsec_")
    shown = admin.get(url)
    assert "secret" not in shown.json()
    assert admin.patch(url, json={"status": "disabled"}).json()["status"] == "disabled"
    rotated = admin.post(f"{url}/rotate").json()
    assert rotated["secret"] != added["secret"]
    probe = admin.post(f"{url}/test").json()
    assert probe["http_status"] == 0
    assert probe["error"]
    assert admin.get(f"{url}/deliveries").json() == {"deliveries": []}
    assert admin.delete(url).status_code == 204
    assert admin.get(url).status_code == 404


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/", "http://169.254.169.254/latest/meta-data", "http://[::1]/", "http://0x7f000001:99/",
        "http://[64:ff9b::a00:1]/", "http://[::ffff:10.0.0.1]/", "http://0/", "ftp://example.com/",
        "file:///etc/passwd", "http://user@10.0.0.1/", "http://localhost:22/", "http://2130706433:99/",
        "gopher://192.0.2.1/", "http://10.1/",
    ],
)  # fmt: skip
def test_a_webhook_may_not_go_inside(admin: httpx.Client, url: str) -> None:
    """However the address is spelt."""
    answer = admin.post("/v1/webhooks", json={"url": url})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "body.url"


def test_a_backtest_is_asked_for_and_found_again(admin: httpx.Client) -> None:
    """It runs in the background; its result stays."""
    begun = admin.post("/v1/backtests", json=SPAN)
    assert begun.status_code == 202
    url = f"/v1/backtests/{begun.json()['backtest_id']}"
    eventually(lambda: admin.get(url).json()["status"] == "finished")
    assert admin.get(url).json()["result"] == {"alerts": []}
    [listed] = admin.get("/v1/backtests").json()["backtests"]
    assert listed["result"] is None


def shown(api: RunningApi, backtest_id: str) -> tuple[str, Any]:
    """Return how a backtest of the second tenant stands, by itself and in the list, and its result."""
    client = api.client(api.key(OTHER, "tenant_admin"))
    alone = client.get(f"/v1/backtests/{backtest_id}").json()
    [listed] = [b for b in client.get("/v1/backtests").json()["backtests"] if b["backtest_id"] == backtest_id]
    assert (listed["status"], listed["result"]) == (alone["status"], None)
    return alone["status"], alone["result"]


def test_a_backtest_has_failed_when_its_process_is_stopped(api: RunningApi) -> None:
    """At once: who asked for it need not wait for what never comes."""

    async def stopped() -> str:
        async def endless(*given: Any) -> dict[str, Any]:
            await asyncio.Event().wait()
            return {}

        backtests = Backtests(api.parts, endless)
        begun = await backtests.begin(OTHER, SPAN, "test")
        await asyncio.sleep(0)
        await backtests.stop()
        return begun.backtest_id

    status, result = shown(api, asyncio.run(stopped()))
    assert status == "failed"
    assert "the process ended" in result["error"]


def test_a_backtest_has_failed_when_its_process_was_killed(api: RunningApi, database: Database) -> None:
    """Nobody wrote that; but no backtest takes as long as this one. What has ended stays as it ended."""
    now = api.clock.now()
    left = StoredBacktest(OTHER, uuid4().hex, "running", {}, None, "test", now, now)
    ended = replace(left, backtest_id=uuid4().hex, status="finished", result={"alerts": []})
    for each in (left, ended):
        put_backtest(database, each)
    api.clock.pass_(minutes=16)
    assert shown(api, left.backtest_id) == ("running", None)
    api.clock.pass_(minutes=5)
    status, result = shown(api, left.backtest_id)
    assert status == "failed"
    assert "the process ended" in result["error"]
    assert shown(api, ended.backtest_id) == ("finished", {"alerts": []})


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"to": "2025-01-01T00:00:00Z"}, "body.to"),
        ({"to": "2027-01-01T00:00:00Z"}, "body.to"),
        ({"detectors": {"failed_login": {"quiet_s": -1}}}, "body.detectors"),
        ({"from": "yesterday"}, "body.from"),
    ],
)
def test_a_backtest_that_makes_no_sense_is_refused(
    admin: httpx.Client, change: dict[str, object], field: str
) -> None:
    """Before it begins."""
    answer = admin.post("/v1/backtests", json={**SPAN, **change})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


@pytest.fixture(scope="module")
def reported(database: Database) -> None:
    """Two days of a tenant, and somebody else's."""
    at = "2026-02-01T10:00:00Z"
    grant = {"action": "grant", "permission": "roles:grant", "resource_type": "role", "time": at}
    store_events(
        database,
        *(event("auth", tenant_id=TENANT, event_id=f"r{i}", user_id="ana", time=at, outcome="failure",
                source_ip="192.0.2.9") for i in range(3)),
        event("auth", tenant_id=TENANT, event_id="in", user_id="ana", time="2026-02-02T10:00:00Z"),
        event("access", tenant_id=TENANT, event_id="g", user_id="ben", **grant),
        event("access", tenant_id=TENANT, event_id="d", user_id="ben", **{**grant, "outcome": "failure",
              "permission": "keys:read"}),
        event("auth", tenant_id=TENANT, event_id="late", user_id="ana", time="2026-02-03T00:00:00Z"),
        event("auth", tenant_id=OTHER, event_id="r0", user_id="eve", time=at, outcome="failure"),
    )  # fmt: skip


@pytest.mark.usefixtures("reported")
def test_activity_is_reported_by_day(admin: httpx.Client) -> None:
    """Of the tenant and the time alone."""
    found = admin.get("/v1/reports/activity", params=SPAN).json()
    assert [(d["day"], d["kind"], d["events"], d["failures"]) for d in found["by_day"]] == [
        ("2026-02-01", "access", 2, 1),
        ("2026-02-01", "auth", 3, 3),
        ("2026-02-02", "auth", 1, 0),
    ]
    assert found["failing_users"] == [{"value": "ana", "failures": 3}, {"value": "ben", "failures": 1}]
    assert found["failing_addresses"] == [{"value": "192.0.2.9", "failures": 3}]


@pytest.mark.usefixtures("reported")
def test_a_review_says_who_used_which_rights(admin: httpx.Client) -> None:
    """Used apart from denied, and changes of rights counted."""
    users = {u["user_id"]: u for u in admin.get("/v1/reports/access-review", params=SPAN).json()["users"]}
    assert users.keys() == {"ana", "ben"}
    assert (users["ana"]["logins"], users["ana"]["failed_logins"]) == (1, 3)
    assert users["ben"]["permissions_used"] == ["roles:grant"]
    assert users["ben"]["permissions_denied"] == ["keys:read"]
    assert users["ben"]["privileged"] == 1


def test_alerts_are_reported_with_how_fast_people_acted(
    api: RunningApi, database: Database, admin: httpx.Client
) -> None:
    """From the first revision's publication to the first action."""
    now = api.clock.now()
    first = store_alert(database, TENANT, detected_at=now, published_at=now)
    store_alert(database, TENANT, detected_at=now, published_at=now, severity="low")
    api.clock.pass_(seconds=90)
    admin.post(f"/v1/alerts/{first.alert_id}/acknowledge", json={})
    found = admin.get("/v1/reports/alerts").json()
    assert (found["alerts"], found["acted_on"], found["mean_time_to_act_s"]) == (2, 1, 90.0)
    assert {each["severity"] for each in found["by_class"]} == {"high", "low"}


@pytest.mark.parametrize("report", ["activity", "alerts", "access-review"])
def test_a_report_needs_a_sensible_time(admin: httpx.Client, report: str) -> None:
    """Not backwards, not for ever."""
    for asked in (
        {"from": SPAN["to"], "to": SPAN["from"]},
        {"from": "2020-01-01T00:00:00Z"},
        {"to": "0001-01-02T00:00:00Z"},
    ):
        assert admin.get(f"/v1/reports/{report}", params=asked).status_code == 422
