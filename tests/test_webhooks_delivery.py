"""From an alert to a receiver: the real store, a real HTTP server, a clock that the test turns."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs
from webhook_receiver import LOCALHOST, Answer, Clock, Received, Receiver, alert, receiving, until

from schemas.alert import Alert
from store.database import Database, StoreError, StoreUnavailable
from store.webhook_rows import Attempt, Delivery, Endpoint
from store.webhook_secrets import SecretBox
from store.webhooks import PLATFORM, UNSIGNABLE, UnknownWebhook, WebhookStore
from streams.metrics import REGISTRY
from streams.webhooks.address import UrlRefused
from streams.webhooks.attempt import Attempts
from streams.webhooks.delivery import PER_ENDPOINT, WebhookDelivery, _delivery
from streams.webhooks.endpoints import add_endpoint, update_endpoint
from streams.webhooks.sender import AttemptResult, Sender

_numbers = count(1)


SECRETS = SecretBox(b"s" * 32)


async def hand_over(delivery: WebhookDelivery, raised: Alert, partition: int) -> None:
    """Hand over one alert."""
    await delivery.on_alerts([(raised, partition)])


class World:
    """A tenant and a partition that no other test has, its endpoint's receiver, the store, the clock."""

    def __init__(self, database: Database, receiver: Receiver) -> None:
        number = next(_numbers)
        self.tenant_id = f"tenant-{number}"
        self.partition = number
        self.clock = Clock()
        self.store = WebhookStore(database, self.clock, lambda: SECRETS)
        self.receiver = receiver

    def add(self, tenant_id: str | None = None, path: str = "/hook", **options: Any) -> Endpoint:
        owner = self.tenant_id if tenant_id is None else tenant_id
        return self.store.add(tenant_id=owner, url=self.receiver.url(path), **options)

    def alert(self, alert_id: str = "a-1", revision: int = 1, **fields: Any) -> Alert:
        return alert(self.tenant_id, alert_id, revision, **fields)

    @asynccontextmanager
    async def running(
        self, store: WebhookStore | None = None, limit_s: float = 15, **options: Any
    ) -> AsyncIterator[WebhookDelivery]:
        """A worker that owns this test's partition."""
        delivery = WebhookDelivery(
            store or self.store,
            sender=Sender(allow=LOCALHOST, limit_s=limit_s),
            clock=self.clock,
            random=lambda: 0.0,
            **options,
        )
        await delivery.start()
        await delivery.assign({self.partition})
        try:
            yield delivery
        finally:
            await delivery.stop()

    def logged(self, tenant_id: str | None = None) -> Sequence[Delivery]:
        """What became of each delivery, in the order of the alerts and revisions."""
        rows = [row.delivery for row in self.store.deliveries(tenant_id or self.tenant_id)]
        return sorted(rows, key=lambda row: (row.alert_id, row.revision))

    def statuses(self) -> list[str]:
        return [row.status for row in self.logged()]

    def types(self) -> list[str]:
        return [json.loads(request.body)["type"] for request in self.receiver.received]

    def requests(self) -> list[Received]:
        """What arrived, without `barrier`'s markers."""
        return [request for request in self.receiver.received if request.path == "/hook"]

    def reached(self, *statuses: str) -> Callable[[], bool]:
        return lambda: self.statuses() == [*statuses]

    def attempted(self, *attempts: int) -> Callable[[], bool]:
        return lambda: [row.attempts for row in self.logged()] == [*attempts]

    async def barrier(self, delivery: WebhookDelivery, partition: int | None = None) -> None:
        """Return when all that was due has gone: so has a marker, another tenant's, that was queued last."""
        tenant_id = f"{self.tenant_id}-marker-{next(_numbers)}"
        self.add(tenant_id, path=f"/{tenant_id}")
        await delivery.reload()
        await hand_over(delivery, alert(tenant_id), self.partition if partition is None else partition)
        await until(lambda: f"/{tenant_id}" in [request.path for request in self.receiver.received])


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    """A world of its own; its endpoints are gone afterwards."""
    with receiving() as receiver:
        made = World(database, receiver)
        yield made
        for endpoint in made.store.list():
            made.store.remove(endpoint.endpoint_id)


async def test_an_alert_arrives_and_its_receiver_verifies_it(world: World) -> None:
    """Type, time and the whole alert arrive, signed so that the receiver's library accepts them."""
    endpoint = world.add()
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.reached("delivered"))
    [request] = world.receiver.received
    read = Webhook(endpoint.secret).verify(request.body, request.headers)
    assert (read["type"], read["timestamp"]) == ("alert.opened", "2026-01-31T09:30:00.000Z")
    assert Alert.model_validate(read["data"]) == world.alert()
    assert request.id == world.logged()[0].delivery_id


async def test_each_status_of_an_alert_has_a_type(world: World) -> None:
    """Opened, updated, resolved, in the order of the revisions."""
    world.add()
    revisions = [(1, "open"), (2, "updated"), (3, "resolved")]
    async with world.running() as delivery:
        await delivery.on_alerts([(world.alert(revision=n, status=s), world.partition) for n, s in revisions])
        await until(world.reached("delivered", "delivered", "delivered"))
    assert world.types() == ["alert.opened", "alert.updated", "alert.resolved"]


async def test_old_and_new_secret_verify_after_a_rotation(world: World) -> None:
    """A rotation counts from the next attempt, without a reload."""
    old = world.add()
    async with world.running() as delivery:
        new = world.store.rotate_secret(old.endpoint_id)
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.reached("delivered"))
    [request] = world.receiver.received
    assert new.secret != old.secret
    for secret in (old.secret, new.secret):
        Webhook(secret).verify(request.body, request.headers)


async def test_a_failure_is_tried_again_with_the_same_id_and_a_new_time(world: World) -> None:
    """500, then after five seconds 204: one id, two timestamps, both attempts in the log."""
    world.add()
    world.receiver.answers.append(Answer(500))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.attempted(1))
        world.clock.advance(4)
        await world.barrier(delivery)
        assert len(world.requests()) == 1
        world.clock.advance(1.001)
        await delivery.reload()
        await until(world.reached("delivered"))
    first, second = world.requests()
    assert first.id == second.id
    assert first.body == second.body
    assert int(second.headers["webhook-timestamp"]) >= int(first.headers["webhook-timestamp"]) + 5
    assert [each.http_status for each in world.store.attempts(first.id)] == [500, 204]


async def test_after_ten_attempts_a_delivery_has_failed(world: World) -> None:
    """The schedule of the standard is gone through to its end, and nothing is sent after it."""
    world.add()
    world.receiver.answers.extend([Answer(500)] * 10)
    waits_s = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        for made, wait_s in enumerate(waits_s, 1):
            await until(world.attempted(made))
            world.clock.advance(wait_s + 0.001)
            await delivery.reload()
        await until(world.reached("failed"))
        world.clock.advance(100_000)
        await world.barrier(delivery)
    assert len(world.requests()) == 10
    assert world.logged()[0].status_reason == "gave up after 10 attempts"


async def test_the_same_revision_again_is_not_delivered_again(world: World) -> None:
    """Kafka may hand over an alert twice: while it waits, and after it was delivered."""
    world.add()
    async with world.running() as delivery:
        await delivery.on_alerts([(world.alert(), world.partition)] * 2)
        await until(world.reached("delivered"))
        await hand_over(delivery, world.alert(), world.partition)
        await delivery.reload()
        await hand_over(delivery, world.alert("a-2"), world.partition)
        await until(world.reached("delivered", "delivered"))
    assert len(world.receiver.received) == 2


async def test_a_tenant_never_receives_another_tenant_s_alert(world: World) -> None:
    """Its own alert arrives; the other tenant's reaches the platform alone."""
    world.add(path="/tenant")
    world.add(PLATFORM, path="/platform")
    async with world.running() as delivery:
        await hand_over(delivery, alert(f"{world.tenant_id}-other"), world.partition)
        await hand_over(delivery, world.alert(), world.partition)
        await until(lambda: len(world.receiver.received) == 3)
    seen = {(each.path, json.loads(each.body)["data"]["tenant_id"]) for each in world.receiver.received}
    mine, other = world.tenant_id, f"{world.tenant_id}-other"
    assert seen == {("/tenant", mine), ("/platform", mine), ("/platform", other)}


async def test_only_what_is_severe_enough_is_sent(world: World) -> None:
    """An endpoint for high receives high and critical."""
    world.add(min_severity="high")
    severities = ("low", "medium", "high", "critical")
    async with world.running() as delivery:
        await delivery.on_alerts([(world.alert(s, severity=s), world.partition) for s in severities])
        await until(lambda: len(world.receiver.received) == 2)
    assert {row.alert_id for row in world.logged()} == {"high", "critical"}


async def test_a_redirect_is_a_failure(world: World) -> None:
    """It is neither followed nor taken for success."""
    world.add()
    world.receiver.answers.append(Answer(302, {"Location": world.receiver.url("/elsewhere")}))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.attempted(1))
    assert world.statuses() == ["pending"]
    assert [request.path for request in world.receiver.received] == ["/hook"]


async def test_410_disables_the_endpoint(world: World) -> None:
    """What waits is cancelled, what comes later is not queued, and the reason can be read."""
    endpoint = world.add()
    world.receiver.answers.extend([Answer(500), Answer(410)])
    async with world.running() as delivery:
        await hand_over(delivery, world.alert("a-1"), world.partition)
        await until(world.attempted(1))
        with capture_logs() as logs:
            await hand_over(delivery, world.alert("a-2"), world.partition)
            await until(world.reached("cancelled", "failed"))
            await until(lambda: "webhook_endpoint_disabled" in [line["event"] for line in logs])
        await until(lambda: REGISTRY.get_sample_value("tenantwatch_webhooks_pending") == 0)
        await hand_over(delivery, world.alert("a-3"), world.partition)
        assert world.statuses() == ["cancelled", "failed"]
    disabled = world.store.get(endpoint.endpoint_id)
    assert (disabled.status, disabled.status_reason) == ("disabled", "answered 410 Gone")


async def test_410_of_an_endpoint_that_is_removed_meanwhile_is_a_failure_like_others(world: World) -> None:
    """As of a receiver that removes it and says so; to end the worker for that would stop everybody's."""
    endpoint = world.add()
    [queued] = world.store.enqueue([_delivery(endpoint, world.alert(), world.partition, world.clock.now)])

    class Unsubscribing(Sender):
        async def send(self, url: str, headers: object, body: bytes) -> AttemptResult:
            await asyncio.to_thread(world.store.remove, endpoint.endpoint_id)
            return AttemptResult(410, 1, "HTTP 410")

    sender = Unsubscribing()
    outcome = await Attempts(world.store, sender, world.clock, lambda: 0.0).make(queued, lambda: None)
    await sender.aclose()
    assert outcome.delivery is not None
    assert (outcome.delivery.status, outcome.delivery.status_reason) == ("failed", "answered 410 Gone")
    assert world.store.list(world.tenant_id) == []


@pytest.mark.parametrize("damage", ["another key", "cut short"])
async def test_an_endpoint_whose_secret_does_not_open_is_disabled_alone(
    world: World, database: Database, damage: str
) -> None:
    """The others are sent to; with a new secret it is one of them again."""
    other = world.add()
    lost = WebhookStore(database, world.clock, lambda: SecretBox(b"o" * 32)).add(
        tenant_id=world.tenant_id, url=world.receiver.url("/lost")
    )
    if damage == "cut short":
        database.insert_rows("webhook_endpoints", [asdict(replace(lost, secret="sealed:abc", version=2))])
    async with world.running() as delivery:
        with capture_logs() as logs:
            await hand_over(delivery, world.alert("a-1"), world.partition)
            await until(lambda: sorted(world.statuses()) == ["cancelled", "delivered"])
        assert "webhook_endpoint_disabled" in [line["event"] for line in logs]
        disabled = world.store.get(lost.endpoint_id)
        assert (disabled.status, disabled.status_reason) == ("disabled", UNSIGNABLE)
        world.store.rotate_secret(lost.endpoint_id)
        renewed = world.store.enable(lost.endpoint_id)
        await delivery.reload()
        await hand_over(delivery, world.alert("a-2"), world.partition)
        await until(lambda: world.statuses().count("delivered") == 3)
    assert world.store.get(other.endpoint_id).status == "enabled"
    [request] = [request for request in world.receiver.received if request.path == "/lost"]
    Webhook(renewed.secret).verify(request.body, request.headers)


async def test_retry_after_holds_the_endpoint_back(world: World) -> None:
    """A receiver that asks for ten minutes gets them, for this alert and for the next one."""
    world.add()
    world.receiver.answers.append(Answer(503, {"Retry-After": "600"}))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert("a-1"), world.partition)
        await until(world.attempted(1))
        await hand_over(delivery, world.alert("a-2"), world.partition)
        world.clock.advance(599)
        await world.barrier(delivery)
        assert len(world.requests()) == 1
        world.clock.advance(2)
        await delivery.reload()
        await until(world.reached("delivered", "delivered"))


async def test_429_slows_the_endpoint_down(world: World) -> None:
    """Without Retry-After, the next alert waits five seconds too."""
    world.add()
    world.receiver.answers.append(Answer(429))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert("a-1"), world.partition)
        await until(world.attempted(1))
        await hand_over(delivery, world.alert("a-2"), world.partition)
        await world.barrier(delivery)
        assert len(world.requests()) == 1
        world.clock.advance(5.1)
        await delivery.reload()
        await until(world.reached("delivered", "delivered"))


async def test_a_receiver_that_hangs_is_tried_again(world: World) -> None:
    """The time limit makes it a failed attempt like any other."""
    world.add()
    answering = threading.Event()
    world.receiver.answers.append(Answer(hold=answering))
    async with world.running(limit_s=0.3) as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.attempted(1))
        answering.set()
    [logged] = world.store.deliveries(world.tenant_id)
    assert logged.delivery.status == "pending"
    assert logged.last_attempt is not None
    assert (logged.last_attempt.http_status, logged.last_attempt.error) == (0, "no answer within 0.3 s")


async def test_a_slow_endpoint_does_not_hold_the_others_up(world: World) -> None:
    """While one receiver sits on as many alerts as it may, another has had all of its own."""
    slow, many = world.add(), PER_ENDPOINT + 1
    answering = threading.Event()
    world.receiver.answers.extend([Answer(hold=answering)] * many)
    with receiving() as quick:
        other = world.store.add(tenant_id=world.tenant_id, url=quick.url(), min_severity="critical")
        async with world.running(max_in_flight=many) as delivery:
            await delivery.on_alerts([(world.alert(f"s-{n}"), world.partition) for n in range(many)])
            await until(lambda: len(world.receiver.received) == PER_ENDPOINT)
            world.store.update(slow.endpoint_id, min_severity="critical")
            world.store.update(other.endpoint_id, min_severity="low")
            await delivery.reload()
            await delivery.on_alerts(
                [(world.alert(f"q-{n}", severity="low"), world.partition) for n in range(3)]
            )
            await until(lambda: len(quick.received) == 3)
            assert len(world.receiver.received) == PER_ENDPOINT
            answering.set()
            await until(world.reached(*["delivered"] * (many + 3)))


async def test_revisions_arrive_in_order_through_a_failure(world: World) -> None:
    """The update waits until the opening got through."""
    world.add()
    world.receiver.answers.append(Answer(500))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.attempted(1))
        await hand_over(delivery, world.alert(revision=2), world.partition)
        world.clock.advance(6)
        await delivery.reload()
        await until(world.reached("delivered", "delivered"))
    assert world.types() == ["alert.opened", "alert.opened", "alert.updated"]


async def test_a_failed_update_is_superseded_and_says_so(world: World) -> None:
    """The next revision goes at once; the log tells why the failed one did not."""
    world.add()
    world.receiver.answers.extend([Answer(), Answer(500)])
    async with world.running() as delivery:
        await delivery.on_alerts([(world.alert(revision=n), world.partition) for n in (1, 2)])
        await until(world.attempted(1, 1))
        await hand_over(delivery, world.alert(revision=3, status="resolved"), world.partition)
        await until(world.reached("delivered", "cancelled", "delivered"))
    assert world.logged()[1].status_reason == "superseded by a later revision"


async def test_a_restart_keeps_the_queue(world: World) -> None:
    """What one worker could not deliver the next one does, under the same id, when it is due."""
    world.add()
    world.receiver.answers.append(Answer(500))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.attempted(1))
    async with world.running() as delivery:
        world.clock.advance(6)
        await delivery.reload()
        await until(world.reached("delivered"))
    first, second = world.receiver.received
    assert first.id == second.id


async def test_an_outcome_that_was_not_stored_is_sent_again(world: World, database: Database) -> None:
    """Dying between sending and storing sends once more, under the same id: at least once."""

    class Dying(WebhookStore):
        def record_attempts(self, made: Sequence[tuple[Delivery, Attempt]]) -> Sequence[Delivery]:
            raise StoreUnavailable("gone")

    world.add()
    dying = WebhookDelivery(
        Dying(database, secrets=lambda: SECRETS), sender=Sender(allow=LOCALHOST), clock=world.clock
    )
    await dying.start()
    await dying.assign({world.partition})
    await hand_over(dying, world.alert(), world.partition)
    await until(lambda: world.receiver.received)
    await dying.stop(deadline_s=0.1)
    assert world.statuses() == ["pending"]
    async with world.running():
        await until(world.reached("delivered"))
    first, second = world.receiver.received
    assert first.id == second.id


async def test_stopping_finishes_what_is_in_flight(world: World) -> None:
    """An attempt under way is answered and recorded before stop returns."""
    world.add()
    answering = threading.Event()
    world.receiver.answers.append(Answer(hold=answering))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(lambda: world.receiver.received)
        threading.Timer(0.2, answering.set).start()
    assert world.statuses() == ["delivered"]


async def test_only_the_owner_of_the_partition_sends(world: World) -> None:
    """Without its partition a worker queues and does not send; the one that gets it does."""
    world.add()
    async with world.running() as delivery:
        elsewhere = world.partition + 100_000
        await delivery.assign({elsewhere})
        await hand_over(delivery, world.alert(), world.partition)
        await world.barrier(delivery, elsewhere)
        assert world.statuses() == ["pending"]
        async with world.running():
            await until(world.reached("delivered"))
    assert len(world.requests()) == 1


async def test_a_rebalance_while_the_queue_is_read_counts(world: World, database: Database) -> None:
    """Rows of a partition that was lost between the query and its answer are not sent."""

    class Rebalancing(WebhookStore):
        lose: Callable[[], object] | None = None

        def pending(self, partitions: Collection[int] | None = None) -> Sequence[Delivery]:
            rows = super().pending(partitions)
            if self.lose is not None and rows:
                lose, self.lose = self.lose, None
                lose()
            return rows

    world.add()
    store, elsewhere = Rebalancing(database, world.clock, lambda: SECRETS), world.partition + 100_000
    async with world.running(store) as delivery:
        await delivery.assign({elsewhere})
        await hand_over(delivery, world.alert(), world.partition)
        loop = asyncio.get_running_loop()
        store.lose = lambda: asyncio.run_coroutine_threadsafe(delivery.assign({elsewhere}), loop).result()
        await delivery.assign({world.partition})
        await until(lambda: store.lose is None)
        await world.barrier(delivery, elsewhere)
    assert world.statuses() == ["pending"]
    assert world.requests() == []


async def test_what_fails_after_its_partition_was_lost_is_not_retried_here(world: World) -> None:
    """The attempt in flight is finished and recorded; the next one is the new owner's."""
    world.add()
    other, elsewhere = f"{world.tenant_id}-other", world.partition + 100_000
    world.add(other, path="/other")
    answering = threading.Event()
    world.receiver.answers.append(Answer(500, hold=answering))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(lambda: world.receiver.received)
        await delivery.assign({elsewhere})
        answering.set()
        await until(world.attempted(1))
        world.clock.advance(6)  # due, and too soon for the worker to have read the queue again
        await hand_over(delivery, alert(other), elsewhere)
        await until(lambda: len(world.receiver.received) == 2)
    assert [request.path for request in world.receiver.received] == ["/hook", "/other"]
    assert world.statuses() == ["pending"]


async def test_what_was_delivered_elsewhere_is_not_sent_again(world: World) -> None:
    """The store's row is read before each attempt: another worker has finished it meanwhile."""
    world.add()
    world.receiver.answers.append(Answer(500))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.attempted(1))
        elsewhere = world.store.delivery(world.logged()[0].delivery_id)
        attempt = world.store.attempts(elsewhere.delivery_id)[0]
        world.store.record_attempts([(replace(elsewhere, status="delivered", attempts=2), attempt)])
        world.clock.advance(6)  # due, and too soon for the worker to have read the queue again
        await hand_over(delivery, world.alert("a-2"), world.partition)
        await until(world.reached("delivered", "delivered"))
    sent = [json.loads(request.body)["data"]["alert_id"] for request in world.receiver.received]
    assert sent == ["a-1", "a-2"]


async def test_a_clock_that_is_set_back_holds_up_no_refresh(world: World) -> None:
    """What another process added is seen as soon as ever, not hours later."""
    async with world.running(refresh_s=0.2) as delivery:
        await delivery.reload()
        world.clock.advance(-3_600)
        world.store.add(tenant_id=world.tenant_id, url=world.receiver.url())
        await until(lambda: world.tenant_id in [each.tenant_id for each in delivery._endpoints])


async def test_what_was_postponed_elsewhere_waits(world: World) -> None:
    """Another worker has tried meanwhile, and failed: its time for the next attempt counts."""
    world.add()
    world.receiver.answers.append(Answer(500))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.attempted(1))
        elsewhere = world.store.delivery(world.logged()[0].delivery_id)
        later = world.clock.now + timedelta(hours=1)
        attempt = world.store.attempts(elsewhere.delivery_id)[0]
        world.store.record_attempts([(replace(elsewhere, attempts=2, next_attempt_at=later), attempt)])
        world.clock.advance(6)
        await hand_over(delivery, world.alert("a-2"), world.partition)
        await until(world.reached("pending", "delivered"))
        world.clock.advance(3_600)
        await delivery.reload()
        await until(world.reached("delivered", "delivered"))
    assert len(world.receiver.received) == 3


async def test_an_alert_that_cannot_be_stored_is_not_taken(world: World, database: Database) -> None:
    """The error goes to the caller, who does not commit, and hands the alert over again."""

    class Failing(WebhookStore):
        down = True

        def enqueue(self, deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
            if self.down:
                raise StoreUnavailable("no answer")
            return super().enqueue(deliveries)

    world.add()
    store = Failing(database, world.clock, lambda: SECRETS)
    async with world.running(store) as delivery:
        with pytest.raises(StoreUnavailable):
            await hand_over(delivery, world.alert(), world.partition)
        assert world.logged() == []
        store.down = False
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.reached("delivered"))


async def test_sending_goes_on_after_the_store_was_down(world: World, database: Database) -> None:
    """While the store is down nothing is sent and nothing ends; once it is back, all is."""

    class Failing(WebhookStore):
        failures = 0

        def to_send(self, waiting: Sequence[Delivery]) -> Sequence[tuple[Delivery, Endpoint] | None]:
            if self.failures < 3:
                self.failures += 1
                raise StoreUnavailable("no answer")
            return super().to_send(waiting)

        def record_attempts(self, made: Sequence[tuple[Delivery, Attempt]]) -> Sequence[Delivery]:
            if self.failures < 6:
                self.failures += 1
                raise StoreUnavailable("no answer")
            return super().record_attempts(made)

    world.add()
    async with world.running(Failing(database, world.clock, lambda: SECRETS)) as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.reached("delivered"))
    assert len(world.receiver.received) == 1


async def test_a_slow_store_slows_down_sending_only_in_the_end(
    world: World, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endpoint gets more than its share at a time before any outcome is stored, but not without end."""
    storing = threading.Event()

    class Slow(WebhookStore):
        def record_attempts(self, made: Sequence[tuple[Delivery, Attempt]]) -> Sequence[Delivery]:
            assert storing.wait(30)
            return super().record_attempts(made)

    world.add()
    monkeypatch.setattr("streams.webhooks.delivery.MAX_UNSTORED", 2 * PER_ENDPOINT)
    alerts = [(world.alert(f"a-{n}"), world.partition) for n in range(3 * PER_ENDPOINT)]
    async with world.running(Slow(database, world.clock, lambda: SECRETS)) as delivery:
        await delivery.on_alerts(alerts)
        await until(lambda: len(world.receiver.received) == 2 * PER_ENDPOINT)
        await asyncio.sleep(0.3)
        assert len(world.receiver.received) == 2 * PER_ENDPOINT
        assert set(world.statuses()) == {"pending"}
        storing.set()
        await until(lambda: set(world.statuses()) == {"delivered"})
    assert len(world.receiver.received) == len(alerts)


@pytest.mark.parametrize("answer", [Answer(429, headers={"Retry-After": "600"}), Answer(410)])
async def test_who_asks_to_be_left_alone_gets_no_more_than_what_is_under_way(
    answer: Answer, world: World
) -> None:
    """However many alerts wait: its share at a time, and after the first answers nothing."""
    world.add()
    world.receiver.answers.extend([answer] * 50)
    async with world.running() as delivery:
        await delivery.on_alerts([(world.alert(f"a-{n}"), world.partition) for n in range(50)])
        await until(lambda: len(world.receiver.received) == PER_ENDPOINT)
        await asyncio.sleep(2)
    assert len(world.receiver.received) == PER_ENDPOINT


async def test_our_own_error_is_not_hidden(world: World, database: Database) -> None:
    """A wrong statement ends the sending, and the next alert is refused with the cause."""

    class Wrong(WebhookStore):
        def to_send(self, waiting: Sequence[Delivery]) -> Sequence[tuple[Delivery, Endpoint] | None]:
            raise StoreError("no such column")

    world.add()
    async with world.running(Wrong(database, world.clock, lambda: SECRETS)) as delivery:
        await hand_over(delivery, world.alert("a-0"), world.partition)
        with pytest.raises(StoreError):
            await delivery.wait()
        with pytest.raises(RuntimeError, match="has ended") as raised:
            await hand_over(delivery, world.alert("a-1"), world.partition)
        assert isinstance(raised.value.__cause__, StoreError)


async def test_alerts_before_the_start_are_refused(world: World) -> None:
    """Without endpoints loaded, an alert would silently go nowhere."""
    delivery = WebhookDelivery(world.store)
    with pytest.raises(RuntimeError, match="start"):
        await hand_over(delivery, world.alert(), world.partition)
    await delivery.stop()


async def test_an_endpoint_disabled_elsewhere_is_not_sent_to(world: World) -> None:
    """Another process disabled it; this worker has not read that yet, and still does not send."""
    endpoint = world.add()
    async with world.running() as delivery:
        world.store.disable(endpoint.endpoint_id, "off")
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.reached("cancelled"))
    assert world.receiver.received == []


async def test_a_new_endpoint_counts_after_a_reload(world: World) -> None:
    """Added while running, it receives the next alert."""
    async with world.running() as delivery:
        world.add()
        await delivery.reload()
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.reached("delivered"))


async def test_a_delivered_alert_can_be_redelivered(world: World) -> None:
    """The receiver gets the same id and body once more."""
    world.add()
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.reached("delivered"))
        await delivery.redeliver(world.logged()[0].delivery_id)
        await until(world.reached("delivered"))
        await until(lambda: len(world.receiver.received) == 2)
    first, second = world.receiver.received
    assert (first.id, first.body) == (second.id, second.body)


async def test_a_redelivery_asked_for_in_another_process_is_found(world: World) -> None:
    """The store is the queue: what is put back there is sent from here."""
    world.add()
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.reached("delivered"))
        world.store.redeliver(world.logged()[0].delivery_id)
        await delivery.reload()
        await until(world.reached("delivered"))
    assert len(world.receiver.received) == 2


async def test_a_test_is_sent_at_once_and_verifies(world: World) -> None:
    """It needs no worker, has a type of its own, and the log stays as it was."""
    endpoint = world.add()
    delivery = WebhookDelivery(world.store, allow=LOCALHOST)
    result = await delivery.test(endpoint.endpoint_id)
    await delivery.stop()
    assert result.delivered
    [request] = world.receiver.received
    read = Webhook(endpoint.secret).verify(request.body, request.headers)
    assert read["type"] == "webhook.test"
    assert Alert.model_validate(read["data"]).tenant_id == world.tenant_id
    assert world.logged() == []


async def test_a_failed_test_says_why(world: World) -> None:
    """Status and error come back; an unknown endpoint is an error of its own."""
    endpoint = world.add(PLATFORM)
    world.receiver.answers.append(Answer(401))
    delivery = WebhookDelivery(world.store, allow=LOCALHOST)
    result = await delivery.test(endpoint.endpoint_id)
    assert (result.http_status, result.error, result.delivered) == (401, "HTTP 401", False)
    with pytest.raises(UnknownWebhook):
        await delivery.test("ep_none")
    await delivery.stop()


async def test_without_the_operator_s_exception_a_private_address_is_not_called(world: World) -> None:
    """The endpoint got into the store unchecked; the attempt is refused all the same, and retried."""
    world.add()
    delivery = WebhookDelivery(world.store, clock=world.clock)
    await delivery.start()
    await delivery.assign({world.partition})
    await hand_over(delivery, world.alert(), world.partition)
    await until(world.attempted(1))
    await delivery.stop()
    [logged] = world.store.deliveries(world.tenant_id)
    assert logged.last_attempt is not None
    assert logged.last_attempt.error.startswith("refused: ")
    assert world.receiver.received == []


async def test_an_endpoint_is_checked_before_it_is_added_or_changed(world: World) -> None:
    """A private address is refused at the door, unless the operator allows it."""
    refused = world.receiver.url()
    with pytest.raises(UrlRefused, match="TENANTWATCH_WEBHOOK_ALLOW"):
        await add_endpoint(world.store, tenant_id=world.tenant_id, url=refused)
    assert world.store.list(world.tenant_id) == []
    added = await add_endpoint(world.store, tenant_id=world.tenant_id, url=refused, allow=LOCALHOST)
    with pytest.raises(UrlRefused):
        await update_endpoint(world.store, added.endpoint_id, url="http://169.254.169.254/latest/meta-data")
    changed = await update_endpoint(world.store, added.endpoint_id, min_severity="high")
    assert (changed.url, changed.min_severity) == (refused, "high")


async def test_logs_hold_neither_secrets_nor_bodies_nor_urls(world: World) -> None:
    """What is logged names the delivery and no more."""
    endpoint = world.add(path="/hook?token=hush")
    world.receiver.answers.append(Answer(500))
    with capture_logs() as logs:
        async with world.running() as delivery:
            await hand_over(delivery, world.alert(), world.partition)
            await until(world.attempted(1))
            world.clock.advance(6)
            await delivery.reload()
            await until(world.reached("delivered"))
    assert [line["event"] for line in logs] == ["webhook_retried", "webhook_delivered"]
    text = repr(logs)
    for hidden in (endpoint.secret, "hush", "192.0.2.7", "Anmeldungen"):
        assert hidden not in text


async def test_attempts_are_counted_by_result(world: World) -> None:
    """One retried, one delivered."""

    def counted(result: str) -> float:
        return REGISTRY.get_sample_value("tenantwatch_webhook_attempts_total", {"result": result}) or 0

    retried, delivered = counted("retried"), counted("delivered")
    world.add()
    world.receiver.answers.append(Answer(500))
    async with world.running() as delivery:
        await hand_over(delivery, world.alert(), world.partition)
        await until(world.attempted(1))
        world.clock.advance(6)
        await delivery.reload()
        await until(world.reached("delivered"))
    assert (counted("retried") - retried, counted("delivered") - delivered) == (1, 1)
