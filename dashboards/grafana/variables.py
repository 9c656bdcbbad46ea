"""The variables that dashboards share; a choice made on one follows the links to the others."""

from typing import Final

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import VariableOption, VariableRefresh

from dashboards.grafana.clickhouse import CLICKHOUSE
from schemas.alert import SEVERITIES
from schemas.event import KINDS

_ALL: Final = VariableOption(selected=True, text=["All"], value=["$__all"])

# The first column is the value, the second what the list shows. A list of many thousands would make the
# dashboard slow to open; any other id can be typed.
_TENANTS: Final = """SELECT tenant_id, concat(name, ' (', tenant_id, ')') AS label
FROM (SELECT * FROM tenants ORDER BY version DESC LIMIT 1 BY tenant_id)
WHERE deleted = 0
ORDER BY label
LIMIT 1000"""


def tenant() -> dashboard.QueryVariable:
    """Return the tenants to look at: a filter, not a wall (see ``deploy/README.md``)."""
    return (
        dashboard.QueryVariable("tenant")
        .label("Tenant")
        .description("Which tenants to show. A tenant that the list lacks can be typed by its tenant_id.")
        .datasource(CLICKHOUSE)
        .query({"editorType": "sql", "rawSql": _TENANTS, "refId": "tenant"})
        .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        .multi(True)
        .include_all(True)
        .allow_custom_value(True)
        .current(_ALL)
    )


def _choice(name: str, label: str, values: tuple[str, ...]) -> dashboard.CustomVariable:
    return (
        dashboard.CustomVariable(name)
        .label(label)
        .values(",".join(values))
        .options([VariableOption(selected=False, text=value, value=value) for value in values])
        .multi(True)
        .include_all(True)
        .allow_custom_value(False)
        .current(_ALL)
    )


def kind() -> dashboard.CustomVariable:
    """Return the kinds of event."""
    return _choice("kind", "Kind", KINDS)


def severity() -> dashboard.CustomVariable:
    """Return the severities of alerts, the worst first."""
    return _choice("severity", "Severity", tuple(reversed(SEVERITIES)))
