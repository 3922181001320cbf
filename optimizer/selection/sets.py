"""Recorded sets as tiles, and their returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd

from kernels import layout
from optimizer.study_file.space import Branch, Space
from optimizer.sweep.inputs import Inputs, MarketRegime, RegimeKey
from optimizer.sweep.single_set import record_equity
from optimizer.sweep.tiles import Tile
from optimizer.types import FloatArray

RegimeSource = Callable[[Iterable[RegimeKey]], Mapping[RegimeKey, MarketRegime]]
"""Gives what the regime models say that it is asked for."""


def tile_of(space: Space, rows: pd.DataFrame) -> Tile:
    """The recorded parameter sets as a tile.

    Args:
        space: the parameter space of the study.
        rows: the rows of the study's results, all with the same strategy and classifier.
    """
    branch = branch_of(space, rows)
    columns = {name: rows[name].to_numpy(np.float64) for name in branch.columns}
    return Tile.of(branch, columns)


def branch_of(space: Space, rows: pd.DataFrame) -> Branch:
    """The branch of the space that recorded sets belong to.

    Args:
        space: the parameter space of the study.
        rows: the rows of the study's results; the first one counts.
    """
    one = rows.iloc[0]
    return space.branches[space.branch_index(one["strategy"], one["classifier"])]


def set_returns(
    space: Space, inputs: Inputs, row: pd.DataFrame, regimes: RegimeSource
) -> pd.Series[float]:
    """Returns of one set from the first decision on, of each bar or each day as the study takes them.

    Args:
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        row: one row of the study's results.
        regimes: the regime codes of the study.

    Returns:
        Indexed by the time of the bar that closes each; 0 where nothing is left to lose.
    """
    tile = tile_of(space, row)
    return closing_returns(inputs, record_equity(inputs, tile, regimes(tile.regime_keys()[0])))


def risk_free_returns(inputs: Inputs) -> FloatArray:
    """What cash earns over each of the ``closing_returns``, shape (n_returns,).

    Args:
        inputs: the prepared inputs of the study.
    """
    rates: FloatArray = inputs.rates[
        inputs.rules.closes(inputs.first, inputs.bars.n_bars), layout.RISK_FREE
    ]
    return rates


def closing_returns(inputs: Inputs, equity: pd.Series[float]) -> pd.Series[float]:
    """Returns of an equity from the first decision on, of each bar or each day as the study takes them.

    Args:
        inputs: the prepared inputs of the study.
        equity: money at each close from the first decision on.

    Returns:
        Indexed by the time of the bar that closes each; 0 where nothing is left to lose.
    """
    equity = equity.iloc[inputs.rules.closes(inputs.first, inputs.bars.n_bars) - inputs.first]
    return returns_between(equity, inputs.rules.initial_cash)


def returns_between(equity: pd.Series[float], initial: float) -> pd.Series[float]:
    """Returns from each value of an equity to the next.

    Args:
        equity: money, in order of time.
        initial: money before the first of them.

    Returns:
        Indexed like ``equity``; 0 where nothing is left to lose.
    """
    before = equity.shift(1, fill_value=initial)
    return (equity / before.where(before > 0.0) - 1.0).fillna(0.0).rename("return")
