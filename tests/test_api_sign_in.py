"""Signing in at an OIDC provider, and everything that a browser or a false provider may try."""

import base64
import hashlib
import hmac
import json
import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jwt
import pytest
from api_server import PLATFORM_TENANT, RunningApi, running_api
from conftest import CommandLine, settings_env
from oidc_provider import (
    CLIENT_ID,
    CLIENT_SECRET,
    OTHER,
    TENANT,
    SmallProvider,
    begin,
    config_of,
    signed_in,
)
from oidc_provider import api as api
from oidc_provider import provider as provider

from api.v1.parts import ApiConfig
from store.database import Database
from tenantwatch.settings import Settings


def refused(answer: httpx.Response) -> str:
    """Return why a sign-in was refused."""
    assert answer.status_code == 401, answer.text
    return str(answer.json()["detail"].split(": ")[1].split(";")[0])


def test_somebody_who_signs_in_is_who_the_provider_says(api: RunningApi) -> None:
    """With its tenant, and its roles as far as they are ours; the tokens are like everybody's."""
    answer = signed_in(api)
    assert answer.status_code == 200
    pair = answer.json()
    me = api.client(pair["access_token"]).get("/v1/me").json()
    assert (me["subject"], me["tenant_id"], me["roles"]) == ("user:ana", TENANT, ["analyst"])
    assert me["auth_method"] == "sso"
    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"]}
    assert api.client().post("/v1/oauth/token", data=form).status_code == 200
    logins = [e for e in api.produced.of("auth", TENANT) if e["action"] == "login"]
    assert [(e["user_id"], e["outcome"], e["auth_method"]) for e in logins] == [
        ("user:ana", "success", "sso")
    ]


def test_a_person_of_two_tenants_chooses_by_header(api: RunningApi, provider: SmallProvider) -> None:
    """The first is taken unasked, a third is refused."""
    provider.claims["tenant_id"] = [TENANT, OTHER]
    token = signed_in(api).json()["access_token"]
    assert api.client(token).get("/v1/me").json()["tenant_id"] == TENANT
    elsewhere = api.client(token, x_tenant_id=OTHER).get("/v1/me").json()
    assert (elsewhere["tenant_id"], elsewhere["organization_id"]) == (OTHER, f"org-{OTHER}")
    assert api.client(token, x_tenant_id="third").get("/v1/me").status_code == 403


@pytest.mark.parametrize(
    "claims",
    [
        {"tenantwatch_roles": ["platform_admin"]},
        {"tenantwatch_roles": []},
        {"tenantwatch_roles": {"tenant_admin": True}},
        {"tenant_id": [], "tenantwatch_roles": ["tenant_admin"]},
    ],
)
def test_roles_that_do_not_fit(api: RunningApi, provider: SmallProvider, claims: dict[str, Any]) -> None:
    """A tenant's person has no platform role, the platform's none of a tenant, and none is not all."""
    provider.claims |= claims
    assert refused(signed_in(api)) == "no_role"


def test_names_are_mapped_to_roles(database: Database, provider: SmallProvider, tmp_path: Path) -> None:
    """With a map, only what is in it counts."""
    mapped = config_of(provider, role_map={"SIEM Readers": "viewer"}, roles_claim="realm_access.roles")
    provider.claims = {"tenant_id": TENANT, "realm_access": {"roles": ["SIEM Readers", "tenant_admin"]}}
    with running_api(database, tmp_path, ApiConfig(oidc=mapped, platform_tenant=PLATFORM_TENANT)) as api:
        assert api.client(signed_in(api).json()["access_token"]).get("/v1/me").json()["roles"] == ["viewer"]


def test_the_code_goes_with_pkce_and_a_nonce(api: RunningApi) -> None:
    """What the browser is sent away with, and that its cookie is of use to nobody else."""
    there = api.client().get("/v1/auth/login")
    query = parse_qs(urlsplit(there.headers["location"]).query)
    assert query["code_challenge_method"] == ["S256"]
    assert query["response_type"] == ["code"]
    cookie = there.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", "Path=/v1/auth"))
    for secret in (query["state"][0], query["nonce"][0]):
        assert secret not in cookie


def test_a_browser_that_began_nothing(api: RunningApi) -> None:
    """Login CSRF: somebody else's code does not sign anybody in."""
    attacker, victim = api.client(), api.client()
    back = begin(attacker)
    assert refused(victim.get(back)) == "not_begun_here"
    begin(victim)
    assert refused(victim.get(back)) == "wrong_state"


@pytest.mark.parametrize(
    "forged", [base64.urlsafe_b64encode(b"x" * 80).decode(), "a", "", "eHg", "\xe9", "=", '"a b"']
)
def test_a_cookie_of_ones_own(api: RunningApi, forged: str) -> None:
    """It is encrypted: what we did not make does not open, also what is no base64 at all."""
    answer = httpx.get(
        f"{api.url}/v1/auth/callback?code=x",
        headers={"Cookie": f"tenantwatch_sign_in={forged}".encode("latin-1")},
    )
    assert refused(answer) == "not_begun_here"


def test_the_way_back_used_twice(api: RunningApi) -> None:
    """A sign-in ends once, also with the same cookie."""
    browser = api.client()
    there = browser.get("/v1/auth/login")
    cookie = there.headers["set-cookie"].split(";")[0]
    back = urlsplit(httpx.get(there.headers["location"]).headers["location"])
    answers = [httpx.get(f"{api.url}{back.path}?{back.query}", headers={"Cookie": cookie}) for _ in range(2)]
    assert answers[0].status_code == 200
    assert refused(answers[1]) == "replayed_sign_in"


def test_what_a_provider_adds_to_the_way_back_is_ignored(api: RunningApi) -> None:
    """Google's scope, authuser and prompt, say; what we read may still be there once only."""
    browser = api.client()
    back = begin(browser)
    added = "&scope=openid+email&authuser=0&prompt=none&session_state=x"
    twice = browser.get(f"{back}{added}&code=another")
    assert (twice.status_code, twice.json()["code"]) == (400, "repeated_parameter")
    assert browser.get(back + added).status_code == 200


def test_a_sign_in_that_took_too_long(api: RunningApi) -> None:
    """After ten minutes it begins anew."""
    browser = api.client()
    back = begin(browser)
    api.clock.pass_(minutes=11)
    assert refused(browser.get(back)) == "expired_sign_in"


def test_a_code_that_was_made_up(api: RunningApi) -> None:
    """The provider does not take it."""
    browser = api.client()
    state = parse_qs(urlsplit(browser.get("/v1/auth/login").headers["location"]).query)["state"][0]
    answer = browser.get("/v1/auth/callback", params={"code": "made-up", "state": state})
    assert refused(answer) == "code_refused"


def test_somebody_whom_the_provider_refuses(api: RunningApi) -> None:
    """Its words are not shown: whoever made the link wrote them."""
    answer = api.client().get(
        "/v1/auth/callback", params={"error": "access_denied", "error_description": "call 555-0100"}
    )
    assert refused(answer) == "denied_by_provider"
    assert "555" not in answer.text


def test_another_provider_s_code(api: RunningApi) -> None:
    """Mix-up: it says that it is of another issuer."""
    browser = api.client()
    back = begin(browser).split("&iss=")[0] + "&iss=http%3A%2F%2F192.0.2.1"
    assert refused(browser.get(back)) == "wrong_issuer"


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        ({"nonce": "of-another-sign-in"}, "wrong_nonce"),
        ({"nonce": None}, "wrong_nonce"),
        ({"iss": "http://192.0.2.1"}, "wrong_issuer"),
        ({"aud": "another-client"}, "wrong_audience"),
        ({"aud": [CLIENT_ID, "another-client"]}, "wrong_audience"),
        ({"azp": "another-client"}, "wrong_audience"),
        ({"exp": 1}, "expired_token"),
        ({"exp": "tomorrow"}, "malformed_token"),
        ({"iat": 99_999_999_999}, "not_yet_valid"),
        ({"sub": ""}, "malformed_token"),
        ({"sub": 7}, "malformed_token"),
    ],
)
def test_an_id_token_that_was_made_for_something_else(
    api: RunningApi, provider: SmallProvider, lie: dict[str, Any], reason: str
) -> None:
    """Well signed, and refused."""
    provider.lie = lambda claims: claims | lie
    assert refused(signed_in(api)) == reason


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_an_id_token_without_a_signature(api: RunningApi, provider: SmallProvider) -> None:
    """`alg: none`."""
    provider.sign = lambda claims: f"{b64({'alg': 'none', 'kid': provider.kid})}.{b64(claims)}."
    assert refused(signed_in(api)) == "wrong_algorithm"


def test_an_id_token_signed_with_the_client_s_secret(api: RunningApi, provider: SmallProvider) -> None:
    """HS256 is in the standard, and would let anybody who has the secret sign in as everybody."""

    def sign(claims: dict[str, Any]) -> str:
        body = f"{b64({'alg': 'HS256', 'kid': provider.kid})}.{b64(claims)}"
        return f"{body}.{b64(hmac.new(CLIENT_SECRET.encode(), body.encode(), hashlib.sha256).digest())}"

    provider.sign = sign
    assert refused(signed_in(api)) == "wrong_algorithm"


def test_an_id_token_signed_by_somebody_else(api: RunningApi, provider: SmallProvider) -> None:
    """With the provider's key id, and another key."""
    other = SmallProvider(kid=provider.kid)
    provider.sign = other.signed
    assert refused(signed_in(api)) == "bad_signature"


def test_the_provider_s_new_key_is_fetched(api: RunningApi, provider: SmallProvider) -> None:
    """An unknown key id asks for the keys again, but not for every token."""
    assert signed_in(api).status_code == 200
    provider.kid, provider.key = "second", SmallProvider().key
    assert refused(signed_in(api)) == "unknown_kid"
    asked = provider.keys_asked
    assert refused(signed_in(api)) == "unknown_kid"
    assert provider.keys_asked == asked
    api.clock.pass_(seconds=31)
    assert signed_in(api).status_code == 200


def test_a_provider_whose_keys_cannot_be_had(api: RunningApi, provider: SmallProvider) -> None:
    """It is away, not without keys: those that were known are good as soon as it answers again."""
    assert signed_in(api).status_code == 200
    api.clock.pass_(seconds=301)
    provider.keys_status = 503
    assert signed_in(api).status_code == 503
    provider.keys_status = 200
    assert signed_in(api).status_code == 200


def test_a_provider_whose_tls_breaks_after_the_handshake(
    api: RunningApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of one that wants a certificate of ours, in TLS 1.3; test_webhooks_sender.py has a real one."""

    def broken(*_: object, **__: object) -> None:
        raise ssl.SSLError("[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED]")

    monkeypatch.setattr(httpx.AsyncClient, "stream", broken)
    assert api.client().get("/v1/auth/login").status_code == 503


def test_a_provider_that_is_somebody_else(
    database: Database, provider: SmallProvider, tmp_path: Path
) -> None:
    """Its document must say that it is the issuer we were told."""
    wrong = replace(config_of(provider), issuer=f"{provider.url}/")
    with running_api(database, tmp_path, ApiConfig(oidc=wrong, platform_tenant=PLATFORM_TENANT)) as api:
        answer = api.client().get("/v1/auth/login")
        assert answer.status_code == 503
        assert provider.url not in answer.text


def test_the_settings_say_what_is_wrong_with_a_provider(tmp_path: Path) -> None:
    """By the variable's name, as of every setting; a role map is read as it is written."""
    line = CommandLine(settings_env(tmp_path, oidc_issuer="http://idp.example.com"))
    refused = line.run("keys", "list")
    assert refused.returncode == 2
    assert "TENANTWATCH_OIDC_ISSUER" in refused.stderr
    mapped = Settings(oidc_role_map="SIEM Readers=viewer, Admins=tenant_admin")  # type: ignore[arg-type]
    assert mapped.oidc_role_map == {"SIEM Readers": "viewer", "Admins": "tenant_admin"}


def test_our_tokens_are_no_id_tokens(api: RunningApi) -> None:
    """And an ID token is no access token."""
    provider_token = jwt.encode({"sub": "ana"}, SmallProvider().key, "ES256")
    assert api.client(provider_token).get("/v1/me").status_code == 401
