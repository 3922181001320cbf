"""Stationary bootstrap: intervals of a Sharpe ratio and a drawdown, and the length of its blocks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from optimizer.selection.arguments import as_returns, require
from optimizer.selection.sharpe import deviations, sharpe_of_paths
from optimizer.sweep.drawdown import drawdowns
from optimizer.types import FloatArray, IntArray

_RESAMPLES = 1994
"""Separates the random stream of the resamples from that of bars simulated with the same seed."""

_VALUES_PER_BATCH = 2**20
"""Returns resampled at a time, in one resample at least: 8 MB for each array of them."""

_ARRAYS = 6
"""Arrays of as many values that an interval has at a time."""


@dataclass(frozen=True)
class BootstrapInterval:
    """Percentile intervals of a series of returns.

    Attributes:
        sharpe: Sharpe ratio of the series, per period.
        sharpe_interval: lower and upper end.
        drawdown: deepest fall of compounded returns from their peak, the start included, as a
            fraction of the peak.
        drawdown_interval: lower and upper end.
        confidence: probability between the ends.
    """

    sharpe: float
    sharpe_interval: tuple[float, float]
    drawdown: float
    drawdown_interval: tuple[float, float]
    confidence: float


def stationary_bootstrap(
    returns: npt.ArrayLike,
    block_length: float,
    n_resamples: int,
    seed: int,
    confidence: float = 0.95,
    risk_free: npt.ArrayLike = 0.0,
) -> BootstrapInterval:
    """Intervals of the Sharpe ratio and the drawdown of a series of returns (Politis, Romano 1994).

    Each resample is as long as the series. It is joined from blocks that start anywhere and whose
    length is geometrically distributed with mean ``block_length``; a block that passes the last
    return continues from the first. The ends of an interval are the (1 - confidence) / 2 and
    (1 + confidence) / 2 quantiles over the resamples. How the series was chosen is not taken into
    account: the interval of the best of many sets is too high.

    Args:
        returns: (n_obs,), per period, >= -1.
        block_length: mean length of a block, >= 1.
        n_resamples: >= 1.
        seed: the seed of the resamples. More resamples with the same seed begin with the same ones.
        confidence: probability between the ends, in (0, 1).
        risk_free: what the Sharpe ratio is beyond, per period: (n_obs,), or one number.

    Returns:
        The interval of each statistic.

    Raises:
        ValueError: an argument is out of its range.
    """
    require("confidence", confidence, 0.0 < confidence < 1.0, "in (0, 1)")
    values = as_returns(returns, 1)
    require("returns", values.min(), values.min() >= -1.0, "at least -1")
    excess = values - np.asarray(risk_free, np.float64)
    sharpes, falls = [], []
    for rows in resample_rows(len(values), block_length, n_resamples, seed):
        sharpes.append(_sharpe_of_each(excess[rows]))
        falls.append(_drawdown_of_each(values[rows]))
    ends = ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0)
    low_sharpe, high_sharpe = np.quantile(np.concatenate(sharpes), ends).tolist()
    low_drawdown, high_drawdown = np.quantile(np.concatenate(falls), ends).tolist()
    return BootstrapInterval(
        sharpe=float(_sharpe_of_each(excess[np.newaxis])[0]),
        sharpe_interval=(low_sharpe, high_sharpe),
        drawdown=float(_drawdown_of_each(values[np.newaxis])[0]),
        drawdown_interval=(low_drawdown, high_drawdown),
        confidence=confidence,
    )


def optimal_block_length(values: npt.ArrayLike) -> float:
    """Mean block length for the mean of a series (Politis, White 2004; Patton, Politis, White 2009).

    The length that makes the mean squared error of the bootstrapped variance smallest for long series:
    (G^2 / g^2)^(1/3) n^(1/3), with G the sum of |k| R(k) and g that of R(k) over the autocovariances of
    all lags k, both weighted by a flat-top window. The window ends at twice the lag after which the
    autocorrelations of five lags or more stay below 2 sqrt(log10(n) / n).

    Args:
        values: (n_obs,), such as ``sharpe_influence``.

    Returns:
        At least 1, at most 3 sqrt(n_obs) or n_obs / 3, rounded up; 1 for a series that does not vary.

    Raises:
        ValueError: a value is not finite, or there are fewer than 2.
    """
    centred, square = deviations(as_returns(values, 1))
    n = len(centred)
    if not square:
        return 1.0
    together = max(5, math.ceil(math.sqrt(math.log10(n))))
    longest = min(math.ceil(math.sqrt(n)) + together, n - 1)
    correlations = np.array([centred[lag:] @ centred[: n - lag] for lag in range(longest + 1)])
    correlations /= square
    small = np.abs(correlations[1:]) < 2.0 * math.sqrt(math.log10(n) / n)
    runs = [lag for lag in range(longest - together + 1) if small[lag : lag + together].all()]
    width = min(2 * max(runs[0], 1), longest) if runs else longest
    lags = np.arange(1, width + 1)
    weights = np.minimum(1.0, 2.0 * (1.0 - lags / width)) * correlations[1 : width + 1]
    spectrum = 1.0 + 2.0 * float(weights.sum())
    slope = 2.0 * float(lags @ weights)
    most = math.ceil(min(3.0 * math.sqrt(n), n / 3.0))
    if not spectrum**2 > 0.0:
        return float(most)
    return float(min(max((slope / spectrum) ** 2 * n, 1.0) ** (1.0 / 3.0), most))


def bootstrap_bytes(n_obs: int, n_resamples: int) -> float:
    """The memory that ``stationary_bootstrap`` takes, bytes.

    Args:
        n_obs: length of the series.
        n_resamples: number of resamples.
    """
    return 8.0 * _ARRAYS * min(max(_VALUES_PER_BATCH, n_obs), n_obs * n_resamples)


def _sharpe_of_each(paths: FloatArray) -> FloatArray:
    """Sharpe ratio per bar of each row, (n_resamples, n_obs) returns; 0 if a path does not vary."""
    sharpes = sharpe_of_paths(paths)
    return np.where(np.isnan(sharpes), 0.0, sharpes)


def _drawdown_of_each(paths: FloatArray) -> FloatArray:
    """Deepest drawdown of each row, (n_resamples, n_obs) returns."""
    equity = np.asarray(np.cumprod(1.0 + paths, axis=1), np.float64)
    deepest: FloatArray = drawdowns(equity, 1.0).max(axis=1)
    return deepest


def resample_rows(
    n_obs: int, block_length: float, n_resamples: int, seed: int
) -> Iterator[IntArray]:
    """Row numbers of the stationary bootstrap's resamples.

    Args:
        n_obs: rows of the sample.
        block_length: mean length of a block, >= 1.
        n_resamples: >= 1.
        seed: the seed of the resamples.

    Returns:
        Arrays (n_batch, n_obs), a few resamples at a time; the batches do not change the resamples.

    Raises:
        ValueError: an argument is out of its range.
    """
    require("block_length", block_length, 1.0 <= block_length < np.inf, "at least 1 and finite")
    require("n_resamples", n_resamples, n_resamples >= 1, "at least 1")
    return _rows_in_batches(
        n_obs, block_length, n_resamples, np.random.default_rng([seed, _RESAMPLES])
    )


def _rows_in_batches(
    n_obs: int, block_length: float, n_resamples: int, random: np.random.Generator
) -> Iterator[IntArray]:
    batch = max(1, _VALUES_PER_BATCH // n_obs)
    for first in range(0, n_resamples, batch):
        n_rows = min(batch, n_resamples - first)
        yield np.stack([stationary_rows(n_obs, block_length, random) for _ in range(n_rows)])


def stationary_rows(n_obs: int, block_length: float, random: np.random.Generator) -> IntArray:
    """Row numbers of one resample: blocks that begin anywhere, the first row after the last.

    A block ends after each row with the same probability, so its length is geometric.

    Args:
        n_obs: rows of the sample.
        block_length: mean length of a block, >= 1.
        random: the source of the blocks.

    Returns:
        Shape (n_obs,).
    """
    steps = np.arange(n_obs)
    starts = random.integers(n_obs, size=n_obs)
    begins = random.random(n_obs) < 1.0 / block_length
    # Before the first beginning the block is that of the first place.
    latest = np.maximum.accumulate(np.where(begins, steps, 0))
    return np.asarray((starts[latest] + steps - latest) % n_obs, np.int64)
