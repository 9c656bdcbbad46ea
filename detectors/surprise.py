"""How surprising a count or a share is: ``-log10`` of the probability of so many or more."""

from math import inf, lgamma, log, log1p
from typing import Final

LN_10: Final = log(10.0)


def count_surprise(count: int, shape: float, mean: float) -> float:
    """Return ``-log10 P(X >= count)`` of a Gamma-Poisson count (docs/detection.md, models), and never more.

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


def share_surprise(count: int, of: int, share: float, weight: float) -> float:
    """Return ``-log10 P(X >= count)`` of a Beta-binomial count (docs/detection.md, models), and never more.

    The share that is usual varies from minute to minute like a Beta distribution. The tail is bounded as in
    `count_surprise`.

    Parameters
    ----------
    count, of
        Requests that failed, say, and all of them.
    share
        The usual share, between 0 and 1.
    weight
        How steady it is: the Beta distribution's ``a + b``.

    >>> round(share_surprise(18, 20, 0.01, 200.0), 1), share_surprise(1, 100, 0.02, 200.0)
    (22.5, 0.0)
    """
    if count <= share * of:
        return 0.0
    a, b = share * weight, (1 - share) * weight
    rest = of - count
    ratio = rest / (b + rest - 1) * max((a + count) / (count + 1), 1.0) if rest else 0.0
    if not 0.0 <= ratio < 1.0:
        return 0.0
    ln_first = lgamma(of + 1) - lgamma(count + 1) - lgamma(rest + 1)
    ln_first += lgamma(a + count) + lgamma(b + rest) - lgamma(a + b + of)
    ln_first -= lgamma(a) + lgamma(b) - lgamma(a + b)
    return max(0.0, (log1p(-ratio) - ln_first) / LN_10)
