"""The Grafana dashboards: current, complete, well laid out, and every query runs on ClickHouse's engine."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any

import pytest
import yaml

from dashboards.grafana import macros
from dashboards.grafana.__main__ import HERE, generate
from detectors.registry import new_detectors
from schemas.alert import SEVERITIES
from store.database import Database

NOW = datetime(2031, 1, 6, 12, 0, tzinfo=UTC)
START, END = NOW - timedelta(hours=6), NOW + timedelta(hours=1)

BOARDS: dict[str, Any] = {
    path.stem: json.loads(path.read_text()) for path in sorted((HERE / "json").glob("*.json"))
}
PANELS: list[tuple[str, dict[str, Any]]] = [
    (name, panel) for name, board in BOARDS.items() for panel in board["panels"] if panel["type"] != "row"
]


def _each_query(keep: str = "", panel_type: str = "") -> pytest.MarkDecorator:
    """Run a test once for each SQL query that contains a text, of each type of panel or of one."""
    cases = [
        pytest.param(panel, target["rawSql"], id=f"{name}: {panel['title']}")
        for name, panel in PANELS
        for target in panel["targets"]
        if keep in target.get("rawSql", "") and panel_type in panel["type"] and "rawSql" in target
    ]
    return pytest.mark.parametrize(("panel", "sql"), cases)


def expand(
    sql: str, chosen: Mapping[str, Sequence[str]] | None = None, start: datetime = START, end: datetime = END
) -> str:
    """Return the SQL that reaches ClickHouse, for the time range that holds our rows."""
    return macros.expand(sql, chosen or {}, start, end)


# A little of everything that the panels show.


def _event(kind: str, tenant_id: str, minutes: float, n: int, **fields: Any) -> dict[str, Any]:
    time = NOW - timedelta(minutes=minutes, seconds=n)
    row: dict[str, Any] = dict.fromkeys(
        ("reason", "action", "auth_method", "permission", "resource_type", "resource_id"), ""
    )
    row |= dict.fromkeys(("resource_tenant_id", "token_tenant_id", "http_method", "http_route"), "")
    row |= dict.fromkeys(("record_count", "http_status", "duration_ms"))
    row |= {
        "tenant_id": tenant_id,
        "kind": kind,
        "time": time,
        "event_id": f"{kind}-{tenant_id}-{minutes}-{n}",
        "service": "billing-api",
        "user_id": "user-1",
        "source_ip": "192.0.2.7",
        "outcome": "success",
        "tier": "standard",
        "api_key_id": "",
        "ingest_time": time + timedelta(seconds=2),
        "flags": 0,
    }
    return row | fields


def _events() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    for n in range(6):
        failed = {"outcome": "failure", "reason": "bad_password"} if n else {}
        made.append(_event("auth", "board-a", 30, n, action="login", auth_method="password", **failed))
    made.append(_event("auth", "board-b", 20, 0, action="mfa", outcome="failure", user_id="user-2"))
    made.append(_event("auth", "board-a", 20, 1, action="token_refresh", outcome="failure"))

    read = {"action": "read", "permission": "jobs:read", "resource_type": "job", "record_count": 3}
    made.append(_event("access", "board-a", 50, 0, **read))
    made.append(_event("access", "board-a", 50, 1, **read, outcome="failure", resource_id="job-1"))
    made.append(_event("access", "board-a", 50, 2, action="export", resource_type="job", record_count=500))
    made.append(_event("access", "board-a", 50, 3, action="grant", resource_type="role"))
    made.append(_event("access", "board-a", 49, 0, **read, resource_tenant_id="board-b"))
    made.append(
        _event("access", "board-b", 49, 1, action="read", outcome="failure", token_tenant_id="board-a")
    )
    made.append(_event("access", "board-b", 49, 2, action="read", resource_tenant_id="board-b"))

    request = {"http_method": "GET", "http_route": "/v1/jobs/{id}", "duration_ms": 20.0}
    for n in range(120):  # the tier allows 100 in 15 minutes
        status = 429 if n < 20 else 200
        made.append(_event("request", "board-a", 10, n, http_status=status, api_key_id="key-1", **request))
    own = {"http_status": 500, "tier": "enterprise"}  # the tenant's own limit: 50 in 30 minutes, so 25 in 15
    made += [_event("request", "board-b", 10, n, **own, **request) for n in range(30)]
    # 103 in ten minutes, on both sides of a full quarter of an hour; those before it are few by themselves.
    made += [_event("request", "board-a", 18, n, user_id="user-3", **request) for n in range(38)]
    made += [_event("request", "board-a", 9, n, user_id="user-3", **request) for n in range(65)]
    made.append(_event("request", "board-a", 180, 0, user_id="user-3", **request))
    # Far below the limit.
    made += [_event("request", "board-a", 9, n, user_id="user-4", **request) for n in range(20)]

    return made + [_event("access", "board-a", 5, bit, **read, flags=1 << bit) for bit in range(4)]


def _alert(alert_id: str, revision: int, status: str, severity: str, **fields: Any) -> dict[str, Any]:
    return {
        "tenant_id": "board-a",
        "alert_id": alert_id,
        "revision": revision,
        "status": status,
        "detector": "failed_login",
        "classification": "password_spray",
        "severity": severity,
        "entity_type": "source_ip",
        "entity_value": "192.0.2.7",
        "first_time": NOW - timedelta(minutes=31),
        "last_time": NOW - timedelta(minutes=30 - revision),
        "detected_at": NOW - timedelta(minutes=30),
        "published_at": NOW - timedelta(minutes=29),
        "event_count": 2**revision,
        "score": 9.0,
        "threshold": 6.0,
        "summary": "192.0.2.7 tried 5 users",
        "body": "{}",
    } | fields


def _alerts() -> list[dict[str, Any]]:
    access = {"detector": "access_anomaly", "classification": "first_seen"}
    own = {"detector": "custom_rule", "body": '{"evidence": {"numbers": {"rule": "Exports"}}}'}
    return [
        _alert("escalated", 1, "open", "high"),
        _alert("escalated", 2, "updated", "critical"),
        _alert("escalated", 2, "updated", "critical"),
        _alert("over", 1, "open", "medium"),
        _alert("over", 2, "resolved", "medium"),
        _alert("spray-b", 1, "open", "low", tenant_id="board-b"),
        _alert("rate", 1, "open", "high", detector="rate_breach", classification="burst"),
        _alert("new", 1, "open", "medium", **access),
        _alert("slow", 1, "open", "medium", detector="service_health", classification="slow_requests"),
        _alert("own", 1, "open", "low", **own),
    ]


def _other_tables() -> dict[str, list[dict[str, Any]]]:
    tenant = {"organization_id": "org-1", "tier": "standard", "status": "active", "region": "eu"}
    limit = '{"rate_limit": {"requests": 50, "window_s": 1800}}'
    versions = [
        ("board-a", 1, 0, "Old name", "{}"),
        ("board-a", 2, 0, "Alpha", '{"rate_limit": null}'),
        ("board-b", 3, 0, "Beta", limit),
        ("board-gone", 4, 0, "Gone", "{}"),
        ("board-gone", 5, 1, "Gone", "{}"),
    ]
    keys = ("tenant_id", "version", "deleted", "name", "body")
    source = {"kafka_topic": "audit.auth", "kafka_partition": 3}
    counts = {"records": 9, "stored": 8, "rejected": 1, "skipped": 2, "evaluated": 7, "unknown_fields": 4}
    rejected = {"kind": "auth", "reason": "invalid_event", "detail": "time: missing; fix: add the field"}
    delivery = {"endpoint_id": "e-1", "tenant_id": "board-a", "created_at": NOW - timedelta(minutes=9)}
    attempt = {"endpoint_id": "e-1", "tenant_id": "board-a", "attempted_at": NOW, "error": ""}
    removed = {"retention_days": 365, "cutoff": NOW - timedelta(days=365), "rows_removed": 12}
    return {
        "tenants": [dict(zip(keys, row, strict=True)) | tenant | {"applied_at": NOW} for row in versions],
        "dead_letters": [{"tenant_id": "board-a", "rejected_at": NOW, "kafka_offset": 4} | rejected | source],
        "ledger": [{"worker_id": "board-worker", "handled_at": NOW, "first_offset": 0} | counts | source],
        "webhook_deliveries": [
            {"delivery_id": "d-1", "status": "pending", "version": 1} | delivery,
            {"delivery_id": "d-2", "status": "pending", "version": 1} | delivery,
            {"delivery_id": "d-2", "status": "failed", "version": 2} | delivery,
        ],
        "webhook_attempts": [{"delivery_id": "d-1", "http_status": 503, "duration_ms": 20} | attempt],
        "retention_runs": [{"run_at": NOW, "tenant_id": "board-a", "kind": "auth"} | removed],
    }


@pytest.fixture(scope="module")
def filled(database: Database) -> Iterator[Database]:
    """The shared engine with our rows in it, in a year that no other test uses."""
    tables = {"events": _events(), "alerts": _alerts(), **_other_tables()}
    for table, rows in tables.items():
        database.insert_rows(table, rows)
    yield database
    for table in tables:
        mine = "worker_id = 'board-worker'" if table == "ledger" else "startsWith(tenant_id, 'board-')"
        database.command(f"DELETE FROM {table} WHERE {mine}")


def _shows_something(row: Mapping[str, Any]) -> bool:
    return any(
        value not in (None, "", 0) and not (isinstance(value, float) and math.isnan(value))
        for value in row.values()
    )


def _rows(filled: Database, title: str, board: str, **chosen: Sequence[str]) -> list[dict[str, Any]]:
    (panel,) = (panel for panel in BOARDS[board]["panels"] if panel["title"] == title)
    return filled.query(expand(panel["targets"][0]["rawSql"], chosen))


# The files.


def test_the_committed_files_are_current() -> None:
    """What is committed is what the code generates; otherwise run `make dashboards`."""
    expected = generate()
    assert {name: (HERE / name).read_text() for name in expected} == expected
    assert {f"json/{name}.json" for name in BOARDS} == {name for name in expected if name.startswith("json/")}


def test_provisioning_holds_no_credential() -> None:
    """Addresses, user and password come from the environment of Grafana."""
    sources = yaml.safe_load((HERE / "provisioning/datasources/datasources.yaml").read_text())["datasources"]
    clickhouse, prometheus = sources
    assert [clickhouse["uid"], prometheus["uid"]] == ["clickhouse", "prometheus"]
    assert clickhouse["secureJsonData"] == {"password": "$CLICKHOUSE_PASSWORD"}
    assert clickhouse["jsonData"]["host"].startswith("$")
    assert prometheus["url"].startswith("$")


@pytest.mark.parametrize("name", BOARDS)
def test_panels_fill_the_grid(name: str) -> None:
    """No two panels overlap, none leaves the 24 columns, and no row has a gap."""
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        grid = panel["gridPos"]
        cells = set(
            product(
                range(grid.get("x", 0), grid.get("x", 0) + grid["w"]),
                range(grid.get("y", 0), grid.get("y", 0) + grid["h"]),
            )
        )
        assert not cells & taken, f"{panel['title']} overlaps another panel"
        taken |= cells
    assert taken == set(product(range(24), range(max(y for _, y in taken) + 1)))


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_ids_of_their_own(name: str) -> None:
    """A link to one panel keeps working after the next `make dashboards`."""
    ids = [panel["id"] for panel in BOARDS[name]["panels"]]
    assert ids == list(range(1, len(ids) + 1))


@pytest.mark.parametrize("name", BOARDS)
def test_dashboards_lead_to_each_other(name: str) -> None:
    """The links at the top keep the time range and the variables."""
    (link,) = BOARDS[name]["links"]
    assert (link["type"], link["includeVars"], link["keepTime"]) == ("dashboards", True, True)
    assert set(link["tags"]) <= set(BOARDS[name]["tags"])
    for address in re.findall(r"/d/(tenantwatch-[\w-]+)", json.dumps(BOARDS[name])):
        assert address in {board["uid"] for board in BOARDS.values()}


@pytest.mark.parametrize(
    "panel", [pytest.param(panel, id=f"{name}: {panel['title']}") for name, panel in PANELS]
)
def test_a_panel_says_what_it_shows_and_what_to_do(panel: dict[str, Any]) -> None:
    """Each has a description in three parts, a unit for its numbers and a datasource that exists."""
    see, worry, act = panel["description"].split("\n\n")
    assert see.endswith(".")
    assert worry.startswith("**Worry when** ")
    assert act.startswith("**Do:** ")
    assert panel["datasource"]["uid"] in {"clickhouse", "prometheus"}
    config = panel["fieldConfig"]
    by_type = [
        override["properties"][0]["id"]
        for override in config.get("overrides", [])
        if override["matcher"] == {"id": "byType", "options": "number"}
    ]
    assert config["defaults"].get("unit") or by_type == ["unit"]


# The SQL.


@_each_query()
def test_a_query_shows_what_was_stored(filled: Database, panel: dict[str, Any], sql: str) -> None:
    """Every panel's SQL runs, with every variable at All and with values chosen, and finds the rows."""
    assert any(map(_shows_something, filled.query(expand(sql))))
    every = {
        "tenant": ["board-a", "board-b"],
        "kind": ["auth", "access", "request"],
        "severity": SEVERITIES,
    }
    assert any(map(_shows_something, filled.query(expand(sql, every))))


@_each_query()
def test_a_query_keeps_to_the_time_range(filled: Database, panel: dict[str, Any], sql: str) -> None:
    """In a range that holds no rows, no panel shows any."""
    before = START - timedelta(days=30)
    rows = filled.query(expand(sql, start=before, end=before + timedelta(hours=1)))
    assert not any(map(_shows_something, rows))


@_each_query("$tenant")
def test_a_query_keeps_to_the_tenants_chosen(filled: Database, panel: dict[str, Any], sql: str) -> None:
    """With a tenant chosen that has no rows, no panel shows another tenant's."""
    assert not any(map(_shows_something, filled.query(expand(sql, {"tenant": ["tenant-none"]}))))


def test_every_query_of_a_dashboard_with_tenants_can_be_limited_to_them() -> None:
    """Where there is a choice of tenants, no panel ignores it."""
    for name, board in BOARDS.items():
        if any(variable["name"] == "tenant" for variable in board["templating"].get("list", [])):
            for panel in board["panels"]:
                for target in panel.get("targets", []):
                    assert "$tenant" in target["rawSql"], f"{name}: {panel['title']}"


@_each_query()
def test_columns_are_those_that_the_panel_formats(filled: Database, panel: dict[str, Any], sql: str) -> None:
    """Units, widths and series names are set on columns that the query returns."""
    rows = filled.query(expand(sql))
    columns = set(rows[0])
    named = {
        override["matcher"]["options"]
        for override in panel["fieldConfig"].get("overrides", [])
        if override["matcher"]["id"] == "byName"
    }
    if panel["type"] == "table":
        assert named - {"tenant_id", "severity"} <= columns
    if panel["type"] == "stat":
        assert named <= columns
    label = re.fullmatch(
        r"\$\{__field\.labels\.(\w+)\}", panel["fieldConfig"]["defaults"].get("displayName", "")
    )
    assert label is None or label[1] in columns


@_each_query(panel_type="timeseries")
def test_a_graph_gets_a_series_that_grafana_can_draw(
    filled: Database, panel: dict[str, Any], sql: str
) -> None:
    """Time first and ascending, one value for each time and label, and the format of a time series."""
    assert panel["targets"][0]["format"] == 0
    rows = filled.query(expand(sql))
    assert next(iter(rows[0])) == "bucket"
    times = [row["bucket"] for row in rows]
    assert times == sorted(times)
    keys = [(row["bucket"], *(v for v in row.values() if isinstance(v, str))) for row in rows]
    assert len(keys) == len(set(keys))


def test_tenants_can_be_chosen_by_name(filled: Database) -> None:
    """The list of tenants has each living tenant once: its id as the value, its present name to read."""
    variable = BOARDS["overview"]["templating"]["list"][0]
    rows = filled.query(expand(variable["query"]["rawSql"]))
    ours = [tuple(row.values()) for row in rows if row["tenant_id"].startswith("board-")]
    assert ours == [
        ("board-a", "Alpha (board-a)"),
        ("board-b", "Beta (board-b)"),
    ]


def test_every_detector_has_its_panels() -> None:
    """The detectors that panels ask for by name are those that there are."""
    asked = set(re.findall(r"detector = '(\w+)'", json.dumps(BOARDS)))
    assert asked == {detector.name for detectors in new_detectors().values() for detector in detectors}


def test_an_alert_counts_once_with_its_present_severity(filled: Database) -> None:
    """An alert that rose from high to critical is one critical alert, also when only high is chosen."""
    (row,) = _rows(filled, "Open alerts", "overview")
    assert row == {"critical": 1, "high": 1, "medium": 2, "low": 2}
    (row,) = _rows(filled, "Open alerts", "failed-logins")
    assert row == {"critical": 1, "high": 0, "medium": 0, "low": 1}
    (row,) = _rows(filled, "Open alerts", "failed-logins", severity=["high"])
    assert row == {"critical": 0, "high": 0, "medium": 0, "low": 0}


def test_the_alerts_table_starts_with_the_worst(filled: Database) -> None:
    """Open alerts come before resolved ones, the worst first."""
    rows = _rows(filled, "Alerts", "overview")
    assert [row["severity"] for row in rows] == ["critical", "high", *["medium"] * 2, *["low"] * 2, "medium"]
    assert [row["status"] == "resolved" for row in rows] == [*[False] * 6, True]


def test_a_kind_that_is_not_chosen_is_left_out(filled: Database) -> None:
    """The overview counts only the kinds chosen."""
    (row,) = _rows(filled, "Events", "overview", kind=["auth"])
    assert row == {"events": 8}
    assert _rows(filled, "Dead letters", "overview", kind=["request"]) == [{"dead_letters": 0}]


def test_failed_logins_are_logins_and_mfa_only(filled: Database) -> None:
    """A failed token refresh is no failed sign-in."""
    assert _rows(filled, "Failed sign-ins", "failed-logins") == [{"failures": 6}]
    (row,) = _rows(filled, "Failed sign-ins", "failed-logins", tenant=["board-b"])
    assert row == {"failures": 1}


def test_the_limit_is_the_tenants_own_or_its_tiers(filled: Database) -> None:
    """120 of the tier's 100 requests, and 30 of the 25 that 50 in half an hour leave for 15 minutes."""
    rows = {
        (row["tenant_id"], row["user_id"]): row
        for row in _rows(filled, "Users near their limit", "rate-breaches")
    }
    one, other = rows["board-a", "user-1"], rows["board-b", "user-1"]
    assert (one["most_requests_in_window"], one["requests_allowed"]) == (120, 100)
    assert one["use_of_limit"] == pytest.approx(1.2)
    assert (other["most_requests_in_window"], other["requests_allowed"]) == (30, 25)
    assert _rows(filled, "Users over their limit", "rate-breaches") == [{"users_over_limit": 3}]


def test_requests_on_both_sides_of_a_fixed_window_count_together(filled: Database) -> None:
    """The windows that a user is looked for in are fixed, the one that counts slides."""
    rows = _rows(filled, "Users near their limit", "rate-breaches", tenant=["board-a"])
    assert {row["user_id"]: row["most_requests_in_window"] for row in rows} == {"user-1": 120, "user-3": 103}


def test_the_graph_has_every_minute_of_the_users_nearest_to_their_limit(filled: Database) -> None:
    """Also those far from their peak, or a line would be drawn across them."""
    rows = _rows(filled, "Use of the limit, ten users nearest to it", "rate-breaches", tenant=["board-a"])
    minutes = {row["bucket"] for row in rows if row["who"] == "board-a / user-3"}
    assert len(minutes) == 4
    assert {row["who"] for row in rows} == {"board-a / user-1", "board-a / user-3"}


def test_an_access_to_the_own_tenant_is_no_crossing(filled: Database) -> None:
    """Only another tenant's resource or token counts, allowed and denied apart."""
    assert _rows(filled, "Cross-tenant accesses", "access-anomalies") == [{"allowed": 1, "denied": 1}]


def test_a_delivery_that_was_given_up_is_no_longer_pending(filled: Database) -> None:
    """Only the newest version of a delivery counts."""
    (row,) = _rows(filled, "Webhooks", "pipeline-health")
    assert row == {"pending": 1, "oldest_s": 69 * 60, "given_up": 1}
