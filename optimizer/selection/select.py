"""Judge a study that has run: its best sets, its winner, its search as a whole."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from optimizer.selection.benchmark import save_benchmark
from optimizer.selection.blocks import judge_over_blocks
from optimizer.selection.bootstrap import (
    BootstrapInterval,
    optimal_block_length,
    stationary_bootstrap,
)
from optimizer.selection.likeness import draw_sample, effective_number, find_neighbours
from optimizer.selection.looks import verdict_look
from optimizer.selection.odds import set_statistics
from optimizer.selection.p_values import holdout_alpha
from optimizer.selection.record import HoldoutAlpha, Selection
from optimizer.selection.regime_value import regime_value
from optimizer.selection.sets import RegimeSource, risk_free_returns, set_returns, tile_of
from optimizer.selection.sharpe import (
    autocorrelation,
    minimum_backtest_length,
    sharpe_influence,
)
from optimizer.selection.survivors import contending_sets
from optimizer.selection.tried import Tried, known_draws, search_of
from optimizer.store.folder import StudyFolder
from optimizer.store.query import best_sets
from optimizer.study_file.space import Space
from optimizer.study_file.study import Study
from optimizer.sweep.buy_and_hold import benchmark_returns, held_metrics, lowest_costs
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.max_test import excess_returns
from optimizer.types import FloatArray

JUDGED = 10
"""Best sets that get statistics of their own."""

RESAMPLES, FEWEST_RESAMPLES = 1000, 200
"""Resamples of the bootstrap, and of that of the longest series."""

RESAMPLED = 1_000_000_000
"""Returns that the bootstrap draws, unless ``FEWEST_RESAMPLES`` have more: about a minute."""

CORRECTION_ERROR = 0.75
"""Standard error of the correction for the choice, as a part of its size: on simulated searches with one
good set or many, alike or not, intervals of 95% then hold the true ratio in 96% or more."""

NORMAL_97_5 = 1.959964
"""The 97.5% quantile of a standard normal number."""


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
    numbers, sharpes = folder.column("set"), folder.column("sharpe")
    sharpes = sharpes[np.isfinite(sharpes)]
    n_tried = folder.n_distinct()
    # The verdict's look at the holdout, at the winner alone; the other sets stay sealed.
    best = best.join(folder.holdout([int(best["set"].iloc[0])]), on="set")
    rows = [best.iloc[[place]] for place in range(len(best))]
    sample = draw_sample(
        study.seed, space, inputs, folder, numbers, int(best["set"].iloc[0]), regimes
    )
    n_effective, share = effective_number(sample, n_tried)
    n_inside = rules.n_returns(inputs.first, inputs.split)
    selection = Selection(
        n_tried=n_tried,
        n_effective=n_effective,
        independent_share=share,
        sharpe_deviation=float(sharpes.std(ddof=1)) if len(sharpes) > 1 else 0.0,
        n_returns=n_inside,
        n_holdout_returns=rules.n_returns(inputs.split, inputs.bars.n_bars),
        returns_per_year=rules.returns_per_year,
        sets=(),
        search=search_of(study, inputs, n_tried),
        look=verdict_look(folder.manifest(), best.iloc[0].to_dict()),
        maxima=tuple(known_draws(folder.maxima()).tolist()),
    )
    alone = Tried.alone(selection)
    returns = set_returns(space, inputs, rows[0], regimes)
    rates = risk_free_returns(inputs)

    def lagged(place: int) -> float | None:
        # One set's returns at a time: there may be millions of bars.
        own = returns if place == 0 else set_returns(space, inputs, rows[place], regimes)
        return autocorrelation((own.to_numpy() - rates)[:n_inside])

    sets = tuple(
        set_statistics(selection, row, alone, lagged(place))
        for place, row in enumerate(best.to_dict("records"))
    )
    sharpe = sets[0].sharpe
    if sharpe is not None and sharpe > 0.0:
        years = minimum_backtest_length(selection.n_effective, sharpe)
        selection = replace(selection, minimum_years=years)
    over_blocks = judge_over_blocks(study, space, inputs, folder, numbers, regimes)
    selection = replace(selection, sets=sets, **over_blocks)
    benchmark = study.validation.benchmark
    held = benchmark_returns(inputs, lowest_costs(space, inputs), benchmark)
    save_benchmark(folder, inputs, held)
    (key,) = tile_of(space, rows[0]).regime_keys()[0]
    codes = regimes([key])[key].codes
    return replace(
        selection,
        neighbours=find_neighbours(sample),
        n_contenders=len(contending_sets(folder, selection, study.seed)),
        regime_value=regime_value(inputs, key, codes, inputs.first, inputs.split),
        holdout_regime_value=regime_value(inputs, key, codes, inputs.split, inputs.bars.n_bars),
        held=held_metrics(inputs, held),
        benchmark=benchmark,
        holdout=over_holdout(inputs, returns, held),
        **intervals(study, returns, inputs, selection),
    )


def n_resamples(n_returns: int) -> int:
    """Resamples of the bootstrap of a series: fewer where it has more than a million returns.

    Args:
        n_returns: length of the series.

    Returns:
        ``FEWEST_RESAMPLES`` to ``RESAMPLES``.
    """
    return min(RESAMPLES, max(RESAMPLED // max(n_returns, 1), FEWEST_RESAMPLES))


def over_holdout(
    inputs: Inputs, returns: pd.Series[float], held: FloatArray
) -> HoldoutAlpha | None:
    """What a set earned beyond the benchmark over the holdout.

    Args:
        inputs: the prepared inputs of the study.
        returns: the result of ``closing_returns``.
        held: returns of the benchmark, shape (n_bars from the first decision on,).

    Returns:
        None without a holdout, or where it is too short.
    """
    rules = inputs.rules
    closes = rules.closes(inputs.split, inputs.bars.n_bars)
    if not len(closes):
        return None
    own = (returns.to_numpy() - risk_free_returns(inputs))[-len(closes) :]
    market = excess_returns(inputs, held)[-len(closes) :]
    return holdout_alpha(own, market, rules.returns_per_year)


def intervals(
    study: Study, returns: pd.Series[float], inputs: Inputs, selection: Selection
) -> dict[str, Any]:
    """Bootstrap intervals of a set in-sample and over the holdout, and the ratio to expect.

    Args:
        study: the study, whose seed draws the resamples.
        returns: the result of ``closing_returns``.
        inputs: the prepared inputs of the study.
        selection: what is known of the choice so far.

    Returns:
        Attributes of a ``Selection``.
    """
    values, rates = np.asarray(returns, np.float64), risk_free_returns(inputs)
    yearly = math.sqrt(inputs.rules.returns_per_year)
    n_inside = inputs.rules.n_returns(inputs.first, inputs.split)

    def resampled(part: slice) -> BootstrapInterval:
        own, free = values[part], rates[part]
        length = optimal_block_length(sharpe_influence(own - free)) if len(own) > 1 else 1.0
        return stationary_bootstrap(own, length, n_resamples(len(own)), study.seed, risk_free=free)

    inside = resampled(slice(n_inside))
    low, high = (end * yearly for end in inside.sharpe_interval)
    found: dict[str, Any] = {
        "sharpe_interval": (low, high),
        "drawdown_interval": inside.drawdown_interval,
        **_expectation(study, selection, low, high),
    }
    if len(values) > n_inside:
        ends = resampled(slice(n_inside, None)).sharpe_interval
        found["oos_sharpe_interval"] = (ends[0] * yearly, ends[1] * yearly)
    return found


def _expectation(
    study: Study, selection: Selection, low: float, high: float
) -> dict[str, float | tuple[float, float] | None]:
    """The Sharpe ratio to expect of the winner, whose bootstrap interval is ``low`` to ``high``.

    The correction is an estimate too. It is taken to have a standard error of ``CORRECTION_ERROR``
    times its size, which widens the interval.
    """
    own, expected = selection.sets[0].sharpe, selection.sharpe_to_expect
    if selection.n_tried == 1:
        expected = own
    elif study.search.objective != ("sharpe",) or study.search.direction != ("maximize",):
        expected = (
            None  # the splits choose by the Sharpe ratio, which is not how the winner was chosen
        )
    if expected is None or own is None:
        return {"sharpe_to_expect": None}
    expected = min(expected, own)
    wrong = NORMAL_97_5 * CORRECTION_ERROR * (own - expected)
    ends = expected - math.hypot(own - low, wrong), expected + math.hypot(high - own, wrong)
    return {"sharpe_to_expect": expected, "interval_to_expect": ends}
