"""The embedded Kafka, always a real one: its life, its data, and what it leaves behind."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from streams import broker
from streams.broker import BrokerConfig, BrokerError, EmbeddedKafka
from streams.jars import resolve_jars
from streams.jvm import ended

REPOSITORY = Path(__file__).parent.parent

# A program that starts a broker and waits to be killed. Its second argument stands in for the launcher.
PARENT = """
import sys, time
from pathlib import Path
from streams import broker, jvm
jvm._LAUNCHER = sys.argv[2] or jvm._LAUNCHER
broker.EmbeddedKafka(broker.BrokerConfig(Path(sys.argv[1]), port=0, controller_port=0)).start()
print("ready", flush=True)
time.sleep(600)
"""
NO_DEATH_SIGNAL = "import os, sys; os.execv(sys.argv[2], sys.argv[2:])"


def embedded(data_dir: Path) -> EmbeddedKafka:
    return EmbeddedKafka(BrokerConfig(data_dir, port=0, controller_port=0))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """One running broker for the tests that do not stop it, started by a thread that has ended since."""
    kafka = embedded(tmp_path_factory.mktemp("shared") / "data dir, ü")
    starter = threading.Thread(target=kafka.start)
    starter.start()
    starter.join()
    yield kafka
    kafka.stop()


@pytest.fixture
def killed_parent(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[Path, psutil.Process]]:
    """A data directory whose broker's parent was killed with SIGKILL, and that broker's JVM."""
    launcher = getattr(request, "param", "")
    command = [sys.executable, "-c", PARENT, str(tmp_path), launcher]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert "ready\n" in iter(parent.stdout.readline, "")
        [jvm] = jvms(tmp_path)
        parent.kill()
    yield tmp_path, jvm
    for survivor in jvms(tmp_path):
        survivor.kill()


def jvms(data_dir: Path) -> list[psutil.Process]:
    properties = str(data_dir.resolve() / "kafka" / "server.properties")
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if properties in (process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


def create_topic(bootstrap: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, num_partitions=1)])[topic].result(10)


def produce(bootstrap: str, topic: str, value: bytes) -> None:
    failures = []
    producer = Producer({"bootstrap.servers": bootstrap, "message.max.bytes": 10_000_000})
    producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(10) == 0
    assert failures == []


def consume(bootstrap: str, topic: str) -> bytes | None:
    options = {"bootstrap.servers": bootstrap, "group.id": "tenantwatch", "auto.offset.reset": "earliest"}
    consumer = Consumer(options | {"enable.auto.commit": False})
    consumer.subscribe([topic])
    message = consumer.poll(10)
    consumer.close()
    value: bytes | None = message.value() if message and not message.error() else None
    return value


def test_a_produced_message_is_consumed(shared: EmbeddedKafka) -> None:
    """What one client sends another receives, whatever the data directory is called."""
    create_topic(shared.bootstrap, "audit.auth")
    produce(shared.bootstrap, "audit.auth", b"tenant-a")
    assert consume(shared.bootstrap, "audit.auth") == b"tenant-a"


def test_a_message_of_9_mib_is_taken(shared: EmbeddedKafka) -> None:
    """A dead letter keeps the original bytes, so the broker takes far more than Kafka's usual 1 MiB."""
    create_topic(shared.bootstrap, "audit.dead-letters")
    value = bytes(9 * 2**20 - 1_000)
    produce(shared.bootstrap, "audit.dead-letters", value)
    assert consume(shared.bootstrap, "audit.dead-letters") == value


def test_a_misspelt_topic_does_not_appear(shared: EmbeddedKafka) -> None:
    """Topics are created by tenantwatch alone, never by a client that asks for one."""
    producer = Producer({"bootstrap.servers": shared.bootstrap, "message.timeout.ms": 1_000})
    producer.produce("audit.misspelt", b"tenant-a")
    producer.flush(10)
    assert "audit.misspelt" not in producer.list_topics(timeout=10).topics


def test_the_broker_outlives_the_thread_that_started_it(shared: EmbeddedKafka) -> None:
    """The kernel's signal for a dead parent must mean the process, not one thread of it."""
    [jvm] = jvms(shared.log_path.parent.parent)
    with pytest.raises(psutil.TimeoutExpired):
        jvm.wait(1)  # the signal would be long on its way; a clean stop takes less
    assert shared.running()


def test_a_second_start_on_the_same_directory_is_refused(shared: EmbeddedKafka) -> None:
    """Two brokers on one directory would corrupt it; the error names the process that has it."""
    second = embedded(shared.log_path.parent.parent)
    with pytest.raises(BrokerError, match=f"process {os.getpid()} .*TENANTWATCH_DATA_DIR"):
        second.start()
    assert shared.running()


@pytest.mark.parametrize(
    ("option", "setting"),
    [("port", "TENANTWATCH_KAFKA_PORT"), ("controller_port", "TENANTWATCH_KAFKA_CONTROLLER_PORT")],
)
def test_a_taken_port_is_named_with_its_setting(tmp_path: Path, option: str, setting: str) -> None:
    """The error says which port and how to choose another, before any JVM is started."""
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        port = occupant.getsockname()[1]
        config = BrokerConfig(tmp_path, **{"port": 0, "controller_port": 0, option: port})
        with pytest.raises(BrokerError, match=rf"port {port}: another process uses it.* {setting} "):
            EmbeddedKafka(config).start()
    assert not (tmp_path / "kafka" / "kafka.log").exists()


def test_data_and_address_survive_a_restart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second start finds topics, messages, its jars and its own port again."""
    first = embedded(tmp_path)
    bootstrap = first.start()
    create_topic(bootstrap, "audit.auth")
    produce(bootstrap, "audit.auth", b"tenant-a")
    first.stop()

    monkeypatch.setattr(broker, "resolve_jars", lambda: pytest.fail("the jars were resolved again"))
    second = embedded(tmp_path)
    assert second.start() == bootstrap
    assert consume(bootstrap, "audit.auth") == b"tenant-a"
    second.stop()

    with socket.create_server(("127.0.0.1", int(bootstrap.rpartition(":")[2]))):
        elsewhere = second.start()
        assert elsewhere != bootstrap
        assert consume(elsewhere, "audit.auth") == b"tenant-a"
        second.stop()


def test_a_stop_leaves_nothing_behind(tmp_path: Path) -> None:
    """After a stop there is no process, the directory can be locked, and stopping again is harmless."""
    kafka = embedded(tmp_path)
    kafka.start()
    assert len(jvms(tmp_path)) == 1
    kafka.stop()
    kafka.stop()
    assert jvms(tmp_path) == []
    assert not kafka.running()
    with (tmp_path / "kafka" / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.thorough
def test_a_dead_jvm_is_noticed_and_replaced(tmp_path: Path) -> None:
    """A JVM that was killed is not running, and the same object can start another one."""
    kafka = embedded(tmp_path)
    kafka.start()
    [jvm] = jvms(tmp_path)
    # Not SIGKILL: after that Kafka itself waits 9 s for its old session to expire.
    jvm.send_signal(signal.SIGTERM)
    jvm.wait(10)
    deadline = time.monotonic() + 5
    while kafka.running() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not kafka.running()
    kafka.start()
    assert kafka.running()
    kafka.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_killed_parent_takes_its_broker_along(killed_parent: tuple[Path, psutil.Process]) -> None:
    """Even kill -9 of our process leaves no JVM that nobody knows of."""
    _, jvm = killed_parent
    assert ended(jvm, timeout_s=10)


@pytest.mark.thorough
@pytest.mark.parametrize("killed_parent", [NO_DEATH_SIGNAL], indirect=True)
def test_a_surviving_jvm_is_replaced(killed_parent: tuple[Path, psutil.Process]) -> None:
    """Where the kernel does not help, the next start stops the JVM that the killed parent left."""
    data_dir, orphan = killed_parent
    assert orphan in jvms(data_dir)
    kafka = embedded(data_dir)
    kafka.start()
    [jvm] = jvms(data_dir)
    assert jvm != orphan
    kafka.stop()


@pytest.mark.thorough
def test_a_stranger_with_the_recorded_process_id_is_left_alone(tmp_path: Path) -> None:
    """A process id is given out again after a reboot; whoever has it now is not ours to stop."""
    with subprocess.Popen(["sleep", "600"]) as stranger:
        record = {"pid": stranger.pid, "create_time": psutil.Process(stranger.pid).create_time()}
        kafka = embedded(tmp_path)
        kafka.log_path.parent.mkdir()
        (kafka.log_path.parent / "pid.json").write_text(json.dumps(record))
        kafka.start()
        assert stranger.poll() is None
        kafka.stop()
        stranger.kill()


def test_a_jvm_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    """The error carries the exit code and the end of kafka.log, and the directory is free again."""
    kafka = EmbeddedKafka(BrokerConfig(tmp_path, port=0, controller_port=0, heap_mb=1))
    for _ in range(2):
        with pytest.raises(BrokerError, match=r"(?s)exit code 1.*kafka\.log:\n.*heap"):
            kafka.start()


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """The error names the path instead of showing a traceback from deep inside."""
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"cannot start Kafka in .*/file/kafka: .*must be writable"):
        embedded(tmp_path / "file").start()


def test_missing_jars_are_resolved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Remembered jars are used only while all of them are there; a cleaned cache is filled again."""
    kafka = embedded(tmp_path)
    kafka.log_path.parent.mkdir()
    remembered = {"coordinates": broker.COORDINATES, "jars": [str(tmp_path / "gone.jar")]}
    (kafka.log_path.parent / "jars.json").write_text(json.dumps(remembered))
    monkeypatch.setattr(broker, "resolve_jars", lambda: [str(tmp_path / "resolved.jar")])
    with pytest.raises(BrokerError, match="could not format"):
        kafka.start()
    assert "resolved.jar" in (kafka.log_path.parent / "jars.json").read_text()


def test_a_half_downloaded_jar_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted first start must not break every later one."""
    jar = tmp_path / "kafka.jar"
    jar.write_bytes(b"PK\x03\x04 and then the connection was lost")

    class Artifact:
        def resolve(self) -> Path:
            if not jar.exists():
                with zipfile.ZipFile(jar, "w") as whole:
                    whole.writestr("kafka/Kafka.class", b"")
            return jar

    monkeypatch.setattr("jgo.resolve", lambda coordinates: [Artifact()])
    assert resolve_jars() == [str(jar)]
    assert zipfile.is_zipfile(jar)
