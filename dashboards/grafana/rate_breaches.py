"""Rate breaches: who is over, or about to be over, the request limit, and what it does to the service."""

# ruff: noqa: S608 (constants only; it is Grafana that fills in the variables, and quotes them)

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from dashboards.grafana import variables
from dashboards.grafana.alert_panels import alerts_over_time, alerts_table, open_by_severity
from dashboards.grafana.board import Row, board
from dashboards.grafana.clickhouse import Shape, Sql
from dashboards.grafana.panels import graph, number, rows
from dashboards.grafana.sql import NEAR, events, percentiles, requests_of, requests_per_window

DETECTOR = "rate_breach"
REQUEST = "kind = 'request'"
KEYED = f"{REQUEST} AND api_key_id != ''"

OVER_LIMIT = f"""{requests_per_window(1)}
SELECT uniqIf((tenant_id, user_id), requests > allowed) AS users_over_limit
FROM sliding"""

THROTTLED = f"SELECT countIf(http_status = 429) AS throttled\n{events(REQUEST)}"

REQUESTS = f"SELECT count() AS requests\n{events(REQUEST)}"

NEAREST = f"""
      SELECT tenant_id, user_id FROM sliding
      WHERE requests >= {NEAR} * allowed
      GROUP BY tenant_id, user_id
      ORDER BY max(requests / allowed) DESC
      LIMIT 10
    """

USE_OF_LIMIT = f"""{requests_per_window(NEAR)},
{requests_of(NEAREST)}
SELECT
  $__timeInterval(minute) AS bucket,
  concat(tenant_id, ' / ', user_id) AS who,
  max(requests / allowed) AS use_of_limit
FROM lines
GROUP BY bucket, who
ORDER BY bucket"""

TOP_USERS = f"""{requests_per_window(NEAR)}
SELECT
  tenant_id,
  user_id,
  max(requests) AS most_requests_in_window,
  round(argMax(allowed, requests)) AS requests_allowed,
  max(requests / allowed) AS use_of_limit,
  argMax(minute, requests / allowed) AS busiest_at
FROM sliding
WHERE requests >= {NEAR} * allowed
GROUP BY tenant_id, user_id
ORDER BY use_of_limit DESC
LIMIT 50"""

THROTTLED_OVER_TIME = f"""SELECT
  $__timeInterval(time) AS bucket,
  tenant_id,
  count() AS throttled
{events(f"{REQUEST} AND http_status = 429")}
  AND tenant_id IN
  (
    SELECT tenant_id
    {events(f"{REQUEST} AND http_status = 429")}
    GROUP BY tenant_id ORDER BY count() DESC LIMIT 10
  )
GROUP BY bucket, tenant_id
ORDER BY bucket"""

STATUSES = f"""SELECT
  $__timeInterval(time) AS bucket,
  concat(toString(intDiv(http_status, 100)), 'xx') AS status_class,
  count() / $__interval_s AS requests_per_second
{events(f"{REQUEST} AND http_status IS NOT NULL")}
GROUP BY bucket, status_class
ORDER BY bucket"""

LATENCY = f"""SELECT
  $__timeInterval(time) AS bucket,
  {percentiles("assumeNotNull(duration_ms)")}
{events(f"{REQUEST} AND duration_ms IS NOT NULL")}
GROUP BY bucket
ORDER BY bucket"""

# Grouped by a number: a key of three texts costs more than all the rest of the query.
ROUTES = f"""SELECT
  reporter AS service,
  if(path = '', '(no route)', concat(method, ' ', path)) AS route,
  requests,
  errors / requests AS error_ratio,
  throttled,
  p95_ms,
  slow / requests AS slow_ratio
FROM
(
  SELECT
    cityHash64(service) + 3 * cityHash64(http_method) + 7 * cityHash64(http_route) AS hashed,
    any(service) AS reporter,
    any(http_method) AS method,
    any(http_route) AS path,
    count() AS requests,
    countIf(ifNull(http_status, 0) >= 500) AS errors,
    countIf(ifNull(http_status, 0) = 429) AS throttled,
    quantileTDigestIf(0.95)(ifNull(duration_ms, 0), duration_ms IS NOT NULL) AS p95_ms,
    countIf(ifNull(duration_ms, 0) > 1000) AS slow
  {events(REQUEST)}
  GROUP BY hashed
  ORDER BY requests DESC
  LIMIT 50
)
ORDER BY requests DESC"""

KEYS = f"""SELECT
  tenant_id,
  api_key_id,
  count() AS requests,
  countIf(http_status = 429) AS throttled,
  uniq(source_ip) AS addresses,
  max(time) AS last_request
{events(KEYED)}
  AND (tenant_id, api_key_id) IN
  (
    SELECT tenant_id, api_key_id
    {events(KEYED)}
    GROUP BY tenant_id, api_key_id ORDER BY count() DESC LIMIT 50
  )
GROUP BY tenant_id, api_key_id
ORDER BY requests DESC
LIMIT 50"""


def rate_breaches() -> models.Dashboard:
    """Return the dashboard for alerts of the detector ``rate_breach``."""
    return board(
        "rate-breaches",
        "tenantwatch: rate breaches",
        "Requests per user against the limit of their tenant, and what they do to the services.",
        [variables.tenant(), variables.severity()],
        {
            "Now": [_now(), [alerts_table("Rate breach alerts", width=24, detector=DETECTOR, height=8)]],
            "Against the limit": [_limits(), _users()],
            "What it does to the services": [_service(), _routes()],
        },
    )


def _now() -> Row:
    return [
        open_by_severity(width=10, detector=DETECTOR),
        number(
            "Users over their limit",
            Sql(OVER_LIMIT),
            see="Users who at some minute had made more requests in 15 minutes than their tenant allows.",
            worry="there is any that has no alert: the limit may be set wrong.",
            act="find them in *Users near their limit*; agree on a higher limit, or slow the client down.",
            unit=units.Short,
            width=5,
            thresholds={1: "orange", 10: "red"},
        ),
        number(
            "Requests answered 429",
            Sql(THROTTLED),
            see="Requests that a service refused because there were too many.",
            worry="it rises without a user over the limit: the service's own limit is lower than ours.",
            act="compare the service's limit with the tenant's `rate_limit`.",
            unit=units.Short,
            width=5,
            thresholds={1: "yellow"},
        ),
        number(
            "Requests",
            Sql(REQUESTS),
            see="Requests of the chosen tenants in the time range.",
            worry="it is far from that of the same range on other days.",
            act="see which tenant it is on the overview.",
            unit=units.Short,
            width=4,
        ),
    ]


def _limits() -> Row:
    return [
        graph(
            "Use of the limit, ten users nearest to it",
            Sql(USE_OF_LIMIT, Shape.TIME_SERIES),
            see="Requests in 15 minutes as a share of what the user's tenant allows, by its tier or its own "
            "`rate_limit` (scaled to 15 minutes), of users who once came to 80 % of it. Counted by whole "
            "minutes; the detector is exact.",
            worry="a line crosses 100 %, or climbs steadily towards it.",
            act="a steep line is a loop or a script, a slow climb is growth: talk to the tenant in time.",
            unit=units.PercentUnit,
            width=12,
            label="who",
            limit=1,
        ),
        alerts_over_time(
            width=12, detector=DETECTOR, by="classification", title="Alerts raised, by classification"
        ),
    ]


def _users() -> Row:
    return [
        rows(
            "Users near their limit",
            Sql(TOP_USERS),
            see="Users who made 80 % or more of the requests allowed in any 15 minutes: their most, and what "
            "is allowed.",
            worry="the use is above 100 %, or the same user is here every day.",
            act="click the tenant; ask for what the requests are before raising the limit.",
            width=14,
            column_units={"use_of_limit": units.PercentUnit},
        ),
        rows(
            "Busiest API keys",
            Sql(KEYS),
            see="API keys by requests, and from how many addresses they came.",
            worry="a key is used from many addresses: it may have leaked.",
            act="rotate the key; see *Access anomalies* for what it read.",
            width=10,
        ),
    ]


def _service() -> Row:
    return [
        graph(
            "Requests by status",
            Sql(STATUSES, Shape.TIME_SERIES),
            see="Requests per second by class of HTTP status.",
            worry="5xx grows together with the load.",
            act="find the route in the table below; throttle the busiest user while the service recovers.",
            unit=units.RequestsPerSecond,
            width=8,
            label="status_class",
            colors={"2xx": "green", "3xx": "blue", "4xx": "yellow", "5xx": "red"},
        ),
        graph(
            "Time to answer",
            Sql(LATENCY, Shape.TIME_SERIES),
            see="Median, 95th and 99th percentile of the time to answer.",
            worry="the 95th percentile stays above a second (dashed).",
            act="see whether one user's flood or one slow route drives it.",
            unit=units.Milliseconds,
            width=8,
            limit=1000,
        ),
        graph(
            "Answered 429, ten tenants with most",
            Sql(THROTTLED_OVER_TIME, Shape.TIME_SERIES),
            see="Requests refused as too many, by tenant.",
            worry="a tenant is throttled for hours: something of theirs is broken, and they may not know.",
            act="tell the tenant's contact.",
            unit=units.Short,
            width=8,
            bars=True,
            label="tenant_id",
        ),
    ]


def _routes() -> Row:
    return [
        rows(
            "Routes",
            Sql(ROUTES),
            see="Routes by requests: share of 5xx, of answers slower than a second, and the 95th percentile.",
            worry="a busy route is slow or failing.",
            act="tell the owner of the service.",
            width=24,
            column_units={
                "error_ratio": units.PercentUnit,
                "slow_ratio": units.PercentUnit,
                "p95_ms": units.Milliseconds,
            },
            height=8,
        )
    ]
