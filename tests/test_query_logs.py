"""What a ClickHouse server writes down of its queries: nothing that a person could be known by."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from api.v1.originals import _alerts, _events
from schemas.alert import Entity, rfc3339
from schemas.tenant import Tenant
from store.alert_search import AlertSearch, search_alerts
from store.database import Database
from store.history import spans
from store.holds import place
from store.migrations import migrate
from store.privacy import Privacy
from store.queries import TenantContext
from store.retention import run_retention
from store.search import EventSearch, search
from store.vault import Subject, Vault
from tests.api_server import MASTERS
from tests.clickhouse_server import ClickHouseServer
from tests.conftest import eventually
from tests.files import files_holding
from tests.forgetting import contents
from tests.schema_examples import event
from tests.stored import store_alert, store_events

TENANT: Final = Tenant(tenant_id="tenant-a", organization_id="o", name="n")
# No word of ours has it.
ADDRESS: Final = "zqxj-ana@example.com"
NEEDLES: Final = (b"zqxj-ana", b"ZQXJ-ANA")
WHO: Final[dict[str, Any]] = {"actor": "officer", "reason": "request 17"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer]:
    """It writes down all that it can."""
    running = ClickHouseServer(tmp_path_factory.mktemp("logging"), logging=True)
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def database(server: ClickHouseServer) -> Iterator[Database]:
    """The store, opened as the settings do with a reader."""
    opened = Database.server(server.url, server.reader_url)
    migrate(opened)
    yield opened
    opened.close()


def written_down(server: ClickHouseServer, database: Database, *needles: bytes) -> list[str]:
    """Return the tables and files of the server that hold any of some bytes."""
    folder = server.log_path.parent
    files = [str(path.relative_to(folder)) for path in files_holding(folder, *needles)]
    return contents(database, *needles) + files


def test_a_parameter_is_written_down_unless_it_is_private(
    server: ClickHouseServer, database: Database
) -> None:
    """In tables and in the log file, with the query; so the searches below would find one."""
    both = {"x": ["zqxj-seen"], "private_y": ["zqxj-hidden"]}
    [row] = database.query("SELECT {x:Array(String)} AS x, {private_y:Array(String)} AS y", both)
    assert row == {"x": ["zqxj-seen"], "y": ["zqxj-hidden"]}
    logs = {"query_log", "text_log", server.log_path.name}
    eventually(lambda: logs <= set(written_down(server, database, b"zqxj-seen")))
    assert written_down(server, database, b"zqxj-hidden") == []


def test_nothing_of_a_forgotten_person_is_left_in_the_server_s_logs(
    server: ClickHouseServer, database: Database
) -> None:
    """Who was searched for, exported, held and forgotten by their address."""
    vault = Vault(database, MASTERS)
    rights, tenant = Privacy(database, vault), TenantContext(TENANT.tenant_id)
    pseudonym = vault.pseudonym(TENANT.tenant_id, ADDRESS)
    vault.keep([Subject(TENANT.tenant_id, pseudonym, ADDRESS, 1)])
    store_events(database, event("auth", tenant_id=TENANT.tenant_id, event_id="e-1", user_id=pseudonym))
    store_alert(database, TENANT.tenant_id, entity=Entity(type="user_id", value=pseudonym))
    for said in (ADDRESS, ADDRESS.upper()):
        wanted = EventSearch(equal={"user_id": (said,), "resource_id": ("", f"user:{said}")}, texts=(said,))
        assert len(search(database, tenant, _events(vault, TENANT, wanted), 10).events) == 1
        asked = _alerts(vault, TENANT, AlertSearch(entity_values=(said,)))
        assert len(search_alerts(database, tenant, asked, 10).alerts) == 1
        [span] = spans(database, tenant, "auth", [0], 2**42, "user_id", said)
        assert (span["events"], span["of_entity"]) == (1, 0)
        assert rights.unmet(tenant, [said]) == []
        types = [row["type"] for row in rights.export(tenant, [said], **WHO)]
        assert types[:4] == ["subject", "event", "alert", "dealing"]
        hold = rights.hold(tenant, said, now=datetime.now(UTC), **WHO)
        rights.release(tenant, [hold.hold_id], now=datetime.now(UTC), **WHO)
    rights.forget(tenant, [ADDRESS], now=datetime.now(UTC), **WHO)
    assert rights.unmet(tenant, [ADDRESS.upper()]) == []  # the event is still there
    database.query("SELECT {x:String} AS x", {"x": "zqxj-the-last"})
    eventually(lambda: "query_log" in written_down(server, database, b"zqxj-the-last"))
    assert written_down(server, database, *NEEDLES) == []


def test_retention_around_people_on_hold_names_nobody(server: ClickHouseServer, database: Database) -> None:
    """Of a tenant that keeps addresses as they are; neither the logs nor the mutations of the table."""
    tenant, old = TenantContext("tenant-b"), datetime.now(UTC) - timedelta(days=400)
    held, free = "zqxk-bo@example.com", "user-1"
    for n, who in enumerate((free, held, free, held, free)):
        aged = event("auth", tenant_id="tenant-b", event_id=f"e-{n}", user_id=who, time=rfc3339(old))
        store_events(database, aged, ingest_time=old)
    place(database, tenant, held, reason="case 4", actor="officer", now=datetime.now(UTC))
    run_retention(database, datetime.now(UTC))
    kept = database.query("SELECT event_id FROM events WHERE tenant_id = 'tenant-b' ORDER BY event_id")
    assert [row["event_id"] for row in kept] == ["e-1", "e-3"]
    database.query("SELECT {x:String} AS x", {"x": "zqxk-the-last"})
    eventually(lambda: "query_log" in written_down(server, database, b"zqxk-the-last"))
    holding = written_down(server, database, b"zqxk-bo")
    assert [one for one in holding if one.endswith(("_log", ".log", ".txt"))] == []
    commands = database.query("SELECT command FROM system.mutations WHERE table = 'events'")
    assert commands
    assert "zqxk" not in str(commands)
