"""Attacks on signed requests: sent again, swapped, stale, and in other people's names."""

import hmac
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from api_server import RunningApi, add_tenant, authorization, running_api

from api.v1 import authentication, routing
from store.database import Database
from store.refresh_tokens import use_once

TENANT, OTHER = "signed-own", "signed-other"
NEW_KEY = json.dumps({"name": "by attack", "permissions": ["alerts:read"]}).encode()


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


Signed = Callable[..., dict[str, str]]
_nonces = iter(range(10**6))


@pytest.fixture
def signed(api: RunningApi, key: str) -> Signed:
    """Signs a POST to /v1/keys."""

    def sign(
        body: bytes = NEW_KEY, nonce: str | None = None, shift_s: int = 0, **more: Any
    ) -> dict[str, str]:
        timestamp = int(api.clock.now().timestamp()) + shift_s
        fresh = nonce or f"nonce-{next(_nonces):016}"
        target = more.pop("target", "/v1/keys")
        told = authorization(more.pop("key", key), "POST", target, NEW_KEY, timestamp, fresh, **more)
        return {"Authorization": told, "Content-Type": "application/json"}

    return sign


def posted(api: RunningApi, headers: dict[str, str], body: bytes = NEW_KEY, path: str = "/v1/keys") -> Any:
    return api.client().post(path, content=body, headers=headers)


def test_a_signed_request_is_taken(api: RunningApi, signed: Signed) -> None:
    """Without the secret on the wire."""
    assert posted(api, signed()).status_code == 201


def test_a_signed_request_sent_again(api: RunningApi, signed: Signed) -> None:
    """Replayed is refused, word for word the same as it is."""
    headers = signed()
    assert [posted(api, headers).status_code for _ in range(3)] == [201, 401, 401]


def test_a_signed_request_sent_many_times_at_once(api: RunningApi, signed: Signed) -> None:
    """Of twenty at the same moment one passes at most."""
    headers = signed()
    with ThreadPoolExecutor(20) as pool:
        answers = [*pool.map(lambda _: posted(api, headers).status_code, range(20))]
    assert answers.count(201) <= 1
    assert set(answers) <= {201, 401}


def test_a_signed_request_sent_to_another_process(api: RunningApi, signed: Signed, tmp_path: Path) -> None:
    """The store remembers nonces, not the process: with the same keys, another one refuses it too."""
    headers = signed()
    assert posted(api, headers).status_code == 201
    with running_api(api.parts.database, tmp_path) as second:
        second.app.state.parts.__dict__["ring"] = api.parts.ring
        second.clock.passed = api.clock.now() - second.clock._started
        assert posted(second, headers).status_code == 401
        assert [e["reason"] for e in second.produced.of("auth", TENANT)] == ["replayed_request"]


def test_two_uses_at_the_same_moment_never_both_pass(database: Database) -> None:
    """Whatever the order of their inserts and looks: counted over many races."""
    keep = datetime.now(UTC) + timedelta(minutes=15)
    for round_ in range(20):
        with ThreadPoolExecutor(2) as pool:
            uses = [*pool.map(lambda id_: use_once(database, [id_], keep), [f"race:{round_}"] * 2)]
        assert sum(first for [first] in uses) <= 1
        assert use_once(database, [f"race:{round_}"], keep) == [False]


@pytest.mark.parametrize("shift_s", [-301, 301, -86_400, 10**10])
def test_a_stale_timestamp(api: RunningApi, signed: Signed, shift_s: int) -> None:
    """Five minutes either way, no more: a nonce is not remembered for ever."""
    assert posted(api, signed(shift_s=shift_s)).status_code == 401
    assert posted(api, signed(shift_s=299 if shift_s > 0 else -299)).status_code == 201


def test_a_body_swapped_under_its_signature(api: RunningApi, signed: Signed) -> None:
    """The signature is over the body's bytes."""
    swapped = NEW_KEY.replace(b"alerts:read", b"events:read")
    assert posted(api, signed(), swapped).status_code == 401


def test_a_path_or_query_swapped_under_its_signature(api: RunningApi, signed: Signed) -> None:
    """What was signed for one route is no good for another."""
    assert posted(api, signed(target="/v1/me")).status_code == 401
    assert posted(api, signed(), path="/v1/keys?x=1").status_code == 401


def test_a_tenant_swapped_under_its_signature(api: RunningApi, signed: Signed) -> None:
    """The header that names the tenant is part of it: nobody turns a request to another tenant."""
    platform = api.key("", "platform_admin")
    headers = signed(key=platform, tenant=TENANT)
    assert posted(api, headers | {"X-Tenant-Id": OTHER}).status_code == 401
    assert posted(api, headers).status_code == 401
    assert posted(api, headers | {"X-Tenant-Id": TENANT}).status_code == 201


@pytest.mark.parametrize(
    "header",
    [
        "TW1-HMAC-SHA256",
        "TW1-HMAC-SHA256 KeyId=a",
        "TW1-HMAC-SHA256 KeyId=a,Timestamp=x,Nonce=nnnnnnnnnnnnnnnn,Signature=s",
        "TW1-HMAC-SHA256 KeyId=a,Timestamp=1,Nonce=short,Signature=s",
        "TW1-HMAC-SHA256 KeyId=a,KeyId=b,Timestamp=1,Nonce=nnnnnnnnnnnnnnnn,Signature=s",
        "TW1-HMAC-SHA256 KeyId=' OR 1=1,Timestamp=1,Nonce=nnnnnnnnnnnnnnnn,Signature=s",
        "TW1-HMAC-SHA256 KeyId=0000000000000000,Timestamp=1,Nonce=nnnnnnnnnnnnnnnn,Signature=s",
    ],
)
def test_a_signature_that_is_none(api: RunningApi, header: str) -> None:
    """Refused, without an error of ours."""
    assert posted(api, {"Authorization": header, "Content-Type": "application/json"}).status_code == 401


def test_an_old_secret_signs_during_the_overlap_only(api: RunningApi, signed: Signed) -> None:
    """As it goes as a bearer."""
    old = api.key(TENANT, "tenant_admin")
    rotated = api.client(old).post(f"/v1/keys/{old[3:19]}/rotate", json={"overlap_s": 60})
    new = rotated.json()["key"]
    assert [posted(api, signed(key=each)).status_code for each in (old, new)] == [201, 201]
    api.clock.pass_(seconds=61)
    assert [posted(api, signed(key=each)).status_code for each in (old, new)] == [401, 201]


def test_a_key_that_may_not_sign_for_more(api: RunningApi, signed: Signed) -> None:
    """A signature says who it is, not what it may."""
    assert posted(api, signed(key=api.key(TENANT, "producer"))).status_code == 403


def test_a_key_that_another_file_sealed(api: RunningApi, signed: Signed, tmp_path: Path) -> None:
    """With a new file of keys signed requests are refused, and told of, until the key has been rotated."""
    old = api.key(TENANT, "tenant_admin")
    with running_api(api.parts.database, tmp_path) as renewed:
        renewed.clock.passed = api.clock.now() - renewed.clock._started
        with structlog.testing.capture_logs() as logs:
            assert posted(renewed, signed(key=old)).status_code == 401
        [told] = [each for each in logs if each["event"] == "signing_key_not_opened"]
        assert (told["key_id"], told["log_level"]) == (old[3:19], "error")
        rotated = renewed.client(old).post(f"/v1/keys/{old[3:19]}/rotate", json={"overlap_s": 60})
        new = rotated.json()["key"]
        assert [posted(renewed, signed(key=each)).status_code for each in (old, new)] == [401, 201]


def test_guessing_which_keys_sign(
    api: RunningApi, key: str, signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown id goes the way of a wrong signature: the same queries, decryptions and comparisons."""
    steps: list[str] = []
    compare, query, unseal = hmac.compare_digest, api.parts.database.query, api.parts.ring.unseal

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            steps.append(given[0] if name == "query" else name)
            return real(*given)

        return call

    monkeypatch.setattr(authentication.hmac, "compare_digest", counted("compare", compare))
    monkeypatch.setattr(api.parts.database, "query", counted("query", query))
    monkeypatch.setattr(api.parts.ring, "unseal", counted("unseal", unseal))
    told = []
    for key_id in (key[3:19], "f" * 16):
        steps.clear()
        answer = posted(api, signed(key=f"tw_{key_id}_{'A' * 43}"))
        assert answer.status_code == 401
        told.append((answer.json() | {"request_id": ""}, [*steps]))
    assert told[0] == told[1]
    assert told[0][1].count("unseal") == 1


@pytest.mark.parametrize(("key_id", "shift_s"), [("f" * 16, 0), (None, -400)])
def test_a_body_that_nobody_signed_is_not_read(
    api: RunningApi, key: str, signed: Signed, key_id: str | None, shift_s: int
) -> None:
    """An unknown key, or an old time: the answer comes while the body is still on its way."""
    headers = signed(key=f"tw_{key_id}_{'A' * 43}" if key_id else key, shift_s=shift_s)
    with socket.create_connection(("127.0.0.1", int(api.url.rsplit(":", 1)[1])), timeout=10) as raw:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        raw.sendall(f"POST /v1/keys HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 1000\r\n\r\n{{".encode())
        assert b" 401 " in raw.recv(4096).split(b"\r\n")[0]


def test_a_body_that_does_not_come(api: RunningApi, signed: Signed, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever knows a key's id may begin to send, and not hold the connection for ever."""
    monkeypatch.setattr(routing, "READ_S", 0.2)
    with socket.create_connection(("127.0.0.1", int(api.url.rsplit(":", 1)[1])), timeout=10) as raw:
        head = "".join(f"{name}: {value}\r\n" for name, value in signed().items())
        raw.sendall(f"POST /v1/keys HTTP/1.1\r\nHost: x\r\n{head}Content-Length: 1000\r\n\r\n{{".encode())
        assert b" 408 " in raw.recv(4096).split(b"\r\n")[0]


def test_somebody_else_s_nonce_cannot_be_used_up(api: RunningApi, signed: Signed) -> None:
    """A nonce counts once the signature is good."""
    headers = signed(nonce="nonce-of-the-owner")
    forged = {**headers, "Authorization": headers["Authorization"][:-4] + "0000"}
    assert posted(api, forged).status_code == 401
    assert posted(api, headers).status_code == 201
