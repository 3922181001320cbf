"""One recorded set on its in-sample bars, simulated by the kernels of the sweep as it was or changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from optimizer.review.exported import ExportedSet
from optimizer.review.rerun import refuse_other_files, set_study
from optimizer.selection.odds import none_if_nan
from optimizer.selection.p_values import alpha_and_beta
from optimizer.selection.sets import closing_returns, risk_free_returns
from optimizer.strategies.strategy import Strategy
from optimizer.study_file.space import build_space
from optimizer.study_file.study import Study
from optimizer.sweep.buy_and_hold import benchmark_returns, lowest_costs
from optimizer.sweep.evaluate import Recording, simulate_blocks
from optimizer.sweep.fills_table import fill_table
from optimizer.sweep.inputs import (
    Inputs,
    MarketRegime,
    RegimeCodes,
    RegimeKey,
    fit_key,
    holdout_bar,
    prepare,
)
from optimizer.sweep.lanes import lay_out_blocks
from optimizer.sweep.max_test import excess_returns
from optimizer.sweep.rules import Rules, study_rules
from optimizer.sweep.single_set import metric_values
from optimizer.sweep.tiles import Tile
from optimizer.sweep.trades import round_trips
from optimizer.types import Bars, FloatArray

Fitted = Mapping[RegimeKey, MarketRegime]


@dataclass(frozen=True)
class Figures:
    """What a simulation came to; None where undefined.

    Attributes:
        sharpe: Sharpe ratio, annualized.
        cagr: growth a year, a fraction.
        max_drawdown: greatest fall from a peak, a fraction of it.
        n_trades: trades that were closed.
        alpha: what was earned a year beyond the benchmark, a fraction.
    """

    sharpe: float | None = None
    cagr: float | None = None
    max_drawdown: float | None = None
    n_trades: int | None = None
    alpha: float | None = None

    @classmethod
    def of(cls, metrics: Mapping[str, float], n_trades: int, alpha: float | None) -> Figures:
        """The figures of a simulation whose metrics are known.

        Args:
            metrics: metrics by name.
            n_trades: trades that were closed.
            alpha: what was earned a year beyond the benchmark.
        """
        names = ("sharpe", "cagr", "max_drawdown")
        return cls(
            **{name: none_if_nan(metrics[name]) for name in names}, n_trades=n_trades, alpha=alpha
        )


@dataclass(frozen=True, eq=False)
class Simulated:
    """One simulation in-sample.

    Attributes:
        figures: the figures that a table shows.
        returns: returns as the study takes them, by the time of the bar that closes each.
        excess, market: these returns and those of the benchmark, less the risk-free ones, (n_returns,).
        equity: money at each close from the first decision on.
        fills: the fills, see ``fill_table``; None where they were not kept.
    """

    figures: Figures
    returns: pd.Series[float]
    excess: FloatArray
    market: FloatArray
    equity: pd.Series[float]
    fills: pd.DataFrame | None

    def trades(self, inputs: Inputs) -> pd.DataFrame:
        """The closed trades, see ``round_trips``, with the index of the bar of each entry and exit.

        Args:
            inputs: the inputs of the simulation.

        Returns:
            The columns of ``round_trips``, and ``entered`` and ``left``. Those still open are included,
            with ``end`` open.
        """
        assert self.fills is not None
        times = pd.DatetimeIndex(inputs.bars.timestamps, tz="UTC")
        closes = dict(zip(inputs.bars.symbols, inputs.bars.close[-1].tolist(), strict=True))
        found = round_trips(self.fills, times, closes)
        at = {
            name: times.get_indexer(pd.DatetimeIndex(found[column]))
            for name, column in (("entered", "entry"), ("left", "exit"))
        }
        return found.assign(**at)


class InSample:
    """A set on the in-sample bars of its study.

    The holdout is never simulated. Alpha is always against the study's benchmark as it stands: at the
    set's own costs, on true prices, with all symbols.

    Args:
        study: the study of the one set.
        bars: the bars, those of the holdout included.
        first: bar of the first decision; None takes the longest warm-up of the set.
        holdout: share of the bars that is out-of-sample.
        benchmark: ``universe`` or a symbol.

    Attributes:
        bars, rules, tile: bars, rules and the tile of one lane.
        inputs: the prepared inputs, which end before the holdout.
        models: what the set's regime model says of every bar.

    Raises:
        StudyError: a file of the study says something else than it did.
        DataError: the bars cannot be used.
        StrategyError: the user's strategy cannot be used.
    """

    def __init__(
        self, study: Study, bars: Bars, first: int | None, holdout: float, benchmark: str
    ) -> None:
        self.bars = bars
        self._space = build_space(study)
        self.rules: Rules = study_rules(study, self._space, bars)
        self._warm_up = first
        whole = prepare(bars, self._space, self.rules, holdout, first, warm_up=first)
        self.split = holdout_bar(bars, self.rules, whole.first, holdout)
        self.inputs = whole.window(whole.first, self.split, self.split)
        (branch,) = self._space.branches
        self.tile = Tile.of(branch, branch.lanes({}))
        self.models = self.fitted(bars)
        held = benchmark_returns(whole, lowest_costs(self._space, whole), benchmark)
        self._market = np.zeros(bars.n_bars)
        self._market[self.rules.closes(whole.first, bars.n_bars)] = excess_returns(whole, held)

    @classmethod
    def of(cls, exported: ExportedSet) -> InSample:
        """A set of an export under its own terms.

        Args:
            exported: the set.

        Raises:
            StudyError: a file of the study says something else than it did.
        """
        terms = exported.terms
        study = set_study(exported.document, terms)
        found = cls(study, exported.bars, terms.first_bar, terms.holdout, terms.benchmark)
        refuse_other_files(study, found.rules, terms)
        return found

    @property
    def strategy(self) -> Strategy:
        """The strategy of the set."""
        return self.tile.strategy

    @property
    def regimes(self) -> RegimeCodes:
        """The regime code of every bar, shape (n_bars,)."""
        return self.models[self.tile.regime_keys()[0][0]].codes

    def fitted(self, bars: Bars) -> Fitted:
        """What the set's regime model says of some bars.

        Args:
            bars: bars of the same calendar and symbols.

        Returns:
            By model.
        """
        wanted = bool(self.strategy.regime_values)
        return {key: fit_key(bars, key, wanted)[0] for key in self.tile.regime_keys()[0]}

    def prepared(self, bars: Bars) -> Inputs:
        """The inputs of other bars of the same calendar and symbols, which end before the holdout.

        Args:
            bars: the bars.
        """
        first = self.inputs.first
        whole = prepare(bars, self._space, self.rules, 0.0, first, warm_up=self._warm_up)
        return whole.window(first, self.split, self.split)

    def run(
        self,
        inputs: Inputs | None = None,
        *,
        tile: Tile | None = None,
        fitted: Fitted | None = None,
        fills: bool = False,
    ) -> Simulated:
        """Simulate the set; what is left out is as the study had it.

        Args:
            inputs: the inputs.
            tile: a tile of one lane.
            fitted: what the regime models say.
            fills: whether to keep the fills.

        Returns:
            Figures, returns and equity.
        """
        inputs, tile = inputs or self.inputs, tile or self.tile
        bars, first = inputs.bars, inputs.first
        recording = Recording.empty(bars.n_bars, bars.n_symbols, fills=fills)
        blocks = lay_out_blocks([tile], inputs, fitted or self.models)
        found = metric_values(simulate_blocks(inputs, blocks, 0, 1, recording).in_sample[0])
        index = pd.DatetimeIndex(bars.timestamps[first:], name="timestamp", tz="UTC")
        equity = pd.Series(recording.equity[first:], index, name="equity")
        returns = closing_returns(inputs, equity)
        excess = returns.to_numpy() - risk_free_returns(inputs)
        market = self._market[inputs.rules.closes(first, bars.n_bars)]
        alpha = yearly_alpha(excess, market, inputs.rules.returns_per_year)
        figures = Figures.of(found, int(found["n_trades"]), alpha)
        table = fill_table(inputs, recording) if fills else None
        return Simulated(figures, returns, excess, market, equity, table)

    def later(self, bars: int) -> Inputs:
        """The inputs with a later first decision.

        Args:
            bars: number of bars by which it is later.
        """
        return self.inputs.window(self.inputs.first + bars, self.split, self.split)

    def with_cash(self, multiple: float) -> Inputs:
        """The inputs with another account to begin with.

        Args:
            multiple: how many times the initial cash of the study.
        """
        cash = self.rules.initial_cash * multiple
        return replace(self.inputs, rules=replace(self.rules, initial_cash=cash))


def yearly_alpha(excess: FloatArray, market: FloatArray, per_year: float) -> float | None:
    """The alpha a year; None for fewer than three returns.

    Args:
        excess, market: returns less the risk-free rate of the set and of the benchmark, (n,).
        per_year: returns of a year.
    """
    return none_if_nan(alpha_and_beta(excess, market)[0] * per_year) if len(excess) > 2 else None
