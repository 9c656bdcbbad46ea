"""Spells: a key's events since its buckets were last empty. Between spells a key is as if never seen."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

# An episode starts with what led up to it; more of it than this adds nothing that a person would read.
MAX_RECENT: Final = 32
# So many values of a key are told apart exactly; then every other value counts as new. Exact, because
# five users in a 64-bit bitmap collide in one case of seven; bounded, because an attacker who invents
# names must not fill the memory, and a key with 64 of them is in alarm anyway.
MAX_KNOWN: Final = 64


# Time, event id, value and mark of one event.
Recent = tuple[int, str, str | None, bool]


@dataclass(slots=True)
class Spell:
    """What is remembered of a key while one of its buckets holds something.

    Parameters
    ----------
    recent
        The latest events, at most `MAX_RECENT`; none while an episode is open, which keeps its own.
    known
        The values met, at most `MAX_KNOWN`; None where nobody asks for new ones.
    """

    recent: list[Recent] = field(default_factory=list)
    known: set[str] | None = None

    def news(self, values: Sequence[str | None]) -> list[bool]:
        """Return which values the spell had not met before; afterwards it has.

        >>> Spell().news(["ana", None, "ben", "ana"])
        [True, False, True, False]
        """
        if self.known is None:
            self.known = set()
        known = self.known
        if not set(values) - known - {None}:
            return [False] * len(values)
        flags: list[bool] = []
        for value in values:
            if value is None or value in known:
                flags.append(False)
                continue
            flags.append(True)
            if len(known) < MAX_KNOWN:
                known.add(value)
        return flags

    def remember(self, events: Iterable[Recent]) -> None:
        """Add events, and forget the oldest beyond the bound."""
        self.recent.extend(events)
        del self.recent[:-MAX_RECENT]
