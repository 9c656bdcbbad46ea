"""Overrides on top of each other: what a tenant's detectors go by in the end."""

from collections.abc import Mapping

from detectors.parameters import check_overrides
from schemas.tenant import ParameterValue, Tenant

# Detector to parameter to value, as in a tenant's ``detectors``.
Overrides = Mapping[str, Mapping[str, ParameterValue]]


def overlay(*layers: Overrides) -> dict[str, dict[str, ParameterValue]]:
    """Return one set of overrides, in which later layers win.

    What `check_overrides` faults is passed over, so that a layer below it shows.

    >>> overlay({"rate_breach": {"high_ratio": 3.0, "medium_ratio": 1.5}}, {"rate_breach": {"high_ratio": 4}})
    {'rate_breach': {'high_ratio': 4, 'medium_ratio': 1.5}}
    """
    found: dict[str, dict[str, ParameterValue]] = {}
    for layer in layers:
        for detector, values in layer.items():
            good = {name: v for name, v in values.items() if not check_overrides({detector: {name: v}})}
            found.setdefault(detector, {}).update(good)
    return {detector: values for detector, values in found.items() if values}


def overridden(tenant: Tenant, overrides: Overrides) -> Tenant:
    """Return a tenant with overrides on top of its own.

    >>> from schemas.tenant import unknown_tenant
    >>> overridden(unknown_tenant("tenant-a"), {"failed_login": {"quiet_s": 600}}).detectors
    {'failed_login': {'quiet_s': 600}}
    """
    return tenant.model_copy(update={"detectors": overlay(tenant.detectors, overrides)})
