"""Reading the trail is itself in the trail: an access event for each tenant whose part was read.

Backups are of all tenants, so they are in the trail of the platform.
"""

import getpass
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from uuid import uuid4

from tenantwatch.control import ControlError, kafka_bootstrap, running
from tenantwatch.settings import Settings

SERVICE: Final = "tenantwatch"


def operator() -> str:
    """Return who runs this command, as the machine knows them."""
    try:
        return f"operator:{getpass.getuser()}"
    except (KeyError, OSError):  # a user id without a name, as containers have
        import os

        return f"operator:uid-{os.getuid()}"


def access_event(
    tenant_id: str,
    action: str,
    resource_id: str,
    rows: int,
    now: datetime,
    resource_type: str = "trail",
    permission: str = "trail:read",
) -> dict[str, Any]:
    """Return the event that somebody read a tenant's trail.

    >>> access_event("tenant-a", "verify", "trail", 3, datetime(2026, 1, 31, tzinfo=UTC))["record_count"]
    3
    """
    return {
        "event_id": uuid4().hex,
        "kind": "access",
        "tenant_id": tenant_id,
        "time": now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "service": SERVICE,
        "user_id": operator(),
        "action": action,
        "outcome": "success",
        "permission": permission,
        "resource_type": resource_type,
        "resource_id": resource_id[:256],
        "record_count": rows,
    }


def audit(settings: Settings, events: Iterable[dict[str, Any]]) -> str | None:
    """Send events of reading to Kafka; return why they could not be sent, or None."""
    from streams.producer import Sender, SendError

    if settings.kafka is None and not running(settings):
        return "no worker runs here and TENANTWATCH_KAFKA is not set"
    try:
        with Sender(kafka_bootstrap(settings)) as sender:
            for event in events:
                sender.event("access", event["tenant_id"], json.dumps(event).encode())
    except (ControlError, SendError) as error:
        return str(error)
    return None
