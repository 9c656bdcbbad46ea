"""How surprising a count is: ``-log10`` of the probability of so many or more."""

from math import inf, lgamma, log, log1p
from typing import Final

LN_10: Final = log(10.0)


def count_surprise(count: int, shape: float, mean: float) -> float:
    """Return ``-log10 P(X >= count)`` of a Gamma-Poisson count (detection.md, part A), and never more.

    The rate of events is known only so well, as a Gamma distribution says; counts are then negative binomial,
    ``X ~ NB(r = shape, p = r / (r + mean))``. The tail is bounded by a geometric series that starts with its
    first term and falls with the largest ratio of neighbours: close in the tail, where it matters, and
    without the ``1 - P`` that ends at 16 digits.

    Parameters
    ----------
    count
        Events met.
    shape
        How well the rate is known: the mean over its variance times the mean; large is Poisson.
    mean
        Events expected, 0 or more.

    >>> round(count_surprise(2, 0.5, 0.01), 2), count_surprise(3, 8.0, 5.0)
    (3.84, 0.0)
    """
    if count <= mean or count <= 0:
        return 0.0
    if mean <= 0:
        return inf
    ln_q = -log1p(shape / mean)
    ln_p = -log1p(mean / shape)
    ln_first = lgamma(count + shape) - lgamma(shape) - lgamma(count + 1) + shape * ln_p + count * ln_q
    ratio = mean / (shape + mean) * max((count + shape) / (count + 1), 1.0)
    if ratio >= 1.0:
        return 0.0
    return max(0.0, (log1p(-ratio) - ln_first) / LN_10)
