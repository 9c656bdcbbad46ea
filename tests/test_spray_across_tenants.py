"""Spraying across tenants, end to end: tenants in different partitions, and workers that die."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from schemas.alert import rfc3339
from schemas.tenant import Tenant
from streams.topics import ALERTS, DEFAULT_PARTITIONS, TENANTS, TOPIC_OF, ensure_topics, partition_of
from tenantwatch.control import Control
from tenantwatch.settings import Settings
from tests.chaos.stage import Stage, Worker
from tests.chaos.topics import read
from tests.conftest import Up, eventually

CLASSIFICATION = "cross_tenant_spray"
# The first names of which each is in another partition.
TENANT_IDS = list(
    {partition_of(name.encode(), DEFAULT_PARTITIONS): name for name in (f"sprayed-{i}" for i in range(40))}
    .values()
)[:3]  # fmt: skip
START = datetime.now(UTC) - timedelta(minutes=5)


class Attacker:
    """One address that fails at several tenants."""

    def __init__(self, bootstrap: str, address: str) -> None:
        self.address = address
        self.sent: list[dict[str, Any]] = []
        self._producer = Producer(
            {"bootstrap.servers": bootstrap, "partitioner": "murmur2_random", "linger.ms": 1, "acks": "all"}
        )

    def enrol(self) -> None:
        for tenant_id in TENANT_IDS:
            tenant = Tenant(tenant_id=tenant_id, organization_id="o", name="n")
            self._producer.produce(TENANTS, tenant.model_dump_json(), tenant_id)
        self._producer.flush()

    def fail(self, tenant_id: str, count: int = 1) -> None:
        for _ in range(count):
            n = len(self.sent)
            event = {
                "event_id": f"{self.address}-{n}", "kind": "auth", "tenant_id": tenant_id,
                "time": rfc3339(START + timedelta(seconds=n)), "service": "login", "user_id": f"user-{n}",
                "source_ip": self.address, "action": "login", "outcome": "failure",
            }  # fmt: skip
            self._producer.produce(TOPIC_OF["auth"], json.dumps(event), tenant_id)
            self.sent.append(event)
        assert self._producer.flush(30) == 0

    def ids(self, tenant_id: str) -> list[str]:
        return [event["event_id"] for event in self.sent if event["tenant_id"] == tenant_id]


def test_the_tenants_are_in_different_partitions() -> None:
    """Or the tests here would say nothing."""
    assert len({partition_of(t.encode(), DEFAULT_PARTITIONS) for t in TENANT_IDS}) == 3


def test_each_tenant_is_told_of_its_own_part(up: Up) -> None:
    """Three tenants in three partitions, one or a few failures at each: an alert for each."""
    attacker = Attacker(up.status["kafka"], "198.51.100.77")
    attacker.enrol()
    eventually(lambda: len(up.control("/tenants")) >= 3)
    for tenant_id, count in zip(TENANT_IDS, (4, 1, 2), strict=True):
        attacker.fail(tenant_id, count)

    def found() -> dict[str, dict[str, Any]]:
        listed = up.control("/alerts", detector="failed_login", limit=1_000)
        chosen = [a for a in listed if a["classification"] == CLASSIFICATION]
        return {a["tenant_id"]: a for a in chosen if a["entity"]["value"] == attacker.address}

    wanted = dict(zip(TENANT_IDS, (4, 1, 2), strict=True))
    eventually(lambda: {tenant_id: alert["event_count"] for tenant_id, alert in found().items()} == wanted)
    for tenant_id, alert in found().items():
        assert alert["evidence"]["event_ids"] == attacker.ids(tenant_id)
        assert not any(other in json.dumps(alert) for other in TENANT_IDS if other != tenant_id)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    built = Stage(tmp_path, "embedded")
    yield built
    built.close()


def published(stage: Stage) -> dict[tuple[str, int], set[str]]:
    """Return every alert of the rule that was published, by tenant and revision."""
    found: dict[tuple[str, int], set[str]] = {}
    for message in read(stage.kafka.bootstrap, ALERTS):
        alert = json.loads(message.value or b"{}")
        if alert["classification"] == CLASSIFICATION:
            alert.pop("published_at")
            found.setdefault((alert["tenant_id"], alert["revision"]), set()).add(json.dumps(alert))
    return found


def stored(worker: Worker) -> int:
    with Control(Settings(data_dir=worker.data_dir)) as control:
        return sum(row["events"] for row in control.get("/counts"))


@pytest.mark.slow
def test_a_worker_that_is_killed_between_the_tenants_forgets_none(stage: Stage) -> None:
    """Kill -9 after each of them loses no alert and invents none."""
    ensure_topics(stage.kafka.bootstrap)
    attacker = Attacker(stage.kafka.bootstrap, "198.51.100.78")
    attacker.enrol()
    assert stage.await_ready(), stage.stalls
    [worker] = stage.workers
    for tenant_id, count in zip(TENANT_IDS, (3, 2, 1), strict=True):
        attacker.fail(tenant_id, count)
        eventually(lambda: stored(worker) >= len(attacker.sent))
        stage.kill(worker)
        assert stage.await_ready(), stage.stalls
    wanted = [(TENANT_IDS[0], 1), (TENANT_IDS[0], 2), (TENANT_IDS[1], 1), (TENANT_IDS[1], 2),
              (TENANT_IDS[2], 1)]  # fmt: skip
    eventually(lambda: sorted(published(stage)) == sorted(wanted))
    for (tenant_id, revision), contents in published(stage).items():
        [content] = contents
        alert = json.loads(content)
        assert alert["event_count"] == 2 ** (revision - 1)
        assert alert["evidence"]["event_ids"] == attacker.ids(tenant_id)[: alert["event_count"]]
