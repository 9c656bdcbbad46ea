"""The application on a server with a reader: what is bound to a tenant cannot see another's rows."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from store import history, holds, privacy_log, reports
from store.alert_notes import notes_of
from store.alert_search import AlertSearch, revisions, search_alerts
from store.api_keys import ApiKeys
from store.backtests import find_backtest, list_backtests
from store.database import SCOPE_TENANT, Database, StoreError, StoreUnavailable
from store.migrations import migrations
from store.queries import PlatformContext, Reader, TenantContext
from store.receipts import Request, answer_of
from store.search import EventSearch, search
from store.webhooks import WebhookStore
from tenantwatch.settings import Settings
from tests.clickhouse_server import ROOT
from tests.walled_server import LEAK, OTHER, OWN, ROWS, Walled, walled_server

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATER = datetime.now(UTC) + timedelta(days=30)
# Texts of rows, which are their ids too.
FIRST = '{{"row_of": "{}", "n": 0}}'
TEXTS = [FIRST.format(OWN), FIRST.format(OTHER)]

# Reads that the API and the command line make for a tenant; each finds something.
READS: dict[str, Callable[[Database, TenantContext], Any]] = {
    "revisions": lambda d, t: revisions(d, t, AlertSearch(published_after=EPOCH), 100),
    "alert": lambda d, t: [Reader(d, t).alert(text) for text in TEXTS],
    "tenants": lambda d, t: Reader(d, t).tenants(),
    "counts": lambda d, t: Reader(d, t).counts(),
    "dead_letters": lambda d, t: Reader(d, t).dead_letters(),
    "dead_letter_counts": lambda d, t: Reader(d, t).dead_letter_counts(),
    "search": lambda d, t: search(d, t, EventSearch(), 100).events,
    "search_alerts": lambda d, t: search_alerts(d, t, AlertSearch(), 100).alerts,
    "activity": lambda d, t: reports.activity(d, reports.Span(t, EPOCH, LATER)),
    "alerting": lambda d, t: reports.alerting(d, reports.Span(t, EPOCH, LATER)),
    "access_review": lambda d, t: reports.access_review(d, reports.Span(t, EPOCH, LATER)),
    "page": lambda d, t: history.page(d, t, "auth", 0, 10**13, 100),
    "versions": lambda d, t: history.versions(d, t),
    "events": lambda d, t: history.events(d, t, "auth", TEXTS),
    "spans": lambda d, t: history.spans(d, t, "auth", [0], 10**13),
    "notes_of": lambda d, t: notes_of(d, t, TEXTS),
    "list_backtests": lambda d, t: list_backtests(d, t, 100),
    "find_backtest": lambda d, t: [find_backtest(d, t, text) for text in TEXTS],
    "holds": lambda d, t: holds.active(d, t),
    "privacy_log": lambda d, t: privacy_log.entries(d, t),
    "deliveries": lambda d, t: WebhookStore(d).deliveries(t.tenant_id),
    "attempts": lambda d, t: [WebhookStore(d).attempts(text, t.tenant_id) for text in TEXTS],
    "api_keys": lambda d, t: ApiKeys(d).listed(t),
}


@pytest.fixture(scope="module")
def walled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walled]:
    """A server with rows of two tenants in every table."""
    with walled_server(tmp_path_factory.mktemp("walled")) as running:
        yield running


@pytest.fixture(scope="module")
def database(walled: Walled) -> Iterator[Database]:
    """The store as the settings open it with a reader."""
    opened = Database.server(walled.server.url, walled.server.reader_url)
    yield opened
    opened.close()


@pytest.fixture
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The condition is missing from every query; only the parameter says for whom it is."""
    monkeypatch.setattr(TenantContext, "condition", lambda self: ("true", {SCOPE_TENANT: self.tenant_id}))


@pytest.mark.parametrize("name", READS)
def test_a_forgotten_condition_shows_no_other_tenant(
    database: Database, forgotten: None, name: str, walled: Walled
) -> None:
    """Without a reader it would show everybody."""
    found, everybody = (READS[name](asked, TenantContext(OWN)) for asked in (database, walled.writer))
    assert found
    assert not LEAK.search(str(found))
    assert found != everybody


@pytest.mark.parametrize("name", READS)
def test_the_reader_answers_as_the_writer_does(database: Database, walled: Walled, name: str) -> None:
    """With the conditions in place nothing is missing."""
    tenant = TenantContext(OWN)
    assert READS[name](database, tenant) == READS[name](walled.writer, tenant)


def test_a_kept_answer_is_the_tenant_s_own(database: Database, forgotten: None) -> None:
    """Another tenant's Idempotency-Key is not known, with a condition or without."""
    request = Request(TenantContext(OWN), FIRST.format(OTHER), "key", b"")
    assert answer_of(database, request, EPOCH) is None


def test_the_operator_still_sees_everybody(database: Database) -> None:
    """What is bound to no tenant goes to the writer."""
    counts = Reader(database, PlatformContext("operator")).counts()
    assert {row["tenant_id"]: row["events"] for row in counts} == {t: len(days) for t, days in ROWS.items()}


def test_tenants_at_once_get_their_own(database: Database, forgotten: None) -> None:
    """Clients are shared between tenants, and nothing of one query stays for the next."""

    def asked(tenant_id: str) -> set[str]:
        return {row["tenant_id"] for row in Reader(database, TenantContext(tenant_id)).counts()}

    tenants = [OWN, OTHER] * 40
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(asked, tenants)) == [{tenant_id} for tenant_id in tenants]


def test_injected_sql_stays_within_the_tenant(database: Database) -> None:
    """Even a query that somebody could write whole: what it says does not change for whom it is."""
    for sql in (
        "SELECT tenant_id FROM events SETTINGS log_comment = 'tenant-b'",
        "SELECT tenant_id FROM (SELECT * FROM events SETTINGS log_comment = 'tenant-b', readonly = 0)",
        "SELECT tenant_id FROM events WHERE tenant_id = {scope_tenant_id:String} OR true",
        "SELECT secret AS tenant_id FROM webhook_endpoints",
    ):
        try:
            found = database.query(sql, {SCOPE_TENANT: OWN})
        except (StoreError, StoreUnavailable):
            continue
        assert {row["tenant_id"] for row in found} == {OWN}


@pytest.mark.parametrize(
    "tenant_id", ["", "a/b", f"{OWN}/x", f"{OWN}/{32 * '0'}", f"{OWN}/", f"{OWN} ", "ä", "' OR true --"]
)
def test_an_odd_tenant_sees_nothing(database: Database, forgotten: None, tenant_id: str) -> None:
    """No id that is not a tenant's leads to some tenant's rows."""
    found = Reader(database, TenantContext(tenant_id)).counts()
    assert [row for row in found if row["tenant_id"] != tenant_id] == []
    assert tenant_id or not found


def test_what_is_asked_for_a_tenant_may_be_read(walled: Walled) -> None:
    """Each table of a module with tenant-bound queries is granted to the reader.

    A module may read other tables in queries that are bound to nobody; those are listed.
    """
    unbound = {"shreddings": {"vault.py"}, "tenant_keys": {"vault.py"}, "webhook_endpoints": {"webhooks.py"}}
    tables = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", "".join(sql for _, _, sql in migrations())))
    granted = walled.peers["reader"].granted()
    missing = {}
    for path in sorted((ROOT / "store").glob("*.py")):
        text = path.read_text()
        if ".condition(" in text:
            named = set(re.findall(r"\b(?:FROM|JOIN) (\w+)", text)) & tables
            missing[path.name] = {t for t in named - granted if path.name not in unbound.get(t, ())}
    assert missing
    assert not {name: tables for name, tables in missing.items() if tables}


def test_a_wrong_password_shows_at_the_start(walled: Walled) -> None:
    """Not when the first tenant asks."""
    wrong = re.sub(r":\w+@", ":wrong@", walled.server.reader_url)
    with pytest.raises(StoreUnavailable, match="tenantwatch_reader"):
        Database.server(walled.server.url, wrong)


def test_a_reader_without_policies_is_noticed(walled: Walled, database: Database) -> None:
    """Somebody may name the writer as the reader."""
    assert database.reader_is_open() is False
    assert walled.writer.reader_is_open() is None
    open_ = Database.server(walled.server.url, walled.server.url)
    assert open_.reader_is_open() is True
    open_.close()


def test_settings_name_the_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its password comes from a variable of its own; it needs a server."""
    monkeypatch.setenv(
        "TENANTWATCH_CLICKHOUSE_READER", "http://tenantwatch_reader@clickhouse:8123/tenantwatch"
    )
    monkeypatch.setenv("TENANTWATCH_CLICKHOUSE_READER_PASSWORD", "p@ss")
    with pytest.raises(ValidationError, match="needs TENANTWATCH_CLICKHOUSE"):
        Settings()
    monkeypatch.setenv("TENANTWATCH_CLICKHOUSE", "http://tenantwatch@clickhouse:8123/tenantwatch")
    settings = Settings()
    assert settings.clickhouse_reader_url == "http://tenantwatch_reader:p%40ss@clickhouse:8123/tenantwatch"
    assert "p@ss" not in repr(settings)
