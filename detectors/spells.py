"""Spells: a key's events since its buckets were last empty. Between spells a key is as if never seen."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

# An episode starts with what led up to it; more of it than this adds nothing that a person would read.
MAX_RECENT: Final = 32
# So many values of a key are told apart exactly; then every other value counts as new. Exact, because
# five users in a 64-bit bitmap collide in one case of seven; bounded, because an attacker who invents
# names must not fill the memory, and a key with 64 of them is in alarm anyway.
MAX_KNOWN: Final = 64


class Recent(NamedTuple):
    """One event of a spell."""

    time_ms: int
    event_id: str
    value: str | None
    mark: bool


@dataclass(slots=True)
class Spell:
    """What is remembered of a key while one of its buckets holds something.

    Parameters
    ----------
    recent
        The latest events, at most `MAX_RECENT`; none while an episode is open, which keeps its own.
    known
        The values met, at most `MAX_KNOWN`.
    """

    recent: list[Recent] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def news(self, values: Sequence[str | None]) -> list[bool]:
        """Return which values the spell had not met before; afterwards it has.

        >>> Spell().news(["ana", None, "ben", "ana"])
        [True, False, True, False]
        """
        if not set(values) - self.known - {None}:
            return [False] * len(values)
        flags: list[bool] = []
        for value in values:
            if value is None or value in self.known:
                flags.append(False)
                continue
            flags.append(True)
            if len(self.known) < MAX_KNOWN:
                self.known.add(value)
        return flags

    def remember(self, events: Sequence[Recent]) -> None:
        """Add events, and forget the oldest beyond the bound."""
        self.recent = [*self.recent, *events][-MAX_RECENT:]
