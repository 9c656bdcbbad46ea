"""The API's own events: whose trail they are in, that they keep to the contract, what is never in them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from api_server import PLATFORM_TENANT, PLENTY, RunningApi, add_tenant, authorization, running_api
from conftest import eventually

from api.v1.parts import ApiConfig
from schemas.event import MODELS
from store.database import Database

TENANT, OTHER = "audit-own", "audit-other"


@pytest.fixture
def api(database: Database, tmp_path: Path) -> Iterator[RunningApi]:
    """The API, with two tenants and nothing told yet."""
    for tenant_id in (TENANT, OTHER):
        add_tenant(database, tenant_id)
    with running_api(database, tmp_path) as running:
        yield running


def of(api: RunningApi, kind: str, tenant_id: str, *names: str) -> list[Any]:
    return [tuple(event[name] for name in names) for event in api.produced.of(kind, tenant_id)]


def test_a_call_is_told_with_who_what_and_how(api: RunningApi) -> None:
    """Request, access and the use of the key, each in the caller's tenant."""
    key = api.key(TENANT, "tenant_admin")
    answer = api.client(key).get("/v1/keys", headers={"X-Request-Id": "of-the-test"})
    subject = f"key:{key[3:19]}"
    assert of(api, "auth", TENANT, "action", "outcome", "user_id", "auth_method") == [
        ("api_key_use", "success", subject, "api_key")
    ]
    assert of(api, "access", TENANT, "action", "permission", "resource_type", "outcome") == [
        ("read", "keys:manage", "api_key", "success")
    ]
    names = ("http_method", "http_route", "http_status", "api_key_id", "user_id", "trace_id", "source_ip")
    assert of(api, "request", TENANT, *names) == [
        ("GET", "/v1/keys", 200, key[3:19], subject, "of-the-test", "127.0.0.1")
    ]
    assert of(api, "request", TENANT, "bytes_out") == [(len(answer.content),)]


def test_a_denial_is_told(api: RunningApi) -> None:
    """With the permission that was missing: detectors look for those who try."""
    api.client(api.key(TENANT, "viewer")).get("/v1/keys")
    assert of(api, "access", TENANT, "outcome", "reason", "permission") == [
        ("failure", "missing_permission", "keys:manage")
    ]


def test_the_platform_s_people_are_seen_where_they_enter(api: RunningApi) -> None:
    """What they do there is in the tenant's trail, and says where they are from."""
    key = api.key("", "platform_admin")
    api.client(key, x_tenant_id=TENANT).get("/v1/keys")
    assert of(api, "access", TENANT, "user_id", "token_tenant_id", "resource_tenant_id") == [
        (f"key:{key[3:19]}", PLATFORM_TENANT, TENANT)
    ]
    assert of(api, "request", TENANT, "http_route") == []
    assert of(api, "request", PLATFORM_TENANT, "http_route") == [("/v1/keys",)]


def test_a_guess_at_a_key_is_in_its_owner_s_trail(api: RunningApi) -> None:
    """A wrong secret of a key that there is; of one that there is not, it is the platform's."""
    key = api.key(TENANT, "viewer")
    api.client(key[:20] + "A" * 43).get("/v1/me")
    api.client(f"tw_{'0' * 16}_{'A' * 43}").get("/v1/me")
    assert of(api, "auth", TENANT, "outcome", "reason", "user_id") == [
        ("failure", "wrong_secret", f"key:{key[3:19]}")
    ]
    assert of(api, "auth", PLATFORM_TENANT, "outcome", "reason", "user_id") == [
        ("failure", "unknown_key", None)
    ]


def test_a_token_s_life_is_told(api: RunningApi) -> None:
    """Given, refreshed, revoked, each with its token's id."""
    key = api.key(TENANT, "viewer")
    pair = api.token(key, scope="offline_access").json()
    second = api.token(key, grant_type="refresh_token", refresh_token=pair["refresh_token"]).json()
    form = {"client_id": key[3:19], "client_secret": key, "token": second["refresh_token"]}
    api.client().post("/v1/oauth/revoke", data=form)
    told = of(api, "auth", TENANT, "action", "outcome")
    assert [action for action, outcome in told if outcome == "success" and action != "api_key_use"] == [
        "token_issue",
        "token_refresh",
        "token_revoke",
    ]


def provoke(api: RunningApi) -> list[str]:
    """Call in every way there is; return the secrets that were used."""
    key, stranger = api.key(TENANT, "tenant_admin"), api.key(OTHER, "viewer")
    client = api.client(key)
    made = client.post("/v1/keys", json={"name": "x", "roles": ["viewer"]}).json()
    client.post(f"/v1/keys/{made['key_id']}/rotate", json={})
    client.get(f"/v1/keys/{stranger[3:19]}")
    client.get("/v1/keys/" + "x" * 3_000)
    client.get("/v1/nowhere/%C3%A9%7F%00%ff%0aX")
    client.post("/v1/keys", content=b"{", headers={"Content-Type": "application/json"})
    client.delete("/v1/keys")
    client.get("/v1/keys", headers={"X-Tenant-Id": OTHER, "User-Agent": ""})
    client.get("/v1/keys", headers={"X-Tenant-Id": "no tenant at all"})
    api.client().get("/v1/me")
    api.client("nonsense").get("/v1/me")
    pair = api.token(key, scope="offline_access").json()
    for _ in range(2):
        api.token(key, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    api.client(pair["access_token"]).get("/v1/me")
    now = int(api.clock.now().timestamp())
    told = authorization(key, "GET", "/v1/me", b"", now, "nonce-of-the-audit")
    for _ in range(2):
        api.client().get("/v1/me", headers={"Authorization": told})
    secrets = [key, stranger, made["key"], *(pair[name] for name in ("access_token", "refresh_token"))]
    return [*secrets, told.split("Signature=")[1]]


def test_every_event_keeps_to_the_contract(api: RunningApi) -> None:
    """None would be a dead letter, whatever was asked."""
    provoke(api)
    kinds = set()
    for kind, tenant_id, event in api.produced.events:
        parsed = MODELS[kind].model_validate(event)  # type: ignore[index]
        assert (parsed.kind, parsed.tenant_id) == (kind, tenant_id)
        assert not parsed.model_extra, "a field that the contract does not know"
        kinds.add(kind)
    assert kinds == {"auth", "access", "request"}
    ids = [event["event_id"] for _, _, event in api.produced.events]
    assert len(set(ids)) == len(ids)


def test_no_secret_is_in_an_event_or_in_the_log(api: RunningApi) -> None:
    """Not even a part of one."""
    with structlog.testing.capture_logs() as logs:
        secrets = provoke(api)
    told = json.dumps(api.produced.events) + json.dumps(logs, default=str)
    for secret in secrets:
        assert secret.removeprefix("tw_")[-20:] not in told
        assert secret not in told


def test_without_a_platform_tenant_its_calls_are_logged(database: Database, tmp_path: Path) -> None:
    """And the way to have them in a trail is told once."""
    with (
        running_api(database, tmp_path, ApiConfig(failure_limit=PLENTY)) as api,
        structlog.testing.capture_logs() as logs,
    ):
        for _ in range(2):
            httpx.get(f"{api.url}/v1/me")
        eventually(lambda: len([each for each in logs if each["event"] == "api_called"]) == 2)
    [told] = [each for each in logs if each["event"] == "platform_calls_logged_only"]
    assert "TENANTWATCH_PLATFORM_TENANT" in told["fix"]
    assert api.produced.events == []
