"""The hash table and the numbering of keys, against a dict."""

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors import keys
from detectors.columns import Hashed
from detectors.keys import Keys
from detectors.numbers import NumberTable
from detectors.texts import Texts

NUMBERS = st.lists(st.integers(0, 2**63 - 1) | st.integers(0, 60), max_size=80)


@given(st.lists(NUMBERS, max_size=6), NUMBERS)
def test_numbers_are_found_as_in_a_dict(batches: list[list[int]], asked: list[int]) -> None:
    """Every number keeps the place it was given, and no other number has one."""
    table, expected = NumberTable(), dict[int, int]()
    for batch in batches:
        new = [number for number in dict.fromkeys(batch) if number not in expected]
        expected.update(zip(new, table.add(np.array(new, np.int64)).tolist(), strict=True))
    found = table.find(np.array(asked, np.int64)).tolist()
    assert found == [expected.get(number, -1) for number in asked]
    assert sorted(expected.values()) == list(range(len(table)))


@given(st.lists(NUMBERS, max_size=6), st.randoms())
def test_new_numbers_get_places_as_they_come(batches: list[list[int]], draw: Random) -> None:
    """In a batch with repeats as well; what is kept of them moves up and is found there."""
    table, expected = NumberTable(), dict[int, int]()
    for batch in batches:
        places, new = table.intern(np.array(batch, np.int64))
        firsts = [i for i, number in enumerate(batch) if number not in expected and number not in batch[:i]]
        expected.update({batch[i]: place for place, i in enumerate(firsts, len(expected))})
        assert places.tolist() == [expected[number] for number in batch]
        assert new.tolist() == firsts
    kept = [number for number in expected if draw.random() < 0.5]
    table.keep(np.array([number in kept for number in expected], np.bool_))
    assert table.find(np.array([*expected], np.int64)).tolist() == [
        kept.index(number) if number in kept else -1 for number in expected
    ]


@given(st.lists(st.lists(st.none() | st.text(max_size=5), max_size=9), max_size=5), st.randoms())
def test_texts_are_given_back_as_they_were(batches: list[list[str | None]], draw: Random) -> None:
    """Whatever they are written in, empty ones and None too, also after some were forgotten."""
    texts, expected = Texts(), list[str | None]()
    for batch in batches:
        texts.extend(batch)
        expected += batch
        kept = [draw.random() < 0.7 for _ in expected]
        texts.keep(np.array(kept, np.bool_))
        expected = [text for text, keep in zip(expected, kept, strict=True) if keep]
        assert texts.to_list() == [texts[i] for i in range(len(texts))] == expected


def test_a_table_grows_without_losing_anything() -> None:
    """A hundred thousand numbers added in parts are all found."""
    table = NumberTable()
    numbers = np.random.default_rng(1).permutation(100_000) * 977
    for part in np.array_split(numbers, 37):
        table.add(part)
    assert table.find(numbers).tolist() == list(range(100_000))
    assert set(table.find(numbers + 1).tolist()) == {-1}


def test_keys_keep_their_numbers_until_some_are_forgotten() -> None:
    """Keys are numbered as they come; a sweep numbers those that stay anew, in the same order."""
    known: Keys[tuple[str, str, str]] = Keys()
    names = Hashed(["ana", "ben", "ana", "cleo"])
    rows = np.arange(4)
    assert known.intern(["tenant-a", "user_id", names], rows).tolist() == [0, 1, 0, 2]
    assert known.intern([Hashed(["tenant-b"] * 4), "user_id", names], rows[:1]).tolist() == [3]
    known.keep(np.array([False, True, False, True]))
    assert [known[0], known[1]] == [("tenant-a", "user_id", "ben"), ("tenant-b", "user_id", "ana")]
    assert len(known) == 2
    assert known.find(["tenant-a", "user_id", names], rows).tolist() == [-1, 0, -1, -1]
    assert known.slot_of(("tenant-b", "user_id", "ana")) == 1


def test_parts_of_a_key_are_told_apart_by_place() -> None:
    """(a, b) and (b, a) are two keys, and None is a value like another."""
    known: Keys[tuple[str | None, ...]] = Keys(words=0, texts=2)
    first, second = Hashed(["a", "b", "a", None]), Hashed(["b", "a", None, "a"])
    assert known.intern([first, second], np.arange(4)).tolist() == [0, 1, 2, 3]


def test_a_sweep_is_due_when_keys_have_doubled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeping costs a look at every key, so it waits until there are twice as many."""
    monkeypatch.setattr(keys, "SWEEP_MIN_KEYS", 4)
    known: Keys[tuple[str, ...]] = Keys(words=0, texts=1)
    known.intern([Hashed(["a", "b", "c"])], np.arange(3))
    assert not known.crowded
    known.intern([Hashed(["d"])], np.arange(1))
    assert known.crowded
    known.keep(np.ones(4, np.bool_))
    assert not known.crowded
