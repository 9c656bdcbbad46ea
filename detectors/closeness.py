"""How close events came to a rule's threshold, for whoever wants to be told: an explanation, a what-if.

Nobody is told in the worker: a rule without a watch does nothing for it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from detectors.keys import Key, Keys
from detectors.saved import walk
from schemas.batch import Floats, Int64s

# ``(m,)`` positions to scores and thresholds, of which a score above its threshold is an alarm. An infinite
# threshold is one that is switched off.
Measure = Callable[[Int64s], tuple[Floats, Floats]]


class Watch(Protocol):
    """Is told of the rows that one rule put to the test."""

    def see(
        self,
        keys: Keys[Key],
        slot: Int64s,
        time_ms: Int64s,
        event_ids: Sequence[str],
        measure: Measure,
    ) -> None:
        """Take from rows what is of interest.

        Parameters
        ----------
        keys, slot
            Keys, and ``(n,)`` the number of each row's.
        time_ms, event_ids
            ``(n,)``.
        measure
            To be asked for no more rows than necessary: it may work them out one by one.
        """

    def part(self, rule: str) -> "Watch":
        """Return who is told of one of several rules that have their episodes in common, by its title.

        A tenant's own rules are such; their keys are those of `detectors.rules.groups`.
        """


# Detector and rule, to who is told of it.
WatchOf = Callable[[str, str], Watch]


def watch_rules(state: Any, watch_of: WatchOf) -> list[tuple[str, str]]:
    """Let the rules of a detector's state tell how close events come; return detector and rule of each.

    >>> from detectors.rate_breach import RateBreach
    >>> watch_rules(RateBreach().new_state(), lambda detector, rule: None)
    [('rate_breach', 'limit')]
    """
    found = []
    for node in walk(state):
        teller = getattr(node.owner, "teller", None)
        if teller is not None:
            node.owner.watch = watch_of(teller.detector, teller.rule)
            found.append((teller.detector, teller.rule))
    return found
