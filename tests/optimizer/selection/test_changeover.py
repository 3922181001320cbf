"""One account in which parameter sets follow one another, by hand and against the sets alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.inputs import Inputs, fit_key
from optimizer.sweep.single_set import record_succession, simulate_single, single_set_study
from optimizer.sweep.tiles import Tile
from optimizer.types import Bars
from tests.support.studies import random_bars

COMMISSION = 0.001


def rising(n_bars: int = 60, direction: float = 1.0) -> Bars:
    """One symbol that rises at every bar and opens between two closes."""
    days = np.datetime64("2020-01-01", "ns") + np.arange(n_bars) * np.timedelta64(1, "D")
    close = 50.0 + direction * np.cumsum(0.05 + 0.03 * np.sin(np.arange(n_bars)))
    open_ = close - direction * 0.01
    both = np.stack([open_, close])
    columns = (open_, both.max(axis=0), both.min(axis=0), close, np.full(n_bars, 1e6))
    opens, highs, lows, closes, volume = (np.array(one)[:, np.newaxis] for one in columns)
    return Bars(("A",), days, opens, highs, lows, closes, volume, 252.0, source="rising")


def simulated(bars: Bars, **parameters: Any) -> tuple[Inputs, Tile, BacktestResult]:
    values = {
        "strategy": "momentum",
        "momentum_lookback": 2,
        "rebalance_band": 0.3,
        "volatility_lookback": 5,
        "correlation_penalty": 0.0,
        **parameters,
    }
    costs = {"commission_bps": 1e4 * COMMISSION, "slippage_bps": 0.0}
    return simulate_single(single_set_study(values, costs, False, None, 0.0, sizing="weight"), bars)


def joined(inputs: Inputs, sets: Sequence[tuple[Tile, int]], stop: int) -> pd.Series[float]:
    keys = {key for tile, _ in sets for key in tile.regime_keys()[0]}
    return record_succession(inputs, sets, stop, {k: fit_key(inputs.bars, k)[0] for k in keys})


def by_hand(bars: Bars, weights: Sequence[tuple[float, int]], stop: int) -> list[float]:
    """Whole units at each close, bought or sold at the next open with a commission."""
    cash, units, order = 100_000.0, 0.0, 0.0
    equity = []
    for t in range(weights[0][1], stop):
        price = float(bars.open[t, 0])
        cash -= order * price + abs(order) * price * COMMISSION
        units, order = units + order, 0.0
        close = float(bars.close[t, 0])
        equity.append(cash + units * close)
        weight = [own for own, start in weights if start <= t][-1]
        target = math.floor(weight * equity[-1] / close)
        if abs(target - units) >= 0.3 * target:
            order = target - units
    return equity


def test_the_difference_between_two_sets_pays_its_costs() -> None:
    bars = rising()
    inputs, half, _ = simulated(bars, weight=0.5)
    _, most, _ = simulated(bars, weight=0.9)
    equity = joined(inputs, [(half, 10), (most, 20), (half, 30)], 40)
    expected = by_hand(bars, [(0.5, 10), (0.9, 20), (0.5, 30)], 40)
    np.testing.assert_allclose(equity, expected, rtol=1e-12)
    assert equity.index[0] == pd.Timestamp(bars.timestamps[10], tz="UTC")
    # At both changes the account pays for 40% of its money, and for nothing else.
    free = by_hand_without_costs(bars)
    paid = free - np.array(expected)
    steps = np.flatnonzero(np.diff(paid) > 10.0) + 11
    assert steps.tolist() == [11, 21, 31]
    assert np.diff(paid)[20] == pytest.approx(0.4 * 100_000.0 * COMMISSION, rel=0.1)


def by_hand_without_costs(bars: Bars) -> Any:
    """The same units as ``by_hand`` without commissions: the price moves of what is held."""
    cash, units, order, equity = 100_000.0, 0.0, 0.0, []
    real = by_hand(bars, [(0.5, 10), (0.9, 20), (0.5, 30)], 40)
    for t in range(10, 40):
        cash -= order * float(bars.open[t, 0])
        units, order = units + order, 0.0
        close = float(bars.close[t, 0])
        equity.append(cash + units * close)
        target = math.floor((0.9 if 20 <= t < 30 else 0.5) * real[t - 10] / close)
        if abs(target - units) >= 0.3 * target:
            order = target - units
    return np.array(equity)


def test_a_set_that_wants_nothing_sells_what_it_finds() -> None:
    bars = rising()
    inputs, held, _ = simulated(bars, weight=0.5)
    _, none, _ = simulated(bars, weight=0.0)
    equity = joined(inputs, [(held, 10), (none, 20)], 40)
    np.testing.assert_allclose(equity, by_hand(bars, [(0.5, 10), (0.0, 20)], 40), rtol=1e-12)
    assert equity.iloc[:12].nunique() == 12, "held from the open of bar 11 to that of bar 21"
    assert equity.iloc[11:].nunique() == 1


@settings(max_examples=10, deadline=None)
@given(cuts=st.lists(st.integers(1, 170), max_size=4, unique=True).map(sorted))
def test_a_set_that_follows_itself_changes_nothing(cuts: list[int]) -> None:
    bars = random_bars(200)
    parameters = {"weight": 0.7, "stop_loss": 0.03, "classifier": "none"}
    inputs, tile, alone = simulated(bars, **parameters)
    starts = [inputs.first, *(inputs.first + cut for cut in cuts)]
    equity = joined(inputs, [(tile, start) for start in starts], bars.n_bars)
    pd.testing.assert_series_equal(equity, alone.equity, check_exact=True)


def test_what_comes_later_does_not_change_what_was() -> None:
    bars = random_bars(200)
    inputs, one, _ = simulated(bars, weight=0.3)
    _, other, _ = simulated(bars, weight=0.8)
    early = joined(inputs, [(one, 50)], 100)
    late = joined(inputs, [(one, 50), (other, 100)], 150)
    pd.testing.assert_series_equal(early, late.iloc[:50], check_exact=True)
    assert late.iloc[50] == joined(inputs, [(one, 50)], 101).iloc[50], (
        "the order before still fills"
    )
