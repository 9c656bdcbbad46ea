"""Attacks with SQL: in each query and path parameter that the OpenAPI document names, of every route."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from api_server import RunningApi, add_tenant, running_api
from api_verdicts import NOWHERE, ROWS
from schema_examples import event
from sizes import some
from stored import store_alert, store_events

from schemas.alert import Entity, rfc3339
from store.backtests import StoredBacktest, put_backtest
from store.database import Database
from store.privacy import box_of
from store.queries import TenantContext
from store.webhooks import WebhookStore

TENANT, OTHER = "injection-own", "injection-other"
# In everything that both tenants have, and in no request: an answer with it has found what was not asked for.
MARK = "marked-row"
SQL = (
    "' OR 1=1 --",
    "\\' OR 1=1 --",
    "x' OR tenant_id != 'x",
    "') OR (1=1",
    "1 OR 1=1",
    "' UNION ALL SELECT * FROM events --",
    "'; DROP TABLE events; --",
    '" OR ""="',
    "\\",
    "'",
    "%",
    "{tenant_id:String}",
    "\0",
)


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with two tenants that have some of everything."""
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        for tenant_id in (TENANT, OTHER):
            mark_everything(running, tenant_id)
        yield running


def mark_everything(api: RunningApi, tenant_id: str) -> None:
    """Give a tenant one of each thing that can be listed."""
    database, privacy = api.parts.database, api.parts.privacy
    assert privacy is not None
    now = api.clock.now() - timedelta(minutes=1)  # reports end now
    add_tenant(database, tenant_id, name=MARK)
    told = {"tenant_id": tenant_id, "user_id": MARK, "time": rfc3339(now), "outcome": "failure"}
    store_events(database, *(event(kind, event_id=f"{MARK}-{kind}", **told) for kind in ("auth", "access")))
    about = Entity(type="user_id", value=MARK)
    store_alert(database, tenant_id, entity=about, classification=MARK, detected_at=now, published_at=now)
    hooks = WebhookStore(database, secrets=box_of(privacy))
    hooks.add(tenant_id=tenant_id, url=NOWHERE, description=MARK)
    put_backtest(database, StoredBacktest(tenant_id, uuid4().hex, "finished", {}, {}, MARK, now, now))
    api.key(tenant_id, "viewer", name=MARK)
    scope, why = TenantContext(tenant_id), {"actor": "test", "reason": MARK, "now": now}
    privacy.forget(scope, ["gone@example.com"], **why)
    privacy.hold(scope, "held@example.com", **why)


class Target(NamedTuple):
    """A parameter of a route."""

    route: str
    place: str
    name: str


@pytest.fixture(scope="module")
def targets(api: RunningApi) -> list[Target]:
    """Every one that can be attacked so; headers have tests of their own (test_api_attacks_requests.py)."""
    return [
        Target(f"{method.upper()} {path}", each["in"], each["name"])
        for path, methods in api.app.openapi()["paths"].items()
        for method, operation in methods.items()
        for each in operation.get("parameters", [])
        if each["in"] in ("query", "path")
    ]


@pytest.fixture(scope="module")
def ids(api: RunningApi, targets: list[Target]) -> dict[str, Mapping[str, str]]:
    """Path parameters that lead to something of the tenant's, by route."""
    made = {route: ROWS[route].ids for route, _, _ in targets}
    return {route: make(api, TENANT) if make else {} for route, make in made.items()}


@pytest.fixture(scope="module")
def admin(api: RunningApi) -> httpx.Client:
    """The platform's administrator within the tenant, who gets past the gate everywhere."""
    return api.client(api.key("", "platform_admin"), x_tenant_id=TENANT)


def held(database: Database) -> dict[str, Any]:
    """Return a sum of all that the store has of the two tenants, by table; but for when keys were used."""
    tables = database.query(
        "SELECT name, engine FROM system.tables WHERE database = currentDatabase() "
        "AND endsWith(engine, 'MergeTree') AND name != 'api_key_uses' AND name IN "
        "(SELECT table FROM system.columns WHERE database = currentDatabase() AND name = 'tenant_id')"
    )
    sums = "SELECT count() AS n, sum(cityHash64(toString(tuple(*)))) AS hashes FROM {} WHERE {}"
    ours = "startsWith(tenant_id, 'injection-')"
    return {
        table["name"]: database.query(
            sums.format(table["name"] + " FINAL" * (table["engine"] != "MergeTree"), ours)
        )
        for table in tables
    }


def attacked(client: httpx.Client, target: Target, ids: Mapping[str, str], sql: str) -> httpx.Response:
    """Send a route's request with SQL in one parameter, and all others as they should be."""
    method, path = target.route.split(" ")
    row = ROWS[target.route]
    given = {**ids, target.name: sql} if target.place == "path" else ids
    path = path.format(**{name: quote(value, safe="") for name, value in given.items()})
    query = {target.name: sql} if target.place == "query" else {}
    return client.request(method, path, params=query, json=row.body(given))


@pytest.mark.parametrize("sql", some(SQL, SQL[:2].__contains__))
def test_sql_in_a_parameter_is_a_text(
    api: RunningApi,
    database: Database,
    targets: list[Target],
    ids: dict[str, Mapping[str, str]],
    admin: httpx.Client,
    sql: str,
) -> None:
    """It is refused or finds nothing: no error of ours, no row of anybody's, and nothing is changed."""
    before = held(database)
    for target in targets:
        answer = attacked(admin, target, ids[target.route], sql)
        assert answer.status_code < 500, (target, answer.text)
        assert MARK not in answer.text, (target, answer.text)
    assert held(database) == before


def test_every_row_that_could_be_found_is_marked(api: RunningApi, targets: list[Target]) -> None:
    """Else the attacks would find something, and nobody would see it."""
    owner = api.client(api.key(OTHER, "tenant_admin"))
    lists = {
        path
        for path, methods in api.app.openapi()["paths"].items()
        if "{" not in path and "x-permission" in methods.get("get", {})
    }
    unmarked = {path for path in lists if MARK not in owner.get(path).text}
    assert unmarked == {"/v1/tuning"}, "which is made of numbers and has no parameter"
    assert "/v1/tuning" not in {target.route.split()[1] for target in targets if target.place == "query"}
