"""A JSON record, asked for its fields by name, however deep and in whatever case they are."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import isfinite
from typing import Final


class Record:
    """A vendor's record.

    Shippers change the case of names (Athena's tables are lower case, Azure's Log Analytics tables begin
    with capitals) and leave out what is empty, so a name is found in any case and what is missing is None.

    Parameters
    ----------
    values
        The object.
    text
        As it was read.

    Examples
    --------
    >>> record = Record({"Actor": {"alternateId": "user@example.com"}, "tries": 3, "none": ""})
    >>> record.text_of("actor.alternateid"), record.text_of("none", "tries"), record.text_of("actor.absent")
    ('user@example.com', '3', None)
    """

    __slots__ = ("_nodes", "_values", "text")

    def __init__(self, values: Mapping[str, object], text: str = "") -> None:
        self.text = text
        self._values = {name.lower(): value for name, value in values.items()}
        self._nodes: dict[str, Record] = {}

    def __bool__(self) -> bool:
        return bool(self._values)

    def find(self, name: str) -> object:
        """Return the value of a field, dotted where it is nested; None if it is missing."""
        plain, parents, last = _path(name)
        if not parents:
            return self._values.get(plain)
        if plain in self._values:
            # Flattened by a shipper, as `"actor.alternateId": …`.
            return self._values[plain]
        node = self
        for parent in parents:
            node = node._child(parent)
        return node._values.get(last)

    def text_of(self, *names: str) -> str | None:
        """Return the first of some fields that holds a text, a number or a truth, as text."""
        for name in names:
            value = self.find(name)
            if isinstance(value, str):
                if value:
                    return value
            elif isinstance(value, bool):
                return str(value).lower()
            elif isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
                return str(value)
        return None

    def first(self, *names: str) -> object:
        """Return the first of some fields that holds anything."""
        for name in names:
            value = self.find(name)
            if value is not None and value != "":
                return value
        return None

    def node(self, name: str) -> "Record":
        """Return a nested object; an empty one if there is none. JSON in a text is read."""
        _, parents, last = _path(name)
        node = self
        for parent in parents:
            node = node._child(parent)
        return node._child(last)

    def nodes(self, name: str) -> list["Record"]:
        """Return the objects of a list; a single object is a list of one."""
        value = self.find(name)
        if isinstance(value, str) and value.startswith("["):
            value = _parsed(value)
        if isinstance(value, Mapping):
            return [Record(value)]
        if not isinstance(value, list):
            return []
        return [Record(item) for item in value if isinstance(item, Mapping)]

    def items(self) -> Iterator[tuple[str, object]]:
        """Yield names, in lower case, and values."""
        yield from self._values.items()

    def _child(self, name: str) -> "Record":
        node = self._nodes.get(name)
        if node is None:
            value = self._values.get(name)
            if isinstance(value, str) and value.startswith("{"):
                value = _parsed(value)
            # Most of what is asked for is missing, so that is one and the same object.
            node = self._nodes[name] = Record(value) if isinstance(value, Mapping) else NOTHING
        return node


NOTHING: Final = Record({})


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


@lru_cache(maxsize=1 << 10)
def _path(name: str) -> tuple[str, tuple[str, ...], str]:
    plain = name.lower()
    *parents, last = plain.split(".")
    return plain, tuple(parents), last
