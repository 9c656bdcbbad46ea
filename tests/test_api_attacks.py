"""Attacks on tokens and keys, one test each."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
import structlog
from api_server import PLATFORM_TENANT, RunningApi, add_tenant, running_api
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from api.v1 import authentication
from api.v1.parts import ApiConfig
from store.database import Database

TENANT, OTHER = "attacks-own", "attacks-other"


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with a victim and another tenant."""
    for tenant_id in (TENANT, OTHER):
        add_tenant(database, tenant_id)
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture
def token(api: RunningApi) -> str:
    """A good access token of a viewer."""
    answer = api.token(api.key(TENANT, "viewer")).json()["access_token"]
    assert called(api, answer).status_code == 200
    return str(answer)


def called(api: RunningApi, credentials: str, **headers: str) -> httpx.Response:
    return api.client(credentials, **headers).get("/v1/me")


def b64(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    header, claims, signature = token.split(".")
    return _json(header), _json(claims), signature


def _json(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def signed(api: RunningApi, claims: dict[str, Any], **header: Any) -> str:
    """Sign with the API's own key: what is wrong with the token is in the claims alone."""
    key = api.parts.ring.signing_key(api.clock.now())
    return jwt.encode(claims, key.private, "EdDSA", headers={"kid": key.kid, "typ": "at+jwt"} | header)


def assert_refused(answer: httpx.Response) -> None:
    """Refused, and not told why."""
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].startswith(("send Authorization", "the access token has expired"))


def reason_told(api: RunningApi) -> Any:
    """Return the reason in the latest auth event of the trail."""
    return next(event["reason"] for kind, _, event in reversed(api.produced.events) if kind == "auth")


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
def test_a_token_without_a_signature(api: RunningApi, token: str, alg: str) -> None:
    """`alg: none`, in every spelling."""
    header, claims, signature = parts_of(token)
    for end in ("", signature):
        assert_refused(called(api, f"{b64(header | {'alg': alg})}.{b64(claims)}.{end}"))


def test_a_token_signed_with_the_public_key_as_a_secret(api: RunningApi, token: str) -> None:
    """Key confusion: HS256, with what everybody can read from the JWKS, in each of its forms."""
    header, claims, _ = parts_of(token)
    public = api.parts.ring.signing_key(api.clock.now()).public
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for secret in (public.public_bytes_raw(), pem, pem.strip()):
        body = f"{b64(header | {'alg': 'HS256'})}.{b64(claims)}"
        forged = hmac.new(secret, body.encode(), hashlib.sha256).digest()
        assert_refused(called(api, f"{body}.{b64(forged)}"))
        assert reason_told(api) == "wrong_algorithm"


def test_a_token_that_brings_its_own_key(api: RunningApi, token: str) -> None:
    """`jwk`, `jku` and `x5u` in the header are not looked at."""
    _, claims, _ = parts_of(token)
    own = Ed25519PrivateKey.generate()
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64(own.public_key().public_bytes_raw())}
    kid = api.parts.ring.signing_key(api.clock.now()).kid
    headers = {"kid": kid, "typ": "at+jwt", "jwk": jwk, "jku": "http://192.0.2.1/jwks"}
    assert_refused(called(api, jwt.encode(claims, own, "EdDSA", headers=headers)))
    assert reason_told(api) == "bad_signature"


def test_a_token_that_has_expired(api: RunningApi, token: str) -> None:
    """After a quarter of an hour it is over; the client is told that much."""
    api.clock.pass_(minutes=15, seconds=10)
    answer = called(api, token)
    assert_refused(answer)
    assert "expired" in answer.json()["detail"]


def test_a_token_of_tomorrow(api: RunningApi, token: str) -> None:
    """Not yet valid is not valid."""
    _, claims, _ = parts_of(token)
    for name in ("nbf", "iat"):
        assert_refused(called(api, signed(api, claims | {name: claims[name] + 3600})))
        assert reason_told(api) == "not_yet_valid"


@pytest.mark.parametrize("audience", ["another-api", ["tenantwatch-api", "another-api"], None])
def test_a_token_for_another_audience(api: RunningApi, token: str, audience: Any) -> None:
    """Signed by us, for somebody else."""
    _, claims, _ = parts_of(token)
    assert_refused(called(api, signed(api, claims | {"aud": audience})))
    assert reason_told(api) == "wrong_audience"


def test_a_token_of_another_issuer(api: RunningApi, token: str) -> None:
    """With the same key, say of a staging system that shares its file."""
    _, claims, _ = parts_of(token)
    assert_refused(called(api, signed(api, claims | {"iss": "staging"})))
    assert reason_told(api) == "wrong_issuer"


@pytest.mark.parametrize("kid", ["unknown", "", "../../../dev/null", "' OR 1=1 --"])
def test_a_token_with_a_key_id_of_its_own(api: RunningApi, token: str, kid: str) -> None:
    """A kid is looked up among our keys, and nowhere else."""
    _, claims, _ = parts_of(token)
    assert_refused(called(api, signed(api, claims, kid=kid)))
    assert reason_told(api) == "unknown_kid"


def test_a_token_of_another_type(api: RunningApi, token: str) -> None:
    """What else we may sign one day is no access token."""
    _, claims, _ = parts_of(token)
    assert_refused(called(api, signed(api, claims, typ="JWT")))


@pytest.mark.parametrize(
    "change", [{"tenant_id": OTHER}, {"permissions": ["keys:manage"]}, {"platform": True}]
)
def test_tampered_claims(api: RunningApi, token: str, change: dict[str, Any]) -> None:
    """The signature is over what it was, not over what it became."""
    header, claims, signature = parts_of(token)
    original = token.split(".")
    assert_refused(called(api, f"{original[0]}.{b64(claims | change)}.{signature}"))
    assert header["alg"] == "EdDSA"


@pytest.mark.parametrize("name", ["exp", "iat", "sub", "tenant_id", "permissions", "jti"])
def test_a_token_that_leaves_a_claim_out(api: RunningApi, token: str, name: str) -> None:
    """Nothing is assumed: least of all that it never ends."""
    _, claims, _ = parts_of(token)
    del claims[name]
    assert_refused(called(api, signed(api, claims)))


@pytest.mark.parametrize("exp", ["9999999999", 1e400, True, None, [], -1])
def test_a_token_whose_end_is_no_time(api: RunningApi, token: str, exp: Any) -> None:
    """And nothing that is no number makes an error of ours."""
    _, claims, _ = parts_of(token)
    assert_refused(called(api, signed(api, claims | {"exp": exp})))


@pytest.mark.parametrize("junk", ["a.b.c", "....", "e30.e30.e30", "x" * 20_000, "tw_", "tw_0_0", "twr_x"])
def test_what_is_no_token(api: RunningApi, junk: str) -> None:
    """Refused, without an error of ours."""
    assert_refused(called(api, junk))


def test_a_refresh_token_used_twice(api: RunningApi) -> None:
    """The whole family ends, the thief's and the owner's, and an alert says so."""
    key = api.key(TENANT, "viewer")
    stolen = api.token(key, scope="offline_access").json()
    form = {"grant_type": "refresh_token", "refresh_token": stolen["refresh_token"]}
    thief = api.token(key, **form).json()
    assert called(api, thief["access_token"]).status_code == 200
    # At a process whose clock is behind, or that read it before the thief was served.
    api.clock.pass_(seconds=-2)
    again = api.token(key, **form)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    api.clock.pass_(seconds=2)
    for pair in (stolen, thief):
        assert_refused(called(api, pair["access_token"]))
        later = api.token(key, grant_type="refresh_token", refresh_token=pair["refresh_token"])
        assert later.json()["error"] == "invalid_grant"
    [alert] = [a for a in api.produced.alerts if a.entity.value == f"key:{key[3:19]}"]
    assert (alert.tenant_id, alert.classification, alert.severity) == (TENANT, "refresh_token_reused", "high")
    reasons = [e["reason"] for e in api.produced.of("auth", TENANT) if e["action"] == "token_refresh"]
    assert "refresh_token_reused" in reasons


def test_a_platform_key_s_refresh_token_used_twice(database: Database, tmp_path: Any) -> None:
    """Without a tenant for the platform's alerts the log cries out, and says what is missing."""
    with running_api(database, tmp_path, ApiConfig()) as api:
        key = api.key("", "platform_auditor")
        client = {"client_id": key[3:19], "client_secret": key}
        ask, at = {"grant_type": "client_credentials", "scope": "offline_access"}, f"{api.url}/v1/oauth/token"
        stolen = httpx.post(at, data=client | ask).json()["refresh_token"]
        with structlog.testing.capture_logs() as logs:
            for _ in range(2):
                httpx.post(at, data=client | {"grant_type": "refresh_token", "refresh_token": stolen})
    [told] = [each for each in logs if each["event"] == "refresh_token_reused"]
    assert (told["log_level"], told["subject"], told["alerted"]) == ("error", f"key:{key[3:19]}", False)
    assert "TENANTWATCH_PLATFORM_TENANT" in told["fix"]
    assert stolen not in str(logs)


def test_another_client_s_refresh_token(api: RunningApi) -> None:
    """Of no use without the client's own secret, and the owner's go on."""
    key = api.key(TENANT, "viewer")
    text = api.token(key, scope="offline_access").json()["refresh_token"]
    thief = api.key(OTHER, "viewer")
    form = {"grant_type": "refresh_token", "refresh_token": text}
    assert api.token(thief, **form).json()["error"] == "invalid_grant"
    assert api.client().post("/v1/oauth/token", data=form).json()["error"] == "invalid_grant"
    assert api.token(key, **form).status_code == 200


def test_a_token_whose_jti_was_revoked(api: RunningApi, token: str) -> None:
    """One token ends, the client's others go on."""
    _, claims, _ = parts_of(token)
    key = api.key(TENANT, "viewer")
    mine, other = (api.token(key).json()["access_token"] for _ in range(2))
    form = {"client_id": key[3:19], "client_secret": key, "token": mine}
    assert api.client().post("/v1/oauth/revoke", data=form).status_code == 200
    assert_refused(called(api, mine))
    assert called(api, other).status_code == 200
    assert claims["jti"] != parts_of(mine)[1]["jti"]


def test_a_scope_beyond_the_client_s_permissions(api: RunningApi) -> None:
    """Asked for at the token endpoint, or when refreshing: refused, not trimmed."""
    key = api.key(TENANT, "viewer")
    for scope in ("keys:manage", "alerts:read platform:enter", "events:read pii:read"):
        assert api.token(key, scope=scope).json()["error"] == "invalid_scope"
    pair = api.token(key, scope="alerts:read offline_access").json()
    wider = api.token(
        key, grant_type="refresh_token", refresh_token=pair["refresh_token"], scope="events:read"
    )
    assert wider.json()["error"] == "invalid_scope"


@pytest.mark.parametrize(
    "wanted",
    [
        {"roles": ["tenant_admin"]},
        {"permissions": ["pii:read"]},
        {"permissions": ["platform:enter"]},
        {"roles": ["platform_admin"]},
    ],
)
def test_a_key_that_gives_itself_more(api: RunningApi, wanted: dict[str, Any]) -> None:
    """Who may make keys makes none that may more than itself."""
    maker = api.client(api.key(TENANT, permissions=("keys:manage", "alerts:read")))
    refused = maker.post("/v1/keys", json={"name": "x"} | wanted)
    assert refused.status_code in (403, 422)


def test_a_key_s_secret_taken_over_by_rotating_it(api: RunningApi) -> None:
    """Rotating shows the new secret: only to whom may all that the key may."""
    admin = api.key(TENANT, "tenant_admin")
    maker = api.client(api.key(TENANT, permissions=("keys:manage",)))
    assert maker.post(f"/v1/keys/{admin[3:19]}/rotate", json={}).status_code == 403
    operator = api.client(api.key("", "platform_operator"), x_tenant_id=TENANT)
    assert operator.post(f"/v1/keys/{admin[3:19]}/rotate", json={}).status_code == 403


def test_a_key_after_its_end(api: RunningApi) -> None:
    """Expired is refused, as a bearer and as a client."""
    key = api.key(TENANT, "viewer", days=1)
    api.clock.pass_(days=1, seconds=1)
    assert_refused(called(api, key))
    assert api.token(key).json()["error"] == "invalid_client"


def test_a_key_s_old_secret_after_the_overlap(api: RunningApi) -> None:
    """Rotated out is refused, and signs nothing any more."""
    old = api.key(TENANT, "tenant_admin")
    api.client(old).post(f"/v1/keys/{old[3:19]}/rotate", json={"overlap_s": 60})
    api.clock.pass_(seconds=61)
    assert_refused(called(api, old))


def test_guessing_which_keys_exist(api: RunningApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown id goes the way of a wrong secret: the same steps, the same answer, but for its number.

    Times would tell nothing on a busy machine, so what is done is compared: queries and comparisons.
    """
    key = api.key(TENANT, "viewer")
    wrong = key[:20] + "A" * 43
    unknown = "tw_" + "f" * 16 + "_" + "A" * 43
    steps: list[str] = []
    compare, query = hmac.compare_digest, api.parts.database.query

    def counted_compare(a: Any, b: Any) -> bool:
        steps.append("compare")
        return compare(a, b)

    def counted_query(sql: str, parameters: Any = None) -> Any:
        steps.append(sql)
        return query(sql, parameters)

    monkeypatch.setattr(authentication.hmac, "compare_digest", counted_compare)
    monkeypatch.setattr(api.parts.database, "query", counted_query)
    told = []
    for credentials in (wrong, unknown):
        steps.clear()
        answer = called(api, credentials).json()
        del answer["request_id"]
        told.append((answer, [*steps]))
    assert told[0] == told[1]
    assert told[0][1].count("compare") == 1


def test_many_guesses_from_one_address(database: Database, tmp_path: Any) -> None:
    """A hundred refused credentials in a quarter of an hour are told why, then none; good ones pass."""
    with running_api(database, tmp_path, ApiConfig(platform_tenant=PLATFORM_TENANT)) as api:
        good = api.key(TENANT, "viewer")
        client = api.client()
        guess = {"Authorization": f"Bearer tw_{'0' * 16}_{'A' * 43}"}
        answers = [client.get("/v1/me", headers=guess).status_code for _ in range(103)]
        assert answers == [401] * 100 + [429] * 3
        assert called(api, good).status_code == 200
        # What is refused beyond that is written into the trail once: there would be no end to it.
        assert len(api.produced.of("request", PLATFORM_TENANT)) == 101
        api.clock.pass_(minutes=31)
        assert called(api, good).status_code == 200


def test_a_token_in_the_address(api: RunningApi, token: str) -> None:
    """Credentials in a query would be in every log; they are not looked at there."""
    answer = api.client().get("/v1/me", params={"access_token": token})
    assert answer.status_code == 401
