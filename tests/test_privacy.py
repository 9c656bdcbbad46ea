"""A person's rights in the store: what is exported, that the forgotten are gone, what a hold forbids."""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import EventBatch
from schemas.event import KINDS
from schemas.tenant import PersonalData, Tenant
from store.alert_notes import add_note
from store.certificates import (
    TopicRetention,
    canonical,
    certificate,
    is_untouched,
    raw_copies,
    signing,
    why_not_proven,
)
from store.database import Database, StoreUnavailable
from store.event_expiry import AgedEvents
from store.holds import Held
from store.migrations import migrations, statements
from store.people import FIELDS
from store.privacy import NotPseudonymous, Privacy
from store.privacy_log import entries, record
from store.queries import TenantContext
from store.retention import run_retention
from store.seals.keys import STATEMENT, SealKeys, Signer, Trust
from store.vault import Subject, Vault
from store.vault_expiry import expire_people
from store.writer import EventWriter
from streams.pseudonyms import TEXTS, Pseudonymiser
from tests.api_server import MASTERS
from tests.files import files_holding
from tests.schema_examples import event
from tests.test_store import alert, batch, insert

WHO = {"actor": "officer", "reason": "request 17"}
DAY = timedelta(days=1)
_OFFSETS = count()


@pytest.fixture
def vault(database: Database) -> Vault:
    return Vault(database, MASTERS)


@pytest.fixture
def rights(database: Database, vault: Vault) -> Privacy:
    week_ms = 7 * 24 * 3_600_000
    return Privacy(database, vault, lambda: {"audit.auth": TopicRetention(week_ms, week_ms)})


@pytest.fixture
def tenant() -> TenantContext:
    return TenantContext(f"privacy-{uuid4().hex[:8]}")


def store_events(
    database: Database, vault: Vault, kind: Any, *events: dict[str, Any], settings: PersonalData | None = None
) -> EventBatch:
    """Store events as a worker does: people first."""
    places = np.array([next(_OFFSETS) for _ in events], np.int64)
    given = replace(batch(kind, *events, ingest_time_ms=int(time.time() * 1000)), offset=places)
    tenants = tuple(one.model_copy(update={"personal_data": settings}) for one in given.tenants)
    enriched, subjects = Pseudonymiser(vault.pseudonym_key).apply(
        replace(given, tenants=tenants), int(time.time() * 1000)
    )
    vault.keep(subjects)
    insert(database, enriched)
    return enriched


def rows(database: Database, table: str, tenant: TenantContext) -> list[dict[str, Any]]:
    return database.query(
        f"SELECT * FROM {table} WHERE tenant_id = {{t:String}} ORDER BY ALL", {"t": tenant.tenant_id}
    )


def files_with(database: Database, *needles: bytes) -> list[Path]:
    """Return the files of the engine's data directory that hold any of some bytes."""
    return files_holding(Path(database.description.partition(" in ")[2]), *needles)


# Forgetting.


def test_no_byte_of_forgotten_people_is_left_in_any_file(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """Neither of a hundred originals nor of what they were encrypted to; those of others stay."""
    marker = uuid4().hex[:12]
    people = [f"{marker}-{i}@example.com" for i in range(110)]
    of = {"tenant_id": tenant.tenant_id}
    for kind, fields in (
        ("auth", lambda who: {"user_id": who, "attributes": {"note": f"for {who}"}}),
        ("access", lambda who: {"user_id": "service", "resource_id": f"user:{who}"}),
        ("request", lambda who: {"http_path": f"/users/{who}", "unknown_field": who}),
    ):
        store_events(
            database, vault, kind, *(event(kind, **of, event_id=f"{kind}-{i}", **fields(who))
            for i, who in enumerate(people)),
        )  # fmt: skip
    assert files_with(database, marker.encode()) == []
    # What says that the search can find something: a tenant that keeps addresses in its trail.
    plain = f"plain-{marker}"
    open_tenant = PersonalData(user_id="never")
    store_events(
        database, vault, "auth",
        event(tenant_id=f"{tenant.tenant_id}-plain", user_id=f"{plain}@example.com"), settings=open_tenant,
    )  # fmt: skip
    assert files_with(database, plain.encode()) != []

    sealed = {
        row["pseudonym"]: bytes.fromhex(row["original"])
        for row in database.query(
            "SELECT pseudonym, hex(original) AS original FROM vault WHERE tenant_id = {t:String}",
            {"t": tenant.tenant_id},
        )
    }
    first, last = people[:100], people[100:]
    gone = [sealed[one] for one in rights.pseudonyms(tenant, first)]
    left = [sealed[one] for one in rights.pseudonyms(tenant, last)]
    database.command("OPTIMIZE TABLE vault FINAL")
    assert files_with(database, gone[0][-30:]) != []
    before = rows(database, "events", tenant)
    told = rights.forget(tenant, first, now=datetime.now(UTC), **WHO)
    assert told["removed"]["rows"] == {"vault": 100}
    assert files_with(database, *(one[-30:] for one in gone), marker.encode()[:12] + b"-5@") == []
    assert files_with(database, left[0][-30:]) != []
    # The trail is not touched, so that what was sealed of it can be verified.
    assert rows(database, "events", tenant) == before
    assert told["kept"]["rows"] == {"events": 300, "alerts": 0}


def test_what_earlier_versions_noted_by_the_original_is_hidden(
    database: Database, tenant: TenantContext
) -> None:
    """The migration leaves pseudonyms, and that somebody was asked for."""
    pseudonym = f"p_{'a' * 26}"
    record(database, "export", tenant.tenant_id, [pseudonym, "Ana Lima", "987-65-4321"], "officer", "")
    [sql] = [sql for _, name, sql in migrations() if "privacy_log_pseudonyms" in name]
    for statement in statements(sql):
        database.command(statement)
    assert [entry["pseudonyms"] for entry in entries(database, tenant)] == [
        [pseudonym, "[hidden]", "[hidden]"]
    ]


def test_a_hold_on_a_name_that_nobody_has_met_is_on_its_pseudonym(
    rights: Privacy, tenant: TenantContext
) -> None:
    """The person may come as an attribute and be forgotten; the hold's row stays."""
    hold = rights.hold(tenant, "Ana Lima", now=datetime.now(UTC), **WHO)
    assert [hold.pseudonym] == rights.pseudonyms(tenant, ["Ana Lima"])


def test_a_certificate_says_what_when_who_and_when_kafka_forgets(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """It is kept, its digest tells a change, and it names no original."""
    store_events(database, vault, "auth", event(tenant_id=tenant.tenant_id, user_id="jane@example.com"))
    now = datetime(2026, 3, 1, tzinfo=UTC)
    told = rights.forget(tenant, ["jane@example.com"], now=now, **WHO)
    assert (told["requested_by"], told["reason"]) == ("officer", "request 17")
    assert told["forgotten_at"] == "2026-03-01T00:00:00.000Z"
    assert told["kafka"]["gone_by"] == "2026-03-15T00:06:00.000Z"
    assert rights.certificates(tenant, told["certificate_id"]) == [told]
    assert rights.certificates(TenantContext("somebody-else"), told["certificate_id"]) == []
    assert is_untouched(told)
    assert not is_untouched({**told, "reason": "another"})
    assert "jane" not in json.dumps(told)


def test_a_certificate_is_signed_where_there_is_who_signs(
    database: Database, vault: Vault, tenant: TenantContext, tmp_path: Path
) -> None:
    """With the key that seals are signed with; after a rotation with the new one, and the old one holds."""
    ring = SealKeys(tmp_path)
    rights = Privacy(database, vault, sign=signing(ring))
    first = rights.forget(tenant, ["jane@example.com"], now=datetime.now(UTC), **WHO)
    ring.keep(Signer.new())
    second = rights.forget(tenant, ["jane@example.com"], now=datetime.now(UTC), **WHO)
    assert second["signature"]["key_id"] == ring.signer.key_id != first["signature"]["key_id"]
    for told in (first, second):
        assert why_not_proven(json.loads(json.dumps(told)), ring.trust()) is None


@pytest.fixture
def signer() -> Signer:
    return Signer.new()


@pytest.fixture
def signed(database: Database, vault: Vault, tenant: TenantContext, signer: Signer) -> dict[str, Any]:
    """A certificate that the key signed."""
    ring = SimpleNamespace(signer=signer)
    rights = Privacy(database, vault, sign=signing(ring))  # type: ignore[arg-type]
    return rights.forget(tenant, ["jane@example.com"], now=datetime.now(UTC), **WHO)


def with_its_digest(told: dict[str, Any]) -> dict[str, Any]:
    """Return what somebody makes of a certificate who can compute a digest."""
    return {**told, "digest": f"sha256:{hashlib.sha256(canonical(told)).hexdigest()}"}


def test_a_certificate_that_was_changed_proves_nothing(signed: dict[str, Any], signer: Signer) -> None:
    """Also with another digest; nor does one of another key, or one without a signature."""
    trust = Trust([signer.public])
    other = {**signed, "removed": {"rows": {"vault": 9}}}
    assert why_not_proven(signed, trust) is None
    assert "its digest is another" in str(why_not_proven(other, trust))
    assert "never signed it" in str(why_not_proven(with_its_digest(other), trust))
    assert "is not signed" in str(why_not_proven({**signed, "signature": None}, trust))
    assert "not believed here" in str(why_not_proven(signed, Trust([Signer.new().public])))


def test_no_other_signature_of_the_key_serves_as_a_certificates(
    signed: dict[str, Any], signer: Signer
) -> None:
    """A statement about the same bytes, for one."""
    taken = {"key_id": signer.key_id, "signature": signer.sign(STATEMENT, canonical(signed))}
    assert "never signed it" in str(why_not_proven({**signed, "signature": taken}, Trust([signer.public])))


def test_a_topic_without_an_end_is_named() -> None:
    """A certificate must not promise what Kafka will not do."""
    told = raw_copies(
        {"audit.auth": TopicRetention(-1, 1), "audit.access": TopicRetention(1, 1)}, datetime.now(UTC)
    )
    assert told["gone_by"] is None
    assert "audit.auth" in told["note"]


def test_a_kafka_that_cannot_be_asked_is_told() -> None:
    """The defaults are stated as such."""
    told = raw_copies(None, datetime(2026, 3, 1, tzinfo=UTC))
    assert (told["asked"], told["gone_by"]) == (False, "2026-03-15T00:06:00.000Z")


def test_who_comes_back_has_the_same_pseudonym_and_a_new_key(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """Detectors know them again; what is stored of them now can be forgotten again."""
    jane = event(tenant_id=tenant.tenant_id, user_id="jane@example.com")
    first = store_events(database, vault, "auth", jane).columns["user_id"][0]
    [before] = rows(database, "vault", tenant)
    rights.forget(tenant, ["jane@example.com"], now=datetime.now(UTC) - DAY, **WHO)
    assert store_events(database, vault, "auth", jane).columns["user_id"][0] == first
    [after] = rows(database, "vault", tenant)
    assert after["wrapped_key"] != before["wrapped_key"]
    assert vault.masked(tenant, [first]) == {first: "j***@example.com"}


def test_a_user_id_that_is_stored_as_it_is_cannot_be_forgotten(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """It says what to set, and certifies nothing."""
    store_events(database, vault, "auth", event(tenant_id=tenant.tenant_id, user_id="ana"))
    with pytest.raises(NotPseudonymous, match='"user_id": "always"'):
        rights.forget(tenant, ["ana"], now=datetime.now(UTC), **WHO)
    assert rights.certificates(tenant) == []


@pytest.fixture
def plain(database: Database, vault: Vault, tenant: TenantContext) -> None:
    """Events of a tenant that keeps addresses as they are, and ones from before the vault."""
    of = {"tenant_id": tenant.tenant_id, "time": "2024-01-31T09:30:00Z"}
    users = (("jane", "Jane@Example.com"), ("mary-jane", "mary-jane@example.com"), ("ben", "ben@example.com"))
    kept = PersonalData(user_id="never")
    store_events(
        database, vault, "auth", *(event(**of, event_id=e, user_id=u) for e, u in users), settings=kept
    )
    about = [
        event("access", **of, event_id="of-jane", user_id="svc", resource_id="user:jane%40example.com"),
        event("access", **of, event_id="of-phone", user_id="svc", attributes={"x": "tel:+442079460000"}),
    ]
    insert(database, batch("access", *about))


def test_who_stands_in_the_trail_by_an_address_cannot_be_forgotten(
    rights: Privacy, tenant: TenantContext, plain: None
) -> None:
    """No certificate says that they were; nobody else's address is theirs."""
    for whom in ("jane@example.com", "+44 20 7946 0000"):
        with pytest.raises(NotPseudonymous, match="hold a subject as it is"):
            rights.forget(tenant, [whom], now=datetime.now(UTC), **WHO)
    assert rights.certificates(tenant) == []
    rights.forget(tenant, ["jane@example.org"], now=datetime.now(UTC), **WHO)


def test_who_is_named_by_a_pseudonym_is_looked_for_by_the_address_too(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext, plain: None
) -> None:
    """The vault knows it, of events that came before or after."""
    store_events(database, vault, "auth", event(tenant_id=tenant.tenant_id, user_id="jane@example.com"))
    [pseudonym] = rights.pseudonyms(tenant, ["jane@example.com"])
    with pytest.raises(NotPseudonymous):
        rights.forget(tenant, [pseudonym], now=datetime.now(UTC), **WHO)


def test_an_export_finds_an_address_that_is_stored_as_it_is(
    rights: Privacy, tenant: TenantContext, plain: None
) -> None:
    """In any spelling, among other words too; whose address only ends in it is somebody else."""
    head, *found, _ = rights.export(tenant, ["jane@example.com"], **WHO)
    assert head["rows"]["events"] == 2
    assert {one["event_id"] for one in found if one["type"] == "event"} == {"jane", "of-jane"}


@pytest.mark.thorough
def test_a_hold_keeps_what_is_stored_by_the_address(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext, plain: None
) -> None:
    """As what is stored by the pseudonym; one release ends both."""
    of = {"tenant_id": tenant.tenant_id, "time": "2024-01-31T09:30:00Z"}
    store_events(database, vault, "auth", event(**of, event_id="later", user_id="jane@example.com"))
    now = datetime.now(UTC)
    hold = rights.hold(tenant, "jane@example.com", now=now, **WHO)
    run_retention(database, now + 400 * DAY)
    left = {row["event_id"] for row in rows(database, "events", tenant)}
    assert left == {"jane", "of-jane", "later"}
    assert len(rights.release(tenant, [hold.hold_id], now=now + DAY, **WHO)) == 2
    assert rights.holds(tenant) == []


# Export.


def test_an_export_holds_everything_about_a_person_and_nothing_of_others(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """Their own pseudonyms are written out wherever they stand; whoever else is named is masked."""
    of = {"tenant_id": tenant.tenant_id}
    jane, ben = "jane@example.com", "ben@example.com"
    store_events(
        database,
        vault,
        "auth",
        event(**of, user_id=jane, event_id="a"),
        event(**of, user_id=ben, event_id="b"),
    )
    store_events(
        database, vault, "access",
        event(
            "access", **of, user_id=ben, event_id="c", resource_id=f"user:{jane}", attributes={"x": 1},
            time="2026-02-01T09:30:00Z",
        ),
    )  # fmt: skip
    [pseudonym] = rights.pseudonyms(tenant, [jane])
    about = alert(tenant.tenant_id, f"alert-{uuid4().hex[:6]}", 1)
    about = about.model_copy(update={"summary": f"failed logins of {pseudonym}"})
    EventWriter(database, Any).insert_alerts([about])  # type: ignore[arg-type]
    head, *found, others = rights.export(tenant, [jane], **WHO)
    assert head["pseudonyms"] == {pseudonym: jane}
    assert head["rows"] == {"events": 2, "alerts": 1}
    assert [(one["type"], one.get("event_id")) for one in found] == [
        ("event", "a"),
        ("event", "c"),
        ("alert", None),
        ("dealing", None),
    ]
    assert found[0]["user_id"] == jane
    assert found[1]["resource_id"] == f"user:{jane}"
    assert found[1]["attributes"] == {"x": 1}
    assert found[2]["summary"] == f"failed logins of {jane}"
    assert list(others["masked"].values()) == ["b***@example.com"]
    assert ben not in json.dumps([head, *found, others])


def test_an_export_of_another_tenant_is_empty(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """The same address is another person there."""
    store_events(database, vault, "auth", event(tenant_id=tenant.tenant_id, user_id="jane@example.com"))
    head, *found, _ = rights.export(TenantContext("privacy-other"), ["jane@example.com"], **WHO)
    assert set(head["pseudonyms"].values()) == {None}
    assert [one["type"] for one in found] == ["dealing"]


def test_an_export_holds_every_revision_what_was_written_about_it_and_who_read(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """Also of an alert whose newest revision names them no longer; nothing of other alerts and people."""
    jane, ben = rights.pseudonyms(tenant, ["jane@example.com", "ben@example.com"])
    now, about, other = datetime.now(UTC), f"alert-{uuid4().hex[:6]}", f"alert-{uuid4().hex[:6]}"
    said = ((about, 1, jane), (about, 2, "nobody"), (other, 1, ben))
    alerts = [alert(tenant.tenant_id, i, r).model_copy(update={"summary": s}) for i, r, s in said]
    EventWriter(database, Any).insert_alerts([*alerts, alerts[0]])  # type: ignore[arg-type]
    for alert_id in (about, other):
        add_note(
            database, tenant_id=tenant.tenant_id, alert_id=alert_id, action="comment",
            text=f"asked {jane}", created_by="key:officer", now=now,
        )  # fmt: skip
    for who in (jane, ben):
        vault.reveal(tenant, [who], actor=f"who read {who}", reason="case 5")
    vault.keep([Subject(tenant.tenant_id, jane, "jane@example.com", 1)])
    _, *found, _ = rights.export(tenant, ["jane@example.com"], **WHO)
    assert [(one["revision"], one["summary"]) for one in found if one["type"] == "alert"] == [
        (1, "jane@example.com"),
        (2, "nobody"),
    ]
    [note] = [one for one in found if one["type"] == "alert_note"]
    assert (note["alert_id"], note["text"]) == (about, "asked jane@example.com")
    dealings = [one for one in found if one["type"] == "dealing"]
    assert [(one["action"], one["actor"], one["reason"]) for one in dealings] == [
        ("reveal", "who read jane@example.com", "case 5"),
        ("export", "officer", "request 17"),
    ]


def test_an_export_finds_a_plain_user_id(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """Exactly that one: it is no part of another."""
    of = {"tenant_id": tenant.tenant_id}
    users = ("ana", "banana")
    store_events(database, vault, "auth", *(event(**of, event_id=u, user_id=u) for u in users))
    _, *found, _ = rights.export(tenant, ["ana"], **WHO)
    assert [one["event_id"] for one in found if one["type"] == "event"] == ["ana"]


def test_long_histories_are_read_in_pages(
    database: Database,
    vault: Vault,
    rights: Privacy,
    tenant: TenantContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each event is there once, also where many are of one moment."""
    monkeypatch.setattr("store.people.PAGE_ROWS", 3)
    of = {"tenant_id": tenant.tenant_id, "user_id": "jane@example.com"}
    times = [f"2026-01-31T09:30:0{i // 4}Z" for i in range(20)]
    events = (event(**of, event_id=f"e{i}", time=at) for i, at in enumerate(times))
    store_events(database, vault, "auth", *events)
    _, *found, _ = rights.export(tenant, ["jane@example.com"], **WHO)
    assert sorted(one["event_id"] for one in found if one["type"] == "event") == sorted(
        f"e{i}" for i in range(20)
    )


def test_people_are_looked_for_wherever_they_are_replaced() -> None:
    """Columns that may hold pseudonyms and columns that an export reads are the same."""
    assert {"user_id", "attributes", *(name for kind in KINDS for name in TEXTS[kind])} == set(FIELDS)


# Legal holds.


@pytest.mark.parametrize("whom", ["jane@example.com", None], ids=["the person", "the whole tenant"])
def test_a_hold_forbids_forgetting_until_it_is_released(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext, whom: str | None
) -> None:
    """The message names the hold and how it ends; others can be forgotten meanwhile."""
    store_events(database, vault, "auth", event(tenant_id=tenant.tenant_id, user_id="jane@example.com"))
    now = datetime.now(UTC)
    hold = rights.hold(tenant, whom, now=now, **WHO)
    with pytest.raises(Held, match=f"legal hold {hold.hold_id} .*privacy release"):
        rights.forget(tenant, ["jane@example.com"], now=now, **WHO)
    assert len(rows(database, "vault", tenant)) == 1
    if whom is not None:
        rights.forget(tenant, ["ben@example.com"], now=now, **WHO)
    assert rights.release(TenantContext("another"), [hold.hold_id], now=now, **WHO) == []
    [released] = rights.release(tenant, [hold.hold_id], now=now + DAY, **WHO)
    assert released.hold_id == hold.hold_id
    rights.forget(tenant, ["jane@example.com"], now=now + DAY, **WHO)
    assert rows(database, "vault", tenant) == []


@pytest.mark.parametrize(
    ("whom", "left"),
    [
        ("jane@example.com", {"jane", "about jane"}),
        ("ana", {"ana"}),
        (None, {"jane", "about jane", "ben", "ana"}),
    ],
    ids=["a person", "a plain user_id", "the whole tenant"],
)
def test_what_is_held_does_not_age_out(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext, whom: str | None, left: set[str]
) -> None:
    """Neither a person's own events nor those that speak of them; after the release they go."""
    of = {"tenant_id": tenant.tenant_id, "time": "2024-01-31T09:30:00Z"}
    now = datetime.now(UTC)
    users = (("jane", "jane@example.com"), ("ben", "ben@example.com"), ("ana", "ana"))
    store_events(database, vault, "auth", *(event(**of, event_id=e, user_id=u) for e, u in users))
    about = event("access", **of, event_id="about jane", resource_id="user:jane@example.com")
    store_events(database, vault, "access", about)
    hold = rights.hold(tenant, whom, now=now, **WHO)
    run_retention(database, now + 400 * DAY)
    assert {row["event_id"] for row in rows(database, "events", tenant)} == left
    rights.release(tenant, [hold.hold_id], now=now + DAY, **WHO)
    run_retention(database, now + 401 * DAY)
    assert rows(database, "events", tenant) == []


@pytest.mark.parametrize(
    ("whom", "left"), [("jane@example.com", 2), (None, 4)], ids=["a person", "the whole tenant"]
)
def test_what_is_held_after_it_was_counted_is_counted_when_it_goes(
    database: Database,
    vault: Vault,
    rights: Privacy,
    tenant: TenantContext,
    monkeypatch: pytest.MonkeyPatch,
    whom: str | None,
    left: int,
) -> None:
    """A store that is away comes between the account and the deletion, twice, and then a hold."""
    of = {"tenant_id": tenant.tenant_id, "time": "2024-01-31T09:30:00Z"}
    for user_id in ("jane@example.com", "jane@example.com", "ben@example.com", "cleo@example.com"):
        store_events(database, vault, "auth", event(**of, event_id=uuid4().hex, user_id=user_id))
    now = datetime.now(UTC) + 400 * DAY
    # Held before, so in no account until it is released.
    cleo = rights.hold(tenant, "cleo@example.com", now=now, **WHO)
    delete = AgedEvents.delete

    def fail(aged: AgedEvents) -> None:
        if aged.tenant_id == tenant.tenant_id:
            raise StoreUnavailable("away")
        delete(aged)

    def check(rows_left: int) -> None:
        [counted] = database.query(
            "SELECT sum(rows_removed) AS rows, sum(evaluated_removed) AS evaluated FROM retention_runs "
            "WHERE tenant_id = {t:String}",
            {"t": tenant.tenant_id},
        )
        assert len(rows(database, "events", tenant)) == rows_left
        assert (counted["rows"], counted["evaluated"]) == (4 - rows_left, 4 - rows_left)

    with monkeypatch.context() as broken:
        broken.setattr(AgedEvents, "delete", fail)
        with pytest.raises(StoreUnavailable):
            run_retention(database, now)
        hold = rights.hold(tenant, whom, now=now, **WHO)
        with suppress(StoreUnavailable):  # of a tenant that is held nothing is deleted
            run_retention(database, now + timedelta(hours=1))
    rights.release(tenant, [cleo.hold_id], now=now, **WHO)
    run_retention(database, now + timedelta(hours=2))
    check(left)
    rights.release(tenant, [hold.hold_id], now=now, **WHO)
    run_retention(database, now + timedelta(hours=3))
    check(0)


@pytest.mark.thorough
def test_people_leave_the_vault_with_their_last_event(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """Not those that any event, an alert or a hold still speaks of, nor those of late."""
    of = {"tenant_id": tenant.tenant_id, "time": "2024-01-31T09:30:00Z"}
    jane, ben, cleo, dan = (f"{name}@example.com" for name in ("jane", "ben", "cleo", "dan"))
    store_events(
        database, vault, "auth", *(event(**of, event_id=w[:3], user_id=w) for w in (jane, ben, cleo, dan))
    )
    now = datetime.now(UTC)
    about = alert(tenant.tenant_id, f"alert-{uuid4().hex[:6]}", 1)
    told = {"summary": f"logins of {rights.pseudonyms(tenant, [ben])[0]}"}
    EventWriter(database, Any).insert_alerts([about.model_copy(update=told)])  # type: ignore[arg-type]
    rights.hold(tenant, cleo, now=now, **WHO)
    database.command(
        "DELETE FROM events WHERE tenant_id = {t:String} AND event_id != 'dan'", {"t": tenant.tenant_id}
    )
    expire_people(database, vault, now)
    assert len(rows(database, "vault", tenant)) == 4
    expire_people(database, vault, now + 2 * DAY)
    left = {row["pseudonym"] for row in rows(database, "vault", tenant)}
    assert left == set(rights.pseudonyms(tenant, [ben, cleo, dan]))
    noted = rights.report(tenant, now - DAY)["noted"]
    assert ("expire", 1) in [(entry["action"], entry["people"]) for entry in noted]


def test_who_may_leave_the_vault_leaves_it_in_one_run_of_several_parts(
    database: Database, vault: Vault, tenant: TenantContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is a statement and an entry of the log; one wait for the files follows the last."""
    monkeypatch.setattr("store.vault_expiry.AT_ONCE", 2)
    left: list[list[dict[str, Any]]] = []
    monkeypatch.setattr(vault, "await_removal", lambda: left.append(rows(database, "vault", tenant)))
    originals = [f"u{n}@example.com" for n in range(5)]
    vault.keep(
        [Subject(tenant.tenant_id, vault.pseudonym(tenant.tenant_id, one), one, 1) for one in originals]
    )
    expire_people(database, vault, datetime.now(UTC) + 2 * DAY)
    assert rows(database, "vault", tenant) == []
    assert left == [[]]
    noted = [len(entry["pseudonyms"]) for entry in rows(database, "privacy_log", tenant)]
    assert sorted(noted) == [1, 2, 2]


# The report.


def test_a_report_says_what_it_leaves_out(
    rights: Privacy, tenant: TenantContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latest are shown; many readings push no forgetting out of it."""
    monkeypatch.setattr("store.privacy.MAX_ROWS", 3)
    now = datetime.now(UTC)
    told = rights.forget(tenant, ["jane@example.com"], now=now, **WHO)
    for _ in range(2):
        rights.note_reading(tenant.tenant_id, "officer", "")
    assert rights.report(tenant, now - DAY)["cut"] == []
    for _ in range(4):
        rights.note_reading(tenant.tenant_id, "officer", "")
    report = rights.report(tenant, now - DAY)
    assert (report["cut"], len(report["noted"])) == (["noted"], 3)
    assert [one["certificate_id"] for one in report["forgotten"]] == [told["certificate_id"]]


def test_the_report_says_what_was_deleted_and_why(
    database: Database, vault: Vault, rights: Privacy, tenant: TenantContext
) -> None:
    """By age, with the setting; by wish, with the certificate; and who looked, without naming whom."""
    settings = Tenant(tenant_id=tenant.tenant_id, organization_id="o", name="n", retention_days={"auth": 30})
    now = datetime.now(UTC)
    database.insert_rows(
        "tenants",
        [
            {
                "tenant_id": tenant.tenant_id,
                "version": 1,
                "body": settings.model_dump_json(),
                "applied_at": now,
            }
        ],
    )
    jane = event(tenant_id=tenant.tenant_id, user_id="jane@example.com", time="2024-01-31T09:30:00Z")
    store_events(database, vault, "auth", jane)
    run_retention(database, now + 31 * DAY)
    told = rights.forget(tenant, ["jane@example.com"], now=now, **WHO)
    vault.reveal(tenant, rights.pseudonyms(tenant, ["jane@example.com"]), **WHO)
    report = rights.report(tenant, now - DAY)
    [aged] = report["aged_out"]
    assert (aged["kind"], aged["rows_removed"], aged["retention_days"]) == ("auth", 1, 30)
    assert "older than 30 days" in aged["why"]
    [forgotten] = report["forgotten"]
    assert (forgotten["certificate_id"], forgotten["why"]) == (told["certificate_id"], "request 17")
    assert [entry["action"] for entry in report["noted"]] == ["reveal", "forget"]
    assert "jane" not in json.dumps(report, default=str)


@given(st.dictionaries(st.sampled_from(["vault"]), st.integers(0, 9)), st.text(max_size=20))
def test_any_change_of_a_certificate_is_told(removed: dict[str, int], reason: str) -> None:
    """The digest is over all of it."""
    make: Callable[..., dict[str, Any]] = certificate
    told = make(
        certificate_id="c", tenant_id="t", pseudonyms=["p"], actor="a", reason=reason,
        now=datetime(2026, 1, 1, tzinfo=UTC), removed=removed, kept={}, kafka={},
    )  # fmt: skip
    for name in told.keys() - {"digest", "signature"}:
        assert not is_untouched({**told, name: f"{told[name]}x"})
    assert is_untouched(json.loads(json.dumps(told)))
