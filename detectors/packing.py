"""Arrays and containers of plain values to bytes and back: small, fast, and never more than data.

Every step is one call into C of a millisecond at most, or one that runs without Python's lock: bytes are made
in a thread beside the event loop.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, get_origin

import msgspec
import numpy as np
from numpy.typing import NDArray

# Rows of a list encoded in one call.
CHUNK_ROWS: Final = 4_096
Buffer = bytes | memoryview
_NARROW: Final = (np.uint8, np.uint16, np.uint32)


class ArrayHead(NamedTuple):
    """How an array was packed.

    Parameters
    ----------
    rows
        Its length.
    kept
        How many rows are written; the others equal the last of these.
    dtype
        Of the array.
    stored
        In which the numbers are written, less `base`.
    """

    rows: int
    kept: int
    dtype: str
    stored: str
    base: int


def pack_array(array: NDArray[Any]) -> tuple[ArrayHead, bytes]:
    """Return an array as bytes, with what it takes to read them.

    Room to spare at the end is written once, however long, and times of one day in half the bytes: what is
    left is what differs.

    >>> head, data = pack_array(np.array([[1000, 1001], [1003, 1002], [0, 0], [0, 0], [0, 0]])[:2])
    >>> head, len(data)
    (ArrayHead(rows=2, kept=2, dtype='<i8', stored='|u1', base=1000), 4)
    """
    rows = len(array)
    # By their bits: a float that is no number differs from itself.
    bits = array.view(f"i{array.itemsize}") if array.dtype.kind == "f" else array
    differs = bits != bits[-1:]
    others = np.flatnonzero(differs.any(axis=tuple(range(1, array.ndim))))
    kept = min(rows, int(others[-1]) + 2 if len(others) else 1)
    used = array[:kept]
    if used.dtype.kind == "i" and used.size:
        base, top = int(used.min()), int(used.max())
        for narrow in _NARROW:
            if narrow().itemsize < used.itemsize and top - base <= np.iinfo(narrow).max:
                stored = (used - base).astype(narrow)
                return ArrayHead(rows, kept, used.dtype.str, stored.dtype.str, base), stored.tobytes()
    return ArrayHead(rows, kept, used.dtype.str, used.dtype.str, 0), used.tobytes()


def unpack_array(head: ArrayHead, data: Buffer, like: NDArray[Any]) -> NDArray[Any]:
    """Return the array, of the type and inner shape of another.

    Raises
    ------
    ValueError
        The bytes are no such array.
    """
    inner = like.shape[1:]
    allowed = {like.dtype.str, *(np.dtype(narrow).str for narrow in _NARROW)}
    kept_some = min(head.rows, 1) <= head.kept <= head.rows
    if head.dtype != like.dtype.str or head.stored not in allowed or not kept_some:
        raise ValueError(f"{head} is no array of {like.dtype}")
    stored = np.frombuffer(data, head.stored)
    if stored.size != head.kept * math.prod(inner):
        raise ValueError(f"{head.kept} rows are said to be there, {len(data)} bytes are")
    array = np.empty((head.rows, *inner), like.dtype)
    array[: head.kept] = stored.reshape(head.kept, *inner)
    if head.base:
        array[: head.kept] += head.base
    array[head.kept :] = array[head.kept - 1 : head.kept]
    return array


def pack_container(value: Any, declared: Any) -> list[bytes]:
    """Return a list, set or dict as messages of MessagePack.

    Parameters
    ----------
    value, declared
        The container, and its type with those of what is in it.

    >>> unpack_container(pack_container({"ana", "ben"}, set[str]), set[str]) == {"ana", "ben"}
    True
    """
    if get_origin(declared) is dict:
        return [msgspec.msgpack.encode(value)]
    rows = value if isinstance(value, list) else list(value)
    return [
        msgspec.msgpack.encode(rows[start : start + CHUNK_ROWS]) for start in range(0, len(rows), CHUNK_ROWS)
    ]


def unpack_container(messages: Sequence[Buffer], declared: Any) -> Any:
    """Return the container.

    Raises
    ------
    msgspec.DecodeError, ValueError
        The messages do not hold one of this type.
    """
    origin = get_origin(declared)
    if origin is dict:
        [message] = messages
        return decoder(declared).decode(message)
    container = origin()
    add = container.extend if origin is list else container.update
    for message in messages:
        add(decoder(declared).decode(message))
    return container


@lru_cache
def decoder(declared: Any) -> msgspec.msgpack.Decoder[Any]:
    """Return what reads one message of a type."""
    return msgspec.msgpack.Decoder(declared)
