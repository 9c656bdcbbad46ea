"""The alert: one revision of one episode, as written to ``audit.alerts``."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, PlainSerializer

from schemas.event import TenantId, Text64

Severity = Literal["low", "medium", "high", "critical"]
SEVERITIES: Final[tuple[Severity, ...]] = ("low", "medium", "high", "critical")
EntityType = Literal[
    "user_id",
    "source_ip",
    "source_network",
    "tenant_id",
    "api_key_id",
    "http_route",
    "service",
    "topic_partition",
]
MAX_EVIDENCE_IDS: Final = 20
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(value: datetime) -> str:
    """Return a UTC time with milliseconds and ``Z``, the form every output uses.

    >>> rfc3339(datetime(2026, 1, 1, tzinfo=UTC))
    '2026-01-01T00:00:00.000Z'
    """
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_ms(time_ms: int) -> datetime:
    """Return the UTC time of milliseconds since 1970, exactly: a float would lose some past 2242."""
    return _EPOCH + timedelta(milliseconds=time_ms)


def to_ms(value: datetime) -> int:
    """Return milliseconds since 1970, rounded down: as `rfc3339` writes them and events are stored."""
    return (value - _EPOCH) // timedelta(milliseconds=1)


UtcTime = Annotated[AwareDatetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]


class Entity(BaseModel):
    """Who or what the alert is about."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: EntityType
    value: str


class Evidence(BaseModel):
    """The numbers behind the score, and the first events."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    numbers: dict[str, FiniteFloat | int | str] = Field(default_factory=dict)
    event_ids: list[str] = Field(default_factory=list, max_length=MAX_EVIDENCE_IDS)


class Alert(BaseModel):
    """One revision of an alert; the highest revision of an ``alert_id`` is the current one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alert_id: str = Field(description="The same for the same detector, tenant, entity and episode.")
    revision: int = Field(ge=1)
    status: Literal["open", "updated", "resolved"]
    detector: Text64 = Field(description="`failed_login`, `rate_breach`, `access_anomaly`, …")
    classification: Text64 = Field(description="What it looks like, e.g. `password_spray`.")
    severity: Severity
    tenant_id: TenantId
    entity: Entity
    first_time: UtcTime = Field(description="Event time of the episode's first event.")
    last_time: UtcTime = Field(description="Event time of the latest event counted.")
    event_count: int = Field(ge=1)
    score: FiniteFloat = Field(description="High means more suspicious; in the unit of `threshold`.")
    threshold: FiniteFloat
    summary: str = Field(description="One sentence that a person understands.")
    evidence: Evidence
    attack: list[str] = Field(default_factory=list, description="MITRE ATT&CK technique ids.")
    runbook: str = Field(description="What to do next.")
    detected_at: UtcTime = Field(description="Event time at which the threshold was crossed.")
    published_at: UtcTime | None = Field(None, description="Wall clock; never part of a comparison.")


def alert_id(detector: str, rule: str, tenant_id: str, entity: Entity, first_time_ms: int) -> str:
    """Return the id of an episode: the same input always gives the same id.

    Parameters
    ----------
    detector, tenant_id, entity
        As in the alert.
    rule
        Which of the detector's rules raised it. Not the classification: that may change while an episode
        goes on, and must not make a second alert of it.
    first_time_ms
        The episode's first event, milliseconds since 1970.

    >>> who = Entity(type="user_id", value="ana")
    >>> alert_id("failed_login", "user", "tenant-a", who, 0)
    '47f4e4300376a97af421a6d02990014d'
    """
    parts = (detector, rule, tenant_id, entity.type, entity.value, str(first_time_ms))
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:32]
