"""The worker's life: start, run until asked to stop or until something of ours fails, stop in order."""

import asyncio
import contextlib
import gc
from functools import partial
from time import monotonic
from typing import Any, Final, cast

import structlog
from faust.types import TP

from schemas.event import Kind
from store.database import Database
from store.directories import first_version
from store.events import KafkaIds
from store.ownership import Ownership
from store.snapshots import Snapshots
from store.vault import Vault
from store.writer import EventWriter
from streams.addresses import AddressReader
from streams.alert_rows import AlertRows
from streams.anchoring import Anchoring, Send, webhook_target
from streams.app import Pipeline
from streams.breaker import Limits
from streams.chunk import Handled
from streams.faust_app import StreamConfig, create_app
from streams.forgetting import Forgetting
from streams.geography import Locate
from streams.groups import GroupWriter
from streams.heap import give_back
from streams.partition import PartitionState
from streams.priority import keep_order
from streams.reconciling import Reconciler
from streams.recovery import GroupMember, Recovery
from streams.retaining import Retainer
from streams.sealing import Sealer, SealingConfig
from streams.snapshots import SnapshotTaker
from streams.tenant_rows import TenantRows
from streams.topic_watch import TopicWatch, read_topic_ids
from streams.topics import ALERTS, TENANTS, Topics
from streams.transport import Consumer
from streams.webhooks.delivery import WebhookDelivery
from streams.webhooks.sender import Sender

log = structlog.get_logger()
# A clean end takes at most ten seconds, with what stops beside the worker (Kafka, servers, the store).
END_S: Final = 7.0
DRAIN_S: Final = 3.0
# A snapshot spares the next start from reading events again, but is not worth waiting for.
SNAPSHOT_S: Final = 2.0
# The next start seals what this one leaves.
SEAL_S: Final = 2.0
# A group takes a fraction of a second.
SLOW_STORE_S: Final = 5.0
STAY_INTERVAL_S: Final = 2.0
# After so many session timeouts a rebalance would have come, were the new owner of this worker's group.
FENCED_SESSIONS: Final = 5
# So long nothing of the directory may come while it is restored: longer than Faust and Kafka's client wait
# for an answer (90 s) before they ask again themselves.
RESTORE_S: Final = 120.0
STOP_S: Final = 4.0
# Attempts that have no answer by now are made again by the next owner.
LEAST_WEBHOOKS_S: Final = 0.5


class Worker:
    """One member of the consumer group.

    Parameters
    ----------
    config, topics
        Where Kafka is and what its topics are.
    database
        Migrated.
    webhooks
        Delivers alerts; started and stopped here.
    vault
        Where originals of personal data are kept; None, for benchmarks: events are stored as they come.
    max_rows, max_wait_s
        When a group of rows is inserted.
    snapshot_interval_s
        Between two snapshots of a partition's detectors.
    limits
        How much of a partition may be rejected before it is stopped.
    sealing
        How rows are sealed; None: they are not.
    locate
        Adds the positions of addresses, where there is a file of them.
    """

    def __init__(
        self,
        config: StreamConfig,
        topics: Topics,
        database: Database,
        webhooks: WebhookDelivery,
        vault: Vault | None,
        *,
        max_rows: int = 50_000,
        max_wait_s: float = 1.0,
        snapshot_interval_s: float = 60.0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        sealing: SealingConfig | None = None,
        locate: Locate | None = None,
    ) -> None:
        self._database = database
        self._webhooks = webhooks
        self._vault = vault
        self._forgetting = None if vault is None else Forgetting(vault, self._send_event)
        self._tenant_rows = TenantRows(database)
        ids = KafkaIds(topics.cluster_id, dict(topics.topic_ids))
        self._session_timeout_s = config.session_timeout_s
        self._writer = EventWriter(database, ids)
        self._alert_rows = AlertRows(self._writer, webhooks)
        self._groups = GroupWriter(
            self._writer,
            worker_id=config.worker_id,
            max_rows=max_rows,
            max_wait_s=max_wait_s,
            max_pending_rows=3 * max_rows,
            keep=None if vault is None else vault.keep,
            on_left_out=self._forgetting.forget if self._forgetting is not None else lambda _: None,
            on_stored=self._on_stored,
        )
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[Any]] = []
        self.app = create_app(config)
        snapshots = Snapshots(database, ids)
        addresses = AddressReader(snapshots)
        self.pipeline = Pipeline(
            self.app,
            topics,
            self._groups,
            addresses=addresses,
            take_over=self._take_over,
            on_alerts=self._alert_rows.take,
            on_tenant=self._tenant_rows.on_tenant,
            on_tuning=self._tenant_rows.on_tuning,
            fail=self._fail,
            limits=limits,
            pseudonymiser=None if self._forgetting is None else self._forgetting.pseudonymiser,
        )
        self._recovery = Recovery(
            database,
            ids,
            config.worker_id,
            topics.partitions,
            self.pipeline.directory.tenant,
            self._groups.inserts_ended,
            lambda: self.pipeline.directory.tuning,
            locate,
        )
        self._topic_watch = TopicWatch(topics.topic_ids, partial(read_topic_ids, config.bootstrap))
        self._reconciler = Reconciler(self.pipeline, database, ids)
        self._first_version = partial(first_version, database, ids.cluster_id, ids.topic_ids[TENANTS])
        self._retainer = Retainer(
            self.pipeline,
            database,
            Ownership(database, ids),
            lambda: sealing.ring.signer if sealing is not None else None,
            vault,
        )
        self._snapshots = [
            SnapshotTaker(owner, snapshots, snapshot_interval_s) for owner in (self.pipeline, addresses)
        ]

        self._sealing = sealing
        self.sealer: Sealer | None = None
        if sealing is not None:
            self.sealer = Sealer(self.pipeline, database, ids, sealing)

    @property
    def problems(self) -> list[str]:
        """Why the worker is not ready, in words; empty when it is."""
        problems = []
        if not self.pipeline.assigned:
            problems.append("kafka: no partitions are assigned yet")
        elif not self.pipeline.directory.ready.is_set():
            problems.append("directory: audit.tenants has not been read to its end yet")
        elif not self.pipeline.taken_over.is_set():
            problems.append("recovery: detectors are catching up with what is stored")
        elif not cast(Consumer, self.app.consumer).begun:
            problems.append("directory: Faust has not restored its table yet; events wait in Kafka")
        if self._groups.fenced:
            problems.append("ownership: another worker has claimed partitions of this one")
        if not self._groups.store_up:
            problems.append("store: inserts fail; events wait in Kafka and nothing is lost")
        elif self._groups.insert_waits_s > SLOW_STORE_S:
            problems.append(
                f"store: an insert has had no answer for {self._groups.insert_waits_s:.0f} s; "
                "events wait in Kafka and nothing is lost"
            )
        if self._alert_rows.waiting_s > SLOW_STORE_S:
            problems.append(
                f"alerts: the store has not taken what is in hand for {self._alert_rows.waiting_s:.0f} s; "
                "alerts wait in Kafka and nothing is lost"
            )
        return [*problems, *(flood.problem for flood in self.pipeline.floods.stopped)]

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_exception(error)

    async def start(self) -> None:
        """Join the consumer group and begin."""
        # Objects made until now live as long as the process, and parsing makes short-lived ones by the
        # million: freezing the first and collecting seldom is worth a third of the throughput.
        gc.freeze()
        gc.set_threshold(50_000, 50, 50)
        self.pipeline.directory.first_version = await asyncio.to_thread(self._first_version)
        await self._webhooks.start()
        self._spawn(self._groups.run())
        self._spawn(self.pipeline.run_idle())
        self._spawn(self._tenant_rows.run())
        self._spawn(self._retainer.run())
        self._spawn(self._watch_assignment())
        self._spawn(self._stay_member())
        self._spawn(self._watch_fence())
        self._spawn(self._watch_restoring())
        self._spawn(give_back())
        self._spawn(keep_order())
        if self._forgetting is not None:
            self._spawn(self._forgetting.run())
        for snapshots in self._snapshots:
            self._spawn(snapshots.run())
        self._spawn(self.pipeline.rekeyer.run())
        self._spawn(self._reconciler.run())
        self._spawn(self._topic_watch.run())
        if self._sealing is not None and self.sealer is not None:
            self._spawn(self.sealer.run())
            self._spawn(self._anchor(self._sealing, self.sealer))
        self._spawn(self._webhooks.wait())
        await self._start_faust()
        cast(Consumer, self.app.consumer).before_revoke = self._finish
        log.info("worker_started")

    async def _start_faust(self) -> None:
        starting = asyncio.create_task(self.app.start())
        try:
            # It ends when the directory is restored: what fails until then must not wait for that.
            await asyncio.wait({starting, self._failure}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # Also where the worker is stopped meanwhile: it would go on starting behind the stop.
            starting.cancel()
        if not starting.done():
            await self._failure
        await starting

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(self._on_done)
        self._tasks.append(task)

    def _on_done(self, task: asyncio.Task[Any]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fail(error)

    async def failed(self) -> None:
        """Wait until something of ours fails, and raise it."""
        crashed = asyncio.create_task(self._crashed())
        try:
            await asyncio.wait({self._failure, crashed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failure.done():
                await self._failure
            await crashed
        finally:
            crashed.cancel()

    async def _crashed(self) -> None:
        while not self.app.crashed:  # noqa: ASYNC110 - Faust has no event for it
            await asyncio.sleep(0.2)
        raise RuntimeError("Faust stopped") from self.app.crash_reason

    async def _finish(self) -> None:
        """Store and acknowledge what is in hand, but do not wait for a store that is away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await self._groups.drained()

    async def stop(self, *, failed: bool = False) -> None:
        """Leave the group: finish what is in hand and commit it, unless this worker has failed.

        What is not acknowledged stays in Kafka and is handled by the next worker.
        """
        end_at = monotonic() + END_S
        if not failed:
            if self.app.started:
                self.app.consumer.stop_flow()
            await self._finish()
            finishing = [snapshots.finish(SNAPSHOT_S) for snapshots in self._snapshots]
            if self.sealer is not None:
                finishing.append(self.sealer.finish(SEAL_S))
            await asyncio.gather(*finishing)
        for task in self._tasks:
            task.cancel()
        try:
            # Faust can hang in its own shutdown (while joining a group, for one); nothing of ours depends
            # on it, so it gets a deadline.
            async with asyncio.timeout(STOP_S):
                await self.app.stop()
        except TimeoutError:
            log.warning("faust_stop_timed_out", after_s=STOP_S)
        # Last: what handles alerts hands them over until Faust has stopped.
        await self._webhooks.stop(max(end_at - monotonic(), LEAST_WEBHOOKS_S))
        log.info("worker_stopped", failed=failed)

    async def _take_over(
        self, consumer: GroupMember, assigned: set[TP], generation: int
    ) -> dict[tuple[str, int], PartitionState]:
        # First: what is read back of another topic's offsets would be taken for this one's.
        await self._topic_watch.check()
        states = await self._recovery.recover(consumer, assigned, generation)
        self._groups.begin(generation)
        return states

    async def _stay_member(self) -> None:
        """Stay in the group while the store is away or detectors catch up."""
        while True:
            await asyncio.sleep(STAY_INTERVAL_S)
            waits = not self._groups.store_up or self._groups.insert_waits_s > 1
            if self.pipeline.assigned and (waits or not self.pipeline.taken_over.is_set()):
                await cast(Consumer, self.app.consumer).stay()

    async def _watch_fence(self) -> None:
        """Stop if partitions were claimed over our heads, and Kafka still takes us for their owner."""
        patience_s = FENCED_SESSIONS * self._session_timeout_s
        fenced_s = 0.0
        while True:
            await asyncio.sleep(1.0)
            fenced_s = fenced_s + 1.0 if self._groups.fenced else 0.0
            if fenced_s > patience_s:
                raise RuntimeError(
                    "another worker has claimed partitions of this one, and the consumer group has not "
                    f"changed for {patience_s:.0f} s. If two groups write to one store, give each its own"
                )

    async def _watch_restoring(self) -> None:
        """Stop if the directory is not restored and nothing of it comes: no event would be handled again."""
        still_s, left = 0.0, None
        while True:
            await asyncio.sleep(1.0)
            now = self._restoring()
            still_s = still_s + 1.0 if now is not None and now == left else 0.0
            left = now
            if still_s > RESTORE_S:
                if await self._topic_watch.check():  # it waited for a Kafka that was away, and so did Faust
                    still_s = 0.0
                    continue
                raise RuntimeError(
                    f"the directory was not restored after partitions were assigned: nothing of {TENANTS} "
                    f"has come for {still_s:.0f} s, and Kafka answers. Nothing is lost; start it again"
                )

    def _restoring(self) -> tuple[int, ...] | None:
        """Return how far the directory has been restored in which assignment; None when it is."""
        directory, app = self.pipeline.directory, cast(Any, self.app)
        if not self.pipeline.assigned or (directory.ready.is_set() and app.consumer.begun):
            return None
        remaining = app.tables.recovery.active_remaining_total()
        return app.consumer_generation_id, directory.changes_seen, remaining

    def _on_stored(self, handled: Handled) -> None:
        if self.sealer is not None:
            self.sealer.unsealed.add(handled.batch, handled.records.offsets[-1] + 1)

    async def _send_event(self, kind: Kind, tenant_id: str, event: bytes) -> None:
        await self.pipeline.send_event(kind, tenant_id, event)

    async def _watch_assignment(self) -> None:
        """Tell webhook delivery which partitions of ``audit.alerts`` are this worker's."""
        known: set[int] | None = None
        while True:
            owned = {tp.partition for tp in self.pipeline.assigned if tp.topic == ALERTS}
            if owned != known:
                await self._webhooks.assign(owned)
                known = owned
            await asyncio.sleep(0.2)

    async def _anchor(self, sealing: SealingConfig, sealer: Sealer) -> None:
        """Keep the newest heads outside the store."""
        targets: dict[str, Send] = {}
        async with contextlib.AsyncExitStack() as stack:
            if sealing.anchor_webhook:
                sender = Sender(allow=sealing.webhook_allow)
                stack.push_async_callback(sender.aclose)
                targets["webhook"] = webhook_target(sealing.anchor_webhook, sender)
            if sealing.anchor_topic:
                targets["topic"] = partial(self._send_anchors, sealing.anchor_topic)
            anchoring = Anchoring(
                sealer.anchors, sealing.book, lambda: sealing.ring.signer, sealing.anchor_interval_s, targets
            )
            await anchoring.run()

    async def _send_anchors(self, topic: str, document: bytes) -> None:
        sent: Any = self.app.topic(topic, key_type=bytes, key_serializer="raw", value_serializer="raw")
        await (await sent.send(value=document))
