"""A chunk of records to rows, alerts and dead letters: pure functions over columns."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any, Final

import numpy as np

from detectors.admission import Admission
from detectors.registry import Detector, new_detectors
from schemas.alert import Alert
from schemas.batch import FLAGS, EventBatch
from schemas.event import Kind
from schemas.parse import Rejection, parse
from streams.directory import Directory
from streams.placement import Placement
from streams.transport import Records

MAX_DETAIL: Final = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message of which at least one event cannot be stored: where it was, and why."""

    key: bytes | None
    value: bytes | None
    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    indexes: tuple[int, ...]


@dataclass(slots=True)
class Handled:
    """What became of a chunk.

    Parameters
    ----------
    batch
        Rows to store, enriched and admitted, with real Kafka offsets.
    alerts
        Revisions to publish.
    dead_letters
        Messages to set aside.
    unknown_fields
        How many fields the contract does not know.
    seconds
        Time spent by stage.
    """

    records: Records
    batch: EventBatch
    alerts: list[Alert]
    dead_letters: list[DeadLetter]
    unknown_fields: int
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def rejected(self) -> int:
        """How many events the dead letters stand for."""
        return sum(max(len(letter.indexes), 1) for letter in self.dead_letters)


class PartitionState:
    """What is remembered of one partition of one kind: admission and each detector's state."""

    def __init__(self, kind: Kind, partitions: int) -> None:
        self.admission = Admission()
        self.placement = Placement(partitions)
        self.detectors: tuple[tuple[Detector, Any], ...] = tuple(
            (detector, detector.new_state()) for detector in new_detectors()[kind]
        )

    def fold(self, batch: EventBatch) -> list[Alert]:
        """Let every detector see the batch."""
        return [alert for detector, state in self.detectors for alert in detector.fold(batch, state)]

    def advance(self, idle_ms: int) -> list[Alert]:
        """Let time pass for tenants that have been quiet for `idle_ms` of wall clock."""
        until = {tenant: at + idle_ms for tenant, at in self.admission.watermark_ms.items()}
        return [alert for detector, state in self.detectors for alert in detector.advance(state, until)]


def handle_chunk(
    kind: Kind, records: Records, state: PartitionState, directory: Directory, now_ms: int
) -> Handled:
    """Validate, enrich and detect on one chunk.

    Parameters
    ----------
    kind
        The kind that the records' topic carries.
    state
        Of the records' partition; changed.
    now_ms
        When the chunk was received, milliseconds since 1970.
    """
    started = perf_counter()
    headers = records.headers if any(records.headers) else ()
    parsed = parse(kind, records.values, headers)
    batch, rejections = _check_keys(parsed.batch, records)
    rejections = parsed.rejections + rejections
    parsed_at = perf_counter()

    batch, unknown = directory.enrich(batch, now_ms)
    if unknown:
        batch, more = _drop_unknown(batch, unknown)
        rejections += more
    offsets = np.array(records.offsets, np.int64)
    in_record = batch.offset
    batch = replace(batch, topic=records.topic, partition=records.partition, offset=offsets[in_record])
    misplaced = state.placement.misplaced(records.keys, records.partition)
    alerts: list[Alert] = []
    if misplaced:
        flags = np.isin(in_record, misplaced).astype(np.uint8) * np.uint8(FLAGS["wrong_partition"])
        batch = replace(batch, flags=flags)
        alerts += state.placement.alerts(batch)
    batch = state.admission.admit(batch)
    enriched_at = perf_counter()

    alerts += state.fold(batch)
    return Handled(
        records,
        batch,
        alerts,
        _dead_letters(rejections, records),
        sum(parsed.unknown_fields.values()),
        {
            "parse": parsed_at - started,
            "enrich": enriched_at - parsed_at,
            "detect": perf_counter() - enriched_at,
        },
    )


def _check_keys(batch: EventBatch, records: Records) -> tuple[EventBatch, list[Rejection]]:
    """Reject events whose message key is not their tenant: the key decided where they are."""
    texts = {key: key.decode("utf-8", "replace") if key else None for key in set(records.keys)}
    keys = [texts[key] for key in records.keys]
    expected = [keys[record] for record in batch.offset.tolist()]
    tenants = batch.columns["tenant_id"]
    if expected == tenants:
        return batch, []
    wrong = [i for i, (key, tenant) in enumerate(zip(expected, tenants, strict=True)) if key != tenant]
    rejections = [
        Rejection(
            int(batch.offset[i]),
            "tenant_mismatch",
            f"tenant_id: {tenants[i]!r}, but the message key is {expected[i]!r}; "
            "fix: set the message key to the event's tenant_id",
            (int(batch.message_index[i]),),
        )
        for i in wrong
    ]
    return batch.select(np.setdiff1d(np.arange(len(batch)), wrong)), rejections


def _drop_unknown(batch: EventBatch, unknown: set[int]) -> tuple[EventBatch, list[Rejection]]:
    gone = np.isin(batch.tenant.codes, list(unknown))
    rejections = [
        Rejection(
            int(batch.offset[i]),
            "unknown_tenant",
            f"tenant_id: {batch.columns['tenant_id'][i]!r} is not in the tenant directory; "
            "fix: add it with `tenantwatch tenants apply FILE`",
            (int(batch.message_index[i]),),
        )
        for i in np.flatnonzero(gone).tolist()
    ]
    return batch.select(np.flatnonzero(~gone)), rejections


def _dead_letters(rejections: Sequence[Rejection], records: Records) -> list[DeadLetter]:
    """Return one dead letter for each message, whatever the number of its bad events."""
    by_record: dict[int, list[Rejection]] = {}
    for rejection in rejections:
        by_record.setdefault(rejection.record, []).append(rejection)
    return [
        DeadLetter(
            records.keys[record],
            records.values[record],
            records.topic,
            records.partition,
            records.offsets[record],
            reason=found[0].reason,
            detail=" | ".join(dict.fromkeys(r.detail for r in found))[:MAX_DETAIL],
            indexes=tuple(sorted(i for r in found for i in r.indexes)),
        )
        for record, found in sorted(by_record.items())
    ]
