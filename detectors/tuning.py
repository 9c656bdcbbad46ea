"""Overrides on top of each other: what a tenant's detectors go by in the end, and who said so."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Literal, NamedTuple

from detectors.parameters import DEFAULTS, TIERS, without_faults
from schemas.tenant import ParameterValue, Tenant
from schemas.tuning import Tuning

# Detector to parameter to value, as in a tenant's ``detectors``.
Overrides = Mapping[str, Mapping[str, ParameterValue]]
# Of a value; each wins over those before it.
Source = Literal["default", "built-in tier", "global", "tier", "tenant"]


class Setting(NamedTuple):
    """One parameter of a detector, as it holds for a tenant.

    Parameters
    ----------
    detector, parameter
        Names, as in overrides.
    value, source
        What holds, and who said so.
    low, high
        The least and the largest value that it may have.
    why
        What it is, and why its default is what it is.
    """

    detector: str
    parameter: str
    value: ParameterValue
    source: Source
    low: float
    high: float
    why: str


def overlay(*layers: Overrides) -> dict[str, dict[str, ParameterValue]]:
    """Return one set of overrides, in which later layers win.

    What `check_overrides` faults is passed over, so that a layer below it shows.

    >>> overlay({"rate_breach": {"high_ratio": 3.0, "medium_ratio": 1.5}}, {"rate_breach": {"high_ratio": 4}})
    {'rate_breach': {'high_ratio': 4, 'medium_ratio': 1.5}}
    """
    found: dict[str, dict[str, ParameterValue]] = {}
    for layer in layers:
        for detector, values in layer.items():
            found.setdefault(detector, {}).update(without_faults(detector, values))
    return {detector: values for detector, values in found.items() if values}


def overridden(tenant: Tenant, overrides: Overrides) -> Tenant:
    """Return a tenant with overrides on top of its own.

    >>> from schemas.tenant import unknown_tenant
    >>> overridden(unknown_tenant("tenant-a"), {"failed_login": {"quiet_s": 600}}).detectors
    {'failed_login': {'quiet_s': 600}}
    """
    return tenant.model_copy(update={"detectors": overlay(tenant.detectors, overrides)})


def tuned(tenant: Tenant, tuning: Tuning) -> Tenant:
    """Return a tenant with the operator's overrides below its own, as detectors are to see it.

    >>> from schemas.tenant import unknown_tenant
    >>> everywhere = Tuning(detectors={"failed_login": {"quiet_s": 600}})
    >>> tuned(unknown_tenant("tenant-a"), everywhere).detectors
    {'failed_login': {'quiet_s': 600}}
    """
    below = tuning.detectors, tuning.tiers.get(tenant.tier, {})
    if not any(below):
        return tenant
    return tenant.model_copy(update={"detectors": overlay(*below, tenant.detectors)})


def settings_of(tenant: Tenant, tuning: Tuning) -> list[Setting]:
    """Return every parameter of every detector, as it holds for a tenant.

    Parameters
    ----------
    tenant
        With its own overrides only.
    """
    layers: dict[Source, Overrides] = {
        "built-in tier": TIERS.get(tenant.tier, {}),
        "global": overlay(tuning.detectors),
        "tier": overlay(tuning.tiers.get(tenant.tier, {})),
        "tenant": overlay(tenant.detectors),
    }
    found: list[Setting] = []
    for detector, defaults in DEFAULTS.items():
        for parameter in fields(defaults):
            value: ParameterValue = getattr(defaults, parameter.name)
            source: Source = "default"
            for name, layer in layers.items():
                if parameter.name in (values := layer.get(detector, {})):
                    value, source = values[parameter.name], name
            limits = parameter.metadata
            found.append(
                Setting(detector, parameter.name, value, source, limits["low"], limits["high"], limits["why"])
            )
    return found
