"""Every route of the OpenAPI document, with every role, for the own tenant and for another's."""

import secrets
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from api_server import RunningApi, add_tenant, authorization, run_backtest, running_api
from api_verdicts import COLUMNS, PLATFORM_COLUMNS, ROWS, TENANT_COLUMNS, Row
from fastapi import FastAPI
from sizes import some

from api.v1 import tokens
from api.v1.app import RESOURCES, api_app
from api.v1.caller import Principal
from api.v1.permissions import PLATFORM_ROLES, ROLES, TENANT_ROLES, effective
from api.v1.routing import Access, DeclaredRoute, UndeclaredRoute, check_declared
from store.database import Database

OWN, OTHER, THIRD = "verdicts-own", "verdicts-other", "verdicts-third"
# Each role is judged on every route of its own tenant; beyond that, these show the gate and its limits.
WEAKEST_AND_STRONGEST = ("viewer", "tenant_admin", "platform_admin")


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with three tenants."""
    for tenant_id in (OWN, OTHER, THIRD):
        add_tenant(database, tenant_id)
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        yield running


@pytest.fixture(scope="module")
def clients(api: RunningApi) -> dict[str, httpx.Client]:
    """A client for each column of the table."""
    keys = {role: api.key(OWN, role) for role in TENANT_COLUMNS}
    keys |= {role: api.key("", role) for role in PLATFORM_COLUMNS}
    return {"nobody": api.client()} | {column: api.client(key) for column, key in keys.items()}


def ask(
    api: RunningApi, client: httpx.Client, route: str, *, ids_of: str, tenant: str | None
) -> httpx.Response:
    """Send a route's request about something of `ids_of`, with `tenant` in the header."""
    row = ROWS[route]
    method, path = route.split(" ")
    ids = row.ids(api, ids_of) if row.ids else {}
    headers = {"X-Tenant-Id": tenant} if tenant else {}
    body: dict[str, Any] = {"json": row.body(ids)} if row.json is not None else {}
    body |= {"data": dict(row.data)} if row.data else {}
    answer = client.request(method, path.format(**ids), headers=headers, **body)
    while answer.status_code == 409:  # the column before is being finished
        time.sleep(0.05)
        answer = client.request(method, path.format(**ids), headers=headers, **body)
    return answer


def reach_of(api: RunningApi, route: str) -> str:
    method, path = route.split(" ")
    [found] = [r for r in api.app.routes if r.path == path and method in r.methods]
    reach: str = found.access.reach
    return reach


def test_every_route_has_a_row_and_every_row_a_route(api: RunningApi) -> None:
    """The table is about the API that there is, whole."""
    document = api.client().get("/v1/openapi.json").json()
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    declared = {f"{method} {route.path}" for route in api.app.routes for method in route.methods}
    assert routes == declared == ROWS.keys()


def test_every_role_has_a_column() -> None:
    """A new role is judged on every route."""
    assert set(TENANT_COLUMNS) == TENANT_ROLES.keys()
    assert set(PLATFORM_COLUMNS) == PLATFORM_ROLES.keys()


@pytest.mark.parametrize("route", ROWS)
@pytest.mark.parametrize("column", COLUMNS)
def test_of_its_own_tenant(
    api: RunningApi, clients: dict[str, httpx.Client], route: str, column: str
) -> None:
    """Each role gets what the table says."""
    named = OWN if column in PLATFORM_COLUMNS else None
    answer = ask(api, clients[column], route, ids_of=OWN, tenant=named)
    assert answer.status_code == ROWS[route].expected(column), answer.text


class Signing(httpx.Auth):
    """Signs each request with an API key, in place of sending it."""

    requires_request_body = True

    def __init__(self, api: RunningApi, key: str) -> None:
        self._api, self._key = api, key

    def auth_flow(self, request: httpx.Request) -> Iterator[httpx.Request]:
        request.headers["Authorization"] = authorization(
            self._key,
            request.method,
            request.url.raw_path.decode(),
            request.content,
            int(self._api.clock.now().timestamp()),
            secrets.token_hex(16),
            request.headers.get("x-tenant-id", ""),
        )
        yield request


@pytest.fixture(scope="module")
def administrators(api: RunningApi) -> dict[str, httpx.Client]:
    """A tenant's administrator, who calls in other ways than with its key."""
    key = api.key(OWN, "tenant_admin")
    signs = api.client()
    signs.auth = Signing(api, key)
    return {"access token": api.client(api.token(key).json()["access_token"]), "signature": signs}


@pytest.mark.parametrize("route", ROWS)
@pytest.mark.parametrize("form", ["access token", "signature"])
def test_in_whichever_form_credentials_come(
    api: RunningApi, administrators: dict[str, httpx.Client], route: str, form: str
) -> None:
    """They are good for the same, and for the same tenant."""
    answer = ask(api, administrators[form], route, ids_of=OWN, tenant=None)
    expected = ROWS[route].expected("tenant_admin")
    assert answer.status_code == expected, answer.text
    foreign = ask(api, administrators[form], route, ids_of=OTHER, tenant=OTHER)
    assert foreign.status_code == (expected if reach_of(api, route) == "public" else 403)


@pytest.fixture(scope="module")
def person(api: RunningApi) -> httpx.Client:
    """Somebody who signed in, an analyst of both tenants."""
    may = effective(("analyst",), (), platform=False)
    principal = Principal("user:of-two", "sso", False, (OWN, OTHER), ("analyst",), may)
    issued = tokens.issue(api.parts.ring, api.parts.config.issuer, principal, "org", api.clock.now())
    return api.client(issued.token)


@pytest.mark.parametrize("route", ROWS)
def test_a_person_of_two_tenants(api: RunningApi, person: httpx.Client, route: str) -> None:
    """It is the same in each, finds nothing of one in the other, and nothing in a third."""
    expected, reach = ROWS[route].expected("analyst"), reach_of(api, route)
    for tenant, ids_of in ((None, OWN), (OWN, OWN), (OTHER, OTHER)):
        assert ask(api, person, route, ids_of=ids_of, tenant=tenant).status_code == expected
    third = ask(api, person, route, ids_of=OTHER, tenant=THIRD)
    assert third.status_code == (expected if reach == "public" else 403)
    if ROWS[route].ids and expected < 400:
        for tenant, ids_of in ((None, OTHER), (OTHER, OWN)):
            assert ask(api, person, route, ids_of=ids_of, tenant=tenant).status_code == 404


@pytest.mark.parametrize("route", ROWS)
@pytest.mark.parametrize("column", some(TENANT_COLUMNS, WEAKEST_AND_STRONGEST.__contains__))
def test_another_tenant_in_the_header(
    api: RunningApi, clients: dict[str, httpx.Client], route: str, column: str
) -> None:
    """A tenant's callers are refused whatever they may do at home."""
    answer = ask(api, clients[column], route, ids_of=OTHER, tenant=OTHER)
    public = len({*ROWS[route].verdicts.split()}) == 1
    assert answer.status_code == (ROWS[route].expected(column) if public else 403)


@pytest.mark.parametrize("route", [route for route, row in ROWS.items() if row.ids])
@pytest.mark.parametrize("column", some(COLUMNS, WEAKEST_AND_STRONGEST.__contains__))
def test_another_tenant_s_ids(
    api: RunningApi, clients: dict[str, httpx.Client], route: str, column: str
) -> None:
    """Who may see its own gets the answer of what does not exist, and everybody else the same as ever."""
    named = OWN if column in PLATFORM_COLUMNS else None
    answer = ask(api, clients[column], route, ids_of=OTHER, tenant=named)
    expected = ROWS[route].expected(column)
    hidden = expected < 400 and reach_of(api, route) != "platform"
    assert answer.status_code == (404 if hidden else expected)


@pytest.mark.parametrize("route", ROWS)
@pytest.mark.parametrize("column", PLATFORM_COLUMNS)
def test_a_platform_caller_that_names_no_tenant(
    api: RunningApi, clients: dict[str, httpx.Client], route: str, column: str
) -> None:
    """It sees all, or is told to name one."""
    row: Row = ROWS[route]
    answer = ask(api, clients[column], route, ids_of=OWN, tenant=None)
    expected = row.expected(column)
    if row.tenantless is not None and expected < 400:
        expected = row.tenantless
    assert answer.status_code == expected


@pytest.mark.parametrize("route", [route for route, row in ROWS.items() if row.ids])
def test_what_is_another_s_looks_like_what_does_not_exist(
    api: RunningApi, clients: dict[str, httpx.Client], route: str
) -> None:
    """The same document, but for the request's id."""
    admin = clients["tenant_admin"]
    foreign = ask(api, admin, route, ids_of=OTHER, tenant=None).json()
    row = ROWS[route]
    assert row.ids is not None
    method, path = route.split(" ")
    nothing = {name: "0" * len(value) for name, value in row.ids(api, OWN).items()}
    absent = admin.request(method, path.format(**nothing), json=row.body(nothing)).json()
    del foreign["request_id"], absent["request_id"]
    assert foreign == absent


def test_an_app_with_an_undeclared_route_does_not_start(api: RunningApi) -> None:
    """Whatever is added past `Routes` is named."""
    app = api_app(api.parts, run_backtest)

    @app.get("/v1/backdoor")
    def backdoor() -> None:
        """Not declared."""

    with pytest.raises(UndeclaredRoute, match="/v1/backdoor"):
        check_declared(app)
    mounted = FastAPI()
    mounted.mount("/files", FastAPI())
    with pytest.raises(UndeclaredRoute):
        check_declared(mounted)


def test_a_route_cannot_be_declared_half() -> None:
    """No permission means self or public, said openly."""
    with pytest.raises(ValueError, match="reach"):
        Access(None, "tenant", "thing", "read")
    with pytest.raises(ValueError, match="no permission"):
        Access("things:read", "tenant", "thing", "read")  # type: ignore[arg-type]


def test_what_is_declared_is_in_the_document(api: RunningApi) -> None:
    """Whoever reads it knows the permission of each route."""
    document = api.app.openapi()
    for route in api.app.routes:
        assert isinstance(route, DeclaredRoute)
        for method in route.methods:
            operation = document["paths"][route.path][method.lower()]
            assert operation.get("x-permission") == route.access.permission
            assert bool(operation["security"]) == (route.access.reach != "public")


def test_roles_are_sets_of_permissions_that_exist() -> None:
    """And none is empty."""
    assert all(ROLES.values())
    assert len(RESOURCES) == len({id(each) for each in RESOURCES})
