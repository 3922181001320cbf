"""Sharpe ratios corrected for length, shape and the number of trials."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr, ndtri

from kernels.metrics import FLAT
from optimizer.selection.arguments import Number, as_returns, require, scalar_or_array
from optimizer.types import FloatArray


def sharpe_of_paths(returns: FloatArray) -> FloatArray:
    """The Sharpe ratio of each row of returns, from the differences to its mean.

    ``sharpe_ratio`` of the kernels starts from power sums, whose rounding would change intervals and
    walk-forwards that studies have on record.

    Args:
        returns: (n_paths, n_bars), per bar; at least 2 bars.

    Returns:
        (n_paths,), per bar, ddof 1; NaN where a row does not vary beyond rounding.
    """
    mean = returns.mean(axis=1)
    spread = ((returns - mean[:, np.newaxis]) ** 2).sum(axis=1)
    varies = spread > FLAT * (returns**2).sum(axis=1)
    deviation = np.sqrt(np.where(varies, spread, np.nan) / (returns.shape[1] - 1))
    return np.asarray(mean / deviation)


def deviations(values: FloatArray) -> tuple[FloatArray, float]:
    """Deviations of a series from its mean.

    Args:
        values: (n_obs,).

    Returns:
        Shape (n_obs,), and the sum of their squares, which is 0 where they do not vary beyond rounding.
    """
    centred = values - values.mean()
    squares = float(centred @ centred)
    return centred, squares if squares > FLAT * float(values @ values) else 0.0


def sharpe_influence(returns: npt.ArrayLike) -> FloatArray:
    """What each return contributes to the error of the Sharpe ratio of a series.

    z - SR (z^2 - 1) / 2 with z the return in standard deviations from the mean. The estimated ratio is
    the true one plus the mean of these, for long series (Lo 2002).

    Args:
        returns: (n_obs,), per period.

    Returns:
        (n_obs,), 0 where the returns do not vary.

    Raises:
        ValueError: a return is not finite, or there are fewer than 2.
    """
    values = as_returns(returns, 1)
    centred, squares = deviations(values)
    if not squares:
        return np.zeros(len(values))
    deviation = np.sqrt(squares / (len(values) - 1))
    scaled = centred / deviation
    return np.asarray(scaled - values.mean() / deviation * (scaled**2 - 1.0) / 2.0)


def autocorrelation(returns: npt.ArrayLike) -> float:
    """The correlation of each return with the one before.

    Args:
        returns: (n_obs,), per period.

    Returns:
        Divided by the sum of squares over all returns, so in (-1, 1); 0 where they do not vary.

    Raises:
        ValueError: a return is not finite, or there are fewer than 2.
    """
    centred, squares = deviations(as_returns(returns, 1))
    return float(centred[1:] @ centred[:-1]) / squares if squares else 0.0


def probabilistic_sharpe_ratio(
    sharpe: Number,
    n_obs: float | FloatArray,
    skew: Number,
    kurtosis: Number,
    benchmark_sharpe: float | FloatArray = 0.0,
    autocorrelation: float = 0.0,
) -> Number:
    """Probability that the true Sharpe ratio is above a benchmark (Bailey, López de Prado 2012).

    PSR(b) = Phi((SR - b) sqrt(n - 1) / sqrt(a - b' skew SR + c (kurtosis - 1) / 4 SR^2)), with Phi the
    standard normal distribution. The square root is the standard error of a Sharpe ratio of returns
    that need not be normal, and whose autocorrelation r falls with the power of the lag: a = (1 + r) /
    (1 - r), c = (1 + r^2) / (1 - r^2), b' = 1 + r / (1 - r) + r^2 / (1 - r^2), all 1 without it (López
    de Prado, Lipton, Zoonekynd 2025).

    Twenty-four months with a monthly Sharpe ratio of 0.458 (section 3 of the paper). With their skew
    and kurtosis it is less certain than with normal returns.

    >>> round(probabilistic_sharpe_ratio(0.458, 24, skew=-2.448, kurtosis=10.164), 3)
    0.913
    >>> round(probabilistic_sharpe_ratio(0.458, 24, skew=0.0, kurtosis=3.0), 3)
    0.982

    Args:
        sharpe: estimated Sharpe ratio, per period.
        n_obs: number of returns, >= 2.
        skew: the skew of the returns.
        kurtosis: Pearson's, of the returns; at least 1 + skew^2, as of any distribution.
        benchmark_sharpe: Sharpe ratio to be beaten, per period.
        autocorrelation: correlation of each return with the one before, in (-1, 1).

    Returns:
        In 0..1, one for each Sharpe ratio given.

    Raises:
        ValueError: ``n_obs`` or ``kurtosis`` is too small, or ``autocorrelation`` out of its range.
    """
    n = np.asarray(n_obs, np.float64)
    require("n_obs", n, n >= 2.0, "at least 2")
    require("autocorrelation", autocorrelation, abs(autocorrelation) < 1.0, "in (-1, 1)")
    error = np.sqrt(_variance_factor(sharpe, skew, kurtosis, autocorrelation) / (n - 1.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        probability: Number = scalar_or_array(ndtr((np.asarray(sharpe) - benchmark_sharpe) / error))
    return probability


def expected_maximum_sharpe(variance_of_sharpes: float, n_trials: float) -> float:
    """Expected highest Sharpe ratio of trials of which none has an edge.

    sqrt(V) ((1 - g) Phi^-1(1 - 1/N) + g Phi^-1(1 - 1/(N e))), g the Euler-Mascheroni constant, for
    independent trials with true Sharpe ratio 0 (Bailey, López de Prado 2014, eq. 1; Bailey et al.
    2014, eq. 4). The approximation is for large N. Close to N = 1 it falls below the expected maximum
    of one trial, which is 0; then 0 is returned.

    >>> round(expected_maximum_sharpe(1.0, 10), 2)
    1.57

    Args:
        variance_of_sharpes: V, the variance of the trials' Sharpe ratios (ddof 1). If these are per
            period, so is the result.
        n_trials: N >= 1, the number of independent trials; it need not be whole.

    Returns:
        In the unit of the trials' Sharpe ratios.

    Raises:
        ValueError: a negative variance, or less than one trial.
    """
    variance, n = float(variance_of_sharpes), float(n_trials)
    require("variance_of_sharpes", variance, not variance < 0.0, "at least 0")
    require("n_trials", n, 1.0 <= n < np.inf, "at least 1 and finite")
    if n == 1.0:
        return 0.0
    # The quantiles are taken in the lower tail, since 1 - 1/N would round for many trials.
    score = -(1.0 - np.euler_gamma) * ndtri(1.0 / n) - np.euler_gamma * ndtri(1.0 / (n * np.e))
    return float(np.sqrt(variance) * max(score, 0.0))


def deflated_sharpe_ratio(
    sharpe: Number,
    n_obs: float | FloatArray,
    skew: Number,
    kurtosis: Number,
    variance_of_sharpes: float,
    n_trials: float,
    autocorrelation: float = 0.0,
) -> Number:
    """The probability that the best of many trials has an edge (Bailey, López de Prado 2014, eq. 2).

    The probabilistic Sharpe ratio against the expected maximum of ``n_trials`` trials without one.

    The paper's example: an annual Sharpe ratio of 2.5 over five years of 250 days, the best of 100
    trials whose annual Sharpe ratios have a variance of 1/2.

    >>> year = 250
    >>> round(deflated_sharpe_ratio(2.5 / year**0.5, 1250, -3.0, 10.0, 0.5 / year, 100), 4)
    0.9004

    Args:
        sharpe: estimated Sharpe ratio of the chosen trial, per period.
        n_obs: number of returns, >= 2.
        skew: the skew of its returns.
        kurtosis: Pearson's, of its returns.
        variance_of_sharpes: the variance of all trials' Sharpe ratios per period (ddof 1).
        n_trials: number of independent trials, >= 1; see ``effective_number_of_trials``.
        autocorrelation: correlation of each return with the one before, in (-1, 1).

    Raises:
        ValueError: an argument is out of its range.
    """
    hurdle = expected_maximum_sharpe(variance_of_sharpes, n_trials)
    return probabilistic_sharpe_ratio(sharpe, n_obs, skew, kurtosis, hurdle, autocorrelation)


def minimum_backtest_length(n_trials: float, target_sharpe: float) -> float:
    """Years below which luck alone is expected to reach a Sharpe ratio (Bailey et al. 2014, eq. 6).

    (E[max_N] / target)^2, where E[max_N] is the expected maximum of N independent standard normal
    variables. Over that many years the best of ``n_trials`` trials without an edge is expected to show
    an annual Sharpe ratio of ``target_sharpe``. A shorter backtest cannot tell that from luck.

    Five years allow 45 trials at an annual Sharpe ratio of 1:

    >>> minimum_backtest_length(45, 1.0) < 5.0 < minimum_backtest_length(46, 1.0)
    True

    Args:
        n_trials: number of independent trials, >= 1.
        target_sharpe: annual Sharpe ratio, > 0.

    Returns:
        Years.

    Raises:
        ValueError: less than one trial, or a target that is not positive.
    """
    require("target_sharpe", target_sharpe, target_sharpe > 0.0, "positive")
    return (expected_maximum_sharpe(1.0, n_trials) / target_sharpe) ** 2


def effective_number_of_trials(
    *, returns: npt.ArrayLike | None = None, correlation: npt.ArrayLike | None = None
) -> float:
    """Number of independent trials that correlated ones are worth (Galwey 2009).

    (sum sqrt(l))^2 / sum l over the eigenvalues l of the correlation matrix, negative ones taken as
    0: N for N uncorrelated trials, 1 for copies of one. Two alternatives, the participation ratio
    (squares for the square roots) and the entropy, give far lower numbers where all trials share one
    factor. The hurdle would be too low, since luck picks the maximum over the other factors.

    Eigenvalues see linear dependence only, and no more trials than returns: from ``returns`` the
    number is at most n_obs - 1. It is that of the sets given. Show it next to the raw number, which
    is the upper bound.

    Two pairs of copies, independent of each other:

    >>> round(effective_number_of_trials(correlation=np.kron(np.eye(2), np.ones((2, 2)))), 6)
    2.0

    Args:
        returns: (n_obs, n_sets), returns of the sets over the same bars. Sets that do not vary are
            left out: one that never trades cannot be chosen by luck.
        correlation: (n_sets, n_sets), in place of returns.

    Returns:
        At least 1, at most the number of sets.

    Raises:
        ValueError: both or none are given, or the matrix is not a correlation matrix.
    """
    if (returns is None) == (correlation is None):
        raise ValueError("give either returns or correlation (got both or none)")
    if returns is not None:
        values = as_returns(returns, 2)
        deviations = values - values.mean(axis=0)
        norms = np.einsum("ij,ij->j", deviations, deviations)
        varies = norms > FLAT * np.einsum("ij,ij->j", values, values)
        if not varies.any():
            return 1.0
        scaled = deviations[:, varies] / np.sqrt(norms[varies])
        # Both products have the same eigenvalues, zeros aside; the smaller one is quicker.
        wide = scaled.shape[1] > scaled.shape[0]
        matrix = scaled @ scaled.T if wide else scaled.T @ scaled
    else:
        matrix = np.asarray(correlation, np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
            raise ValueError(f"correlation must be square (got shape {matrix.shape})")
        if not np.allclose(np.diag(matrix), 1.0) or not np.allclose(matrix, matrix.T):
            raise ValueError("correlation must be symmetric with a diagonal of 1, without NaN")
    eigenvalues = np.linalg.eigvalsh(matrix)
    # Rounding leaves zeros at about 1e-16 of the largest; a square root would turn them into 1e-8.
    eigenvalues = eigenvalues[eigenvalues > eigenvalues[-1] * len(matrix) * np.finfo(float).eps]
    return max(1.0, float(np.sqrt(eigenvalues).sum() ** 2 / eigenvalues.sum()))


def independent_share(sampled: float, half: float) -> float:
    """The part of a sample's trials that more trials of the kind would add to.

    The number of independent trials among n follows 1 / N(n) = a + b / n through those among the sample
    and among half of it. The share is that of b / n in the sample: 1 for independent trials, which go on
    counting in full, 0 where a grid only becomes denser.

    Args:
        sampled: effective number of trials in the sample.
        half: effective number of trials in half of the sample.

    Returns:
        From 0 to 1.
    """
    return min(max(sampled / half - 1.0, 0.0), 1.0)


def saturating_number(n: float, known: float, n_known: float, share: float) -> float:
    """The number of independent trials among ``n``, from those among fewer of the same kind.

    1 / N(n) = ((1 - share) + share n_known / n) / known.

    >>> round(saturating_number(1e6, 256.0, 256.0, 1.0))
    1000000
    >>> round(saturating_number(1e6, 20.0, 256.0, 0.0))
    20

    Args:
        n: number of trials, at least ``n_known``.
        known: effective number of ``n_known`` trials.
        n_known: number of trials.
        share: see ``independent_share``.

    Returns:
        At least ``known`` and 1, at most ``n``.
    """
    return max(1.0, min(known / (1.0 - share + share * n_known / n), n))


def _variance_factor(sharpe: Any, skew: Any, kurtosis: Any, autocorrelation: float) -> FloatArray:
    """Squared standard error of a Sharpe ratio, times n - 1, see ``probabilistic_sharpe_ratio``."""
    ratio, third, fourth = (np.asarray(x, np.float64) for x in (sharpe, skew, kurtosis))
    possible = ~(fourth < (1.0 + third**2) * (1.0 - 1e-9))
    require("kurtosis", fourth, possible, "at least 1 + skew^2 (Pearson's: 3 is normal)")
    once = autocorrelation / (1.0 - autocorrelation)
    twice = autocorrelation**2 / (1.0 - autocorrelation**2)
    # No distribution has a negative one; rounding may give it.
    return np.asarray(
        np.maximum(
            (1.0 + 2.0 * once)
            - (1.0 + once + twice) * third * ratio
            + (1.0 + 2.0 * twice) * (fourth - 1.0) / 4.0 * ratio**2,
            0.0,
        )
    )
