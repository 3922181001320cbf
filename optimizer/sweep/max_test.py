"""What a study's max-test needs: blocks of bars, their multipliers, and the benchmark's returns."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kernels import layout
from kernels.inference import draw_multipliers, raise_maxima, score_sets
from optimizer.sweep.inputs import Inputs
from optimizer.types import Float32Array, FloatArray, IntArray

N_DRAWS = 1000
"""Draws of the largest statistic; a p-value is a share of them."""

STEPS = (2.0, 2.5, 3.0, 3.5, 4.0, 5.0)
"""Statistics between which sets have largest draws of their own, for a stepwise test."""

BLOCKS = 64
"""Blocks of bars over which residuals are summed."""

LEAST_RETURNS = 20
"""Returns of a block: autocorrelation beyond a block is not allowed for."""

FEWEST_BLOCKS = 8
"""With fewer blocks there is no max-test."""


def with_max_test(inputs: Inputs, benchmark: FloatArray) -> Inputs:
    """The inputs of a study whose sets are tested against a benchmark.

    Args:
        inputs: the prepared inputs of the study, without a max-test.
        benchmark: (n_bars from the first decision on,), its returns per bar, fractions.

    Returns:
        The inputs; as they were where there are too few returns for ``FEWEST_BLOCKS`` blocks.
    """
    bounds = alpha_bounds(inputs)
    if not bounds:
        return inputs
    bars = inputs.bars
    multipliers = np.empty((len(bounds) - 1, N_DRAWS), np.float32)
    times = bars.timestamps.astype("datetime64[ns]").astype(np.int64)
    draw_multipliers(times, np.array(bounds), multipliers)
    closes = inputs.rules.closes(inputs.first, bars.n_bars)
    excess = np.zeros(bars.n_bars)
    excess[closes] = excess_returns(inputs, benchmark)
    for array in (excess, multipliers):
        array.flags.writeable = False
    return replace(inputs, benchmark=excess, alpha_bounds=bounds, multipliers=multipliers)


def excess_returns(inputs: Inputs, returns: FloatArray) -> FloatArray:
    """Returns per bar as those of the study's metrics, less the risk-free ones.

    Args:
        inputs: the prepared inputs of the study.
        returns: (n_bars from the first decision on,), fractions per bar.

    Returns:
        (n_returns,), one for each bar that closes a return.
    """
    closes = inputs.rules.closes(inputs.first, inputs.bars.n_bars)
    wealth = np.cumprod(1.0 + returns)[closes - inputs.first]
    before = np.concatenate(([1.0], wealth[:-1]))
    grown = np.where(before > 0.0, wealth / np.where(before > 0.0, before, 1.0) - 1.0, 0.0)
    excess: FloatArray = grown - inputs.rates[closes, layout.RISK_FREE]
    return excess


def alpha_bounds(inputs: Inputs) -> tuple[int, ...]:
    """Bounds of the blocks of a max-test, of nearly equal length, which cover all bars in-sample.

    Args:
        inputs: the prepared inputs of the study.

    Returns:
        Ascending from the first decision to the holdout; empty for too few bars.
    """
    closes = inputs.rules.closes(inputs.first, inputs.split)
    edges = np.concatenate(([inputs.first], closes + 1))
    n_blocks = min(BLOCKS, len(closes) // LEAST_RETURNS)
    if n_blocks < FEWEST_BLOCKS:
        return ()
    return tuple(int(edges[place]) for place in np.arange(n_blocks + 1) * len(closes) // n_blocks)


def compile_max_test(inputs: Inputs) -> None:
    """Compile the kernels of the max-test, see ``optimizer.engine.compile``.

    Args:
        inputs: the prepared inputs of the study.
    """
    n_blocks = len(inputs.multipliers)
    if n_blocks:
        one, maxima = np.zeros(1), no_draws()
        score(inputs, np.zeros((n_blocks, 1)), one, one, one, maxima)
        raise_maxima(np.zeros((1, n_blocks), np.float32), inputs.multipliers, maxima[0])


def no_draws() -> Float32Array:
    """The largest draws before the first set.

    Returns:
        -inf, shape (len(STEPS) + 1, N_DRAWS): of the sets whose statistic is below the first of
        ``STEPS``, of those from there to below the second, and so on.
    """
    return np.full((len(STEPS) + 1, N_DRAWS), -np.inf, np.float32)


def larger_draws(parts: Sequence[Float32Array]) -> Float32Array:
    """The largest draws of several searches together.

    Args:
        parts: (..., n_draws) each; those of another shape than the first that is not empty are left out.

    Returns:
        The larger of each draw; empty where all are.
    """
    found = np.zeros(0, np.float32)
    for part in parts:
        if not found.size:
            found = part
        elif part.shape == found.shape:
            found = np.maximum(found, part)
    return found


def score(
    inputs: Inputs,
    sums: FloatArray,
    totals: FloatArray,
    squares: FloatArray,
    products: FloatArray,
    maxima: Float32Array | None,
) -> FloatArray:
    """Alphas of some parameter sets.

    Args:
        inputs: the prepared inputs of the study.
        sums: (n_blocks, n_sets), excess returns summed over each block of ``Inputs.alpha_bounds``.
        totals, squares, products: (n_sets,), sums in-sample of these returns, of their squares, and of
            their products with the benchmark's.
        maxima: those of ``no_draws``, raised to the draws of these sets; None leaves them out.

    Returns:
        (n_sets, 2): alpha per year and its statistic; NaN where undefined.
    """
    n_sets = sums.shape[1]
    alphas = np.full((n_sets, 2), np.nan)
    if len(inputs.multipliers):
        bounds: IntArray = np.array(inputs.alpha_bounds)
        counts = [inputs.rules.n_returns(*pair) for pair in itertools.pairwise(inputs.alpha_bounds)]
        inside = inputs.benchmark[bounds[0] : bounds[-1]]
        scores = np.empty((n_sets, len(bounds) - 1), np.float32)
        places = np.empty(n_sets, np.int64)
        n_rows = score_sets(
            sums,
            totals,
            squares,
            products,
            np.add.reduceat(inside, bounds[:-1] - bounds[0]),
            float((inside**2).sum()),
            np.array(counts, np.float64),
            alphas,
            scores,
            places,
        )
        if maxima is not None:
            steps = np.searchsorted(STEPS, alphas[places[:n_rows], 1], side="right")
            for step in np.unique(steps):
                raise_maxima(scores[:n_rows][steps == step], inputs.multipliers, maxima[step])
        alphas[:, 0] *= inputs.rules.returns_per_year
    return alphas
