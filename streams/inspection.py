"""Looking at a Kafka cluster from outside, for `tenantwatch doctor`: changes nothing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec

from streams.topics import (
    ALERTS,
    BOOTSTRAP_TIMEOUT_MS,
    CONFIGS,
    GROUP,
    MIN_IN_SYNC,
    SAFE_IN_SYNC,
    SAFE_REPLICATION,
    TOPIC_OF,
    admin_of,
)

_MAX_BYTES: Final = "max.message.bytes"


@dataclass(frozen=True)
class ClusterView:
    """What a cluster holds of ours.

    Parameters
    ----------
    partitions
        Topic to its partition count; topics that do not exist are missing here.
    replicas
        Topic to the copies that its partitions have, the fewest of them.
    max_message_bytes
        Topic to the largest message it takes; topics whose settings we may not read are missing here.
    min_in_sync
        Topic to the copies that a message must have before it is acknowledged; as far as we may read it.
    lag
        Topic to the messages that the workers have not committed.
    """

    partitions: Mapping[str, int]
    replicas: Mapping[str, int]
    max_message_bytes: Mapping[str, int]
    min_in_sync: Mapping[str, int]
    lag: Mapping[str, int]

    @property
    def missing(self) -> list[str]:
        """Topics of the contract that do not exist."""
        return sorted(CONFIGS.keys() - self.partitions.keys())

    @property
    def too_small(self) -> dict[str, int]:
        """Topics that refuse messages which the contract allows, with the size they should take."""
        return {
            topic: int(CONFIGS[topic][_MAX_BYTES])
            for topic, found in self.max_message_bytes.items()
            if found < int(CONFIGS[topic][_MAX_BYTES])
        }

    @property
    def unreadable(self) -> list[str]:
        """Topics whose settings we may not read."""
        return sorted(self.partitions.keys() - self.min_in_sync.keys())

    @property
    def in_one_place(self) -> list[str]:
        """Topics with enough replicas whose acknowledged messages may be on one broker alone all the same."""
        return sorted(
            topic
            for topic, replicas in self.replicas.items()
            if replicas >= SAFE_REPLICATION and self.min_in_sync.get(topic, SAFE_IN_SYNC) < SAFE_IN_SYNC
        )


def view_cluster(bootstrap: str) -> ClusterView:
    """Return what a Kafka cluster holds of ours.

    Raises
    ------
    TopicError
        If it does not answer.
    """
    with admin_of(bootstrap, bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS) as admin:
        names = sorted(set(admin.list_topics()) & CONFIGS.keys())
        described = admin.describe_topics(names) if names else []
        partitions = {topic["name"]: len(topic["partitions"]) for topic in described}
        replicas = {
            topic["name"]: min(len(partition["replica_nodes"]) for partition in topic["partitions"])
            for topic in described
        }
        max_bytes, min_in_sync = (_numbers(admin, names, key) for key in (_MAX_BYTES, MIN_IN_SYNC))
        return ClusterView(partitions, replicas, max_bytes, min_in_sync, _lag(admin, partitions))


def committed_offsets(bootstrap: str) -> dict[str, dict[int, int]]:
    """Return what the workers have committed of the event topics: topic id to partition to offset.

    Raises
    ------
    TopicError
        If the cluster does not answer.
    """
    with admin_of(bootstrap, bootstrap_timeout_ms=BOOTSTRAP_TIMEOUT_MS) as admin:
        names = sorted(set(admin.list_topics()) & set(TOPIC_OF.values()))
        described = admin.describe_topics(names) if names else []
        ids = {topic["name"]: str(topic["topic_id"]) for topic in described}
        found: dict[str, dict[int, int]] = {}
        for tp, at in admin.list_group_offsets(GROUP).get(GROUP, {}).items():
            if tp.topic in ids and at.offset >= 0:
                found.setdefault(ids[tp.topic], {})[tp.partition] = at.offset
        return found


def _numbers(admin: Any, topics: list[str], key: str) -> dict[str, int]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic, {key: None}) for topic in topics]
    found = admin.describe_configs(resources, config_filter="all") if resources else {}
    configs: dict[str, Any] = next(iter(found.values()), {})
    # Whoever may not read a topic's settings is answered with none of them.
    return {topic: int(config[key]["value"]) for topic, config in configs.items() if key in config}


def _lag(admin: Any, partitions: Mapping[str, int]) -> dict[str, int]:
    consumed = [topic for topic in (*TOPIC_OF.values(), ALERTS) if topic in partitions]
    tps = [TopicPartition(topic, i) for topic in consumed for i in range(partitions[topic])]
    if not tps:
        return {}
    starts = admin.list_partition_offsets(dict.fromkeys(tps, OffsetSpec.EARLIEST))
    ends = admin.list_partition_offsets(dict.fromkeys(tps, OffsetSpec.LATEST))
    committed = admin.list_group_offsets(GROUP).get(GROUP, {})
    lag = dict.fromkeys(consumed, 0)
    for tp in tps:
        # What retention deleted before it was consumed waits no more.
        at = max(committed[tp].offset if tp in committed else 0, starts[tp].offset)
        lag[tp.topic] += max(ends[tp].offset - at, 0)
    return lag
