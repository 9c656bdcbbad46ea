"""Messages in the wrong partition: stored, counted and alerted, but not handed to detectors.

A tenant's events must all be in one partition, or two workers each see half of an attack. A producer with
another partitioner (librdkafka's default) breaks that silently; this says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar

import numpy as np

from schemas.alert import Alert, Entity, Evidence, alert_id, from_ms
from schemas.batch import FLAGS, EventBatch
from streams.topics import partition_of

DAY_MS = 86_400_000


@lru_cache(maxsize=1 << 16)
def _home(key: bytes, partitions: int) -> int:
    return partition_of(key, partitions)


@dataclass
class Placement:
    """Checks keys against partitions.

    Parameters
    ----------
    partitions
        Of the topic.
    alerted
        Tenant, service and day that an alert was raised for.
    """

    format_version: ClassVar[int] = 1

    partitions: int
    alerted: set[tuple[str, str, int]] = field(default_factory=set)

    def misplaced(self, keys: Sequence[bytes | None], partition: int) -> list[int]:
        """Return the positions of the records whose key belongs to another partition."""
        wrong = {key for key in set(keys) if key is not None and _home(key, self.partitions) != partition}
        return [i for i, key in enumerate(keys) if key in wrong] if wrong else []

    def remember(self, batch: EventBatch) -> None:
        """Take it that what is misplaced in a batch was alerted on."""
        assert batch.flags is not None
        if batch.flags.any():
            self.alerts(batch)

    def alerts(self, batch: EventBatch) -> list[Alert]:
        """Return one alert for each tenant, service and day (of the first such event) not alerted yet."""
        assert batch.flags is not None
        alerts: list[Alert] = []
        for i in np.flatnonzero(batch.flags & FLAGS["wrong_partition"]).tolist():
            tenant_id, service = batch.columns["tenant_id"][i], batch.columns["service"][i]
            day_ms = int(batch.time_ms[i]) // DAY_MS * DAY_MS
            if (tenant_id, service, day_ms) in self.alerted:
                continue
            self.alerted.add((tenant_id, service, day_ms))
            entity = Entity(type="service", value=service)
            at = from_ms(int(batch.time_ms[i]))
            belongs = _home(tenant_id.encode(), self.partitions)
            alerts.append(
                Alert(
                    alert_id=alert_id("placement", "wrong_partition", tenant_id, entity, day_ms),
                    revision=1,
                    status="open",
                    detector="placement",
                    classification="wrong_partition",
                    severity="medium",
                    tenant_id=tenant_id,
                    entity=entity,
                    first_time=at,
                    last_time=at,
                    event_count=1,
                    score=1.0,
                    threshold=1.0,
                    summary=f"{service} sends events of {tenant_id} to partition {batch.partition} instead "
                    f"of {belongs}; they are stored, but no detector sees them.",
                    evidence=Evidence(
                        numbers={"partition": batch.partition, "expected_partition": belongs},
                        event_ids=[batch.columns["event_id"][i]],
                    ),
                    runbook="Set the producer's partitioner to murmur2 of the key: the default of Java, "
                    "kafka-python and aiokafka; with librdkafka `partitioner=murmur2_random`.",
                    detected_at=at,
                )
            )
        return alerts
