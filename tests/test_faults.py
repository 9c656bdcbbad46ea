"""Faults, one at a time, with the real parts: what the worker does, and that no event is lost or doubled.

`make chaos` does all of this at random and many times; here each fault has a test of its own, which says what
an operator sees.
"""

import contextlib
import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer
from webhook_receiver import Answer, Receiver, receiving

from schemas.alert import rfc3339
from schemas.tenant import Tenant
from store.database import Database
from streams.topics import TENANTS, TOPIC_OF, ensure_topics
from tests.chaos.stage import SESSION_TIMEOUT_S, Stage, Worker, free_port
from tests.conftest import CommandLine, eventually
from tests.schema_examples import encode, event

SETTLED_S = 60.0  # only reached by a test that fails
pytestmark = pytest.mark.slow
TENANT_IDS = [f"tenant-{i}" for i in range(20)]


class Traffic:
    """Events of twenty tenants to one Kafka, numbered, so that each can be found again."""

    def __init__(self, bootstrap: str) -> None:
        ensure_topics(bootstrap)
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 1, "acks": "all"}
        )
        self.sent = 0
        for tenant_id in TENANT_IDS:
            tenant = Tenant(tenant_id=tenant_id, organization_id="o", name="n")
            self._producer.produce(TENANTS, tenant.model_dump_json(), tenant_id)
        self._producer.flush()

    def send(self, count: int = 400, **fields: Any) -> None:
        for _ in range(count):
            tenant_id = TENANT_IDS[self.sent % len(TENANT_IDS)]
            value = encode(event(tenant_id=tenant_id, event_id=f"e-{self.sent}", **fields))
            self._producer.produce(TOPIC_OF["auth"], value, tenant_id)
            self.sent += 1
        self._producer.flush()

    @contextlib.contextmanager
    def flowing(self) -> Iterator[None]:
        """Send a few events at a time meanwhile."""
        stopped = threading.Event()

        def keep_sending() -> None:
            while not stopped.wait(0.02):
                self.send(100)

        sender = threading.Thread(target=keep_sending)
        sender.start()
        try:
            yield
        finally:
            stopped.set()
            sender.join()


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Stage]:
    built = Stage(tmp_path, "embedded")
    yield built
    built.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Stage]:
    built = Stage(tmp_path, "cluster")
    built.workers = built.workers[:1]
    yield built
    built.close()


def started(stage: Stage) -> tuple[Worker, Traffic]:
    traffic = Traffic(stage.kafka.bootstrap)
    assert stage.await_ready(), stage.stalls
    return stage.workers[0], traffic


def ask(worker: Worker, *arguments: str) -> Any:
    """Run a command beside the worker; one that fails is asked again by whoever waits for the answer."""
    return json.loads(CommandLine(worker.env).run(*arguments, "--json").stdout or "null")


def assert_each_once(worker: Worker, traffic: Traffic) -> None:
    """All that was sent is stored, each event once, and the books say so."""
    deadline = time.monotonic() + SETTLED_S
    while True:
        books = ask(worker, "reconcile") or {"accounts": [], "gaps": []}
        rows = sum(account["rows"] for account in books["accounts"])
        if rows >= traffic.sent or time.monotonic() > deadline:
            break
        time.sleep(0.2)
    assert (rows, books["gaps"]) == (traffic.sent, []), books


def readiness(worker: Worker) -> tuple[int, list[str]]:
    status = worker.status()
    if status is None:
        return 0, []
    answer = httpx.get(f"{status['http']}/readyz", timeout=5)
    return answer.status_code, answer.json()["problems"]


def says(worker: Worker, word: str) -> bool:
    code, problems = readiness(worker)
    return code == 503 and any(word in problem for problem in problems)


def test_a_store_that_is_down_is_waited_for(cluster: Stage) -> None:
    """Events wait in Kafka, `/readyz` says why, nothing is dropped, and the worker goes on by itself."""
    worker, traffic = started(cluster)
    assert cluster.store is not None
    traffic.send()
    cluster.store.kill()
    traffic.send()
    eventually(lambda: says(worker, "store"))
    traffic.send()
    cluster.store.start()
    eventually(lambda: worker.ready)
    assert_each_once(worker, traffic)


def test_a_store_that_hangs_is_waited_for(cluster: Stage) -> None:
    """An insert that gets no answer is said to wait; when the answer comes, its rows are there once."""
    worker, traffic = started(cluster)
    assert cluster.store is not None
    traffic.send()
    cluster.store.pause()
    traffic.send()
    eventually(lambda: says(worker, "store"))
    cluster.store.resume()
    eventually(lambda: worker.ready)
    assert_each_once(worker, traffic)


def test_a_kafka_that_is_killed_and_comes_back_is_waited_for(embedded: Stage) -> None:
    """The worker stays and goes on by itself, and each event is stored once."""
    worker, traffic = started(embedded)
    pid = worker.pid
    traffic.send()
    embedded.kafka.kill()
    embedded.kafka.start()
    traffic.send()
    assert embedded.await_ready(), embedded.stalls
    assert_each_once(worker, traffic)
    assert worker.pid == pid


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 128 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"needs to mount a tmpfs: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _fill(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


def test_a_full_disk_is_waited_out(embedded: Stage, small_disk: Path) -> None:
    """The store cannot write: nothing is acknowledged, and it goes on when there is room."""
    embedded.workers = [Worker("worker-0", "up", small_disk, kafka=embedded.kafka.bootstrap)]
    worker, traffic = started(embedded)
    traffic.send()
    assert_each_once(worker, traffic)
    filler = small_disk / "filler"
    _fill(filler)
    traffic.send()
    eventually(lambda: says(worker, "store"))
    filler.unlink()
    eventually(lambda: worker.ready)
    assert_each_once(worker, traffic)
    worker.kill()


def test_a_disk_that_is_full_for_kafka_too_ends_it_all_with_what_to_do(
    embedded: Stage, small_disk: Path, tmp_path: Path
) -> None:
    """What Kafka had acknowledged by then is kept: with room again, the next start goes on."""
    port = free_port()
    ports = {"kafka_port": str(port), "kafka_controller_port": str(free_port())}
    worker = Worker("worker-0", "up", small_disk, **ports)
    worker.log_path = tmp_path / "worker-0.log"  # it is looked at
    embedded.workers = [worker]
    assert embedded.await_ready(), embedded.stalls
    traffic = Traffic(f"127.0.0.1:{port}")
    traffic.send()
    assert_each_once(worker, traffic)
    filler = small_disk / "filler"
    with traffic.flowing():
        _fill(filler)
        assert worker.wait(SETTLED_S) == 1
        filler.unlink()
        assert embedded.await_ready(), embedded.stalls
    assert_each_once(worker, traffic)
    [ended] = worker.events("kafka_ended")
    assert "its disk has 0 MiB free" in ended["problem"]
    worker.kill()


def test_sigterm_under_load_ends_the_worker_cleanly(embedded: Stage) -> None:
    """Within ten seconds, with exit code 0; what it had not finished, the next one does."""
    worker, traffic = started(embedded)
    with traffic.flowing():
        time.sleep(1.0)
        worker.signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    assert embedded.await_ready(), embedded.stalls
    assert_each_once(worker, traffic)


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[Receiver]:
    """A webhook's receiver that takes what is sent and does not answer."""
    with receiving() as receiver:
        released = threading.Event()
        receiver.answers = [Answer(hold=released)] * 100
        yield receiver
        released.set()


def test_sigterm_ends_a_worker_in_time_whose_webhooks_get_no_answer(
    embedded: Stage, tmp_path: Path, hanging: Receiver
) -> None:
    """Within ten seconds, with exit code 0; the next one makes the attempt again."""
    embedded.workers = [
        Worker("worker-0", "up", tmp_path, kafka=embedded.kafka.bootstrap, webhook_allow="127.0.0.1/32")
    ]
    worker, traffic = started(embedded)
    ask(worker, "webhooks", "add", hanging.url(), "--platform")
    guess = {"user_id": "ana", "source_ip": "192.0.2.7", "action": "login", "outcome": "failure"}
    traffic.send(20 * len(TENANT_IDS), **guess)
    eventually(lambda: hanging.received)
    worker.signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    first = hanging.received[0].id
    before = len(hanging.received)
    assert embedded.await_ready(), embedded.stalls
    eventually(lambda: first in [again.id for again in hanging.received[before:]])
    assert_each_once(worker, traffic)
    worker.kill()


def test_sigterm_ends_a_worker_that_waits_to_join(cluster: Stage) -> None:
    """Another member does not answer, so the group does not form; that must not hold it."""
    first, traffic = started(cluster)
    traffic.send(40)
    first.signal(signal.SIGSTOP)
    second = cluster.new_worker("joining")
    second.start()
    try:
        eventually(lambda: second.status())
        second.signal(signal.SIGTERM)
        # Faust alone would wait for as long as the other does.
        assert second.wait(20) == 0, second.last_words()
    finally:
        second.kill()
    first.signal(signal.SIGCONT)
    eventually(lambda: first.ready)
    assert_each_once(first, traffic)


def test_a_worker_that_hung_doubles_nothing_when_it_wakes_up(cluster: Stage) -> None:
    """Another took its partitions over meanwhile; its inserts are refused, and it joins again."""
    hung, traffic = started(cluster)
    successor = cluster.new_worker("successor")
    with traffic.flowing():
        successor.start()
        eventually(lambda: successor.ready)
        hung.signal(signal.SIGSTOP)
        time.sleep(1.5 * SESSION_TIMEOUT_S)
        eventually(lambda: successor.ready)
        hung.signal(signal.SIGCONT)
        time.sleep(2.0)
    eventually(lambda: successor.ready)
    assert_each_once(successor, traffic)
    successor.kill()


def test_a_worker_has_the_same_partitions_of_all_three_topics(cluster: Stage) -> None:
    """A tenant's events of every kind are handled by one worker."""
    first, _ = started(cluster)
    second = cluster.new_worker("second")
    second.start()
    assert cluster.store is not None
    database = Database.server(cluster.store.url)
    owners = (
        "SELECT worker_id, kafka_topic, groupArraySorted(100)(kafka_partition) AS partitions FROM ("
        " SELECT kafka_topic, kafka_partition, argMax(worker_id, (term, generation)) AS worker_id"
        " FROM ownership GROUP BY kafka_topic, kafka_partition"
        ") GROUP BY worker_id, kafka_topic"
    )

    def shared() -> list[dict[str, Any]]:
        rows = database.query(owners)
        return rows if len({row["worker_id"] for row in rows}) == 2 else []

    rows = eventually(shared)
    for worker in (first, second):
        of_topic = {row["kafka_topic"]: row["partitions"] for row in rows if row["worker_id"] == worker.name}
        assert of_topic.keys() == set(TOPIC_OF.values())
        assert len({tuple(partitions) for partitions in of_topic.values()}) == 1
    database.close()
    second.kill()


def test_events_from_wrong_clocks_are_stored_and_marked(embedded: Stage) -> None:
    """Late by days and ahead by hours: both are kept, neither moves the time of its tenant."""
    worker, traffic = started(embedded)
    now = datetime.now(UTC)

    def at(shift: timedelta) -> str:
        return rfc3339(now + shift)

    traffic.send(20, time=at(timedelta(0)))
    traffic.send(20, time=at(timedelta(hours=7)))
    traffic.send(20, time=at(timedelta(days=-3)))
    traffic.send(20, time=at(timedelta(seconds=1)))
    assert_each_once(worker, traffic)
    text = worker.metrics()
    for flag in ("future", "late"):
        assert f'tenantwatch_events_flagged_total{{flag="{flag}",kind="auth"}} 20.0' in text
