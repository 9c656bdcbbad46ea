"""What a worker watches while it runs: its place in the group, its claims, and whose alerts it delivers."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from faust.tables.recovery import Recovery as TableRecovery
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from test_transport import until

from schemas.tenant import Tenant
from store.database import Database
from store.events import KafkaIds
from store.ownership import Ownership
from streams.directory import Directory
from streams.faust_app import StreamConfig
from streams.recovery import GroupMember, Recovery
from streams.topics import DEFAULT_PARTITIONS, TENANTS, TOPIC_OF, ensure_topics
from streams.worker import Worker
from tests.schema_examples import encode, event

ALL = set(range(DEFAULT_PARTITIONS))


@dataclass
class Delivery:
    """Stands in for webhook delivery: is told which partitions are its own."""

    assigned: set[int] = field(default_factory=set)

    async def start(self) -> None:
        """There is nothing to load."""

    async def stop(self, deadline_s: float) -> None:
        """There is nothing in flight."""

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def on_alerts(self, alerts: Any) -> None:
        """Nobody wants them."""

    async def assign(self, partitions: set[int]) -> None:
        self.assigned = partitions


class Group:
    """Workers of one consumer group, in this process, with a Kafka and a server that are real."""

    def __init__(self, bootstrap: str, database: Database, folder: Path) -> None:
        self.bootstrap, self.database, self._folder = bootstrap, database, folder
        self._name = f"group-{uuid4().hex[:8]}"
        self.topics = ensure_topics(bootstrap)
        # In all partitions: what waits of one alone does not keep the consumer from asking for the others.
        self.tenant_ids = [f"worker-{uuid4().hex[:8]}" for _ in range(40)]
        self.sent: list[str] = []

    @asynccontextmanager
    async def worker(self, name: str, **config: Any) -> AsyncIterator[tuple[Worker, Delivery]]:
        """Run a worker."""
        delivery: Any = Delivery()
        chosen = StreamConfig(self.bootstrap, self._folder / name, name, self._name, **config)
        worker = Worker(chosen, self.topics, self.database, delivery, None, max_rows=1, max_wait_s=0.05)
        try:
            await worker.start()
            yield worker, delivery
        finally:
            await worker.stop(failed=True)

    async def enrol(self, name: str = "n", *, transaction: bool = False) -> None:
        """Say each tenant's settings."""
        tenants = [
            Tenant(tenant_id=tenant_id, organization_id="o", name=name) for tenant_id in self.tenant_ids
        ]
        values = {tenant.tenant_id: tenant.model_dump_json().encode() for tenant in tenants}
        await self._produce(TENANTS, values, transaction=transaction)

    async def send(self) -> None:
        """Send an event of each tenant."""
        events = {
            tenant_id: event(tenant_id=tenant_id, event_id=f"{len(self.sent)}-{tenant_id}")
            for tenant_id in self.tenant_ids
        }
        self.sent += sorted(sent["event_id"] for sent in events.values())
        await self._produce(TOPIC_OF["auth"], {tenant_id: encode(sent) for tenant_id, sent in events.items()})

    async def _produce(self, topic: str, values: Mapping[str, bytes], *, transaction: bool = False) -> None:
        id_ = uuid4().hex if transaction else None
        async with AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id=id_) as producer:
            async with producer.transaction() if transaction else nullcontext():
                for tenant_id, value in values.items():
                    await producer.send(topic, value, key=tenant_id.encode())
            await producer.flush()

    def stored(self) -> list[str]:
        rows = self.database.query(
            "SELECT event_id FROM events WHERE tenant_id IN {t:Array(String)}", {"t": self.tenant_ids}
        )
        return [row["event_id"] for row in rows]


@pytest.fixture(autouse=True)
def collecting_as_it_was() -> Iterator[None]:
    """A worker sets the collector for its process."""
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


@pytest.fixture
async def group(kafka: str, server: Database, tmp_path: Path) -> Group:
    made = Group(kafka, server, tmp_path)
    await made.enrol()
    return made


async def test_delivery_is_told_whose_alerts_it_delivers_also_after_a_rebalance(group: Group) -> None:
    """Each partition of the alerts is one worker's, so that each alert is sent by one."""
    async with group.worker("first") as (_, first):
        await until(lambda: first.assigned == ALL)
        async with group.worker("second") as (_, second):
            await until(lambda: second.assigned and first.assigned == ALL - second.assigned)
            assert first.assigned
        await until(lambda: first.assigned == ALL)


# More than a worker may ask for no records, and the client looks at that with its heartbeats.
POLL_S, LONGER_S = 2.0, 6.0


@pytest.mark.parametrize("hangs", [False, True], ids=["refuses", "hangs"])
async def test_a_worker_stays_in_its_group_while_the_store_is_away(
    group: Group, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    """For longer than a worker may ask for no records; left, it would begin anew when the store is back."""
    monkeypatch.setattr("streams.worker.STAY_INTERVAL_S", 0.2)
    back = threading.Event()

    def refuse(*insert: Any) -> None:
        if hangs:
            back.wait(30)
        raise ConnectionRefusedError("away")

    async with group.worker("alone", max_poll_interval_s=POLL_S) as (worker, _):
        await until(lambda: not worker.problems)
        generation = worker.pipeline.generation
        with patch.object(group.database, "_insert", refuse):
            for _ in range(5):  # chunks of each partition: more than may wait for the agent
                await group.send()
            await asyncio.sleep(LONGER_S)
            back.set()
        await until(lambda: sorted(group.stored()) == sorted(group.sent), 30)
        assert worker.pipeline.generation == generation


async def test_a_worker_stays_in_its_group_while_its_detectors_catch_up(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That may take longer too; left, it would begin to catch up anew, and never be done."""
    monkeypatch.setattr("streams.worker.STAY_INTERVAL_S", 0.2)
    for _ in range(5):
        await group.send()
    recover, begun = Recovery.recover, list[int]()

    async def slowly(self: Recovery, consumer: GroupMember, tps: set[TP], generation: int) -> Any:
        begun.append(generation)
        await asyncio.sleep(LONGER_S)
        return await recover(self, consumer, tps, generation)

    monkeypatch.setattr(Recovery, "recover", slowly)
    async with group.worker("alone", max_poll_interval_s=POLL_S):
        await until(lambda: sorted(group.stored()) == sorted(group.sent), 30)
    assert len(begun) == 1


async def test_a_worker_whose_partitions_another_group_claims_ends_and_says_so(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kafka takes it for their owner and will say nothing else, so it waits only as a rebalance may take."""
    monkeypatch.setattr("streams.worker.FENCED_SESSIONS", 0.1)
    async with group.worker("fenced") as (worker, _):
        await until(lambda: not worker.problems)
        theirs = {
            replace(state.claim, term=state.claim.term + 1): 0 for state in worker.pipeline.states.values()
        }
        ids = KafkaIds(group.topics.cluster_id, dict(group.topics.topic_ids))
        await asyncio.to_thread(Ownership(group.database, ids).claim, theirs, "of another group")
        await group.send()
        async with asyncio.timeout(20):
            with pytest.raises(RuntimeError, match="two groups write to one store, give each its own"):
                await worker.failed()
    assert group.stored() == []


async def test_what_was_fetched_for_an_assignment_that_is_over_is_not_lost_to_the_directory(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fetch of a worker that was stopped beyond its session ends in its next assignment, and moves it."""
    fetch = driver.Consumer._getmany
    asked: list[int] = []  # in which generation
    found: list[int] = []
    late: Any = None

    async def fetched(self: Any, chosen: Any, timeout: float) -> Any:  # noqa: ASYNC109 - as it is called
        if self.app is not late or asked:
            return await fetch(self, chosen, timeout)
        asked.append(self.app.consumer_generation_id)
        await until(lambda: restoring(self.app, asked[0]))
        while not found:
            got = await fetch(self, chosen, timeout)
            found.extend(r.offset for tp, some in got.items() if tp.topic == TENANTS for r in some)
        return got

    async def learn_nothing(self: Directory) -> None:
        """Events of other tests' tenants, which have left the directory, let a worker look for them."""

    async def never(*given: Any) -> bool:
        return False

    monkeypatch.setattr(driver.Consumer, "_getmany", fetched)
    # Nor is it to wait until the directory misses them.
    monkeypatch.setattr(Directory, "_read_to_the_end", learn_nothing)
    monkeypatch.setattr(Directory, "_positions_reached", never)
    async with group.worker("late") as (worker, _):
        await until(lambda: not worker.problems)
        late = worker.app
        await until(lambda: asked)
        await group.enrol("new")
        async with group.worker("other"):
            await until(lambda: found)
            await until(lambda: not worker.problems)
            assert worker.app.consumer_generation_id > asked[0]
            assert names(worker, group) == {"new"}


def names(worker: Worker, group: Group) -> set[str | None]:
    """Return the names that a worker's directory has of the group's tenants."""
    found = [worker.pipeline.directory.tenant(tenant_id) for tenant_id in group.tenant_ids]
    return {tenant and tenant.name for tenant in found}


def restoring(app: Any, before: int) -> bool:
    """Tell whether Faust restores the directory in a later generation, and has said where it begins."""
    active = {tp for tp in app.consumer._active_partitions if tp.topic == TENANTS}
    return bool(
        app.consumer_generation_id > before and app.in_recovery and app.consumer.flow_active and active
    )


async def test_a_transactions_marker_at_the_end_of_the_directory_holds_up_nobody(group: Group) -> None:
    """It is no record: Faust would wait for it for ever, and no event would be handled."""
    await group.enrol("new", transaction=True)
    try:
        async with asyncio.timeout(40), group.worker("alone") as (worker, _):
            await until(lambda: not worker.problems)
            assert names(worker, group) == {"new"}
            await group.send()
            await until(lambda: sorted(group.stored()) == sorted(group.sent))
    finally:
        await group.enrol()  # others share the topic: no marker is its end any more


async def test_what_the_directory_was_sent_and_got_lost_is_not_taken_for_a_marker(
    group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position is past it too: the worker would be ready, with settings that hold no more."""
    fetch = driver.Consumer._getmany
    lost: list[Any] = []

    async def losing(self: Any, *given: Any) -> Any:
        got = await fetch(self, *given)
        return {tp: some for tp, some in got.items() if tp.topic != TENANTS or lost.extend(some)}

    await group.enrol("new")
    monkeypatch.setattr(driver.Consumer, "_getmany", losing)
    async with asyncio.timeout(40), group.worker("alone") as (worker, _):
        await until(lambda: not worker.problems)
        assert lost
        assert names(worker, group) == {"new"}


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Ids of workers whose Faust never restores its tables."""
    ids: set[str] = set()
    seek = TableRecovery._seek_offsets

    async def hang(self: Any, *given: Any) -> None:
        if Path(self.app.conf.datadir).parent.name in ids:
            await asyncio.Event().wait()
        await seek(self, *given)

    monkeypatch.setattr(TableRecovery, "_seek_offsets", hang)
    monkeypatch.setattr("streams.worker.RESTORE_S", 3.0)
    return ids


async def test_a_worker_whose_directory_is_never_restored_after_a_rebalance_ends(
    group: Group, hanging: set[str]
) -> None:
    """It knows the directory from before and has taken over, but no event is read: it is not ready either."""
    async with group.worker("first") as (first, _):
        await until(lambda: not first.problems)
        hanging.add("first")
        async with group.worker("second") as (second, _):
            await until(lambda: first.pipeline.generation > 1)
            assert first.problems == ["directory: Faust has not restored its table yet; events wait in Kafka"]
            async with asyncio.timeout(20):
                with pytest.raises(RuntimeError, match=r"directory was not restored .* start it again"):
                    await first.failed()
            await until(lambda: not second.problems)


async def test_a_worker_whose_directory_is_never_restored_at_its_start_ends(
    group: Group, hanging: set[str]
) -> None:
    """Faust's own start waits for that, and would for ever."""
    hanging.add("alone")
    async with asyncio.timeout(20):
        with pytest.raises(RuntimeError, match="directory was not restored"):
            async with group.worker("alone"):
                pass
