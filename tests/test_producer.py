"""Our own tools' way into Kafka, against a real broker: sending in order, and knowing the tenants."""

import json
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from confluent_kafka import Consumer, TopicPartition
from kafka.errors import KafkaTimeoutError
from schema_examples import encode, event

from schemas.tenant import unknown_tenant
from streams import producer
from streams.producer import Sender, SendError
from streams.tenant_log import TenantLog
from streams.topics import CONFIGS, TENANTS, TopicError, ensure_anchor_topic, ensure_topics, partition_of


@pytest.fixture(scope="module")
def cluster(kafka: str) -> str:
    """A Kafka with the contract's topics."""
    ensure_topics(kafka)
    return kafka


def received(bootstrap: str, topic: str, tenant_id: str) -> list[Any]:
    """Return the tenant's messages, in their order."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test"})
    tp = TopicPartition(topic, partition_of(tenant_id.encode(), 12), 0)
    _, end = consumer.get_watermark_offsets(tp, timeout=10)
    consumer.assign([tp])
    values = []
    offset = 0
    while offset < end:
        message = consumer.poll(10)
        assert message is not None
        offset = (message.offset() or 0) + 1
        if message.key() == tenant_id.encode():
            values.append(json.loads(message.value() or b"null"))
    consumer.close()
    return values


def test_events_arrive_once_and_in_order(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many messages and hand-overs, among those of another tenant, nothing overtakes or is lost."""
    monkeypatch.setattr(producer, "MAX_ARRAY_EVENTS", 3)
    monkeypatch.setattr(producer, "HAND_OVER_MESSAGES", 5)
    monkeypatch.setattr(producer, "MAX_UNACKNOWLEDGED", 20)
    with Sender(cluster) as sender:
        for i in range(1_000):
            for tenant_id in ("order-a", "order-b"):
                value = encode(event(event_id=f"e-{i}", tenant_id=tenant_id))
                if i % 50:
                    sender.event("auth", tenant_id, value)
                else:
                    sender.message("auth", tenant_id, value, 1)
    assert sender.acknowledged == 2_000
    messages = received(cluster, "audit.auth", "order-a")
    events = [e for m in messages for e in (m if isinstance(m, list) else [m])]
    assert [e["event_id"] for e in events] == [f"e-{i}" for i in range(1_000)]


def test_a_message_of_the_largest_size_is_taken(cluster: str) -> None:
    """8 MiB, which the topics allow, pass the client too."""
    big = event(event_id="big", tenant_id="big-a", user_agent="x" * (8 * 1024 * 1024 - 1_000))
    with Sender(cluster) as sender:
        sender.message("auth", "big-a", encode(big), 1)
    assert [e["event_id"] for e in received(cluster, "audit.auth", "big-a")] == ["big"]


def test_one_queued_event_is_sent_as_an_object(cluster: str) -> None:
    """`send_queued` does not wait for an array to fill, and one event needs none around it."""
    with Sender(cluster) as sender:
        sender.event("access", "single-a", encode(event("access", tenant_id="single-a")))
        sender.send_queued()
        assert sender.messages == 1
        sender.flush()
    assert [e["kind"] for e in received(cluster, "audit.access", "single-a")] == ["access"]


def test_an_error_of_the_caller_sends_nothing_more(cluster: str) -> None:
    """What was queued when the work failed is not sent behind its back."""
    with suppress(KeyError), Sender(cluster) as sender:
        sender.event("access", "failed-a", encode(event("access", tenant_id="failed-a")))
        raise KeyError
    assert received(cluster, "audit.access", "failed-a") == []


def test_a_kafka_that_does_not_answer_is_named() -> None:
    """With its address and what to do."""
    with pytest.raises(SendError, match=r"127\.0\.0\.1:1 does not answer.*tenantwatch up"):
        Sender("127.0.0.1:1")


def test_the_tenant_log_knows_added_and_removed_tenants(cluster: str) -> None:
    """Each refresh reads what came since the last one; a removed tenant is gone."""
    log = TenantLog(cluster)
    with Sender(cluster) as sender:
        sender.tenants([unknown_tenant("log-a"), unknown_tenant("log-b")])
        sender.flush()
        log.refresh()
        assert {"log-a", "log-b"} <= log.tenant_ids
        sender.remove_tenant("log-a")
    log.refresh()
    log.close()
    assert {"log-a", "log-b"} & log.tenant_ids == {"log-b"}


def test_the_tenant_log_reads_from_the_beginning(cluster: str) -> None:
    """A tenant of long ago is known to a tool that starts now."""
    with Sender(cluster) as sender:
        sender.tenants([unknown_tenant("old-a")])
    log = TenantLog(cluster)
    log.refresh()
    log.close()
    assert "old-a" in log.tenant_ids
    assert received(cluster, TENANTS, "old-a")[0]["tenant_id"] == "old-a"


def test_a_topic_that_cannot_be_made_is_told_with_what_it_takes(cluster: str) -> None:
    """Three replicas on one broker: Kafka says no, and not which setting asked for them."""
    with pytest.raises(TopicError, match=r"right Create .* TENANTWATCH_REPLICATION says \(3\)"):
        ensure_anchor_topic(cluster, "audit.anchors-of-three", replication=3)


@pytest.mark.parametrize(
    ("ensure", "asked"),
    [
        (ensure_topics, "list_topics"),
        (ensure_topics, "describe_topics"),
        (ensure_topics, "describe_cluster"),
        (partial(ensure_anchor_topic, name="audit.anchors"), "list_topics"),
    ],
)
def test_a_kafka_that_goes_while_topics_are_looked_at_is_told(
    ensure: Callable[[str], object], asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the words for one that was never there: a start shows them, and no traceback."""
    described = [{"name": name, "error_code": 0, "partitions": [0], "topic_id": name} for name in CONFIGS]
    admin = Mock(**{"list_topics.return_value": [*CONFIGS], "describe_topics.return_value": described})
    getattr(admin, asked).side_effect = KafkaTimeoutError("gone")
    monkeypatch.setattr("streams.topics.KafkaAdminClient", lambda **_: admin)
    with pytest.raises(TopicError, match=r"kafka-1:9092 does not answer: .*gone.* Is it running"):
        ensure("kafka-1:9092")
    admin.close.assert_called_once_with()


def test_a_tenant_log_without_kafka_is_an_error() -> None:
    """Not an empty directory."""
    with pytest.raises(TopicError, match="does not answer"):
        TenantLog("127.0.0.1:1")
