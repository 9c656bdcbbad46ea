"""The ClickHouse query that Grafana's SDK lacks, and the two datasources that dashboards may name."""

from enum import Enum
from typing import Final

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models.dashboard import DataSourceRef

PLUGIN: Final = "grafana-clickhouse-datasource"
PLUGIN_VERSION: Final = "4.20.0"
CLICKHOUSE: Final = DataSourceRef(type_val=PLUGIN, uid="clickhouse")
PROMETHEUS: Final = DataSourceRef(type_val="prometheus", uid="prometheus")


class Shape(Enum):
    """How the plugin's backend arranges the rows: its name for the editor, and the backend's number."""

    TIME_SERIES = ("timeseries", 0)
    TABLE = ("table", 1)


class Sql(variants.Dataquery, builder.Builder[variants.Dataquery]):
    """One SQL statement for the ClickHouse plugin; both the query and its builder.

    Parameters
    ----------
    sql
        With the plugin's macros and Grafana's variables in it.
    shape
        ``TIME_SERIES`` wants a time column first, ascending; text columns become the series' labels.
    """

    def __init__(self, sql: str, shape: Shape = Shape.TABLE) -> None:
        self.sql = sql
        self.shape = shape

    def build(self) -> variants.Dataquery:
        """Return the query itself."""
        return self

    def to_json(self) -> dict[str, object]:
        """Return the target as Grafana stores it."""
        query_type, number = self.shape.value
        return {
            "refId": "A",
            "datasource": CLICKHOUSE,
            "editorType": "sql",
            "format": number,
            "pluginVersion": PLUGIN_VERSION,
            "queryType": query_type,
            "rawSql": self.sql,
        }


def promql(expr: str, legend: str, ref_id: str = "A", instant: bool = False) -> prometheus.Dataquery:
    """Return a Prometheus query; ``legend`` may use ``{{label}}``."""
    query = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(ref_id).datasource(PROMETHEUS)
    return query.instant() if instant else query.range()
