"""What an import made of its input: counted line by line, so that nothing goes missing in silence."""

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

    Every line is counted once: it made events (one line may stand for several), or it is understood and
    carries none, or it is not understood.

    Parameters
    ----------
    lines_read
        Lines seen so far.
    events_made
        Events handed out so far.
    lines_without_event
        Understood lines that carry no event, by kind, e.g. ``other_program``.
    lines_not_understood
        Lines that are neither; the first few are kept in `examples` as (line number, text).

    Examples
    --------
    >>> report = ImportReport(lines_read=2)
    >>> report.count_without_event("other_program")
    >>> report.count_not_understood(2, "what is this")
    >>> for line in report.lines():
    ...     print(line)
    2 lines read, 0 events made
    1 line without event: other_program 1
    1 line not understood
      line 2: 'what is this'
    """

    lines_read: int = 0
    events_made: int = 0
    lines_without_event: Counter[str] = field(default_factory=Counter)
    lines_not_understood: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)

    def count_without_event(self, kind: str) -> None:
        """Count a line that is understood and carries no event."""
        self.lines_without_event[kind] += 1

    def count_not_understood(self, line_number: int, text: str) -> None:
        """Count a line that is not understood, and keep it if it is one of the first."""
        self.lines_not_understood += 1
        if len(self.examples) < EXAMPLES_KEPT:
            self.examples.append((line_number, text[:EXAMPLE_CHARACTERS]))

    def lines(self) -> Iterator[str]:
        """Render the counts as plain lines of text, the most frequent kinds first."""
        yield f"{_counted(self.lines_read, 'line')} read, {_counted(self.events_made, 'event')} made"
        if self.lines_without_event:
            kinds = ", ".join(f"{kind} {count}" for kind, count in self.lines_without_event.most_common())
            yield f"{_counted(self.lines_without_event.total(), 'line')} without event: {kinds}"
        if self.lines_not_understood:
            yield f"{_counted(self.lines_not_understood, 'line')} not understood"
            for line_number, text in self.examples:
                # Escaped, because whoever writes to a log must not write to the reader's terminal.
                yield f"  line {line_number}: {text!a}"
            left_off = self.lines_not_understood - len(self.examples)
            if left_off:
                yield f"  and {left_off} more"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
