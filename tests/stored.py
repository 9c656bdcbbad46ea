"""Events and alerts put into the store as a worker does, for tests of what reads them."""

import itertools
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from random import randrange
from typing import Any

import numpy as np

from schemas.alert import Alert, Entity, Evidence
from schemas.event import KINDS
from schemas.parse import parse
from schemas.tenant import Tenant
from store.database import Database
from store.events import KafkaIds
from store.ownership import Claim
from store.writer import EventWriter
from tests.schema_examples import encode

IDS = KafkaIds("cluster", {f"audit.{kind}": f"id-{kind}" for kind in KINDS})
# Far apart where this module is imported under two names: a row with the place of another's is a copy of it.
_OFFSETS = itertools.count(randrange(1 << 40))


def store_events(database: Database, *events: dict[str, Any], ingest_time: datetime | None = None) -> int:
    """Store events of any kinds and tenants, each with an offset of its own; return the first."""
    first = next(_OFFSETS)
    writer = EventWriter(database, IDS)
    at = ingest_time or datetime.now(UTC)
    for kind in KINDS:
        chosen = [each for each in events if each["kind"] == kind]
        if not chosen:
            continue
        parsed = parse(kind, [encode(each) for each in chosen])
        assert parsed.rejections == []
        tenants = tuple(
            Tenant(tenant_id=t, organization_id=f"org-{t}", name=t) for t in parsed.batch.tenant.values
        )
        batch = replace(
            parsed.batch,
            offset=np.array([next(_OFFSETS) for _ in chosen], np.int64),
            topic=f"audit.{kind}",
            partition=3,
            tenants=tenants,
            tenant_versions=(0,) * len(tenants),
            ingest_time_ms=int(at.timestamp() * 1000),
            flags=np.zeros(len(chosen), np.uint8),
            _tenant=parsed.batch.tenant,
        )
        claim = Claim(f"audit.{kind}", 3, term=1, generation=1)
        for block in writer.encode_events([(batch, claim)]):
            writer.insert_events(block)
    return first + 1


def store_alert(database: Database, tenant_id: str, **fields: Any) -> Alert:
    """Store a revision of an alert."""
    alert = alert_at(tenant_id, datetime(2026, 3, 1, 12, tzinfo=UTC), **fields)
    EventWriter(database, IDS).insert_alerts([alert])
    return alert


def alert_at(tenant_id: str, time: datetime, **fields: Any) -> Alert:
    """Return a revision of an alert that was detected at a time."""
    described: dict[str, Any] = {
        "alert_id": uuid.uuid4().hex,
        "revision": 1,
        "status": "open",
        "detector": "failed_login",
        "classification": "brute_force",
        "severity": "high",
        "tenant_id": tenant_id,
        "entity": Entity(type="user_id", value="ana"),
        "first_time": time,
        "last_time": time,
        "event_count": 5,
        "score": 7.0,
        "threshold": 5.0,
        "summary": "5 failed logins of ana; last at 12:00:00 UTC",
        "evidence": Evidence(numbers={"failures": 5}, event_ids=["e-1"]),
        "attack": ["T1110.001"],
        "runbook": "Ask ana.",
        "detected_at": time,
        "published_at": time,
    }
    return Alert.model_validate({**described, **fields})
