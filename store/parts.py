"""Long lists of ids, cut into as many as a query takes."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")
# A server refuses a parameter of more than 128 KiB, and no setting of a query changes that; the engine in the
# process takes any. This is a thousand ids of 36 characters, and leaves room for what a client quotes.
PART_BYTES: Final = 40_000
# Quotes, a comma and a blank.
_AROUND_BYTES: Final = 4


def in_parts(items: Iterable[T], text: Callable[[T], str] = str) -> Iterator[list[T]]:
    """Yield items in the order of their texts, in lists that a query's parameters have room for.

    Parameters
    ----------
    text
        All that a query is asked with for an item.

    >>> list(in_parts(["b", "a"]))
    [['a', 'b']]
    >>> [len(part) for part in in_parts(f"{n:036}" for n in range(2_500))]
    [1000, 1000, 500]
    """
    part: list[T] = []
    held = 0
    for item in sorted(items, key=text):
        size = len(text(item).encode()) + _AROUND_BYTES
        if part and held + size > PART_BYTES:
            yield part
            part, held = [], 0
        part.append(item)
        held += size
    if part:
        yield part
