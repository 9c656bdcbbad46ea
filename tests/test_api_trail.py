"""The trail verified over HTTP: the own tenant's part of it, within limits, and told in the trail."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import RunningApi, add_tenant, running_api
from sealed_trail import NOW, SealedTrail

from api.trail import Seals
from schemas.alert import rfc3339
from store.database import Database
from store.seals import bounded

DAY = {"from": "2026-03-01T00:00:00Z", "to": "2026-03-02T00:00:00Z"}


@pytest.fixture
def trail(database: Database) -> SealedTrail:
    """Two tenants with sealed rows."""
    made = SealedTrail(database)
    for tenant_id in (made.tenant, made.other):
        add_tenant(database, tenant_id)
        made.store(20, tenant=tenant_id)
    made.seal()
    return made


@pytest.fixture
def api(database: Database, trail: SealedTrail, tmp_path: Path) -> Iterator[RunningApi]:
    """The API, which believes the key that the rows were sealed with."""
    with running_api(database, tmp_path) as running:
        seals = running.parts.seals
        assert seals is not None
        assert seals.ring is not None
        seals.ring.believe(trail.signer.public)
        yield running


def verify(api: RunningApi, tenant_id: str, **asked: str) -> httpx.Response:
    client = api.client(api.key(tenant_id, permissions=("trail:verify",)))
    return client.post("/v1/trail/verifications", json=DAY | asked)


def test_a_trail_that_nobody_touched_holds(api: RunningApi, trail: SealedTrail) -> None:
    """As `tenantwatch verify` says it, and the reading is in the trail of whoever was read."""
    answer = verify(api, trail.tenant)
    assert answer.status_code == 200, answer.text
    verdict = answer.json()
    assert verdict["findings"] == []
    assert (verdict["holds"], verdict["rows"], verdict["tenants"]) == (True, 20, 1)
    assert trail.signer.key_id in verdict["keys"]
    [told] = api.produced.of("access", trail.tenant)
    assert (told["permission"], told["action"], told["resource_type"], told["record_count"]) == (
        "trail:verify", "verify", "trail", 20,
    )  # fmt: skip


def test_what_was_changed_is_named_to_its_tenant_only(api: RunningApi, trail: SealedTrail) -> None:
    """The row is named; the neighbour in the same partition is told nothing of it."""
    trail.alter(
        "ALTER TABLE events UPDATE outcome = 'failure' WHERE tenant_id = {tenant:String} AND kafka_offset = 7"
    )
    verdict = verify(api, trail.tenant).json()
    assert verdict["holds"] is False
    [finding] = verdict["findings"]
    assert (finding["kind"], finding["places"][0]["offset"]) == ("altered", 7)
    other = verify(api, trail.other)
    assert other.json()["holds"] is True
    assert trail.tenant not in other.text


def test_only_the_seals_of_the_time_are_verified(api: RunningApi, trail: SealedTrail) -> None:
    """Whole seals, by when their rows came."""
    verdict = verify(api, trail.tenant, **{"from": "2026-03-01T18:00:00Z"}).json()
    assert (verdict["holds"], verdict["rows"]) == (True, 0)
    whole = verify(api, trail.tenant, to="9999-12-31T23:59:59-23:00", **{"from": "0001-01-01T00:00:00+23:00"})
    assert whole.json()["rows"] == 20
    wrong = verify(api, trail.tenant, to=rfc3339(NOW), **{"from": rfc3339(NOW)})
    assert wrong.json()["errors"][0]["field"] == "body.to"


@pytest.mark.parametrize(("limit", "value"), [("MAX_ROWS", 19), ("MAX_S", 0.0)])
def test_too_much_is_refused(
    api: RunningApi, trail: SealedTrail, monkeypatch: pytest.MonkeyPatch, limit: str, value: Any
) -> None:
    """More rows or more time than somebody may wait for; and told what to do instead.

    Fewer rows are in a shorter time; chains are read from their first seal however short it is.
    """
    monkeypatch.setattr(bounded, limit, value)
    answer = verify(api, trail.tenant)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert ("shorter" in answer.json()["detail"]) == (limit == "MAX_ROWS")
    assert "tenantwatch verify" in answer.json()["detail"]


def test_one_is_verified_at_a_time(api: RunningApi, trail: SealedTrail) -> None:
    """It takes a processor: whoever comes meanwhile is told so."""
    with api.app.state.under_way.only("verification", "one"):
        assert verify(api, trail.tenant).status_code == 409
    assert verify(api, trail.tenant).status_code == 200


def test_without_a_key_nothing_is_verified(api: RunningApi, trail: SealedTrail) -> None:
    """A process that believes no key says so, and does not say that the trail is broken."""
    object.__setattr__(api.parts, "seals", Seals(None, None))
    answer = verify(api, trail.tenant)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_configured")
