"""Metric series: a score for each value as it comes, high where the series does what it never did."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import starmap
from math import exp, isnan, sqrt
from typing import Final

import numpy as np

from detectors.series_past import SHAPE_ROWS, Past
from detectors.series_tail import Tail
from schemas.batch import Floats

# Values beyond it are refused: their squares must stay finite.
MAX_VALUE: Final = 1e100
# An hour's habit is at least a fiftieth of today.
FORGET: Final = 0.02
# Working days and the weekend have habits of their own.
HOURS: Final = 24
SATURDAY: Final = 5
# The first value that is not an hour's only one so far is so many times as far off as usual.
FIRST_SIGMAS: Final = 10.0
# An alarm is remembered for about so many rows, in which only what is worse by a third is another.
HOLD_ROWS: Final = 150
WORSE: Final = 4 / 3
# What is asked of each value; see `Series`.
QUESTIONS: Final = 5


@dataclass(slots=True)
class Series:
    """A metric's past, and how surprising its next value is (docs/detection.md, models).

    Each value is asked five questions, whose answers become chances by the tail of all answers so far: is it
    above the habit of its hour, or below it; has it kept to one side of that habit for some time; is it far
    from every value of the past; is its course far from every course of the past? The decades of surprise are
    added as if the answers were independent, but for the first two, of which the larger counts. What was
    surprising is not surprising again at once: a score that is no worse than the latest alarm's, which fades,
    is 0.

    Parameters
    ----------
    count, mean, variance
        ``(48,)`` each: the habit of every hour of a working day, and of the weekend.
    drift
        Distance from the habit in its standard deviations, smoothed.
    past
        Values and courses.
    tails
        ``(5,)`` one of each question.
    alarm
        The latest alarm's score, faded.
    """

    count: list[int] = field(default_factory=lambda: [0] * (2 * HOURS))
    mean: list[float] = field(default_factory=lambda: [0.0] * (2 * HOURS))
    variance: list[float] = field(default_factory=lambda: [0.0] * (2 * HOURS))
    drift: float = 0.0
    past: Past = field(default_factory=Past)
    tails: list[Tail] = field(default_factory=lambda: [Tail() for _ in range(QUESTIONS)])
    alarm: float = 0.0

    def score(self, time: datetime, value: float) -> float:
        """Return decades of surprise, 0 or more; and learn the value.

        Of a value that is missing, which is not a number, the score is 0, and nothing is learnt.

        Parameters
        ----------
        time
            The hour that it says is the hour that counts, in whatever zone.
        value
            At most `MAX_VALUE`, either side of 0.

        >>> from datetime import timedelta
        >>> start, series = datetime(2026, 1, 1), Series()
        >>> steady = [series.score(start + timedelta(minutes=5 * i), i % 7) for i in range(500)]
        >>> max(steady) < 5 < series.score(start + timedelta(minutes=2_500), 50)
        True
        """
        if isnan(value):
            return 0.0
        off, sigmas = self._learn(time.hour + HOURS * (time.weekday() >= SATURDAY), value)
        self.drift += (sigmas - self.drift) / SHAPE_ROWS
        nearest, shape = self.past.add(value)
        answers = (off, -off, abs(self.drift), nearest, shape)
        above, below, *others = (
            tail.surprise(answer if answer > 0.0 else 0.0)
            for tail, answer in zip(self.tails, answers, strict=True)
        )
        return self._hold(max(above, below) + sum(others))

    def _learn(self, bin_: int, value: float) -> tuple[float, float]:
        """Return the distance from the hour's habit, and in standard deviations; none from a new one."""
        count, mean, variance = self.count[bin_], self.mean[bin_], self.variance[bin_]
        off = value - mean
        self.count[bin_] = count + 1
        weight = max(FORGET, 1 / (count + 1))
        self.mean[bin_] = mean + weight * off
        self.variance[bin_] = (1 - weight) * (variance + weight * off * off)
        if count < 2 or off == 0.0:
            return 0.0, 0.0
        if variance <= 0.0:
            return off, FIRST_SIGMAS if off > 0.0 else -FIRST_SIGMAS
        return off, off / sqrt(variance)

    def _hold(self, score: float) -> float:
        self.alarm *= _FADE
        if score <= self.alarm:
            return 0.0
        self.alarm = WORSE * score
        return score


_FADE: Final = exp(-1 / HOLD_ROWS)


def score_series(rows: Iterable[tuple[datetime, float]]) -> Floats:
    """Return ``(n,)`` scores of a whole series; each depends only on the rows up to its own.

    >>> score_series([(datetime(2026, 1, 1), 1.0), (datetime(2026, 1, 2), 2.0)])
    array([0., 0.])
    """
    return np.fromiter(starmap(Series().score, rows), np.float64)
