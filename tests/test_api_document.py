"""The OpenAPI document is true: whatever is sent, each answer is one that it describes, and none is a 5xx."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from api_server import PLATFORM_TENANT, PLENTY, RunningApi, add_tenant, running_api
from api_verdicts import ROWS
from hypothesis import HealthCheck, given, settings
from oidc_provider import config_of, running_provider
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.v1.parts import ApiConfig
from store.database import Database

TENANT = "document-tenant"
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with one tenant."""
    add_tenant(database, TENANT)
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(api: RunningApi) -> str:
    return api.key("", "platform_admin")


@pytest.fixture(scope="module")
def document(api: RunningApi) -> Any:
    return schemathesis.openapi.from_url(f"{api.url}/v1/openapi.json")


def try_out(document: Any, route: str, headers: dict[str, str], examples: int) -> None:
    """Send what the document says may be sent, and what it says may not."""
    method, path = route.split(" ")
    operation = document[path][method]
    modes = [mode for mode in GenerationMode if mode.is_positive or operation.body or operation.query]

    for mode in modes:

        @settings(
            max_examples=examples, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck]
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        send()


@pytest.mark.parametrize("route", ROWS)
def test_every_answer_is_in_the_document(document: Any, admin: str, route: str) -> None:
    """To the platform's administrator within a tenant, who gets past the gate everywhere."""
    try_out(document, route, {"Authorization": f"Bearer {admin}", "X-Tenant-Id": TENANT}, 2)


@pytest.mark.thorough
@pytest.mark.parametrize("route", ROWS)
def test_every_answer_is_in_the_document_whatever_is_sent(document: Any, admin: str, route: str) -> None:
    """The same with more of what may be sent and what may not."""
    try_out(document, route, {"Authorization": f"Bearer {admin}", "X-Tenant-Id": TENANT}, 8)


@pytest.mark.parametrize("route", ROWS)
def test_every_answer_to_nobody_is_in_the_document(document: Any, route: str) -> None:
    """Without credentials that hold."""
    try_out(document, route, {"Authorization": "Bearer nothing"}, 1)


@pytest.fixture(scope="module")
def signing_in(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of an API where people sign in."""
    with running_provider() as provider:
        oidc = config_of(provider)
        config = ApiConfig(platform_tenant=PLATFORM_TENANT, failure_limit=PLENTY, oidc=oidc)
        with running_api(database, tmp_path_factory.mktemp("api"), config) as running:
            yield schemathesis.openapi.from_url(f"{running.url}/v1/openapi.json")


@pytest.mark.parametrize("cookie", [None, "a", "e30"])
@pytest.mark.parametrize("route", ["GET /v1/auth/login", "GET /v1/auth/callback"])
def test_every_answer_of_a_sign_in_is_in_the_document(
    signing_in: Any, route: str, cookie: str | None
) -> None:
    """With a provider, and with a cookie that somebody made up."""
    headers = {"Cookie": f"tenantwatch_sign_in={cookie}"} if cookie else {}
    try_out(signing_in, route, headers, 8)


def test_an_answer_without_a_body_promises_none(api: RunningApi) -> None:
    """A client that reads JSON there would fail."""
    paths = api.app.openapi()["paths"]
    empty = [paths["/v1/auth/login"]["get"]["responses"]["302"]]
    empty += [paths["/v1/oauth/revoke"]["post"]["responses"]["200"]]
    assert all("content" not in each for each in empty)
