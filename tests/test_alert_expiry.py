"""Alerts leave the store as events do: after the tenant's longest retention, with what hangs on them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from schemas.alert import Alert
from schemas.event import Kind
from schemas.tenant import Tenant
from store.alert_notes import add_note
from store.database import Database, StoreUnavailable
from store.holds import place
from store.privacy import Privacy
from store.queries import TenantContext
from store.retention import run_retention
from store.vault import Subject, Vault
from store.vault_expiry import expire_people
from store.webhook_rows import Attempt, Delivery
from store.webhooks import PLATFORM, WebhookStore
from streams.tenant_rows import tenant_row
from streams.webhooks import message
from tests.api_server import MASTERS
from tests.schema_examples import event
from tests.sealed_trail import SealedTrail
from tests.stored import store_alert, store_events

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
# In the order in which they are deleted.
TABLES = ("webhook_attempts", "webhook_deliveries", "alert_notes", "alerts")


@pytest.fixture
def tenant_id() -> str:
    return f"expiry-{uuid4().hex[:8]}"


def keep_for(database: Database, tenant_id: str, days: int | dict[Kind, int], version: int = 1) -> None:
    """Set a tenant's retention, as `tenants apply` does."""
    body = Tenant(tenant_id=tenant_id, organization_id="o", name="n", retention_days=days)
    row = {"tenant_id": tenant_id, "version": version, "body": body.model_dump_json(), "applied_at": NOW}
    database.insert_rows("tenants", [row])


def raise_alert(database: Database, tenant_id: str, alert_id: str, *ages_days: int, **fields: Any) -> Alert:
    """Store a revision of an alert for each age, the oldest first."""
    for revision, days in enumerate(ages_days, 1):
        at = NOW - days * DAY
        times = {"first_time": at, "last_time": at, "detected_at": at, "published_at": at, **fields}
        told = store_alert(database, tenant_id, alert_id=alert_id, revision=revision, **times)
    return told


def deal_with(database: Database, alert: Alert, endpoint_tenant_id: str) -> None:
    """Note something on an alert, and deliver it to an endpoint, with an attempt."""
    of = {"tenant_id": alert.tenant_id, "alert_id": alert.alert_id}
    add_note(database, **of, action="comment", text="a test of ours", created_by="ben", now=NOW)
    endpoint_id = f"ep-of-{endpoint_tenant_id}"
    delivery = Delivery(
        delivery_id=message.delivery_id(endpoint_id, alert),
        endpoint_id=endpoint_id,
        tenant_id=endpoint_tenant_id,
        alert_id=alert.alert_id,
        revision=alert.revision,
        event_type=message.event_type(alert),
        kafka_partition=0,
        status="delivered",
        status_reason="",
        attempts=0,
        next_attempt_at=NOW,
        created_at=NOW,
        body=message.alert_body(alert),
    )
    webhooks = WebhookStore(database)
    webhooks.enqueue([delivery])
    attempt = Attempt(delivery.delivery_id, endpoint_id, endpoint_tenant_id, 1, NOW, 12, 204, "")
    webhooks.record_attempts([(delivery, attempt)])


def left(database: Database, tenant_id: str, table: str = "alerts") -> set[str]:
    """Return which alerts of a tenant have rows in a table; of attempts, its own deliveries that have."""
    column, which = "alert_id", "tenant_id = {t:String}"
    if table == "webhook_deliveries":
        which = "JSONExtractString(body, 'data', 'tenant_id') = {t:String}"
    elif table == "webhook_attempts":
        column = "delivery_id"
    rows = database.query(f"SELECT DISTINCT {column} AS id FROM {table} WHERE {which}", {"t": tenant_id})
    return {row["id"] for row in rows}


def removed(database: Database, tenant_id: str) -> list[dict[str, Any]]:
    return database.query(
        "SELECT kind, retention_days, rows_removed FROM retention_runs WHERE tenant_id = {t:String} "
        "ORDER BY run_at, kind",
        {"t": tenant_id},
    )


def test_an_alert_is_kept_as_long_as_the_events_that_are_kept_longest(
    each_store: Database, tenant_id: str
) -> None:
    """It explains events of any kind; its age is that of its last revision."""
    keep_for(each_store, tenant_id, {"auth": 30, "access": 90, "request": 7})
    raise_alert(each_store, tenant_id, "old", 120, 100)
    raise_alert(each_store, tenant_id, "young", 60)
    raise_alert(each_store, tenant_id, "went on", 120, 80)
    run_retention(each_store, NOW)
    assert left(each_store, tenant_id) == {"young", "went on"}
    [kept] = each_store.query(
        "SELECT count() AS n FROM alerts WHERE tenant_id = {t:String} AND alert_id = 'went on'",
        {"t": tenant_id},
    )
    assert kept["n"] == 2, "all revisions of it"
    assert removed(each_store, tenant_id) == [{"kind": "alert", "retention_days": 90, "rows_removed": 1}]


def test_a_tenant_without_settings_keeps_alerts_for_a_year(each_store: Database, tenant_id: str) -> None:
    """As its events."""
    raise_alert(each_store, tenant_id, "old", 366)
    raise_alert(each_store, tenant_id, "young", 364)
    run_retention(each_store, NOW)
    assert left(each_store, tenant_id) == {"young"}


def test_an_alert_about_imported_events_is_kept_as_long_as_these(
    each_store: Database, tenant_id: str
) -> None:
    """It is as young as when it was told: not gone in the minute after the import."""
    keep_for(each_store, tenant_id, 30)
    raise_alert(each_store, tenant_id, "imported", 400, published_at=NOW - DAY)
    run_retention(each_store, NOW)
    assert left(each_store, tenant_id) == {"imported"}


def test_what_hangs_on_an_alert_goes_with_it(each_store: Database, tenant_id: str) -> None:
    """Notes, and deliveries to the tenant and to the platform, whose bodies are the alert once more."""
    keep_for(each_store, tenant_id, 30)
    other = f"{tenant_id}-b"
    keep_for(each_store, other, 365)
    for endpoint_of in (tenant_id, PLATFORM):
        deal_with(each_store, raise_alert(each_store, tenant_id, "old", 40), endpoint_of)
        deal_with(each_store, raise_alert(each_store, tenant_id, "young", 20), endpoint_of)
    deal_with(each_store, raise_alert(each_store, other, "old", 40), PLATFORM)
    before = each_store.query("SELECT count() AS n FROM webhook_attempts")[0]["n"]
    run_retention(each_store, NOW)
    for table in TABLES[1:]:
        assert left(each_store, tenant_id, table) == {"young"}, table
        assert left(each_store, other, table) == {"old"}, f"{table}: an id is a tenant's own"
    assert len(left(each_store, tenant_id, "webhook_attempts")) == 1, "of the young one"
    assert each_store.query("SELECT count() AS n FROM webhook_attempts")[0]["n"] == before - 2


@pytest.mark.parametrize(
    ("whom", "kept"),
    [("ana", {"of ana", "about ana"}), ("", {"of ana", "about ana", "of ben"})],
    ids=["a person", "the whole tenant"],
)
def test_a_legal_hold_keeps_alerts_too(
    each_store: Database, tenant_id: str, whom: str, kept: set[str]
) -> None:
    """Those that speak of the person in any revision, with what hangs on them; after the release they go."""
    vault = Vault(each_store, MASTERS)
    rights, tenant = Privacy(each_store, vault), TenantContext(tenant_id)
    ana, ben = (vault.pseudonym(tenant_id, f"{name}@example.com") for name in ("ana", "ben"))
    keep_for(each_store, tenant_id, 30)
    for alert_id, who in (("of ana", ana), ("of ben", ben)):
        entity = {"type": "user_id", "value": who}
        deal_with(each_store, raise_alert(each_store, tenant_id, alert_id, 40, entity=entity), PLATFORM)
    raise_alert(each_store, tenant_id, "about ana", 50, summary=f"logins of {ana}")
    at = NOW - 40 * DAY
    told = store_alert(each_store, tenant_id, alert_id="about ana", revision=2, last_time=at, published_at=at)
    deal_with(each_store, told, PLATFORM)
    officer = {"actor": "officer", "reason": "case 4"}
    hold = place(each_store, tenant, ana if whom else "", **officer, now=NOW)
    run_retention(each_store, NOW)
    for table in TABLES[1:]:
        assert left(each_store, tenant_id, table) == kept, table
    rights.release(tenant, [hold.hold_id], **officer, now=NOW)
    run_retention(each_store, NOW + DAY)
    assert [left(each_store, tenant_id, table) for table in TABLES] == [set()] * 4


@pytest.mark.parametrize("done", range(4))
def test_a_run_that_was_cut_short_between_tables_is_finished_and_counted_once(
    database: Database, tenant_id: str, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was deleted before the crash, the rest is found again."""
    keep_for(database, tenant_id, 30)
    deal_with(database, raise_alert(database, tenant_id, "old", 40), tenant_id)
    run_retention(database, NOW - 11 * DAY)  # what other tests left
    go_on, deleted = database.command, list[str]()

    def crash(sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        if len(deleted) == done:
            raise StoreUnavailable("the process was killed")
        deleted.append(sql)
        go_on(sql, parameters)

    monkeypatch.setattr(database, "command", crash)
    with pytest.raises(StoreUnavailable):
        run_retention(database, NOW + timedelta(hours=1 + done))
    monkeypatch.undo()
    run_retention(database, NOW + DAY)
    assert [left(database, tenant_id, table) for table in TABLES] == [set()] * 4
    assert removed(database, tenant_id) == [{"kind": "alert", "retention_days": 30, "rows_removed": 1}]


def test_settings_that_change_hold_for_what_is_stored_already(each_store: Database, tenant_id: str) -> None:
    """Shortened, they remove more with the next run; lengthened, they keep what is left for longer."""
    kinds: tuple[Kind, ...] = ("auth", "access")
    for kind in kinds:
        for days in (20, 40):
            at = NOW - days * DAY
            aged = event(kind, tenant_id=tenant_id, event_id=f"{kind}-{days}", time=at.isoformat())
            store_events(each_store, aged, ingest_time=at)
    for days in (20, 40):
        raise_alert(each_store, tenant_id, f"alert-{days}", days)

    def ids() -> set[str]:
        events = each_store.query(
            "SELECT event_id FROM events WHERE tenant_id = {t:String}", {"t": tenant_id}
        )
        return {row["event_id"] for row in events} | left(each_store, tenant_id)

    everything = {f"{kind}-{days}" for kind in (*kinds, "alert") for days in (20, 40)}
    run_retention(each_store, NOW)
    assert ids() == everything
    keep_for(each_store, tenant_id, {"auth": 30, "access": 365, "request": 7}, version=1)
    run_retention(each_store, NOW + timedelta(minutes=1))
    assert ids() == everything - {"auth-40"}, "the alerts stay with the access events"
    keep_for(each_store, tenant_id, 30, version=2)
    run_retention(each_store, NOW + timedelta(minutes=2))
    assert ids() == {f"{kind}-20" for kind in (*kinds, "alert")}
    keep_for(each_store, tenant_id, 90, version=3)
    run_retention(each_store, NOW + 60 * DAY)
    assert ids() == {f"{kind}-20" for kind in (*kinds, "alert")}, "they are 80 days old by now"


def test_a_tenant_that_left_the_directory_keeps_its_settings(each_store: Database, tenant_id: str) -> None:
    """Deleting it does not shorten what was agreed to the default."""
    keep_for(each_store, tenant_id, 3_650)
    raise_alert(each_store, tenant_id, "old", 800)
    each_store.insert_rows("tenants", [tenant_row(tenant_id, None, 2)])
    run_retention(each_store, NOW)
    assert left(each_store, tenant_id) == {"old"}


def test_people_whom_only_expired_alerts_named_leave_the_vault(each_store: Database, tenant_id: str) -> None:
    """Before that, the alert keeps them there; the report says what went and why."""
    vault = Vault(each_store, MASTERS)
    rights, tenant = Privacy(each_store, vault), TenantContext(tenant_id)
    original = "ana@example.com"
    ana = vault.pseudonym(tenant_id, original)
    vault.keep([Subject(tenant_id, ana, original, 1)])
    now = datetime.now(UTC)
    store_alert(each_store, tenant_id, summary=f"logins of {ana}", last_time=now, published_at=now)
    keep_for(each_store, tenant_id, 30)
    run_retention(each_store, now + 29 * DAY)
    expire_people(each_store, vault, now + 29 * DAY)
    assert vault.masked(tenant, [ana]) != {}
    run_retention(each_store, now + 31 * DAY)
    expire_people(each_store, vault, now + 31 * DAY)
    assert vault.masked(tenant, [ana]) == {}
    [aged] = rights.report(tenant, now - DAY)["aged_out"]
    assert (aged["kind"], aged["rows_removed"]) == ("alert", 1)
    assert aged["why"] == "older than 30 days, the tenant's longest setting of any kind"


def test_alerts_of_many_tenants_go_in_as_few_statements_as_those_of_one(
    each_store: Database, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by its own tenant's days, though all have one id, and the ids of tenants are as long as may be."""
    run_retention(each_store, NOW)  # what other tests left
    tenants = [f"{tenant_id}-{n:03}".ljust(64, "x") for n in range(400)]
    row = {"version": 1, "applied_at": NOW}
    settings = [
        Tenant(tenant_id=each, organization_id="o", name="n", retention_days=30 + 20 * (n % 2))
        for n, each in enumerate(tenants)
    ]
    bodies = [row | {"tenant_id": one.tenant_id, "body": one.model_dump_json()} for one in settings]
    each_store.insert_rows("tenants", bodies)
    for each in tenants[:2]:
        raise_alert(each_store, each, "a" * 32, 40)
    rows = each_store.query("SELECT * FROM alerts WHERE tenant_id = {t:String}", {"t": tenants[0]})
    each_store.insert_rows("alerts", [{**rows[0], "tenant_id": each} for each in tenants[2:]])
    deal_with(each_store, store_alert(each_store, tenants[0], alert_id="b" * 32, last_time=NOW), PLATFORM)
    go_on, statements = each_store.command, list[str]()

    def count(sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        statements.append(sql)
        go_on(sql, parameters)

    monkeypatch.setattr(each_store, "command", count)
    assert run_retention(each_store, NOW) == len(tenants) // 2
    assert len(statements) <= len(TABLES)
    assert [left(each_store, each) for each in tenants[:4]] == [{"b" * 32}, {"a" * 32}, set(), {"a" * 32}]
    assert removed(each_store, tenants[2]) == [{"kind": "alert", "retention_days": 30, "rows_removed": 1}]
    # More than one statement names.
    many = [{**rows[0], "tenant_id": tenants[0], "alert_id": f"{n:032}"} for n in range(501)]
    each_store.insert_rows("alerts", many)
    assert run_retention(each_store, NOW + timedelta(minutes=1)) == len(many)
    assert left(each_store, tenants[0]) == {"b" * 32}


def test_a_word_that_is_a_person_on_hold_is_nobody_at_another_tenant(
    each_store: Database, tenant_id: str
) -> None:
    """Where user ids are stored as they are, `ana` is somebody else at each."""
    other = f"{tenant_id}-b"
    for each in (tenant_id, other):
        keep_for(each_store, each, 30)
        raise_alert(each_store, each, "of ana", 40, entity={"type": "user_id", "value": "ana"})
    place(each_store, TenantContext(tenant_id), "ana", actor="officer", reason="case 5", now=NOW)
    run_retention(each_store, NOW)
    assert (left(each_store, tenant_id), left(each_store, other)) == ({"of ana"}, set())


def test_alerts_that_went_are_no_matter_of_the_sealed_trail(each_store: Database) -> None:
    """Alerts are not sealed: nothing is missed, and no statement excuses anything."""
    trail = SealedTrail(each_store)
    trail.store(6)
    trail.seal()
    keep_for(each_store, trail.tenant, 30)
    raise_alert(each_store, trail.tenant, "old", 40)
    run_retention(each_store, trail.now, trail.signer)
    assert left(each_store, trail.tenant) == set()
    assert trail.verify().findings == []
