"""Columns that Arrow holds: read, checked, cut and stored without a Python object for each value."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Int64s = NDArray[np.int64]
Int32s = NDArray[np.int32]
Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

_NUMPY: Final[dict[Any, Any]] = {pa.int64(): np.int64, pa.float64(): np.float64, pa.int32(): np.int32}


class ArrowColumn(Sequence[Any]):
    """A column ``(n,)`` of texts or numbers, some of them perhaps None.

    It can be used like a list. Its Python values are made when they are first asked for, all at once; what
    asks for `codes`, for a few rows, or only whether there are values never makes them.

    Parameters
    ----------
    array
        Of texts (UTF-8 that was checked), 64-bit integers or floats.

    >>> column = ArrowColumn(text_array(["b", None, "b"]))
    >>> column[0], list(column), column == ["b", None, "b"], None in column
    ('b', ['b', None, 'b'], True, True)
    >>> column.codes, column.distinct
    (array([0, 1, 0], dtype=int32), ['b', None])
    """

    def __init__(self, array: Any) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __repr__(self) -> str:
        return f"ArrowColumn({self.values!r})"

    @classmethod
    def of(cls, texts: list[str | None]) -> "ArrowColumn":
        """Return a column of texts that are there as Python values already."""
        column = cls(text_array(texts))
        column.__dict__["values"] = texts
        return column

    @classmethod
    def of_codes(cls, codes: Int32s, distinct: list[str | None]) -> "ArrowColumn":
        """Return a column of few texts that many rows have: `codes` and `distinct` of it.

        >>> list(ArrowColumn.of_codes(np.array([0, 1, 0], np.int32), ["b", None]))
        ['b', None, 'b']
        """
        indices, dictionary = pa.array(codes), text_array(distinct)
        column = cls(dictionary.take(indices))
        column.__dict__["_coded"] = pa.DictionaryArray.from_arrays(indices, dictionary)
        column.__dict__["distinct"] = distinct
        return column

    @property
    def made(self) -> bool:
        """Whether the Python values exist already."""
        return "values" in self.__dict__

    @property
    def coded(self) -> bool:
        """Whether the codes exist already."""
        return "_coded" in self.__dict__

    @cached_property
    def values(self) -> list[Any]:
        """``(n,)`` the column as Python values."""
        values: list[Any] = self.array.to_pylist()
        return values

    def __getitem__(self, place: Any) -> Any:
        if self.made:
            return self.values[place]
        # A few rows are wanted in mostly all batches that give rise to an alert, hardly ever all.
        found = self.array[place]
        return found.to_pylist() if isinstance(place, slice) else found.as_py()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __contains__(self, value: object) -> bool:
        return self.array.null_count > 0 if value is None else value in self.distinct

    def count(self, value: Any) -> int:
        """Return how many values equal the given one."""
        return int(self.array.null_count) if value is None else self.values.count(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and self.values == list(other)

    __hash__ = None  # type: ignore[assignment]  # as of lists

    @cached_property
    def _coded(self) -> Any:
        return pc.dictionary_encode(self.array, null_encoding="encode")

    @property
    def codes(self) -> Int32s:
        """``(n,)`` positions in `distinct`."""
        return numbers_of(self._coded.indices)

    @cached_property
    def distinct(self) -> list[Any]:
        """The distinct values, in order of first appearance; None is one of them."""
        values: list[Any] = self._coded.dictionary.to_pylist()
        return values

    def equals(self, value: str) -> Bools:
        """Return ``(n,)`` where the column has the value."""
        if value not in self.distinct:
            return np.zeros(len(self), np.bool_)
        found: Bools = self.codes == self.distinct.index(value)
        return found

    @property
    def blank(self) -> bool:
        """Whether no row has any number, or any text but the empty one."""
        n, start = len(self), self.array.offset
        if self.array.null_count == n:
            return True
        if self.array.type != pa.string():
            return False
        ends = np.frombuffer(self.array.buffers()[1], np.int32)
        return bool(ends[start] == ends[start + n])

    def text_bytes(self) -> bytes:
        """Return all texts, one directly after the other, in UTF-8."""
        if self.blank:
            return b""
        start = self.array.offset
        ends = np.frombuffer(self.array.buffers()[1], np.int32)
        first, last = int(ends[start]), int(ends[start + len(self)])
        text: bytes = self.array.buffers()[2].slice(first, last - first).to_pybytes()
        return text

    def named(self) -> Bools:
        """Return ``(n,)`` where the column has any value."""
        if not self.array.null_count:
            return np.ones(len(self), np.bool_)
        start = self.array.offset
        bits = np.frombuffer(self.array.buffers()[0], np.uint8)
        return np.unpackbits(bits, count=start + len(self), bitorder="little")[start:].astype(np.bool_)

    def take(self, rows: Int64s) -> "ArrowColumn":
        """Return the values at the given positions."""
        return ArrowColumn(self.array.take(int64_array(rows)))

    def joined(self, more: Sequence[Any]) -> "ArrowColumn":
        """Return the column with more values of its type after its own."""
        kind = self.array.type
        array = text_array(more) if kind == pa.string() else number_array(more, kind)
        return ArrowColumn(pa.concat_arrays([self.array, array]))


# pa.array, pa.scalar and to_numpy import pandas where they find it, half a second; by way of buffers there is
# no need of them.


def text_array(texts: Sequence[str | None]) -> Any:
    """Return texts as an Arrow array."""
    builder = pa.lib.StringBuilder()
    builder.append_values(texts)
    return builder.finish()


def number_array(numbers: Sequence[float | None], kind: Any) -> Any:
    """Return numbers as an Arrow array of the given type."""
    named = np.array([number is not None for number in numbers], np.bool_)
    filled = np.array([number or 0 for number in numbers], _NUMPY[kind])
    bits = np.packbits(named, bitorder="little")
    return pa.Array.from_buffers(kind, len(numbers), [pa.py_buffer(bits), pa.py_buffer(filled)])


def int64_array(numbers: Int64s) -> Any:
    """Return 64-bit integers as an Arrow array that shares their memory."""
    return pa.Array.from_buffers(
        pa.int64(), len(numbers), [None, pa.py_buffer(np.ascontiguousarray(numbers))]
    )


def numbers_of(array: Any) -> NDArray[Any]:
    """Return the numbers of an Arrow array, in its memory; in place of a null stands anything."""
    found = np.frombuffer(array.buffers()[1], _NUMPY[array.type])
    return found[array.offset : array.offset + len(array)]


def text_bytes(column: Sequence[str | None]) -> bytes:
    """Return all texts of a column, to look for bytes that any of them may hold.

    >>> text_bytes(["a", None, "b"]), text_bytes(ArrowColumn(text_array(["a", None, "b"])))
    (b'a\\nb', b'ab')
    """
    if isinstance(column, ArrowColumn):
        return column.text_bytes()
    return "\n".join(filter(None, column)).encode("utf-8", "surrogatepass")


def padded_texts(texts: Sequence[str]) -> tuple[NDArray[np.uint8], Int64s]:
    """Return ``(n, w)`` the UTF-8 of texts, zeros up to a multiple of eight bytes, and ``(n,)`` its lengths.

    >>> padded, lengths = padded_texts(["ab", "c"])
    >>> padded[:, :3].tolist(), lengths.tolist()
    ([[97, 98, 0], [99, 0, 0]], [2, 1])
    """
    n = len(texts)
    if isinstance(texts, ArrowColumn):
        ends = np.frombuffer(texts.array.buffers()[1], np.int32)[texts.array.offset :][: n + 1]
        lengths = np.diff(ends).astype(np.int64)
        width = _width_of(lengths)
        padded = pc.ascii_rpad(texts.array, width, "\0").buffers()[2]
    else:
        encoded = [text.encode() for text in texts]
        lengths = np.fromiter(map(len, encoded), np.int64, n)
        width = _width_of(lengths)
        padded = np.array(encoded, f"S{width}").tobytes()
    return np.frombuffer(padded, np.uint8, n * width).reshape(n, width), lengths


def _width_of(lengths: Int64s) -> int:
    return -8 * (-int(lengths.max(initial=1)) // 8)


def search(texts: Sequence[str | None], pattern: str) -> Bools:
    """Return ``(n,)`` in which texts a regular expression is found; None is none.

    Arrow's engine is RE2: whatever the pattern and the text, the time is linear in the text's length.

    Raises
    ------
    ValueError
        The pattern is no regular expression of RE2, or too large a one.

    >>> search(["curl/8.5", None, "Firefox"], "^curl").tolist()
    [True, False, False]
    """
    array = texts.array if isinstance(texts, ArrowColumn) else text_array(texts)
    found = pc.match_substring_regex(array, pattern).to_pylist()
    return np.array([bool(flag) for flag in found], np.bool_)
