"""Stationary bootstrap."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels.metrics import FLAT
from optimizer.selection.arguments import as_returns, require
from optimizer.types import FloatArray, IntArray

_RESAMPLES = 1994
"""Sets the stream of the resamples apart: bars simulated with the same seed must not be tied to it."""

_VALUES_PER_BATCH = 2**22


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
) -> BootstrapInterval:
    """How far Sharpe ratio and drawdown might have come out otherwise (Politis, Romano 1994).

    Resamples of the same length are joined from blocks that start anywhere, are geometrically
    distributed in length with mean ``block_length`` and wrap around from the last return to the
    first. The ends are the (1 - confidence) / 2 and (1 + confidence) / 2 quantiles over the
    resamples. The interval knows nothing of how the series was chosen: that of the best of many sets
    is too high.

    Args:
        returns: (n_obs,), per period, >= -1.
        block_length: mean length of a block, >= 1.
        n_resamples: >= 1.
        seed: of the resamples; a larger ``n_resamples`` with it begins with the same ones.
        confidence: in (0, 1).

    Raises:
        ValueError: an argument is out of its range.
    """
    require("confidence", confidence, 0.0 < confidence < 1.0, "in (0, 1)")
    values = as_returns(returns, 1)
    require("returns", values.min(), values.min() >= -1.0, "at least -1")
    sharpes, drawdowns = [], []
    for rows in resample_rows(len(values), block_length, n_resamples, seed):
        sharpe, drawdown = _sharpe_and_drawdown(values[rows])
        sharpes.append(sharpe)
        drawdowns.append(drawdown)
    ends = ((1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0)
    low_sharpe, high_sharpe = np.quantile(np.concatenate(sharpes), ends).tolist()
    low_drawdown, high_drawdown = np.quantile(np.concatenate(drawdowns), ends).tolist()
    sharpe, drawdown = _sharpe_and_drawdown(values[np.newaxis])
    return BootstrapInterval(
        sharpe=float(sharpe[0]),
        sharpe_interval=(low_sharpe, high_sharpe),
        drawdown=float(drawdown[0]),
        drawdown_interval=(low_drawdown, high_drawdown),
        confidence=confidence,
    )


def _sharpe_and_drawdown(paths: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sharpe ratio (0 if a path does not vary) and deepest drawdown of each row."""
    mean = paths.mean(axis=1)
    spread = ((paths - mean[:, np.newaxis]) ** 2).sum(axis=1)
    varies = spread > FLAT * (paths**2).sum(axis=1)
    deviation = np.sqrt(np.where(varies, spread, 1.0) / (paths.shape[1] - 1))
    equity = np.cumprod(1.0 + paths, axis=1)
    peak = np.maximum(np.maximum.accumulate(equity, axis=1), 1.0)
    return np.where(varies, mean / deviation, 0.0), (1.0 - equity / peak).max(axis=1)


def resample_rows(
    n_obs: int, block_length: float, n_resamples: int, seed: int
) -> Iterator[IntArray]:
    """Rows of the stationary bootstrap, (n_batch, n_obs) at a time; batches do not change them."""
    require("block_length", block_length, 1.0 <= block_length < np.inf, "at least 1 and finite")
    require("n_resamples", n_resamples, n_resamples >= 1, "at least 1")
    return _rows_in_batches(
        n_obs, block_length, n_resamples, np.random.default_rng([seed, _RESAMPLES])
    )


def _rows_in_batches(
    n_obs: int, block_length: float, n_resamples: int, random: np.random.Generator
) -> Iterator[IntArray]:
    steps = np.arange(n_obs)
    batch = max(1, _VALUES_PER_BATCH // n_obs)
    for first in range(0, n_resamples, batch):
        rows = np.empty((min(batch, n_resamples - first), n_obs), np.int64)
        for row in rows:
            starts = random.integers(n_obs, size=n_obs)
            begins = random.random(n_obs) < 1.0 / block_length
            # Without a start yet the block is that of the first place.
            latest = np.maximum.accumulate(np.where(begins, steps, 0))
            row[:] = (starts[latest] + steps - latest) % n_obs
        yield rows
