"""The tenant: defaults, limits and what the tier decides."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.event import KINDS
from schemas.tenant import RateLimit, Tenant, unknown_tenant


def tenant(**fields: Any) -> Tenant:
    return Tenant.model_validate({"tenant_id": "tenant-a", "organization_id": "org-a", "name": "A"} | fields)


def test_three_fields_are_enough() -> None:
    """A tenant with only its names is active, on the free tier, and keeps events for a year."""
    smallest = tenant()
    assert (smallest.tier, smallest.status, smallest.retention_days_of("auth")) == ("free", "active", 365)
    assert smallest.contacts == []


@pytest.mark.parametrize(("tier", "requests"), [("free", 100), ("standard", 100), ("enterprise", 1_000)])
def test_the_tier_decides_the_rate_limit(tier: str, requests: int) -> None:
    """Without a limit of its own a tenant has its tier's, in 15 minutes."""
    assert tenant(tier=tier).requests_allowed() == RateLimit(requests=requests, window_s=900)


def test_a_limit_of_its_own_comes_first() -> None:
    """A tenant's own limit replaces the tier's, with a window of 15 minutes unless it says otherwise."""
    own = tenant(tier="enterprise", rate_limit={"requests": 5})
    assert own.requests_allowed() == RateLimit(requests=5, window_s=900)


def test_retention_may_differ_by_kind() -> None:
    """One number holds for all kinds; an object for those it names, the default for the others."""
    assert [tenant(retention_days=30).retention_days_of(kind) for kind in KINDS] == [30, 30, 30]
    by_kind = tenant(retention_days={"auth": 730})
    assert [by_kind.retention_days_of(kind) for kind in KINDS] == [730, 365, 365]


@pytest.mark.parametrize(
    "fields",
    [
        {"tenant_id": "a b"},
        {"tier": "gold"},
        {"status": "deleted"},
        {"retention_days": 0},
        {"retention_days": {"login": 30}},
        {"rate_limit": {"requests": 0}},
        {"rate_limit": {"requests": 5, "window": 60}},
        {"roles": {"": ["jobs:read"]}},
        {"contacts": [{"email": "user@example.com"}]},
        {"tierr": "free"},
    ],
)
def test_a_mistake_is_refused(fields: dict[str, Any]) -> None:
    """Tenants are written by operators: what is misspelt or senseless is an error."""
    with pytest.raises(ValidationError):
        tenant(**fields)


def test_parameters_keep_their_types() -> None:
    """An override of true, 5 or 0.5 stays what it is."""
    text = '{"tenant_id":"a","organization_id":"o","name":"n","detectors":{"d":{"a":true,"b":5,"c":0.5}}}'
    values = Tenant.model_validate_json(text).detectors["d"]
    assert [type(value) for value in values.values()] == [bool, int, float]


def test_a_tenant_survives_its_topic() -> None:
    """What is written as JSON is read back equal."""
    full = tenant(
        retention_days={"auth": 730},
        roles={"admin": ["jobs:*"]},
        rate_limit={"requests": 7},
        contacts=[{"name": "Security", "email": "user@example.com"}],
    )
    assert Tenant.model_validate_json(full.model_dump_json()) == full


def test_a_tenant_cannot_be_changed() -> None:
    """Tenants are shared between batches; changing one in place would reach them all."""
    with pytest.raises(ValidationError):
        tenant().tier = "enterprise"  # type: ignore[misc]  # that is the point


def test_tools_without_a_directory_get_a_tenant_of_defaults() -> None:
    """A backtest knows no tenants and uses the defaults under the id that it met."""
    assert unknown_tenant("tenant-z") == tenant(
        tenant_id="tenant-z", organization_id="tenant-z", name="tenant-z"
    )
