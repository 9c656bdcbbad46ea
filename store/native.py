"""ClickHouse's Native format from Arrow columns: a block as the engine itself holds it.

Inserting it takes the engine a third less than inserting an Arrow stream. Layout: the numbers of columns and
of rows; then each column with its name, its type and its values. Lengths are LEB128. All work on values is
done by Arrow, without the interpreter's lock.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from store.row_binary import length_bytes, text_bytes

Piece = bytes | Any  # anything with a buffer
FORMAT: Final = "Native"
_NUMBERS: Final[dict[Any, str]] = {
    pa.uint8(): "UInt8",
    pa.uint16(): "UInt16",
    pa.int32(): "Int32",
    pa.int64(): "Int64",
    pa.float64(): "Float64",
    pa.timestamp("ms", "UTC"): "DateTime64(3, 'UTC')",
}
# Of LowCardinality: the version of the layout, and a flag that says that the dictionary comes with the block.
_SHARED_DICTIONARIES: Final = np.uint64(1).tobytes()
_OWN_DICTIONARY: Final = 1 << 9
# Width of the positions, by what they can count.
_WIDTHS: Final = ((1 << 8, 0, pa.uint8()), (1 << 16, 1, pa.uint16()), (1 << 32, 2, pa.uint32()))


def encode_block(columns: Mapping[str, Any]) -> bytes:
    """Return a block.

    Parameters
    ----------
    columns
        Name to Arrow array, each ``(n,)``: texts or bytes, in which null becomes ``''``; texts as a
        dictionary, which become LowCardinality(String); numbers, Nullable where any is null; times in
        milliseconds.

    >>> encode_block({"n": pa.array([1], pa.uint8()), "text": pa.array(["a"])})
    b'\\x02\\x01\\x01n\\x05UInt8\\x01\\x04text\\x06String\\x01a'
    """
    rows = len(next(iter(columns.values())))
    pieces: list[Piece] = [length_bytes(len(columns)), length_bytes(rows)]
    for name, array in columns.items():
        kind, values = _column(array)
        pieces += [text_bytes(name), text_bytes(kind), *values]
    return b"".join(pieces)


def _column(array: Any) -> tuple[str, list[Piece]]:
    if pa.types.is_dictionary(array.type):
        return "LowCardinality(String)", _coded(array)
    if pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        return "String", [_texts(array)]
    kind = _NUMBERS[array.type]
    if not array.null_count:
        return kind, [_numbers(array)]
    return f"Nullable({kind})", [_numbers(array.is_null().cast(pa.uint8())), _numbers(array.fill_null(0))]


def _numbers(array: Any) -> Piece:
    width = array.type.bit_width // 8
    return array.buffers()[1].slice(array.offset * width, len(array) * width)


def _coded(array: Any) -> list[Piece]:
    distinct = [text or "" for text in array.dictionary.to_pylist()]
    codes = array.indices
    if codes.null_count:
        codes = codes.fill_null(len(distinct))
        distinct.append("")
    width, kind = next((number, kind) for most, number, kind in _WIDTHS if len(distinct) <= most)
    return [
        _SHARED_DICTIONARIES,
        np.array([width | _OWN_DICTIONARY, len(distinct)], np.uint64).tobytes(),
        *map(text_bytes, distinct),
        np.uint64(len(codes)).tobytes(),
        _numbers(codes.cast(kind)),
    ]


def _texts(array: Any) -> Piece:
    """Return the texts, each with its length before it."""
    if array.null_count:
        array = array.fill_null("")
    array = array.cast(pa.binary())
    lengths = pc.dictionary_encode(pc.binary_length(array))
    before = pa.array(map(length_bytes, lengths.dictionary.to_pylist()), pa.binary()).take(lengths.indices)
    joined = pc.binary_join_element_wise(before, array, b"")
    ends = np.frombuffer(joined.buffers()[1], np.int32)
    first, last = int(ends[joined.offset]), int(ends[joined.offset + len(joined)])
    return joined.buffers()[2].slice(first, last - first)
