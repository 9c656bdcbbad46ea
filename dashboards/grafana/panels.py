"""The house's four kinds of panel: each says what one sees, when to worry and what to do."""

from collections.abc import Mapping, Sequence
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)

from dashboards.grafana.clickhouse import CLICKHOUSE, PROMETHEUS, Sql

Panel = builder.Builder[models.Panel]
Query = builder.Builder[variants.Dataquery]

TAG: Final = "tenantwatch"
SEVERITY_COLORS: Final = {"critical": "dark-red", "high": "orange", "medium": "yellow", "low": "blue"}
OUTCOME_COLORS: Final = {"success": "green", "failure": "red"}


def describe(see: str, worry: str, act: str) -> str:
    """Return a panel's description; the info icon shows it as Markdown."""
    return f"{see}\n\n**Worry when** {worry}\n\n**Do:** {act}"


def _source(queries: Sequence[Query]) -> DataSourceRef:
    return CLICKHOUSE if isinstance(queries[0], Sql) else PROMETHEUS


def _steps(thresholds: Mapping[float, str], base: str) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color=base)]
    steps += [Threshold(value=value, color=color) for value, color in sorted(thresholds.items())]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _fixed(color: str) -> DynamicConfigValue:
    return DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})


def graph(
    title: str,
    *queries: Query,
    see: str,
    worry: str,
    act: str,
    unit: str,
    width: int,
    bars: bool = False,
    label: str | None = None,
    colors: Mapping[str, str] | None = None,
    limit: float | None = None,
) -> timeseries.Panel:
    """Return a time series.

    Parameters
    ----------
    bars
        Stacked bars, for counts: an interval without rows is an absent bar, where a line would be drawn
        straight across the gap.
    label
        The column or label that names the series; without it the value's column does.
    colors
        Series name to colour; others take the palette's.
    limit
        Value of a dashed line that the series should stay under.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(describe(see, worry, act))
        .datasource(_source(queries))
        .targets(list(queries))
        .unit(unit)
        .min(0)
        .span(width)
        .height(8)
        .show_points(VisibilityMode.AUTO)
        .line_width(1)
        .fill_opacity(80 if bars else 10)
        .color_scheme(dashboard.FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
    )
    if bars:
        panel.draw_style(GraphDrawStyle.BARS).stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if label:
        panel.display_name(f"${{__field.labels.{label}}}")
    for name, color in (colors or {}).items():
        panel.override_by_name(name, [_fixed(color)])
    if limit is not None:
        panel.thresholds(_steps({limit: "red"}, "transparent"))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED))
    return panel


def number(
    title: str,
    *queries: Query,
    see: str,
    worry: str,
    act: str,
    unit: str,
    width: int,
    thresholds: Mapping[float, str] | None = None,
    base: str = "green",
    colors: Mapping[str, str] | None = None,
) -> stat.Panel:
    """Return one big number, or one for each column of the row.

    Parameters
    ----------
    thresholds
        From which value on which colour; `base` below. Without it the number is plain text.
    colors
        Column name to its colour from 1 on, for rows of counts where one is already news.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(describe(see, worry, act))
        .datasource(_source(queries))
        .targets(list(queries))
        .unit(unit)
        .span(width)
        .height(4)
        .graph_mode(BigValueGraphMode.NONE)
        .color_mode(BigValueColorMode.BACKGROUND if thresholds or colors else BigValueColorMode.NONE)
        .thresholds(_steps(thresholds or {}, base))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(False))
    )
    for name, color in (colors or {}).items():
        step = {
            "mode": "absolute",
            "steps": [{"color": base, "value": None}, {"color": color, "value": 1}],
        }
        panel.override_by_name(name, [DynamicConfigValue("thresholds", step)])
    return panel


def _tenant_link() -> DynamicConfigValue:
    return DynamicConfigValue(
        "links",
        [
            {
                "title": "This tenant's overview",
                "url": "/d/tenantwatch-overview?${__url_time_range}&var-tenant=${__value.raw}",
            }
        ],
    )


def _severity_cell() -> list[DynamicConfigValue]:
    return [
        DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
        DynamicConfigValue(
            "mappings",
            [
                {
                    "type": "value",
                    "options": {
                        name: {"color": color, "index": index}
                        for index, (name, color) in enumerate(SEVERITY_COLORS.items())
                    },
                }
            ],
        ),
    ]


def rows(
    title: str,
    query: Sql,
    see: str,
    worry: str,
    act: str,
    width: int,
    column_units: Mapping[str, str] | None = None,
    widths: Mapping[str, int] | None = None,
    height: int = 9,
) -> table.Panel:
    """Return a table; a severity is coloured and a tenant leads to its overview.

    Parameters
    ----------
    column_units
        Unit of each number that is not a plain count. Set on numbers only: on text, Grafana would print
        the user `12345` as 12.3 K.
    widths
        Pixels of columns that would otherwise take or lack too much.
    """
    panel = (
        table.Panel()
        .title(title)
        .description(describe(see, worry, act))
        .datasource(_source([query]))
        .targets([query])
        .span(width)
        .height(height)
        .filterable(True)
        .no_value("Nothing in this time range")
        .override_by_field_type("number", [DynamicConfigValue("unit", units.Short)])
        .override_by_name("tenant_id", [_tenant_link()])
        .override_by_name("severity", _severity_cell())
    )
    for name, unit in (column_units or {}).items():
        panel.override_by_name(name, [DynamicConfigValue("unit", unit)])
    for name, pixels in (widths or {}).items():
        panel.override_by_name(name, [DynamicConfigValue("custom.width", pixels)])
    return panel


def navigation() -> dashboard.DashboardLink:
    """Return links to every dashboard of ours that keep the time range and the variables."""
    return (
        dashboard.DashboardLink("tenantwatch")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .include_vars(True)
        .keep_time(True)
        .as_dropdown(False)
    )
