"""The API of a running `tenantwatch up`, every part real: keys, calls, and what the trail says of them."""

import json
from typing import Any

import httpx
import pytest
from conftest import Up, eventually

TENANT = "api-up"


@pytest.fixture(scope="module")
def key(up: Up) -> str:
    """A tenant's first administrator key, from the command line."""
    tenant = {"tenant_id": TENANT, "organization_id": "org", "name": TENANT}
    assert up.run("tenants", "apply", "-", stdin=json.dumps(tenant)).returncode == 0
    eventually(lambda: [t for t in up.control("/tenants") if t["tenant_id"] == TENANT])
    made = up.json("keys", "create", "first", "--tenant", TENANT, "--role", "tenant_admin")
    return str(made["key"])


def url(up: Up, path: str) -> str:
    return str(up.status["api"]).removesuffix("/v1") + path


def get(up: Up, path: str, key: str) -> httpx.Response:
    return httpx.get(url(up, path), headers={"Authorization": f"Bearer {key}"}, timeout=30)


def counts(up: Up) -> dict[str, int]:
    return {row["kind"]: row["events"] for row in up.control("/counts", tenant_id=TENANT)}


def test_the_api_audits_itself(up: Up, key: str) -> None:
    """A call is in the caller's own trail, as its request, its access, and the use of its key."""
    before = counts(up)
    answer = get(up, "/v1/keys", key)
    assert answer.status_code == 200
    assert [each["name"] for each in answer.json()["keys"]] == ["first"]

    def told() -> bool:
        now = counts(up)
        return all(now.get(kind, 0) > before.get(kind, 0) for kind in ("request", "access", "auth"))

    eventually(told)
    assert not up.control("/dead-letters", tenant_id=TENANT)


def test_a_stolen_refresh_token_raises_an_alert(up: Up, key: str) -> None:
    """It is on audit.alerts and in the store like every other."""

    def token(**form: str) -> Any:
        fields = {"client_id": key[3:19], "client_secret": key, **form}
        return httpx.post(url(up, "/v1/oauth/token"), data=fields, timeout=30)

    pair = token(grant_type="client_credentials", scope="offline_access alerts:read").json()
    statuses = [
        token(grant_type="refresh_token", refresh_token=pair["refresh_token"]).status_code for _ in range(2)
    ]
    assert statuses == [200, 400]
    [alert] = eventually(lambda: up.control("/alerts", tenant_id=TENANT, detector="token_reuse"))
    assert alert["entity"]["value"] == f"key:{key[3:19]}"
    assert alert["severity"] == "high"


def test_a_revoked_key_is_refused_at_once(up: Up, key: str) -> None:
    """What the command line takes back, the running API takes back."""
    made = up.json("keys", "create", "short", "--tenant", TENANT, "--role", "viewer")
    assert get(up, "/v1/me", made["key"]).status_code == 200
    assert up.run("keys", "revoke", made["key_id"], "--yes").returncode == 0
    assert get(up, "/v1/me", made["key"]).status_code == 401


def test_no_secret_is_in_the_log(up: Up, key: str) -> None:
    """Nor a token: the log may go to people who may not call."""
    form = {"grant_type": "client_credentials", "client_id": key[3:19], "client_secret": key}
    token = httpx.post(url(up, "/v1/oauth/token"), data=form, timeout=30).json()["access_token"]
    assert get(up, "/v1/me", token).status_code == 200
    assert get(up, "/v1/me", token[:-4] + "0000").status_code == 401
    log = up.log_path.read_text(errors="replace")
    for secret in (key.split("_", 2)[2], token.split(".")[2], token.split(".")[1]):
        assert secret not in log
