"""Probability of backtest overfitting."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from kernels.metrics import FLAT
from optimizer.catalogue import MAX_BLOCKS
from optimizer.selection.arguments import as_returns, require, require_finite
from optimizer.selection.splits import SplitWinners, choose_and_rank, symmetric_splits
from optimizer.sweep.inputs import block_bounds
from optimizer.types import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class BacktestOverfitting:
    """Outcome of combinatorially symmetric cross-validation.

    The arrays have one entry per split, (n_splits,), in lexicographic order of the blocks that are
    in-sample: for four blocks 01, 02, 03, 12, 13, 23.

    Attributes:
        probability: share of splits in which the set chosen in-sample is in the lower half
            out-of-sample (logit <= 0): PBO.
        logits: ln(w / (1 - w)) of the chosen set's relative rank out-of-sample w = rank / (N + 1).
        winners: the set chosen, by its column.
        in_sample: its Sharpe ratio in-sample, per bar.
        out_of_sample: its Sharpe ratio out-of-sample, per bar.
        degradation_slope: the slope of the regression of ``out_of_sample`` on ``in_sample`` by
            least squares; NaN if the latter does not vary. Below 0: the better in-sample, the worse
            afterwards.
        degradation_intercept: the intercept of the same regression, per bar.
        probability_of_loss: share of splits in which ``out_of_sample`` is negative.
    """

    probability: float
    logits: FloatArray
    winners: IntArray
    in_sample: FloatArray
    out_of_sample: FloatArray
    degradation_slope: float
    degradation_intercept: float
    probability_of_loss: float


def probability_of_backtest_overfitting(
    returns: npt.ArrayLike, n_blocks: int
) -> BacktestOverfitting:
    """How often the best in-sample is below the median out-of-sample (Bailey et al. 2017).

    Combinatorially symmetric cross-validation (CSCV): the bars are cut into ``n_blocks`` blocks of
    equal length; every half of the blocks is in-sample once and the other half out-of-sample. Rows
    that do not divide are dropped from the start. The choice is by Sharpe ratio. Of sets equal
    in-sample the first is chosen; sets equal out-of-sample share the mean of their ranks. A set that
    does not vary in a half counts as a Sharpe ratio of 0 there.

    Args:
        returns: (n_bars, n_sets), returns per bar.
        n_blocks: even, 2 .. 24; 16 gives 12,870 splits.

    Raises:
        ValueError: ``n_blocks`` is odd or out of its range, there are fewer than two sets or two bars
            a half, or a return is not finite.
    """
    return probability_of_backtest_overfitting_from_moments(*block_moments(returns, n_blocks))


def block_moments(returns: npt.ArrayLike, n_blocks: int) -> tuple[IntArray, FloatArray, FloatArray]:
    """Counts, sums and sums of squares per block of equal length.

    Rows that do not divide are dropped from the start, so that the last bars always count.

    Args:
        returns: (n_bars, n_sets), returns per bar.
        n_blocks: 1 .. n_bars.

    Returns:
        (n_blocks,) bars, (n_blocks, n_sets) sums and (n_blocks, n_sets) sums of squares.

    Raises:
        ValueError: there are fewer bars than blocks, or a return is not finite.
    """
    values = as_returns(returns, 2)
    n_bars, n_sets = values.shape
    require("n_blocks", n_blocks, 1 <= n_blocks <= n_bars, f"in 1 .. {n_bars}, the bars")
    bounds = block_bounds(0, n_bars, n_blocks, least=1)
    sums, squares = np.empty((n_blocks, n_sets)), np.empty((n_blocks, n_sets))
    for block, (start, stop) in enumerate(pairwise(bounds)):
        part = values[start:stop]
        sums[block] = part.sum(axis=0)
        squares[block] = np.einsum("ij,ij->j", part, part)
    return np.diff(bounds), sums, squares


def probability_of_backtest_overfitting_from_moments(
    counts: npt.ArrayLike, sums: npt.ArrayLike, squares: npt.ArrayLike
) -> BacktestOverfitting:
    """``probability_of_backtest_overfitting`` from the power sums of blocks of bars.

    The Sharpe ratio over any blocks follows from the sums of their counts, returns and squared
    returns, so no series of returns is needed. A hundred thousand sets and 16 blocks, 2.6e9 Sharpe
    ratios, take some seconds; memory beyond the arguments is O(n_splits).

    Args:
        counts: bars of each block, (n_blocks,), or (n_blocks, n_sets) with equal columns.
        sums: sum of the returns, (n_blocks, n_sets).
        squares: sum of the squared returns, (n_blocks, n_sets).

    Returns:
        The same as ``probability_of_backtest_overfitting``, without the series of returns.

    Raises:
        ValueError: the shapes do not fit, the number of blocks is odd or above 24, there are fewer
            than two sets or two bars in a half, sets have different bars, or a sum is not finite.
    """
    totals = np.ascontiguousarray(sums, np.float64)
    second = np.ascontiguousarray(squares, np.float64)
    bars = np.asarray(counts, np.float64)
    if totals.ndim != 2 or second.shape != totals.shape:
        raise ValueError(
            "sums and squares must have the same shape (n_blocks, n_sets) "
            f"(got {totals.shape} and {second.shape})"
        )
    n_blocks, n_sets = totals.shape
    if bars.shape not in ((n_blocks,), totals.shape):
        raise ValueError(f"counts must be ({n_blocks},) or {totals.shape} (got {bars.shape})")
    even = n_blocks % 2 == 0 and 2 <= n_blocks <= MAX_BLOCKS
    require("n_blocks", n_blocks, even, f"even and in 2 .. {MAX_BLOCKS}")
    require("n_sets", n_sets, n_sets >= 2, "at least 2")
    if bars.ndim == 2:
        if (bars != bars[:, :1]).any():
            block, column = np.argwhere(bars != bars[:, :1])[0]
            raise ValueError(
                f"counts must be the same for all sets: block {block} has {bars[block, 0]:g} bars "
                f"in set 0 (got {bars[block, column]:g} in set {column})"
            )
        bars = bars[:, 0]
    for name, values in (("sums", totals), ("squares", second)):
        require_finite(name, values, ("block", "set"))
    splits = symmetric_splits(n_blocks)
    chosen = choose_and_rank(lambda: [(totals, second)], bars, splits, ~splits & (2**n_blocks - 1))
    return overfitting_of(chosen)


def overfitting_of(chosen: SplitWinners) -> BacktestOverfitting:
    """The probability of backtest overfitting and what goes with it (Bailey et al. 2017).

    Args:
        chosen: the sets chosen on symmetric splits, with their ranks.
    """
    inside, outside = chosen.in_sample, chosen.out_of_sample
    logits = np.log(chosen.ranks / (chosen.n_sets + 1.0 - chosen.ranks))
    centred = inside - inside.mean()
    spread = float(centred @ centred)
    varies = spread > FLAT * float(inside @ inside)
    slope = float(centred @ outside) / spread if varies else np.nan
    return BacktestOverfitting(
        probability=float(np.mean(logits <= 0.0)),
        logits=logits,
        winners=chosen.winners,
        in_sample=inside,
        out_of_sample=outside,
        degradation_slope=slope,
        degradation_intercept=float(outside.mean() - slope * inside.mean()),
        probability_of_loss=float(np.mean(outside < 0.0)),
    )
