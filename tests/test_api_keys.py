"""API keys over HTTP and on the command line: made once, narrow, rotated with overlap, revoked at once."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from api_server import RunningApi, add_tenant, running_api
from conftest import eventually
from typer.testing import Result

from store.api_keys import ApiKeys
from store.database import Database
from store.queries import PlatformContext

TENANT = "keys-tenant"


@pytest.fixture(scope="module")
def api(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningApi]:
    """The API, with one tenant."""
    add_tenant(database, TENANT)
    with running_api(database, tmp_path_factory.mktemp("api")) as running:
        yield running


def me(api: RunningApi, key: str) -> Any:
    return api.client(key).get("/v1/me")


def test_a_key_says_who_it_is_and_what_it_may(api: RunningApi) -> None:
    """The permissions are those of its roles and its own."""
    key = api.key(TENANT, "producer", permissions=("alerts:read",))
    shown = me(api, key).json()
    assert (shown["subject"], shown["tenant_id"], shown["platform"]) == (f"key:{key[3:19]}", TENANT, False)
    assert shown["permissions"] == ["alerts:read", "events:write"]


def test_a_secret_is_in_no_answer_but_the_first(api: RunningApi) -> None:
    """Neither the list nor the key itself shows it, nor what is stored of it."""
    admin = api.client(api.key(TENANT, "tenant_admin"))
    made = admin.post("/v1/keys", json={"name": "grafana", "roles": ["viewer"]})
    assert made.status_code == 201
    secret = made.json()["key"].split("_", 2)[2]
    for answer in (admin.get("/v1/keys"), admin.get(f"/v1/keys/{made.json()['key_id']}")):
        assert answer.status_code == 200
        assert made.json()["key_id"] in answer.text
        assert secret not in answer.text
        assert "hash" not in answer.text


def test_the_store_holds_no_secret(api: RunningApi, database: Database) -> None:
    """Not the key, and not what signs its requests."""
    key = api.key(TENANT, "viewer")
    [row] = database.query("SELECT * FROM api_keys FINAL WHERE key_id = {id:String}", {"id": key[3:19]})
    assert key.split("_", 2)[2] not in str(row)


def test_a_rotated_key_and_its_old_secret_hold_together_for_the_overlap(api: RunningApi) -> None:
    """The id stays, so the trail goes on under one name."""
    old = api.key(TENANT, "viewer")
    admin = api.client(api.key(TENANT, "tenant_admin"))
    rotated = admin.post(f"/v1/keys/{old[3:19]}/rotate", json={"overlap_s": 600})
    new = rotated.json()["key"]
    assert rotated.json()["key_id"] == old[3:19]
    assert [me(api, key).status_code for key in (old, new)] == [200, 200]
    api.clock.pass_(seconds=601)
    assert [me(api, key).status_code for key in (old, new)] == [401, 200]


def test_a_revoked_key_holds_no_longer_at_once(api: RunningApi) -> None:
    """And a rotation cannot bring it back."""
    key = api.key(TENANT, "viewer")
    admin = api.client(api.key(TENANT, "tenant_admin"))
    assert me(api, key).status_code == 200
    assert admin.delete(f"/v1/keys/{key[3:19]}").status_code == 204
    assert me(api, key).status_code == 401
    assert admin.post(f"/v1/keys/{key[3:19]}/rotate", json={}).status_code == 409
    assert admin.get(f"/v1/keys/{key[3:19]}").json()["status"] == "revoked"


def test_an_expired_key_is_rotated_over_http_only_with_a_new_end(api: RunningApi) -> None:
    """As on the command line; the old secret stays dead."""
    old = api.key(TENANT, "viewer")
    rotation = f"/v1/keys/{old[3:19]}/rotate"
    api.clock.pass_(days=91)
    admin = api.client(api.key(TENANT, "tenant_admin"))
    refused = admin.post(rotation, json={})
    assert refused.status_code == 409
    assert "`days`" in refused.json()["detail"]
    rotated = admin.post(rotation, json={"days": 7}).json()
    assert rotated["status"] == "active"
    assert [me(api, key).status_code for key in (old, rotated["key"])] == [401, 200]


def test_the_last_use_is_shown_to_the_minute(api: RunningApi) -> None:
    """It is written once a minute at most, however often the key is used."""
    key = api.key(TENANT, "viewer")
    admin = api.client(api.key(TENANT, "tenant_admin"))

    def used() -> str | None:
        return admin.get(f"/v1/keys/{key[3:19]}").json()["last_used_at"]

    assert used() is None
    me(api, key)
    first = eventually(used)
    api.clock.pass_(seconds=30)
    me(api, key)
    assert used() == first
    api.clock.pass_(seconds=40)
    me(api, key)
    eventually(lambda: used() != first)


def test_an_unknown_role_is_refused_with_those_there_are(api: RunningApi) -> None:
    """A key that would be allowed nothing helps nobody."""
    admin = api.client(api.key(TENANT, "tenant_admin"))
    refused = admin.post("/v1/keys", json={"name": "x", "roles": ["emperor"]})
    assert refused.status_code == 422
    assert "viewer" in refused.json()["detail"]


def test_keys_are_made_listed_rotated_and_revoked_on_the_command_line(
    invoke: Callable[..., Result], database: Database
) -> None:
    """The first platform key cannot come from the API."""
    import json

    made = json.loads(
        invoke("keys", "create", "ops", "--platform", "--role", "platform_admin", "--json").stdout
    )
    assert made["key"].startswith(f"tw_{made['key_id']}_")
    rotated = json.loads(invoke("keys", "rotate", made["key_id"], "--json").stdout)
    assert rotated["key"] != made["key"]
    listed = json.loads(invoke("keys", "list", "--json").stdout)
    assert "platform_admin" in next(k for k in listed if k["key_id"] == made["key_id"])["roles"]
    assert invoke("keys", "revoke", made["key_id"], "--yes").exit_code == 0
    listed = json.loads(invoke("keys", "list", "--json").stdout)
    assert next(k for k in listed if k["key_id"] == made["key_id"])["status"] == "revoked"


def test_an_expired_key_is_rotated_only_with_a_new_end(
    invoke: Callable[..., Result], database: Database
) -> None:
    """A secret that is dead when it is printed helps nobody."""
    import json

    made = json.loads(
        invoke("keys", "create", "old", "--platform", "--role", "platform_admin", "--json").stdout
    )
    keys = ApiKeys(database)
    present = keys.get(PlatformContext("test"), made["key_id"]).key
    keys.write(replace(present, expires_at=datetime.now(UTC) - timedelta(hours=1)))
    refused = invoke("keys", "rotate", made["key_id"])
    assert refused.exit_code != 0
    assert "--days" in str(refused.exception) + refused.output
    rotated = json.loads(invoke("keys", "rotate", made["key_id"], "--days", "7", "--json").stdout)
    assert rotated["status"] == "active"


def test_a_key_for_an_unknown_tenant_is_refused(invoke: Callable[..., Result]) -> None:
    """Its events would be dead letters, and its name may be misspelt."""
    refused = invoke("keys", "create", "x", "--tenant", "nobody-knows", "--role", "viewer")
    assert refused.exit_code != 0
    assert "nobody-knows" in str(refused.exception) + refused.output


def test_the_api_s_own_keys_are_readable_by_their_owner_only(api: RunningApi, tmp_path: Path) -> None:
    """A file that others can read is refused, not used."""
    from api.v1.key_ring import KeyRing, KeyRingError

    path = tmp_path / "api-keys.json"
    KeyRing(path)
    assert path.stat().st_mode & 0o077 == 0
    path.chmod(0o640)
    with pytest.raises(KeyRingError, match="chmod 600"):
        KeyRing(path)


@pytest.mark.parametrize(("name", "fix"), [("damaged.json", "backup"), ("missing/keys.json", "directory")])
def test_a_file_of_keys_that_cannot_be_used_is_told_with_its_setting(
    tmp_path: Path, name: str, fix: str
) -> None:
    """Its content, or where it is, is wrong; what to do differs."""
    from api.v1.key_ring import KeyRing, KeyRingError

    (tmp_path / "damaged.json").write_text("{}")
    (tmp_path / "damaged.json").chmod(0o600)
    with pytest.raises(KeyRingError, match=f"{fix}.*TENANTWATCH_API_KEYS_FILE"):
        KeyRing(tmp_path / name)
