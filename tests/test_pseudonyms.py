"""Personal data in batches becomes pseudonyms, whatever way a batch was read, and nothing else changes."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import EventBatch
from schemas.columns import ArrowColumn
from schemas.joined import MIN_RECORDS
from schemas.parse import parse
from schemas.personal import is_personal_attribute, is_pseudonym, masked, replaced
from schemas.tenant import PersonalData, Tenant
from store.vault import Shredded, Subject, pseudonym_of
from streams.pseudonyms import Pseudonymiser
from tests.schema_examples import Json, encode, event

KEYS = {"tenant-a": b"a" * 32, "tenant-b": b"b" * 32}
EMAIL = "jane@example.com"
SEEN_MS = 1_767_200_000_000


def tenant(tenant_id: str = "tenant-a", **settings: Any) -> Tenant:
    personal = PersonalData(**settings) if settings else None
    return Tenant(tenant_id=tenant_id, organization_id="o", name="n", personal_data=personal)


def batch(*events: Json, kind: Any = "auth", of: Tenant | None = None, copies: int = 1) -> EventBatch:
    """Return events as a batch; with many copies they are read by Arrow."""
    parsed = parse(kind, [encode(one) for one in events] * copies)
    assert not parsed.rejections
    by_id = {"tenant-a": of or tenant(), "tenant-b": tenant("tenant-b")}
    found: Any = parsed.batch
    return EventBatch(
        **{
            name: getattr(found, name)
            for name in ("kind", "columns", "time_ms", "offset", "message_index", "topic", "partition")
        },
        tenants=tuple(by_id[tenant_id] for tenant_id in found.tenant.values),
    )


def applied(
    given: EventBatch, pseudonymiser: Pseudonymiser | None = None
) -> tuple[EventBatch, list[Subject]]:
    return (pseudonymiser or Pseudonymiser(KEYS.__getitem__)).apply(given, SEEN_MS)


def told(field: str, value: Any, of: Tenant | None = None, kind: Any = "auth") -> Any:
    """Return what is stored of a field's value."""
    result, _ = applied(batch(event(kind, tenant_id="tenant-a", **{field: value}), kind=kind, of=of))
    return result.columns[field][0]


def of_a(original: str) -> str:
    return pseudonym_of(KEYS["tenant-a"], original)


@pytest.mark.parametrize("copies", [1, MIN_RECORDS], ids=["as list", "as Arrow column"])
def test_an_address_as_user_id_becomes_a_pseudonym(copies: int) -> None:
    """The same for every event, and nothing of the address is left; the person is named for the vault."""
    given = batch(event(tenant_id="tenant-a", user_id=EMAIL), copies=copies)
    assert isinstance(given.columns["user_id"], ArrowColumn) == (copies > 1)
    result, subjects = applied(given)
    assert list(result.columns["user_id"]) == [of_a(EMAIL)] * copies
    assert is_pseudonym(of_a(EMAIL))
    assert subjects == [Subject("tenant-a", of_a(EMAIL), EMAIL, SEEN_MS)]


@pytest.mark.parametrize("copies", [1, MIN_RECORDS], ids=["as list", "as Arrow column"])
@pytest.mark.parametrize(
    "who",
    [
        [("tenant-a", EMAIL), ("tenant-b", "ben@example.com"), ("tenant-a", "ana"), ("tenant-b", None)],
        [("tenant-a", EMAIL), ("tenant-b", EMAIL)],
        [("tenant-a", EMAIL), ("tenant-a", EMAIL.upper())],
    ],
    ids=["of one tenant each", "one address at two tenants", "one person in two ways"],
)
def test_each_user_gets_the_pseudonym_of_their_tenant(who: list[tuple[str, str | None]], copies: int) -> None:
    """In each row of a batch, and columns agree with what detectors see of them by code."""
    events = [event(tenant_id=tenant_id, user_id=user_id) for tenant_id, user_id in who]
    result, _ = applied(batch(*events, copies=copies))
    users = result.columns["user_id"]
    wanted = [
        pseudonym_of(KEYS[tenant_id], user_id) if user_id and "@" in user_id.lower() else user_id
        for tenant_id, user_id in who
    ] * copies
    assert list(users) == wanted
    if isinstance(users, ArrowColumn):
        assert [users.distinct[code] for code in users.codes] == wanted == users.array.to_pylist()
        assert len(set(users.distinct)) == len(users.distinct)


def test_a_batch_without_personal_data_stays_as_it_is() -> None:
    """Not even a copy is made."""
    given = batch(event(tenant_id="tenant-a", user_id="ana", attributes={"host": "web-1"}), copies=600)
    result, subjects = applied(given)
    assert result is given
    assert subjects == []


def test_a_person_of_two_tenants_has_two_pseudonyms() -> None:
    """What one tenant learns of a pseudonym tells it nothing of another's."""
    result, _ = applied(batch(*(event(tenant_id=t, user_id=EMAIL) for t in KEYS)))
    a, b = result.columns["user_id"]
    assert a == of_a(EMAIL) != b == pseudonym_of(KEYS["tenant-b"], EMAIL)


@pytest.mark.parametrize(
    ("user_id", "personal"),
    [
        (EMAIL, True), ("JANE@EXAMPLE.COM", True), ("jane%40example.com", True), ("jane@intranet", True),
        ("+44 20 7946 0000", True), ("(030) 123 4567", True), ("CORP\\jane@example.com", True),
        ("jané@exämple.com", True),
        ("ana", False), ("10023456", False), ("a@", False), ("+1", False), ("auth0|5f7c", False),
    ],
)  # fmt: skip
def test_auto_knows_addresses_and_phone_numbers(user_id: str, personal: bool) -> None:
    """Plain names and numbers of the service's own stay readable."""
    assert is_pseudonym(told("user_id", user_id)) is personal


def test_ways_to_write_one_person_are_one_pseudonym() -> None:
    """Else whoever is forgotten would be forgotten by half."""
    assert told("user_id", "Jane@Example.com") == told("user_id", "jane%40example.com") == of_a(EMAIL)
    assert told("user_id", "+44 (20) 7946-0000") == told("user_id", "+442079460000")


def test_always_and_never_are_the_tenants_word() -> None:
    """A tenant whose plain names are people's says so; one that needs addresses in the trail, too."""
    assert is_pseudonym(told("user_id", "ana", tenant(user_id="always")))
    assert told("user_id", EMAIL, tenant(user_id="never")) == EMAIL
    assert told("user_id", None, tenant(user_id="always")) is None


def test_a_pseudonym_stays_itself() -> None:
    """An event that is sent again from an export must not get a pseudonym of a pseudonym."""
    assert told("user_id", of_a(EMAIL), tenant(user_id="always")) == of_a(EMAIL)


@pytest.mark.parametrize(
    ("kind", "field", "text", "stored"),
    [
        ("request", "http_path", "/users/jane%40example.com/jobs", "/users/{}/jobs"),
        ("request", "http_path", "/users/jane@example.com?x=1", "/users/{}?x=1"),
        ("access", "resource_id", "user:jane@example.com", "user:{}"),
        ("auth", "user_agent", "sync/1.0 (mailto:jane@example.com)", "sync/1.0 (mailto:{})"),
        ("auth", "session_id", "jane@example.com", "{}"),
    ],
)
def test_an_address_inside_a_text_is_replaced(kind: Any, field: str, text: str, stored: str) -> None:
    """By the same pseudonym as a user_id; the rest of the text stays."""
    assert told(field, text, kind=kind) == stored.format(of_a(EMAIL))


def test_a_phone_number_inside_a_text_is_replaced() -> None:
    """Where it is written as E.164 says; other numbers are anything."""
    path = told("http_path", "/sms/+442079460000", kind="request")
    assert path == f"/sms/{of_a('+442079460000')}"
    assert told("http_path", "/jobs/442079460000", kind="request") == "/jobs/442079460000"


def test_attributes_are_replaced_by_name_and_by_form() -> None:
    """Well-known names, whatever the value; addresses, whatever the name; also under unknown fields."""
    given = event(
        tenant_id="tenant-a",
        attributes={
            "phone": 442079460000,
            "FullName": "Jane Doe",
            "host_name": "web-1",
            "note": f"by {EMAIL}",
        },
        unknown={"contact": [{"email": EMAIL}], "name": None, "ok": True},
    )
    result, subjects = applied(batch(given))
    assert json.loads(result.columns["attributes"][0]) == {
        "phone": of_a("442079460000"),
        "FullName": of_a("Jane Doe"),
        "host_name": "web-1",
        "note": f"by {of_a(EMAIL)}",
        "unknown": {"contact": [{"email": of_a(EMAIL)}], "name": None, "ok": True},
    }
    assert {subject.original for subject in subjects} == {"442079460000", "Jane Doe", EMAIL}


def test_a_tenant_names_attributes_and_spares_others() -> None:
    """What is personal is the tenant's to know."""
    settings = tenant(attributes=["employee"], not_personal=["name"])
    stored = json.loads(told("attributes", {"employee": "E-17", "name": "nightly job"}, settings))
    assert stored == {"employee": of_a("E-17"), "name": "nightly job"}


def test_who_is_known_is_not_named_again() -> None:
    """The vault is asked once for each person, not for each event."""
    pseudonymiser = Pseudonymiser(KEYS.__getitem__)
    given = batch(event(tenant_id="tenant-a", user_id=EMAIL))
    assert applied(given, pseudonymiser)[1] != []
    assert applied(given, pseudonymiser)[1] == []


def test_who_was_forgotten_is_named_again() -> None:
    """New events of a forgotten person make them known anew; others stay known."""
    pseudonymiser = Pseudonymiser(KEYS.__getitem__)
    given = batch(*(event(tenant_id="tenant-a", user_id=user) for user in (EMAIL, "ben@example.com")))
    applied(given, pseudonymiser)
    pseudonymiser.forget([Shredded("tenant-a", of_a(EMAIL)), Shredded("tenant-b", of_a("ben@example.com"))])
    assert [subject.original for subject in applied(given, pseudonymiser)[1]] == [EMAIL]


def test_after_a_reset_everybody_is_named_again() -> None:
    """What was met in chunks that were dropped at a rebalance was never stored."""
    pseudonymiser = Pseudonymiser(KEYS.__getitem__)
    given = batch(event(tenant_id="tenant-a", user_id=EMAIL))
    applied(given, pseudonymiser)
    pseudonymiser.reset()
    assert len(applied(given, pseudonymiser)[1]) == 1


def test_what_is_remembered_stays_bounded() -> None:
    """A flood of addresses pushes the oldest out; those of late are still known."""
    pseudonymiser = Pseudonymiser(KEYS.__getitem__, max_values=100)
    for i in range(50):
        applied(
            batch(*(event(tenant_id="tenant-a", user_id=f"u{i}-{j}@example.com") for j in range(20))),
            pseudonymiser,
        )
    held = [
        len(people.users) + len(people.identifiers)
        for generation in (pseudonymiser._people, pseudonymiser._before)
        for people in generation.values()
    ]
    assert sum(held) < 500
    assert applied(batch(event(tenant_id="tenant-a", user_id="u49-19@example.com")), pseudonymiser)[1] == []
    assert len(applied(batch(event(tenant_id="tenant-a", user_id="u0-0@example.com")), pseudonymiser)[1]) == 1


def test_changed_settings_hold_from_the_next_batch_on() -> None:
    """What was remembered by the old settings is not used."""
    pseudonymiser = Pseudonymiser(KEYS.__getitem__)
    first, _ = applied(batch(event(tenant_id="tenant-a", user_id="ana")), pseudonymiser)
    second, _ = applied(
        batch(event(tenant_id="tenant-a", user_id="ana"), of=tenant(user_id="always")), pseudonymiser
    )
    assert first.columns["user_id"][0] == "ana"
    assert second.columns["user_id"][0] == of_a("ana")


@given(st.lists(st.sampled_from(["ana", EMAIL, "+442079460000", None, "Jane@Example.com"]), min_size=1))
def test_how_a_stream_is_cut_changes_nothing(users: list[str | None]) -> None:
    """One batch or many, and either way of reading: the same is stored."""
    events = [event(tenant_id="tenant-a", user_id=user) for user in users]
    whole = list(applied(batch(*events))[0].columns["user_id"])
    pseudonymiser = Pseudonymiser(KEYS.__getitem__)
    single = [applied(batch(one), pseudonymiser)[0].columns["user_id"][0] for one in events]
    assert whole == single
    many = applied(batch(*events, copies=MIN_RECORDS))[0].columns["user_id"]
    assert list(many)[: len(users)] == whole


@given(st.text(max_size=40))
def test_an_address_is_found_whatever_surrounds_it(noise: str) -> None:
    """Nothing that is not part of the address hides it."""
    assert EMAIL not in replaced(f"{noise} {EMAIL} {noise}", lambda _: "p")


def test_rows_keep_their_places() -> None:
    """A rewritten column has a value for each event, in their order."""
    paths = ["/a", f"/u/{EMAIL}", None, "/b+c"]
    given = batch(
        *(event("request", tenant_id="tenant-a", event_id=f"e{i}", http_path=p) for i, p in enumerate(paths)),
        kind="request",
        copies=200,
    )
    result, _ = applied(given)
    assert list(result.columns["http_path"])[:4] == ["/a", f"/u/{of_a(EMAIL)}", None, "/b+c"]
    assert np.array_equal(result.offset, given.offset)


@pytest.mark.parametrize(
    "name", ["email", "userEmail", "actor.e-mail", "phone_number", "SSN", "name", "iban"]
)
def test_a_well_known_name_is_personal(name: str) -> None:
    """In any spelling that services use."""
    assert is_personal_attribute(name)


@pytest.mark.parametrize("name", ["host_name", "filename", "emailed", "hotel", "phoneme", "service", ""])
def test_another_name_is_not(name: str) -> None:
    """Words that only sound like one."""
    assert not is_personal_attribute(name)


@pytest.mark.parametrize("value", [EMAIL, "+442079461234", "Jane Doe", "4711", "x"])
def test_the_masked_form_hides_most(value: str) -> None:
    """It can be recognised by whoever knows the original, and by nobody else."""
    assert masked(value) != value
    assert len(set(masked(value)) & set(value)) < len(set(value)) or len(value) == 1
