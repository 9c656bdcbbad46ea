"""Signing in at a real Keycloak, as a browser does it."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from api_server import PLATFORM_TENANT, RunningApi, add_tenant, running_api
from keycloak_server import CLIENT_ID, Keycloak, running_keycloak

from api.v1.oidc import OidcConfig
from api.v1.parts import ApiConfig
from store.database import Database

pytestmark = pytest.mark.slow
TENANT = "keycloak-tenant"
REDIRECT_URL = "http://127.0.0.1:8081/v1/auth/callback"


@pytest.fixture(scope="module")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keycloak]:
    """A Keycloak with one realm and one person."""
    with running_keycloak(tmp_path_factory.mktemp("keycloak"), REDIRECT_URL, TENANT) as running:
        yield running


@pytest.fixture
def api(database: Database, tmp_path: Path, keycloak: Keycloak) -> Iterator[RunningApi]:
    """The API, where people sign in at Keycloak."""
    add_tenant(database, TENANT)
    oidc = OidcConfig(keycloak.issuer, CLIENT_ID, keycloak.client_secret, REDIRECT_URL)
    with running_api(database, tmp_path, ApiConfig(platform_tenant=PLATFORM_TENANT, oidc=oidc)) as running:
        yield running


def came_back(browser: httpx.Client, keycloak: Keycloak, password: str) -> httpx.Response:
    """Sign in on Keycloak's page and follow it back; the answer is Keycloak's own where it refuses."""
    with httpx.Client(timeout=60) as at_keycloak:
        page = at_keycloak.get(browser.get("/v1/auth/login").headers["location"])
        action = re.search(r'<form[^>]*action="([^"]+)"', page.text)
        assert action is not None, page.text
        form = {"username": "ana", "password": password}
        # Its cookies are for https only; browsers take this machine for as good, httpx does not.
        cookies = "; ".join(told.split(";")[0] for told in page.headers.get_list("set-cookie"))
        answer = at_keycloak.post(html.unescape(action[1]), data=form, headers={"Cookie": cookies})
    if answer.status_code != 302:
        return answer
    back = urlsplit(answer.headers["location"])
    assert f"{back.scheme}://{back.netloc}{back.path}" == REDIRECT_URL
    return browser.get(f"{back.path}?{back.query}")


def test_a_person_of_keycloak_signs_in(api: RunningApi, keycloak: Keycloak) -> None:
    """With the tenant and the role that Keycloak says; the token opens what the role opens."""
    answer = came_back(api.client(), keycloak, keycloak.password)
    assert answer.status_code == 200, answer.text
    client = api.client(answer.json()["access_token"])
    me = client.get("/v1/me").json()
    assert (me["tenant_id"], me["roles"], me["platform"]) == (TENANT, ["analyst"], False)
    assert client.get("/v1/keys").status_code == 403


def test_keycloak_s_own_tokens_are_not_ours(api: RunningApi, keycloak: Keycloak) -> None:
    """A client's token from Keycloak itself opens nothing: the sign-in is the only way from there to here."""
    form = {"client_id": CLIENT_ID, "client_secret": keycloak.client_secret, "grant_type": "password"}
    form |= {"username": "ana", "password": keycloak.password, "scope": "openid"}
    told = httpx.post(f"{keycloak.issuer}/protocol/openid-connect/token", data=form, timeout=60)
    token = told.json().get("access_token", "none.was.given")
    assert api.client(token).get("/v1/me").status_code == 401


def test_a_wrong_password_comes_to_nothing(api: RunningApi, keycloak: Keycloak) -> None:
    """Keycloak shows its page again, and we hear nothing of it."""
    answer = came_back(api.client(), keycloak, "wrong")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert not [e for e in api.produced.of("auth", TENANT) if e["action"] == "login"]
