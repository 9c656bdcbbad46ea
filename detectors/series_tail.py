"""How surprising a number is among all that came before it: peaks over a threshold."""

from dataclasses import dataclass, field
from math import log10
from typing import Final

import numpy as np

# So many values choose the threshold, and are not judged.
LEARNED: Final = 150
# It leaves the largest fiftieth above it.
QUANTILE: Final = 0.98
# Above so many peaks, half of what is known is forgotten: a series changes.
MAX_PEAKS: Final = 400.0
# Shapes of the tail: exponential at one end, at the other the heaviest whose variance still exists.
MIN_SHAPE, MAX_SHAPE = 1e-3, 0.45
# Decades; beyond them a fit to some hundred peaks says nothing more.
MAX_SURPRISE: Final = 30.0


@dataclass(slots=True)
class Tail:
    """The upper tail of a stream of numbers, as a generalised Pareto distribution above a threshold.

    It is fitted by its moments (Hosking and Wallis 1987), the threshold by the first values. So numbers of
    whatever unit and distribution become comparable.

    Parameters
    ----------
    first
        The values so far, until there are `LEARNED` of them.
    threshold
        What a peak exceeds.
    values, peaks, total, squares
        Values met, those of them above the threshold, by how much in sum, and squared.
    """

    first: list[float] = field(default_factory=list)
    threshold: float = 0.0
    values: float = 0.0
    peaks: float = 0.0
    total: float = 0.0
    squares: float = 0.0

    def surprise(self, value: float) -> float:
        """Return ``-log10 P(X >= value)`` if it is a peak, else 0; and learn the value.

        >>> tail = Tail()
        >>> _ = [tail.surprise(i % 100) for i in range(1_000)]
        >>> tail.surprise(50.0), round(tail.surprise(99.0), 1), tail.surprise(1_000.0)
        (0.0, 2.2, 30.0)
        """
        if self.values < LEARNED:
            self._begin(value)
            return 0.0
        self.values += 1.0
        excess = value - self.threshold
        if excess <= 0.0:
            return 0.0
        found = min(self._decades(excess), MAX_SURPRISE)
        self._learn(excess)
        if self.peaks > MAX_PEAKS:
            self.values /= 2
            self.peaks /= 2
            self.total /= 2
            self.squares /= 2
        return found

    def _decades(self, excess: float) -> float:
        if not self.peaks:
            return log10(self.values)
        mean = self.total / self.peaks
        variance = self.squares / self.peaks - mean * mean
        shape = 0.5 * (1.0 - mean * mean / variance) if variance > 0.0 else MIN_SHAPE
        shape = min(max(shape, MIN_SHAPE), MAX_SHAPE)
        scale = mean * (1.0 - shape)
        return log10(1.0 + shape * excess / scale) / shape - log10(self.peaks / self.values)

    def _begin(self, value: float) -> None:
        self.first.append(value)
        self.values += 1.0
        if self.values < LEARNED:
            return
        self.threshold = float(np.quantile(self.first, QUANTILE))
        for one in self.first:
            if one > self.threshold:
                self._learn(one - self.threshold)
        self.first = []

    def _learn(self, excess: float) -> None:
        self.peaks += 1.0
        self.total += excess
        self.squares += excess * excess
