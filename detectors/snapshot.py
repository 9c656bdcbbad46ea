"""A state to bytes and back, in another process, with exactly the same verdicts to come.

A snapshot is data and nothing else: whoever can write to the store can give a detector a wrong memory, but
cannot make it run code.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_origin

import msgspec
import numpy as np
import pyarrow as pa

from detectors.packing import ArrayHead, decoder, pack_array, pack_container, unpack_array, unpack_container
from detectors.saved import SCALARS, Node, SnapshotError, saved_of, walk

__all__ = ["Frozen", "SnapshotError", "dumps", "freeze", "loads", "version_of"]

State = TypeVar("State")

# Changes only if what follows it does, whatever the states are laid out like.
MAGIC: Final = b"TWS2"
# Of the checksum, and of the lengths of the sections and of the head before they were compressed.
_NUMBER_BYTES: Final = 4
_COMPRESSION: Final = "zstd"


class _FrozenNode(NamedTuple):
    path: str
    kind: type
    values: dict[str, Any]
    declared: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Frozen:
    """A state as it was at one moment.

    Parameters
    ----------
    name, format_version
        Of the state's class.
    nodes
        Copies of what is in it.
    """

    name: str
    format_version: int
    nodes: tuple[_FrozenNode, ...]


class _Head(NamedTuple):
    """What comes after the data: attributes by path, and the sizes of the sections of each."""

    name: str
    format_version: int
    scalars: dict[str, bool | int | float | str | None]
    arrays: dict[str, ArrayHead]
    sections: dict[str, list[int]]


def version_of(state: Any) -> int:
    """Return the version of a state's format: the one that this program writes, and the only one it reads."""
    version: int | None = getattr(state, "format_version", None)
    if version is None:
        raise SnapshotError(f"{type(state).__qualname__} has no format_version")
    return version


def freeze(state: Any) -> Frozen:
    """Return a copy of a state that no later fold changes.

    It is made on the event loop, between two chunks. Of arrays and of containers whose content cannot change
    it is a plain copy; the others are encoded at once, which is quicker than copying what they hold.

    Parameters
    ----------
    state
        Of a class with a ``format_version``, its parts as `detectors.saved` wants them.

    Raises
    ------
    SnapshotError
        Something is in it that cannot be saved.
    """
    nodes: list[_FrozenNode] = []
    for node in walk(state):
        copies: dict[str, Any] = {}
        for name, value in node.values.items():
            if name in node.declared:
                declared = node.declared[name]
                copies[name] = value.copy() if _is_constant(declared) else _encoded(value, declared, node)
            else:
                copies[name] = value.copy() if isinstance(value, np.ndarray) else value
        nodes.append(_FrozenNode(node.path, type(node.owner), copies, node.declared))
    return Frozen(type(state).__qualname__, version_of(state), tuple(nodes))


@lru_cache
def _is_constant(container: Any) -> bool:
    """Whether what a container holds cannot change."""
    return all(map(_cannot_change, get_args(container)))


def _cannot_change(kind: Any) -> bool:
    if kind in SCALARS or kind in (bytes, Ellipsis):
        return True
    parts = get_args(kind)
    return get_origin(kind) not in (dict, list, set) and bool(parts) and all(map(_cannot_change, parts))


def _encoded(value: Any, declared: Any, node: Node) -> tuple[bytes, ...]:
    try:
        return tuple(pack_container(value, declared))
    except (TypeError, OverflowError, msgspec.MsgspecError) as error:
        raise SnapshotError(f"{node.path}: {error}") from error


def dumps(frozen: Frozen) -> bytes:
    """Return a frozen state as bytes, compressed: on its way to the store there are copies of them.

    To be called in a thread.

    >>> from detectors.admission import Admission
    >>> loads(Admission, dumps(freeze(Admission({"tenant-a": 7})))).watermark_ms
    {'tenant-a': 7}
    """
    head = _Head(frozen.name, frozen.format_version, {}, {}, {})
    sink, size = pa.BufferOutputStream(), 0
    # Compressing and summing up megabytes lets other threads run.
    with pa.CompressedOutputStream(sink, _COMPRESSION) as data:
        for path, kind, values, declared in frozen.nodes:
            for attribute, value in _packed(kind, values).items():
                name = f"{path}.{attribute}" if path else attribute
                if isinstance(value, np.ndarray):
                    head.arrays[name], packed = pack_array(value)
                    written: Sequence[bytes] = (packed,)
                elif isinstance(value, tuple):
                    written = value
                elif attribute in declared:
                    written = pack_container(value, declared[attribute])
                else:
                    head.scalars[name] = value
                    continue
                head.sections[name] = list(map(len, written))
                for section in written:
                    data.write(section)
                    size += len(section)
        head_bytes = msgspec.msgpack.encode(head)
        data.write(head_bytes)
    body: bytes = _number(size) + _number(len(head_bytes)) + sink.getvalue().to_pybytes()
    return MAGIC + _number(zlib.crc32(body)) + body


def _number(value: int) -> bytes:
    return value.to_bytes(_NUMBER_BYTES, "little")


def _packed(kind: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    packed = saved_of(kind).packed
    if packed is None:
        return values
    copy = object.__new__(kind)
    attributes: dict[str, Any] = vars(copy)
    attributes.update(values)
    packed(copy)
    return attributes


def loads(new: Callable[[], State], data: bytes) -> State:
    """Return the state that bytes stand for. To be called in a thread.

    Parameters
    ----------
    new
        Makes a state of which nothing was seen: its class, a detector's ``new_state``.
    data
        As `dumps` returned them, in whichever process.

    Raises
    ------
    SnapshotError
        They are damaged, or of another state, format or layout.
    """
    state = new()
    try:
        _fill(state, *_open(state, data))
    except (msgspec.MsgspecError, OSError, ValueError, LookupError, TypeError, OverflowError) as error:
        raise SnapshotError(f"{type(state).__qualname__}: does not hold together: {error}") from error
    return state


def _open(state: Any, data: bytes) -> tuple[_Head, dict[str, list[memoryview]]]:
    """Return the head and the sections of each attribute."""
    name, version = type(state).__qualname__, version_of(state)
    start = len(MAGIC) + _NUMBER_BYTES
    if data[: len(MAGIC)] != MAGIC:
        raise SnapshotError(f"{name}: not a snapshot that this program knows")
    body = memoryview(data)[start:]
    if _number(zlib.crc32(body)) != data[len(MAGIC) : start]:
        raise SnapshotError(f"{name}: damaged or cut short")
    end, head_size = (int.from_bytes(body[i : i + _NUMBER_BYTES], "little") for i in (0, _NUMBER_BYTES))
    with pa.CompressedInputStream(pa.BufferReader(body[2 * _NUMBER_BYTES :]), _COMPRESSION) as compressed:
        whole = memoryview(compressed.read())
    if len(whole) != end + head_size:
        raise SnapshotError(f"{name}: {len(whole)} bytes in place of {end + head_size}")
    head: _Head = decoder(_Head).decode(whole[end:])
    if (head.name, head.format_version) != (name, version):
        raise SnapshotError(
            f"{name}: found {head.name} in format {head.format_version}, this program reads format {version}"
        )
    sections: dict[str, list[memoryview]] = {}
    at = 0
    for path, sizes in head.sections.items():
        bounds = [at, *(at := at + size for size in sizes)]
        sections[path] = [whole[first:stop] for first, stop in pairwise(bounds)]
    return head, sections


def _fill(state: Any, head: _Head, sections: dict[str, list[memoryview]]) -> None:
    """Put what was saved in the place of what a new state holds."""
    homeless = {*head.scalars, *sections}
    for node in walk(state):
        for attribute, new in node.values.items():
            path = node.at(attribute)
            homeless.remove(path)
            if isinstance(new, np.ndarray):
                [data] = sections[path]
                value: Any = unpack_array(head.arrays[path], data, new)
            elif declared := node.declared.get(attribute):
                value = unpack_container(sections[path], declared)
            else:
                value = head.scalars[path]
                if type(value) is not type(new):
                    raise ValueError(f"{path} is {value!r}")
            setattr(node.owner, attribute, value)
        if node.saved.restored is not None:
            node.saved.restored(node.owner)
    if homeless:
        raise ValueError(f"there is no {', '.join(sorted(homeless))}")
