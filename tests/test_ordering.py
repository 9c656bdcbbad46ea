"""Events of files in order of time."""

from collections.abc import Iterator

import numpy as np
from scenarios.streams import START_MS, batch_of

from detectors.clock import LATE_MS
from schemas.batch import EventBatch
from tenantwatch.ordering import in_order

HOUR_MS = 3_600_000


def read(events: list[tuple[str, int]], size: int = 10) -> Iterator[EventBatch]:
    """Yield logins, by tenant and time, as they are read from a file."""
    rows = [
        {"event_id": f"e{i}", "tenant_id": tenant_id, "time_ms": START_MS + time_ms}
        for i, (tenant_id, time_ms) in enumerate(events)
    ]
    for at in range(0, len(rows), size):
        yield batch_of("auth", rows[at : at + size])


def ids(batches: Iterator[EventBatch]) -> list[int]:
    return [int(event_id[1:]) for batch in batches for event_id in batch.columns["event_id"]]


def test_a_file_that_begins_with_the_newest_is_turned_round() -> None:
    """Whatever it was read in."""
    events = [("tenant-a", -i * HOUR_MS) for i in range(95)]
    assert ids(in_order(read(events))) == list(range(95))[::-1]


def test_a_tenant_without_late_events_keeps_the_order_of_the_file() -> None:
    """The worker would have judged them in the order in which they came; others' disorder is no reason."""
    calm = [("tenant-a", i * 1_000 - (i % 3 == 0) * LATE_MS // 4) for i in range(30)]
    others = [("tenant-b", -i * HOUR_MS) for i in range(30)]
    mixed = [event for pair in zip(calm, others, strict=True) for event in pair]
    order = ids(in_order(read(mixed)))
    assert [i for i in order if i % 2 == 0] == list(range(0, 60, 2))
    assert [i for i in order if i % 2] == list(range(1, 60, 2))[::-1]
    assert ids(in_order(read(calm))) == list(range(30))


def test_a_short_file_that_begins_with_the_newest_is_turned_round() -> None:
    """None of its events would be late; and of those of one time the last in the file came first."""
    events = [("tenant-a", -(i // 2) * 1_000) for i in range(40)]
    assert ids(in_order(read(events))) == list(range(40))[::-1]


def test_what_was_turned_round_is_not_turned_again() -> None:
    """A file that is longer than what is held is sorted more than once."""
    newest_first = [("tenant-a", -(i // 2) * 1_000) for i in range(40)]
    others = [("tenant-b", time_ms) for _, time_ms in newest_first]
    order = ids(in_order(read(newest_first + others), most=60))
    assert [i for i in order if i < 40] == list(range(40))[::-1]


def test_tenants_that_stand_one_after_another_are_put_side_by_side() -> None:
    """What an address does to several of them at once is seen only so; each keeps its order of the file."""
    shaken = [(i * 1_000 - (i % 3 == 0) * 5_000) for i in range(2_000)]
    events = [(tenant_id, time_ms) for tenant_id in ("tenant-a", "tenant-b") for time_ms in shaken]
    order = ids(in_order(read(events, size=1_000)))
    assert [i for i in order if i < 2_000] == list(range(2_000))
    assert [i - 2_000 for i in order if i >= 2_000] == list(range(2_000))
    assert max(abs(order.index(i) - order.index(i + 2_000)) for i in range(0, 2_000, 100)) < 20


def test_no_more_is_held_than_is_allowed() -> None:
    """A longer file is sorted within what is held, and none of its events is lost."""
    rng = np.random.default_rng(3)
    shuffled = [("tenant-a", int(i + rng.integers(0, 15)) * HOUR_MS) for i in range(500)]
    taken = 0

    def counted() -> Iterator[EventBatch]:
        nonlocal taken
        for batch in read(shuffled):
            taken += len(batch)
            yield batch

    handed_on, times = 0, list[int]()
    for batch in in_order(counted(), most=60):
        assert taken - handed_on <= 70
        handed_on += len(batch)
        times += batch.time_ms.tolist()
    assert len(times) == 500
    assert times == sorted(times)
