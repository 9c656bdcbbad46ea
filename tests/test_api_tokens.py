"""Tokens: asked for with a key, verified with the JWKS by anybody, refreshed once, revoked."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import jwt
import pytest
from api_server import RunningApi, add_tenant, running_api

from api.v1.parts import ApiConfig
from api.v1.tokens import LIFETIME
from store.database import Database, StoreUnavailable
from store.revocations import KEPT, Revocations

TENANT = "tokens-tenant"
OTHER = "tokens-other"


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with two tenants."""
    for tenant_id in (TENANT, OTHER):
        add_tenant(database, tenant_id)
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        yield running


def claims_of(api: RunningApi, token: str) -> Any:
    """Verify a token as somebody else's service would: with the published keys alone."""
    keys = jwt.PyJWKSet.from_dict(api.client().get("/v1/.well-known/jwks.json").json())
    kid = jwt.get_unverified_header(token)["kid"]
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    return jwt.decode(token, keys[kid].key, ["EdDSA"], audience="tenantwatch-api", options=options)


def test_a_client_gets_a_token_that_anybody_can_verify(api: RunningApi) -> None:
    """It says who, for which tenant, what for, and ends in a quarter of an hour."""
    key = api.key(TENANT, "viewer")
    answer = api.token(key).json()
    claims = claims_of(api, answer["access_token"])
    assert (answer["token_type"], answer["expires_in"]) == ("Bearer", 900)
    assert (claims["sub"], claims["tenant_id"], claims["iss"]) == (f"key:{key[3:19]}", TENANT, "tenantwatch")
    assert claims["roles"] == ["viewer"]
    assert claims["scope"].split() == claims["permissions"]
    assert claims["exp"] - claims["iat"] == 900
    assert claims["jti"]


@pytest.mark.parametrize("grant_type", ["password", "", "refresh_token"])
def test_a_grant_that_is_not_given_is_answered_with_those_there_are(api: RunningApi, grant_type: str) -> None:
    """Also the one whose token is left out."""
    answer = api.token(api.key(TENANT, "viewer"), grant_type=grant_type)
    assert answer.status_code == 400
    assert "client_credentials, or refresh_token" in answer.json()["error_description"]


def test_a_token_names_the_organization_of_its_tenant(api: RunningApi, database: Database) -> None:
    """As the directory has it when the token is issued, refreshed ones too; the platform has none."""
    add_tenant(database, "tokens-moving", organization_id="org-before")
    key = api.key("tokens-moving", "viewer")
    pair = api.token(key, scope="offline_access").json()
    assert claims_of(api, pair["access_token"])["org"] == "org-before"
    add_tenant(database, "tokens-moving", organization_id="org-after")
    api.clock.pass_(seconds=6)  # settings are kept for five
    pair = refreshed(api, key, pair["refresh_token"]).json()
    assert claims_of(api, pair["access_token"])["org"] == "org-after"
    assert claims_of(api, api.token(api.key("", "platform_auditor")).json()["access_token"])["org"] == ""


def test_the_client_may_authenticate_by_http_basic(api: RunningApi) -> None:
    """As RFC 6749 prefers."""
    key = api.key(TENANT, "viewer")
    answer = api.client().post(
        "/v1/oauth/token", data={"grant_type": "client_credentials"}, auth=(key[3:19], key)
    )
    assert answer.status_code == 200


def test_a_scope_narrows_the_token(api: RunningApi) -> None:
    """It holds for what was asked for only."""
    answer = api.token(api.key(TENANT, "tenant_admin"), scope="alerts:read").json()
    assert answer["scope"] == "alerts:read"
    assert api.client(answer["access_token"]).get("/v1/keys").status_code == 403


def test_a_refresh_token_gives_another_pair(api: RunningApi) -> None:
    """Only to whom asked for it, and the new pair is good."""
    key = api.key(TENANT, "viewer")
    assert "refresh_token" not in api.token(key).json()
    first = api.token(key, scope="offline_access alerts:read").json()
    second = refreshed(api, key, first["refresh_token"])
    assert second.status_code == 200
    assert second.json()["scope"] == "alerts:read"
    assert second.json()["refresh_token"] != first["refresh_token"]
    assert api.client(second.json()["access_token"]).get("/v1/me").status_code == 200


def refreshed(api: RunningApi, key: str, refresh_token: str, **form: str) -> Any:
    return api.token(key, grant_type="refresh_token", refresh_token=refresh_token, **form)


def test_a_scope_narrows_one_access_token_and_not_those_after_it(api: RunningApi) -> None:
    """RFC 6749, 6: the next refresh token is for as much as the one before, and for no more."""
    key = api.key(TENANT, "viewer")
    first = api.token(key, scope="offline_access alerts:read events:read").json()
    narrow = refreshed(api, key, first["refresh_token"], scope="alerts:read").json()
    assert narrow["scope"] == "alerts:read"
    assert api.client(narrow["access_token"]).get("/v1/events").status_code == 403
    other = refreshed(api, key, narrow["refresh_token"], scope="events:read").json()
    assert other["scope"] == "events:read"
    assert refreshed(api, key, other["refresh_token"]).json()["scope"] == "alerts:read events:read"
    again = api.token(key, scope="offline_access alerts:read").json()
    refused = refreshed(api, key, again["refresh_token"], scope="events:read")
    assert refused.json()["error"] == "invalid_scope"


def test_a_wrong_scope_does_not_use_a_refresh_token_up(api: RunningApi) -> None:
    """The client asks again, for what it may have, and nobody takes that for a theft."""
    key = api.key(TENANT, "viewer")
    form = {
        "grant_type": "refresh_token",
        "refresh_token": api.token(key, scope="offline_access").json()["refresh_token"],
    }
    assert api.token(key, **form, scope="keys:manage").json()["error"] == "invalid_scope"
    assert api.token(key, **form, scope="alerts:read").status_code == 200
    assert not [alert for alert in api.produced.alerts if alert.entity.value == f"key:{key[3:19]}"]


def test_asking_for_tokens_counts_as_requests(api: RunningApi, database: Database) -> None:
    """A client in a loop is stopped, as on every route; one of a suspended tenant gets none."""
    add_tenant(database, "tokens-limited", rate_limit={"requests": 2, "window_s": 60})
    key = api.key("tokens-limited", "viewer")
    assert [api.token(key).status_code for _ in range(3)] == [200, 200, 429]
    add_tenant(database, "tokens-suspended", status="suspended")
    assert api.token(api.key("tokens-suspended", "viewer")).json()["code"] == "tenant_suspended"


@pytest.mark.parametrize("table", ["refresh_tokens", "single_uses"])
@pytest.mark.parametrize("landed", [False, True])
def test_a_store_that_fails_once_makes_nobody_a_thief(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch, table: str, landed: bool
) -> None:
    """Whoever is told to try again may do so with the same token; a third use is one of a copy."""
    key = api.key(TENANT, "viewer")
    pair = api.token(key, scope="offline_access").json()
    insert, failed = api.parts.database.insert_rows, list[str]()

    def failing(to: str, *given: Any) -> None:
        if to != table or failed:
            return insert(to, *given)
        failed.append(to)
        if landed:
            insert(to, *given)
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(api.parts.database, "insert_rows", failing)
        answer = refreshed(api, key, pair["refresh_token"])
    assert failed
    if answer.status_code == 503:
        answer = refreshed(api, key, pair["refresh_token"])
    assert answer.status_code == 200, answer.text
    assert api.produced.alerts == []
    assert refreshed(api, key, pair["refresh_token"]).json()["error"] == "invalid_grant"
    assert refreshed(api, key, answer.json()["refresh_token"]).json()["error"] == "invalid_grant"
    assert api.produced.alerts.pop().classification == "refresh_token_reused"


def test_what_is_taken_from_a_key_is_taken_from_its_refresh_tokens(api: RunningApi) -> None:
    """A revoked key refreshes nothing."""
    key = api.key(TENANT, "viewer")
    first = api.token(key, scope="offline_access").json()
    api.clock.pass_(seconds=1)
    admin = api.client(api.key(TENANT, "tenant_admin"))
    assert admin.delete(f"/v1/keys/{key[3:19]}").status_code == 204
    assert refreshed(api, key, first["refresh_token"]).status_code == 401
    assert api.client(first["access_token"]).get("/v1/me").status_code == 401


def test_a_revoked_refresh_token_takes_its_access_token_along(api: RunningApi) -> None:
    """RFC 7009, and the answer says nothing about whether there was one."""
    key = api.key(TENANT, "viewer")
    pair = api.token(key, scope="offline_access").json()
    form = {"client_id": key[3:19], "client_secret": key}
    for token in (pair["refresh_token"], "twr_unknown"):
        assert api.client().post("/v1/oauth/revoke", data=form | {"token": token}).status_code == 200
    assert api.client(pair["access_token"]).get("/v1/me").status_code == 401
    assert refreshed(api, key, pair["refresh_token"]).json()["error"] == "invalid_grant"


def test_a_client_revokes_no_token_of_another(api: RunningApi) -> None:
    """Whoever knows a token may not end it in another's name."""
    token = api.token(api.key(TENANT, "viewer")).json()["access_token"]
    stranger = api.key(OTHER, "viewer")
    form = {"client_id": stranger[3:19], "client_secret": stranger, "token": token}
    assert api.client().post("/v1/oauth/revoke", data=form).status_code == 200
    assert api.client(token).get("/v1/me").status_code == 200


def test_signing_keys_rotate_with_overlap(api: RunningApi) -> None:
    """The new one is published before it signs, and the old one verifies until its last token has ended."""
    key = api.key(TENANT, "viewer")
    before = api.token(key).json()["access_token"]
    new = api.parts.ring.rotate(api.clock.now(), publish_ahead=timedelta(minutes=5))
    published = [k["kid"] for k in api.client().get("/v1/.well-known/jwks.json").json()["keys"]]
    assert new.kid in published
    assert jwt.get_unverified_header(api.token(key).json()["access_token"])["kid"] != new.kid
    api.clock.pass_(minutes=6)
    after = api.token(key).json()["access_token"]
    assert jwt.get_unverified_header(after)["kid"] == new.kid
    assert [api.client(token).get("/v1/me").status_code for token in (before, after)] == [200, 200]
    api.clock.pass_(minutes=30)
    assert [k["kid"] for k in api.client().get("/v1/.well-known/jwks.json").json()["keys"]] == [new.kid]


def test_another_process_with_the_same_file_verifies_the_token(api: RunningApi, database: Database) -> None:
    """Several API processes are one issuer; a rotation in one is seen by all."""
    from api.v1 import tokens
    from api.v1.key_ring import KeyRing

    other = KeyRing(api.parts.ring._path)
    api.parts.ring.rotate(api.clock.now(), publish_ahead=timedelta(0))
    token = api.token(api.key(TENANT, "viewer")).json()["access_token"]
    assert tokens.read(other, "tenantwatch", token, api.clock.now())["tenant_id"] == TENANT


def test_a_revocation_is_kept_as_long_as_what_it_ends_can_live(database: Database) -> None:
    """Its id may name a person; a key's is kept for good, because no other thing is never good again."""
    revocations, now, mark = Revocations(database), datetime.now(UTC), uuid4().hex
    lifetime = max(LIFETIME, ApiConfig().refresh_lifetime)
    for kind in ("user", "family", "token", "key"):
        for age in (lifetime, KEPT + timedelta(hours=1)):
            at = now - age
            revocations.revoke(f"{kind}:{mark}:{age.days}", "", at, by="test", reason="revoked")
    database.command("OPTIMIZE TABLE revocations FINAL")
    rows = database.query(
        "SELECT id FROM revocations WHERE position(id, {mark:String}) > 0 ORDER BY id", {"mark": mark}
    )
    young = [f"{kind}:{mark}:{lifetime.days}" for kind in ("family", "token", "user")]
    of_key = [f"key:{mark}:{age.days}" for age in (lifetime, KEPT)]
    assert [row["id"] for row in rows] == sorted([*young, *of_key])
