"""How far the latest values of a series are from everything it did before."""

from dataclasses import dataclass, field
from math import sqrt
from typing import Final

import numpy as np

from schemas.batch import Floats

# As far as it looks back: two and a half weeks of five-minute values.
MAX_ROWS: Final = 5_000
# Shapes are compared over about so many rows, the latest counting most.
SHAPE_ROWS: Final = 32


@dataclass(slots=True)
class Past:
    """The latest values, and how unlike each stretch of them the present is.

    An exponentially weighted left discord: the shape of the present is compared with those that ended 1, 2,
    3, … rows ago, by the sum of squared differences, each row back counting a 32nd less. It takes a few
    passes over 5,000 numbers a row; a sum over a window, which must subtract what leaves it, would never
    get rid of a huge value's rounding.

    Parameters
    ----------
    values
        ``(2 * MAX_ROWS,)`` the latest value at `head`, those before it behind.
    head, rows
        Where they begin, and how many there are.
    distance
        ``(MAX_ROWS,)`` squared distance to the shape that ended 1, 2, 3, … rows ago.
    """

    values: Floats = field(default_factory=lambda: np.zeros(2 * MAX_ROWS))
    head: int = 2 * MAX_ROWS
    rows: int = 0
    distance: Floats = field(default_factory=lambda: np.zeros(MAX_ROWS))

    def add(self, value: float) -> tuple[float, float]:
        """Return how far the nearest earlier value and the nearest earlier shape are; and learn the value.

        0 while there is nothing to compare with. A shape is not compared with those that overlap it.

        >>> past = Past()
        >>> [past.add(value)[0] for value in (20.0, 21.0, 28.0, 20.5)]
        [0.0, 1.0, 7.0, 0.5]
        """
        nearest = shape = 0.0
        if self.rows:
            squared = self.values[self.head : self.head + self.rows] - value
            squared *= squared
            distance = self.distance[: self.rows]
            distance *= 1.0 - 1.0 / SHAPE_ROWS
            distance += squared
            nearest = sqrt(squared.min())
            if self.rows > SHAPE_ROWS:
                shape = sqrt(distance[SHAPE_ROWS - 1 :].min())
        self._remember(value)
        return nearest, shape

    def _remember(self, value: float) -> None:
        if self.head == 0:
            self.values[MAX_ROWS:] = self.values[:MAX_ROWS]
            self.head = MAX_ROWS
        self.head -= 1
        self.values[self.head] = value
        self.rows = min(self.rows + 1, MAX_ROWS)
