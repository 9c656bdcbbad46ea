"""The rows of the webhooks' tables: endpoints, deliveries, attempts."""

import base64
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from schemas.alert import Severity
from store.queries import TenantContext
from store.webhook_secrets import SEALED, SecretsClosed

SECRET_BYTES: Final = 32  # Standard Webhooks asks for 24 to 64

DeliveryStatus = Literal["pending", "delivered", "failed", "cancelled"]


@dataclass(frozen=True)
class Endpoint:
    """Where alerts go; its secrets and its URL, which may hold a token, stay out of ``repr``."""

    endpoint_id: str
    tenant_id: str
    url: str = field(repr=False)
    description: str
    min_severity: Severity
    secret: str = field(repr=False)
    previous_secret: str = field(repr=False)
    previous_secret_until: datetime
    status: Literal["enabled", "disabled", "deleted"]
    status_reason: str
    created_at: datetime
    version: int

    def secrets_at(self, now: datetime) -> tuple[str, ...]:
        """Return the secrets that sign: the current one, and for a day after a rotation the one before.

        Raises
        ------
        SecretsClosed
            If this process could not open them.
        """
        if self.secret.startswith(SEALED):
            raise SecretsClosed(
                "this process cannot sign for a webhook: it has no master key, or its secret was sealed with "
                "another; set TENANTWATCH_MASTER_KEY here as for the workers, or rotate the secret"
            )
        # One that does not open was rotated away for that.
        previous = "" if self.previous_secret.startswith(SEALED) else self.previous_secret
        return (self.secret, previous) if previous and now < self.previous_secret_until else (self.secret,)


@dataclass(frozen=True)
class Delivery:
    """One alert revision for one endpoint; `body` is empty where only the queue's columns were read."""

    delivery_id: str
    endpoint_id: str
    tenant_id: str
    alert_id: str
    revision: int
    event_type: str
    kafka_partition: int
    status: DeliveryStatus
    status_reason: str
    attempts: int
    next_attempt_at: datetime
    created_at: datetime
    version: int = 0
    body: str = field(default="", repr=False)


@dataclass(frozen=True)
class Attempt:
    """One try at a delivery; `http_status` is 0 when no answer came, `error` empty when it succeeded."""

    delivery_id: str
    endpoint_id: str
    tenant_id: str
    attempt: int
    attempted_at: datetime
    duration_ms: int
    http_status: int
    error: str


@dataclass(frozen=True)
class LoggedDelivery:
    """A delivery and the last attempt at it, if there was one."""

    delivery: Delivery
    last_attempt: Attempt | None


def new_secret() -> str:
    """Return a signing secret as Standard Webhooks writes it: ``whsec_`` and 32 random bytes in base64."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def condition_of(columns: Mapping[str, str | Sequence[str] | None]) -> tuple[str, dict[str, Any]]:
    """Return the condition that columns have these values, and its parameters; None means any value."""
    given = {name: value for name, value in columns.items() if value is not None}
    terms = [
        f"{name} = {{{name}:String}}" if isinstance(value, str) else f"{name} IN {{{name}:Array(String)}}"
        for name, value in given.items()
    ]
    return " AND ".join(terms) or "1", given


def condition_within(
    tenant_id: str | None, columns: Mapping[str, str | Sequence[str] | None]
) -> tuple[str, dict[str, Any]]:
    """Return the same within a tenant, for queries of nothing secret; an empty one is the platform."""
    where, given = condition_of(columns if tenant_id else {**columns, "tenant_id": tenant_id})
    if not tenant_id:
        return where, given
    condition, of_tenant = TenantContext(tenant_id).condition()
    return f"{condition} AND {where}", {**given, **of_tenant}
