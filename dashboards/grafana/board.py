"""A dashboard is rows of panels; each row fills the 24 columns."""

from collections.abc import Sequence

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync

from dashboards.grafana.panels import TAG, Panel, navigation

Row = Sequence[Panel]
Variable = dashboard.QueryVariable | dashboard.CustomVariable


def board(
    name: str,
    title: str,
    description: str,
    variables: Sequence[Variable],
    sections: dict[str, Sequence[Row]],
    since: str = "now-24h",
) -> models.Dashboard:
    """Return a dashboard.

    Parameters
    ----------
    name
        Its file is ``json/<name>.json`` and its address ``/d/tenantwatch-<name>``.
    sections
        Heading to rows, from what must be seen first to what explains it.
    since
        Start of the time range it opens with.
    """
    built = (
        dashboard.Dashboard(title)
        .uid(f"tenantwatch-{name}")
        .description(description)
        .tags([TAG])
        .readonly()
        .time(since, "now")
        .timezone("browser")
        .refresh("1m")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .annotations([])
        .link(navigation())
    )
    for variable in variables:
        built.with_variable(variable)
    for heading, section in sections.items():
        built.with_row(dashboard.Row(heading))
        for row in section:
            for panel in row:
                built.with_panel(panel)
    result = built.build()
    # Links to one panel hold its id, so ids must not depend on Grafana's order of loading.
    for number, placed in enumerate(result.panels or [], start=1):
        placed.id_val = number
    return result
