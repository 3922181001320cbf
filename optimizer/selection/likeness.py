"""How alike the sets of a study are: how many independent ones they are worth, which trade alike."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from kernels.metrics import FLAT
from optimizer.selection.record import Neighbours
from optimizer.selection.sets import RegimeSource, tile_of
from optimizer.selection.sharpe import (
    effective_number_of_trials,
    independent_share,
    saturating_number,
)
from optimizer.store.folder import StudyFolder
from optimizer.study_file.space import Space
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs, return_blocks
from optimizer.types import BoolArray, FloatArray, IntArray

SAMPLE = 512
"""Sets drawn to measure how alike all sets are."""

SAMPLE_BLOCKS = 1024
"""Blocks of bars over which likeness is measured."""

ALIKE = (0.5, 0.9)
"""Sets are neighbours if the correlation of their returns is from the first to the second."""

_SAMPLED = 2009
"""Separates the random stream of the draw from others with the study's seed."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Sets that were drawn from those of a study, and its winner.

    Attributes:
        returns: (n_blocks, n_sets), in-sample returns of short blocks of bars, of the sets drawn.
        sharpes: (n_sets,), their Sharpe ratios in-sample, annualized; 0 where undefined.
        feasible: (n_sets,), whether they keep the study's constraints.
        winner: (n_blocks,), the returns of the winner.
    """

    returns: FloatArray
    sharpes: FloatArray
    feasible: BoolArray
    winner: FloatArray


def draw_sample(
    seed: int,
    space: Space,
    inputs: Inputs,
    folder: StudyFolder,
    numbers: IntArray,
    winner: int,
    regimes: RegimeSource,
) -> Sample:
    """Draw some sets of a study and simulate them again.

    Args:
        seed: the seed of the study.
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        folder: the folder of the study.
        numbers: (n_sets,), the numbers of all sets.
        winner: the number of the winner.
        regimes: the regime codes of the study.

    Returns:
        All sets where there are ``SAMPLE`` or fewer, in an order that is drawn too.

    Raises:
        StudyError: results cannot be read.
    """
    # Evenly spaced sets may all have the same value of a swept parameter, so they are drawn.
    random = np.random.default_rng([seed, _SAMPLED])
    drawn = random.permutation(numbers)[:SAMPLE].copy()
    rows = folder.sets(list(dict.fromkeys([*drawn.tolist(), winner])), whole=False)
    parts = [
        part for _, part in rows.groupby(["strategy", "classifier"], sort=False, observed=True)
    ]
    tiles = [tile_of(space, part) for part in parts]
    n_returns = inputs.rules.n_returns(inputs.first, inputs.split)
    shortest = max(1, math.ceil(n_returns / SAMPLE_BLOCKS))
    bounds = return_blocks(inputs.rules, inputs.first, inputs.split, n_returns // shortest, least=1)
    keys = [key for tile in tiles for key in tile.regime_keys()[0]]
    results = evaluate(replace(inputs, bounds=bounds), tiles, regimes(keys))
    returns = np.concatenate([result.moments[:, 0] for result in results])
    place = {number: i for i, number in enumerate(n for part in parts for n in part["set"])}
    order = [place[number] for number in drawn.tolist()]
    inside = rows.set_index("set").loc[drawn]
    sharpes = inside["sharpe"].to_numpy(np.float64)
    return Sample(
        returns=np.ascontiguousarray(returns[order].T),
        sharpes=np.where(np.isfinite(sharpes), sharpes, 0.0),
        feasible=inside["feasible"].to_numpy(np.bool_),
        winner=returns[place[winner]],
    )


def effective_number(sample: Sample, n_tried: int) -> tuple[float, float]:
    """Measure how many independent sets the sets tried are worth.

    It follows from the correlations of a sample's returns over short blocks of bars, and from those of
    either half of it, which show whether more sets are worth more.

    Args:
        sample: sets drawn from those tried.
        n_tried: distinct sets tried.

    Returns:
        The number, and the share of ``independent_share`` for all sets tried.
    """
    n_blocks, n_sets = sample.returns.shape
    if n_blocks < 3:
        return float(n_tried), 1.0
    whole = effective_number_of_trials(returns=sample.returns)
    if n_sets < 4:
        return min(whole, float(n_tried)), 1.0
    middle = n_sets // 2
    halves = (sample.returns[:, :middle], sample.returns[:, middle : 2 * middle])
    half = sum(effective_number_of_trials(returns=one) for one in halves) / 2.0
    share = independent_share(whole, half)
    if n_tried <= n_sets:
        return min(whole, float(n_tried)), share
    found = saturating_number(n_tried, whole, n_sets, share)
    # Of the curve's two parts, what the independent one is at so many sets.
    return found, share * n_sets / n_tried * found / whole


def find_neighbours(sample: Sample) -> Neighbours | None:
    """Find the feasible sets of a sample that trade much like the winner, yet not the same.

    Args:
        sample: sets drawn from those tried, and the winner.

    Returns:
        None if there is none.
    """
    own, own_norm = _centred(sample.winner)
    others, norms = _centred(sample.returns)
    with np.errstate(divide="ignore", invalid="ignore"):
        correlations = own @ others / (own_norm * norms)
    low, high = ALIKE
    near = sample.feasible & (correlations >= low) & (correlations <= high)
    if not near.any():
        return None
    sharpes = sample.sharpes[near]
    return Neighbours(
        n_sets=int(near.sum()),
        n_drawn=len(sample.sharpes),
        correlation=float(np.mean(correlations[near])),
        median=float(np.median(sharpes)),
        worst=float(sharpes.min()),
    )


def _centred(returns: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Deviations from the mean, and their norms; NaN where returns do not vary."""
    centred = returns - returns.mean(axis=0)
    squares = (centred**2).sum(axis=0)
    varies = squares > FLAT * (returns**2).sum(axis=0)
    return centred, np.sqrt(np.where(varies, squares, np.nan))
