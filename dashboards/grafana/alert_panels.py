"""The panels about alerts that every detector's dashboard has."""

from grafana_foundation_sdk.builders import stat, table, timeseries
from grafana_foundation_sdk.models import units

from dashboards.grafana.clickhouse import Shape, Sql
from dashboards.grafana.panels import SEVERITY_COLORS, graph, number, rows
from dashboards.grafana.sql import SEVERITY, current_alerts, open_alerts


def open_by_severity(width: int, detector: str | None = None) -> stat.Panel:
    """Return the number of open alerts of each severity."""
    columns = ",\n  ".join(f"countIf(current.severity = '{name}') AS {name}" for name in SEVERITY_COLORS)
    return number(
        "Open alerts",
        Sql(f"SELECT\n  {columns}\n{open_alerts(detector)}"),
        see="Alerts that are not resolved and had an event in the time range, by their present severity.",
        worry="a critical or high one is open.",
        act="take the worst from the table of alerts; its runbook is in the alert itself and in the API.",
        unit=units.Short,
        width=width,
        colors=SEVERITY_COLORS,
    )


def alerts_over_time(
    width: int, detector: str | None = None, by: str = "severity", title: str = "Alerts raised"
) -> timeseries.Panel:
    """Return alerts by the time that their threshold was crossed, whether resolved since or not."""
    sql = f"""SELECT
  $__timeInterval(detected_at) AS bucket,
  toString(current.{by}) AS series,
  count() AS alerts
{current_alerts("detected_at", detector)}
WHERE {SEVERITY}
GROUP BY bucket, series
ORDER BY bucket"""
    return graph(
        title,
        Sql(sql, Shape.TIME_SERIES),
        see=f"Alerts by {by} and by the event time at which their threshold was crossed, each counted once.",
        worry="bars come closer or grow higher than on other days.",
        act="mark the time of the bars with the mouse to narrow every panel to it.",
        unit=units.Short,
        width=width,
        bars=True,
        label="series",
        colors=SEVERITY_COLORS if by == "severity" else None,
    )


def alerts_table(title: str, width: int, detector: str | None = None, height: int = 10) -> table.Panel:
    """Return the alerts themselves, open ones and the worst first."""
    sql = f"""SELECT
  toString(current.severity) AS severity,
  status,
  tenant_id,
  detector,
  classification,
  entity_type,
  entity_value,
  summary,
  event_count,
  score,
  threshold,
  first_time,
  last_time,
  alert_id
{current_alerts("last_time", detector)}
WHERE {SEVERITY}
ORDER BY status = 'resolved', current.severity DESC, last_time DESC
LIMIT 200"""
    return rows(
        title,
        Sql(sql),
        see="Alerts with an event in the time range, each with its newest revision: open before resolved, "
        "the worst first.",
        worry="a line is red or orange and not resolved, or its event count still rises.",
        act="read the summary, follow the runbook in the alert (`tenantwatch alerts`, or the API by its "
        "`alert_id`), and filter the other panels by the tenant.",
        width=width,
        widths={
            "severity": 90,
            "status": 90,
            "tenant_id": 140,
            "detector": 130,
            "classification": 160,
            "entity_type": 100,
            "entity_value": 180,
            "summary": 460,
            "event_count": 110,
            "score": 80,
            "threshold": 90,
        },
        height=height,
    )
