"""Commands that read the trail say so in it, and to whoever runs them where they cannot."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from tenantwatch.commands.output import note
from tenantwatch.settings import Settings


def audit_reading(settings: Settings, events: Iterable[Mapping[str, Any]]) -> bool:
    """Send events of reading; where they cannot be sent, say so and return False."""
    from tenantwatch.trail_audit import audit

    sent = [dict(event) for event in events]
    if not sent:
        return True
    problem = audit(settings, sent)
    if problem is not None:
        note(f"this is not in the trail: {problem}", "yellow")
    return problem is None


def audit_history(
    tenant_id: str, action: str, rows: int, resource_id: str = "trail", resource_type: str = "trail"
) -> bool:
    """Send the event that a command read a tenant's stored events, to answer something about a resource."""
    from tenantwatch.trail_audit import access_event

    event = access_event(tenant_id, action, resource_id, rows, datetime.now(UTC), resource_type)
    return audit_reading(Settings(), [event])
