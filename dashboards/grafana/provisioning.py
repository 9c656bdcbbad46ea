"""What Grafana reads at start: the two datasources and where the dashboards are."""

from typing import Any, Final

from dashboards.grafana.clickhouse import CLICKHOUSE, PROMETHEUS

DASHBOARDS_PATH: Final = "/etc/tenantwatch/dashboards"

# Grafana puts environment variables in place of $NAME, so no address or password is written here.
DATASOURCES: Final[dict[str, Any]] = {
    "apiVersion": 1,
    "datasources": [
        {
            "name": "ClickHouse",
            "uid": CLICKHOUSE.uid,
            "type": CLICKHOUSE.type_val,
            "access": "proxy",
            "isDefault": True,
            "editable": False,
            "jsonData": {
                "host": "$CLICKHOUSE_HOST",
                "port": "$CLICKHOUSE_PORT",
                # With HTTP its client sets more than a read-only user may.
                "protocol": "native",
                "username": "$CLICKHOUSE_USER",
                "defaultDatabase": "$CLICKHOUSE_DATABASE",
                "dialTimeout": "10",
                "queryTimeout": "60",
            },
            "secureJsonData": {"password": "$CLICKHOUSE_PASSWORD"},
        },
        {
            "name": "Prometheus",
            "uid": PROMETHEUS.uid,
            "type": PROMETHEUS.type_val,
            "access": "proxy",
            "editable": False,
            "url": "$PROMETHEUS_URL",
            "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
        },
    ],
}

PROVIDERS: Final[dict[str, Any]] = {
    "apiVersion": 1,
    "providers": [
        {
            "name": "tenantwatch",
            "folder": "tenantwatch",
            "type": "file",
            "disableDeletion": True,
            "allowUiUpdates": False,
            "options": {"path": DASHBOARDS_PATH},
        }
    ],
}
