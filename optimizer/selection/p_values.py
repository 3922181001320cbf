"""How likely a result is by luck: over all sets tried, over the holdout, and both together."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.fft import dct
from scipy.special import chdtrc, ndtri, stdtr, stdtrit

from kernels.inference import NO_RESIDUAL
from optimizer.selection.record import HoldoutAlpha
from optimizer.types import FloatArray

LEVEL = 0.05
"""What an error of the first kind may be, where a power is stated."""

POWER = 0.8
"""What is shown in 4 of 5 cases."""

SMALLEST = 1e-12
"""No p-value is smaller: its logarithm is taken."""

FEWEST_RETURNS = 20
"""Fewer returns show no alpha."""


def holdout_alpha(
    returns: npt.ArrayLike, benchmark: npt.ArrayLike, returns_per_year: float
) -> HoldoutAlpha | None:
    """Alpha of one set that was chosen before, and its p-value.

    The intercept of the regression of the returns on those of the benchmark. Its standard error allows
    for autocorrelation and changing variance: it is that of each return's part in alpha by
    ``long_run_covariance``, and the statistic then has a t distribution with its degrees of freedom.

    Args:
        returns: (n,), less the risk-free rate.
        benchmark: (n,), likewise.
        returns_per_year: annualizes.

    Returns:
        None for fewer than ``FEWEST_RETURNS`` returns, or where they say nothing beyond the benchmark's.
    """
    own, market = np.asarray(returns, np.float64), np.asarray(benchmark, np.float64)
    n = len(own)
    if n < FEWEST_RETURNS:
        return None
    alpha, beta = alpha_and_beta(own, market)
    around = market - market.mean()
    spread = float(around @ around)
    moves = spread > NO_RESIDUAL * float(market @ market)
    residuals = own - alpha - beta * market
    if not float(residuals @ residuals) > NO_RESIDUAL * float(own @ own):
        return None
    # The part of each return in alpha: its residual, and what it does to the slope.
    parts = residuals * (1.0 - (market.mean() * n / spread) * around if moves else 1.0)
    covariance, degrees = long_run_covariance(parts[:, np.newaxis])
    statistic = alpha * math.sqrt(n / float(covariance[0, 0]))
    p = float(stdtr(degrees, -statistic))
    return HoldoutAlpha(alpha * returns_per_year, statistic, degrees, max(p, SMALLEST))


MOST_COSINES = 2**25
"""Cosines, one a return and transform, that are written out: those of 56,000 returns, 268 MB."""


def long_run_covariance(parts: FloatArray) -> tuple[FloatArray, int]:
    """Covariance of sums over time per return, robust to autocorrelation and changing variance.

    The mean of the outer products of the first B cosine transforms, B = 0.4 n^(2/3) (Lazarus, Lewis,
    Stock and Watson 2018).

    Args:
        parts: (n, n_series), each of mean 0.

    Returns:
        Shape (n_series, n_series), and B, its degrees of freedom.
    """
    n = len(parts)
    degrees = int(0.4 * n ** (2.0 / 3.0))
    if n * degrees <= MOST_COSINES:
        places = np.pi * (np.arange(n) + 0.5) / n
        transforms = np.cos(np.arange(1, degrees + 1)[:, np.newaxis] * places) @ parts
    else:  # the same but for rounding, by a fast Fourier transform in memory that grows with n
        transforms = dct(parts, axis=0)[1 : degrees + 1] / 2.0
    return transforms.T @ transforms / degrees * (2.0 / n), degrees


def alpha_and_beta(returns: FloatArray, benchmark: FloatArray) -> tuple[float, float]:
    """Intercept and slope of the regression of returns on those of the benchmark.

    Args:
        returns: (n,), less the risk-free rate.
        benchmark: (n,), likewise.

    Returns:
        Alpha per return, and beta, which is 0 where the benchmark stands still.
    """
    around = benchmark - benchmark.mean()
    spread = float(around @ around)
    moves = spread > NO_RESIDUAL * float(benchmark @ benchmark)
    beta = float(around @ returns) / spread if moves else 0.0
    return float(returns.mean() - beta * benchmark.mean()), beta


def family_wise(statistic: float | None, maxima: npt.ArrayLike) -> float | None:
    """Probability that the largest statistic of all sets is as large without any alpha.

    Args:
        statistic: the statistic of one set; None where it has none.
        maxima: (n_draws,), largest draws over all sets.

    Returns:
        At least 1 / (n_draws + 1); None without a statistic or draws.
    """
    draws = np.asarray(maxima, np.float64)
    if statistic is None or not len(draws):
        return None
    return (1 + int((draws >= statistic).sum())) / (len(draws) + 1)


def combined(p_values: Sequence[float]) -> float:
    """One p-value of several independent ones (Fisher 1925).

    >>> round(combined([0.05, 0.3]), 4)
    0.078

    Args:
        p_values: one or more, each above 0.
    """
    if len(p_values) == 1:
        return p_values[0]
    return float(chdtrc(2 * len(p_values), -2.0 * sum(map(math.log, p_values))))


def corrected_for_looks(p: float, n_looks: int) -> float:
    """The p-value of a holdout that was looked at several times (Šidák 1967).

    The chance that the best of so many independent looks is as good without any alpha.

    >>> round(corrected_for_looks(0.03, 3), 4)
    0.0873

    Args:
        p: that of one look.
        n_looks: 1 or more.
    """
    return p if n_looks == 1 or p >= 1.0 else -math.expm1(n_looks * math.log1p(-p))


def level_of_each(n: float) -> float:
    """What each of several independent tests may err by, so that ``LEVEL`` holds for all together.

    Args:
        n: 1 or more.
    """
    return -math.expm1(math.log1p(-LEVEL) / n)


def critical_value(maxima: npt.ArrayLike) -> float:
    """The statistic that luck alone reaches with probability ``LEVEL``.

    Args:
        maxima: (n_draws,), largest draws over all sets.
    """
    return float(np.quantile(np.asarray(maxima, np.float64), 1.0 - LEVEL))


def critical_value_of(n_sets: float) -> float:
    """The same before the search, for sets that have nothing in common: at most this.

    >>> round(critical_value_of(1), 2), round(critical_value_of(1000), 2)
    (1.64, 3.88)

    Args:
        n_sets: 1 or more.
    """
    return float(-ndtri(level_of_each(n_sets)))


def holdout_critical_value(n_returns: int, n_looks: int = 1) -> float:
    """The statistic that luck alone reaches over the holdout with probability ``LEVEL``.

    Args:
        n_returns: number of returns of the holdout, ``FEWEST_RETURNS`` or more.
        n_looks: looks at the holdout.
    """
    return float(stdtrit(int(0.4 * n_returns ** (2.0 / 3.0)), 1.0 - level_of_each(n_looks)))


def detectable_ratio(critical: float, years: float) -> float:
    """Least yearly Sharpe ratio of alpha that is found with probability ``POWER``.

    >>> round(detectable_ratio(1.645, 1.6), 2)
    1.97

    Args:
        critical: the statistic from which it counts as found.
        years: length of the bars.

    Returns:
        Annualized.
    """
    return (critical + float(ndtri(POWER))) / math.sqrt(years)
