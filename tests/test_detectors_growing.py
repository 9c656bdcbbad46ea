"""Columns that get longer: what is in them, and what becomes of the memory they leave."""

from typing import Any

import numpy as np
import pytest

from detectors.growing import OWN_PAGES_BYTES, grown, room


@pytest.mark.parametrize(
    ("dtype", "fill"), [(np.int64, -1), (np.int32, 0), (np.float64, 0.5), (np.bool_, True), (np.uint8, 0)]
)
@pytest.mark.parametrize("rows", [3, OWN_PAGES_BYTES])
def test_a_column_keeps_its_values_and_is_filled_behind_them(dtype: Any, fill: Any, rows: int) -> None:
    """Small or on pages of its own, of whatever type; it can be written and grown again."""
    column = room((rows, 2), 1, dtype)
    longer = grown(grown(column, rows + 1, fill), 3 * rows, fill)
    assert longer.dtype == dtype
    assert len(longer) == 3 * rows
    assert (longer[:rows] == 1).all()
    assert (longer[rows:] == np.array(fill, dtype)).all()
    longer[-1] = 1
    assert (column == 1).all()


def test_what_a_large_column_leaves_goes_back_at_once() -> None:
    """Also where columns that stay were made after it: the C heap would keep the room between them."""
    before = _resident_bytes()
    dropped, kept = [], []
    for _ in range(500):
        dropped.append(room(OWN_PAGES_BYTES, 1, np.uint8))
        kept.append(room(8_000, 1, np.uint8))
    filled = _resident_bytes()
    dropped.clear()
    held = 500 * OWN_PAGES_BYTES
    assert filled - before > held // 2
    assert filled - _resident_bytes() > held // 2


def _resident_bytes() -> int:
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * 4096
