"""Neighbours of the winner: the sets one step away from it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from optimizer.catalogue import METRICS
from optimizer.selection.record import Neighbours
from optimizer.selection.sets import RegimeSource, branch_of
from optimizer.study_file.space import Branch, Space
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.tiles import Tile


def find_neighbours(
    space: Space, inputs: Inputs, winner: pd.DataFrame, regimes: RegimeSource
) -> Neighbours | None:
    """Evaluate the sets one step away from the winner in one parameter, feasible or not.

    Args:
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        winner: its row of the study's results.
        regimes: the regime codes of the study.

    Returns:
        None where every neighbour breaks a constraint on parameters, or there is no neighbour.
    """
    branch = branch_of(space, winner)
    own = {name: float(winner[name].iloc[0]) for name in branch.columns}
    near = [
        {**own, name: value} for name in branch.columns for value in _steps(branch, name, own[name])
    ]
    columns = {name: np.array([one[name] for one in near]) for name in branch.columns}
    kept = np.ones(len(near), np.bool_)
    for constraint in branch.constraints:
        kept &= constraint.holds(columns)
    if not kept.any():
        return None
    columns = {name: values[kept] for name, values in columns.items()}
    tile = Tile.of(branch, columns)
    result = evaluate(inputs, [tile], regimes(tile.regime_keys()[0]))[0]
    sharpes = np.nan_to_num(result.in_sample[:, METRICS.index("sharpe")])
    return Neighbours(len(sharpes), float(np.median(sharpes)), float(sharpes.min()))


def _steps(branch: Branch, name: str, value: float) -> list[float]:
    """Values one step away from ``value``; a step of a continuous range is a twentieth of it."""
    for searched in branch.searched:
        if searched.name == name and searched.continuous:
            step = (searched.high - searched.low) / 20.0
            ends = (max(searched.low, value - step), min(searched.high, value + step))
            return [end for end in ends if end != value]
        if searched.name == name:
            values = sorted(float(searched.value(i)) for i in range(searched.n_values))
            break
    else:
        values = list(branch.values(name))
    place = int(np.argmin(np.abs(np.array(values) - value)))
    return [values[i] for i in (place - 1, place + 1) if 0 <= i < len(values)]
