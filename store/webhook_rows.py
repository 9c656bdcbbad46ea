"""The rows of the webhooks' tables: endpoints, deliveries, attempts."""

import base64
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from schemas.alert import Severity
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
            raise SecretsClosed("this process has no master key, so it cannot sign for a webhook")
        if self.previous_secret and now < self.previous_secret_until:
            return self.secret, self.previous_secret
        return (self.secret,)


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
