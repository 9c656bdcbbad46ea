"""Ids of events whose source gives none."""

from hashlib import blake2b
from typing import Final

# Identical lines are told apart by counting them. How many different ones are remembered is bounded, so
# that a log of any length streams; they are identical in their second, so they stand close together.
REMEMBERED_EVENTS: Final = 50_000


class EventIds:
    """Derives ids from what was read, so that importing a log again repeats ids and adds no events.

    >>> ids = EventIds()
    >>> first, second = ids.of("tenant-a", "a line"), ids.of("tenant-a", "a line")
    >>> second == f"{first}-1", EventIds().of("tenant-a", "a line") == first
    (True, True)
    """

    def __init__(self) -> None:
        # Dictionaries for their order: the oldest is the first to go.
        self._occurrences: dict[str, int] = {}
        self._older_occurrences: dict[str, int] = {}

    def of(self, *told: str) -> str:
        """Return the id of what `told` says: a digest, and how often the same was told before."""
        digest = blake2b("\0".join(told).encode(), digest_size=16).hexdigest()
        occurrence = self._occurrences.get(digest) or self._older_occurrences.get(digest, 0)
        self._occurrences[digest] = occurrence + 1
        if len(self._occurrences) >= REMEMBERED_EVENTS:
            self._older_occurrences, self._occurrences = self._occurrences, {}
        return f"{digest}-{occurrence}" if occurrence else digest
