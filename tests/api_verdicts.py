"""Who may do what at the API: a row for each route, a verdict for each role; no route without a row."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api_server import RunningApi, add_tenant
from schema_examples import event
from stored import store_alert, store_events

from store.backtests import StoredBacktest, put_backtest
from store.privacy import box_of
from store.queries import TenantContext
from store.webhooks import WebhookStore

# The columns: nobody, each tenant role, each platform role.
COLUMNS = (
    "nobody",
    "viewer",
    "analyst",
    "responder",
    "tenant_admin",
    "producer",
    "platform_auditor",
    "platform_operator",
    "platform_admin",
)
# Nobody listens there.
NOWHERE = "http://127.0.0.1:1025/hook"
TENANT_COLUMNS = COLUMNS[1:6]
PLATFORM_COLUMNS = COLUMNS[6:]


def key_id(api: RunningApi, tenant_id: str) -> Mapping[str, str]:
    """Make a key that may do nothing much, and return its id."""
    return {"key_id": api.key(tenant_id, permissions=("alerts:read",)).split("_")[1]}


def event_id(api: RunningApi, tenant_id: str) -> Mapping[str, str]:
    """Store an event, and return its id."""
    found = uuid.uuid4().hex
    store_events(api.parts.database, event("auth", tenant_id=tenant_id, event_id=found))
    return {"event_id": found}


def alert_id(api: RunningApi, tenant_id: str) -> Mapping[str, str]:
    """Store an alert, and return its id."""
    alert = store_alert(api.parts.database, tenant_id)
    return {"alert_id": alert.alert_id}


def tenant_id(api: RunningApi, owner: str) -> Mapping[str, str]:
    """Return a tenant's own id."""
    return {"tenant_id": owner}


def new_tenant(api: RunningApi, owner: str) -> Mapping[str, str]:
    """Make a tenant that nothing depends on."""
    made = f"{owner}-{uuid.uuid4().hex[:8]}"
    add_tenant(api.parts.database, made)
    return {"tenant_id": made}


def endpoint_id(api: RunningApi, tenant_id: str) -> Mapping[str, str]:
    """Add a webhook endpoint that nobody listens on."""
    store = WebhookStore(api.parts.database, secrets=box_of(api.parts.privacy))
    added = store.add(tenant_id=tenant_id, url=NOWHERE)
    return {"endpoint_id": added.endpoint_id}


def backtest_id(api: RunningApi, tenant_id: str) -> Mapping[str, str]:
    """Store a backtest that has finished."""
    now = api.clock.now()
    made = StoredBacktest(tenant_id, uuid.uuid4().hex, "finished", {}, {"alerts": []}, "test", now, now)
    put_backtest(api.parts.database, made)
    return {"backtest_id": made.backtest_id}


def certificate_id(api: RunningApi, tenant_id: str) -> Mapping[str, str]:
    """Forget somebody, and return the certificate's id."""
    assert api.parts.privacy is not None
    told = api.parts.privacy.forget(
        TenantContext(tenant_id), ["gone@example.com"], actor="test", reason="table", now=api.clock.now()
    )
    return {"certificate_id": told["certificate_id"]}


def hold_id(api: RunningApi, tenant_id: str) -> Mapping[str, str]:
    """Place a hold on somebody, and return its id."""
    assert api.parts.privacy is not None
    hold = api.parts.privacy.hold(
        TenantContext(tenant_id), "held@example.com", actor="test", reason="table", now=api.clock.now()
    )
    return {"hold_id": hold.hold_id}


@dataclass(frozen=True)
class Row:
    """What a route answers.

    Parameters
    ----------
    verdicts
        One status a column: of a tenant's own things, with the tenant named by platform callers.
    ids
        Makes something of a tenant's and returns the path parameters that lead to it; None where the path
        has none.
    json, data
        The body; JSON may depend on the ids.
    tenantless
        What platform callers get that name no tenant; None: as with one.
    """

    verdicts: str
    ids: Callable[[RunningApi, str], Mapping[str, str]] | None = None
    json: Any = None
    data: Mapping[str, str] = field(default_factory=dict)
    tenantless: int | None = None

    def body(self, ids: Mapping[str, str]) -> Any:
        """Return the body for something with these ids."""
        return self.json(ids) if callable(self.json) else self.json

    def expected(self, column: str) -> int:
        """Return the status for a column."""
        return int(self.verdicts.split()[COLUMNS.index(column)])


PUBLIC = "200 200 200 200 200 200 200 200 200"
ANYONE = "401 200 200 200 200 200 200 200 200"
HANDLES = "401 403 403 201 201 403 403 201 201"
MANAGES = "401 403 403 403 200 403 403 200 200"
PEOPLE = "401 403 403 403 200 403 403 403 200"
WISH = {"subjects": ["somebody@example.com"], "reason": "table"}
READS_REPORTS = "401 200 200 200 200 403 200 200 200"
EVENT = {
    "event_id": "by-http", "kind": "auth", "time": "2026-01-01T00:00:00Z", "service": "login",
    "action": "login", "outcome": "success",
}  # fmt: skip
MONTH = {"from": "2026-01-01T00:00:00Z", "to": "2026-01-31T00:00:00Z"}


def settings_for(ids: Mapping[str, str]) -> dict[str, str]:
    """Return the least that a tenant must have."""
    return {**ids, "organization_id": "org", "name": "changed"}


# What a new key may do must be within what its maker may: alerts:read is.
NEW_KEY = {"name": "made by the table", "permissions": ["alerts:read"]}

#                                      -   vie ana res adm pro | aud ope adm
ROWS: dict[str, Row] = {
    "GET /v1/health": Row(PUBLIC),
    "GET /v1/openapi.json": Row(PUBLIC),
    "GET /v1/.well-known/jwks.json": Row(PUBLIC),
    # Public: who asks for a token says so in the form, and nobody in this one.
    "POST /v1/oauth/token": Row(
        "401 401 401 401 401 401 401 401 401", data={"grant_type": "client_credentials"}
    ),
    "POST /v1/oauth/revoke": Row("401 401 401 401 401 401 401 401 401", data={"token": "x"}),
    # Nobody signs in where no provider is named.
    "GET /v1/auth/login": Row("404 404 404 404 404 404 404 404 404"),
    "GET /v1/auth/callback": Row("404 404 404 404 404 404 404 404 404"),
    "GET /v1/me": Row(ANYONE),
    "GET /v1/events": Row("401 200 200 200 200 403 200 403 200", tenantless=400),
    "GET /v1/events/export": Row("401 403 200 403 200 403 200 403 200", tenantless=400),
    "GET /v1/events/{event_id}": Row("401 200 200 200 200 403 200 403 200", event_id, tenantless=400),
    "POST /v1/events": Row("401 403 403 403 202 202 403 403 202", json=EVENT, tenantless=400),
    "GET /v1/alerts": Row("401 200 200 200 200 403 200 200 200"),
    "GET /v1/alerts/{alert_id}": Row("401 200 200 200 200 403 200 200 200", alert_id),
    "POST /v1/alerts/{alert_id}/acknowledge": Row(HANDLES, alert_id, json={}),
    "POST /v1/alerts/{alert_id}/resolve": Row(HANDLES, alert_id, json={}),
    "POST /v1/alerts/{alert_id}/reopen": Row(HANDLES, alert_id, json={"text": "too early"}),
    "POST /v1/alerts/{alert_id}/comments": Row(HANDLES, alert_id, json={"text": "seen"}),
    "GET /v1/tenants": Row("401 200 200 200 200 403 200 200 200"),
    "GET /v1/tenants/{tenant_id}": Row("401 200 200 200 200 403 200 200 200", tenant_id),
    "PUT /v1/tenants/{tenant_id}": Row("401 403 403 403 403 403 403 200 200", new_tenant, json=settings_for),
    "DELETE /v1/tenants/{tenant_id}": Row("401 403 403 403 403 403 403 204 204", new_tenant),
    "GET /v1/webhooks": Row(MANAGES),
    "POST /v1/webhooks": Row("401 403 403 403 201 403 403 201 201", json={"url": NOWHERE}),
    # The platform has endpoints of its own: without a tenant it is about these.
    "GET /v1/webhooks/{endpoint_id}": Row(MANAGES, endpoint_id, tenantless=404),
    "PATCH /v1/webhooks/{endpoint_id}": Row(
        MANAGES, endpoint_id, json={"min_severity": "high"}, tenantless=404
    ),
    "POST /v1/webhooks/{endpoint_id}/rotate": Row(MANAGES, endpoint_id, tenantless=404),
    "POST /v1/webhooks/{endpoint_id}/test": Row(MANAGES, endpoint_id, tenantless=404),
    "GET /v1/webhooks/{endpoint_id}/deliveries": Row(MANAGES, endpoint_id, tenantless=404),
    "DELETE /v1/webhooks/{endpoint_id}": Row(
        "401 403 403 403 204 403 403 204 204", endpoint_id, tenantless=404
    ),
    "GET /v1/tuning": Row("401 200 200 200 200 403 200 200 200", tenantless=400),
    "PUT /v1/tuning": Row(MANAGES, json={"own": {}}, tenantless=400),
    "GET /v1/backtests": Row("401 403 200 403 200 403 403 200 200", tenantless=400),
    "POST /v1/backtests": Row("401 403 202 403 202 403 403 202 202", json=MONTH, tenantless=400),
    "GET /v1/backtests/{backtest_id}": Row(
        "401 403 200 403 200 403 403 200 200", backtest_id, tenantless=400
    ),
    "GET /v1/reports/activity": Row(READS_REPORTS, tenantless=400),
    "GET /v1/reports/alerts": Row(READS_REPORTS, tenantless=400),
    "GET /v1/reports/access-review": Row(READS_REPORTS, tenantless=400),
    "POST /v1/privacy/masked": Row(
        "401 200 200 200 200 403 200 403 200", json={"pseudonyms": ["p_1"]}, tenantless=400
    ),
    "POST /v1/privacy/reveal": Row(PEOPLE, json={"pseudonyms": ["p_1"], "reason": "table"}, tenantless=400),
    "POST /v1/privacy/export": Row(PEOPLE, json=WISH, tenantless=400),
    "POST /v1/privacy/forget": Row(PEOPLE, json=WISH, tenantless=400),
    "GET /v1/privacy/certificates": Row(PEOPLE, tenantless=400),
    "GET /v1/privacy/certificates/{certificate_id}": Row(PEOPLE, certificate_id, tenantless=400),
    "GET /v1/privacy/holds": Row(PEOPLE, tenantless=400),
    "POST /v1/privacy/holds": Row(
        "401 403 403 403 201 403 403 403 201",
        json={"subject": "held@example.com", "reason": "table"},
        tenantless=400,
    ),
    "DELETE /v1/privacy/holds/{hold_id}": Row("401 403 403 403 204 403 403 403 204", hold_id, tenantless=400),
    "GET /v1/privacy/report": Row(PEOPLE, tenantless=400),
    "POST /v1/trail/verifications": Row("401 403 403 403 200 403 200 403 200", json=MONTH, tenantless=400),
    "GET /v1/keys": Row("401 403 403 403 200 403 403 200 200"),
    "POST /v1/keys": Row("401 403 403 403 201 403 403 201 201", json=NEW_KEY),
    "GET /v1/keys/{key_id}": Row("401 403 403 403 200 403 403 200 200", key_id),
    "POST /v1/keys/{key_id}/rotate": Row("401 403 403 403 200 403 403 200 200", key_id, json={}),
    "POST /v1/revocations": Row("401 403 403 403 204 403 403 204 204", json={"id": "token:of-the-table"}),
    "DELETE /v1/keys/{key_id}": Row("401 403 403 403 204 403 403 204 204", key_id),
}
