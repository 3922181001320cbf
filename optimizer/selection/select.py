"""Judge a study that has run: its best sets, its winner, its search as a whole."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from kernels import layout
from optimizer.selection.benchmark import save_benchmark
from optimizer.selection.blocks import judge_over_blocks
from optimizer.selection.bootstrap import stationary_bootstrap
from optimizer.selection.neighbours import find_neighbours
from optimizer.selection.odds import set_statistics
from optimizer.selection.p_values import holdout_alpha
from optimizer.selection.record import HoldoutAlpha, Selection
from optimizer.selection.regime_value import regime_value
from optimizer.selection.sets import RegimeSource, set_returns, tile_of
from optimizer.selection.sharpe import effective_number_of_trials, minimum_backtest_length
from optimizer.selection.tried import Tried, known_draws, search_of
from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.sweep.buy_and_hold import benchmark_returns, held_metrics, lowest_costs
from optimizer.sweep.evaluate import evaluate
from optimizer.sweep.inputs import Inputs, return_blocks
from optimizer.sweep.max_test import excess_returns
from optimizer.types import FloatArray, IntArray

JUDGED = 10
"""Best sets that get statistics of their own."""

SAMPLE = 512
"""Sets drawn to measure how alike all sets are."""

_SAMPLED = 2009
"""Separates the random stream of that draw from others with the study's seed."""

SAMPLE_BLOCKS = 1024
"""Blocks of bars over which likeness is measured."""

BOOTSTRAP_BLOCK = 20.0
"""Mean length in bars of the bootstrap's blocks."""

RESAMPLES = 1000
"""Resamples of the bootstrap."""


def select(
    study: Study, space: Space, inputs: Inputs, folder: StudyFolder, regimes: RegimeSource
) -> Selection | None:
    """The statistics of a study that has run. Writes the returns of its benchmark into its folder.

    Args:
        study: a study that has run.
        space: the parameter space of the study.
        inputs: the prepared inputs of the study.
        folder: the folder of the study.
        regimes: the regime codes of the study.

    Returns:
        None where no set is feasible.

    Raises:
        StudyError: results cannot be read, or the returns not written.
    """
    best = best_sets(folder, study.search, JUDGED)
    if best.empty:
        return None
    rules = inputs.rules
    yearly = math.sqrt(rules.returns_per_year)
    every = folder.results(["set", "feasible", "sharpe"])
    numbers, sharpes = every["set"].to_numpy(), every["sharpe"].to_numpy()
    sharpes = sharpes[np.isfinite(sharpes)]
    n_tried = folder.n_distinct()
    winner = best.iloc[[0]]
    selection = Selection(
        n_tried=n_tried,
        n_effective=_effective(study, space, inputs, folder, numbers, regimes, n_tried),
        sharpe_deviation=float(sharpes.std(ddof=1)) if len(sharpes) > 1 else 0.0,
        n_returns=rules.n_returns(inputs.first, inputs.split),
        n_holdout_returns=rules.n_returns(inputs.split, inputs.bars.n_bars),
        returns_per_year=rules.returns_per_year,
        sets=(),
        search=search_of(study, inputs, n_tried),
        maxima=tuple(known_draws(folder.maxima()).tolist()),
    )
    alone = Tried.alone(selection)
    sets = tuple(set_statistics(selection, row, alone) for row in best.to_dict("records"))
    sharpe = sets[0].sharpe
    if sharpe is not None and sharpe > 0.0:
        years = minimum_backtest_length(selection.n_effective, sharpe)
        selection = replace(selection, minimum_years=years)
    selection = replace(selection, sets=sets, **judge_over_blocks(study, inputs, folder, every))
    benchmark = study.validation.benchmark
    held = benchmark_returns(inputs, lowest_costs(space, inputs), benchmark)
    save_benchmark(folder, inputs, held)
    returns = set_returns(space, inputs, winner, regimes)
    (key,) = tile_of(space, winner).regime_keys()[0]
    codes = regimes([key])[key]
    return replace(
        selection,
        regime_value=regime_value(inputs, key, codes, inputs.first, inputs.split),
        holdout_regime_value=regime_value(inputs, key, codes, inputs.split, inputs.bars.n_bars),
        neighbours=find_neighbours(space, inputs, winner, regimes),
        held=held_metrics(inputs, held),
        benchmark=benchmark,
        holdout=_over_holdout(inputs, returns, held),
        **_intervals(study.seed, returns, inputs, yearly),
    )


def _over_holdout(
    inputs: Inputs, returns: pd.Series[float], held: FloatArray
) -> HoldoutAlpha | None:
    """What the winner earned beyond the benchmark over the holdout; ``held`` is per bar."""
    rules = inputs.rules
    closes = rules.closes(inputs.split, inputs.bars.n_bars)
    if not len(closes):
        return None
    own = returns.to_numpy()[-len(closes) :] - inputs.rates[closes, layout.RISK_FREE]
    market = excess_returns(inputs, held)[-len(closes) :]
    return holdout_alpha(own, market, rules.returns_per_year)


def _effective(
    study: Study,
    space: Space,
    inputs: Inputs,
    folder: StudyFolder,
    numbers: IntArray,
    regimes: RegimeSource,
    n_tried: int,
) -> float:
    """Number of independent sets that the sets tried are worth.

    It follows from the correlations of a sample's returns over short blocks of bars. The share of
    independent sets falls with their number, so scaling it up gives rather too many than too few.

    Args:
        study: that has run.
        space: of the study.
        inputs: of the study.
        folder: of the study.
        numbers: (n_sets,), numbers of all sets.
        regimes: of the study.
        n_tried: distinct sets tried.
    """
    if len(numbers) > SAMPLE:
        # Evenly spaced sets may all have the same value of a swept parameter, so they are drawn.
        random = np.random.default_rng([study.seed, _SAMPLED])
        numbers = np.sort(random.choice(numbers, SAMPLE, replace=False))
    rows = folder.sets(numbers.tolist())
    tiles = [
        tile_of(space, part)
        for _, part in rows.groupby(["strategy", "classifier"], sort=False, observed=True)
    ]
    n_returns = inputs.rules.n_returns(inputs.first, inputs.split)
    shortest = max(1, math.ceil(n_returns / SAMPLE_BLOCKS))
    bounds = return_blocks(inputs.rules, inputs.first, inputs.split, n_returns // shortest, least=1)
    keys = [key for tile in tiles for key in tile.regime_keys()[0]]
    results = evaluate(replace(inputs, bounds=bounds), tiles, regimes(keys))
    returns = np.concatenate([result.moments[:, 0] for result in results]).T
    if returns.shape[0] < 3:
        return float(n_tried)
    share: float = effective_number_of_trials(returns=returns) / returns.shape[1]
    return max(1.0, min(float(n_tried), share * n_tried))


def _intervals(
    seed: int, returns: pd.Series[float], inputs: Inputs, yearly: float
) -> dict[str, Any]:
    """Bootstrap intervals of the winner in-sample and over the holdout."""
    values = returns.to_numpy()
    n_inside = inputs.rules.n_returns(inputs.first, inputs.split)
    inside = stationary_bootstrap(values[:n_inside], BOOTSTRAP_BLOCK, RESAMPLES, seed)
    found: dict[str, Any] = {
        "sharpe_interval": _scaled(inside.sharpe_interval, yearly),
        "drawdown_interval": inside.drawdown_interval,
    }
    if len(values) > n_inside:
        outside = stationary_bootstrap(values[n_inside:], BOOTSTRAP_BLOCK, RESAMPLES, seed)
        found["oos_sharpe_interval"] = _scaled(outside.sharpe_interval, yearly)
    return found


def _scaled(interval: tuple[float, float], yearly: float) -> tuple[float, float]:
    return interval[0] * yearly, interval[1] * yearly
