"""What kind of data each field holds: ``x-data-classification`` in the JSON Schemas."""

from typing import Final, Literal

Classification = Literal[
    "public",  # a word of the contract; tells nothing of anybody
    "internal",  # of the tenant's or the services' working; for those who may see the tenant
    "confidential",  # would help an attacker: limits, rules, parameters
    "personal",  # relates to a person, who can be found out with other knowledge
    "direct_identifier",  # may name a person by itself; stored as a pseudonym where it does
]

_EVENT: Final[dict[str, Classification]] = {
    "kind": "public",
    "event_id": "internal",
    "tenant_id": "internal",
    "time": "internal",
    "service": "internal",
    "user_id": "direct_identifier",
    "source_ip": "personal",
    "user_agent": "personal",
    "session_id": "personal",
    "trace_id": "internal",
    "token_id": "personal",
    "token_tenant_id": "internal",
    "outcome": "public",
    "reason": "internal",
    "attributes": "direct_identifier",
}
# By class; a test fails when a field has no entry, or an entry no field.
CLASSIFICATION: Final[dict[str, dict[str, Classification]]] = {
    "AuthEvent": {**_EVENT, "action": "internal", "auth_method": "internal"},
    "AccessEvent": {
        **_EVENT,
        "action": "internal",
        "permission": "internal",
        "resource_type": "internal",
        "resource_id": "direct_identifier",
        "resource_tenant_id": "internal",
        "record_count": "internal",
    },
    "RequestEvent": {
        **_EVENT,
        "http_method": "public",
        "http_route": "internal",
        "http_path": "direct_identifier",
        "http_status": "public",
        "duration_ms": "internal",
        "bytes_in": "internal",
        "bytes_out": "internal",
        "api_key_id": "personal",
    },
    "Tenant": {
        "tenant_id": "internal",
        "organization_id": "internal",
        "name": "internal",
        "tier": "internal",
        "status": "internal",
        "region": "internal",
        "roles": "internal",
        "rate_limit": "confidential",
        "retention_days": "internal",
        "detectors": "confidential",
        "rules": "confidential",
        "planned_tests": "confidential",
        "contacts": "direct_identifier",
        "personal_data": "internal",
    },
    "RateLimit": dict.fromkeys(("requests", "window_s"), "confidential"),
    "Contact": {"name": "direct_identifier", "email": "direct_identifier", "role": "internal"},
    "PlannedTest": dict.fromkeys(("start", "end", "source_networks", "note"), "confidential"),
    "PersonalData": dict.fromkeys(("user_id", "attributes", "not_personal"), "internal"),
    "Tuning": dict.fromkeys(("detectors", "tiers"), "confidential"),
    # An alert's user is a pseudonym where the event's is, and so is who is named in its summary.
    "Alert": {
        "alert_id": "internal",
        "revision": "internal",
        "status": "internal",
        "detector": "internal",
        "classification": "internal",
        "severity": "internal",
        "tenant_id": "internal",
        "entity": "personal",
        "first_time": "internal",
        "last_time": "internal",
        "event_count": "internal",
        "score": "internal",
        "threshold": "confidential",
        "summary": "personal",
        "evidence": "personal",
        "attack": "internal",
        "runbook": "internal",
        "detected_at": "internal",
        "published_at": "internal",
    },
    "Entity": {"type": "internal", "value": "personal"},
    "Evidence": {"numbers": "personal", "event_ids": "internal"},
}


def classification_of(model: str, field: str) -> Classification:
    """Return what kind of data a field of a model holds.

    Raises
    ------
    KeyError
        If it was never said: it must be, before the field can be published.

    >>> classification_of("AuthEvent", "user_id")
    'direct_identifier'
    """
    return CLASSIFICATION[model][field]
