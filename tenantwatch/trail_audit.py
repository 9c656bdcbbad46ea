"""Reading the trail is itself in the trail: an access event for each tenant whose part was read.

Backups are of all tenants, so they are in the trail of the platform.
"""

import getpass
import json
import os
from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from schemas.alert import rfc3339
from tenantwatch.control import ControlError, kafka_bootstrap, running
from tenantwatch.settings import Settings

SERVICE: Final = "tenantwatch"


def operator() -> str:
    """Return who runs this command, as the trail has them."""
    return f"operator:{user_name()}"


def user_name() -> str:
    """Return who runs this command, as the machine knows them."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have
        return f"uid-{os.getuid()}"


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

    >>> from datetime import UTC
    >>> access_event("tenant-a", "verify", "trail", 3, datetime(2026, 1, 31, tzinfo=UTC))["record_count"]
    3
    """
    return {
        "event_id": uuid4().hex,
        "kind": "access",
        "tenant_id": tenant_id,
        "time": rfc3339(now),
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
    """Send events of reading to Kafka; return why they could not be sent, or None.

    Those of tenants that left the directory, which would be dead letters, go to the platform's.
    """
    from streams.producer import Sender, SendError
    from streams.tenant_log import read_tenant_log
    from streams.topics import TopicError

    if settings.kafka is None and not running(settings):
        return "no worker runs here and TENANTWATCH_KAFKA is not set"
    untold: dict[str, None] = {}
    try:
        bootstrap = kafka_bootstrap(settings)
        # Who is in the directory, as the workers will see it when they read the events.
        listed = read_tenant_log(bootstrap).tenant_ids
        with Sender(bootstrap) as sender:
            for event in events:
                tenant_id = event["tenant_id"]
                if tenant_id not in listed:
                    if settings.platform_tenant not in listed:
                        untold[tenant_id] = None
                        continue
                    # Not resource_tenant_id, by which it would be an access beyond a tenant's walls.
                    moved = {"tenant_id": settings.platform_tenant, "attributes": {"of_tenant_id": tenant_id}}
                    event = event | moved
                sender.event("access", event["tenant_id"], json.dumps(event).encode())
    except (ControlError, SendError, TopicError) as error:
        return str(error)
    if untold:
        return (
            f"{', '.join(untold)} is not in the directory, so no trail of it takes any more; "
            "set TENANTWATCH_PLATFORM_TENANT to a tenant that is"
        )
    return None
