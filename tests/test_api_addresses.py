"""What is counted by address: guesses stop, good credentials go on, and nobody fills the trail."""

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import PLATFORM_TENANT, RunningApi, add_tenant, authorization, running_api
from conftest import eventually
from oidc_provider import config_of, running_provider

from api.v1.addresses import LOOKED_UP, Addresses
from api.v1.caller import Principal
from api.v1.oidc_provider import Provider
from api.v1.parts import ApiConfig
from schemas.tenant import RateLimit
from store.database import Database, StoreUnavailable

TENANT = "addresses-tenant"
GUESS = {"Authorization": f"Bearer tw_{'0' * 16}_{'A' * 43}"}
FEW = RateLimit(requests=3, window_s=900)


@pytest.fixture
def api(database: Database, tmp_path: Path) -> Iterator[RunningApi]:
    """The API, where an address may be refused three times, and ask three times as nobody."""
    add_tenant(database, TENANT)
    config = ApiConfig(platform_tenant=PLATFORM_TENANT, failure_limit=FEW, stranger_limit=FEW)
    with running_api(database, tmp_path, config) as running:
        yield running


def statuses(api: RunningApi, path: str, times: int, **headers: Any) -> list[int]:
    client = api.client()
    return [client.get(path, headers=headers).status_code for _ in range(times)]


def told(api: RunningApi) -> list[tuple[int, str | None]]:
    """Return what the trail has of requests of nobody."""
    return [(e["http_status"], e["reason"]) for e in api.produced.of("request", PLATFORM_TENANT)]


def test_good_credentials_pass_where_guesses_are_refused(api: RunningApi) -> None:
    """A stranger behind the same proxy locks nobody out, and tells the trail of it once."""
    key = api.key(TENANT, "viewer")
    assert statuses(api, "/v1/me", 6, **GUESS) == [401] * 3 + [429] * 3
    assert api.client(key).get("/v1/me").status_code == 200
    assert api.client(api.token(key).json()["access_token"]).get("/v1/me").status_code == 200
    assert told(api) == [(401, "unauthenticated")] * 3 + [(429, "rate_limited")]
    assert len([e for e in api.produced.of("auth", PLATFORM_TENANT) if e["reason"] == "unknown_key"]) == 3


def test_what_is_wrong_with_a_guess_stays_unsaid_beyond_the_limit(api: RunningApi) -> None:
    """A revoked key gets the answer of one that never was."""
    key = api.key(TENANT, "tenant_admin")
    api.client(key).delete(f"/v1/keys/{key[3:19]}")
    statuses(api, "/v1/me", 4, **GUESS)
    answers = [
        api.client().get("/v1/me", headers=h).json() for h in ({"Authorization": f"Bearer {key}"}, GUESS)
    ]
    for answer in answers:
        del answer["request_id"]
    assert answers[0] == answers[1]
    assert answers[0]["code"] == "rate_limited"


def test_guesses_without_end_cost_the_store_nothing(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten times the limit nothing new is looked up; whoever was good lately still is."""
    known, signer, fresh = (api.key(TENANT, "viewer") for _ in range(3))

    def signed(nonce: str) -> dict[str, str]:
        now = int(api.clock.now().timestamp())
        return {"Authorization": authorization(signer, "GET", "/v1/me", b"", now, nonce)}

    assert api.client(known).get("/v1/me").status_code == 200
    assert statuses(api, "/v1/me", 1, **signed("nonce-of-the-first")) == [200]
    statuses(api, "/v1/me", LOOKED_UP * FEW.requests, **GUESS)
    queries: list[str] = []
    query = api.parts.database.query
    monkeypatch.setattr(
        api.parts.database, "query", lambda sql, *given: [queries.append(sql), query(sql, *given)][1]
    )
    assert statuses(api, "/v1/me", 2, **GUESS) == [429, 429]
    assert api.client(fresh).get("/v1/me").status_code == 429
    assert queries == []
    assert api.client(known).get("/v1/me").status_code == 200
    assert statuses(api, "/v1/me", 1, **signed("nonce-of-the-second")) == [200]
    api.clock.pass_(seconds=2 * FEW.window_s)
    assert api.client(fresh).get("/v1/me").status_code == 200


def test_a_key_s_id_opens_nothing_to_guesses(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no secret, and all that two signed requests share: who has it guesses elsewhere as with any."""
    signer = api.key(TENANT, "viewer")
    elsewhere = httpx.Client(base_url=api.url, transport=httpx.HTTPTransport(local_address="127.0.0.2"))

    def signed(key: str, nonce: str) -> dict[str, str]:
        now = int(api.clock.now().timestamp())
        return {"Authorization": authorization(key, "GET", "/v1/me", b"", now, nonce)}

    with elsewhere:
        assert statuses(api, "/v1/me", 1, **signed(signer, "nonce-of-the-first")) == [200]
        for _ in range(LOOKED_UP * FEW.requests):
            elsewhere.get("/v1/me", headers=GUESS)
        queries: list[str] = []
        with monkeypatch.context() as patched:
            patched.setattr(api.parts.database, "query", lambda sql, *given: queries.append(sql))
            guess = signed(f"tw_{signer[3:19]}_{'A' * 43}", "nonce-of-the-guess")
            assert elsewhere.get("/v1/me", headers=guess).status_code == 429
        assert queries == []
    assert statuses(api, "/v1/me", 1, **signed(signer, "nonce-of-the-second")) == [200]


def test_clients_and_people_go_on_where_guesses_are_refused(api: RunningApi) -> None:
    """After ten times the limit too: a client by header or form, and a person's next refresh token."""
    key, fresh = api.key(TENANT, "viewer"), api.key(TENANT, "viewer")
    ask, basic = {"grant_type": "client_credentials"}, httpx.BasicAuth(key[3:19], key)
    person = Principal("user:ana", "sso", False, (TENANT,), ("viewer",), frozenset())
    granted = run(api.app.state.grants.begin(person, "offline_access"))
    form = {"grant_type": "refresh_token", "refresh_token": granted.refresh_token}
    client = api.client()
    assert client.post("/v1/oauth/token", data=ask, auth=basic).status_code == 200
    assert api.token(key).status_code == 200
    form["refresh_token"] = client.post("/v1/oauth/token", data=form).json()["refresh_token"]
    statuses(api, "/v1/me", LOOKED_UP * FEW.requests, **GUESS)
    assert api.token(fresh).status_code == 429
    assert client.post("/v1/oauth/token", data=form | {"refresh_token": "twr_guess"}).status_code == 429
    api.clock.pass_(seconds=600)
    assert client.post("/v1/oauth/token", data=ask, auth=basic).status_code == 200
    assert api.token(key).status_code == 200
    assert client.post("/v1/oauth/token", data=form).status_code == 200


@pytest.mark.parametrize("path", ["/v1/.well-known/jwks.json", "/v1/auth/login"])
def test_nobody_keeps_others_from_signing_in(api: RunningApi, path: str) -> None:
    """Nor from the keys that verify tokens: answered however many ask, and no more in the trail than else."""
    statuses(api, "/v1/nowhere", 5)
    with running_provider() as provider:
        api.app.state.provider = Provider(config_of(provider), api.parts)
        object.__setattr__(api.parts.config, "oidc", config_of(provider))
        run(api.app.state.provider.authorization_endpoint())
        assert set(quietly(api, path, 8)) <= {200, 302}
    assert len(told(api)) == 4


def quietly(api: RunningApi, path: str, times: int) -> list[int]:
    """Ask without waiting for the trail, which may not be told."""
    with api.client() as client:
        client.event_hooks = {}
        return [client.get(path).status_code for _ in range(times)]


def test_refused_sign_ins_end(api: RunningApi) -> None:
    """Each asks the provider and the store; after ten times the limit none from there is ended."""
    with running_provider() as provider:
        api.app.state.provider = Provider(config_of(provider), api.parts)
        object.__setattr__(api.parts.config, "oidc", config_of(provider))
        answers = quietly(api, "/v1/auth/callback?code=x&state=y", LOOKED_UP * FEW.requests)
        assert set(answers) == {401, 429}
        assert api.client().get("/v1/auth/callback").json()["detail"].startswith("too many refused sign-ins")


def test_a_caller_beyond_its_limit_costs_nothing(
    api: RunningApi, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trail is told once in a window, with who it was; the store is asked nothing."""
    tenant_id = "addresses-busy"
    add_tenant(database, tenant_id, rate_limit=FEW)
    key = api.key(tenant_id, "viewer")
    client = api.client(key)
    assert [client.get("/v1/me").status_code for _ in range(4)] == [200] * 3 + [429]
    queries: list[str] = []
    with monkeypatch.context() as patched:
        patched.setattr(database, "query", lambda sql, *given: queries.append(sql))
        answers = [client.get("/v1/me") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [429] * 5
    assert answers[-1].headers["ratelimit-limit"] == "3"
    assert queries == []
    busy = [e for e in api.produced.of("request", tenant_id) if e["http_status"] == 429]
    assert [e["user_id"] for e in busy] == [f"key:{key[3:19]}"]
    api.clock.pass_(seconds=2 * FEW.window_s)
    assert client.get("/v1/me").status_code == 200


def test_a_person_of_two_tenants_counts_where_it_acts(api: RunningApi, database: Database) -> None:
    """Against the limits of the tenant that the request is about, and nobody else's."""
    for tenant_id, requests in (("addresses-first", 2), ("addresses-second", 5)):
        add_tenant(database, tenant_id, rate_limit=RateLimit(requests=requests, window_s=60))
    both = ("addresses-first", "addresses-second")
    person = Principal("user:ben", "sso", False, both, ("viewer",), frozenset())
    token = run(api.app.state.grants.begin(person, None)).access.token
    second = api.client(token, x_tenant_id=both[1])
    assert [second.get("/v1/me").status_code for _ in range(6)] == [200] * 5 + [429]
    first = api.client(token)
    assert [first.get("/v1/me").status_code for _ in range(3)] == [200] * 2 + [429]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run something of the API's outside its loop; it shares nothing with what runs there."""
    return asyncio.run(work)


@pytest.mark.parametrize("path", ["/v1/me", "/v1/nowhere", "/v1/openapi.json"])
def test_requests_of_nobody_end(api: RunningApi, path: str) -> None:
    """Whatever they ask for; the trail has them up to the limit, and once that there were more."""
    answers = statuses(api, path, 8)
    assert answers[3:] == [429] * 5
    assert 429 not in answers[:3]
    eventually(lambda: len(told(api)) == 4)
    assert told(api)[3] == (429, "rate_limited")
    assert api.client().post(path).status_code == 429
    key = api.key(TENANT, "viewer")
    assert api.client(key).get("/v1/me").status_code == 200
    assert api.token(key).status_code == 200
    assert len(told(api)) == 4
    api.clock.pass_(seconds=2 * FEW.window_s)
    assert api.client().get(path).status_code == answers[0]


def test_forms_of_nobody_are_told_no_more(api: RunningApi) -> None:
    """A form without a client is answered, so that one with a client can be; the trail stays as it is."""
    statuses(api, "/v1/nowhere", 3)
    with api.client() as client:
        client.event_hooks = {}
        for form in ({"x": "y"}, {"grant_type": "password"}, {"grant_type": "client_credentials"}):
            assert client.post("/v1/oauth/token", data=form).status_code in (400, 429)
    eventually(lambda: len(told(api)) == 4)
    assert api.token(api.key(TENANT, "viewer")).status_code == 200
    assert len(told(api)) == 4


def test_a_guess_is_told_whatever_else_its_address_asked(api: RunningApi) -> None:
    """Requests of nobody do not hide guesses from the detectors."""
    statuses(api, "/v1/nowhere", 5)
    assert statuses(api, "/v1/me", 1, **GUESS) == [401]
    assert "unknown_key" in {e["reason"] for e in api.produced.of("auth", PLATFORM_TENANT)}


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
    ],
)
def test_an_ipv6_customer_counts_as_one(first: str, second: str, same: bool) -> None:
    """Who has a /64 has no more tries than who has one address."""
    addresses = Addresses(RateLimit(requests=1), RateLimit(requests=1), lambda: 0.0)
    assert addresses.refused(first).allowed
    assert addresses.refused(second).allowed is not same
    assert addresses.to_be_told(first, limited=False)
    assert addresses.strange(second).allowed is not same


def test_health_asks_the_store_once_a_second(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask, and is never refused; a store that is away is told a second later at most."""
    queries: list[str] = []
    monkeypatch.setattr(api.parts.database, "query", lambda sql, *given: queries.append(sql))
    assert statuses(api, "/v1/health", 10) == [200] * 10
    assert len(queries) == 1

    def away(*given: Any) -> Any:
        queries.append("away")
        raise StoreUnavailable("away")

    monkeypatch.setattr(api.parts.database, "query", away)
    api.clock.pass_(seconds=1)
    assert statuses(api, "/v1/health", 3) == [503] * 3
    assert len(queries) == 2
    assert told(api) == []
