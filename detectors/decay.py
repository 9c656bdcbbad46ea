"""Forgetting by time: sums in which what happened counts half after some hours."""

from typing import Any, Final

import numpy as np

WEEK_HOURS: Final = 7 * 24


def share_left(hours: Any, half_life_hours: float) -> Any:
    """Return what is left of a sum after so many hours.

    >>> float(share_left(48, 24))
    0.25
    """
    return np.exp2(-np.asarray(hours) / half_life_hours)


def weeks_remembered(age_hours: Any, half_life_hours: float) -> Any:
    """Return what a sum must be divided by to be a rate a week: the integral of `share_left`.

    It is never less than a day, of which no rate could be told.

    >>> float(weeks_remembered(168, 10_000.0).round(2)), float(weeks_remembered(1e9, 168.0).round(2))
    (0.99, 1.44)
    """
    remembered = half_life_hours / np.log(2)
    age = np.maximum(age_hours, 24)
    return remembered * -np.expm1(-age / remembered) / WEEK_HOURS
