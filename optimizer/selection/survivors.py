"""Lists of sets that inference supports: those with alpha, and those not worse than the winner."""

from __future__ import annotations

import math

import numpy as np

from kernels.inference import count_beyond, raise_maxima
from kernels.metrics import FLAT
from optimizer.selection.p_values import LEVEL
from optimizer.selection.record import Selection
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


def contending_sets(folder: StudyFolder, selection: Selection, seed: int) -> IntArray:
    """The feasible sets of which the bars cannot tell that another one is truly better, to choose from.

    Of each set, whether it may have the highest Sharpe ratio: the best ratio observed less its own is
    compared with the same difference in draws in which all sets are equally good. These are multiplier
    draws of the errors of all sets, from the sums of their returns over blocks, each in units of its own
    deviation. The set that is truly best is excluded with a probability of at most ``LEVEL``, however
    alike the sets are (multiple comparisons with the best, Hsu 1984).

    Args:
        folder: the folder of a study that is complete.
        selection: what the study recorded about its choice; its winner is always among them.
        seed: the seed of the study.

    Returns:
        (n_sets,), their numbers, ascending; the winner's alone with fewer than three blocks.

    Raises:
        StudyError: results cannot be read.
    """
    winner, counts = selection.sets[0].number, np.array(selection.block_returns, np.float64)
    n_blocks = len(counts)
    if n_blocks < 3:
        return np.array([winner])
    numbers = folder.column("set")
    random = np.random.default_rng([seed, _DRAWS])
    multipliers = random.standard_normal((n_blocks, N_DRAWS)).astype(np.float32)
    largest = np.full(N_DRAWS, -np.inf, np.float32)
    best = -np.inf
    for feasible, moments in folder.moments():
        totals, scores = _errors(moments[feasible], counts)
        if len(totals):
            raise_maxima(scores, multipliers, largest)
            best = max(best, float(totals.max()))
    kept = numbers == winner
    first = 0
    for feasible, moments in folder.moments():
        totals, scores = _errors(moments[feasible], counts)
        beyond = np.empty(len(totals), np.int64)
        count_beyond(scores, multipliers, largest, best - totals, beyond)
        kept[first : first + len(feasible)][feasible] |= beyond > LEVEL * N_DRAWS
        first += len(feasible)
    found: IntArray = numbers[kept]
    return found


def _errors(moments: FloatArray, counts: FloatArray) -> tuple[FloatArray, Float32Array]:
    """Sums of returns in standard deviations of each set, and what they deviate from even ones in blocks.

    Args:
        moments: (n_sets, 2, n_blocks), sums of returns and of their squares.
        counts: (n_blocks,), returns of each block.

    Returns:
        (n_sets,) sums over all blocks, which are the Sharpe ratio per return times the number of returns;
        0 for a set that does not vary. (n_sets, n_blocks) errors, which sum to 0 over the blocks.
    """
    n = counts.sum()
    sums, squares = moments.sum(axis=2).T
    spread = squares - sums**2 / n
    varies = spread > FLAT * squares
    scale = np.where(varies, 1.0 / np.sqrt(np.where(varies, spread, 1.0) / (n - 1.0)), 0.0)
    totals: FloatArray = sums * scale
    # Errors sum to 0 over all blocks, so their block sums vary less than those of the returns.
    shrinkage = math.sqrt(1.0 - float((counts**2).sum()) / n**2)
    errors = moments[:, 0] * scale[:, np.newaxis] - totals[:, np.newaxis] * (counts / n)
    return totals, np.ascontiguousarray(errors / shrinkage, np.float32)
