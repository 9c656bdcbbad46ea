"""Overview: is anything burning, since when, at whom; and is anything missing from the trail."""

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from dashboards.grafana import variables
from dashboards.grafana.alert_panels import alerts_over_time, alerts_table, open_by_severity
from dashboards.grafana.board import Row, board
from dashboards.grafana.clickhouse import Shape, Sql
from dashboards.grafana.panels import graph, number, rows
from dashboards.grafana.sql import KIND, LOGIN, dead_letters, events, open_alerts

EVENTS = f"SELECT count() AS events\n{events(KIND)}"

TENANTS = f"SELECT uniq(tenant_id) AS tenants\n{events(KIND)}"

DEAD_LETTERS = f"SELECT count() AS dead_letters\n{dead_letters()}"

EVENTS_PER_SECOND = f"""SELECT
  $__timeInterval(time) AS bucket,
  kind,
  count() / $__interval_s AS events_per_second
{events(KIND)}
GROUP BY bucket, kind
ORDER BY bucket"""

TOP_TENANTS = f"""SELECT
  tenant_id,
  count() AS events,
  countIf(kind = 'auth') AS auth,
  countIf(kind = 'access') AS access,
  countIf(kind = 'request') AS request,
  max(time) AS last_event
{events(KIND)}
GROUP BY tenant_id
ORDER BY events DESC
LIMIT 20"""

TOP_FAILED_LOGINS = f"""SELECT
  tenant_id,
  countIf(outcome = 'failure') AS failures,
  failures / count() AS failure_ratio,
  uniqIf(user_id, outcome = 'failure') AS users
{events(LOGIN)}
GROUP BY tenant_id
HAVING failures > 0
ORDER BY failures DESC
LIMIT 20"""

TOP_ALERTS = f"""SELECT
  tenant_id,
  count() AS open,
  toString(max(current.severity)) AS severity,
  max(last_time) AS last_event
{open_alerts()}
GROUP BY tenant_id
ORDER BY max(current.severity) DESC, open DESC
LIMIT 20"""

REJECTIONS = f"""SELECT
  reason,
  kind,
  count() AS dead_letters,
  uniq(tenant_id) AS tenants,
  anyLast(detail) AS example,
  max(rejected_at) AS last_rejected
{dead_letters()}
GROUP BY reason, kind
ORDER BY dead_letters DESC
LIMIT 20"""


def overview() -> models.Dashboard:
    """Return the dashboard that the others hang from."""
    return board(
        "overview",
        "tenantwatch: overview",
        "Open alerts, traffic and losses of all tenants, or of those chosen.",
        [variables.tenant(), variables.kind(), variables.severity()],
        {
            "Now": [_now(), [alerts_table("Alerts", width=24)]],
            "Course": [_course()],
            "By tenant": [_tenants()],
            "Missing from the trail": [_rejected()],
        },
    )


def _now() -> Row:
    return [
        open_by_severity(width=12),
        number(
            "Events",
            Sql(EVENTS),
            see="Events of the chosen tenants and kinds in the time range.",
            worry="it is far from what the same range held yesterday: a producer may be silent or looping.",
            act="see the events per second below; for a gap in the pipeline itself, open *Pipeline health*.",
            unit=units.Short,
            width=4,
        ),
        number(
            "Tenants with events",
            Sql(TENANTS),
            see="How many tenants sent at least one event.",
            worry="it drops: whole tenants have gone silent.",
            act="compare with the table *Busiest tenants*, whose last column says when each was last heard.",
            unit=units.Short,
            width=4,
        ),
        number(
            "Dead letters",
            Sql(DEAD_LETTERS),
            see="Messages that could not be stored as events. Their tenant is the message key, as sent.",
            worry="there is any: what is in them is missing from the trail and from detection.",
            act="read *Why messages were rejected* below; fix the producer, then "
            "`tenantwatch dead-letters redrive`.",
            unit=units.Short,
            width=4,
            thresholds={1: "orange", 1000: "red"},
        ),
    ]


def _course() -> Row:
    return [
        alerts_over_time(width=12),
        graph(
            "Events per second",
            Sql(EVENTS_PER_SECOND, Shape.TIME_SERIES),
            see="Events by kind and by their own time, on average over each interval.",
            worry="a kind falls to nothing (silence) or jumps (a loop, or an attack).",
            act="choose tenants above to find whose it is; the newest interval is never complete.",
            unit=units.EventsPerSecond,
            width=12,
            label="kind",
        ),
    ]


def _tenants() -> Row:
    return [
        rows(
            "Tenants with open alerts",
            Sql(TOP_ALERTS),
            see="Tenants with unresolved alerts, the worst first.",
            worry="a tenant has a critical one, or several at once.",
            act="click the tenant to see only its alerts, then go to the dashboard of their detector.",
            width=8,
        ),
        rows(
            "Busiest tenants",
            Sql(TOP_TENANTS),
            see="Tenants by number of events, with the time of the last one.",
            worry="one tenant takes most of the capacity, or a usually busy one stopped a while ago.",
            act="click the tenant; for request floods continue in *Rate breaches*.",
            width=8,
        ),
        rows(
            "Tenants by failed logins",
            Sql(TOP_FAILED_LOGINS),
            see="Failed sign-ins (logins and MFA), their share of all sign-ins, and how many users they hit.",
            worry="the ratio is above a third, or many users are hit at once.",
            act="click the tenant and continue in *Failed logins*.",
            width=8,
            column_units={"failure_ratio": units.PercentUnit},
        ),
    ]


def _rejected() -> Row:
    return [
        rows(
            "Why messages were rejected",
            Sql(REJECTIONS),
            see="Dead letters by reason, with the newest detail: the field and what was wrong with it.",
            worry="a reason is new, or one tenant's messages are all rejected.",
            act="show the detail to the owner of the producer; the original bytes wait in the topic "
            "`audit.dead-letters`.",
            width=24,
            widths={"reason": 180, "kind": 90, "dead_letters": 120, "tenants": 90},
            height=7,
        )
    ]
