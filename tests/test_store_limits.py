"""What the store takes at once, engine or server: blocks of many months, lists of many ids."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from schemas.alert import Entity, rfc3339
from schemas.tenant import Tenant
from store.database import Database
from store.holds import place
from store.queries import PlatformContext, Reader, TenantContext
from store.retention import run_retention
from store.seals.trail import StoredTrail
from store.tail import Tail
from store.tenant_keys import TenantKey
from store.vault import Subject, Vault
from store.vault_expiry import expire_people
from store.webhook_rows import Delivery
from store.webhooks import WebhookStore
from store.writer import EventWriter
from streams.directory import Entry
from streams.tenant_rows import tenant_row
from tests.api_server import MASTERS
from tests.schema_examples import event
from tests.stored import IDS, alert_at, store_events

# As a list in one parameter, ids of 36 characters are more than a server takes.
MANY = 4_000
NOW = datetime.now(UTC)


@pytest.fixture
def names(each_store: Database) -> Iterator[list[str]]:
    """Ids that no other test has, in the order in which parts come; no tenant has them afterwards."""
    yield sorted(f"many-{uuid4()}" for _ in range(MANY))
    # Other tests list the tenants of this store, and a list ends somewhere.
    each_store.command(
        "ALTER TABLE tenants DELETE WHERE startsWith(tenant_id, 'many-') SETTINGS mutations_sync = 2"
    )


def test_alerts_of_many_months_are_stored_together(each_store: Database) -> None:
    """An imported log of years raises them; one tenant's must not keep everybody's out of the store."""
    times = [datetime(1990 + month // 12, month % 12 + 1, 5, tzinfo=UTC) for month in range(130)]
    EventWriter(each_store, IDS).insert_alerts([alert_at("old-logs", time) for time in times])
    found = each_store.query(
        "SELECT detected_at FROM alerts FINAL WHERE tenant_id = 'old-logs' ORDER BY detected_at"
    )
    assert [row["detected_at"] for row in found] == times


def test_thousands_of_webhooks_are_cancelled_and_listed(each_store: Database, names: list[str]) -> None:
    """A receiver that was down has as many to supersede; nobody's would be sent until they are."""
    webhooks = WebhookStore(each_store)
    tenant_id = f"hooks-{uuid4().hex[:8]}"
    webhooks.enqueue(
        [
            Delivery(
                name, "ep", tenant_id, name, 1, "alert.updated", 0, "pending", "", 1, NOW, NOW, body="{}"
            )
            for name in names
        ]
    )
    webhooks.cancel(names, "superseded")
    logged = webhooks.deliveries(tenant_id, limit=MANY)
    assert {(one.delivery.status, one.delivery.status_reason) for one in logged} == {
        ("cancelled", "superseded")
    }
    assert len(logged) == MANY


def test_a_tail_of_thousands_of_tenants_is_read_with_their_settings(
    each_store: Database, names: list[str]
) -> None:
    """Or a partition that has so many would never be taken over."""
    settings = [Tenant(tenant_id=name, organization_id="o", name=name, region="north") for name in names]
    each_store.insert_rows("tenants", [tenant_row(one.tenant_id, Entry(one, 0), 0) for one in settings])
    settings_of = frozenset(names)  # other tests have events in this store, too
    first = store_events(each_store, *(event(tenant_id=name) for name in names))
    batches = Tail(each_store, IDS, lambda _: None).batches("auth", "audit.auth", 3, first, first + MANY)
    assert {
        tenant.tenant_id: tenant.region
        for batch in batches
        for tenant in batch.tenants
        if tenant.tenant_id in settings_of
    } == dict.fromkeys(names, "north")


def test_settings_of_thousands_of_tenants_are_asked_for(each_store: Database, names: list[str]) -> None:
    """A file of events may speak of so many."""
    each_store.insert_rows(
        "tenants",
        [
            tenant_row(name, Entry(Tenant(tenant_id=name, organization_id="o", name="n"), 0), 0)
            for name in names
        ],
    )
    found = Reader(each_store, PlatformContext("test")).tenants(names)
    assert [one["tenant_id"] for one in found] == names


def test_thousands_of_people_leave_the_vault_together_and_thousands_are_held(each_store: Database) -> None:
    """They are noted first; were they not deleted then, they would be noted again each hour."""
    tenant = TenantContext(f"leaving-{uuid4().hex[:8]}")
    vault = Vault(each_store, MASTERS)
    people = [
        Subject(tenant.tenant_id, vault.pseudonym(tenant.tenant_id, original), original, 1)
        for original in (f"u{n}@example.com" for n in range(2 * MANY + 2_000))
    ]
    vault.keep(people)
    held = {one.pseudonym for one in people[: MANY + 1_000]}
    hold = {
        "tenant_id": tenant.tenant_id, "reason": "r", "placed_by": "a", "placed_at": NOW, "released": 0,
        "changed_by": "a", "changed_at": NOW,
    }  # fmt: skip
    each_store.insert_rows("legal_holds", [{**hold, "hold_id": one, "pseudonym": one} for one in held])
    told: list[str] = []
    vault.on_shredded.append(lambda who: told.extend(one.pseudonym for one in who))
    expire_people(each_store, vault, NOW + timedelta(days=2))
    left = {one.pseudonym for one in people} - set(told)
    assert left == held
    scope, bound = tenant.condition()
    rows = each_store.query(f"SELECT pseudonym FROM vault WHERE {scope}", bound)
    assert {row["pseudonym"] for row in rows} == held
    # What verification asks, of those who were forgotten.
    assert StoredTrail(each_store).rows_with(tenant.tenant_id, sorted(told)) == 0


def test_retention_passes_over_thousands_of_people_on_hold(each_store: Database) -> None:
    """Their events and alerts stay, everybody else's go: those between them too."""
    tenant, old = TenantContext(f"holding-{uuid4().hex[:8]}"), NOW - timedelta(days=400)
    vault = Vault(each_store, MASTERS)
    # As pseudonyms, and as they are where a tenant keeps them so.
    named = [f"u{n}@example.com" for n in range(MANY + 1_000)]
    held = [vault.pseudonym(tenant.tenant_id, one) if n % 2 else one for n, one in enumerate(named)]
    place(each_store, tenant, held[0], held[1:], reason="r", actor="a", now=NOW)
    there = [who for n in range(0, len(held), 5) for who in (held[n], f"free-{n}")]
    aged = {"tenant_id": tenant.tenant_id, "time": rfc3339(old)}
    store_events(
        each_store,
        *(event("auth", **aged, event_id=f"e-{n}", user_id=who) for n, who in enumerate(there)),
        ingest_time=old,
    )
    alerts = [
        alert_at(tenant.tenant_id, old, entity=Entity(type="user_id", value=who)) for who in there[:100]
    ]
    EventWriter(each_store, IDS).insert_alerts(alerts)
    run_retention(each_store, NOW)
    scope, bound = tenant.condition()
    for table, column, kept in (("events", "user_id", there[::2]), ("alerts", "entity_value", there[:100:2])):
        left = each_store.query(f"SELECT {column} AS who FROM {table} WHERE {scope}", bound)
        assert sorted(row["who"] for row in left) == sorted(kept)


def test_keys_of_thousands_of_tenants_are_read_and_dropped(each_store: Database) -> None:
    """Also of ids as long as the contract allows."""
    keys = Vault(each_store, MASTERS).keys
    found = keys.of([f"{n:064}" for n in range(MANY)])
    assert len(found) == MANY
    keys.drop([TenantKey("t", f"{n:016}", b"", NOW) for n in range(2 * MANY)])
