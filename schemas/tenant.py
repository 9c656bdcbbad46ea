"""The tenant: one record of the directory in ``audit.tenants``."""

import sys
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from schemas.event import Kind, TenantId, Text64, Text256
from schemas.personal import is_identifier

Tier = Literal["free", "standard", "enterprise"]
DEFAULT_TIER: Final[Tier] = "free"
RATE_WINDOW_S: Final = 15 * 60
RATE_LIMITS: Final[dict[Tier, int]] = {"free": 100, "standard": 100, "enterprise": 1_000}
DEFAULT_RETENTION_DAYS: Final = 365
# A wider one would silence a part of the internet.
MIN_TEST_PREFIX: Final = 8
# Of ::ffff:0:0/96, in which IPv6 writes IPv4 (RFC 4291, 2.5.5.2).
_MAPPED_PREFIX: Final = 96


def meant_network(text: str) -> IPv4Network | IPv6Network:
    """Return the network that a test's tenant means: IPv4 written as IPv6 is IPv4, as in events.

    >>> str(meant_network("::ffff:10.1.2.3/104"))
    '10.0.0.0/8'
    """
    network = ip_network(text, strict=False)
    if isinstance(network, IPv4Network) or network.prefixlen < _MAPPED_PREFIX:
        return network
    mapped = network.network_address.ipv4_mapped
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - _MAPPED_PREFIX))


def is_too_wide(network: str) -> bool:
    """Return whether a test in a network would silence too much of the internet.

    >>> is_too_wide("10.0.0.0/8"), is_too_wide("::ffff:0:0/96")
    (False, True)
    """
    return meant_network(network).prefixlen < MIN_TEST_PREFIX


class RateLimit(BaseModel):
    """How many requests a user may make in a sliding window."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: Annotated[int, Field(ge=1, le=100_000)] = Field(description="Requests allowed in the window.")
    window_s: Annotated[int, Field(ge=1, le=86_400)] = Field(
        RATE_WINDOW_S, description="Length of the sliding window, in seconds."
    )


class Contact(BaseModel):
    """Who to tell."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text256
    email: Text256 | None = None
    role: Text64 | None = Field(None, description="e.g. `security`, `billing`.")


# A record of the directory is at most 1 MiB, and every worker keeps all of them in memory.
MAX_RULES: Final = 50
MAX_RULE_LENGTH: Final = 16 * 1024
MAX_RULES_LENGTH: Final = 128 * 1024


def _check_rules(rules: list[str]) -> list[str]:
    length = sum(map(len, rules))
    if length > MAX_RULES_LENGTH:
        raise ValueError(f"are {length:,} characters, at most {MAX_RULES_LENGTH:,} are kept")
    # Many tenants have the same ones.
    return [*map(sys.intern, rules)]


RuleText = Annotated[str, Field(min_length=1, max_length=MAX_RULE_LENGTH)]
RuleTexts = Annotated[list[RuleText], Field(max_length=MAX_RULES), AfterValidator(_check_rules)]


class PlannedTest(BaseModel):
    """A penetration or load test that the tenant has agreed to: its events are stored, not judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: AwareDatetime
    end: AwareDatetime = Field(description="Exclusive.")
    source_networks: list[Text64] = Field(
        min_length=1,
        description="Where the testers come from: addresses or CIDR networks, nothing wider than /8.",
    )
    note: Text256 | None = Field(None, description="Who agreed to it, where the report will be.")

    @field_validator("source_networks")
    @classmethod
    def _check_networks(cls, networks: list[str]) -> list[str]:
        # As written, not as meant: records from before IPv4 written as IPv6 was understood must stay
        # readable. `check_planned_tests` refuses the rest where tenants are applied.
        for network in networks:
            if ip_network(network, strict=False).prefixlen < MIN_TEST_PREFIX:
                raise ValueError(
                    f"{network} is wider than /{MIN_TEST_PREFIX}; name the testers' own networks"
                )
        return networks

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.end <= self.start:
            raise ValueError("end is not after start")
        return self


def check_planned_tests(tests: list[PlannedTest]) -> list[str]:
    """Return what is wrong with a tenant's ``planned_tests``, though it can be read; empty: nothing."""
    return [
        f"planned_tests[{place}]: {network} is wider than IPv4's /{MIN_TEST_PREFIX} and would match nothing; "
        "fix: name the testers' own networks"
        for place, test in enumerate(tests)
        for network in test.source_networks
        if is_too_wide(network)
    ]


class PersonalData(BaseModel):
    """What of a tenant's events is kept as pseudonyms only (docs/privacy.md)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_id: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Which `user_id` becomes a pseudonym: one that is an e-mail address or a phone number "
        "(`auto`), each, or none.",
    )
    attributes: list[Text64] = Field(
        default_factory=list,
        max_length=100,
        description="Attributes that identify a person, besides those with well-known names.",
    )
    not_personal: list[Text64] = Field(
        default_factory=list,
        max_length=100,
        description="Attributes with well-known names that identify nobody, e.g. the `name` of a job.",
    )

    def replaces(self, user_id: str) -> bool:
        """Return whether a pseudonym stands in a ``user_id``'s place.

        >>> PersonalData().replaces("ana@example.com"), PersonalData().replaces("ana")
        (True, False)
        """
        return self.user_id == "always" or (self.user_id == "auto" and is_identifier(user_id))


RetentionDays = Annotated[int, Field(ge=1, le=36_500)]
ParameterValue = float | int | bool


class Tenant(BaseModel):
    """A customer of the services that send events.

    Unlike an event a tenant is written by an operator, so a misspelt field is an error, not data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tenant_id: TenantId
    organization_id: Text64 = Field(description="The organisation that owns the tenant.")
    name: Text256
    tier: Tier = DEFAULT_TIER
    status: Literal["active", "suspended"] = "active"
    region: Text64 = "default"
    roles: dict[Text64, list[Text256]] = Field(default_factory=dict, description="Role name to permissions.")
    rate_limit: RateLimit | None = Field(
        None, description="Per user; without it the tier's: 1,000 (enterprise) or 100 requests in 15 minutes."
    )
    retention_days: RetentionDays | dict[Kind, RetentionDays] = Field(
        DEFAULT_RETENTION_DAYS, description="Days that events are kept: one number, or one for each kind."
    )
    detectors: dict[str, dict[str, ParameterValue]] = Field(
        default_factory=dict, description="Overrides: detector name to parameter to value."
    )
    rules: RuleTexts = Field(
        default_factory=list,
        description="Detection rules of the tenant's own: Sigma texts (docs/rules.md).",
    )
    planned_tests: list[PlannedTest] = Field(
        default_factory=list, max_length=50, description="Windows in which named networks raise no alerts."
    )
    contacts: list[Contact] = Field(default_factory=list)
    # None, so that a record that does not set it can be read by workers that do not know it.
    personal_data: PersonalData | None = Field(
        None, description="What is kept as pseudonyms only; without it, what is recognised as personal."
    )

    def requests_allowed(self) -> RateLimit:
        """Return the limit that holds for each user of this tenant."""
        return self.rate_limit or RateLimit(requests=RATE_LIMITS[self.tier], window_s=RATE_WINDOW_S)

    def retention_days_of(self, kind: Kind) -> int:
        """Return how many days events of a kind are kept."""
        if isinstance(self.retention_days, int):
            return self.retention_days
        return self.retention_days.get(kind, DEFAULT_RETENTION_DAYS)


def as_tenant(row: Mapping[str, Any]) -> Tenant:
    """Return a row of the directory's table, which has the version too, as settings."""
    return Tenant.model_validate({name: value for name, value in row.items() if name != "version"})


def unknown_tenant(tenant_id: str) -> Tenant:
    """Return a tenant with every default, for tools that run without a directory (backtest).

    >>> unknown_tenant("tenant-a").requests_allowed().requests
    100
    """
    return Tenant(tenant_id=tenant_id, organization_id=tenant_id, name=tenant_id)
