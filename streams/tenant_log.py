"""Reading ``audit.tenants`` itself: which tenants there are, whoever is running."""

from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError

from streams.producer import BOOTSTRAP_TIMEOUT_MS
from streams.topics import TENANTS, TopicError

POLL_MS: Final = 100


class TenantLog:
    """The ids in ``audit.tenants``, for tools that run beside the workers.

    The worker's directory and the store's table follow this topic: what is not in it does not exist.

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
        try:
            self._consumer = KafkaConsumer(
                bootstrap_servers=bootstrap.split(","),
                group_id=None,
                enable_auto_commit=False,
                bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS,
            )
            partitions = self._consumer.partitions_for_topic(TENANTS)
        except (KafkaError, ValueError) as error:
            raise TopicError(f"Kafka at {bootstrap} does not answer: {error}") from error
        if not partitions:
            raise TopicError(f"Kafka at {bootstrap} has no topic {TENANTS}; `tenantwatch up` creates it")
        self._partitions = [TopicPartition(TENANTS, partition) for partition in partitions]
        self._consumer.assign(self._partitions)
        self._consumer.seek_to_beginning(*self._partitions)

    def refresh(self) -> None:
        """Read what was written since the last time, up to the topic's end at this moment."""
        try:
            ends = self._consumer.end_offsets(self._partitions)
            while any(self._consumer.position(tp) < end for tp, end in ends.items()):
                for records in self._consumer.poll(timeout_ms=POLL_MS).values():
                    for record in records:
                        self._apply(record)
        except KafkaError as error:
            raise TopicError(f"cannot read {TENANTS}: {error}") from error

    def _apply(self, record: Any) -> None:
        tenant_id = (record.key or b"").decode("utf-8", "replace")
        if record.value is None:
            self.tenant_ids.discard(tenant_id)
        else:
            self.tenant_ids.add(tenant_id)

    def close(self) -> None:
        """Leave Kafka."""
        self._consumer.close()
