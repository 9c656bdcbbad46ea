"""The columnar batch: taking rows out of it, and its dictionary-encoded columns."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from schema_examples import encode, event

from schemas.batch import FIELDS, Coded, EventBatch
from schemas.event import KINDS, MODELS
from schemas.parse import parse
from schemas.tenant import unknown_tenant


def batch() -> EventBatch:
    """Return four events of three tenants, in two messages."""
    names = ["b", "a", "b", "c"]
    made = [event(event_id=f"e-{i}", tenant_id=f"tenant-{name}") for i, name in enumerate(names)]
    made[1]["outcome"] = "failure"
    return parse("auth", [encode(made[:3]), encode(made[3])]).batch


def test_every_field_has_a_column() -> None:
    """A batch has a column for each field of its kind, but kind and time, which it holds in another form."""
    for kind in KINDS:
        assert {*FIELDS[kind], "kind", "time"} == set(MODELS[kind].model_fields)
        assert list(parse(kind, [encode(event(kind))]).batch.columns) == list(FIELDS[kind])


def test_rows_are_selected_in_the_order_asked_for() -> None:
    """Every column follows, and the original stays as it was."""
    original = batch()
    chosen = original.select(np.array([3, 0]))
    assert chosen.columns["event_id"] == ["e-3", "e-0"]
    assert chosen.offset.tolist() == [1, 0]
    assert chosen.message_index.tolist() == [0, 0]
    assert len(chosen) == 2
    assert original.columns["event_id"] == ["e-0", "e-1", "e-2", "e-3"]


def test_no_rows_can_be_selected() -> None:
    """An empty selection is an empty batch with all its columns."""
    empty = batch().select(np.array([], np.int64))
    assert len(empty) == 0
    assert set(empty.columns) == set(FIELDS["auth"])
    assert empty.tenant.values == []


def test_marks_follow_the_rows() -> None:
    """Whether an event is evaluated, and why not, stays with it."""
    original = batch()
    marked = EventBatch(
        original.kind,
        original.columns,
        original.time_ms,
        original.offset,
        original.message_index,
        evaluated=np.array([True, False, True, False]),
        flags=np.array([0, 1, 0, 4], np.uint8),
    )
    chosen = marked.select(np.array([1, 2]))
    assert chosen.mask().tolist() == [False, True]
    assert chosen.flags is not None
    assert chosen.flags.tolist() == [1, 0]


def test_without_marks_every_event_is_evaluated() -> None:
    """Before admission detectors may look at everything."""
    assert batch().mask().tolist() == [True] * 4


def test_codes_keep_their_tenant_after_enrichment() -> None:
    """Settings are found by code, so a selection keeps the codes though a tenant has no row left."""
    original = batch()
    tenants = tuple(unknown_tenant(name) for name in original.tenant.values)
    enriched = EventBatch(
        original.kind,
        original.columns,
        original.time_ms,
        original.offset,
        original.message_index,
        tenants=tenants,
    )
    chosen = enriched.select(np.array([3, 1]))
    assert [chosen.tenants[code].tenant_id for code in chosen.tenant.codes] == chosen.columns["tenant_id"]
    assert [chosen.tenant.values[code] for code in chosen.tenant.codes] == chosen.columns["tenant_id"]


def test_failures_are_known_by_their_outcome() -> None:
    """The mask of failed events follows the outcome."""
    assert batch().failed.tolist() == [False, True, False, False]


@given(st.lists(st.sampled_from("abcd")))
def test_encoding_loses_nothing(column: list[str]) -> None:
    """Codes and values together give the column back; values are distinct, first met first."""
    coded = Coded.encode(column)
    assert [coded.values[code] for code in coded.codes] == column
    assert coded.values == list(dict.fromkeys(column))
    assert_array_equal(coded.codes, np.array([coded.values.index(v) for v in column], np.int32))
