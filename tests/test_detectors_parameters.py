"""Parameters: defaults, then the tier's, then the tenant's own."""

from dataclasses import fields
from typing import Any

import pytest

from detectors.parameters import (
    DEFAULTS,
    TIERS,
    FailedLoginParameters,
    Rules,
    check_overrides,
    resolve,
)
from detectors.registry import new_detectors
from schemas.tenant import RATE_LIMITS, Tenant, unknown_tenant


def tenant(tier: str = "free", **detectors: dict[str, Any]) -> Tenant:
    """Return a tenant with overrides."""
    return unknown_tenant("tenant-a").model_copy(update={"tier": tier, "detectors": detectors})


def test_the_tenants_own_beat_the_tiers_beat_the_defaults() -> None:
    """Each parameter is taken from the nearest that names it."""
    own = tenant("enterprise", failed_login={"burst_failures": 3})
    resolved = resolve("failed_login", FailedLoginParameters(), own)
    assert resolved.burst_failures == 3
    assert resolved.hour_failures == TIERS["enterprise"]["failed_login"]["hour_failures"]
    assert resolved.minute_failures == FailedLoginParameters().minute_failures


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"failed_logins": {}}, "detectors.failed_logins: no such detector; did you mean `failed_login`?"),
        (
            {"xyz": {}},
            "detectors.xyz: no such detector; known: budget, failed_login, rate_breach, access_anomaly, "
            "service_health, custom_rule",
        ),
        (
            {"access_anomaly": {"cross_tenant_leak": 3}},
            "detectors.access_anomaly.cross_tenant_leak: no such parameter; "
            "did you mean `cross_tenant_leak_s`?",
        ),
        (
            {"failed_login": {"burst_failures": 2.5}},
            "detectors.failed_login.burst_failures: is float, found 2.5; fix: send a whole number",
        ),
        (
            {"failed_login": {"success_share": True}},
            "detectors.failed_login.success_share: is bool, found True; fix: send a number",
        ),
        (
            {"failed_login": {"burst_leak_s": 0}},
            "detectors.failed_login.burst_leak_s: is 0, out of range; fix: send 1 to 86400",
        ),
    ],
)
def test_what_is_wrong_with_an_override_is_told_with_its_fix(overrides: dict[str, Any], told: str) -> None:
    """The message names the place, what was found and what to send."""
    assert check_overrides(overrides) == [told]


def test_good_overrides_have_no_faults() -> None:
    """Whole numbers serve where a number is asked for."""
    assert check_overrides({"failed_login": {"strict_failures": 4}, "rate_breach": {"high_ratio": 3}}) == []


def test_a_bad_override_in_the_directory_does_not_stop_the_worker() -> None:
    """What got past the check is passed over, the rest holds."""
    odd = tenant(failed_login={"burst_failures": -1, "minute_failures": 7, "nonsense": 1}, nobody={"x": 1})
    resolved = resolve("failed_login", FailedLoginParameters(), odd)
    assert (resolved.burst_failures, resolved.minute_failures) == (4, 7)


def test_equal_rules_are_kept_once_and_follow_new_settings() -> None:
    """A thousand tenants with defaults share one rule; a changed tenant gets another."""
    rules = Rules(lambda t: resolve("failed_login", FailedLoginParameters(), t))
    numbers = {rules.number(unknown_tenant(f"tenant-{i}")) for i in range(1_000)}
    changed = rules.number(tenant(failed_login={"burst_failures": 9}))
    assert numbers == {0}
    assert rules.distinct[changed].burst_failures == 9
    assert rules.number(unknown_tenant("tenant-a")) == 0


def test_every_parameter_says_why_and_its_default_is_in_range() -> None:
    """Units are in the names, reasons beside the numbers, and defaults pass their own check."""
    for detector, parameters in DEFAULTS.items():
        for parameter in fields(parameters):
            assert parameter.metadata["why"]
            assert check_overrides({detector: {parameter.name: parameter.default}}) == []
    for tier, overrides in TIERS.items():
        assert tier in RATE_LIMITS
        assert check_overrides(overrides) == []


def test_every_detector_has_parameters() -> None:
    """What the registry knows and what a tenant may override are the same."""
    assert {d.name for detectors in new_detectors().values() for d in detectors} | {"budget"} == set(DEFAULTS)
