"""False alarms of a benign month (`bench.benign`), by detector and classification, with examples of each."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final

from bench import benign
from bench.detection_trials import try_events
from schemas.alert import rfc3339

EXAMPLES: Final = 3


def run(tenants: int, days: int, seed: int, budgets: Sequence[float] = ()) -> dict[str, Any]:
    """Return how many alerts there were; every one is false.

    Parameters
    ----------
    tenants, days, seed
        Of the month.
    budgets
        Budgets of false alarms to try besides the default.
    """
    settings = benign.settings(tenants, days, seed)
    tried = try_events(benign.events(tenants, days, seed), budgets, settings)
    classes: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for alert in tried.alerts:
        told = {"tenant_id": alert.tenant_id, "time": rfc3339(alert.detected_at), "summary": alert.summary}
        classes[f"{alert.detector}/{alert.classification}"].append(told)
    # All tenants are there from the first day to the last.
    weeks = tenants * days / 7
    return {
        "tenants": tenants,
        "days": days,
        "seed": seed,
        "events": tried.events,
        "rejected": len(tried.rejected),
        "tenant_weeks": round(weeks, 2),
        "false_alerts": len(tried.alerts),
        "false_alerts_per_tenant_week": round(len(tried.alerts) / weeks, 4),
        "worst_tenant": max((sum(a.tenant_id == t for a in tried.alerts) for t in settings), default=0),
        "classifications": {
            name: {"false_alerts": len(told), "examples": told[:EXAMPLES]}
            for name, told in sorted(classes.items(), key=lambda one: -len(one[1]))
        },
        "by_budget": [len(alerts) for alerts in tried.by_budget],
    }
