"""Try the code of the user's strategies and classifiers before a study starts."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

from kernels import layout
from kernels.codes import LIVE
from optimizer.errors import StrategyError
from optimizer.market.regimes import first_fit, fit_market
from optimizer.strategies.position_values import tried_positions
from optimizer.strategies.regime_values import tried_regimes
from optimizer.strategies.user import UserStrategy
from optimizer.study_file.space import Branch, Space
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.lanes import lane_rows, row_of
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars

TRIED_SIGNALS = 20_000
"""Signals of each strategy that are tried, spread over the bars."""


def try_signals(inputs: Inputs, space: Space) -> None:
    """Refuse a user's strategy that gives an unusable signal at its first parameter set.

    In a sweep such a signal counts as HOLD, so that a rare case does not end a search of hours.

    Args:
        inputs: the prepared inputs of the study.
        space: the parameter space of the study.

    Raises:
        StrategyError: names the place in the user's file, the bar, the symbol and the values.
    """
    for strategy in space.user_strategies:
        branches = [one for one in space.branches if strategy in one.strategy.members]
        # Without a classifier, probabilities are always 0, and others need no answer.
        branch = max(branches, key=lambda one: one.classifier != "none")
        _try_strategy(inputs, branch, strategy)


def try_classifiers(bars: Bars, space: Space) -> None:
    """Refuse a user's classifier whose first fit, or a decision until the next one, is a mistake.

    Args:
        bars: the bars of the study.
        space: the parameter space of the study.

    Raises:
        StrategyError: names the place in the user's file, and the bar of the market.
    """
    for classifier in space.user_classifiers:
        branch = next(one for one in space.branches if one.own_classifier == classifier)
        (key, *_), _ = Tile.of(branch, branch.first_set()).regime_keys()
        name, market, parameters = key
        values = dict(parameters)
        stop = first_fit(bars, market, name, values) + int(values["refit_bars"])
        fit_market(bars.head(min(stop, bars.n_bars)), market, name, values)


def _try_strategy(inputs: Inputs, branch: Branch, strategy: UserStrategy) -> None:
    bars = inputs.bars
    tile = replace(Tile.of(branch, branch.first_set()), strategy=strategy)
    parameters, columns = lane_rows(tile, inputs)
    first = row_of(layout.USER_FEATURE_0)
    read = columns[first : first + len(strategy.features), 0]
    sizing = columns[row_of(layout.VOLATILITY_COLUMN), 0]
    own = row_of(layout.SIGNAL_0)
    n_own = len(strategy.declaration.signal_parameters)
    values = [float(value) for value in parameters[own : own + n_own, 0]]
    kernels = strategy.kernels()
    names = strategy.regime_values
    regimes = tried_regimes(names) if tile.classifier != "none" else [(0.0,) * len(names)]
    made_up = " and ".join(
        [
            *(["regime"] if len(regimes) > 1 else []),
            *(["position"] if strategy.position_values else []),
        ]
    )
    step = max(1, (bars.n_bars - inputs.first) * bars.n_symbols // TRIED_SIGNALS)
    for t in range(inputs.first, bars.n_bars, step):
        for s, symbol in enumerate(bars.symbols):
            if inputs.live[t, s] != LIVE:
                continue
            close = float(bars.close[t, s])
            positions = tried_positions(strategy.position_values, close)
            for regime, position in product(regimes, positions):
                given = (
                    *(float(inputs.features.values[t, s, column]) for column in read),
                    *regime,
                    *position,
                    close,
                    float(inputs.volatilities[t, s, sizing]),
                    float(inputs.inverse_volatilities[t, s, sizing]),
                    *values,
                )
                problem = kernels.problem(given)
                if problem:
                    when = str(bars.timestamps[t])[:16]
                    tried = f", tried with a {made_up} that may not occur there" if made_up else ""
                    raise StrategyError(f"{problem} at {when} of {symbol} (bar {t}){tried}")
