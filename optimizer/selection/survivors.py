"""Lists of sets that inference supports: those with alpha, and those not worse than the winner."""

from __future__ import annotations

import math

import numpy as np

from kernels.inference import raise_maxima
from kernels.metrics import FLAT
from optimizer.errors import StudyError
from optimizer.selection.p_values import LEVEL
from optimizer.selection.tried import Tried
from optimizer.store.folder import StudyFolder
from optimizer.sweep.max_test import N_DRAWS, STEPS
from optimizer.types import Float32Array, FloatArray, IntArray

_DRAWS = 2011
"""Separates the random stream of these draws from others with the study's seed."""


def stepwise_critical_value(maxima: Float32Array, others: Float32Array, level: float) -> float:
    """The statistic above which sets survive a stepwise test (StepM; Romano and Wolf 2005).

    The first step takes the largest draws over all sets. Sets above the value that it gives are rejected
    as luck, that is they survive, and the next step takes the largest draws over those that are left,
    until no more survive. Draws are kept apart between ``STEPS``, not for every set, so a step may leave
    some survivors' draws in, which errs on the safe side.

    Args:
        maxima: those of ``no_draws``, of the sets of a study.
        others: (n_draws,), largest draws over all sets of other studies; empty without.
        level: greatest probability of one false survivor or more, in (0, 1).

    Returns:
        -inf where nothing was tested.
    """
    n_draws = maxima.shape[1]
    allowed = math.floor(level * (n_draws + 1)) - 1
    left, critical = len(maxima), math.inf
    while True:
        draws = maxima[:left].max(axis=0)
        if len(others) == n_draws:
            draws = np.maximum(draws, others)
        now = float(np.sort(draws)[::-1][max(allowed, 0)])
        if allowed < 0 or now >= critical:
            return critical
        critical = now
        left = int(np.searchsorted(STEPS, critical, side="right")) + 1


def surviving_sets(folder: StudyFolder, tried: Tried) -> IntArray:
    """The feasible sets of a study that have alpha, with at most ``LEVEL`` for one false one among them.

    Corrected for everything ever tried on the bars.

    Args:
        folder: the folder of a study that is complete.
        tried: everything tried on its bars.

    Returns:
        (n_survivors,), their numbers, those of the largest statistics first.

    Raises:
        StudyError: results cannot be read.
    """
    if not len(tried.maxima):
        return np.zeros(0, np.int64)
    critical = stepwise_critical_value(folder.maxima(), tried.others, LEVEL)
    frame = folder.results(["set", "feasible", "alpha_t"])
    kept = frame[frame["feasible"] & (frame["alpha_t"] > critical)]
    numbers: IntArray = kept.sort_values("alpha_t", ascending=False, kind="stable")["set"].to_numpy(
        np.int64
    )
    return numbers


def contending_sets(folder: StudyFolder, winner: int, counts: FloatArray, seed: int) -> IntArray:
    """The feasible sets whose Sharpe ratio is not significantly below the winner's, to choose from.

    The difference of the ratios is studentized by the block sums of both sets' returns, each in units of
    its own deviation, and compared with the largest of all such differences over multiplier draws of a
    t distribution (multiple comparisons with the best, Hsu 1984). The best set of all is among these with
    a probability of 1 - ``LEVEL``, so few sets mean a sharp peak or a long history.

    Args:
        folder: the folder of a study that is complete.
        winner: the number of the winner.
        counts: (n_blocks,), returns of each block of ``StudyFolder.moments``.
        seed: the seed of the study.

    Returns:
        (n_sets,), their numbers, ascending, the winner's among them; the winner's alone with fewer than
        three blocks.

    Raises:
        StudyError: results cannot be read, or the study lacks the winner.
    """
    numbers = folder.results(["set"])["set"].to_numpy(np.int64)
    n_blocks = len(counts)
    if n_blocks < 3:
        return np.array([winner])
    own = _own_sums(folder, numbers, winner, counts)
    random = np.random.default_rng([seed, _DRAWS])
    multipliers = random.standard_normal((n_blocks, N_DRAWS)).astype(np.float32)
    spread = np.sqrt(random.chisquare(n_blocks - 1, N_DRAWS) / (n_blocks - 1))
    maxima = np.full(N_DRAWS, -np.inf, np.float32)
    statistics = np.full(len(numbers), np.inf)
    n = counts.sum()
    shrinkage = math.sqrt(1.0 - float((counts**2).sum()) / n**2)
    first = 0
    for feasible, moments in folder.moments():
        differences = own - _in_deviations(moments[feasible], counts)
        total = differences.sum(axis=1)
        residuals = differences - total[:, np.newaxis] * (counts / n)
        error = np.sqrt((residuals**2).sum(axis=1)) / shrinkage
        differs = error > math.sqrt(FLAT) * np.sqrt((own**2).sum())
        scale = np.where(differs, error, 1.0)
        scores = (residuals / (scale * shrinkage)[:, np.newaxis]).astype(np.float32)
        raise_maxima(np.ascontiguousarray(scores[differs]), multipliers, maxima)
        scaled = np.where(differs, total / scale, np.where(total > FLAT * n, np.inf, 0.0))
        statistics[first : first + len(feasible)][feasible] = scaled
        first += len(feasible)
    critical = (
        float(np.quantile(maxima / spread, 1.0 - LEVEL)) if np.isfinite(maxima).all() else 0.0
    )
    found: IntArray = numbers[(statistics <= max(critical, 0.0)) | (numbers == winner)]
    return found


def _own_sums(
    folder: StudyFolder, numbers: IntArray, winner: int, counts: FloatArray
) -> FloatArray:
    """(n_blocks,) block sums of the winner's returns in its standard deviations."""
    place = numbers.tolist().index(winner)
    for feasible, moments in folder.moments():
        if place < len(feasible):
            sums: FloatArray = _in_deviations(moments[place : place + 1], counts)[0]
            return sums
        place -= len(feasible)
    raise StudyError(f"{folder.path}: no parameter set {winner} in this study")


def _in_deviations(moments: FloatArray, counts: FloatArray) -> FloatArray:
    """Block sums of returns in standard deviations of each set; 0 for one that does not vary.

    Args:
        moments: (n_sets, 2, n_blocks), sums of returns and of their squares.
        counts: (n_blocks,), returns of each block.

    Returns:
        (n_sets, n_blocks).
    """
    n = counts.sum()
    totals, squares = moments.sum(axis=2).T
    spread = squares - totals**2 / n
    varies = spread > FLAT * squares
    deviations = np.sqrt(np.where(varies, spread, 1.0) / (n - 1.0))
    scaled: FloatArray = (
        np.where(varies[:, np.newaxis], moments[:, 0], 0.0) / deviations[:, np.newaxis]
    )
    return scaled
