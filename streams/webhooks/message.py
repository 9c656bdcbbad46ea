"""What a receiver reads: an alert revision, or a test, as a Standard Webhooks message."""

import hashlib
import json
from datetime import datetime
from typing import Final

from schemas.alert import SEVERITIES, Alert, Entity, Evidence, rfc3339
from store.webhook_rows import Endpoint
from store.webhooks import PLATFORM

UPDATED: Final = "alert.updated"
TEST: Final = "webhook.test"

_TYPES: Final = {"open": "alert.opened", "updated": UPDATED, "resolved": "alert.resolved"}


def wants(endpoint: Endpoint, alert: Alert) -> bool:
    """Say whether a revision goes to an endpoint: enabled, of its tenant or the platform, severe enough."""
    return (
        endpoint.status == "enabled"
        and endpoint.tenant_id in (PLATFORM, alert.tenant_id)
        and SEVERITIES.index(alert.severity) >= SEVERITIES.index(endpoint.min_severity)
    )


def delivery_id(endpoint_id: str, alert: Alert) -> str:
    """Return the ``webhook-id``: the same endpoint and revision always give the same."""
    identity = "\x1f".join((endpoint_id, alert.tenant_id, alert.alert_id, str(alert.revision)))
    return "msg_" + hashlib.sha256(identity.encode()).hexdigest()[:32]


def event_type(alert: Alert) -> str:
    """Return ``alert.opened``, ``alert.updated`` or ``alert.resolved``."""
    return _TYPES[alert.status]


def alert_body(alert: Alert) -> str:
    """Return the body for a revision: its type, when it was published, and the whole alert.

    The alert is whole, so a receiver that missed a revision loses nothing by reading only the next.
    """
    return _body(event_type(alert), alert.published_at or alert.detected_at, alert)


def sample_body(endpoint: Endpoint, now: datetime) -> str:
    """Return the body of a test: an alert in form, which no detector raised."""
    alert = Alert(
        alert_id="0" * 32,
        revision=1,
        status="open",
        detector="test",
        classification="test",
        severity="low",
        tenant_id=endpoint.tenant_id or "test",
        entity=Entity(type="service", value="tenantwatch"),
        first_time=now,
        last_time=now,
        event_count=1,
        score=0.0,
        threshold=0.0,
        summary="A test of this webhook endpoint; nothing happened.",
        evidence=Evidence(),
        runbook="Nothing to do: this endpoint works.",
        detected_at=now,
        published_at=now,
    )
    return _body(TEST, now, alert)


def _body(kind: str, time: datetime, alert: Alert) -> str:
    message = {"type": kind, "timestamp": rfc3339(time), "data": alert.model_dump(mode="json")}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))
