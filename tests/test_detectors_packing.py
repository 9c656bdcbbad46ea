"""Arrays and containers to bytes and back."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenarios.streams import START_MS

from detectors import packing
from detectors.packing import pack_array, pack_container, unpack_array, unpack_container

INTS = st.integers(-(2**62), 2**62) | st.integers(-300, 300) | st.sampled_from([0, START_MS])
ARRAYS = st.one_of(
    st.lists(INTS).map(lambda values: np.array(values, np.int64)),
    st.lists(st.tuples(INTS, INTS)).map(lambda values: np.array(values, np.int64).reshape(-1, 2)),
    st.lists(st.booleans()).map(lambda values: np.array(values, np.bool_)),
    st.lists(st.floats(width=64)).map(lambda values: np.array(values, np.float64)),
    st.lists(st.integers(-100, 100)).map(lambda values: np.array(values, np.int32)),
)


@given(ARRAYS, st.integers(0, 9))
def test_arrays_come_back_as_they_were(array: np.ndarray[Any, Any], spare: int) -> None:
    """Values, type, shape and room to spare."""
    whole = np.concatenate((array, array[-1:].repeat(spare, axis=0)))
    head, data = pack_array(whole)
    back = unpack_array(head, data, whole[:0])
    assert back.dtype == whole.dtype
    assert back.shape == whole.shape
    assert back.tobytes() == whole.tobytes()
    assert back.flags.writeable
    assert len(data) <= array.nbytes


@pytest.mark.parametrize(
    ("span", "item_bytes"), [(255, 1), (256, 2), (65_535, 2), (65_536, 4), (2**32 - 1, 4), (2**32, 8)]
)
def test_numbers_take_the_bytes_that_their_span_needs(span: int, item_bytes: int) -> None:
    """Wherever they begin."""
    array = np.array([START_MS, START_MS + span])
    head, data = pack_array(array)
    assert len(data) == 2 * item_bytes
    assert unpack_array(head, data, array).tolist() == array.tolist()


@pytest.mark.parametrize("other", [np.int32, np.uint8, np.float64, np.bool_])
def test_an_array_of_another_type_is_told(other: type[Any]) -> None:
    """Also where the numbers would fit."""
    head, data = pack_array(np.array([1, 2, 3], other))
    with pytest.raises(ValueError, match="is no array of int64"):
        unpack_array(head, data, np.zeros(0, np.int64))


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 2)])
def test_an_array_of_another_shape_is_told(shape: tuple[int, ...]) -> None:
    """Six numbers are no two rows of four."""
    head, data = pack_array(np.arange(6).reshape(2, 3))
    with pytest.raises(ValueError, match="rows are said to be there"):
        unpack_array(head, data, np.zeros((0, *shape), np.int64))


ROWS = st.tuples(st.text(max_size=4), st.none() | st.text(max_size=4), st.integers(0, START_MS))


@given(st.lists(ROWS), st.integers(1, 9))
def test_containers_come_back_as_they_were(rows: list[tuple[str, str | None, int]], chunk_rows: int) -> None:
    """However many rows fit a chunk."""
    row = tuple[str, str | None, int]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "CHUNK_ROWS", chunk_rows)
        for declared, value in (
            (list[row], rows),
            (set[row], set(rows)),
            (dict[row, list[row]], dict.fromkeys(rows, rows)),
        ):
            assert unpack_container(pack_container(value, declared), declared) == value
