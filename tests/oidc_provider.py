"""A small OIDC provider over HTTP: correct, until a test has it lie."""

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import jwt
import pytest
from api_server import PLATFORM_TENANT, PLENTY, RunningApi, add_tenant, running_api, served
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, RedirectResponse

from api.v1.oidc import OidcConfig
from api.v1.parts import ApiConfig
from store.database import Database

CLIENT_ID, CLIENT_SECRET = "tenantwatch", "of-the-test"
TENANT, OTHER = "sign-in-own", "sign-in-other"


@dataclass
class SmallProvider:
    """What it signs with, and who signs in.

    Parameters
    ----------
    claims
        Of the person, besides those that every ID token has.
    lie
        Changes the claims of an ID token before it is signed.
    sign
        Signs claims; None: with the published key.
    """

    url: str = ""
    kid: str = "first"
    claims: dict[str, Any] = field(default_factory=dict)
    lie: Callable[[dict[str, Any]], dict[str, Any]] = lambda claims: claims
    sign: Callable[[dict[str, Any]], str] | None = None
    keys_asked: int = 0
    keys_status: int = 200

    def __post_init__(self) -> None:
        self.key = generate_private_key(SECP256R1())
        self._sign_ins: dict[str, dict[str, str]] = {}

    def discovery(self) -> dict[str, str]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
        }

    def jwk(self) -> dict[str, Any]:
        public: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return public | {"kid": self.kid, "use": "sig", "alg": "ES256"}

    def authorize(self, query: dict[str, str]) -> str:
        """Take the person as signed in; return where the browser goes back to."""
        code = f"code-{len(self._sign_ins)}"
        self._sign_ins[code] = query
        return (
            f"{query['redirect_uri']}?{urlencode({'code': code, 'state': query['state'], 'iss': self.url})}"
        )

    def token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        begun = self._sign_ins.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if begun is None or challenge != begun["code_challenge"] or form["client_secret"] != CLIENT_SECRET:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        standard = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": "ana",
            "nonce": begun["nonce"],
            "iat": now,
            "exp": now + 300,
        }
        claims = self.lie(standard | self.claims)
        signed = self.sign(claims) if self.sign else self.signed(claims)
        return 200, {"id_token": signed, "access_token": "opaque", "token_type": "Bearer"}

    def signed(self, claims: dict[str, Any], **header: Any) -> str:
        return jwt.encode(claims, self.key, "ES256", headers={"kid": self.kid} | header)


@contextmanager
def running_provider() -> Iterator[SmallProvider]:
    """Serve one."""
    provider = SmallProvider()
    app = FastAPI()

    @app.get("/.well-known/openid-configuration")
    async def discovery() -> dict[str, str]:
        return provider.discovery()

    @app.get("/keys")
    async def keys() -> JSONResponse:
        provider.keys_asked += 1
        if provider.keys_status != 200:
            return JSONResponse({"error": "busy"}, provider.keys_status)
        return JSONResponse({"keys": [provider.jwk()]})

    @app.get("/authorize")
    async def authorize(request: Request) -> RedirectResponse:
        return RedirectResponse(provider.authorize(dict(request.query_params)), 302)

    @app.post("/token")
    async def token(request: Request) -> JSONResponse:
        status, answer = provider.token(dict(parse_qsl((await request.body()).decode())))
        return JSONResponse(answer, status)

    with served(app) as (url, _):
        provider.url = url
        yield provider


def config_of(provider: SmallProvider, **more: Any) -> OidcConfig:
    """Return the API's settings for this provider."""
    return OidcConfig(
        issuer=provider.url,
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        redirect_url="http://127.0.0.1:1/v1/auth/callback",
        **more,
    )


@pytest.fixture
def provider() -> Iterator[SmallProvider]:
    """A provider whose person is an analyst of the tenant."""
    with running_provider() as running:
        running.claims = {"tenant_id": TENANT, "tenantwatch_roles": ["analyst", "of-another-app"]}
        yield running


@pytest.fixture
def api(database: Database, tmp_path: Path, provider: SmallProvider) -> Iterator[RunningApi]:
    """The API, where people sign in at the provider."""
    for tenant_id in (TENANT, OTHER):
        add_tenant(database, tenant_id)
    config = ApiConfig(platform_tenant=PLATFORM_TENANT, failure_limit=PLENTY, oidc=config_of(provider))
    with running_api(database, tmp_path, config) as running:
        yield running


def begin(browser: httpx.Client) -> str:
    """Begin in a browser, sign in, and return the path with which the provider sends it back."""
    there = browser.get("/v1/auth/login")
    assert there.status_code == 302, there.text
    back = urlsplit(httpx.get(there.headers["location"]).headers["location"])
    return f"{back.path}?{back.query}"


def signed_in(api: RunningApi) -> httpx.Response:
    browser = api.client()
    return browser.get(begin(browser))
