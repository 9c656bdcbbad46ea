"""The account of handled chunks: what the store keeps beside their events, and what metrics count."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from schemas.batch import FLAGS
from schemas.personal import scrubbed
from streams import metrics
from streams.chunk import Handled

# What adds up over the chunks of one partition.
_COUNTED: Final = ("records", "stored", "rejected", "skipped", "evaluated", "alerts", "unknown_fields")


def dead_letter_rows(handled: Handled) -> list[dict[str, Any]]:
    """Return what the store keeps of a chunk's dead letters: where and why, not the bytes."""
    now = datetime.now(UTC)
    return [
        {
            "tenant_id": scrubbed((letter.key or b"").decode("utf-8", "replace")[:256]),
            "kind": handled.batch.kind,
            "reason": letter.reason,
            "detail": letter.detail,
            "rejected_indexes": list(letter.indexes),
            "value_bytes": len(letter.value or b""),
            "rejected_at": now,
            "kafka_topic": letter.topic,
            "kafka_partition": letter.partition,
            "kafka_offset": letter.offset,
        }
        for letter in handled.dead_letters
    ]


def ledger_rows(chunks: Sequence[Handled], worker_id: str) -> list[dict[str, Any]]:
    """Return the account of handled chunks: one row for each partition, of consecutive chunks."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for handled in chunks:
        records = handled.records
        row = rows.setdefault(
            (records.topic, records.partition),
            {
                "kafka_topic": records.topic,
                "kafka_partition": records.partition,
                "first_offset": handled.first_offset,
                **dict.fromkeys(_COUNTED, 0),
                "evaluated_by": {},
                "worker_id": worker_id,
                "term": handled.claim.term,
                "handled_at": datetime.now(UTC),
            },
        )
        row["last_offset"] = records.offsets[-1]
        counts = (
            len(records),
            len(handled.batch) - handled.skipped,
            handled.rejected,
            handled.skipped,
            int(handled.batch.mask().sum()),
            len(handled.alerts),
            handled.unknown_fields,
        )
        for name, count in zip(_COUNTED, counts, strict=True):
            row[name] += count
        for detector, count in handled.evaluated_by.items():
            row["evaluated_by"][detector] = row["evaluated_by"].get(detector, 0) + count
    return list(rows.values())


def count(handled: Handled) -> None:
    """Count what became of a chunk's events in the worker's metrics."""
    kind = handled.batch.kind
    for letter in handled.dead_letters:
        metrics.DEAD_LETTERS.labels(kind, letter.reason).inc()
    if handled.skipped:
        metrics.EVENTS_SKIPPED.labels(kind).inc(handled.skipped)
    if handled.unknown_fields:
        metrics.UNKNOWN_FIELDS.labels(kind).inc(handled.unknown_fields)
    flags = handled.batch.flags
    if flags is not None and flags.any():
        for name, bit in FLAGS.items():
            metrics.EVENTS_FLAGGED.labels(kind, name).inc(int((flags & bit > 0).sum()))
