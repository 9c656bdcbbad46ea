"""What is wrong with a rule: where, what was found, how to mend it."""

from collections.abc import Iterable


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
