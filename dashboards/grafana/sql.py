"""The pieces of SQL that more than one panel needs.

Macros and variables are those of the ClickHouse plugin: ``$__timeFilter(column)`` is the dashboard's
time range, ``$__conditionalAll(condition, $variable)`` disappears while the variable is `All`.
A column's own name is never an alias here: ClickHouse would put the alias into WHERE.
"""

# ruff: noqa: S608 (constants only; it is Grafana that fills in the variables, and quotes them)

from typing import Final

from schemas.tenant import DEFAULT_TIER, RATE_LIMITS, RATE_WINDOW_S

TENANT: Final = "$__conditionalAll(tenant_id IN (${tenant:singlequote}), $tenant)"
KIND: Final = "$__conditionalAll(kind IN (${kind:singlequote}), $kind)"
SEVERITY: Final = "$__conditionalAll(current.severity IN (${severity:singlequote}), $severity)"

# Somebody tried to prove who they are. Token refreshes and key uses would drown the people.
LOGIN: Final = "kind = 'auth' AND action IN ('login', 'mfa')"
CROSS_TENANT: Final = (
    "((resource_tenant_id != '' AND resource_tenant_id != tenant_id)"
    " OR (token_tenant_id != '' AND token_tenant_id != tenant_id))"
)


def events(condition: str) -> str:
    """Return FROM and WHERE for events in the time range, of the chosen tenants, that meet a condition."""
    return f"FROM events\nWHERE {condition}\n  AND {TENANT}\n  AND $__timeFilter(time)"


def dead_letters() -> str:
    """Return FROM and WHERE for rejected messages in the time range; their tenant is the message key."""
    return f"FROM dead_letters FINAL\nWHERE {TENANT}\n  AND {KIND}\n  AND $__timeFilter(rejected_at)"


def current_alerts(time: str, detector: str | None = None) -> str:
    """Return FROM with each alert's newest revision in the time range.

    What depends on the revision (severity, status) must be asked of the result, or an older revision
    that still met the condition would stand in for the newest.

    Parameters
    ----------
    time
        ``last_time`` finds alerts with an event in the range, as they stood at its end; ``detected_at``
        those that were raised in it.
    """
    only = f"\n    AND detector = '{detector}'" if detector else ""
    return f"""FROM
(
  SELECT *
  FROM alerts
  WHERE {TENANT}
    AND $__timeFilter({time}){only}
  ORDER BY revision DESC
  LIMIT 1 BY tenant_id, alert_id
) AS current"""


def open_alerts(detector: str | None = None) -> str:
    """Return FROM and WHERE for alerts that are not resolved, of the chosen severities."""
    return f"{current_alerts('last_time', detector)}\nWHERE status != 'resolved' AND {SEVERITY}"


def _allowed() -> str:
    cases = ", ".join(f"tier = '{tier}', {limit}" for tier, limit in RATE_LIMITS.items())
    return f"multiIf({cases}, {RATE_LIMITS[DEFAULT_TIER]})"


def requests_per_window() -> str:
    """Return the CTE ``sliding``: per user and minute, requests in the window that ends there, and the limit.

    The detector's window slides by the request, this one by the minute: exact would cost a sort of every
    request. A tenant's own limit over another window is scaled to this one.
    """
    return f"""WITH own AS
(
  SELECT
    tenant_id,
    JSONExtractUInt(body, 'rate_limit', 'requests') AS own_requests,
    JSONExtractUInt(body, 'rate_limit', 'window_s') AS own_window_s
  FROM (SELECT * FROM tenants WHERE {TENANT} ORDER BY version DESC LIMIT 1 BY tenant_id)
  WHERE deleted = 0
),
per_minute AS
(
  SELECT
    tenant_id,
    user_id,
    toStartOfMinute(time) AS minute,
    count() AS in_minute,
    argMax({_allowed()}, time) AS tier_requests
  {events("kind = 'request' AND user_id != ''")}
  GROUP BY tenant_id, user_id, minute
),
sliding AS
(
  SELECT
    tenant_id,
    user_id,
    minute,
    sum(in_minute) OVER
    (
      PARTITION BY tenant_id, user_id ORDER BY toUnixTimestamp(minute)
      RANGE BETWEEN {RATE_WINDOW_S - 60} PRECEDING AND CURRENT ROW
    ) AS requests,
    if(own_requests > 0, own_requests * {RATE_WINDOW_S} / if(own_window_s > 0, own_window_s, {RATE_WINDOW_S}),
      tier_requests) AS allowed
  FROM per_minute LEFT JOIN own USING (tenant_id)
)"""
