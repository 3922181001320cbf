"""Walk-forward windows and combinatorial splits over blocks of returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from kernels.overfitting import block_sharpe
from optimizer.selection.folds import combinatorial_paths
from optimizer.selection.odds import none_if_nan
from optimizer.selection.pbo import choose_and_rank, overfitting_of, symmetric_splits
from optimizer.selection.record import Window
from optimizer.selection.sets import Regimes, set_returns
from optimizer.store.folder import StudyFolder
from optimizer.study_file.search_tables import ADAPTIVE, ValidationTable
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.sweep.inputs import Inputs
from optimizer.types import FloatArray, IntArray

SET_SPLITS = 250_000_000
"""Sharpe ratios of sets over splits that the probability of overfitting may take: about a second."""

FEWEST_SPLITS, MOST_SPLITS = 100, 20_000
"""All splits of 16 blocks are 12,870; 20,000 drawn leave a standard error of 0.004 at most."""


def steered(study: Study, space: Space) -> bool:
    """Whether the sets that a study tries depend on the results of earlier ones."""
    return study.search.sampler in ADAPTIVE and space.n_points != 1


def needs_own_searches(study: Study, space: Space) -> bool:
    """Whether a walk-forward needs a search for each window.

    Not where the sets tried depend on no result and the best is that of the highest Sharpe ratio: the
    choice of each window then follows from the moments of blocks. A sampler that goes by the values of
    earlier trials has seen all in-sample bars, and constraints on results, other objectives and values
    of a tile cannot be told from the moments.
    """
    search = study.search
    by_sharpe_alone = (
        search.objective == ("sharpe",)
        and search.direction == ("maximize",)
        and search.tile_value == "best"
        and not any(constraint.on_result for constraint in search.constraints)
    )
    return steered(study, space) or not by_sharpe_alone


def judge_over_blocks(
    study: Study, inputs: Inputs, folder: StudyFolder, every: pd.DataFrame, yearly: float
) -> dict[str, Any]:
    """What follows from the return moments per block of bars."""
    counts = np.diff(inputs.bounds).astype(np.float64)
    n_feasible = int(every["feasible"].sum())
    if len(counts) < 2 or len(every) < 2:
        return {}

    def chunks(feasible_alone: bool = False) -> Iterator[tuple[FloatArray, FloatArray]]:
        for feasible, moments in folder.moments():
            kept = moments[feasible] if feasible_alone else moments
            yield np.ascontiguousarray(kept[:, 0].T), np.ascontiguousarray(kept[:, 1].T)

    n_blocks = len(counts)
    found: dict[str, Any] = {"block_bars": tuple(int(count) for count in counts)}
    if n_feasible >= 2:
        most = min(max(SET_SPLITS // n_feasible, FEWEST_SPLITS), MOST_SPLITS)
        splits = symmetric_splits(n_blocks, most, study.seed)
        overfitting = overfitting_of(
            choose_and_rank(
                lambda: chunks(feasible_alone=True), counts, splits, ~splits & (2**n_blocks - 1)
            )
        )
        found |= {
            "pbo": overfitting.probability,
            "n_splits": len(splits),
            "logits": tuple(overfitting.logits.tolist()),
            "degradation_slope": none_if_nan(overfitting.degradation_slope),
            "probability_of_loss": overfitting.probability_of_loss,
        }
    numbers = every["set"].to_numpy()
    train, test = walk_forward_masks(study.validation, n_blocks)
    chosen = choose_and_rank(chunks, counts, train, test, ranked=False)
    found |= walk_forward_summary(
        [
            Window(
                number=int(numbers[place]),
                train_start=inputs.bounds[_lowest_bit(train_mask)],
                start=inputs.bounds[_lowest_bit(test_mask)],
                stop=inputs.bounds[_lowest_bit(test_mask) + 1],
                in_sample=before * yearly,
                out_of_sample=after * yearly,
            )
            for place, train_mask, test_mask, before, after in zip(
                chosen.winners.tolist(),
                train.tolist(),
                test.tolist(),
                chosen.in_sample.tolist(),
                chosen.out_of_sample.tolist(),
                strict=True,
            )
        ]
    )
    if study.validation.method == "cpcv":
        found["path_sharpes"] = _path_sharpes(study.validation, chunks, counts, yearly)
    return found


def _lowest_bit(mask: int) -> int:
    return (mask & -mask).bit_length() - 1


def walk_forward_masks(validation: ValidationTable, n_blocks: int) -> tuple[IntArray, IntArray]:
    """Training and test blocks of each window of a walk-forward, as bit masks.

    A test is the block after its training blocks. Nothing is purged: a return of a training bar is
    known at its close, where the parameters of the next block are chosen.
    """
    n_train = min(validation.train_blocks or n_blocks // 2, n_blocks - 1)
    tests = range(n_train, n_blocks)
    starts = [0 if validation.anchored else test - n_train for test in tests]
    train = [2**test - 2**start for test, start in zip(tests, starts, strict=True)]
    return np.array(train), np.array([1 << test for test in tests])


def walk_forward_summary(windows: Sequence[Window]) -> dict[str, Any]:
    """The windows of a walk-forward and its efficiency, None where nothing was gained in-sample."""
    before = sum(window.in_sample for window in windows)
    after = sum(window.out_of_sample for window in windows)
    return {
        "windows": tuple(windows),
        "walk_forward_efficiency": after / before if before > 0.0 else None,
    }


def _path_sharpes(
    validation: ValidationTable,
    chunks: Callable[[], Iterable[tuple[FloatArray, FloatArray]]],
    counts: FloatArray,
    yearly: float,
) -> tuple[float, ...]:
    """Annualized Sharpe ratio of each path of combinatorial purged cross-validation.

    Each split chooses on the blocks that are neither tested nor in an embargo, and its test blocks
    go to the paths. (Lopez de Prado 2018, 12.4.)
    """
    n_blocks, n_test = len(counts), validation.test_blocks
    tested = list(combinations(range(n_blocks), n_test))
    test = np.array([sum(1 << block for block in blocks) for blocks in tested])
    spared = test.copy()
    for distance in range(1, validation.embargo_blocks + 1):
        spared |= test << distance
    train = ~spared & (2**n_blocks - 1)
    winners = choose_and_rank(chunks, counts, train, test, ranked=False).winners
    chosen = _moments_of(chunks, winners)
    splits = combinatorial_paths(n_blocks, n_test)
    blocks = np.arange(n_blocks)
    total = chosen[splits, 0, blocks].sum(axis=1)
    squares = chosen[splits, 1, blocks].sum(axis=1)
    n = float(counts.sum())
    sharpes = [block_sharpe(n, float(t), float(q)) for t, q in zip(total, squares, strict=True)]
    return tuple(sorted(sharpe * yearly for sharpe in sharpes))


def _moments_of(
    chunks: Callable[[], Iterable[tuple[FloatArray, FloatArray]]], places: IntArray
) -> FloatArray:
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


def stitched(
    space: Space,
    inputs: Inputs,
    chosen: Sequence[tuple[Window, StudyFolder]],
    regimes: Regimes,
) -> pd.DataFrame:
    """Equity of trading, over each window, the set that was chosen before it.

    Each set is in the position that its own run holds where its window starts; what changing from
    one set's position to the next one's costs is not charged.

    Args:
        space: of the study.
        inputs: of the study.
        chosen: each window and the folder that holds its set.
        regimes: of the study.

    Returns:
        One row a bar: ``timestamp``, ``return``, ``equity`` (money) and ``set``.
    """
    parts = []
    for window, folder in chosen:
        returns = set_returns(space, inputs, folder.sets([window.number]), regimes)
        part = returns.iloc[window.start - inputs.first : window.stop - inputs.first]
        parts.append(part.to_frame().assign(set=window.number))
    frame = pd.concat(parts).reset_index()
    frame.insert(2, "equity", inputs.rules.initial_cash * (1.0 + frame["return"]).cumprod())
    return frame
