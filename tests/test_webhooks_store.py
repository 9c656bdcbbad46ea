"""The webhooks' tables, on the real engine."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import timedelta
from itertools import count
from pathlib import Path

import pytest
from files import files_holding
from webhook_receiver import Clock, alert

from store.database import Database
from store.webhook_rows import Attempt, Delivery, Endpoint
from store.webhook_secrets import SecretBox, SecretsClosed
from store.webhooks import PLATFORM, UnknownWebhook, WebhookStore
from streams.webhooks import message

_numbers = count()

SECRETS = SecretBox(b"s" * 32)


@pytest.fixture
def tenant_id() -> str:
    """A tenant that no other test has."""
    return f"store-tenant-{next(_numbers)}"


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> Iterator[WebhookStore]:
    """The store, without endpoints before and after."""
    opened = WebhookStore(database, clock, lambda: SECRETS)
    yield opened
    for endpoint in opened.list():
        opened.remove(endpoint.endpoint_id)


def add(store: WebhookStore, tenant_id: str) -> Endpoint:
    return store.add(tenant_id=tenant_id, url="https://hooks.example.com/secret-path")


def pending(endpoint: Endpoint, clock: Clock, alert_id: str = "a-1", partition: int = 0) -> Delivery:
    about = alert(endpoint.tenant_id or "tenant-a", alert_id)
    return Delivery(
        delivery_id=message.delivery_id(endpoint.endpoint_id, about),
        endpoint_id=endpoint.endpoint_id,
        tenant_id=endpoint.tenant_id,
        alert_id=alert_id,
        revision=1,
        event_type="alert.opened",
        kafka_partition=partition,
        status="pending",
        status_reason="",
        attempts=0,
        next_attempt_at=clock.now,
        created_at=clock.now,
        body=message.alert_body(about),
    )


def attempt_at(delivery: Delivery, clock: Clock, number: int = 1, http_status: int = 500) -> Attempt:
    return Attempt(
        delivery.delivery_id,
        delivery.endpoint_id,
        delivery.tenant_id,
        number,
        clock.now,
        12,
        http_status,
        "" if http_status == 204 else f"HTTP {http_status}",
    )


def test_an_endpoint_comes_back_as_it_was_added(store: WebhookStore, tenant_id: str) -> None:
    """What was added is what is read."""
    added = add(store, tenant_id)
    read = store.get(added.endpoint_id)
    assert replace(read, created_at=added.created_at) == added
    assert abs(read.created_at - added.created_at) < timedelta(milliseconds=1)


def test_every_endpoint_has_a_secret_of_its_own(store: WebhookStore, tenant_id: str) -> None:
    """Two endpoints of one tenant do not share a secret."""
    assert add(store, tenant_id).secret != add(store, tenant_id).secret


def test_an_endpoint_s_repr_hides_secrets_and_url(store: WebhookStore, tenant_id: str) -> None:
    """What is logged by accident gives nothing away."""
    endpoint = store.rotate_secret(add(store, tenant_id).endpoint_id)
    text = repr(endpoint)
    assert "whsec_" not in text
    assert "secret-path" not in text


def stored(database: Database, endpoint: Endpoint) -> list[tuple[str, str]]:
    """Return the secrets of each row that there is of an endpoint."""
    rows = database.query(
        "SELECT secret, previous_secret FROM webhook_endpoints WHERE endpoint_id = {id:String} "
        "ORDER BY version",
        {"id": endpoint.endpoint_id},
    )
    return [(row["secret"], row["previous_secret"]) for row in rows]


def test_secrets_are_not_in_the_store(store: WebhookStore, database: Database, tenant_id: str) -> None:
    """Not a byte of them, and after a rotation and a removal nothing that they were encrypted to."""
    first = add(store, tenant_id)
    [(one, none)] = stored(database, first)
    assert (one.startswith("sealed:"), none) == (True, "")
    second = store.rotate_secret(first.endpoint_id)
    third = store.rotate_secret(first.endpoint_id)
    [(new, previous)] = stored(database, first)
    assert one not in (new, previous)
    assert store.get(first.endpoint_id).secrets_at(store._now()) == (third.secret, second.secret)
    files = files_holding(Path(database.description.partition(" in ")[2]), *(
        endpoint.secret.encode() for endpoint in (first, second, third)
    ))  # fmt: skip
    assert files == []
    store.remove(first.endpoint_id)
    assert stored(database, first) == [("", "")]


def test_secrets_that_earlier_versions_stored_are_sealed(
    store: WebhookStore, database: Database, tenant_id: str
) -> None:
    """At the start of a worker; they sign as before, and no row has them any more."""
    old = replace(add(store, tenant_id), previous_secret="whsec_b2xk", version=2)
    database.insert_rows("webhook_endpoints", [asdict(old)])
    assert store.seal_plain() == 1
    [row] = stored(database, old)
    assert all(text.startswith("sealed:") for text in row)
    read = store.get(old.endpoint_id)
    assert (read.secret, read.previous_secret) == (old.secret, "whsec_b2xk")
    assert store.seal_plain() == 0


def test_a_process_without_a_master_key_keeps_and_uses_no_secret(
    store: WebhookStore, database: Database, tenant_id: str, clock: Clock
) -> None:
    """It changes endpoints all the same."""
    endpoint = add(store, tenant_id)
    keyless = WebhookStore(database, clock)
    with pytest.raises(SecretsClosed, match="TENANTWATCH_MASTER_KEY"):
        keyless.rotate_secret(endpoint.endpoint_id)
    with pytest.raises(SecretsClosed):
        add(keyless, tenant_id)
    with pytest.raises(SecretsClosed):
        keyless.get(endpoint.endpoint_id).secrets_at(clock.now)
    keyless.update(endpoint.endpoint_id, description="changed")
    assert store.get(endpoint.endpoint_id).secret == endpoint.secret


def test_tenants_see_their_own_endpoints(store: WebhookStore, tenant_id: str) -> None:
    """A tenant's list and get are bound to it; the platform is a tenant of its own here."""
    mine, platform = add(store, tenant_id), add(store, PLATFORM)
    assert [each.endpoint_id for each in store.list(tenant_id)] == [mine.endpoint_id]
    assert [each.endpoint_id for each in store.list(PLATFORM)] == [platform.endpoint_id]
    assert {each.endpoint_id for each in store.list()} == {mine.endpoint_id, platform.endpoint_id}
    with pytest.raises(UnknownWebhook):
        store.get(platform.endpoint_id, tenant_id)


def test_an_unknown_severity_is_refused(store: WebhookStore, tenant_id: str) -> None:
    """The message names those there are."""
    with pytest.raises(ValueError, match="low, medium, high, critical"):
        store.add(tenant_id=tenant_id, url="https://hooks.example.com/", min_severity="urgent")  # type: ignore[arg-type]


def test_an_update_changes_what_is_given(store: WebhookStore, tenant_id: str) -> None:
    """The rest stays."""
    old = add(store, tenant_id)
    store.update(old.endpoint_id, min_severity="critical")
    read = store.get(old.endpoint_id)
    assert (read.min_severity, read.url, read.secret) == ("critical", old.url, old.secret)


def test_a_rotation_lasts_a_day(store: WebhookStore, clock: Clock, tenant_id: str) -> None:
    """New and old secret sign for a day, then only the new one."""
    old = add(store, tenant_id)
    new = store.rotate_secret(old.endpoint_id)
    assert store.get(old.endpoint_id).secrets_at(clock.now) == (new.secret, old.secret)
    assert new.secrets_at(clock.now + timedelta(hours=24)) == (new.secret,)


def test_a_removed_endpoint_is_unknown(store: WebhookStore, clock: Clock, tenant_id: str) -> None:
    """It is in no list and cannot be read; what waited is cancelled, and the log stays."""
    endpoint = add(store, tenant_id)
    store.enqueue([pending(endpoint, clock)])
    store.remove(endpoint.endpoint_id)
    assert store.list(tenant_id) == []
    with pytest.raises(UnknownWebhook):
        store.get(endpoint.endpoint_id)
    [logged] = store.deliveries(tenant_id)
    assert (logged.delivery.status, logged.delivery.status_reason) == ("cancelled", "endpoint removed")


def test_a_removed_endpoint_is_not_brought_back(
    store: WebhookStore, tenant_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by a worker that disables it at the same moment, with what it read before, secret and all."""
    endpoint = add(store, tenant_id)
    store.remove(endpoint.endpoint_id)
    with monkeypatch.context() as patched:
        patched.setattr(store, "get", lambda endpoint_id: endpoint)
        store.disable(endpoint.endpoint_id, "410")
    assert store.list(tenant_id) == []


def test_an_enabled_endpoint_forgets_why_it_was_not(store: WebhookStore, tenant_id: str) -> None:
    """Disabled with a reason, enabled without one."""
    endpoint = add(store, tenant_id)
    store.disable(endpoint.endpoint_id, "off")
    assert store.get(endpoint.endpoint_id).status_reason == "off"
    store.enable(endpoint.endpoint_id)
    read = store.get(endpoint.endpoint_id)
    assert (read.status, read.status_reason) == ("enabled", "")


def test_what_is_queued_twice_is_there_once(store: WebhookStore, clock: Clock, tenant_id: str) -> None:
    """Whether in the same call or in another."""
    delivery = pending(add(store, tenant_id), clock, partition=900)
    assert store.enqueue([delivery, delivery]) == [delivery]
    store.enqueue([delivery])
    assert [each.delivery_id for each in store.pending({900})] == [delivery.delivery_id]


def test_queueing_again_does_not_undo_a_delivery(store: WebhookStore, clock: Clock, tenant_id: str) -> None:
    """Kafka hands an alert over again after a crash."""
    [queued] = store.enqueue([pending(add(store, tenant_id), clock)])
    store.record_attempts([(replace(queued, status="delivered", attempts=1), attempt_at(queued, clock))])
    store.enqueue([queued])
    assert store.delivery(queued.delivery_id).status == "delivered"


def test_the_queue_is_read_by_partition(store: WebhookStore, clock: Clock, tenant_id: str) -> None:
    """A worker reads what it owns; owning nothing, it reads nothing."""
    endpoint = add(store, tenant_id)
    store.enqueue([pending(endpoint, clock, f"a-{n}", partition=800 + n) for n in range(3)])
    assert [each.alert_id for each in store.pending({801, 802})] == ["a-1", "a-2"]
    assert store.pending(set()) == []


def test_what_is_due_is_read_at_once(store: WebhookStore, clock: Clock, tenant_id: str) -> None:
    """Each with its body and endpoint as they stand; None where one of them is gone."""
    first, second, removed = (add(store, owner) for owner in (tenant_id, PLATFORM, tenant_id))
    queued = store.enqueue([pending(each, clock) for each in (second, removed, first)])
    store.remove(removed.endpoint_id)
    store.rotate_secret(first.endpoint_id)
    unknown = replace(queued[0], delivery_id="msg_unknown")
    found = store.to_send([replace(queued[2], body=""), unknown, queued[1], queued[0]])
    assert [each and (each[0].delivery_id, each[1].endpoint_id) for each in found] == [
        (queued[2].delivery_id, first.endpoint_id), None, None, (queued[0].delivery_id, second.endpoint_id),
    ]  # fmt: skip
    assert found[0] is not None
    assert (found[0][0].body, found[0][1].secret) == (queued[2].body, store.get(first.endpoint_id).secret)


def test_the_log_shows_the_last_attempt(store: WebhookStore, clock: Clock, tenant_id: str) -> None:
    """Each delivery comes with what happened last; all attempts are kept."""
    [queued] = store.enqueue([pending(add(store, tenant_id), clock)])
    [after] = store.record_attempts([(replace(queued, attempts=1), attempt_at(queued, clock, 1))])
    clock.advance(5)
    store.record_attempts(
        [(replace(after, attempts=2, status="delivered"), attempt_at(queued, clock, 2, http_status=204))]
    )
    [logged] = store.deliveries(tenant_id)
    assert (logged.delivery.status, logged.delivery.attempts) == ("delivered", 2)
    assert logged.last_attempt is not None
    assert (logged.last_attempt.attempt, logged.last_attempt.http_status) == (2, 204)
    assert [each.http_status for each in store.attempts(queued.delivery_id)] == [500, 204]


def test_the_log_is_bound_to_the_tenant(store: WebhookStore, clock: Clock, tenant_id: str) -> None:
    """A tenant sees neither the platform's deliveries nor another tenant's, the platform's own view does."""
    mine, platform = add(store, tenant_id), add(store, PLATFORM)
    queued = store.enqueue([pending(mine, clock), pending(platform, clock)])
    assert [each.delivery.endpoint_id for each in store.deliveries(tenant_id)] == [mine.endpoint_id]
    with pytest.raises(UnknownWebhook):
        store.delivery(queued[1].delivery_id, tenant_id)
    with pytest.raises(UnknownWebhook):
        store.redeliver(queued[1].delivery_id, tenant_id)
    assert store.attempts(queued[1].delivery_id, tenant_id) == []


def test_disabling_cancels_what_waits_and_nothing_else(
    store: WebhookStore, clock: Clock, tenant_id: str
) -> None:
    """Delivered stays delivered, another endpoint's queue stays a queue, bodies stay."""
    endpoint, other = add(store, tenant_id), add(store, tenant_id)
    sent, waits, others = store.enqueue(
        [pending(endpoint, clock, "a-1"), pending(endpoint, clock, "a-2"), pending(other, clock, "a-2")]
    )
    store.record_attempts([(replace(sent, status="delivered"), attempt_at(sent, clock))])
    store.disable(endpoint.endpoint_id, "no longer wanted")
    assert store.delivery(sent.delivery_id).status == "delivered"
    assert store.delivery(others.delivery_id).status == "pending"
    cancelled = store.delivery(waits.delivery_id)
    assert cancelled.status == "cancelled"
    assert cancelled.status_reason == "endpoint disabled: no longer wanted"
    assert cancelled.body == waits.body


def test_a_redelivery_starts_the_schedule_again(store: WebhookStore, clock: Clock, tenant_id: str) -> None:
    """The same id and body, no attempts yet, due now."""
    [queued] = store.enqueue([pending(add(store, tenant_id), clock)])
    store.record_attempts(
        [
            (
                replace(queued, status="failed", status_reason="gave up", attempts=10),
                attempt_at(queued, clock, 10),
            )
        ]
    )
    clock.advance(3_600)
    store.redeliver(queued.delivery_id)
    again = store.delivery(queued.delivery_id)
    assert (again.status, again.status_reason, again.attempts) == ("pending", "", 0)
    assert again.body == queued.body
    assert abs(again.next_attempt_at - clock.now) < timedelta(milliseconds=1)


def test_nothing_is_redelivered_to_a_disabled_endpoint(
    store: WebhookStore, clock: Clock, tenant_id: str
) -> None:
    """It must be enabled first, and then it works."""
    endpoint = add(store, tenant_id)
    [queued] = store.enqueue([pending(endpoint, clock)])
    store.disable(endpoint.endpoint_id, "off")
    with pytest.raises(ValueError, match="enable it first"):
        store.redeliver(queued.delivery_id)
    store.enable(endpoint.endpoint_id)
    assert store.redeliver(queued.delivery_id).status == "pending"
