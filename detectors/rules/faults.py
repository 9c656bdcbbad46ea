"""What is wrong with a rule: where, what was found, how to mend it."""

from collections.abc import Iterable
from difflib import get_close_matches


class RuleError(ValueError):
    """A text is no rule that can be used.

    Parameters
    ----------
    faults
        One line for each thing to mend.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = tuple(faults)
        super().__init__("\n".join(self.faults))


def near(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that was perhaps meant.

    >>> near("user", ["user_id", "source_ip"]), near("x", ["user_id"])
    ('user_id', None)
    """
    return next(iter(get_close_matches(name, [*known], n=1, cutoff=0.6)), None)


def advice(name: str, known: Iterable[str]) -> str:
    """Return what to write instead of a name that is not known.

    >>> advice("user", ["user_id", "source_ip"])
    'did you mean `user_id`?'
    """
    names = [*known]
    meant = near(name, names)
    return f"did you mean `{meant}`?" if meant else f"known: {', '.join(names)}"
