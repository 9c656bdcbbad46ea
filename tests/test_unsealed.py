"""What waits to be sealed, as the worker counts it."""

import json
from dataclasses import replace

from schemas.batch import EventBatch
from schemas.parse import parse
from store.seals.sealing import Stretch
from streams.unsealed import Unsealed


def rows(count: int, ingest_ms: int) -> EventBatch:
    """Events of one tenant that a worker received at a moment."""
    event = {
        "kind": "auth", "tenant_id": "tenant-a", "time": "2026-01-01T00:00:00Z", "service": "login",
        "action": "login", "outcome": "success",
    }  # fmt: skip
    batch = parse("auth", [json.dumps(event | {"event_id": str(i)}).encode() for i in range(count)]).batch
    return replace(batch, topic="audit.auth", partition=0, ingest_time_ms=ingest_ms)


def up_to(end: int, first: int = 0) -> Stretch:
    return Stretch(0, {"topic-id": ("audit.auth", first, end)})


def weighed(unsealed: Unsealed, stretch: Stretch) -> tuple[int, int]:
    weight = unsealed.weight(stretch)
    return weight.rows, weight.oldest_ms


def test_what_is_committed_counts_until_it_is_sealed() -> None:
    """And what came after it still counts then."""
    unsealed = Unsealed()
    for first, at_ms in ((0, 100), (3, 200), (6, 300)):
        unsealed.add(rows(3, at_ms), first + 3)
    assert weighed(unsealed, up_to(6)) == (6, 100)
    unsealed.sealed(up_to(6))
    assert weighed(unsealed, up_to(9, 6)) == (3, 300)


def test_the_rest_of_what_was_sealed_in_part_is_not_forgotten() -> None:
    """Though the store could not be asked for it: nothing new need come for it to be sealed."""
    unsealed = Unsealed()
    unsealed.add(rows(3, 100), 3)
    unsealed.add(rows(3, 200), 6)
    unsealed.weight(up_to(6))
    unsealed.sealed(up_to(4))
    assert unsealed.weight(up_to(6, 4)).rows > 0
    unsealed.sealed(up_to(6, 4))
    assert weighed(unsealed, up_to(6, 6)) == (0, 0)
