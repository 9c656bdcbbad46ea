"""Topics on a cluster of three brokers: what is acknowledged is on two of them."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from streams.broker import BrokerConfig, EmbeddedKafka
from streams.inspection import ClusterView, view_cluster
from streams.jars import resolve_jars
from streams.jvm import spawn_java
from streams.topics import CONFIGS, TOPIC_OF, TopicError, ensure_topics
from tests.conftest import eventually

pytestmark = pytest.mark.slow
HEAP_MB = 300


def joined(node_id: int, first: EmbeddedKafka, directory: Path) -> subprocess.Popen[bytes]:
    """Start another broker of the first one's cluster; it has the first one's controller."""
    home = first.log_path.parent
    directory.mkdir()
    properties = dict(line.split("=", 1) for line in (home / "server.properties").read_text().splitlines())
    properties |= {"process.roles": "broker", "node.id": str(node_id), "listeners": "PLAINTEXT://127.0.0.1:0"}
    del properties["advertised.listeners"]
    config = directory / "server.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    meta = dict(
        line.split("=", 1)
        for line in (home / "data" / "meta.properties").read_text().splitlines()
        if "=" in line
    )
    jars, log_path = resolve_jars(), directory / "kafka.log"

    def java(main_class: str, *arguments: str) -> subprocess.Popen[bytes]:
        return spawn_java(
            main_class, *arguments, jars=jars, heap_mb=HEAP_MB, directory=directory, log_path=log_path
        )

    options = (f"--cluster-id={meta['cluster.id']}", f"--config={config}")
    assert java("kafka.tools.StorageTool", "format", *options).wait(60) == 0
    return java("kafka.Kafka", str(config))


@pytest.fixture
def three(tmp_path: Path) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A cluster's address, and the processes of its second and third broker."""
    first = EmbeddedKafka(BrokerConfig(tmp_path, port=0, controller_port=0, heap_mb=HEAP_MB))
    others: list[subprocess.Popen[bytes]] = []
    try:
        bootstrap = first.start()
        others += [joined(node_id, first, tmp_path / str(node_id)) for node_id in (2, 3)]
        yield bootstrap, others
    finally:
        for process in others:
            process.kill()
            process.wait()
        first.stop()


def brokers(bootstrap: str) -> int:
    """Return how many brokers the cluster has."""
    return len(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=10).brokers)


def seen(bootstrap: str) -> ClusterView | None:
    """Return what `doctor` sees, once the cluster has made the topic of groups' offsets."""
    with suppress(TopicError):
        return view_cluster(bootstrap)
    return None


def answer(bootstrap: str) -> str:
    """Return what becomes of an event, in librdkafka's words."""
    producer = Producer(
        {"bootstrap.servers": bootstrap, "acks": "all", "retries": 0, "message.timeout.ms": 10_000}
    )
    told: list[str] = []
    producer.produce(
        TOPIC_OF["auth"],
        b"{}",
        b"tenant-a",
        on_delivery=lambda error, _: told.append(error.name() if error else "taken"),
    )
    producer.flush(15)
    return told[0]


def test_of_three_replicas_two_have_what_is_acknowledged(
    three: tuple[str, list[subprocess.Popen[bytes]]],
) -> None:
    """With one broker gone events are taken, with two they are refused instead of kept in one place."""
    bootstrap, others = three
    eventually(lambda: brokers(bootstrap) == 3)
    ensure_topics(bootstrap, partitions=1, replication=3)
    view = eventually(lambda: seen(bootstrap))
    assert view.replicas == dict.fromkeys(CONFIGS, 3)
    assert view.min_in_sync == dict.fromkeys(CONFIGS, 2)
    assert view.in_one_place == []
    assert eventually(lambda: answer(bootstrap)) == "taken"
    others[0].kill()
    eventually(lambda: answer(bootstrap) == "taken")
    others[1].kill()
    eventually(lambda: answer(bootstrap) == "NOT_ENOUGH_REPLICAS")
