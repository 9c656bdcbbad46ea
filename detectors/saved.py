"""What of a state is saved: everything, but for code, caches and what can be made anew.

An attribute that a class gains is saved without a word; one of a kind that is not known here is an error at
the first snapshot, so that nobody finds out at a restart.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from functools import lru_cache
from typing import Any, Final, get_type_hints

import numpy as np

SCALARS: Final = (bool, int, float, str, type(None))


class SnapshotError(Exception):
    """A state cannot be saved, or bytes are no snapshot that this program reads: build it from the store."""


@dataclass(frozen=True)
class Saved:
    """How objects of a class are saved: its attribute ``saved``, which only dataclasses may do without.

    Parameters
    ----------
    unsaved
        Attributes that are code, caches, or made anew by `restored`.
    containers
        Types of lists, sets and dicts that the class itself does not declare.
    packed
        Closes gaps, in a copy that is about to be saved.
    restored
        Makes anew what was not saved, when all else is there.
    """

    unsaved: frozenset[str] = frozenset()
    containers: Mapping[str, Any] = field(default_factory=dict)
    packed: Callable[[Any], None] | None = None
    restored: Callable[[Any], None] | None = None


_AS_DECLARED: Final = Saved()


@dataclass(frozen=True, slots=True)
class Node:
    """An object of a state.

    Parameters
    ----------
    path
        Where it is, from the state: ``first_seen.habits``.
    owner, saved
        It, and how it is saved.
    values
        Its attributes that are no objects themselves.
    declared
        Types of those that are containers.
    """

    path: str
    owner: Any
    saved: Saved
    values: dict[str, Any]
    declared: dict[str, Any]

    def at(self, name: str) -> str:
        """Return where an attribute is."""
        return _at(self.path, name)


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def saved_of(kind: type, path: str = "") -> Saved:
    """Return how objects of a class are saved.

    Raises
    ------
    SnapshotError
        It does not say.
    """
    saved: Saved | None = getattr(kind, "saved", _AS_DECLARED if is_dataclass(kind) else None)
    if saved is None:
        raise SnapshotError(
            f"{path}: {kind.__qualname__} does not say how it is saved; "
            "fix: give it an attribute `saved`, or name it in its owner's `unsaved`"
        )
    return saved


def walk(owner: Any, path: str = "") -> Iterator[Node]:
    """Yield the objects that a state is made of, every one after those that it holds.

    Raises
    ------
    SnapshotError
        Something is in it of which nobody says how to save it.
    """
    saved = saved_of(type(owner), path)
    names = [f.name for f in fields(owner)] if is_dataclass(owner) else list(vars(owner))
    if gone := saved.unsaved.difference(names):
        raise SnapshotError(
            f"{path}: has no {', '.join(sorted(gone))}; fix: {type(owner).__qualname__}.saved"
        )
    node = Node(path, owner, saved, {}, {})
    for name in names:
        if name in saved.unsaved:
            continue
        value = getattr(owner, name)
        if isinstance(value, (dict, list, set)):
            node.declared[name] = _declared(type(owner), saved, name, node.at(name))
        elif not (type(value) in SCALARS or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")):
            yield from walk(value, node.at(name))
            continue
        node.values[name] = value
    yield node


def _declared(owner: type, saved: Saved, name: str, path: str) -> Any:
    declared = saved.containers.get(name) or _hints(owner).get(name)
    if declared is None:
        raise SnapshotError(f"{path}: nobody says what is in it; fix: {owner.__qualname__}.saved.containers")
    return declared


@lru_cache
def _hints(owner: type) -> dict[str, Any]:
    return get_type_hints(owner)
