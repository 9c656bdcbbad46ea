"""What an import made of its input: counted item by item, so that nothing goes missing in silence."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

# Enough to see what kind of line it is; a whole unknown log on the terminal would help nobody.
EXAMPLES_KEPT: Final = 5
EXAMPLE_CHARACTERS: Final = 160


@dataclass(slots=True)
class ImportReport:
    """Counts of one import, filled while its events are drawn.

    Every item is counted once: it made events (one line may stand for several), or it is understood and
    carries none, or it is not understood.

    Parameters
    ----------
    noun
        What an item is: ``line``, ``record`` or ``row``.
    read
        Items seen so far.
    events_made
        Events handed out so far.
    without_event
        Understood items that carry no event, by kind, e.g. ``other_program``.
    not_understood
        Items that are neither; the first few are kept in `examples` as (number, why, text).

    Examples
    --------
    >>> report = ImportReport(read=2)
    >>> report.count_without_event("other_program")
    >>> report.count_not_understood("no syslog line", "what is this")
    >>> for line in report.lines():
    ...     print(line)
    2 lines read, 0 events made
    1 line without event: other_program 1
    1 line not understood
      line 2: no syslog line: 'what is this'
    """

    noun: str = "line"
    read: int = 0
    events_made: int = 0
    without_event: Counter[str] = field(default_factory=Counter)
    not_understood: int = 0
    examples: list[tuple[int, str, str]] = field(default_factory=list)

    def count_without_event(self, kind: str) -> None:
        """Count an item that is understood and carries no event."""
        self.without_event[kind] += 1

    def count_not_understood(self, why: str, text: str) -> None:
        """Count the item read last as not understood, and keep it if it is one of the first."""
        self.not_understood += 1
        if len(self.examples) < EXAMPLES_KEPT:
            self.examples.append((self.read, why, text[:EXAMPLE_CHARACTERS]))

    def lines(self) -> Iterator[str]:
        """Render the counts as plain lines of text, the most frequent kinds first."""
        yield f"{self._counted(self.read)} read, {_counted(self.events_made, 'event')} made"
        if self.without_event:
            kinds = ", ".join(f"{kind} {count}" for kind, count in self.without_event.most_common())
            yield f"{self._counted(self.without_event.total())} without event: {kinds}"
        if self.not_understood:
            yield f"{self._counted(self.not_understood)} not understood"
            for number, why, text in self.examples:
                # Escaped, because whoever writes to a log must not write to the reader's terminal.
                yield f"  {self.noun} {number}: {ascii(why)[1:-1]}: {text!a}"
            left_off = self.not_understood - len(self.examples)
            if left_off:
                yield f"  and {left_off} more"

    def _counted(self, count: int) -> str:
        return _counted(count, self.noun)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
