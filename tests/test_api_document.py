"""The OpenAPI document is true: whatever is sent, each answer is one that it describes, and none is a 5xx."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from api_server import RunningApi, add_tenant, running_api
from api_verdicts import ROWS
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

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
