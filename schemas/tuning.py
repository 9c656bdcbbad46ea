"""The operator's overrides of detector parameters: the record in ``audit.tenants`` that is no tenant's."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from schemas.tenant import ParameterValue, Tier

# The message key. No tenant can have this id, so a worker that does not know the record refuses it, and goes
# on with what it has.
TUNING_KEY: Final = "*"
# Where no version of the record holds: there is none, or none was ever written.
NO_VERSION: Final = -1


class Tuning(BaseModel):
    """Overrides that hold for many tenants; a tenant's own win over these.

    Like a tenant it is written by an operator: a misspelt field is an error.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    detectors: dict[str, dict[str, ParameterValue]] = Field(
        default_factory=dict, description="For every tenant: detector name to parameter to value."
    )
    tiers: dict[Tier, dict[str, dict[str, ParameterValue]]] = Field(
        default_factory=dict, description="For tenants of a tier, over those for every tenant."
    )
