"""Reading ``audit.tenants`` itself: which tenants there are, what the operator tuned."""

import asyncio
from typing import Any, Final

from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from schemas.tuning import TUNING_KEY, Tuning
from store.directories import OFFSETS
from streams.brokers import client_options
from streams.topics import TENANTS, TopicError, partition_of

POLL_MS: Final = 100
REQUEST_TIMEOUT_MS: Final = 10_000  # also how long a missing topic is waited for


class TenantLog:
    """The ids and the operator's overrides in ``audit.tenants``, for tools that run beside the workers.

    The worker's directory and the store's table follow this topic: what is not in it does not exist.
    It blocks, for tools without an event loop; close it when done.

    Parameters
    ----------
    bootstrap
        Broker addresses, ``host:port,host:port``.

    Raises
    ------
    TopicError
        If Kafka does not answer, or there is no such topic.
    """

    def __init__(self, bootstrap: str) -> None:
        self.tenant_ids: set[str] = set()
        self.tuning = Tuning()
        self._runner = asyncio.Runner()
        try:
            self._consumer = self._runner.run(_connect(bootstrap))
        except UnknownTopicOrPartitionError as error:
            self._runner.close()
            raise TopicError(
                f"Kafka at {bootstrap} has no topic {TENANTS}; `tenantwatch up` or `worker` creates it"
            ) from error
        except (KafkaError, ValueError) as error:
            self._runner.close()
            raise TopicError(f"Kafka at {bootstrap} does not answer: {error}") from error

    def refresh(self) -> None:
        """Read what was written since the last time, up to the topic's end at this moment."""
        try:
            self._runner.run(self._read_to_end())
        except KafkaError as error:
            raise TopicError(f"cannot read {TENANTS}: {error}") from error

    async def _read_to_end(self) -> None:
        # Without a group every partition is assigned.
        ends = await self._consumer.end_offsets(self._consumer.assignment())
        while [tp for tp, end in ends.items() if await self._consumer.position(tp) < end]:
            for records in (await self._consumer.getmany(timeout_ms=POLL_MS)).values():
                for record in records:
                    self._apply(record)

    def _apply(self, record: Any) -> None:
        tenant_id = (record.key or b"").decode("utf-8", "replace")
        if tenant_id == TUNING_KEY:
            self.tuning = Tuning.model_validate_json(record.value) if record.value else Tuning()
        elif record.value is None:
            self.tenant_ids.discard(tenant_id)
        else:
            self.tenant_ids.add(tenant_id)

    def close(self) -> None:
        """Leave Kafka."""
        self._runner.run(self._consumer.stop())
        self._runner.close()


def read_tenant_log(bootstrap: str) -> TenantLog:
    """Return what is in ``audit.tenants`` at this moment; the log is closed.

    Raises
    ------
    TopicError
        As `TenantLog` does.
    """
    log = TenantLog(bootstrap)
    try:
        log.refresh()
    finally:
        log.close()
    return log


async def changed_since(bootstrap: str, tenant_id: str, version: int) -> bool:
    """Return whether ``audit.tenants`` holds a later word about a tenant than that of a version.

    Whoever writes a tenant anew from what the store has would else undo what a worker has yet to take up.

    Raises
    ------
    KafkaError
        If Kafka does not answer.
    """
    key = tenant_id.encode()
    consumer = await _connect(bootstrap, auto_offset_reset="latest")
    try:
        tps = {tp.partition: tp for tp in consumer.assignment()}
        tp = tps[partition_of(key, len(tps))]
        start, end = (await consumer.beginning_offsets([tp]))[tp], (await consumer.end_offsets([tp]))[tp]
        # Compaction may have taken away what stood there: then Kafka gives what comes after it.
        consumer.seek(tp, min(max(version % OFFSETS + 1, start), end))
        while await consumer.position(tp) < end:
            for record in (await consumer.getmany(tp, timeout_ms=POLL_MS)).get(tp, []):
                if record.key == key:
                    return True
        return False
    finally:
        await consumer.stop()


async def _connect(bootstrap: str, auto_offset_reset: str = "earliest") -> Any:
    consumer = AIOKafkaConsumer(
        TENANTS,
        bootstrap_servers=bootstrap,
        **client_options(bootstrap),
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset=auto_offset_reset,
        request_timeout_ms=REQUEST_TIMEOUT_MS,
    )
    try:
        await consumer.start()
    except BaseException:
        await consumer.stop()
        raise
    return consumer
