"""Failed logins: who is being attacked, from where, how, and did any of it succeed."""

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from dashboards.grafana import variables
from dashboards.grafana.alert_panels import alerts_over_time, alerts_table, open_by_severity
from dashboards.grafana.board import Row, board
from dashboards.grafana.clickhouse import Shape, Sql
from dashboards.grafana.panels import OUTCOME_COLORS, graph, number, rows
from dashboards.grafana.sql import LOGIN, USER, events

DETECTOR = "failed_login"
FAILED = f"{LOGIN} AND outcome = 'failure'"

FAILURES = f"SELECT countIf(outcome = 'failure') AS failures\n{events(LOGIN)}"

FAILURE_RATIO = f"SELECT countIf(outcome = 'failure') / nullIf(count(), 0) AS failure_ratio\n{events(LOGIN)}"

TARGETS = f"""SELECT
  uniqIf({USER}, user_window != 0) AS users,
  uniqIf(source_ip, source_ip != '') AS addresses
{events(FAILED)}"""

ATTEMPTS = f"""SELECT
  $__timeInterval(time) AS bucket,
  outcome,
  count() AS attempts
{events(LOGIN)}
GROUP BY bucket, outcome
ORDER BY bucket"""

RATIO_OVER_TIME = f"""SELECT
  $__timeInterval(time) AS bucket,
  countIf(outcome = 'failure') / count() AS failure_ratio
{events(LOGIN)}
GROUP BY bucket
ORDER BY bucket"""

REASONS = f"""SELECT
  $__timeInterval(time) AS bucket,
  if(reason = '', 'none given', reason) AS why,
  count() AS failures
{events(FAILED)}
GROUP BY bucket, why
ORDER BY bucket"""

TOP_USERS = f"""SELECT
  tenant_id,
  if(user_id = '', '(anonymous)', user_id) AS who,
  countIf(outcome = 'failure') AS failures,
  countIf(outcome = 'success') AS successes,
  uniqIf(source_ip, outcome = 'failure') AS addresses,
  topKIf(1)(reason, outcome = 'failure' AND reason != '')[1] AS usual_reason,
  maxIf(time, outcome = 'failure') AS last_failure
{events(LOGIN)}
  AND (tenant_id, user_id) IN
  (
    SELECT tenant_id, user_id
    {events(FAILED)}
    GROUP BY tenant_id, user_id ORDER BY count() DESC LIMIT 50
  )
GROUP BY tenant_id, who
ORDER BY failures DESC"""

TOP_ADDRESSES = f"""SELECT
  source_ip,
  countIf(outcome = 'failure') AS failures,
  countIf(outcome = 'success') AS successes,
  uniqIf({USER}, outcome = 'failure') AS users,
  uniqIf(tenant_id, outcome = 'failure') AS tenants,
  topKIf(1)(reason, outcome = 'failure' AND reason != '')[1] AS usual_reason,
  maxIf(time, outcome = 'failure') AS last_failure
{events(LOGIN)}
  AND source_ip IN
  (
    SELECT source_ip
    {events(f"{FAILED} AND source_ip != ''")}
    GROUP BY source_ip ORDER BY count() DESC LIMIT 50
  )
GROUP BY source_ip
ORDER BY failures DESC"""

METHODS = f"""SELECT
  if(auth_method = '', 'not given', auth_method) AS how,
  service,
  countIf(outcome = 'failure') AS failures,
  countIf(outcome = 'success') AS successes,
  failures / count() AS failure_ratio
{events(LOGIN)}
GROUP BY how, service
ORDER BY failures DESC
LIMIT 20"""


def failed_logins() -> models.Dashboard:
    """Return the dashboard for alerts of the detector ``failed_login``."""
    return board(
        "failed-logins",
        "tenantwatch: failed logins",
        "Attacks on sign-ins: alerts, their course, and the users and addresses behind them.",
        [variables.tenant(), variables.severity()],
        {
            "Now": [_now(), [alerts_table("Failed login alerts", width=24, detector=DETECTOR)]],
            "Course": [_course(), _kinds()],
            "Who and from where": [_who(), _methods()],
        },
    )


def _now() -> Row:
    return [
        open_by_severity(width=10, detector=DETECTOR),
        number(
            "Failed sign-ins",
            Sql(FAILURES),
            see="Logins and MFA challenges that failed in the time range.",
            worry="it is several times that of the same range on other days.",
            act="see below whether one address, one user or a crowd of addresses makes them.",
            unit=units.Short,
            width=4,
        ),
        number(
            "Failure ratio",
            Sql(FAILURE_RATIO),
            see="Failed sign-ins as a share of all.",
            worry="it is above a third: people mistype about one in ten, machines nearly always.",
            act="look at the reasons: `unknown_user` points to lists of names, `bad_password` to guessing.",
            unit=units.PercentUnit,
            width=4,
            thresholds={0.2: "yellow", 0.35: "orange", 0.6: "red"},
        ),
        number(
            "Users and addresses with failures",
            Sql(TARGETS),
            see="How many users failed at least once, and from how many addresses.",
            worry="many users from few addresses (spraying) or few users from many (distributed guessing).",
            act="compare with the two tables; block the addresses, or lock and reset the users.",
            unit=units.Short,
            width=6,
        ),
    ]


def _course() -> Row:
    return [
        graph(
            "Sign-ins",
            Sql(ATTEMPTS, Shape.TIME_SERIES),
            see="Sign-ins that succeeded and that failed, in each interval.",
            worry="failures rise and successes do not.",
            act="mark the rise with the mouse to narrow every panel to it.",
            unit=units.Short,
            width=12,
            bars=True,
            label="outcome",
            colors=OUTCOME_COLORS,
        ),
        graph(
            "Failure ratio",
            Sql(RATIO_OVER_TIME, Shape.TIME_SERIES),
            see="Failed sign-ins as a share of all, in each interval. The dashed line is a third.",
            worry="it crosses the line while there are more than a handful of sign-ins.",
            act="if every user fails at once, suspect the identity provider before suspecting an attack.",
            unit=units.PercentUnit,
            width=12,
            limit=0.35,
        ),
    ]


def _kinds() -> Row:
    return [
        graph(
            "Reasons of failures",
            Sql(REASONS, Shape.TIME_SERIES),
            see="Failed sign-ins by the reason that the service gave.",
            worry="`unknown_user` or `locked` appears in numbers, or one reason jumps.",
            act="`unknown_user`: names from elsewhere are being tried. `locked`: an attack hits real users.",
            unit=units.Short,
            width=12,
            bars=True,
            label="why",
        ),
        alerts_over_time(
            width=12, detector=DETECTOR, by="classification", title="Alerts raised, by classification"
        ),
    ]


def _who() -> Row:
    return [
        rows(
            "Users with most failures",
            Sql(TOP_USERS),
            see="Users by failed sign-ins, with their successes beside them. Each row is one tenant's user.",
            worry="successes follow many failures: an account may be taken over.",
            act="reset the user's password and end their sessions; ask them whether it was them.",
            width=12,
            height=11,
        ),
        rows(
            "Addresses with most failures",
            Sql(TOP_ADDRESSES),
            see="Source addresses by failed sign-ins, and how many users and chosen tenants they tried.",
            worry="one address tries many users or several tenants, or has a success among many failures.",
            act="block it at the edge; but an office's shared address has many successes too: ask first.",
            width=12,
            height=11,
        ),
    ]


def _methods() -> Row:
    return [
        rows(
            "Methods and services",
            Sql(METHODS),
            see="How and at which service people sign in, and how often it fails.",
            worry="a method fails that used to work (a broken integration), or an old one is attacked.",
            act="tell the owner of the service; switch off methods that nobody needs.",
            width=24,
            column_units={"failure_ratio": units.PercentUnit},
            height=7,
        )
    ]
