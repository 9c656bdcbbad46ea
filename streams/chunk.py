"""A chunk of records to rows, alerts and dead letters: pure functions over columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from time import perf_counter
from typing import Final

import numpy as np

from schemas.alert import Alert
from schemas.batch import FLAGS, Bools, EventBatch, Int64s
from schemas.event import MAX_EVENTS_PER_MESSAGE, MAX_MESSAGE_BYTES, Kind
from schemas.parse import Rejection, message_too_large, parse
from schemas.personal import scrubbed
from store.ownership import Claim
from store.vault import Subject
from streams.dead_letters import DeadLetter
from streams.directory import Directory
from streams.partition import PartitionState
from streams.pseudonyms import Pseudonymiser
from streams.records import Records

MAX_DETAIL: Final = 2_000


@dataclass(slots=True)
class Handled:
    """What became of a chunk.

    Parameters
    ----------
    batch
        Events, enriched and admitted, with real Kafka offsets.
    claim
        Under which they are stored.
    first_offset
        Where the chunk before ended: the interval that this one accounts for begins there.
    known
        ``(n,)`` which of the events are stored already; None: none is.
    alerts
        Revisions to publish.
    dead_letters
        Messages to set aside, but for those that the partition's last owner set aside.
    rejected
        How many events cannot be stored.
    unknown_fields
        How many fields the contract does not know.
    evaluated_by
        By detector, how many of the events it was handed.
    seconds
        Time spent by stage.
    unexcused
        Positions in the batch of failed logins to compare across tenants.
    subjects
        People to store before the events are.
    """

    records: Records
    batch: EventBatch
    claim: Claim
    first_offset: int
    known: Bools | None
    alerts: list[Alert]
    dead_letters: list[DeadLetter]
    rejected: int
    unknown_fields: int
    evaluated_by: Mapping[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    unexcused: Int64s = field(default_factory=lambda: np.zeros(0, np.int64))
    subjects: list[Subject] = field(default_factory=list)

    @property
    def skipped(self) -> int:
        """How many events are stored already."""
        return 0 if self.known is None else int(self.known.sum())

    @property
    def unstored(self) -> EventBatch:
        """The events to store."""
        return self.batch if self.known is None else self.batch.select(np.flatnonzero(~self.known))


@dataclass(frozen=True, slots=True)
class Read:
    """A chunk's events, validated and nothing more.

    Parameters
    ----------
    batch
        The good ones; ``offset`` holds the record's position in the chunk.
    rejections, unknown_fields
        As in `Parsed`.
    seconds
        Time spent.
    """

    batch: EventBatch
    rejections: list[Rejection]
    unknown_fields: int
    seconds: float


def read_chunk(kind: Kind, records: Records) -> Read:
    """Validate the events of a chunk; depends on nothing else, so a thread can do it."""
    started = perf_counter()
    headers = records.headers if any(records.headers) else ()
    if too_large := _too_large(records):
        parsed = replace(parse(kind, [None]), rejections=too_large)
    else:
        parsed = parse(kind, records.values, headers)
    batch, rejections = _check_keys(parsed.batch, records)
    unknown_fields = sum(parsed.unknown_fields.values())
    return Read(batch, parsed.rejections + rejections, unknown_fields, perf_counter() - started)


def _too_large(records: Records) -> list[Rejection]:
    """Reject a message beyond the contract's limit: Kafka's is of what is compressed, which may be anything.

    Such a message is a chunk of its own (`streams.records.chunks`).
    """
    size = len(records.values[0] or b"") if len(records) == 1 else 0
    if size <= MAX_MESSAGE_BYTES:
        return []
    return [message_too_large(0, size)]


def handle_chunk(
    records: Records,
    read: Read,
    state: PartitionState,
    directory: Directory,
    now_ms: int,
    pseudonymiser: Pseudonymiser | None = None,
) -> Handled:
    """Enrich and detect on one chunk.

    Parameters
    ----------
    read
        What `read_chunk` made of the records.
    state
        Of the records' partition; changed.
    now_ms
        When the chunk was received, milliseconds since 1970.
    pseudonymiser
        Replaces personal data; None, for benchmarks and tests: events stay as they are.
    """
    started = perf_counter()
    batch, rejections = read.batch, read.rejections
    batch, unknown = directory.enrich(batch, now_ms)
    if unknown:
        batch, more = _drop_unknown(batch, unknown)
        rejections = rejections + more
    subjects: list[Subject] = []
    if pseudonymiser is not None:
        batch, subjects = pseudonymiser.apply(batch, min(records.timestamps_ms))
    offsets = np.array(records.offsets, np.int64)
    in_record = batch.offset
    batch = replace(batch, topic=records.topic, partition=records.partition, offset=offsets[in_record])
    misplaced = state.placement.misplaced(records.keys, records.partition)
    alerts: list[Alert] = []
    if misplaced:
        flags = np.isin(in_record, misplaced).astype(np.uint8) * np.uint8(FLAGS["wrong_partition"])
        batch = replace(batch, flags=flags)
        alerts += state.placement.alerts(batch)
    batch, known = _recognise(batch, state)
    batch = state.admission.admit(batch)
    enriched_at = perf_counter()

    raised, evaluated_by = state.fold(batch)
    alerts += raised
    unexcused = state.unexcused(batch)
    letters = _dead_letters(rejections, records)
    first_offset, state.next_offset = state.next_offset, records.offsets[-1] + 1
    return Handled(
        records,
        batch,
        state.claim,
        first_offset,
        known,
        alerts,
        [letter for letter in letters if letter.offset not in state.set_aside],
        sum(max(len(letter.indexes), 1) for letter in letters),
        read.unknown_fields,
        evaluated_by,
        {
            "parse": read.seconds,
            "enrich": enriched_at - started,
            "detect": perf_counter() - enriched_at,
        },
        unexcused,
        subjects,
    )


def _recognise(batch: EventBatch, state: PartitionState) -> tuple[EventBatch, Bools | None]:
    """Give events that are stored already the flags that they have there, and say which they are."""
    if state.stored is None:
        return batch, None
    known, flags = state.stored.find(batch.offset, batch.message_index)
    if not known.any():
        return batch, None
    return replace(batch, flags=flags if batch.flags is None else batch.flags | flags), known


def _check_keys(batch: EventBatch, records: Records) -> tuple[EventBatch, list[Rejection]]:
    """Reject events whose message key is not their tenant: the key decided where they are."""
    code_of: dict[bytes | None, int] = {
        tenant_id.encode(): code for code, tenant_id in enumerate(batch.tenant.values)
    }
    keys = np.fromiter(map(code_of.get, records.keys, repeat(-1)), np.int32, len(records))
    wrong = np.flatnonzero(keys[batch.offset] != batch.tenant.codes).tolist()
    if not wrong:
        return batch, []
    tenants = batch.columns["tenant_id"]
    rejections = [
        Rejection(
            int(batch.offset[i]),
            "tenant_mismatch",
            f"tenant_id: {tenants[i]!r}, but the message key is {_key_text(records, batch, i)!r}; "
            "fix: set the message key to the event's tenant_id",
            (int(batch.message_index[i]),),
        )
        for i in wrong
    ]
    return batch.select(np.setdiff1d(np.arange(len(batch)), wrong)), rejections


def _key_text(records: Records, batch: EventBatch, row: int) -> str | None:
    key = records.keys[int(batch.offset[row])]
    return key.decode("utf-8", "replace") if key else None


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
            # It is kept longer than the message, and shown to more people.
            detail=scrubbed(" | ".join(dict.fromkeys(r.detail for r in found))[:MAX_DETAIL]),
            # Of a longer array nothing is stored, and the positions would be more than the message.
            indexes=tuple(sorted(i for r in found for i in r.indexes)[:MAX_EVENTS_PER_MESSAGE]),
            headers=records.headers[record],
        )
        for record, found in sorted(by_record.items())
    ]
