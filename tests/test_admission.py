"""Which events detectors may look at."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scenarios.streams import START_MS, batch_of

from detectors import known_ids
from detectors.admission import Admission
from schemas.batch import FLAGS, EventBatch
from schemas.tenant import PlannedTest, unknown_tenant
from tests.sizes import examples

MINUTE_MS = 60_000
LATE, FUTURE, DUPLICATE, WRONG_PARTITION, PLANNED_TEST = FLAGS.values()


def events(*minutes: float, tenant_id: str = "tenant-a", first_id: int = 0) -> list[dict[str, Any]]:
    """Return events at minutes after the start, each with an id of its own."""
    return [
        {
            "time_ms": START_MS + int(minute * MINUTE_MS),
            "tenant_id": tenant_id,
            "event_id": f"{tenant_id}-{first_id + i}",
            "action": "login",
        }
        for i, minute in enumerate(minutes)
    ]


def batch(listed: list[dict[str, Any]], ingest_minute: float | None = None) -> EventBatch:
    """Return a batch received at a minute after the start, or by no clock at all."""
    received = None if ingest_minute is None else START_MS + int(ingest_minute * MINUTE_MS)
    return replace(batch_of("auth", listed), ingest_time_ms=received)


def flags(admitted: EventBatch) -> list[int]:
    """Return the flags, having checked that exactly the rows without any are evaluated."""
    assert admitted.flags is not None
    assert admitted.evaluated is not None
    assert admitted.evaluated.tolist() == (admitted.flags == 0).tolist()
    return admitted.flags.tolist()


def test_what_is_more_than_15_minutes_behind_its_tenant_is_late() -> None:
    """The limit itself still counts; what is late does not move the watermark back."""
    admitted = Admission().admit(batch(events(20, 5, 4.9, 19)))
    assert flags(admitted) == [0, 0, LATE, 0]


def test_lateness_is_judged_by_what_came_before() -> None:
    """An event is not late because a newer one follows it in the same batch."""
    assert flags(Admission().admit(batch(events(0, 60, 30)))) == [0, 0, LATE]


def test_tenants_have_watermarks_of_their_own() -> None:
    """One tenant's live traffic does not make another's old log late."""
    mixed = events(600) + events(0, 1, tenant_id="tenant-b") + events(590, first_id=5)
    judge = Admission()
    assert flags(judge.admit(batch(mixed))) == [0, 0, 0, 0]
    assert judge.watermark_ms == {"tenant-a": START_MS + 600 * MINUTE_MS, "tenant-b": START_MS + MINUTE_MS}


def test_the_future_is_flagged_and_moves_no_watermark() -> None:
    """A clock that runs ahead must not make its tenant's honest events late."""
    judge = Admission()
    assert flags(judge.admit(batch(events(0, 5, 5.1, 600), ingest_minute=0))) == [0, 0, FUTURE, FUTURE]
    assert flags(judge.admit(batch(events(1, first_id=9), ingest_minute=1))) == [0]


def test_without_a_clock_nothing_is_in_the_future() -> None:
    """A backtest takes event times as they are."""
    assert flags(Admission().admit(batch(events(0, 600)))) == [0, 0]


def test_a_repeated_id_of_a_tenant_is_a_duplicate() -> None:
    """In the same batch or a later one; another tenant may use the same id."""
    judge = Admission()
    first = events(0, 1)
    other = [{**event, "tenant_id": "tenant-b"} for event in first]
    assert flags(judge.admit(batch([*first, first[0], *other]))) == [0, 0, DUPLICATE, 0, 0]
    assert flags(judge.admit(batch(first))) == [DUPLICATE, DUPLICATE]


def test_flags_of_the_caller_are_kept() -> None:
    """What came to the wrong partition stays flagged, is not evaluated and moves no watermark."""
    marked = replace(batch(events(60, 0)), flags=np.array([WRONG_PARTITION, 0], np.uint8))
    judge = Admission()
    assert flags(judge.admit(marked)) == [WRONG_PARTITION, 0]
    assert judge.watermark_ms == {"tenant-a": START_MS}
    assert marked.flags is not None
    assert marked.flags.tolist() == [WRONG_PARTITION, 0]


def test_an_empty_batch_is_admitted() -> None:
    """Nothing in, nothing flagged."""
    assert flags(Admission().admit(batch([]))) == []


def test_ids_are_forgotten_after_two_generations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded: at least one generation of ids is known, at most two are kept."""
    monkeypatch.setattr(known_ids, "GENERATION", 4)
    judge = Admission()
    judge.admit(batch(events(*[0] * 8)))
    assert len(judge.known_ids.latest) + len(judge.known_ids.earlier) <= 8
    assert flags(judge.admit(batch(events(*[0] * 4, first_id=4)))) == [DUPLICATE] * 4
    assert flags(judge.admit(batch(events(0)))) == [0]


@given(
    ids=st.lists(st.text(max_size=3) | st.sampled_from(["a", "a\0", "ä", "日本", "x" * 64]), max_size=60),
    size=st.integers(1, 20),
    generation=st.sampled_from([1, 3, 16_384]),
)
def test_repeats_are_those_that_two_generations_of_texts_tell(
    ids: list[str], size: int, generation: int
) -> None:
    """Numbers stand for the ids, and nothing else changes: the same are flagged as with sets of texts."""
    expected, latest, earlier = [], set[str](), set[str]()
    for known_as in ids:
        repeated = known_as in latest or known_as in earlier
        expected.append(DUPLICATE if repeated else 0)
        if not repeated:
            latest.add(known_as)
        if len(latest) == generation:
            earlier, latest = latest, set()
    listed = [
        {**event, "event_id": known_as} for event, known_as in zip(events(*[0] * 60), ids, strict=False)
    ]
    judge, found = Admission(), list[int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_ids, "GENERATION", generation)
        for start in range(0, len(listed), size):
            found += flags(judge.admit(batch(listed[start : start + size])))
    assert found == expected


@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 120), max_size=10),
    generation=st.sampled_from([3, 20, 16_384]),
)
@examples(20, thorough=80)
def test_admission_does_not_depend_on_batches(seed: int, cuts: list[int], generation: int) -> None:
    """Each event gets the same flags however the stream is cut, generations of ids included."""
    rng = np.random.default_rng(seed)
    stream = [
        {
            "time_ms": START_MS + i * MINUTE_MS - int(rng.choice([0, 0, 10, 16, 40])) * MINUTE_MS,
            "tenant_id": f"tenant-{rng.integers(0, 3)}",
            "event_id": str(rng.integers(0, 10)),
            "action": "login",
        }
        for i in range(120)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(known_ids, "GENERATION", generation)
        whole, judge, parts = flags(Admission().admit(batch(stream))), Admission(), []
        bounds = [0, *sorted(cuts), len(stream)]
        for start, stop in pairwise(bounds):
            parts.extend(flags(judge.admit(batch(stream[start:stop]))))
    assert parts == whole
    assert 0 in whole
    assert any(bits & LATE for bits in whole)
    assert any(bits & DUPLICATE for bits in whole)


def test_a_planned_test_is_not_judged() -> None:
    """Only from its own networks, and only while it lasts: the testers' next minute counts again."""
    planned = {
        "start": "2026-01-05T09:00:00Z",
        "end": "2026-01-05T17:00:00Z",
        "source_networks": ["203.0.113.0/28", "2001:db8::/64"],
    }
    tenant = unknown_tenant("tenant-a").model_copy(
        update={"planned_tests": [PlannedTest.model_validate(planned)]}
    )
    addresses = ("203.0.113.9", "203.0.113.16", "2001:db8::7", None, "203.0.113.9")
    start_ms = int(datetime(2026, 1, 5, 9, tzinfo=UTC).timestamp() * 1000)
    listed = [
        {**event, "source_ip": address, "time_ms": start_ms + (i == 4) * 8 * 60 * MINUTE_MS}
        for i, (event, address) in enumerate(zip(events(*range(5)), addresses, strict=True))
    ]
    admitted = Admission().admit(replace(batch(listed), tenants=(tenant,)))
    assert flags(admitted) == [PLANNED_TEST, 0, PLANNED_TEST, 0, 0]


@pytest.mark.parametrize(
    ("network", "judged"),
    [
        ("::ffff:203.0.113.0/124", ["203.0.113.16"]),
        ("::ffff:203.0.113.9", ["203.0.113.16"]),
        ("::ffff:cb00:7100/120", []),
        ("::cb00:7100/120", ["203.0.113.9", "203.0.113.16"]),
        # Stored before it was understood, when it silenced nobody either.
        ("::ffff:0:0/96", ["203.0.113.9", "203.0.113.16"]),
    ],
)
def test_a_network_of_ipv4_written_as_ipv6_is_that_of_ipv4(network: str, judged: list[str]) -> None:
    """As addresses of events are, whichever way a producer writes them."""
    planned = PlannedTest.model_validate(
        {
            "start": "2026-01-05T09:00:00Z",
            "end": "2026-01-05T17:00:00Z",
            "source_networks": [network],
        }
    )
    tenant = unknown_tenant("tenant-a").model_copy(update={"planned_tests": [planned]})
    start_ms = int(datetime(2026, 1, 5, 9, tzinfo=UTC).timestamp() * 1000)
    addresses = ["203.0.113.9", "203.0.113.16"]
    listed = [
        {**event, "source_ip": address, "time_ms": start_ms}
        for event, address in zip(events(0, 1), addresses, strict=True)
    ]
    bits = flags(Admission().admit(replace(batch(listed), tenants=(tenant,))))
    assert [address for address, bit in zip(addresses, bits, strict=True) if bit != PLANNED_TEST] == judged


@pytest.mark.parametrize(
    "fault",
    [
        {"source_networks": ["0.0.0.0/0"]},
        {"source_networks": ["tester"]},
        {"source_networks": []},
        {"end": "2026-01-05T09:00:00Z"},
    ],
)
def test_a_test_that_would_silence_too_much_is_refused(fault: dict[str, Any]) -> None:
    """Everybody's addresses, nobody's, and a test that ends before it begins."""
    good = {
        "start": "2026-01-05T09:00:00Z",
        "end": "2026-01-05T17:00:00Z",
        "source_networks": ["203.0.113.0/28"],
    }
    assert PlannedTest.model_validate(good)
    with pytest.raises(ValidationError):
        PlannedTest.model_validate({**good, **fault})
