"""Which ClickHouse servers are a whole wall between tenants."""

import re
from typing import Final

# From here on `mergeTreeIndex` respects row policies; before, it shows keys of every tenant's rows to whoever
# may read a table. No other release before the last of these was mended.
_MENDED: Final[dict[tuple[int, ...], tuple[int, ...]]] = {
    (26, 3): (22, 6),
    (26, 5): (8, 18),
    (26, 6): (4, 10),
    (26, 7): (6, 5),
}


def hides_keys(version: str) -> bool:
    """Return whether a server of a version shows the primary keys of those rows only that it shows.

    >>> [hides_keys(text) for text in ("26.3.22.6", "26.3.21.9", "26.4.9.9", "26.7.6.5.x", "26.8.1.1")]
    [True, False, False, True, True]
    """
    numbers = tuple(map(int, re.findall(r"\d+", version)))
    release, build = numbers[:2], numbers[2:4]
    return build >= _MENDED[release] if release in _MENDED else release > max(_MENDED)
