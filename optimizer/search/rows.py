"""Columns of the result files."""

from __future__ import annotations

from typing import Any

import numpy as np

from optimizer.catalogue import METRICS
from optimizer.search.objective import TileScore
from optimizer.store.columns import OUT_OF_SAMPLE
from optimizer.sweep.tiles import Tile, TileResult


def result_columns(
    tile: Tile, result: TileResult, score: TileScore, first_set: int, trial: int
) -> dict[str, Any]:
    """The parameter sets of one tile as ``store.batch_files`` takes them.

    Args:
        tile: the parameter sets.
        result: their metrics.
        score: the score of the tile.
        first_set: number of the first set of the tile in the study.
        trial: number of the tile's trial.

    Returns:
        Each column (n_lanes,); ``strategy`` and ``classifier`` as one name.
    """
    columns: dict[str, Any] = {
        "set": np.arange(first_set, first_set + tile.n_lanes),
        "trial": np.full(tile.n_lanes, trial),
        "strategy": tile.strategy.name,
        "classifier": tile.classifier,
        "feasible": score.feasible,
        "score": score.scores,
        "alpha": result.alphas[:, 0],
        "alpha_t": result.alphas[:, 1],
        **tile.columns,
    }
    for i, (name, out_of_sample) in enumerate(zip(METRICS, OUT_OF_SAMPLE, strict=True)):
        columns[name] = result.in_sample[:, i]
        columns[out_of_sample] = result.out_of_sample[:, i]
    return columns
