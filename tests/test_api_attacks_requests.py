"""Attacks on requests: other tenants' names and ids, too large, too deep, packed, twice, too many."""

import gzip
import json
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from api_server import PLATFORM_TENANT, RunningApi, add_tenant, run_backtest, running_api
from api_verdicts import ROWS
from conftest import eventually
from sizes import some

from api.v1.app import api_app
from api.v1.authentication import Authentication
from api.v1.parts import ApiConfig
from schemas.tenant import RateLimit
from store.database import Database

TENANT, OTHER = "requests-own", "requests-other"


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with a victim and another tenant."""
    for tenant_id in (TENANT, OTHER):
        add_tenant(database, tenant_id)
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def key(api: RunningApi) -> str:
    """An administrator's key."""
    return api.key(TENANT, "tenant_admin")


def test_another_tenant_in_the_header(api: RunningApi, key: str) -> None:
    """Refused whether or not there is such a tenant, and both tenants' detectors can see who tried."""
    answers = [api.client(key, x_tenant_id=t).get("/v1/keys") for t in (OTHER, "nobody")]
    assert [a.status_code for a in answers] == [403, 403]
    assert answers[0].json()["detail"] == answers[1].json()["detail"]
    tried = [e for e in api.produced.of("access", TENANT) if e["reason"] == "wrong_tenant"]
    assert tried[0]["resource_tenant_id"] == OTHER
    assert tried[0]["outcome"] == "failure"


@pytest.mark.parametrize(
    "tenant", ["../other", "a b", "' OR '1'='1", "a" * 65, "*", "%", "", "requests-own,requests-other"]
)
def test_a_tenant_in_the_header_that_is_none(api: RunningApi, key: str, tenant: str) -> None:
    """Refused, for a tenant's callers and for the platform's."""
    assert api.client(key, x_tenant_id=tenant).get("/v1/keys").status_code == 403
    platform = api.client(api.key("", "platform_admin"), x_tenant_id=tenant)
    assert platform.get("/v1/keys").status_code == 404


def test_a_platform_key_without_the_permission_to_enter(api: RunningApi) -> None:
    """Its permissions are not worth anything in a tenant, unless it may go there."""
    keys = api.client(api.key("", permissions=("keys:manage",)), x_tenant_id=TENANT)
    assert keys.get("/v1/keys").status_code == 403


def test_the_header_given_twice(api: RunningApi, key: str) -> None:
    """Two readers could otherwise each see another one."""
    twice = [("X-Tenant-Id", TENANT), ("X-Tenant-Id", OTHER), ("Authorization", f"Bearer {key}")]
    assert httpx.get(f"{api.url}/v1/keys", headers=twice).status_code == 400
    viewer = api.key(TENANT, "viewer")
    both = [("Authorization", f"Bearer {viewer}"), ("Authorization", f"Bearer {key}")]
    assert httpx.get(f"{api.url}/v1/keys", headers=both).status_code == 400


def test_a_parameter_given_twice_or_unknown(api: RunningApi, key: str) -> None:
    """Refused: the one that was checked may not be the one that is used."""
    client = api.client(key)
    assert client.get("/v1/keys?tenant_id=x").json()["code"] == "unknown_parameter"
    form = "grant_type=client_credentials&grant_type=refresh_token"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    twice = client.post("/v1/oauth/token", content=form, headers=headers)
    assert twice.json()["code"] == "repeated_parameter"


def test_guessing_ids(api: RunningApi, key: str) -> None:
    """Another's key and no key at all: the same answer, and the trail counts the tries as denied."""
    foreign = api.key(OTHER, "viewer")[3:19]
    client = api.client(key)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/rotate")):
        answers = [
            client.request(method, f"/v1/keys/{id_}{path}", json={} if path else None)
            for id_ in (foreign, "0" * 16)
        ]
        bodies = [answer.json() for answer in answers]
        for body in bodies:
            del body["request_id"]
        assert bodies[0] == bodies[1]
        assert bodies[0]["status"] == 404
    denied = [e for e in api.produced.of("access", TENANT) if e["reason"] == "not_found"]
    assert foreign in {event["resource_id"] for event in denied}


@pytest.mark.parametrize("id_", ["' OR 1=1 --", "0" * 17, "..%2f..%2fetc", "%00", "a" * 5000])
def test_an_id_that_is_none(api: RunningApi, key: str, id_: str) -> None:
    """Refused before anything is looked up."""
    assert api.client(key).get(f"/v1/keys/{id_}").status_code in (404, 422)


def test_an_oversized_body_is_refused_by_its_length(api: RunningApi, key: str) -> None:
    """Before a byte of it is read."""
    with socket.create_connection(("127.0.0.1", int(api.url.rsplit(":", 1)[1])), timeout=10) as raw:
        head = f"POST /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        raw.sendall(f"{head}Content-Type: application/json\r\nContent-Length: 99999999\r\n\r\n".encode())
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]


def test_an_oversized_body_without_a_length(api: RunningApi, key: str) -> None:
    """Chunk by chunk, it is cut off at the limit."""
    sent = 0
    head = f"POST /v1/keys HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with socket.create_connection(("127.0.0.1", int(api.url.rsplit(":", 1)[1])), timeout=10) as raw:
        raw.sendall(head.encode())
        while not select.select([raw], [], [], 0.05)[0]:
            assert sent < 64, "it is read without end"
            raw.sendall(b"10000\r\n" + b" " * 65_536 + b"\r\n")
            sent += 1
        assert b" 413 " in raw.recv(4096).split(b"\r\n")[0]


def test_an_oversized_body_of_nobody_is_not_read(api: RunningApi) -> None:
    """Credentials come first."""
    answer = api.client().post("/v1/keys", content=b"x" * 2_000_000)
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "deep", [b"[" * 100_000, b'{"a":' * 100_000, b'{"name": ' + b"[" * 33 + b"]" * 33 + b"}"]
)
def test_deep_json(api: RunningApi, key: str, deep: bytes) -> None:
    """Refused before it is parsed."""
    answer = api.client(key, content_type="application/json").post("/v1/keys", content=deep)
    assert (answer.status_code, answer.json()["code"]) == (422, "body_too_deep")


@pytest.mark.parametrize(
    "kind", ["application/JSON", "Application/Json; charset=utf-8", "application/X-NDJSON"]
)
def test_deep_json_on_ingest_however_its_type_is_spelt(api: RunningApi, kind: str) -> None:
    """A type's name has no case: what would be parsed is looked at first."""
    producer = api.client(api.key(TENANT, "producer"), content_type=kind)
    answer = producer.post("/v1/events", content=b"[" * 2_000)
    assert (answer.status_code, answer.json()["code"]) == (422, "body_too_deep")


# In UTF-16 the second character of the key is a quote's byte, so that brackets would seem to be in a string.
HIDDEN_DEPTH = ('["\u0122",' + "[" * 2_000).encode("utf-16-le")
UNREADABLE = {
    "deep in UTF-16": HIDDEN_DEPTH,
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "UTF-32": '{"name": "x"}'.encode("utf-32-be"),
    "Latin-1": '{"name": "\u00e9"}'.encode("latin-1"),
    "surrogates as UTF-8": b'{"name": "\xed\xa0\x80"}',
    "half a pair": rb'{"kind": "auth", "x": "\ud800"}',
    "half a pair as a name": rb'{"\uDFff": 1}',
    "a pair the wrong way round": rb'{"name": "\udc00\ud800"}',
}
WITH_BODY = [route for route in ROWS if route.split()[0] in ("POST", "PUT", "PATCH") and not ROWS[route].data]


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("route", some(WITH_BODY, "POST /v1/events".__eq__))
def test_json_that_others_would_read_otherwise(api: RunningApi, route: str, body: bytes) -> None:
    """Not in UTF-8, or with half a character: refused wherever a body is taken, and told how it should be."""
    ids = ROWS[route].ids
    method, path = route.format(**ids(api, TENANT) if ids else {}).split()
    admin = api.client(api.key("", "platform_admin"), x_tenant_id=TENANT, content_type="application/json")
    answer = admin.request(method, path, content=body)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request"), answer.text


@pytest.mark.parametrize("name", ["deep", "half a pair"])
def test_a_line_in_another_encoding(api: RunningApi, name: str) -> None:
    """A good first line does not have the others read differently."""
    producer = api.client(api.key(TENANT, "producer"), content_type="application/x-ndjson")
    lines = {"deep": HIDDEN_DEPTH, "half a pair": r'{"kind": "auth", "x": "\ud800"}'.encode("utf-16-le")}
    answer = producer.post("/v1/events", content=b"{}\n" + lines[name])
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request"), answer.text


def test_whole_characters_are_taken(api: RunningApi, key: str) -> None:
    """Escaped or not, beyond the first 65,536 too, and a backslash before what only looks like an escape."""
    for name in (rb"\ud83d\uDE00", rb"\\ud800", "\u20ac \U0001f600".encode()):
        client = api.client(key, content_type="application/json")
        assert client.post("/v1/keys", content=b'{"permissions": [], "name": "%s"}' % name).status_code == 201


def test_brackets_in_strings_are_not_deep(api: RunningApi, key: str) -> None:
    """The check sees JSON, not characters."""
    harmless = json.dumps({"name": "[" * 40 + '"\\', "permissions": []}).encode()
    answer = api.client(key, content_type="application/json").post("/v1/keys", content=harmless)
    assert answer.status_code == 201


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, gzip", "GZIP"])
def test_a_compressed_bomb(api: RunningApi, key: str, encoding: str) -> None:
    """Nothing is unpacked: compressed bodies are not taken."""
    bomb = gzip.compress(b" " * 50_000_000)
    client = api.client(key, content_type="application/json", content_encoding=encoding)
    answer = client.post("/v1/keys", content=bomb)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_encoding")


@pytest.mark.parametrize(
    "body", [b"", b"nothing", b"{", b"\xff\xfe", b"[]", b'"x"', b"null", b'{"name": NaN}']
)
def test_a_body_that_is_no_object(api: RunningApi, key: str, body: bytes) -> None:
    """Told what is wrong, without an error of ours."""
    answer = api.client(key, content_type="application/json").post("/v1/keys", content=body)
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_a_method_overridden(api: RunningApi, key: str, header: str) -> None:
    """A GET stays a GET, whatever a header says."""
    victim = api.key(TENANT, "viewer")[3:19]
    client = api.client(key)
    assert client.get(f"/v1/keys/{victim}", headers={header: "DELETE"}).status_code == 200
    assert client.get(f"/v1/keys/{victim}").json()["status"] == "active"


@pytest.mark.parametrize("id_", ["a b", "x" * 65, "a;b", "{}", "<script>", "..\\", "x\ty"])
def test_a_log_line_injected_by_a_request_id(api: RunningApi, key: str, id_: str) -> None:
    """An id that could be more than an id is replaced."""
    answer = api.client(key).get("/v1/me", headers={"X-Request-Id": id_})
    assert answer.headers["x-request-id"] != id_
    assert answer.headers["x-request-id"].isalnum()
    kept = api.client(key).get("/v1/me", headers={"X-Request-Id": "harmless-1"})
    assert kept.headers["x-request-id"] == "harmless-1"


def test_a_log_line_injected_by_a_user_agent(api: RunningApi, key: str) -> None:
    """Control characters do not reach the trail, nor megabytes."""
    agent = b"curl\x1b[2J\x85level=error" + b"x" * 10_000
    headers = [(b"User-Agent", agent), (b"Authorization", f"Bearer {key}".encode())]
    api.client().get("/v1/me", headers=headers)
    told = api.produced.of("request", TENANT)[-1]["user_agent"]
    assert told.isprintable()
    assert len(told) <= 256


def test_a_page_of_another_origin(api: RunningApi, key: str) -> None:
    """No browser lets it read an answer, because no origin is allowed."""
    client = api.client(key, origin="https://evil.example.com")
    assert not [h for h in client.get("/v1/me").headers if h.startswith("access-control")]
    preflight = client.options("/v1/me", headers={"Access-Control-Request-Method": "GET"})
    assert preflight.status_code == 405


def test_only_a_listed_origin_may_call(database: Database, tmp_path: Path) -> None:
    """And no other, nor one that begins like it."""
    config = ApiConfig(platform_tenant=PLATFORM_TENANT, cors_origins=("https://console.example.com",))
    with running_api(database, tmp_path, config) as api:
        key = api.key(TENANT, "viewer")
        for origin, allowed in (
            ("https://console.example.com", "https://console.example.com"),
            ("https://console.example.com.evil.example", None),
            ("null", None),
        ):
            answer = api.client(key, origin=origin).get("/v1/me")
            assert answer.headers.get("access-control-allow-origin") == allowed
            assert "access-control-allow-credentials" not in answer.headers
            asked = {"Access-Control-Request-Method": "GET", "Origin": origin}
            preflight = api.client().options("/v1/me", headers=asked)
            assert preflight.status_code == (200 if allowed else 400)
            if not allowed:
                assert preflight.headers["content-type"] == "application/problem+json"
                assert preflight.json()["code"] == "malformed_request"


def test_an_answer_cannot_be_framed_sniffed_or_cached(api: RunningApi, key: str) -> None:
    """Of errors neither."""
    for answer in (api.client(key).get("/v1/me"), api.client().get("/v1/me"), api.client().get("/nowhere")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_an_error_of_ours_tells_nothing_of_our_insides(
    api: RunningApi, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the number under which our log has the rest."""

    async def broken(*arguments: Any) -> Any:
        raise RuntimeError("the secret is hunter2")

    monkeypatch.setattr(Authentication, "principal", broken)
    answer = api.client(key).get("/v1/me")
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert "RuntimeError" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_forwarded_address_of_somebody_untrusted(api: RunningApi, key: str) -> None:
    """Nobody names the address that the trail will show."""
    api.client(key, x_forwarded_for="203.0.113.9").get("/v1/me")
    assert api.produced.of("request", TENANT)[-1]["source_ip"] == "127.0.0.1"


def test_more_requests_than_the_tier_allows(api: RunningApi, database: Database) -> None:
    """Told beforehand what is left, then 429, until the window has moved on; others go on."""
    add_tenant(database, "requests-limited", rate_limit=RateLimit(requests=3, window_s=60))
    busy = api.client(api.key("requests-limited", "viewer"))
    calm = api.client(api.key("requests-limited", "viewer"))
    answers = [busy.get("/v1/me") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    assert [a.headers["ratelimit-remaining"] for a in answers] == ["2", "1", "0", "0"]
    assert answers[3].json()["code"] == "rate_limited"
    wait_s = int(answers[3].headers["retry-after"])
    assert calm.get("/v1/me").status_code == 200
    api.clock.pass_(seconds=wait_s)
    assert busy.get("/v1/me").status_code == 200


def test_more_keys_than_a_tenant_needs(api: RunningApi, database: Database) -> None:
    """Each has a user's limit, all of them together ten users': who makes more keys gets no more requests."""
    add_tenant(database, "requests-keys", rate_limit=RateLimit(requests=2, window_s=60))
    add_tenant(database, "requests-calm", rate_limit=RateLimit(requests=2, window_s=60))
    clients = [api.client(api.key("requests-keys", "viewer")) for _ in range(12)]
    answers = [client.get("/v1/me") for client in clients for _ in range(2)]
    assert [a.status_code for a in answers] == [200] * 20 + [429] * 4
    # The limit that leaves least is the one that is shown.
    assert [a.headers["ratelimit-limit"] for a in answers[:1] + answers[-6:]] == ["2"] * 3 + ["20"] * 4
    assert "the tenant's callers together" in answers[-1].json()["detail"]
    assert api.client(api.key("requests-calm", "viewer")).get("/v1/me").status_code == 200
    api.clock.pass_(seconds=int(answers[-1].headers["retry-after"]))
    assert clients[-1].get("/v1/me").status_code == 200


@pytest.mark.parametrize(("tier", "requests"), [("free", 100), ("standard", 100), ("enterprise", 1_000)])
def test_a_tier_s_limit(api: RunningApi, database: Database, tier: str, requests: int) -> None:
    """In 15 minutes, where the tenant has no limit of its own."""
    add_tenant(database, f"requests-{tier}", tier=tier, rate_limit=None)
    answer = api.client(api.key(f"requests-{tier}", "viewer")).get("/v1/me")
    assert answer.headers["ratelimit-limit"] == str(requests)


def test_a_suspended_tenant(api: RunningApi, database: Database) -> None:
    """Its keys open nothing, the platform's still do."""
    add_tenant(database, "requests-suspended", status="suspended")
    answer = api.client(api.key("requests-suspended", "tenant_admin")).get("/v1/me")
    assert (answer.status_code, answer.json()["code"]) == (403, "tenant_suspended")
    platform = api.client(api.key("", "platform_admin"), x_tenant_id="requests-suspended")
    assert platform.get("/v1/keys").status_code == 200


def test_a_store_that_is_away_lets_nobody_in(
    api: RunningApi, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nobody can say whether a key is revoked, it is not good."""
    from store.database import StoreUnavailable

    def away(*arguments: Any, **more: Any) -> Any:
        raise StoreUnavailable("Code: 210. connection refused by 192.0.2.1")

    monkeypatch.setattr(api.parts.database, "query", away)
    answer = api.client(key).get("/v1/me")
    assert answer.status_code == 503
    assert "192.0.2.1" not in answer.text
    assert answer.headers["retry-after"]


def test_a_slow_request_is_logged(database: Database, tmp_path: Path) -> None:
    """With its route and number, without its body."""
    config = ApiConfig(platform_tenant=PLATFORM_TENANT, slow_ms=-1)
    with running_api(database, tmp_path, config) as api, structlog.testing.capture_logs() as logs:
        answer = api.client().get("/v1/health")
        [line] = eventually(lambda: [each for each in logs if each["event"] == "request_served_slowly"])
    assert (line["route"], line["request_id"]) == ("/v1/health", answer.headers["x-request-id"])


def test_two_apps_of_one_process_share_nothing(api: RunningApi) -> None:
    """Each has its own gate and limits."""
    assert api_app(api.parts, run_backtest).state.gate is not api.app.state.gate
