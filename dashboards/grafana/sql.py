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
# One number for tenant_id and user_id: of 100,000 users, one pair or so is taken for one.
USER: Final = "bitShiftRight(user_window, 32)"
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


def percentiles(value: str) -> str:
    """Return the columns ``p50``, ``p95`` and ``p99``: ClickHouse makes one digest for all three."""
    digest = f"quantilesTDigest(0.5, 0.95, 0.99)({value})"
    return f"{digest}[1] AS p50,\n  {digest}[2] AS p95,\n  {digest}[3] AS p99"


# Of the limit: who never came so far is not looked at any closer.
NEAR: Final = 0.8
_REQUESTS: Final = events("kind = 'request' AND user_window != 0")


def _limits() -> str:
    default = RATE_LIMITS[DEFAULT_TIER]
    cases = ", ".join(f"tier = '{tier}', {limit}" for tier, limit in RATE_LIMITS.items())
    return f"""limits AS
(
  SELECT
    tenant_id,
    JSONExtractUInt(body, 'rate_limit', 'requests') AS own_requests,
    JSONExtractUInt(body, 'rate_limit', 'window_s') AS own_window_s,
    if(own_requests > 0, own_requests * {RATE_WINDOW_S} / if(own_window_s > 0, own_window_s, {RATE_WINDOW_S}),
      multiIf({cases}, {default})) AS allowed
  FROM (SELECT * FROM tenants WHERE {TENANT} ORDER BY version DESC LIMIT 1 BY tenant_id)
  -- Tenants that are not in the directory.
  UNION ALL SELECT '', 0, 0, {default}
)"""


def _sliding(name: str, condition: str) -> str:
    return f"""{name} AS
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
    if(limits.allowed > 0, limits.allowed, {RATE_LIMITS[DEFAULT_TIER]}) AS allowed
  FROM
  (
    SELECT tenant_id, user_id, toStartOfMinute(time) AS minute, count() AS in_minute
    {_REQUESTS}
      AND {condition}
    GROUP BY tenant_id, user_id, minute
  ) AS per_minute
  LEFT JOIN limits USING (tenant_id)
)"""


def requests_per_window(share: float) -> str:
    """Return the CTE ``sliding``: per user and minute, requests in the window that ends there, and the limit.

    The detector's window slides by the request, this one by the minute: exact would cost a sort of every
    request. The limit is the tenant's of today: its own, scaled to this window, or its tier's.

    Counting by minute and user is what costs, so it is done only for those who can matter. A sliding window
    meets at most two fixed ones; if it holds a share of the limit, one of the two holds half of that. Fixed
    windows are cheap to count: the column ``user_window`` has their number.

    Parameters
    ----------
    share
        Minutes are complete from this share of the limit on; below it they may be missing.
    """
    return f"""WITH {_limits()},
crowded AS
(
  SELECT user_window
  {_REQUESTS}
  GROUP BY user_window
  HAVING count() >= {share / 2} * (SELECT min(allowed) FROM limits)
),
beside AS (SELECT arrayJoin([toUInt64(user_window - 1), user_window, user_window + 1]) FROM crowded),
{_sliding("sliding", "user_window IN beside")}"""


def requests_of(users: str) -> str:
    """Return a further CTE, ``lines``: as ``sliding``, with every minute of the users that a query names."""
    return _sliding("lines", f"(tenant_id, user_id) IN ({users})")
