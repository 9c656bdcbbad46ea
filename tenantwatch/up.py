"""Running the pipeline in this process: Kafka if it is ours to run, the store, the worker, its servers."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import Any, Final

import structlog

from api.control import control_app
from api.health import health_app
from api.serve import Server, tcp_listener, unix_listener
from api.trail import Seals
from api.v1.key_ring import KeyRing
from store.seals.anchors import AnchorBook
from store.seals.keys import SealKeys
from store.webhooks import WebhookStore
from streams.breaker import Limits
from streams.broker import BrokerConfig, EmbeddedKafka
from streams.faust_app import StreamConfig
from streams.geography import locate_with
from streams.heap import keep_heap_small
from streams.sealing import SealingConfig
from streams.topics import ensure_anchor_topic, ensure_topics
from streams.webhooks.delivery import WebhookDelivery
from streams.worker import Worker
from tenantwatch.database import open_database
from tenantwatch.leaving import leave_after
from tenantwatch.serving import HttpApi, api_listener
from tenantwatch.settings import Settings
from tenantwatch.vault import open_vault, privacy_of

log = structlog.get_logger()
BROKER_CHECK_S: Final = 1.0
STOP_DEADLINE_S: Final = 25.0
# For a command that began before we did and reads the store by itself.
STORE_WAIT_S: Final = 20.0


class BrokerDied(Exception):
    """The embedded Kafka ended by itself."""


class Pipeline:
    """Everything that `tenantwatch up` runs, as one thing that starts and stops in order.

    Parameters
    ----------
    settings
        Without ``kafka`` an Apache Kafka is started here, without ``clickhouse`` the engine is.
    with_api
        Whether the HTTP API is served here too. The engine admits one process, so beside it there is no
        other place; on a cluster `tenantwatch api` serves it.
    """

    def __init__(self, settings: Settings, *, with_api: bool = True) -> None:
        self.settings = settings
        self._with_api = with_api
        self.bootstrap = ""
        self.http_port = 0
        self.api: HttpApi | None = None
        self.worker: Worker | None = None
        self._kafka: EmbeddedKafka | None = None
        self._stack = AsyncExitStack()
        self._failed = False

    async def start(self) -> None:
        """Start every part; what has started is stopped again if a later one cannot.

        Raises
        ------
        GeographyError, BrokerError, MasterKeyError, StoreLocked, StoreError, StoreUnavailable, TopicError,
        PortTaken
            Each says what to do.
        """
        try:
            await self._start()
        except BaseException:
            self._failed = True
            await self.stop()
            raise

    async def _start(self) -> None:
        settings, stack = self.settings, self._stack
        locate = locate_with(settings.geoip_file)
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Bound first: a taken port should be told before half a minute of starting.
        health = tcp_listener(settings.http_host, settings.http_port)
        stack.callback(health.close)
        api = api_listener(settings) if self._with_api else None
        if api is not None:
            stack.callback(api.close)
        self.bootstrap = settings.kafka_brokers or self._start_kafka()
        database = await asyncio.to_thread(open_database, settings, STORE_WAIT_S)
        stack.callback(database.close)
        topics = await asyncio.to_thread(
            ensure_topics,
            self.bootstrap,
            partitions=settings.partitions,
            replication=settings.replication,
        )
        vault = await asyncio.to_thread(open_vault, settings, database)
        hooks = WebhookStore(database, secrets=lambda: vault.webhook_secrets)
        await asyncio.to_thread(hooks.seal_plain)
        webhooks = WebhookDelivery(hooks, allow=settings.webhook_allow)
        sealing = sealing_config(settings)
        if settings.anchor_topic:
            await asyncio.to_thread(
                ensure_anchor_topic, self.bootstrap, settings.anchor_topic, settings.replication
            )
        config = StreamConfig(
            self.bootstrap,
            settings.data_dir,
            settings.worker_id,
            commit_interval_s=settings.commit_interval_s,
            session_timeout_s=settings.session_timeout_s,
        )
        worker = self.worker = Worker(
            config,
            topics,
            database,
            webhooks,
            vault,
            max_rows=settings.insert_rows,
            max_wait_s=settings.insert_wait_ms / 1000,
            limits=Limits(settings.dead_letter_max_run, settings.dead_letter_max_ratio),
            snapshot_interval_s=settings.snapshot_interval_s,
            sealing=sealing,
            locate=locate,
        )
        stack.push_async_callback(self._stop_worker)
        # A worker of a cluster has no keys of its own: those it made would be good at no API process.
        shared = self._with_api or settings.api_keys_file is not None
        ring = KeyRing(settings.api_keys_path) if shared else None
        privacy = privacy_of(settings, vault, database, self.bootstrap, sealing.ring)
        seals = Seals(sealing.ring, sealing.book, settings.keys_elsewhere)
        if api is not None and ring is not None:
            self.api = HttpApi(settings, database, webhooks, ring, self.bootstrap, api, privacy, seals)
        control = control_app(
            database,
            webhooks,
            status=self.status,
            webhook_allow=settings.webhook_allow,
            resume=worker.pipeline.resume,
            seals=seals,
            privacy=lambda: privacy,
            ring=ring,
        )
        for server in (
            Server(health_app("worker", lambda: worker.problems), health),
            Server(control, unix_listener(settings.socket_path)),
        ):
            await server.start()
            stack.push_async_callback(server.stop)
        stack.callback(settings.socket_path.unlink, missing_ok=True)
        self.http_port = health.getsockname()[1]
        await worker.start()
        if self.api is not None:
            await self.api.start()
            stack.push_async_callback(self.api.stop)
        log.info("pipeline_started", **self.status())

    def _start_kafka(self) -> str:
        settings = self.settings
        self._kafka = EmbeddedKafka(
            BrokerConfig(
                settings.data_dir,
                port=settings.kafka_port,
                controller_port=settings.kafka_controller_port,
                heap_mb=settings.kafka_heap_mb,
            )
        )
        bootstrap = self._kafka.start()
        self._stack.callback(self._kafka.stop)
        return bootstrap

    async def _stop_worker(self) -> None:
        assert self.worker is not None
        await self.worker.stop(failed=self._failed)

    def status(self) -> dict[str, Any]:
        """Return what `tenantwatch status` shows."""
        worker, settings = self.worker, self.settings
        return {
            "version": version("tenantwatch"),
            "pid": os.getpid(),
            "worker_id": settings.worker_id,
            "kafka": self.bootstrap,
            "embedded_kafka": self._kafka is not None,
            "clickhouse": "server" if settings.clickhouse else "embedded",
            "api": self.api.url if self.api else None,
            "http": f"http://{settings.http_host}:{self.http_port}",
            "data_dir": str(settings.data_dir.absolute()),
            "problems": worker.problems if worker else ["worker: starting"],
        }

    async def run(self, stop: asyncio.Event) -> None:
        """Wait until asked to stop.

        Raises
        ------
        BrokerDied
            If the embedded Kafka ended.
        Exception
            Whatever of ours failed in the worker; nothing was acknowledged past it.
        """
        assert self.worker is not None
        waits = [
            asyncio.create_task(stop.wait()),
            asyncio.create_task(self.worker.failed()),
            asyncio.create_task(self._watch_kafka()),
        ]
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                await task
        except BaseException:
            self._failed = True
            raise
        finally:
            for task in waits:
                task.cancel()

    async def _watch_kafka(self) -> None:
        kafka = self._kafka
        while kafka is None or kafka.running():  # noqa: ASYNC110 - it is a process, not an event
            await asyncio.sleep(BROKER_CHECK_S)
        free_mb = shutil.disk_usage(self.settings.data_dir).free // 2**20
        problem = (
            f"the embedded Kafka ended; its disk has {free_mb} MiB free. Make room if that is too little and "
            f"start again: nothing that it had acknowledged is lost. Its log is {kafka.log_path}"
        )
        # Now: stopping what waits for Kafka can take until the process is ended.
        log.error("kafka_ended", problem=problem)
        raise BrokerDied(problem)

    async def stop(self) -> None:
        """Stop every part in the reverse order; safe to call twice.

        A part that hangs (Faust can, when Kafka has died under it) ends the process after `STOP_DEADLINE_S`:
        nothing is lost by that, because what was not acknowledged is handled by the next start.
        """
        note = "unacknowledged events are handled again"
        watchdog = leave_after(STOP_DEADLINE_S, "stop_timed_out", 1, note=note)
        try:
            await self._stack.aclose()
        finally:
            watchdog.cancel()


def sealing_config(settings: Settings) -> SealingConfig:
    """Return how the settings want rows sealed; makes the signing key where there is none."""
    return SealingConfig(
        SealKeys(settings.keys_dir, settings.seal_key),
        AnchorBook(settings.seals_dir, settings.anchor_file),
        settings.seal_interval_s,
        settings.seal_rows,
        settings.anchor_interval_s,
        settings.anchor_webhook,
        settings.anchor_topic,
        settings.webhook_allow,
    )


async def run_until_signal(
    settings: Settings, on_started: Callable[[Pipeline], None], *, with_api: bool
) -> None:
    """Run the pipeline until SIGTERM or SIGINT."""
    # A thread that is there already has a heap of its own for good.
    keep_heap_small()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    pipeline = Pipeline(settings, with_api=with_api)
    starting = asyncio.create_task(pipeline.start())
    stopping = asyncio.create_task(stop.wait())
    # A signal while it starts (joining a group can take long) must not wait for the start to end.
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return
    await starting
    try:
        on_started(pipeline)
        await pipeline.run(stop)
    finally:
        stopping.cancel()
        await pipeline.stop()
