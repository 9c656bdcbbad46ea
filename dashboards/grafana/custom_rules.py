"""Custom rules: which of the tenants' own rules alert, on whom, and which of them alert too much."""

from grafana_foundation_sdk.models import dashboard as models

from dashboards.grafana import variables
from dashboards.grafana.alert_panels import alerts_over_time, alerts_table, open_by_severity
from dashboards.grafana.board import board
from dashboards.grafana.clickhouse import Sql
from dashboards.grafana.panels import rows
from dashboards.grafana.sql import SEVERITY, current_alerts

DETECTOR = "custom_rule"

RULES = f"""SELECT
  JSONExtractString(body, 'evidence', 'numbers', 'rule') AS rule,
  uniq(tenant_id) AS tenants,
  count() AS alerts,
  countIf(status != 'resolved') AS open_alerts,
  sum(event_count) AS events,
  toString(max(current.severity)) AS worst,
  max(last_time) AS last_event
{current_alerts("last_time", DETECTOR)}
WHERE {SEVERITY}
GROUP BY rule
ORDER BY alerts DESC
LIMIT 50"""


def custom_rules() -> models.Dashboard:
    """Return the dashboard for alerts of the detector ``custom_rule``."""
    return board(
        "custom-rules",
        "tenantwatch: custom rules",
        "Alerts of detection rules that tenants brought themselves.",
        [variables.tenant(), variables.severity()],
        {
            "Now": [
                [open_by_severity(width=24, detector=DETECTOR)],
                [alerts_table("Custom rule alerts", width=24, detector=DETECTOR)],
            ],
            "Rules": [
                [
                    rows(
                        "Rules that alert",
                        Sql(RULES),
                        see="Each rule's alerts in the time range, the busiest rule first.",
                        worry="one rule makes most of the alerts, or one that used to be silent appears.",
                        act="give it a silent case of what should not alert (`tenantwatch rules test`), and "
                        "narrow it until the case passes.",
                        width=12,
                        height=8,
                    ),
                    alerts_over_time(12, DETECTOR, "classification", "Alerts raised, by rule"),
                ],
            ],
        },
    )
