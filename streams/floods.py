"""Floods of invalid events: which partitions are stopped, and what is said about it."""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from schemas.alert import Alert, Entity, Evidence, alert_id, from_ms
from streams import metrics
from streams.breaker import Breaker, Limits, Trip
from streams.chunk import Handled

DETECTOR: Final = "dead_letters"
CLASSIFICATION: Final = "invalid_flood"
# Whose alert it is where no tenant of the directory sent most of the flood.
PLATFORM_TENANT: Final = "_platform"
MAX_KEY_BYTES: Final = 64  # a longer one is no tenant's

TopicPartition = tuple[str, int]


class _Rejected(NamedTuple):
    key: bytes
    reason: str
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Flood:
    """A partition that is stopped.

    Parameters
    ----------
    next_offset
        The first message that was not handled.
    why
        In words.
    alert
        Its first revision.
    """

    topic: str
    partition: int
    next_offset: int
    why: str
    alert: Alert

    @property
    def problem(self) -> str:
        """What `/readyz` says of it."""
        return (
            f"dead letters: {self.topic} partition {self.partition} is stopped at offset {self.next_offset}: "
            f"{self.why}; mend the cause, then `tenantwatch dead-letters resume`"
        )

    def resolved(self) -> Alert:
        """Return the alert's last revision."""
        return self.alert.model_copy(update={"revision": 2, "status": "resolved"})


class Floods:
    """The breaker of each partition, and what opened those that are open.

    Parameters
    ----------
    limits
        Of each partition.
    is_tenant
        Whether the directory holds a tenant.
    """

    def __init__(self, limits: Limits, is_tenant: Callable[[str], bool]) -> None:
        self._limits = limits
        self._is_tenant = is_tenant
        self._breakers: dict[TopicPartition, Breaker] = {}
        self._recent: dict[TopicPartition, deque[_Rejected]] = {}
        self._stopped: dict[TopicPartition, Flood] = {}

    @property
    def stopped(self) -> list[Flood]:
        """Partitions of which nothing more is handled."""
        return list(self._stopped.values())

    def is_stopped(self, tp: TopicPartition) -> bool:
        """Return whether nothing more of a partition is handled."""
        return tp in self._stopped

    def judge(self, handled: Handled) -> Flood | None:
        """Take in a chunk; return the flood if it is the last one before the partition is stopped."""
        tp = (handled.records.topic, handled.records.partition)
        if tp not in self._breakers:
            self._breakers[tp] = Breaker(self._limits)
            # A flood's first message must still be here when it opens the breaker, by whichever rule.
            self._recent[tp] = deque(maxlen=max(self._limits.window, self._limits.max_run))
        positions, letters = _rejected(handled)
        trip = self._breakers[tp].count(len(handled.records), positions)
        if trip is None:
            self._recent[tp].extend(letters)
            return None
        self._recent[tp].extend(letters[: bisect_left(positions, trip.position) + 1])
        flood = self._stopped[tp] = self._flood(handled, trip)
        metrics.PARTITION_STOPPED.labels(*tp).set(1)
        return flood

    def resume(self, topic: str | None = None, partition: int | None = None) -> list[Flood]:
        """Let stopped partitions go on, their counts afresh; all, those of a topic, or one."""
        floods = [
            flood
            for flood in self.stopped
            if topic in (None, flood.topic) and partition in (None, flood.partition)
        ]
        for flood in floods:
            self._forget((flood.topic, flood.partition))
        return floods

    def clear(self) -> None:
        """Forget every partition: another worker may have them now, and begins afresh."""
        for tp in list(self._breakers):
            self._forget(tp)

    def _forget(self, tp: TopicPartition) -> None:
        del self._breakers[tp], self._recent[tp]
        if self._stopped.pop(tp, None):
            with suppress(KeyError):
                metrics.PARTITION_STOPPED.remove(*tp)

    def _flood(self, handled: Handled, trip: Trip) -> Flood:
        records = handled.records
        recent = list(self._recent[records.topic, records.partition])[-trip.rejected :]
        [(reason, _)] = Counter(rejected.reason for rejected in recent).most_common(1)
        [(key, count)] = Counter(rejected.key for rejected in recent).most_common(1)
        tenant_id = key.decode("utf-8", "replace")
        if 2 * count <= len(recent) or not self._is_tenant(tenant_id):
            tenant_id = PLATFORM_TENANT
        why = _why(trip, reason)
        alert = _alert(handled, trip, self._limits, tenant_id, reason, recent[0].timestamp_ms)
        return Flood(records.topic, records.partition, records.offsets[-1] + 1, why, alert)


def _rejected(handled: Handled) -> tuple[list[int], list[_Rejected]]:
    """Return the positions of the messages that count as rejected, and what is known of them.

    A message does of which more than half of the events were: one bad event among a hundred that are stored
    is no reason to stop.
    """
    if not handled.dead_letters:
        return [], []
    records = handled.records
    stored = dict(
        zip(*(c.tolist() for c in np.unique(handled.batch.offset, return_counts=True)), strict=True)
    )
    positions: list[int] = []
    rejected: list[_Rejected] = []
    for letter in handled.dead_letters:
        if max(len(letter.indexes), 1) <= stored.get(letter.offset, 0):
            continue
        position = bisect_left(records.offsets, letter.offset)
        positions.append(position)
        key = (letter.key or b"")[: MAX_KEY_BYTES + 1]
        rejected.append(_Rejected(key, letter.reason, records.timestamps_ms[position]))
    return positions, rejected


def _why(trip: Trip, reason: str) -> str:
    of = "messages in a row" if trip.rule == "run" else f"of the last {trip.of:,} messages"
    return f"{trip.rejected:,} {of} were rejected (most of them as {reason})"


def _alert(
    handled: Handled, trip: Trip, limits: Limits, tenant_id: str, reason: str, first_time_ms: int
) -> Alert:
    """Return the alert that a partition is stopped.

    Its times are those at which the messages came to Kafka: their own cannot be relied on.
    """
    records = handled.records
    where = f"{records.topic} partition {records.partition}"
    entity = Entity(type="topic_partition", value=f"{records.topic}:{records.partition}")
    last = from_ms(records.timestamps_ms[trip.position])
    of_run = trip.rule == "run"
    return Alert(
        alert_id=alert_id(DETECTOR, CLASSIFICATION, tenant_id, entity, first_time_ms),
        revision=1,
        status="open",
        detector=DETECTOR,
        classification=CLASSIFICATION,
        severity="high",
        tenant_id=tenant_id,
        entity=entity,
        first_time=from_ms(first_time_ms),
        last_time=last,
        event_count=trip.rejected,
        score=trip.rejected if of_run else trip.rejected / trip.of,
        threshold=limits.max_run if of_run else limits.max_ratio,
        summary=f"{where} is stopped: {_why(trip, reason)}; what follows waits in Kafka.",
        evidence=Evidence(
            numbers={
                "rejected": trip.rejected,
                "of": trip.of,
                "reason": reason,
                "offset": records.offsets[trip.position],
            }
        ),
        runbook=f"`tenantwatch dead-letters list --kind {handled.batch.kind} --reason {reason}` says what is "
        "wrong. Mend the producer, or add the tenants (`tenantwatch tenants apply FILE`). Then, beside the "
        "worker that has the partition, `tenantwatch dead-letters resume --topic "
        f"{records.topic} --partition {records.partition}` goes on, and `tenantwatch dead-letters redrive` "
        "sends what was rejected again. What waits is kept as long as Kafka keeps the topic.",
        detected_at=last,
    )
