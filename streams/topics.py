"""The topics of the contract: created by us, never by a producer, and checked at every start."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kafka.admin import ConfigResource, KafkaAdminClient, NewTopic
from kafka.errors import KafkaError, TopicAlreadyExistsError
from kafka.partitioner.default import murmur2

from schemas.event import KINDS, MAX_DEAD_LETTER_BYTES, MAX_MESSAGE_BYTES, Kind
from store.certificates import TopicRetention
from streams.brokers import client_options

TENANTS: Final = "audit.tenants"
ALERTS: Final = "audit.alerts"
DEAD_LETTERS: Final = "audit.dead-letters"
FAILURES_BY_IP: Final = "audit.failures-by-ip"
TOPIC_OF: Final[dict[Kind, str]] = {kind: f"audit.{kind}" for kind in KINDS}
KIND_OF: Final[dict[str, Kind]] = {topic: kind for kind, topic in TOPIC_OF.items()}
DEFAULT_PARTITIONS: Final = 12
# The workers' consumer group.
GROUP: Final = "tenantwatch"
# For commands: a person waits for the error.
BOOTSTRAP_TIMEOUT_MS: Final = 5_000

_MIB: Final = 1024 * 1024
_EVENT_CONFIG: Final = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
CONFIGS: Final[dict[str, dict[str, str]]] = {
    **dict.fromkeys(TOPIC_OF.values(), _EVENT_CONFIG),
    # A segment an hour: compaction leaves the open segment alone, and a directory changes slowly.
    TENANTS: {"cleanup.policy": "compact", "segment.ms": "3600000", "max.message.bytes": str(_MIB)},
    ALERTS: {"max.message.bytes": str(_MIB)},
    DEAD_LETTERS: {"max.message.bytes": str(MAX_DEAD_LETTER_BYTES)},
    # Read once more where no snapshot of what was read can be: three days, so that a weekend without workers
    # is not lost. What is forgotten when depends on the time of arrival: one clock for all writers.
    FAILURES_BY_IP: {
        "max.message.bytes": str(9 * _MIB),
        "message.timestamp.type": "LogAppendTime",
        "retention.ms": str(3 * 24 * 3_600_000),
    },
}


MIN_IN_SYNC: Final = "min.insync.replicas"
# Acknowledged by "all in sync" may mean by one broker alone, whose disk then holds the only copy. With two of
# three, losing a broker loses nothing, and events are still taken while one is away; two of two would stop.
SAFE_REPLICATION: Final = 3
SAFE_IN_SYNC: Final = 2

# What holds events as they were sent, and for how long Kafka keeps them (`retention_of`).
RAW_TOPICS: Final = (*TOPIC_OF.values(), DEAD_LETTERS)


class TopicError(Exception):
    """The topics are not as the contract needs them; the message says which and what to do."""


@dataclass(frozen=True)
class Topics:
    """What identifies the topics of this cluster.

    Parameters
    ----------
    cluster_id
        Of the Kafka cluster; part of each row's identity.
    topic_ids
        Topic name to its id; another id under the same name is another topic, with offsets from 0.
    partitions
        Partition count of the event topics.
    address_partitions
        Partition count of ``audit.failures-by-ip``.
    """

    cluster_id: str
    topic_ids: Mapping[str, str]
    partitions: int
    address_partitions: int


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition that the contract gives a key: murmur2, as Java's default partitioner.

    >>> partition_of(b"tenant-a", 12)
    3
    """
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


@contextmanager
def admin_of(bootstrap: str, **options: Any) -> Iterator[KafkaAdminClient]:
    """Yield an admin client of a cluster, and close it.

    Parameters
    ----------
    options
        Further settings of the client.

    Raises
    ------
    TopicError
        If Kafka does not answer, or refuses what it is asked inside.
    """
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=bootstrap.split(","), **client_options(bootstrap), **options
        )
        try:
            yield admin
        finally:
            admin.close()
    except (KafkaError, OSError, ValueError) as error:
        raise TopicError(
            f"Kafka at {bootstrap} does not answer: {error}. Is it running, and is TENANTWATCH_KAFKA right?"
        ) from error


def ensure_topics(bootstrap: str, *, partitions: int = DEFAULT_PARTITIONS, replication: int = 1) -> Topics:
    """Create the topics that are missing and check those that exist.

    Parameters
    ----------
    bootstrap
        Broker addresses, ``host:port,host:port``.
    partitions, replication
        For topics that are created now; of three replicas or more, two must have a message before it is
        acknowledged.

    Raises
    ------
    TopicError
        If a topic has another partition count than the others, or Kafka does not answer.
    """
    with admin_of(bootstrap) as admin:
        existing = set(admin.list_topics())
        for name, config in CONFIGS.items():
            if name not in existing:
                _create(admin, name, partitions, replication, config)
        found = _describe(admin, list(CONFIGS))
        cluster_id = str(admin.describe_cluster()["cluster_id"])
    counts = {name: len(found[name]["partitions"]) for name in CONFIGS}
    events = {counts[name] for name in TOPIC_OF.values()}
    if len(events) > 1:
        listed = ", ".join(f"{name} has {counts[name]}" for name in TOPIC_OF.values())
        raise TopicError(
            f"the event topics need the same partition count: {listed}. A tenant's events of every kind "
            "must sit in the same partition number. Raise the smaller counts "
            "(kafka-topics.sh --alter --partitions) or recreate the topics"
        )
    return Topics(
        cluster_id=cluster_id,
        topic_ids={name: str(found[name]["topic_id"]) for name in CONFIGS},
        partitions=events.pop(),
        address_partitions=counts[FAILURES_BY_IP],
    )


def ensure_anchor_topic(bootstrap: str, name: str, replication: int = 1) -> None:
    """Create the topic that anchors are sent to, if it is missing: one partition, kept for ever.

    Raises
    ------
    TopicError
        If it cannot be created, or Kafka does not answer.
    """
    with admin_of(bootstrap) as admin:
        if name not in set(admin.list_topics()):
            _create(admin, name, 1, replication, {"retention.ms": "-1"})


def _create(
    admin: KafkaAdminClient, name: str, partitions: int, replication: int, config: dict[str, str]
) -> None:
    if replication >= SAFE_REPLICATION:
        config = config | {MIN_IN_SYNC: str(SAFE_IN_SYNC)}
    try:
        admin.create_topics([NewTopic(name, partitions, replication, topic_configs=config)])
    except TopicAlreadyExistsError:
        pass  # another worker was faster
    except KafkaError as error:
        raise TopicError(
            f"cannot create the topic {name}: {error}. The user needs Kafka's right Create on it, and there "
            f"must be as many brokers as TENANTWATCH_REPLICATION says ({replication}); or create it yourself"
        ) from error


def _describe(admin: KafkaAdminClient, names: list[str]) -> dict[str, dict[str, list[object]]]:
    # A topic is visible a moment after its creation was acknowledged.
    deadline = time.monotonic() + 30
    while True:
        found = {topic["name"]: topic for topic in admin.describe_topics(names) if not topic["error_code"]}
        if len(found) == len(names):
            return found
        if time.monotonic() > deadline:
            raise TopicError(
                f"these topics were created and cannot be seen: {sorted(set(names) - set(found))}"
            )
        time.sleep(0.1)


def retention_of(bootstrap: str) -> dict[str, TopicRetention] | None:
    """Return how long Kafka keeps the topics with raw events; None if it does not say."""
    try:
        with admin_of(bootstrap) as admin:
            asked = [ConfigResource("TOPIC", name) for name in RAW_TOPICS]
            [topics] = admin.describe_configs(asked, config_filter="all").values()
        return {
            name: TopicRetention(*(int(config[field]["value"]) for field in ("retention.ms", "segment.ms")))
            for name, config in topics.items()
        }
    except (TopicError, KeyError, ValueError):
        return None
