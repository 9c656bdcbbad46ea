"""A rule as the detector wants it: no text, no Sigma, nothing to look up."""

from dataclasses import dataclass
from typing import Final, Literal

from detectors.rules.predicates import Predicate
from schemas.alert import Severity
from schemas.event import Kind

WindowType = Literal["event_count", "value_count", "temporal", "temporal_ordered"]
# A week: what a rule remembers grows with the groups that it meets in its timespan.
MAX_TIMESPAN_S: Final = 7 * 86_400
# The most events and values that a rule may need.
MAX_EVENTS: Final = 10_000
MAX_VALUES: Final = 1_000
# A score tells so many times a rule's need from still more, but no more than so many events or values beyond
# it: of each group as many times, or values, are kept. A value takes ten times as much as a time.
COUNTED_TIMES: Final = 32
COUNTED_VALUES: Final = 4
COUNTED_BEYOND: Final = 1_000
# Of each group so many times are kept, one for each of the rules.
MAX_SELECTIONS: Final = 8


@dataclass(frozen=True, slots=True)
class Window:
    """What has to come together within a timespan.

    Parameters
    ----------
    type
        As in Sigma's ``correlation``.
    timespan_ms
        Events so far apart are not together any more.
    needed
        How many events, different values, or different selections.
    field
        Whose values are counted.
    """

    type: WindowType
    timespan_ms: int
    needed: int
    field: str = ""

    @property
    def counted(self) -> int:
        """How far events or values are counted, for the score."""
        times = COUNTED_VALUES if self.type == "value_count" else COUNTED_TIMES
        return min(times * self.needed, self.needed + COUNTED_BEYOND)


@dataclass(frozen=True, slots=True)
class Headline:
    """What alerts of a rule say of it.

    Parameters
    ----------
    key
        Tells the rule from all others, and from itself with another detection: 16 hexadecimal digits.
    title, severity, attack, runbook
        Of the alert; the title is part of the summary.
    classification
        Of the alert: the rule's name, or what its title comes to.
    """

    key: str
    title: str
    classification: str
    severity: Severity
    attack: tuple[str, ...]
    runbook: str


@dataclass(frozen=True, slots=True)
class Rule:
    """A compiled rule.

    Parameters
    ----------
    kind
        Of the events that it looks at.
    selections
        What it selects; the ones of a window may be several.
    group_by
        Fields by whose values events belong together; of a rule without a window none.
    window
        None: each event that is selected raises an alert.
    """

    kind: Kind
    headline: Headline
    selections: tuple[Predicate, ...]
    group_by: tuple[str, ...] = ()
    window: Window | None = None
