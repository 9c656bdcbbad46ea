"""The Native format: what goes in as Arrow comes out of ClickHouse."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from store.database import Database
from store.native import FORMAT, encode_block

# Lengths around the places where their own encoding grows.
LONG = ["", "a", "ä" * 64, "x" * 127, "x" * 128, "x" * 16_383, "x" * 16_384, "\0", "🙂"]


def stored(database: Database, kind: str, array: Any) -> list[Any]:
    """Insert a column in a table of its own and return what the table holds, in order."""
    database.command("DROP TABLE IF EXISTS native_test")
    database.command(f"CREATE TABLE native_test (place Int64, value {kind}) ENGINE = Memory")
    block = encode_block({"place": pa.array(range(len(array)), pa.int64()), "value": array})
    database.insert("native_test", ["place", "value"], block, FORMAT)
    return [row["value"] for row in database.query("SELECT value FROM native_test ORDER BY place")]


@pytest.mark.parametrize("kind", ["String", "LowCardinality(String)"])
def test_texts_of_any_length_are_stored(database: Database, kind: str) -> None:
    """Also where the table codes what was sent plain, and the other way round."""
    array = pa.array([*LONG, None])
    expected = [*LONG, ""]
    assert stored(database, kind, array) == expected
    assert stored(database, kind, array.dictionary_encode()) == expected
    assert stored(database, kind, array.dictionary_encode("encode")) == expected


@pytest.mark.parametrize("count", [1, 255, 256, 257, 65_536, 65_537])
def test_dictionaries_of_any_size_are_stored(database: Database, count: int) -> None:
    """The positions' width follows the dictionary's size, the null's place included."""
    texts = [str(i) for i in range(count)]
    array = pa.array([*texts, None, "0"]).dictionary_encode()
    assert stored(database, "LowCardinality(String)", array) == [*texts, "", "0"]


def test_a_null_is_null_among_numbers(database: Database) -> None:
    """Where the column allows it; 0 is a number."""
    assert stored(database, "Nullable(Int64)", pa.array([0, None, -(2**63)])) == [0, None, -(2**63)]
    assert stored(database, "Nullable(UInt16)", pa.array([0, 65_535], pa.uint16())) == [0, 65_535]
    assert stored(database, "Nullable(Float64)", pa.array([None, 0.1, 1e12])) == [None, 0.1, 1e12]


def test_a_time_keeps_its_milliseconds(database: Database) -> None:
    """In UTC."""
    time = datetime(2026, 1, 31, 9, 30, 0, 123_000, tzinfo=UTC)
    array = pa.array([time], pa.timestamp("ms", "UTC"))
    assert stored(database, "DateTime64(3, 'UTC')", array) == [time]


# The database is the same for all examples, and holds nothing of the one before.
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]))), st.data())
def test_a_part_of_an_array_is_stored_as_what_it_is(
    database: Database, texts: list[str | None], data: st.DataObject
) -> None:
    """Arrow's arrays may begin anywhere in their memory."""
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    if start == stop:
        return
    array = pa.array(texts, pa.string()).slice(start, stop - start)
    expected = [text or "" for text in texts[start:stop]]
    assert stored(database, "String", array) == expected
    assert stored(database, "LowCardinality(String)", array.dictionary_encode()) == expected
    numbers = pa.array([None if text is None else len(text) for text in texts], pa.int64()).slice(
        start, stop - start
    )
    assert stored(database, "Nullable(Int64)", numbers) == numbers.to_pylist()
