"""Across tenants: what is told of accesses that were let through."""

import pytest
from scenarios.streams import START_MS, numbered, run

from detectors.access_anomaly import AccessAnomaly
from detectors.tally import MAX_VALUES


@pytest.mark.parametrize("size", [1, 64, 1_000])
def test_what_was_allowed_after_very_many_tenants_denied_is_a_breach(size: int) -> None:
    """More other tenants than are counted do not hide which accesses were let through, nor how many."""
    denied = MAX_VALUES + 44
    outcomes = ["failure"] * denied + ["success"] + ["failure"] * 2 + ["success"] + ["failure"]
    events = numbered(
        {
            # The last one comes so late that the episode before it is over.
            "time_ms": START_MS + 100 * i + (7_200_000 if i == denied + 4 else 0),
            "user_id": "ana",
            "outcome": outcome,
            "action": "read",
            "resource_tenant_id": f"tenant-{i}",
        }
        for i, outcome in enumerate(outcomes)
    )
    alerts = run(AccessAnomaly(), events, range(0, len(events), size))
    told = [alert for alert in alerts if alert.classification == "cross_tenant"]
    breach = next(alert for alert in told if alert.severity == "critical")
    assert (breach.event_count, breach.score, breach.threshold) == (denied + 1, 1.0, 0.0)
    assert "ana reached into at least 256 other tenants: 1 access allowed" in breach.summary
    assert "did not hold" in breach.runbook
    last = told[-1]
    assert (last.status, last.severity, last.score) == ("resolved", "critical", 2.0)
    assert last.evidence.numbers["allowed"] == 2
