"""The OIDC provider over HTTP: what it publishes, kept for a while, and codes against tokens."""

import asyncio
from typing import Any, Final

import httpx
import jwt
import structlog

from api.v1.oidc import Attempt, OidcConfig, SignInRefused, kid_of
from api.v1.parts import Parts

log = structlog.get_logger()
TIMEOUT_S: Final = 10.0
DISCOVERY_KEPT_S: Final = 3_600.0
KEYS_KEPT_S: Final = 300.0
# A token with an unknown key may be signed with a new one; whoever sends such tokens makes us ask this often.
KEYS_ASKED_EVERY_S: Final = 30.0
MAX_ANSWER_BYTES: Final = 1024 * 1024


class ProviderUnavailable(Exception):
    """The provider does not answer as one should."""


class Provider:
    """What we know of the provider."""

    def __init__(self, config: OidcConfig, parts: Parts) -> None:
        self._config = config
        self._parts = parts
        self._discovery: tuple[float, dict[str, Any]] | None = None
        self._keys: tuple[float, dict[str | None, jwt.PyJWK]] | None = None
        self._asking = asyncio.Lock()

    @property
    def discovered(self) -> bool:
        """Whether what it publishes about itself is known, and need not be asked for."""
        kept = self._discovery
        return kept is not None and self._parts.monotonic_s() - kept[0] <= DISCOVERY_KEPT_S

    async def authorization_endpoint(self) -> str:
        """Return where people sign in."""
        return str((await self._discovered())["authorization_endpoint"])

    async def exchange(self, code: str, attempt: Attempt) -> str:
        """Return the ID token that a code is good for.

        Raises
        ------
        SignInRefused
            If the provider does not take the code.
        ProviderUnavailable
            If it does not answer.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._config.redirect_url,
            "code_verifier": attempt.verifier,
            "client_id": self._config.client_id,
        }
        if self._config.client_secret is not None:
            form["client_secret"] = self._config.client_secret
        endpoint = str((await self._discovered())["token_endpoint"])
        status, answer = await self._ask("POST", endpoint, form)
        if status in (400, 401, 403):
            raise SignInRefused("code_refused")
        token = answer.get("id_token")
        if status != 200 or not isinstance(token, str):
            raise ProviderUnavailable(f"{endpoint} answered {status}")
        return token

    async def key_of(self, id_token: str) -> jwt.PyJWK:
        """Return the key that an ID token is signed with.

        Raises
        ------
        SignInRefused
            If the provider publishes no such key.
        """
        kid = kid_of(id_token)
        async with self._asking:
            now_s = self._parts.monotonic_s()
            if (
                self._keys is None
                or now_s - self._keys[0] > KEYS_KEPT_S
                or (kid not in self._keys[1] and now_s - self._keys[0] > KEYS_ASKED_EVERY_S)
            ):
                self._keys = (now_s, await self._published_keys())
        key = self._keys[1].get(kid)
        if key is None:
            raise SignInRefused("unknown_kid")
        return key

    async def _published_keys(self) -> dict[str | None, jwt.PyJWK]:
        endpoint = str((await self._discovered())["jwks_uri"])
        status, answer = await self._ask("GET", endpoint)
        if status != 200 or not isinstance(answer.get("keys"), list):
            raise ProviderUnavailable(f"{endpoint} answered {status}, and no keys")
        found: dict[str | None, jwt.PyJWK] = {}
        for each in answer["keys"]:
            if each.get("use", "sig") != "sig" or each.get("kty") == "oct":
                continue
            try:
                found[each.get("kid")] = jwt.PyJWK(each)
            except jwt.PyJWTError:  # of a kind that we do not know: no token of ours is signed with it
                continue
        return found

    async def _discovered(self) -> dict[str, Any]:
        if self._discovery is None or not self.discovered:
            endpoint = f"{self._config.issuer.rstrip('/')}/.well-known/openid-configuration"
            status, answer = await self._ask("GET", endpoint)
            # Whose document says that it is another's would have us trust that one.
            if status != 200 or answer.get("issuer") != self._config.issuer:
                raise ProviderUnavailable(
                    f"{endpoint} answered {status} for the issuer {answer.get('issuer')!r}"
                )
            self._discovery = (self._parts.monotonic_s(), answer)
        return self._discovery[1]

    async def _ask(
        self, method: str, url: str, form: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        try:
            async with (
                httpx.AsyncClient(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False) as client,
                client.stream(method, url, data=form, headers={"Accept": "application/json"}) as answer,
            ):
                body = b""
                async for chunk in answer.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise ProviderUnavailable(f"{url} sends more than {MAX_ANSWER_BYTES} bytes")
                parsed = httpx.Response(200, content=body).json()
        except (httpx.HTTPError, OSError, ValueError) as error:
            # httpx lets out a bare `ssl.SSLError` where TLS breaks after the handshake.
            raise ProviderUnavailable(f"{url}: {type(error).__name__}") from error
        if not isinstance(parsed, dict):
            raise ProviderUnavailable(f"{url} does not answer with an object")
        return answer.status_code, parsed
