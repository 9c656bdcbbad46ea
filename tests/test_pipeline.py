"""The pipeline end to end, every part real: what producers send, and what is in the store afterwards."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas.tenant import Tenant
from streams.topics import DEAD_LETTERS, TENANTS, partition_of
from tenantwatch.control import Control, running
from tenantwatch.settings import Settings
from tests.conftest import REPOSITORY, CommandLine, settings_env
from tests.sizes import THOROUGH

CODECS = ("none", "gzip", "lz4", "snappy", "zstd")
EVENTS_PER_CODEC = 40_000 if THOROUGH else 8_000
pytestmark = [pytest.mark.thorough] if THOROUGH else []
TENANT_IDS = [f"tenant-{name}" for name in "abcdefgh"]


def event(number: int, tenant_id: str, kind: str = "auth", **fields: Any) -> dict[str, Any]:
    """Return a valid event, one second after the one before."""
    seconds = number % 86_400
    clock = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    base = {
        "event_id": f"event-{number:08d}",
        "kind": kind,
        "tenant_id": tenant_id,
        "time": f"2026-01-05T{clock}.{number % 1000:03d}Z",
        "service": "login",
        "user_id": f"user-{number % 500}",
        "source_ip": f"192.0.2.{number % 250}",
        "outcome": "success",
    }
    if kind != "request":
        base["action"] = "login" if kind == "auth" else "read"
    return {**base, **fields}


@dataclass
class Run:
    """What was sent to one pipeline, and its store after it was stopped."""

    env: dict[str, str]
    data_dir: Path
    sent: set[tuple[str, str]] = field(default_factory=set)
    garbage: dict[str, bytes | None] = field(default_factory=dict)
    dead_letters: list[tuple[dict[str, str], bytes | None]] = field(default_factory=list)

    def query(self, sql: str) -> list[dict[str, Any]]:
        """Ask the stopped pipeline's store, in a process of its own: the engine admits one path in each."""
        program = (
            "import json, sys; from pathlib import Path; from store.database import Database; "
            "print(json.dumps(Database.embedded(Path(sys.argv[1])).query(sys.argv[2]), default=str))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(self.data_dir / "clickhouse"), sql],
            capture_output=True, text=True, check=True, cwd=REPOSITORY,
        )  # fmt: skip
        return list(json.loads(done.stdout))


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


def producer(bootstrap: str, codec: str = "none", **options: Any) -> Producer:
    return Producer(
        {
            "bootstrap.servers": bootstrap,
            "partitioner": "murmur2_random",
            "compression.type": codec,
            "linger.ms": 20,
            "message.max.bytes": 8_000_000,
            "queue.buffering.max.messages": 1_000_000,
            **options,
        }
    )


def send_mixture(run: Run, bootstrap: str, codec: str, first: int) -> None:
    """Send events of three kinds with one codec: single ones, and arrays of 2 to 300."""
    target = producer(bootstrap, codec)
    number, size = first, 1
    while number < first + EVENTS_PER_CODEC:
        tenant_id = TENANT_IDS[number % len(TENANT_IDS)]
        kind = ("auth", "access", "request")[number % 3]
        count = min(size if number % 2 else 1, first + EVENTS_PER_CODEC - number)
        events = [event(i, tenant_id, kind) for i in range(number, number + count)]
        target.produce(f"audit.{kind}", json.dumps(events if count > 1 else events[0]), tenant_id)
        run.sent.update((tenant_id, e["event_id"]) for e in events)
        number, size = number + count, size % 300 + 1
    assert target.flush(60) == 0


def send_garbage(run: Run, bootstrap: str) -> None:
    """Send what must not be stored, each beside a good event of the same tenant."""
    tenant = TENANT_IDS[0]
    good = json.dumps(event(900_000, tenant)).encode()
    bad: dict[str, tuple[str | None, bytes | None]] = {
        "not JSON": (tenant, b"{not json"),
        "wrong type": (tenant, json.dumps(event(900_001, tenant, user_id=7)).encode()),
        "missing field": (tenant, b'{"event_id": "x", "kind": "auth"}'),
        "unknown tenant": ("tenant-nobody", json.dumps(event(900_002, "tenant-nobody")).encode()),
        "key of another tenant": (TENANT_IDS[1], json.dumps(event(900_003, tenant)).encode()),
        "five megabytes": (tenant, json.dumps(event(900_004, tenant, user_agent="x" * 5_000_000)).encode()),
        "one bad in an array": (
            tenant,
            json.dumps(
                [event(900_010, tenant), event(900_011, tenant, source_ip="nowhere"), event(900_012, tenant)]
            ).encode(),
        ),
        "no value": (tenant, None),
        "no key": (None, json.dumps(event(900_005, tenant)).encode()),
        "kind of another topic": (tenant, json.dumps(event(900_006, tenant, "request")).encode()),
    }
    target = producer(bootstrap)
    target.produce("audit.auth", good, tenant)
    for name, (key, value) in bad.items():
        target.produce("audit.auth", value, key)
        run.garbage[name] = value
    extra = event(900_020, tenant, colour="blue", attributes={"ticket": 7})
    target.produce("audit.auth", json.dumps(extra), tenant)
    run.sent |= {(tenant, f"event-{n:08d}") for n in (900_000, 900_010, 900_012, 900_020)}
    # A producer with another partitioner: the event is stored, but no detector may see it.
    misplaced = (partition_of(tenant.encode(), 12) + 1) % 12
    target.produce("audit.auth", json.dumps(event(900_030, tenant, service="legacy")), tenant, misplaced)
    run.sent.add((tenant, "event-00900030"))
    target.produce("audit.auth", json.dumps(event(900_000, tenant)), tenant)  # a producer's retry
    assert target.flush(60) == 0


def read_dead_letters(bootstrap: str) -> list[tuple[dict[str, str], bytes | None]]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "message.max.bytes": 10_000_000})
    found = []
    for partition in range(12):
        _, end = consumer.get_watermark_offsets(TopicPartition(DEAD_LETTERS, partition))
        if end:
            consumer.assign([TopicPartition(DEAD_LETTERS, partition, 0)])
            while len([1 for h, _ in found if h["_partition"] == str(partition)]) < end:
                message = consumer.poll(10)
                assert message is not None, "a dead letter is missing"
                headers = {name: value.decode() for name, value in message.headers()}
                found.append(({**headers, "_partition": str(partition)}, message.value()))
    consumer.close()
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Thousands of events in every codec, and garbage, through a pipeline that is then stopped."""
    data_dir = tmp_path_factory.mktemp("pipeline") / "data"
    env = settings_env(data_dir)
    line = CommandLine(env)
    run = Run(env, data_dir)
    with line.start("up", "--quiet") as process:
        try:
            until(lambda: running(Settings(data_dir=data_dir)), 120)
            until(lambda: not ask(env, "/status")["problems"], 120)
            bootstrap = line.json("status")["kafka"]
            tenants = producer(bootstrap)
            for tenant_id in TENANT_IDS:
                tenant = Tenant(tenant_id=tenant_id, organization_id="org", name=tenant_id, region="eu")
                tenants.produce(TENANTS, tenant.model_dump_json(), tenant_id)
            tenants.flush(60)
            until(lambda: len(ask(env, "/tenants")) == len(TENANT_IDS), 30)
            for i, codec in enumerate(CODECS):
                send_mixture(run, bootstrap, codec, i * EVENTS_PER_CODEC)
            send_garbage(run, bootstrap)
            until(lambda: sum(row["events"] for row in ask(env, "/counts")) > len(run.sent), 120)
            run.dead_letters = read_dead_letters(bootstrap)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(30)
    assert code == 0
    return run


def ask(env: dict[str, str], path: str) -> Any:
    with Control(Settings(data_dir=Path(env["TENANTWATCH_DATA_DIR"]))) as control:
        return control.get(path)


def test_rows_stored_are_events_sent_by_count_and_by_id(run: Run) -> None:
    """Every codec, single events and arrays: each event is one row, and nothing else is."""
    rows = run.query(
        "SELECT tenant_id, event_id, count() AS n FROM events WHERE bitAnd(flags, 4) = 0 GROUP BY 1, 2"
    )
    assert {(row["tenant_id"], row["event_id"]) for row in rows} == run.sent
    assert len(run.sent) > 5 * EVENTS_PER_CODEC
    assert {row["n"] for row in rows} == {1}


def test_every_row_has_a_kafka_identity_of_its_own(run: Run) -> None:
    """Cluster, topic id, partition, offset and index tell each row from all others."""
    identity = "kafka_cluster_id, kafka_topic_id, kafka_topic, kafka_partition, kafka_offset, message_index"
    assert run.query(
        f"SELECT count() AS n FROM (SELECT {identity} FROM events GROUP BY ALL HAVING count() > 1)"
    ) == [{"n": 0}]
    assert run.query(
        "SELECT count() AS n FROM events WHERE kafka_cluster_id = '' OR kafka_topic_id = ''"
    ) == [{"n": 0}]


def test_the_ledger_accounts_for_every_event(run: Run) -> None:
    """Stored and rejected in the ledger are what the tables hold."""
    ledger = run.query(
        "SELECT sum(stored) AS stored, sum(rejected) AS rejected, sum(unknown_fields) AS u FROM ledger"
    )
    events = run.query("SELECT count() AS n FROM events")
    assert ledger == [{"stored": events[0]["n"], "rejected": len(run.garbage), "u": 1}]


def test_each_bad_message_is_a_dead_letter_with_its_reason_and_its_bytes(run: Run) -> None:
    """Nothing that could not be stored is lost: the original is in audit.dead-letters, untouched."""
    reasons = sorted(headers["reason"] for headers, _ in run.dead_letters)
    assert reasons == sorted(
        [
            "invalid_json", "invalid_event", "invalid_event", "invalid_event", "invalid_event", "empty",
            "unknown_tenant", "tenant_mismatch", "tenant_mismatch", "too_large",
        ]
    )  # fmt: skip
    assert sorted(repr(value) for _, value in run.dead_letters) == sorted(map(repr, run.garbage.values()))
    array = next(h for h, value in run.dead_letters if value == run.garbage["one bad in an array"])
    assert array["rejected_indexes"] == "1"
    assert array["detail"].startswith("[1].source_ip:")
    assert array["source_topic"] == "audit.auth"
    assert array["source_offset"].isdigit()
    rows = run.query("SELECT reason, detail FROM dead_letters")
    assert sorted(row["reason"] for row in rows) == reasons


def test_unknown_fields_are_kept_under_attributes(run: Run) -> None:
    """A newer producer loses nothing."""
    rows = run.query("SELECT attributes FROM events WHERE event_id = 'event-00900020'")
    assert json.loads(rows[0]["attributes"]) == {"ticket": 7, "colour": "blue"}


def test_a_repeated_event_id_is_stored_and_flagged(run: Run) -> None:
    """A producer's retry does not vanish, and is not evaluated twice."""
    rows = run.query("SELECT flags FROM events WHERE event_id = 'event-00900000' ORDER BY flags")
    assert [row["flags"] & 4 for row in rows] == [0, 4]


def test_a_message_in_the_wrong_partition_is_stored_flagged_and_alerted(run: Run) -> None:
    """It names the service whose partitioner differs."""
    rows = run.query("SELECT flags FROM events WHERE event_id = 'event-00900030'")
    assert [row["flags"] & 8 for row in rows] == [8]
    alerts = run.query("SELECT classification, entity_value FROM alerts WHERE detector = 'placement'")
    assert alerts == [{"classification": "wrong_partition", "entity_value": "legacy"}]


def test_enrichment_is_stored_with_the_event(run: Run) -> None:
    """Organisation, tier, region, the tenant's status and the settings' version are on each row."""
    rows = run.query("SELECT DISTINCT organization_id, tier, region, tenant_status FROM events")
    assert rows == [{"organization_id": "org", "tier": "free", "region": "eu", "tenant_status": "active"}]
    assert run.query("SELECT countIf(tenant_version < 0) AS n FROM events") == [{"n": 0}]


def test_a_restart_stores_nothing_twice(run: Run) -> None:
    """After a clean stop everything was committed: the next start has nothing to read again."""
    before = run.query("SELECT count() AS n FROM events")
    line = CommandLine(run.env)
    with line.start("up", "--quiet") as process:
        until(
            lambda: line.run("status", "--json").returncode == 0 and not line.json("status")["problems"], 60
        )
        time.sleep(2)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert run.query("SELECT count() AS n FROM events") == before
