"""What people's tokens are good for, and when they end: by revocation, by refreshing, with the sign-in."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import structlog
from api_server import RunningApi, add_tenant
from oidc_provider import OTHER, TENANT, SmallProvider, signed_in
from oidc_provider import api as api
from oidc_provider import provider as provider

from api.v1.single_use import SingleUse
from store.database import Database
from store.revocations import Revocations
from store.vault import Subject


def test_a_person_that_refreshes_in_a_loop_is_stopped(api: RunningApi, database: Database) -> None:
    """As on every route, and with nothing lost: the refused token is good once the window moved on."""
    pair = signed_in(api).json()
    add_tenant(database, TENANT, rate_limit={"requests": 2, "window_s": 60})
    api.clock.pass_(seconds=5)  # until the gate looks at the tenant anew

    def refresh() -> httpx.Response:
        form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
        return api.client().post("/v1/oauth/token", data=form)

    for _ in range(2):
        pair = refresh().json()
    refused = refresh()
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert api.client(pair["access_token"]).get("/v1/me").status_code == 429
    api.clock.pass_(seconds=int(refused.headers["retry-after"]))
    assert refresh().status_code == 200


def test_revoking_a_person_ends_its_tokens(api: RunningApi) -> None:
    """By its subject; signing in again is the provider's to refuse."""
    pair = signed_in(api).json()
    stranger = api.client(api.key(OTHER, "tenant_admin"))
    assert stranger.post("/v1/revocations", json={"id": "user:ana"}).status_code == 204
    assert api.client(pair["access_token"]).get("/v1/me").status_code == 200
    admin = api.client(api.key(TENANT, "tenant_admin"))
    assert admin.post("/v1/revocations", json={"id": "user:ana"}).status_code == 204
    assert api.client(pair["access_token"]).get("/v1/me").status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    assert api.client().post("/v1/oauth/token", data=form).status_code == 400


@pytest.mark.parametrize(
    ("sub", "revoked"),
    [
        ("ana@{}.com", "ana@{}.Com"),
        ("ana@{}.com", "ana%40{}.com"),
        ("email|Ana@{}.Com", "ana@{}.com"),
        ("email|Ana@{}.Com", "email|Ana@{}.Com"),
    ],
)
def test_a_person_is_revoked_however_they_are_written(
    api: RunningApi, provider: SmallProvider, sub: str, revoked: str
) -> None:
    """As they are one person to the vault."""
    mark = uuid4().hex
    sub, revoked = sub.format(mark), revoked.format(mark)
    provider.claims["sub"] = sub
    pair = signed_in(api).json()
    admin = api.client(api.key(TENANT, "tenant_admin"))
    assert admin.post("/v1/revocations", json={"id": f"user:{revoked}.org"}).status_code == 204
    assert api.client(pair["access_token"]).get("/v1/me").status_code == 200
    assert admin.post("/v1/revocations", json={"id": f"user:{revoked}"}).status_code == 204
    assert api.client(pair["access_token"]).get("/v1/me").status_code == 401
    assert refreshed(api, pair).status_code == 400


@pytest.mark.parametrize("stored", ["email|Cleo@{}.com", "user:cleo-{}"])
def test_a_person_is_revoked_by_the_pseudonym_that_the_trail_has(
    api: RunningApi, provider: SmallProvider, stored: str
) -> None:
    """Where the vault knows them; else it is refused, for nobody would be revoked."""
    stored = stored.format(uuid4().hex)
    assert api.parts.privacy is not None
    vault = api.parts.privacy.vault
    provider.claims["sub"] = stored.removeprefix("user:")
    pair = signed_in(api).json()
    pseudonym = vault.pseudonym(TENANT, stored)
    vault.keep([Subject(TENANT, pseudonym, stored, 2**43)])
    stranger = vault.pseudonym(TENANT, "dan@example.com")
    admin = api.client(api.key(TENANT, "tenant_admin"))
    assert admin.post("/v1/revocations", json={"id": f"user:{stranger}"}).status_code == 422
    elsewhere = api.client(api.key(OTHER, "tenant_admin"))
    assert elsewhere.post("/v1/revocations", json={"id": f"user:{pseudonym}"}).status_code == 422
    assert api.client(pair["access_token"]).get("/v1/me").status_code == 200
    assert admin.post("/v1/revocations", json={"id": f"user:{pseudonym}"}).status_code == 204
    assert api.client(pair["access_token"]).get("/v1/me").status_code == 401


def test_a_person_revoked_while_refreshing(
    api: RunningApi, provider: SmallProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found good before that is no good after it, though it was issued later."""
    provider.claims["sub"] = "ben"
    pair = signed_in(api).json()
    api.clock.pass_(seconds=5)
    use = SingleUse.use

    async def slow(once: SingleUse, id_: str, keep_until: datetime) -> bool:
        Revocations(api.parts.database).revoke("user:ben", TENANT, api.clock.now(), by="test", reason="x")
        api.clock.pass_(seconds=5)
        return await use(once, id_, keep_until)

    with monkeypatch.context() as patched:
        patched.setattr(SingleUse, "use", slow)
        later = refreshed(api, pair).json()
    assert api.client(later["access_token"]).get("/v1/me").status_code == 401
    assert refreshed(api, later).json()["error"] == "invalid_grant"
    again = signed_in(api).json()
    assert api.client(again["access_token"]).get("/v1/me").status_code == 200
    assert refreshed(api, again).status_code == 200


def test_an_alert_names_nobody_by_their_address(api: RunningApi, provider: SmallProvider) -> None:
    """Where the provider's id of a person is an address, the alert has the pseudonym that the trail has."""
    provider.claims["sub"] = "email|Ana@example.com"
    pair = signed_in(api).json()
    with structlog.testing.capture_logs() as logs:
        for _ in range(2):
            refreshed(api, pair)
    [alert] = api.produced.alerts
    assert api.parts.privacy is not None
    assert alert.entity.value == api.parts.privacy.vault.pseudonym(TENANT, "ana@example.com")
    assert alert.entity.value in alert.summary
    assert "example.com" not in alert.model_dump_json() + str(logs)


def test_a_sign_in_ends_however_often_it_is_refreshed(api: RunningApi) -> None:
    """After 30 days: the provider is to be asked again."""
    pair = signed_in(api).json()
    for _ in range(29):
        api.clock.pass_(days=1)
        pair = refreshed(api, pair).json()
    api.clock.pass_(hours=23, minutes=55)
    pair = refreshed(api, pair).json()
    assert pair["expires_in"] == 300
    api.clock.pass_(minutes=5)
    assert refreshed(api, pair).json()["error"] == "invalid_grant"
    api.clock.pass_(seconds=10)  # clocks may differ by five
    assert api.client(pair["access_token"]).get("/v1/me").status_code == 401


def test_a_shorter_setting_ends_sign_ins_that_have_begun(api: RunningApi) -> None:
    """As soon as it holds."""
    pair = signed_in(api).json()
    api.clock.pass_(days=2)
    shorter = replace(api.parts.config, family_lifetime=timedelta(days=1))
    api.parts.__dict__["config"] = shorter
    assert refreshed(api, pair).json()["error"] == "invalid_grant"


def refreshed(api: RunningApi, pair: dict[str, Any]) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    return api.client().post("/v1/oauth/token", data=form)


def test_any_tenant_of_a_person_ends_its_access_there(api: RunningApi, provider: SmallProvider) -> None:
    """Not elsewhere, and refreshing does not bring it back."""
    provider.claims["tenant_id"] = [TENANT, OTHER]
    pair = signed_in(api).json()
    admin = api.client(api.key(OTHER, "tenant_admin"))
    assert admin.post("/v1/revocations", json={"id": "user:ana"}).status_code == 204
    assert statuses(api, pair["access_token"]) == {TENANT: 200, OTHER: 403}
    api.clock.pass_(seconds=1)
    again = refreshed(api, pair).json()
    assert statuses(api, again["access_token"]) == {TENANT: 200, OTHER: 403}


def test_the_first_tenant_of_a_person_ends_all_its_tokens(api: RunningApi, provider: SmallProvider) -> None:
    """They were issued for it; without it nobody could say what a request without a tenant is about."""
    provider.claims["tenant_id"] = [TENANT, OTHER]
    pair = signed_in(api).json()
    admin = api.client(api.key(TENANT, "tenant_admin"))
    assert admin.post("/v1/revocations", json={"id": "user:ana"}).status_code == 204
    assert statuses(api, pair["access_token"]) == {TENANT: 401, OTHER: 401}
    assert refreshed(api, pair).status_code == 400


def statuses(api: RunningApi, token: str) -> dict[str, int]:
    """Return what a token is answered with for each tenant."""
    return {
        tenant_id: api.client(token, x_tenant_id=tenant_id).get("/v1/me").status_code
        for tenant_id in (TENANT, OTHER)
    }
