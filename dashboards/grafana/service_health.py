"""Service health: which routes fail, are slow, are flooded or silent, and since when."""

from grafana_foundation_sdk.models import dashboard as models

from dashboards.grafana import variables
from dashboards.grafana.alert_panels import alerts_over_time, alerts_table, open_by_severity
from dashboards.grafana.board import board
from dashboards.grafana.clickhouse import Sql
from dashboards.grafana.panels import rows
from dashboards.grafana.sql import SEVERITY, current_alerts

DETECTOR = "service_health"

ENTITIES = f"""SELECT
  tenant_id,
  entity_value,
  count() AS alerts,
  countIf(status != 'resolved') AS open_alerts,
  arrayStringConcat(arraySort(groupUniqArray(toString(current.classification))), ', ') AS classifications,
  toString(max(current.severity)) AS worst,
  max(last_time) AS last_event
{current_alerts("last_time", DETECTOR)}
WHERE {SEVERITY}
GROUP BY tenant_id, entity_value
ORDER BY open_alerts DESC, alerts DESC
LIMIT 50"""


def service_health() -> models.Dashboard:
    """Return the dashboard for alerts of the detector ``service_health``."""
    return board(
        "service-health",
        "tenantwatch: service health",
        "Routes and tenants whose requests fail, are slow, are far too many or stay away.",
        [variables.tenant(), variables.severity()],
        {
            "Now": [
                [open_by_severity(width=24, detector=DETECTOR)],
                [alerts_table("Service health alerts", width=24, detector=DETECTOR)],
            ],
            "Routes": [
                [
                    rows(
                        "Routes and tenants in trouble",
                        Sql(ENTITIES),
                        see="Each route's alerts in the time range, or a tenant's own; open ones first.",
                        worry="a route is here every day, or many routes of different tenants at once.",
                        act="many at once is the service or what it depends on; one route of one tenant is "
                        "that tenant's use of it. See *Rate breaches* for its requests.",
                        width=12,
                        height=8,
                    ),
                    alerts_over_time(12, DETECTOR, "classification", "Alerts raised, by classification"),
                ],
            ],
        },
    )
