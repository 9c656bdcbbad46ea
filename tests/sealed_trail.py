"""A trail of a few tenants in a Kafka cluster that nobody else in the session has, stored and sealed."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import numpy as np

from schemas.batch import EventBatch
from schemas.event import Kind
from schemas.parse import parse
from schemas.tenant import Tenant
from store.database import Database
from store.events import KafkaIds
from store.ownership import Claim
from store.seals.keys import Signer, Trust
from store.seals.seal import ChainId, Seal
from store.seals.sealing import Sealing
from store.seals.trail import StoredTrail
from store.seals.verification import Verdict, Verification
from store.writer import EventWriter
from tests.schema_examples import encode, event

PARTITION = 3
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class SealedTrail:
    """Stores events and seals them, as a worker would at each `seal`."""

    def __init__(self, database: Database, partition: int = PARTITION, mark: str | None = None) -> None:
        self.database = database
        mark = mark or uuid4().hex[:8]
        self.ids = KafkaIds(
            f"cluster-{mark}", {f"audit.{kind}": f"{kind}-{mark}" for kind in ("auth", "access", "request")}
        )
        self.partition = partition
        self.tenant = f"tenant-{mark}-a"
        self.other = f"tenant-{mark}-b"
        self.signer = Signer.new()
        self.sealing = Sealing(database, self.ids)
        self.heads: dict[ChainId, Seal] = {}
        self.now = NOW
        # Of the claim that rows are stored under.
        self.term = 1
        # Told of each batch that is stored.
        self.on_put: list[Callable[[EventBatch, int], None]] = []
        self._next: Counter[str] = Counter()
        self._writer = EventWriter(database, self.ids)

    def store(self, count: int, kind: Kind = "auth", tenant: str | None = None, **fields: Any) -> None:
        """Store events of a tenant, one a message, at the next offsets of their topic."""
        topic = f"audit.{kind}"
        first = self._next[topic]
        self._next[topic] += count
        self.put(batch(kind, tenant or self.tenant, range(first, first + count), self.now, **fields))

    def stored(self, topic: str) -> int:
        """Return the offset after the last one that `store` used."""
        return self._next[topic]

    def advance(self, topic: str, count: int) -> None:
        """Take it that so many more offsets of a topic are committed."""
        self._next[topic] += count

    def resume(self) -> None:
        """Go on from what is stored, as a worker that takes a partition over."""
        rows = self.database.query(
            "SELECT kafka_topic, max(kafka_offset) + 1 AS position FROM events "
            "WHERE kafka_cluster_id = {cluster:String} GROUP BY kafka_topic",
            {"cluster": self.ids.cluster_id},
        )
        self._next.update({row["kafka_topic"]: row["position"] for row in rows})
        self.heads = self.sealing.heads([self.partition])

    def put(self, found: EventBatch) -> None:
        """Store a batch."""
        found = replace(found, partition=self.partition)
        for block in self._writer.encode_events(
            [(found, Claim(found.topic, self.partition, self.term, self.term))]
        ):
            self._writer.insert_events(block)
        for told in self.on_put:
            told(found, int(found.offset[-1]) + 1)

    def seal(self, signer: Signer | None = None) -> list[Seal]:
        """Seal what was stored since the last time."""
        self.now += timedelta(minutes=1)
        own = self.heads.get(self.sealing.partition_chain(self.partition))
        ends = {topic: self._next[topic] for topic in self.ids.topic_ids}
        stretch = self.sealing.stretch(self.partition, own, ends)
        made = self.sealing.seal([stretch], self.heads, signer or self.signer, self.now)
        self.heads |= {seal.chain: seal for seal in made}
        return made

    def verify(self, tenant: str | None = None, **more: Any) -> Verdict:
        """Verify one tenant of this trail."""
        trail = StoredTrail(self.database, more.get("since"), more.get("until"))
        trust = Trust([self.signer.public])
        return Verification(trail, trust, **more).run(tenant or self.tenant)

    def kinds(self, tenant: str | None = None, **more: Any) -> list[tuple[str, int]]:
        """Return the kinds of what verification finds and of how many rows, of this trail only."""
        return [
            (finding.kind, finding.rows)
            for finding in self.verify(tenant, **more).findings
            if self.owns(finding)
        ]

    def owns(self, finding: Any) -> bool:
        """Whether a finding is about this trail: the session's store holds those of other tests too."""
        return finding.cluster_id == self.ids.cluster_id or finding.tenant_id in (self.tenant, self.other)

    def alter(self, sql: str, **values: Any) -> None:
        """Change the store directly, as somebody with its password would."""
        bound = {"cluster": self.ids.cluster_id, "tenant": self.tenant, **values}
        self.database.command(f"{sql} SETTINGS mutations_sync = 2" if "ALTER" in sql else sql, bound)

    def count(self) -> int:
        """Return how many rows the tenant has."""
        sql = "SELECT count() AS n FROM events WHERE tenant_id = {tenant:String}"
        return int(self.database.query(sql, {"tenant": self.tenant})[0]["n"])


def batch(
    kind: Kind, tenant_id: str, offsets: range, ingest: datetime, at: datetime | None = None, **fields: Any
) -> EventBatch:
    """Return an enriched batch of events, each other than the rest."""
    when = (at or ingest).isoformat().replace("+00:00", "Z")
    events = [
        event(kind, tenant_id=tenant_id, event_id=f"{kind}-{i}", time=when, user_id=f"user-{i % 7}", **fields)
        for i in offsets
    ]
    parsed = parse(kind, [encode(one) for one in events])
    assert parsed.rejections == []
    return replace(
        parsed.batch,
        topic=f"audit.{kind}",
        tenants=tuple(Tenant(tenant_id=t, organization_id="o", name=t) for t in parsed.batch.tenant.values),
        tenant_versions=(1,) * len(parsed.batch.tenant.values),
        ingest_time_ms=int(ingest.timestamp() * 1000),
        flags=np.zeros(len(events), np.uint8),
        offset=np.array(offsets, np.int64),
        _tenant=parsed.batch.tenant,
    )
