"""Who may do what at the API: a row for each route, a verdict for each role; no route without a row."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from api_server import RunningApi

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
TENANT_COLUMNS = COLUMNS[1:6]
PLATFORM_COLUMNS = COLUMNS[6:]


def key_id(api: RunningApi, tenant_id: str) -> Mapping[str, str]:
    """Make a key that may do nothing much, and return its id."""
    return {"key_id": api.key(tenant_id, permissions=("alerts:read",)).split("_")[1]}


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
        The body.
    tenantless
        What platform callers get that name no tenant; None: as with one.
    """

    verdicts: str
    ids: Callable[[RunningApi, str], Mapping[str, str]] | None = None
    json: Any = None
    data: Mapping[str, str] = field(default_factory=dict)
    tenantless: int | None = None

    def expected(self, column: str) -> int:
        """Return the status for a column."""
        return int(self.verdicts.split()[COLUMNS.index(column)])


PUBLIC = "200 200 200 200 200 200 200 200 200"
ANYONE = "401 200 200 200 200 200 200 200 200"
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
    "GET /v1/keys": Row("401 403 403 403 200 403 403 200 200"),
    "POST /v1/keys": Row("401 403 403 403 201 403 403 201 201", json=NEW_KEY),
    "GET /v1/keys/{key_id}": Row("401 403 403 403 200 403 403 200 200", key_id),
    "POST /v1/keys/{key_id}/rotate": Row("401 403 403 403 200 403 403 200 200", key_id, json={}),
    "POST /v1/revocations": Row("401 403 403 403 204 403 403 204 204", json={"id": "token:of-the-table"}),
    "DELETE /v1/keys/{key_id}": Row("401 403 403 403 204 403 403 204 204", key_id),
}
