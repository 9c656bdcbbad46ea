"""An alert as OCSF: Detection Finding (2004)."""

from typing import Any, Final

from schemas.alert import Alert, Severity
from schemas.attack import technique_name
from schemas.ocsf.common import OTHER, classified, metadata, milliseconds, with_values

_SEVERITY: Final[dict[Severity, int]] = {"low": 2, "medium": 3, "high": 4, "critical": 5}
# Create, Update, Close; New, In Progress, Resolved.
_ACTIVITY: Final = {"open": (1, "Create"), "updated": (2, "Update"), "resolved": (3, "Close")}
_STATUS: Final = {"open": (1, "New"), "updated": (2, "In Progress"), "resolved": (4, "Resolved")}
# User Object: uid, IP Address, Subnet.
_OBSERVABLE: Final = {"user_id": 31, "source_ip": 2, "source_network": 12}
# A rule's analytic, as opposed to one of statistics, which ours are.
_STATISTICAL: Final = 3
_RULE: Final = 1


def alert_to_ocsf(alert: Alert) -> dict[str, Any]:
    """Return a revision of an alert as OCSF 1.8.

    All revisions of an alert have the same ``finding_info.uid``; ``metadata.uid`` is the revision's own.
    """
    activity_id, activity = _ACTIVITY[alert.status]
    status_id, status = _STATUS[alert.status]
    entity = alert.entity
    published = {"logged_time": alert.published_at and milliseconds(alert.published_at)}
    return {
        **classified(2004, activity_id),
        "activity_name": activity,
        "time": milliseconds(alert.detected_at),
        "severity_id": _SEVERITY[alert.severity],
        "severity": alert.severity.capitalize(),
        "status_id": status_id,
        "status": status,
        "is_alert": True,
        "message": alert.summary,
        "count": alert.event_count,
        "start_time": milliseconds(alert.first_time),
        "end_time": milliseconds(alert.last_time),
        "finding_info": _finding_info(alert),
        "observables": [
            {
                "name": f"evidence.{entity.type}",
                "type_id": _OBSERVABLE.get(entity.type, OTHER),
                "type": entity.type,
                "value": entity.value,
            }
        ],
        "evidences": [
            {
                "data": {
                    **alert.evidence.numbers,
                    "score": alert.score,
                    "threshold": alert.threshold,
                    entity.type: entity.value,
                },
                **_who(alert),
            }
        ],
        "remediation": {"desc": alert.runbook},
        "metadata": metadata(
            f"{alert.alert_id}-{alert.revision}", alert.tenant_id, sequence=alert.revision, **published
        ),
    }


def _finding_info(alert: Alert) -> dict[str, Any]:
    known = alert.detector != "custom_rule"
    return with_values(
        {
            "uid": alert.alert_id,
            "title": alert.classification,
            "desc": alert.summary,
            "types": [alert.classification],
            "first_seen_time": milliseconds(alert.first_time),
            "last_seen_time": milliseconds(alert.last_time),
            "created_time": milliseconds(alert.detected_at),
            "modified_time": alert.published_at and milliseconds(alert.published_at),
            "analytic": {"name": alert.detector, "type_id": _STATISTICAL if known else _RULE},
            "attacks": [_attack(technique_id) for technique_id in alert.attack],
            "related_events": [{"uid": event_id} for event_id in alert.evidence.event_ids],
            "related_events_count": alert.event_count,
        }
    )


def _attack(technique_id: str) -> dict[str, Any]:
    parent, dot, _ = technique_id.partition(".")
    attack = {"technique": with_values({"uid": parent, "name": technique_name(parent)})}
    if dot:
        attack["sub_technique"] = with_values({"uid": technique_id, "name": technique_name(technique_id)})
    return attack


def _who(alert: Alert) -> dict[str, Any]:
    entity = alert.entity
    if entity.type == "user_id":
        return {"user": {"uid": entity.value}}
    if entity.type == "source_ip":
        return {"src_endpoint": {"ip": entity.value}}
    return {}
