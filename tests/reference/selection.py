"""What a study should know of its own choice, from the full series of returns of every set."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from optimizer.search.result import StudyResult
from optimizer.selection.sets import tile_of
from optimizer.study_file.bars import load_study_bars
from optimizer.study_file.space import Space, build_space
from optimizer.sweep.inputs import Inputs, fit_key, prepare
from optimizer.sweep.rules import study_rules
from optimizer.sweep.single_set import record
from optimizer.sweep.tiles import Tile
from optimizer.types import FloatArray
from tests.reference.metrics import returns_of
from tests.reference.overfitting import sharpe_of


def inputs_of(result: StudyResult) -> tuple[Space, Inputs]:
    """Space and inputs of a study that has run."""
    study = result.study
    bars = load_study_bars(study)
    space = build_space(study)
    rules = study_rules(study, space, bars)
    validation = study.validation
    return space, prepare(bars, space, rules, validation.holdout, n_blocks=validation.blocks)


def returns_of_set(inputs: Inputs, tile: Tile) -> FloatArray:
    """Returns per bar of a tile of one set, from the first decision on."""
    codes = {key: fit_key(inputs.bars, key)[0] for key in tile.regime_keys()[0]}
    equity = record(inputs, tile, codes).equity.to_list()
    return np.array(returns_of(equity, inputs.rules.initial_cash))


def returns_of_all(result: StudyResult) -> FloatArray:
    """Returns of every set tried, (n_bars, n_sets), from the first decision to the last bar."""
    space, inputs = inputs_of(result)
    rows = result.results()
    sets = [tile_of(space, rows.iloc[[i]]) for i in range(len(rows))]
    return np.stack([returns_of_set(inputs, tile) for tile in sets], axis=1)


def best_of(returns: FloatArray) -> tuple[float, int]:
    """Highest Sharpe ratio of the columns, and the first column that has it."""
    ratios = [sharpe_of(returns[:, s]) for s in range(returns.shape[1])]
    return max(ratios), ratios.index(max(ratios))


def windows(
    bounds: Sequence[int], n_train: int, anchored: bool, purge: int = 0
) -> list[tuple[int, int, int, int]]:
    """Start and end of training, start of trading and its end, one block traded at a time."""
    return [
        (
            bounds[0] if anchored else bounds[test - purge - n_train],
            bounds[test - purge],
            bounds[test],
            bounds[test + 1],
        )
        for test in range(n_train + purge, len(bounds) - 1)
    ]


def training_blocks(n_blocks: int, tested: Sequence[int], purge: int, embargo: int) -> list[int]:
    """Blocks that are far enough from every tested one: before it, and further after it."""
    return [
        block
        for block in range(n_blocks)
        if all(block < one - purge or block > one + purge + embargo for one in tested)
    ]


def path_sharpes(
    returns: FloatArray, n_blocks: int, n_test: int, embargo_blocks: int, purge_blocks: int = 0
) -> list[float]:
    """Sharpe ratio per bar of each path of CPCV, ascending.

    Args:
        returns: (n_bars, n_sets), of blocks of equal length.
    """
    parts = np.split(returns, n_blocks)
    splits = list(itertools.combinations(range(n_blocks), n_test))
    chosen = []
    for tested in splits:
        train = training_blocks(n_blocks, tested, purge_blocks, embargo_blocks)
        chosen.append(best_of(np.concatenate([parts[block] for block in train]))[1])
    paths = []
    for path in range(math.comb(n_blocks - 1, n_test - 1)):
        joined = []
        for block in range(n_blocks):
            testing = [split for split, tested in enumerate(splits) if block in tested]
            joined.append(parts[block][:, chosen[testing[path]]])
        paths.append(sharpe_of(np.concatenate(joined)))
    return sorted(paths)
