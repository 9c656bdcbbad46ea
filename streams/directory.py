"""The tenant directory: a Faust GlobalTable over ``audit.tenants``, joined to events by tenant code."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any, Final, cast

import faust
import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.tables.globaltable import GlobalTable
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from faust.types import TP
from pydantic import ValidationError

from detectors.parameters import check_overrides
from detectors.rules.ruleset import check_rules
from detectors.tuning import Overrides, tuned
from schemas.batch import EventBatch
from schemas.errors import describe
from schemas.tenant import Tenant
from schemas.tuning import NO_VERSION, TUNING_KEY, Tuning
from streams import metrics
from streams.topics import TENANTS

log = structlog.get_logger()
POLL_S: Final = 0.05
# An unknown tenant is looked for once in so long: who sends events of one must not hold up the others.
LOOK_AGAIN_S: Final = 1.0
MAX_LOOKED_FOR: Final = 10_000
LOOK_TIMEOUT_S: Final = 5.0
MARKER_QUIET_S: Final = 1.0


class DirectoryTable(GlobalTable):
    """A global table over a topic of our own name; Faust's assignor would look for a made-up one."""

    def _changelog_topic_name(self) -> str:
        return TENANTS


@dataclass(frozen=True, slots=True)
class Entry:
    """A tenant's settings and their version: the offset in ``audit.tenants``, from `first_version` on."""

    tenant: Tenant
    version: int


Listener = Callable[[str, Entry | None, int], Awaitable[None]]
TuningListener = Callable[[Tuning, int], Awaitable[None]]


class Directory:
    """Every tenant of the deployment, in memory, following ``audit.tenants``.

    Parameters
    ----------
    app
        The table is declared on it, so this comes before the app starts.
    partitions
        Partition count of ``audit.tenants``.
    listener
        Told of each change: tenant id, entry or None, version.
    on_tuning
        Told of each change of the operator's overrides, and of its version.

    Attributes
    ----------
    tuning, tuning_version
        The overrides that hold now.
    first_version
        Of offset 0 (`store.directories`); to be set before the app starts.
    """

    first_version = 0

    tuning = Tuning()
    tuning_version = NO_VERSION

    def __init__(
        self,
        app: faust.App,
        partitions: int,
        listener: Listener | None = None,
        on_tuning: TuningListener | None = None,
    ) -> None:
        self._app = app
        # As they were told, and with the operator's overrides: as everybody else is to see them.
        self._told: dict[str, Entry] = {}
        self._entries: dict[str, Entry] = {}
        self._seen: dict[int, int] = {}
        self._partitions = range(partitions)
        self._listener = listener
        self._on_tuning = on_tuning
        self._looking = asyncio.Lock()
        self._looked_for: dict[str, float] = {}
        self.ready = asyncio.Event()
        self.table = app.GlobalTable(
            "tenants",
            key_type=bytes,
            value_type=bytes,
            partitions=partitions,
            changelog_topic=app.topic(TENANTS, key_type=bytes, value_type=bytes, partitions=partitions),
            # Changes hold from the next batch on, not after the next thousand changes.
            recovery_buffer_size=1,
            on_changelog_event=self._on_change,
        )

    @property
    def changes_seen(self) -> int:
        """How many changes ``audit.tenants`` has told, as far as offsets say; it only grows."""
        return sum(self._seen.values())

    def holds(self, tenant_id: str) -> bool:
        """Return whether a tenant is in the directory."""
        return tenant_id in self._entries

    def tenant(self, tenant_id: str) -> Tenant | None:
        """Return a tenant's settings without their version."""
        entry = self._entries.get(tenant_id)
        return entry.tenant if entry else None

    async def _on_change(self, event: Any) -> None:
        await self._take(event.message)

    async def _take(self, message: Any) -> None:
        # Faust logs and swallows what is raised here, so nothing may be: a bad record keeps the settings
        # that held before it.
        if message.offset <= self._seen.get(message.partition, -1):
            return  # known by `look_for_unknown`
        self._seen[message.partition] = message.offset
        key = (message.key or b"").decode("utf-8", "replace")
        version = self.first_version + message.offset
        try:
            if key == TUNING_KEY:
                await self._tune(message.value, version)
            else:
                await self._change(key, message.value, version)
        except ValueError as error:
            command = "tuning set" if key == TUNING_KEY else "tenants apply FILE"
            log.error(
                "tenant_rejected",
                tenant_id=key,
                offset=message.offset,
                detail=describe(error) if isinstance(error, ValidationError) else str(error),
                fix=f"apply it again with `tenantwatch {command}`, which checks it first",
            )

    async def _change(self, tenant_id: str, value: bytes | None, version: int) -> None:
        entry: Entry | None = None
        if value is None:
            self._told.pop(tenant_id, None)
            self._entries.pop(tenant_id, None)
        else:
            tenant = Tenant.model_validate_json(value)
            if tenant.tenant_id != tenant_id:
                raise ValueError(f"tenant_id is {tenant.tenant_id!r}, the message key is {tenant_id!r}")
            _warn(tenant_id, tenant.detectors)
            # Compiled here for the detectors too, which meet the same texts at the tenant's next event.
            for problem in check_rules(tenant.rules, stored=True):
                log.warning("tenant_rule_ignored", tenant_id=tenant_id, detail=problem)
            self._told[tenant_id] = entry = Entry(tenant, version)
            self._entries[tenant_id] = self._tuned(entry)
        metrics.TENANTS.set(len(self._entries))
        if self._listener is not None:
            await self._listener(tenant_id, entry, version)

    async def _tune(self, value: bytes | None, version: int) -> None:
        """Let other overrides hold for every tenant at once."""
        tuning = Tuning() if value is None else Tuning.model_validate_json(value)
        for overrides in (tuning.detectors, *tuning.tiers.values()):
            _warn(TUNING_KEY, overrides)
        self.tuning, self.tuning_version = tuning, version
        # Detectors work out a rule once for each object: every tenant needs a new one.
        self._entries = {tenant_id: self._tuned(entry) for tenant_id, entry in self._told.items()}
        log.info("tuning_changed", version=version)
        if self._on_tuning is not None:
            await self._on_tuning(tuning, version)

    def _tuned(self, entry: Entry) -> Entry:
        return Entry(tuned(entry.tenant, self.tuning), entry.version)

    async def follow(self) -> None:
        """Wait until everything that ``audit.tenants`` held at this moment is in the directory.

        Called at each assignment; event partitions stay unread until it is done. Without that, the first
        events of a fresh worker would meet an empty directory and be dead letters.
        """
        self.ready.clear()
        metrics.DIRECTORY_READY.set(0)
        await self._catch_up()
        self.ready.set()
        metrics.DIRECTORY_READY.set(1)
        log.info("directory_caught_up", tenants=len(self._entries))

    async def look_for_unknown(self, batch: EventBatch) -> None:
        """Where tenants of a batch are unknown, take up what ``audit.tenants`` holds by now.

        The topics are read apart from each other: a tenant that was added a moment before its first event
        can be met after it.
        """
        if all(tenant_id in self._entries for tenant_id in batch.tenant.values):
            return
        async with self._looking:
            now = monotonic()
            unknown = [tenant_id for tenant_id in batch.tenant.values if tenant_id not in self._entries]
            if all(
                now - self._looked_for.get(tenant_id, -LOOK_AGAIN_S) < LOOK_AGAIN_S for tenant_id in unknown
            ):
                return
            if len(self._looked_for) > MAX_LOOKED_FOR:
                self._looked_for.clear()
            self._looked_for |= dict.fromkeys(unknown, now)
            await self._try_to_read()

    async def _try_to_read(self) -> bool:
        """Read ``audit.tenants`` to its end, unless Kafka is away; what was read of it counts anyhow."""
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                await self._read_to_the_end()
        except (TimeoutError, KafkaError) as error:
            log.warning("directory_not_read", reason=str(error) or f"took longer than {LOOK_TIMEOUT_S} s")
            return False
        return True

    async def _read_to_the_end(self) -> None:
        """Read ``audit.tenants`` by a consumer of our own.

        Not by Faust's: it delivers in turns, and waits itself until the events before have been taken.
        """
        brokers = [f"{url.host}:{url.port}" for url in self._app.conf.broker]
        secured = credentials_to_aiokafka_auth(self._app.conf.broker_credentials)
        consumer = AIOKafkaConsumer(bootstrap_servers=brokers, isolation_level="read_committed", **secured)
        await consumer.start()
        try:
            tps = [TopicPartition(TENANTS, partition) for partition in self._partitions]
            consumer.assign(tps)
            starts, ends = await consumer.beginning_offsets(tps), await consumer.end_offsets(tps)
            for tp in tps:
                consumer.seek(tp, max(self._seen.get(tp.partition, -1) + 1, starts[tp]))
            while waiting := [tp for tp in tps if await consumer.position(tp) < ends[tp]]:
                for records in (await consumer.getmany(*waiting, timeout_ms=100)).values():
                    for record in records:
                        await self._take(record)
        finally:
            await consumer.stop()

    async def _catch_up(self) -> None:
        """Wait until everything that ``audit.tenants`` holds at this moment is in the directory."""
        consumer = self._app.consumer
        tps = {TP(TENANTS, partition) for partition in self._partitions}
        ends = {tp.partition: end for tp, end in (await consumer.highwaters(*tps)).items()}
        starts = {tp.partition: start for tp, start in (await consumer.earliest_offsets(*tps)).items()}
        waiting = {p for p in self._partitions if (ends.get(p) or 0) > (starts.get(p) or 0)}
        quiet_s = 0.0
        while waiting := {p for p in waiting if self._seen.get(p, -1) < ends[p] - 1}:
            seen = self.changes_seen
            await asyncio.sleep(POLL_S)
            quiet_s = quiet_s + POLL_S if self.changes_seen == seen else 0.0
            # The last offset may be no record but a transaction's marker, which the position passes. What was
            # fetched and lost on its way looks the same from here, so that is read before it is believed.
            if quiet_s >= MARKER_QUIET_S and await self._positions_reached(ends, waiting):
                async with self._looking:
                    if await self._try_to_read():
                        break
                quiet_s = 0.0  # before the next try
        self._end_restoring(ends)

    def _end_restoring(self, ends: dict[int, int]) -> None:
        """Let Faust not wait for what the directory has: it would for ever for a marker, or what was lost."""
        recovery = cast(Any, self._app.tables).recovery
        for tp in recovery.active_tps:
            if tp.topic == TENANTS:
                recovery.active_offsets[tp] = max(recovery.active_offsets[tp] or -1, ends[tp.partition] - 1)

    async def _positions_reached(self, ends: dict[int, int], partitions: set[int]) -> bool:
        positions = [await self._app.consumer.position(TP(TENANTS, p)) or 0 for p in partitions]
        return all(at >= ends[p] for at, p in zip(positions, partitions, strict=True))

    def enrich(self, batch: EventBatch, ingest_time_ms: int) -> tuple[EventBatch, set[int]]:
        """Attach each tenant's settings.

        Returns
        -------
        batch, unknown
            The batch with ``tenants``, ``tenant_versions``, ``tuning_version`` and ``ingest_time_ms``, and
            the codes of the tenants that the directory does not hold (their settings are placeholders; drop
            their rows).
        """
        entries = [self._entries.get(tenant_id) for tenant_id in batch.tenant.values]
        unknown = {code for code, entry in enumerate(entries) if entry is None}
        known = [entry or _NOBODY for entry in entries]
        enriched = replace(
            batch,
            tenants=tuple(entry.tenant for entry in known),
            tenant_versions=tuple(entry.version for entry in known),
            tuning_version=self.tuning_version,
            ingest_time_ms=ingest_time_ms,
            _tenant=batch.tenant,
        )
        return enriched, unknown


def _warn(tenant_id: str, overrides: Overrides) -> None:
    for problem in check_overrides(overrides):
        log.warning("tenant_override_ignored", tenant_id=tenant_id, detail=problem)


_NOBODY: Final = Entry(Tenant(tenant_id="-", organization_id="-", name="-"), -1)
