"""The second wall, on a real ClickHouse server: reader and viewer see one tenant, whatever they ask."""

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from store.server_version import hides_keys
from tests.conftest import eventually
from tests.walled_server import (
    LEAK,
    OTHER,
    OWN,
    PLATFORM,
    ROWS,
    Peer,
    Walled,
    query_id_of,
    refusal,
    walled_server,
)

ACCESS_DENIED, READONLY = 497, 164
HEX = 32 * "0"
# What everybody may read of `system`: the program's own vocabulary, and oneself. Whoever updates the engine
# looks at what is new here.
HARMLESS = {
    "aggregate_function_combinators", "codecs", "collations", "completions", "contributors", "current_roles",
    "data_type_families", "database_engines", "databases", "dictionary_layouts", "disk_types",
    "documentation", "enabled_roles", "formats",
    "functions", "keywords", "licenses", "merge_tree_settings", "numbers", "numbers_mt", "one", "privileges",
    "quota_usage", "replicated_merge_tree_settings", "settings", "table_engines", "table_functions",
    "time_zones", "zeros", "zeros_mt",
}  # fmt: skip
# Ways to ask for everybody's rows. Each is answered, with the own tenant's.
CRAFTED = (
    "SELECT tenant_id FROM events",
    "SELECT tenant_id FROM alerts FINAL",
    "SELECT tenant_id FROM tenantwatch.events WHERE true OR tenant_id = 'tenant-b'",
    "SELECT tenant_id FROM events PREWHERE tenant_id != '' WHERE true",
    "SELECT tenant_id FROM events WHERE event_id IN (SELECT event_id FROM events)",
    "SELECT tenant_id FROM alerts WHERE tenant_id IN (SELECT tenant_id FROM events)",
    "SELECT DISTINCT b.tenant_id FROM events AS a JOIN events AS b ON a.kind = b.kind",
    "SELECT DISTINCT b.tenant_id FROM events AS a CROSS JOIN alerts AS b",
    "SELECT b.tenant_id FROM (SELECT 1 AS n) AS a JOIN (SELECT 1 AS n, tenant_id FROM events) AS b USING n",
    "SELECT tenant_id FROM events UNION ALL SELECT tenant_id FROM alerts",
    "SELECT tenant_id FROM events EXCEPT SELECT 'x'",
    "WITH all AS (SELECT * FROM events) SELECT tenant_id FROM all",
    "SELECT tenant_id FROM view(SELECT * FROM events)",
    "SELECT tenant_id FROM merge('tenantwatch', '^events$')",
    "SELECT tenant_id FROM merge('tenantwatch', '^(events|alerts|webhook_endpoints|ledger)$')",
    "SELECT tenant_id FROM (SELECT tenant_id, row_number() OVER (ORDER BY tenant_id) FROM events)",
    "SELECT arrayJoin(groupArray(tenant_id)) FROM events",
    "SELECT tenant_id FROM events ORDER BY tenant_id LIMIT 1 BY tenant_id",
    "SELECT min(tenant_id), max(tenant_id), anyHeavy(tenant_id), topK(9)(tenant_id) FROM events",
    "SELECT tenant_id, count() FROM events GROUP BY GROUPING SETS ((tenant_id), ())",
    "SELECT any(tenant_id), count() FROM events WITH TOTALS",
    "SELECT tenant_id, _part, _partition_id, _partition_value, _table FROM events",
    # ClickHouse lets a subquery set what it likes, also what a read-only user may not.
    "SELECT tenant_id FROM (SELECT tenant_id FROM events SETTINGS log_comment = 'tenant-b', readonly = 0)",
    "WITH a AS (SELECT tenant_id FROM events SETTINGS log_comment = 'tenant-b') SELECT tenant_id FROM a",
    "SELECT tenant_id FROM view(SELECT tenant_id FROM events SETTINGS log_comment = 'tenant-b')",
    # An error for another tenant's row would tell of it. The conditions come after the policy, so none comes.
    "SELECT tenant_id FROM events WHERE throwIf(tenant_id = 'tenant-b') = 0",
    "SELECT tenant_id FROM events PREWHERE throwIf(tenant_id != 'tenant.a_1') = 0",
    "SELECT tenant_id FROM events PREWHERE intDiv(1, tenant_id = 'tenant.a_1') = 1",
    "SELECT tenant_id FROM events ARRAY JOIN [1, throwIf(tenant_id = 'tenant-b')] AS x",
)  # fmt: skip
# Each is refused: for want of a grant, or because nothing may be changed.
FORBIDDEN = (
    "SELECT * FROM remote('127.0.0.1', 'tenantwatch', 'events')",
    "SELECT * FROM remoteSecure('127.0.0.1', 'tenantwatch', 'events')",
    "SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a String')",
    "SELECT * FROM file('events', 'CSV', 'a String')",
    "SELECT * FROM s3('http://127.0.0.1:1/bucket/key', 'CSV', 'a String')",
    "SELECT * FROM mysql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM postgresql('127.0.0.1:1', 'a', 'b', 'c', 'd')",
    "SELECT * FROM sqlite('a', 'b')",
    "SELECT * FROM executable('a', 'CSV', 'a String')",
    "SELECT * FROM loop(tenantwatch, events) LIMIT 9",
    "SELECT * FROM dictionary('events')",
    "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT 1))",
    "SELECT * FROM information_schema.tables",
    "SELECT hasColumnInTable('tenantwatch', 'webhook_endpoints', 'secret')",
    "CREATE VIEW v AS SELECT * FROM events",
    "CREATE MATERIALIZED VIEW v ENGINE = Memory AS SELECT * FROM events",
    "CREATE TEMPORARY TABLE t AS SELECT * FROM events",
    "CREATE TABLE t ENGINE = Merge('tenantwatch', '.*')",
    "CREATE DICTIONARY d (a String) PRIMARY KEY a SOURCE(CLICKHOUSE(TABLE 'events')) LAYOUT(FLAT())",
    "CREATE FUNCTION f AS x -> x",
    "CREATE USER u",
    "CREATE ROW POLICY p ON events USING 1 TO ALL",
    "ALTER ROW POLICY p ON events USING 1",
    "ALTER USER CURRENT_USER SETTINGS readonly = 0",
    "GRANT SELECT ON tenantwatch.* TO CURRENT_USER",
    "INSERT INTO events (tenant_id) VALUES ('tenant-b')",
    "INSERT INTO FUNCTION url('http://127.0.0.1:1/', 'CSV', 'a String') SELECT tenant_id FROM events",
    "ALTER TABLE events DELETE WHERE true",
    "ALTER TABLE events UPDATE reason = 'x' WHERE true",
    "ALTER TABLE events ADD COLUMN x String",
    "ALTER TABLE events ADD PROJECTION p (SELECT * ORDER BY user_id)",
    "DELETE FROM events WHERE true",
    "TRUNCATE TABLE events",
    "DROP TABLE events",
    "DETACH TABLE events",
    "RENAME TABLE events TO mine",
    "EXCHANGE TABLES events AND alerts",
    "OPTIMIZE TABLE events FINAL",
    "CHECK TABLE events",
    "BACKUP TABLE events TO Disk('default', 'x')",
    "KILL QUERY WHERE true",
    "SYSTEM FLUSH LOGS",
    "SYSTEM SHUTDOWN",
    "SHOW PROCESSLIST",
    "SHOW ACCESS",
    "SHOW USERS",
    "SHOW ROW POLICIES",
    "SHOW CREATE TABLE webhook_endpoints",
    "DESCRIBE TABLE webhook_endpoints",
    "DESCRIBE (SELECT * FROM ledger)",
    "EXISTS TABLE webhook_endpoints",
    "EXPLAIN SELECT * FROM webhook_endpoints",
    "SELECT count() FROM webhook_endpoints",
    "SELECT 1 FROM ledger",
    "USE system",
    "SET log_comment = 'tenant-b'",
    "SET readonly = 0",
    "SELECT tenant_id FROM events SETTINGS log_comment = 'tenant-b'",
    "SELECT tenant_id FROM events SETTINGS readonly = 2",
    "SELECT tenant_id FROM events SETTINGS additional_result_filter = '1'",
    "SELECT tenant_id FROM events SETTINGS max_block_size = 1",
)  # fmt: skip
# They are answered, and tell how the own table is built.
TELLING = (
    "DESCRIBE TABLE events",
    "SHOW CREATE TABLE events",
    "SHOW GRANTS",
    "SHOW TABLES",
    "SHOW COLUMNS FROM events",
    "EXPLAIN SELECT * FROM events",
    "EXPLAIN SYNTAX SELECT * FROM events",
    "EXPLAIN QUERY TREE SELECT * FROM events",
    "EXPLAIN PIPELINE SELECT * FROM events",
    "EXPLAIN indexes = 1 SELECT * FROM events WHERE user_id = 'x'",
    "SELECT * FROM system.tables",
    "SELECT * FROM system.columns",
    "SELECT total_rows, total_bytes FROM system.tables WHERE name = 'events'",
)  # fmt: skip


@pytest.fixture(scope="module")
def walled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walled]:
    """One server for the module; nothing that is asked here changes what it holds."""
    with walled_server(tmp_path_factory.mktemp("walled")) as running:
        before = running.counts()
        yield running
        assert running.counts() == before


@pytest.fixture(params=["reader", "viewer"])
def peer(walled: Walled, request: pytest.FixtureRequest) -> Peer:
    return walled.peers[str(request.param)]


@pytest.fixture
def reader(walled: Walled) -> Peer:
    return walled.peers["reader"]


@pytest.fixture
def viewer(walled: Walled) -> Peer:
    return walled.peers["viewer"]


# Every table.


def test_every_table_is_refused_or_shows_the_own_rows_only(walled: Walled, peer: Peer) -> None:
    """Also the table of the next migration: without a policy, or a tenant, it must not be granted."""
    verdicts = {}
    for table, has_tenant in walled.tables.items():
        answer = peer.ask(f"SELECT * FROM {table} FORMAT JSONEachRow")
        if refusal(answer) == ACCESS_DENIED:
            verdicts[table] = "refused"
        elif has_tenant and answer.text.count(OWN) and not LEAK.search(answer.text):
            verdicts[table] = "filtered"
        else:
            verdicts[table] = f"leaks: {answer.text[:300]}"
    granted = peer.granted()
    assert verdicts == {table: "filtered" if table in granted else "refused" for table in walled.tables}


def test_what_is_granted_has_a_policy(walled: Walled, peer: Peer) -> None:
    """And the other way round; both are tables that say whose their rows are."""
    assert peer.granted() == peer.filtered()
    assert peer.granted() <= {table for table, has_tenant in walled.tables.items() if has_tenant}


def test_no_secrets_are_granted(walled: Walled, peer: Peer) -> None:
    """Those of webhooks and refresh tokens are the writer's alone; keys are no viewer's business."""
    assert not peer.granted() & {"webhook_endpoints", "refresh_tokens", "single_uses", "tenant_keys"}
    assert peer is walled.peers["reader"] or not peer.granted() & {"api_keys", "vault", "privacy_log"}


def test_a_viewer_may_read_what_the_dashboards_read(walled: Walled, viewer: Peer) -> None:
    """Of Grafana's tables, all those whose rows are some tenant's."""
    grafana = Peer("", walled.peers["reader"].file.with_name("grafana.xml"), None)
    assert viewer.granted() == {table for table in grafana.granted() if walled.tables[table]}


def test_the_others_see_everybody(walled: Walled) -> None:
    """A policy for one user hides nothing from the writer, nor from the platform's Grafana."""
    grafana = Peer(
        walled.server.url_of("grafana", "GRAFANA_CLICKHOUSE_PASSWORD").removesuffix("/tenantwatch"),
        walled.peers["viewer"].file,
        None,
    )
    for count in (
        walled.counts()["events"],
        grafana.rows("SELECT toUInt32(count()) AS n FROM events")[0]["n"],
    ):
        assert count == sum(len(days) for days in ROWS.values())


# What is asked.


@pytest.mark.parametrize("sql", CRAFTED)
def test_a_crafted_query_finds_the_own_rows_only(peer: Peer, sql: str) -> None:
    """The policy is applied wherever in a query the table stands, and before its conditions."""
    answer = peer.ask(sql)
    assert answer.status_code == 200, answer.text
    assert OWN in answer.text
    assert not LEAK.search(answer.text)


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_what_is_more_than_reading_is_refused(peer: Peer, sql: str) -> None:
    """And changes nothing, as the end of the module checks."""
    answer = peer.ask(sql)
    assert refusal(answer) in (ACCESS_DENIED, READONLY), answer.text
    assert "row_of" not in answer.text


@pytest.mark.parametrize("sql", TELLING)
def test_what_describes_a_table_tells_of_no_row(peer: Peer, sql: str) -> None:
    """Not even how many there are."""
    answer = peer.ask(sql)
    assert answer.status_code == 200, answer.text
    assert not re.search("tenant-b|row_of", answer.text)
    if "system." in sql:
        assert answer.text == ""


def test_counts_and_extremes_are_the_own(peer: Peer) -> None:
    """What the engine could answer from a part's metadata, it does not."""
    [row] = peer.rows(
        "SELECT toUInt32(count()) AS n, toUInt32(uniqExact(user_id)) AS users, "
        "toUInt32(countIf(tenant_id != {own:String})) AS others, "
        "date_diff('day', min(ingest_time), max(ingest_time)) AS days FROM events",
        param_own=OWN,
    )
    own = len(ROWS[OWN])
    assert row == {"n": own, "users": own, "others": 0, "days": 0}
    assert peer.rows("SELECT toUInt32(count()) AS n FROM events") == [{"n": own}]
    assert peer.rows("SELECT toUInt32(count()) AS n FROM events WHERE tenant_id = 'tenant-b'") == [{"n": 0}]


def test_an_error_shows_no_other_row(peer: Peer) -> None:
    """A conversion fails at the first row that is read, and quotes it: an own one."""
    answer = peer.ask("SELECT toUInt64(user_id) FROM events")
    assert "row_of" in answer.text
    assert "tenant-b" not in answer.text


def test_the_system_tables_tell_of_nobody(walled: Walled, peer: Peer) -> None:
    """Each is refused, empty, or about the program itself; a running query of another tenant is in none."""
    names = [
        row["name"] for row in walled.writer.query("SELECT name FROM system.tables WHERE database = 'system'")
    ]
    assert {"processes", "parts", "tables", "users", "row_policies"} <= set(names)
    other = walled.peers["reader"]
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            other.ask(
                "SELECT sleepEachRow(0.05) FROM numbers(40)",
                query_id=query_id_of(OTHER),
            )

    running = "SELECT query FROM system.processes WHERE startsWith(query_id, 'tenant-b/')"
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(keep_asking)
        try:
            eventually(lambda: walled.writer.query(running))
            answers = {
                name: peer.ask(f"SELECT * FROM system.{name} LIMIT 10000 FORMAT JSONEachRow")
                for name in names
            }
        finally:
            stop.set()
        asking.result(60)
    assert not [name for name, answer in answers.items() if re.search("tenant-b|row_of", answer.text)]
    answered = {name for name, answer in answers.items() if answer.status_code == 200 and answer.text}
    assert answered <= HARMLESS


def test_the_primary_index_is_not_shown(walled: Walled, peer: Peer) -> None:
    """It holds keys of every tenant's rows. Engines that `hides_keys` knows do show it."""
    answer = peer.ask("SELECT * FROM mergeTreeIndex('tenantwatch', 'events')")
    if refusal(answer) is None:
        text = str(walled.writer.query("SELECT version() AS v")[0]["v"])
        assert not hides_keys(text), text
        pytest.xfail(f"ClickHouse {text} shows the primary index whatever the row policies")


# Whose the rows are.


@pytest.mark.parametrize(
    "query_id",
    ["", "x", OTHER, f"{OTHER}/", f"{OTHER}/x", f"/{HEX}", f"//{HEX}", f"%/{HEX}", f" {OTHER}/{HEX}",
     f"{OTHER}/{OTHER}/{HEX}", f"{OTHER}/{HEX}/", f"{OTHER}%2F{HEX}", f"x\n{OTHER}/{HEX}"],
)  # fmt: skip
def test_the_reader_shows_nothing_unless_the_id_names_a_tenant(
    walled: Walled, reader: Peer, query_id: str
) -> None:
    """Not the platform's rows either, whose tenant is empty."""
    assert PLATFORM in ROWS
    for table in reader.granted():
        answer = reader.ask(f"SELECT * FROM {table}", query_id=query_id)
        assert (answer.status_code, answer.text) == (200, ""), table


def test_the_reader_follows_the_id(reader: Peer) -> None:
    """The same user, two tenants, at the same time: each query shows its own."""

    def ask(tenant_id: str) -> set[str]:
        rows = reader.rows("SELECT tenant_id FROM events", query_id=query_id_of(tenant_id))
        return {row["tenant_id"] for row in rows}

    with ThreadPoolExecutor(4) as pool:
        asked = [OWN, OTHER] * 50
        assert list(pool.map(ask, asked)) == [{tenant_id} for tenant_id in asked]


def test_the_reader_may_set_nothing(reader: Peer) -> None:
    """So that nothing in a query's text or parameters changes what it sees."""
    assert reader.rows("SELECT name FROM system.settings WHERE NOT readonly") == []
    for name, value in (("log_comment", OTHER), ("readonly", "0"), ("max_execution_time", "1")):
        assert refusal(reader.ask("SELECT 1", **{name: value})) == READONLY


def test_a_viewer_sees_its_tenant_whatever_it_sends(viewer: Peer) -> None:
    """A comment, an id, a quota key or a role of another tenant's changes nothing."""
    for params in ({"quota_key": OTHER}, {"query_id": query_id_of(OTHER)}):
        assert {row["tenant_id"] for row in viewer.rows("SELECT tenant_id FROM events", **params)} == {OWN}
    for params in (
        {"log_comment": OTHER},
        {"user": "tenantwatch"},
        {"role": "tenantwatch"},
        {"readonly": "0"},
    ):
        answer = viewer.ask("SELECT tenant_id FROM events", **params)
        assert answer.status_code != 200
        assert "tenant-b" not in answer.text.replace(OTHER, "", params.get("log_comment", "").count(OTHER))


def test_a_viewer_may_set_the_time_limit_only(viewer: Peer) -> None:
    """Which Grafana sends with each query; up to two minutes."""
    changeable = viewer.rows("SELECT name FROM system.settings WHERE NOT readonly")
    assert changeable == [{"name": "max_execution_time"}]
    assert viewer.ask("SELECT 1", max_execution_time="120").text == "1\n"
    assert refusal(viewer.ask("SELECT 1", max_execution_time="121")) is not None


def test_a_password_is_a_viewer_s_own(walled: Walled, viewer: Peer) -> None:
    """It opens no other user."""
    for name in ("tenantwatch", "tenantwatch_reader", "grafana", "viewer_tenant-b"):
        address = viewer.address.replace(viewer.file.stem, name)
        assert Peer(address, viewer.file, None).ask("SELECT 1").status_code in (401, 403)
