"""The bodies of all requests together: what a process holds has a limit, and is let go."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx
import pytest
from api_server import PLATFORM_TENANT, PLENTY, RunningApi, add_tenant, running_api
from conftest import eventually
from structlog.testing import capture_logs

from api.v1.parts import ApiConfig
from store.database import Database
from streams.metrics import API_REQUESTS

TENANT: Final = "bodies-own"
MIB: Final = 1024 * 1024
MAX_BYTES: Final = 3 * MIB


@pytest.fixture
def api(database: Database, tmp_path: Path) -> Iterator[RunningApi]:
    """An API that holds little."""
    add_tenant(database, TENANT)
    config = ApiConfig(platform_tenant=PLATFORM_TENANT, failure_limit=PLENTY, bodies_bytes=MAX_BYTES)
    with running_api(database, tmp_path, config) as running:
        yield running


@pytest.fixture
def admin(api: RunningApi) -> httpx.Client:
    return api.client(api.key(TENANT, "tenant_admin"), content_type="application/json")


@contextmanager
def sending(api: RunningApi, size: int, *, announced: int = 0, held: bool = True) -> Iterator[HTTPResponse]:
    """Send so much of a batch whose end does not come; yields the answer, to be read if there is one.

    Parameters
    ----------
    announced
        How large the body is, if it is told beforehand; else it comes in chunks.
    held
        Whether all of that has come, and is kept, when this goes on.
    """
    address = urlsplit(api.url)
    key = api.key(TENANT, "producer")
    length = f"Content-Length: {announced}" if announced else "Transfer-Encoding: chunked"
    head = (
        f"POST /v1/events HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\n{length}\r\n\r\n"
    )
    if not announced:
        head += f"{2 * size:x}\r\n"
    before = api.app.state.bodies.held_bytes
    with socket.create_connection((address.hostname, address.port), 30) as connection:
        connection.sendall(head.encode() + b" " * size)
        assert not held or eventually(lambda: api.app.state.bodies.held_bytes == before + size)
        yield HTTPResponse(connection)


def check_refused(answer: HTTPResponse) -> None:
    answer.begin()
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    assert json.load(answer)["code"] == "unavailable"


def make_key(admin: httpx.Client, size: int) -> bool:
    """Send a good body of a size; return whether it was taken."""
    body = json.dumps({"name": "n", "permissions": []}).encode().rjust(size)
    return admin.post("/v1/keys", content=body).status_code == 201


def test_what_there_is_no_room_for_is_refused_until_others_are_over(
    api: RunningApi, admin: httpx.Client
) -> None:
    """Before it is sent; what is small passes meanwhile, and all is as before when the other has gone."""
    with sending(api, MAX_BYTES - MIB // 2):
        with sending(api, 1, announced=MIB, held=False) as answer:
            check_refused(answer)
        assert make_key(admin, 1_000)
        assert admin.get("/v1/keys").status_code == 200
    assert eventually(lambda: api.app.state.bodies.held_bytes == 0)
    assert make_key(admin, MIB)


def test_a_body_of_no_told_size_is_refused_once_it_is_too_much(api: RunningApi, admin: httpx.Client) -> None:
    """And what had come of it is let go, while the other one is still sent."""
    with sending(api, MAX_BYTES - MIB // 2):
        with sending(api, MIB // 2 + 1, held=False) as answer:
            check_refused(answer)
        assert eventually(lambda: make_key(admin, MIB // 2))


def test_what_was_only_announced_takes_no_room(api: RunningApi, admin: httpx.Client) -> None:
    """Otherwise a few connections that send nothing would keep everybody out."""
    with sending(api, 1, announced=MAX_BYTES), sending(api, 1, announced=MAX_BYTES - 1):
        assert make_key(admin, MIB)


def test_requests_that_were_answered_hold_nothing(api: RunningApi, admin: httpx.Client) -> None:
    """Taken, refused, or from nobody."""
    stranger = api.client(content_type="application/json")
    for _ in range(MAX_BYTES // MIB + 1):
        assert make_key(admin, MIB)
        assert admin.post("/v1/keys", content=b"[" * MIB).status_code == 422
        assert stranger.post("/v1/oauth/token", content=b" " * 1_000).status_code in (400, 415)
    assert eventually(lambda: api.app.state.bodies.held_bytes == 0)


def test_a_client_that_leaves_is_no_failure_of_ours(api: RunningApi) -> None:
    """Its request is over, told without an error, and counts as none of the server's."""
    failures = API_REQUESTS.labels("5xx")._value.get()
    with capture_logs() as logs:
        with sending(api, MIB):
            pass
        assert eventually(lambda: any(entry["event"] == "request_abandoned" for entry in logs))
    assert not [entry for entry in logs if entry["log_level"] == "error"]
    assert API_REQUESTS.labels("5xx")._value.get() == failures
