"""How deep a JSON text is nested, told without parsing it."""

import re
from typing import Final

import numpy as np

MAX_DEPTH: Final = 32
# A backslash hides what follows it, so a quote after one ends no string.
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_OPEN: Final = np.zeros(256, np.int32)
_OPEN[[ord("["), ord("{")]] = 1
_OPEN[[ord("]"), ord("}")]] = -1


def depth(body: bytes) -> int:
    """Return how deep arrays and objects are nested; of what is no JSON, something no smaller.

    >>> depth(b'{"a": [1, {"b": "[[[["}]}'), depth(b'"[["'), depth(b"[" * 5), depth(b"")
    (3, 0, 5, 0)
    """
    steps = _OPEN[np.frombuffer(_STRING.sub(b"", body), np.uint8)]
    return int(np.cumsum(steps).max(initial=0))


def too_deep(body: bytes) -> bool:
    """Return whether a JSON text is nested deeper than allowed.

    >>> too_deep(b"[" * 33), too_deep(b"[[]]" * 33)
    (True, False)
    """
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return False
    return depth(body) > MAX_DEPTH
