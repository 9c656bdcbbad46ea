"""A tally: which values took part in an episode, and which of them are marked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

# Enough to name an episode by; beyond it an attacker's inventions would only fill the memory.
MAX_VALUES: Final = 256


@dataclass(slots=True)
class Tally:
    """Distinct values of an episode's events: the users behind an address, say.

    Parameters
    ----------
    values
        The values; None is not one.
    marked
        Those met with a mark, e.g. users that do not exist.
    events, marks
        The events counted, and those of them with a mark. Counting stops once `MAX_VALUES` are known,
        so that the shares keep their meaning.
    """

    values: set[str] = field(default_factory=set)
    marked: set[str] = field(default_factory=set)
    events: int = 0
    marks: int = 0

    @property
    def full(self) -> bool:
        """Whether there may be more values than are counted."""
        return len(self.values) >= MAX_VALUES

    def add(self, values: Sequence[str | None], marks: Sequence[bool]) -> None:
        """Count events.

        >>> tally = Tally()
        >>> tally.add(["ana", "ben", "ana"], [True, False, True])
        >>> sorted(tally.values), sorted(tally.marked), tally.events, tally.marks
        (['ana', 'ben'], ['ana'], 3, 2)
        """
        if len(self.values) + len(values) < MAX_VALUES:
            self._add(values, marks)
            return
        # Near the bound one at a time: where it falls must not depend on the batches.
        for value, mark in zip(values, marks, strict=True):
            if self.full:
                return
            self._add((value,), (mark,))

    def _add(self, values: Sequence[str | None], marks: Sequence[bool]) -> None:
        self.values.update(value for value in values if value is not None)
        if any(marks):
            self.marked.update(
                value for value, mark in zip(values, marks, strict=True) if mark and value is not None
            )
            self.marks += sum(marks)
        self.events += len(values)

    def count_text(self) -> str:
        """Return the number of values for a sentence.

        >>> Tally(values={"ana", "ben"}).count_text()
        '2'
        """
        return f"at least {len(self.values)}" if self.full else str(len(self.values))
