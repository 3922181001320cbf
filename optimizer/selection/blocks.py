"""What follows from the return moments of blocks of bars: overfitting, windows, paths."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from kernels.overfitting import block_sharpe
from optimizer.catalogue import METRICS
from optimizer.errors import StudyError
from optimizer.selection.folds import combinatorial_paths
from optimizer.selection.next_set import next_set
from optimizer.selection.odds import none_if_nan
from optimizer.selection.pbo import overfitting_of
from optimizer.selection.record import Window
from optimizer.selection.sets import RegimeSource, tile_of
from optimizer.selection.splits import Chunks, choose_and_rank, masks_of, symmetric_splits
from optimizer.selection.steering import by_sharpe_alone
from optimizer.selection.walk_forward import (
    next_blocks,
    walk_forward_folds,
    walk_forward_summary,
)
from optimizer.store.columns import KEPT
from optimizer.store.folder import StudyFolder
from optimizer.study_file.search_tables import ValidationTable
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs
from optimizer.types import FloatArray, IntArray

SET_SPLITS = 250_000_000
"""Sharpe ratios of sets over splits that the probability of overfitting may take: about a second."""

FEWEST_SPLITS, MOST_SPLITS = 100, 20_000
"""All splits of 16 blocks are 12,870; 20,000 drawn leave a standard error of 0.004 at most."""


def require_blocks(study: Study, inputs: Inputs) -> None:
    """Refuse, before the search, a validation for which there are too few blocks of bars.

    Args:
        study: the study to be run.
        inputs: the prepared inputs of the study.

    Raises:
        StudyError: a split of ``cpcv`` would leave nothing to train on, or a ``walk_forward`` has no
            window.
    """
    validation, n_blocks = study.validation, len(inputs.bounds) - 1
    bars = f"{inputs.split - inputs.first} in-sample bars make {n_blocks} blocks"
    needed = 2 + validation.purge_blocks
    if validation.method == "walk_forward" and n_blocks < needed:
        raise StudyError(
            f'{study.source}: [validation] method = "walk_forward" needs {needed} blocks: the {bars};'
            " give more bars, or leave method out"
        )
    if validation.method == "cpcv":
        needed = validation.spared_blocks + 1
        if n_blocks < needed:
            raise StudyError(
                f"{study.source}: [validation] test_blocks = {validation.test_blocks} with"
                f" embargo_blocks = {validation.embargo_blocks} and purge_blocks ="
                f" {validation.purge_blocks} needs {needed} blocks: the {bars}; give more bars, or lower"
                " one of them"
            )


def judge_over_blocks(
    study: Study,
    space: Space,
    inputs: Inputs,
    folder: StudyFolder,
    numbers: IntArray,
    regimes: RegimeSource,
) -> dict[str, Any]:
    """Statistics of a study that follow from the return moments of its sets.

    Args:
        study: a study that has run.
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        folder: the folder of the study.
        numbers: (n_sets,), the numbers of all sets.
        regimes: the regime codes of the study.

    Returns:
        Attributes of a ``Selection``; none where there are fewer than two blocks or sets.
    """
    n_returns = inputs.rules.n_returns
    counts = np.array([float(n_returns(*pair)) for pair in itertools.pairwise(inputs.bounds)])
    if len(counts) < 2 or len(numbers) < 2:
        return {}

    def chunks(feasible_alone: bool = False) -> Iterator[tuple[FloatArray, FloatArray]]:
        for feasible, moments in folder.moments():
            kept = moments[feasible] if feasible_alone else moments
            yield np.ascontiguousarray(kept[:, 0].T), np.ascontiguousarray(kept[:, 1].T)

    found: dict[str, Any] = {
        "block_bars": tuple(np.diff(inputs.bounds).tolist()),
        "block_returns": tuple(map(int, counts)),
    }
    n_feasible = int(folder.column("feasible").sum())
    yearly = math.sqrt(inputs.rules.returns_per_year)
    if n_feasible >= 2:
        found |= _overfitting(
            lambda: chunks(feasible_alone=True), counts, n_feasible, study.seed, yearly
        )
    if len(counts) >= 2 + study.validation.purge_blocks:
        windows, latest = _windows(study.validation, inputs, chunks, counts, numbers)
        found |= walk_forward_summary(windows)
        if by_sharpe_alone(study):
            rows = folder.sets([latest.number], whole=False)
            if KEPT in rows.columns and not rows[KEPT].all():
                rows = _simulated(space, inputs, rows, regimes)
            found["next_set"] = next_set(rows, latest.train_start, latest.stop, own_search=False)
    if study.validation.method == "cpcv":
        per_bar = _path_sharpes(study.validation, chunks, counts)
        found["path_sharpes"] = tuple(sorted(sharpe * yearly for sharpe in per_bar))
    return found


def _simulated(
    space: Space, inputs: Inputs, rows: pd.DataFrame, regimes: RegimeSource
) -> pd.DataFrame:
    """A set with its metrics in-sample, which its study has not kept."""
    tile = tile_of(space, rows)
    metrics = evaluate(inputs, [tile], regimes(tile.regime_keys()[0]))[0].in_sample[0]
    return rows.assign(**dict(zip(METRICS, metrics.tolist(), strict=True)))


def _overfitting(
    chunks: Chunks, counts: FloatArray, n_feasible: int, seed: int, yearly: float
) -> dict[str, Any]:
    n_blocks = len(counts)
    most = min(max(SET_SPLITS // n_feasible, FEWEST_SPLITS), MOST_SPLITS)
    splits = symmetric_splits(n_blocks, most, seed)
    overfitting = overfitting_of(
        choose_and_rank(chunks, counts, splits, ~splits & (2**n_blocks - 1))
    )
    return {
        "pbo": overfitting.probability,
        "n_splits": len(splits),
        "logits": tuple(overfitting.logits.tolist()),
        "degradation_slope": none_if_nan(overfitting.degradation_slope),
        "probability_of_loss": overfitting.probability_of_loss,
        "sharpe_to_expect": float(overfitting.out_of_sample.mean()) * yearly,
    }


def _windows(
    validation: ValidationTable,
    inputs: Inputs,
    chunks: Chunks,
    counts: FloatArray,
    numbers: IntArray,
) -> tuple[list[Window], Window]:
    """Windows of the walk-forward with the best set of their training blocks, and the one after them.

    The one after them is trained on the last blocks, and what it trades is not known: its ``stop`` is its
    ``start``, and its figures are those of training.

    Args:
        validation: of the study.
        inputs: of the study.
        chunks: moments of every set.
        counts: (n_blocks,), returns of each block.
        numbers: (n_sets,), number of each set.
    """
    folds = walk_forward_folds(validation, len(counts))
    latest = next_blocks(validation, len(counts))
    bounds = inputs.bounds
    train, test = (
        np.array([int(masks_of(blocks)) for blocks in [*sides, latest]])
        for sides in ([fold.train for fold in folds], [fold.test for fold in folds])
    )
    chosen = choose_and_rank(chunks, counts, train, test, ranked=False)
    yearly = math.sqrt(inputs.rules.returns_per_year)
    edges = [(fold.train[0], fold.train[-1] + 1, fold.test[0], fold.test[-1] + 1) for fold in folds]
    edges.append((latest[0], len(counts), len(counts), len(counts)))
    windows = [
        Window(
            number=int(numbers[place]),
            train_start=bounds[train_start],
            start=bounds[start],
            stop=bounds[stop],
            in_sample=before * yearly,
            out_of_sample=after * yearly,
            purged=bounds[start] - bounds[train_stop],
        )
        for (train_start, train_stop, start, stop), place, before, after in zip(
            edges,
            chosen.winners.tolist(),
            chosen.in_sample.tolist(),
            chosen.out_of_sample.tolist(),
            strict=True,
        )
    ]
    return windows[:-1], windows[-1]


def _path_sharpes(validation: ValidationTable, chunks: Chunks, counts: FloatArray) -> list[float]:
    """Sharpe ratio per return of each path of combinatorial purged cross-validation.

    Each split chooses on the blocks that are neither tested, nor purged, nor in an embargo, and its test
    blocks go to the paths (López de Prado 2018, section 12.4). As masks over all splits at once, not by
    ``combinatorial_purged`` one fold at a time: C(24, 12) splits are 2.7 million.
    """
    n_blocks, n_test = len(counts), validation.test_blocks
    test = masks_of(np.array(list(combinations(range(n_blocks), n_test)), np.int64))
    spared = test.copy()
    purge = validation.purge_blocks
    for distance in range(1, purge + validation.embargo_blocks + 1):
        spared |= test << distance
    for distance in range(1, purge + 1):
        spared |= test >> distance
    train = ~spared & (2**n_blocks - 1)
    winners = choose_and_rank(chunks, counts, train, test, ranked=False).winners
    chosen = _moments_of(chunks, winners)
    splits = combinatorial_paths(n_blocks, n_test)
    blocks = np.arange(n_blocks)
    total = chosen[splits, 0, blocks].sum(axis=1)
    squares = chosen[splits, 1, blocks].sum(axis=1)
    n = float(counts.sum())
    return [block_sharpe(n, float(t), float(q)) for t, q in zip(total, squares, strict=True)]


def _moments_of(chunks: Chunks, places: IntArray) -> FloatArray:
    """(n_places, 2, n_blocks) moments of the sets at ``places``."""
    parts: dict[int, FloatArray] = {}
    first = 0
    wanted = np.unique(places)
    for sums, squares in chunks():
        last = first + sums.shape[1]
        for place in wanted[(wanted >= first) & (wanted < last)]:
            parts[int(place)] = np.stack([sums[:, place - first], squares[:, place - first]])
        first = last
    return np.stack([parts[int(place)] for place in places])
