"""The event flow and the sweep agree bit for bit; containers by hand."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from optimizer.bars.load import load_bars
from optimizer.catalogue import RISK
from optimizer.errors import DataError
from optimizer.flow.containers.data import DataContainer
from optimizer.flow.containers.execution import ExecutionContainer
from optimizer.flow.containers.feature_hub import FeatureHub
from optimizer.flow.containers.portfolio import PortfolioContainer
from optimizer.flow.event_flow import FlowResult
from optimizer.flow.parity import compare
from optimizer.flow.portfolios import portfolio_specs, study_specs
from optimizer.flow.prepared import run_flow
from optimizer.flow.services.risk import RiskConfig, StatelessRiskManager
from optimizer.market import regimes
from optimizer.market.features import compute_correlations, compute_features
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.study_file.load import load_study
from optimizer.study_file.space import build_space
from optimizer.sweep.single_set import backtest, single_set_study
from optimizer.types import Bar, Bars, Order, Regime, Signal

STUDIES = Path(__file__).parents[3] / "studies"


def random_bars(seed: int, n_bars: int, n_symbols: int, jump: float) -> Bars:
    """Random walks with gaps between the bars."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(0.0, 0.01, (n_bars, n_symbols)) + rng.normal(0.0, 0.01, (n_bars, 1))
    close = 50.0 * np.exp(np.cumsum(steps, axis=0))
    before = np.vstack([close[:1], close[:-1]])
    open_ = before * np.exp(rng.normal(0.0, jump, close.shape))
    high = np.maximum(open_, close) * (1.0 + rng.random(close.shape) * 0.02)
    low = np.minimum(open_, close) * (1.0 - rng.random(close.shape) * 0.02)
    times = np.datetime64("2020-01-01", "ns") + np.arange(n_bars) * np.timedelta64(1, "D")
    names = tuple(f"S{k}" for k in range(n_symbols))
    return Bars(names, times, open_, high, low, close, np.ones_like(close), 365.0)


@pytest.fixture(scope="module", autouse=True)
def one_fit_a_window() -> Iterator[None]:
    """The same window is fitted once for all flows and sweeps: nothing in a fit is random."""
    fit, fitted = regimes._fit, {}

    def once(name: str, bar: int, features: Any, returns: Any, values: dict[str, int]) -> Any:
        key = (name, bar, features.tobytes(), returns.tobytes(), *sorted(values.items()))
        if key not in fitted:
            fitted[key] = fit(name, bar, features, returns, values)
        return fitted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regimes, "_fit", once)
        yield


STRATEGY_SETS: list[dict[str, Any]] = [
    {"strategy": "momentum", "momentum_lookback": 7, "momentum_threshold": 0.01},
    {"strategy": "mean_reversion", "mean_reversion_lookback": 5, "mean_reversion_oversold": 40},
    {"strategy": "sma_cross", "sma_cross_fast": 3, "sma_cross_slow": 9},
    {"strategy": "ema_cross", "ema_cross_fast": 3, "ema_cross_slow": 9, "ema_cross_band": 0.005},
    {"strategy": "breakout", "breakout_lookback": 8, "breakout_atr_lookback": 5},
]
COMPARED = {"fills": 0}


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    n_symbols=st.sampled_from([1, 3]),
    chosen=st.sampled_from(STRATEGY_SETS),
    risk=st.fixed_dictionaries(
        {
            "kelly_fraction": st.sampled_from([0.02, 0.3, 5.0]),
            "max_exposure": st.sampled_from([0.5, 1.0, 2.0]),
            "correlation_penalty": st.sampled_from([0.0, 0.7]),
            "rebalance_band": st.sampled_from([0.0, 0.2]),
            "min_order_size": st.sampled_from([1.0, 20.0]),
            "volatility_lookback": st.sampled_from([4, 10]),
        }
    ),
    stops=st.sampled_from(
        [
            {},
            {"stop_loss": 0.02, "take_profit": 0.03},
            {"trailing_stop": 0.03},
        ]
    ),
    refresh=st.sampled_from([1, 3]),
    allow_short=st.booleans(),
    fill=st.sampled_from(["next_open", "close"]),
)
def assert_events_equal_the_sweep(
    seed: int,
    n_symbols: int,
    chosen: dict[str, Any],
    risk: dict[str, Any],
    stops: dict[str, Any],
    refresh: int,
    allow_short: bool,
    fill: str,
) -> None:
    bars = random_bars(seed, 90, n_symbols, 0.02)
    fixed = {"correlation_lookback": 6, "correlation_refresh": refresh}
    if refresh > 1:
        fixed["correlation_exact_symbols"] = 1
    parameters = {**chosen, **risk, **stops, **fixed}
    costs = {"fill": fill, "initial_cash": 20_000.0, "commission_bps": 5.0}
    vectorized = backtest(bars, parameters, costs=costs, allow_short=allow_short, holdout=0.3)
    study = single_set_study(parameters, costs, allow_short, None, 0.3)
    flow = run_flow(study, bars)
    parity = compare(flow, 0, vectorized)
    assert parity.differences == ()
    COMPARED["fills"] += parity.n_fills
    assert_same_metrics(flow, vectorized.in_sample, vectorized.out_of_sample)


def assert_same_metrics(
    flow: FlowResult, in_sample: dict[str, float], out_of_sample: dict[str, float] | None
) -> None:
    assert out_of_sample is not None
    np.testing.assert_array_equal(list(flow.in_sample[0].values()), list(in_sample.values()))
    np.testing.assert_array_equal(
        list(flow.out_of_sample[0].values()), list(out_of_sample.values())
    )


def test_events_equal_the_sweep() -> None:
    assert_events_equal_the_sweep()
    print(f"\n{COMPARED['fills']:,} fills of random studies compared bit for bit")
    assert COMPARED["fills"] > 100


def test_the_24_portfolios_equal_the_sweep() -> None:
    study = load_study(STUDIES / "event_flow.toml")
    bars = load_bars(study.data_path)
    flow = run_flow(study, bars)
    assert len(flow.specs) == 24
    first = bars.n_bars - len(flow.equity)
    n_fills = 0
    for number, spec in enumerate(flow.specs):
        vectorized = backtest(
            bars,
            {
                "strategy": spec.strategy_name,
                "classifier": spec.classifier_name,
                **spec.parameters,
            },
            holdout=study.validation.holdout,
            first_bar=first,
        )
        parity = compare(flow, number, vectorized)
        assert parity.differences == ()
        n_fills += parity.n_fills
    print(f"\n{n_fills:,} fills of 24 portfolios compared bit for bit")
    assert n_fills > 1000


def test_the_best_20_of_the_quickstart_equal_the_sweep(tmp_path: Path) -> None:
    study = load_study(STUDIES / "quickstart.toml").override(trials=4)
    run_study(study, out=tmp_path / "out", workers=1)
    exported = export_sets(tmp_path / "out", top=20)
    n_fills = 0
    for number in range(1, 21):
        replayed = replay(exported, number=number, events=True)
        assert replayed.differences == ()
        assert replayed.parity is not None
        assert replayed.parity.differences == ()
        n_fills += replayed.parity.n_fills
    print(f"\n{n_fills:,} fills of the best 20 sets compared bit for bit")
    assert n_fills > 1000


def test_intraday_bars_equal_the_sweep() -> None:
    study = load_study(STUDIES / "crypto_intraday.toml")
    bars = load_bars(study.data_path, symbols=study.data.symbols, end="2023-01-20")
    parameters: dict[str, Any] = {
        "strategy": "ema_cross",
        "ema_cross_fast": 24,
        "ema_cross_slow": 288,
        "kelly_fraction": 0.02,
        "rebalance_band": 0.5,
        "volatility_lookback": 288,
        "stop_loss": 0.02,
        "take_profit": 0.05,
        "lot_size": 1e-6,
        "min_order_size": 0.001,
    }
    costs = {"commission_bps": 10.0}
    vectorized = backtest(bars, parameters, costs=costs, allow_short=True)
    flow = run_flow(single_set_study(parameters, costs, True, None, 0.0), bars)
    parity = compare(flow, 0, vectorized)
    assert parity.differences == ()
    assert parity.n_fills > 20


def test_a_difference_is_told() -> None:
    bars = random_bars(1, 60, 1, 0.01)
    parameters = STRATEGY_SETS[0]
    flow = run_flow(single_set_study(parameters, {}, False, None, 0.0), bars)
    other = backtest(bars, parameters, costs={"commission_bps": 1.1})
    lines = compare(flow, 0, other).differences
    assert any(line.startswith("equity at ") for line in lines)


def test_each_kind_of_difference_is_told() -> None:
    bars = random_bars(1, 60, 1, 0.01)
    parameters = STRATEGY_SETS[0]
    flow = run_flow(single_set_study(parameters, {}, False, None, 0.0), bars)
    same = backtest(bars, parameters)
    assert compare(flow, 0, same).differences == ()

    def differences(**changed: Any) -> tuple[str, ...]:
        return compare(flow, 0, replace(same, **changed)).differences

    later = same.equity.copy()
    later.index = later.index + pd.Timedelta(1, "h")
    assert differences(equity=later)[0].startswith("bar 20: 2020-01-21 00:00:00+00:00 by events")
    for name, value in (
        ("cost", np.nextafter(same.fills["cost"][3], 1.0)),
        ("price", np.nextafter(same.fills["price"][3], 1.0)),
        ("kind", "ruin"),
        ("symbol", "S1"),
        ("timestamp", same.fills["timestamp"][3] + pd.Timedelta(1, "h")),
    ):
        fills = same.fills.copy()
        fills.loc[3, name] = value
        (line,) = differences(fills=fills)
        assert line.startswith(f"fill {flow.views[0].transactions[3].id}: order of ")
    assert differences(fills=same.fills.iloc[:-1])[0].startswith("fills: ")
    zero = replace(flow, equity=flow.equity * 0.0)
    negative = replace(same, equity=same.equity * -0.0)
    assert any("0.0 by events, -0.0" in line for line in compare(zero, 0, negative).differences)


def test_ids_are_a_function_of_study_bars_and_parameters() -> None:
    study = load_study(STUDIES / "event_flow.toml")
    space = build_space(study)
    other = {spec.id for spec in study_specs(study, space, "other bars")}
    assert other.isdisjoint(spec.id for spec in study_specs(study, space, "data"))
    once = [spec.id for spec in study_specs(study, space, "data")]
    assert once == [spec.id for spec in study_specs(study, space, "data")]
    assert len(set(once)) == 24
    assert len(list(study_specs(study, space, "data", "all"))) == 24 * 18
    assert portfolio_specs.__doc__


class Recorder:
    """A trace in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.bars: list[int] = []

    def add(self, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self.rows.setdefault(table, []).extend(rows)

    def end_bar(self, bar: int) -> None:
        self.bars.append(bar)


def test_a_trace_holds_the_chain_behind_each_fill() -> None:
    bars = random_bars(3, 80, 2, 0.01)
    parameters = {**STRATEGY_SETS[0], "stop_loss": 0.02, "correlation_lookback": 5}
    study = single_set_study(parameters, {}, False, None, 0.0)
    traces = [Recorder(), Recorder()]
    for trace in traces:
        flow = run_flow(study, bars, trace=trace)
    rows = traces[0].rows
    assert traces[0].rows == traces[1].rows
    orders = {row[0]: row for row in rows["orders"]}
    signals = {row[0] for row in rows["signals"]}
    regimes = {row[0] for row in rows["regimes"]}
    assert len(rows["fills"]) == len(flow.views[0].transactions) > 5
    for fill in rows["fills"]:
        if fill[5] == "order":
            order = orders[fill[1]]
            assert order[4] in signals
            assert order[5] in regimes
            assert order[2] == fill[3] - 1  # decided at the close before
            target_value = min(value for value in order[7:10] if value is not None)
            assert np.isfinite(target_value)
    bar_ids = {row[0]: row for row in rows["bars"]}
    assert len(bar_ids) == len(rows["bars"])
    for row in rows["signals"]:
        assert bar_ids[row[8]][1:4:2] == (row[2], row[3])
    for fill in rows["fills"]:
        assert bar_ids[fill[11]][1:4:2] == (fill[3], fill[4])
    stopped = [fill for fill in rows["fills"] if fill[5] == "stop"]
    assert len(stopped) > 1
    for fill in stopped:
        assert fill[1] is None
        opening = orders[fill[12]]
        assert opening[3] == fill[4]
        # Slippage of the default costs, and a gap through the level fills at the open.
        open_ = bar_ids[fill[11]][4]
        slippage = study.costs.slippage_bps / 1e4
        assert fill[7] == pytest.approx(min(fill[13], open_) * (1.0 - slippage), rel=1e-12)
    undecided = [row for row in rows["rejects"] if row[5] != "no_cash_at_fill"]
    assert len(rows["orders"]) + len(undecided) == len(rows["signals"])
    assert len(rows["equity"]) == len(traces[0].bars) == len(flow.equity)
    assert sum(flow.rejects.values()) == len(rows["rejects"])


# A momentum strategy goes short in a steady fall; then the price opens thirty times as high: the
# cover of a single lot of 100 takes more than all the cash.
RUIN: dict[str, Any] = {
    "strategy": "momentum",
    "momentum_lookback": 5,
    "kelly_fraction": 0.1,
    "max_exposure": 2.0,
    "lot_size": 100.0,
    "min_order_size": 1.0,
    "volatility_lookback": 5,
    "correlation_lookback": 5,
}
RUIN_COSTS = {"initial_cash": 10_000.0}


def bars_that_ruin(n_symbols: int = 1) -> Bars:
    close = 50.0 * np.cumprod(np.resize([0.97, 0.99], 40))
    close[20:] *= 30.0
    close = np.repeat(close[:, np.newaxis], n_symbols, axis=1) * (1 + 0.001 * np.arange(n_symbols))
    times = np.datetime64("2020-01-01", "ns") + np.arange(40) * np.timedelta64(1, "D")
    names = tuple("ABC"[:n_symbols])
    return Bars(names, times, close, close, close, close, np.ones_like(close), 252.0)


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize("n_symbols", [1, 2])
@pytest.mark.parametrize("stops", [{}, {"stop_loss": 0.1}])
def test_ruin_is_traced_and_equals_the_sweep(
    fill: str, n_symbols: int, stops: dict[str, float]
) -> None:
    bars = bars_that_ruin(n_symbols)
    costs = {**RUIN_COSTS, "fill": fill}
    trace = Recorder()
    study = single_set_study({**RUIN, **stops}, costs, True, None, 0.0)
    flow = run_flow(study, bars, trace=trace)
    vectorized = backtest(bars, {**RUIN, **stops}, costs=costs, allow_short=True)
    assert compare(flow, 0, vectorized).differences == ()
    written_off = [row for row in trace.rows["fills"] if row[5] == "ruin"]
    assert len(written_off) == (vectorized.fills["kind"] == "ruin").sum() == n_symbols
    orders = {row[0] for row in trace.rows["orders"]}
    for row in written_off:
        assert row[0].endswith(f".0000020.{row[4]}.ruin")
        assert row[3] == 20
        assert row[6] > 0.0  # bought back
        assert row[7] == bars.close[20, bars.symbols.index(row[4])]
        assert row[8:11] == (0.0, 0.0, 0.0)  # no cost, no cash, no position
        assert row[1] is None
        assert row[12] in orders
    assert [f.id for f in flow.views[0].transactions] == [row[0] for row in trace.rows["fills"]]
    view = flow.views[0]
    assert (view.ruined, view.equity, view.realised, view.unrealised) == (True, 0.0, -10_000.0, 0.0)
    unpaid = [row for row in trace.rows["rejects"] if row[5] == "no_cash_at_fill"]
    # Neither is there cash for a single lot when the stop is hit; that leaves a row.
    assert len(unpaid) == (n_symbols if stops else 0) == flow.rejects.get("no_cash_at_fill", 0)
    for row in unpaid:
        assert row[0].endswith(f".0000020.{row[3]}.stop.reject")
        assert (row[2], row[4], row[6]) == (20, None, None)


def test_an_order_that_cash_cuts_to_nothing_leaves_a_row() -> None:
    bars = random_bars(11, 300, 1, 0.06)
    parameters = {
        **STRATEGY_SETS[0],
        "kelly_fraction": 5.0,
        "lot_size": 300.0,
        "max_exposure": 1.0,
        "correlation_lookback": 5,
    }
    trace = Recorder()
    costs = {"initial_cash": 20_000.0}
    flow = run_flow(single_set_study(parameters, costs, False, None, 0.0), bars, trace=trace)
    vectorized = backtest(bars, parameters, costs=costs)
    assert compare(flow, 0, vectorized).differences == ()
    orders = {row[0]: row for row in trace.rows["orders"]}
    filled = {row[1] for row in trace.rows["fills"]}
    waiting = {id for id, row in orders.items() if row[2] == bars.n_bars - 1}
    unpaid = [row for row in trace.rows["rejects"] if row[5] == "no_cash_at_fill"]
    assert len(unpaid) > 1
    assert {row[6] for row in unpaid} == orders.keys() - filled - waiting
    for row in unpaid:
        order = orders[row[6]]
        assert row[0] == f"{order[0]}.reject"
        assert (row[2], row[3], row[4]) == (order[2] + 1, order[3], order[4])
        (cash,) = (e[3] for e in trace.rows["equity"] if e[1] == row[2] - 1)
        assert 0.0 < order[6] / 300.0 * bars.close[order[2], 0] * 300.0 <= cash
        assert bars.open[row[2], 0] * 300.0 > cash
    assert flow.rejects["no_cash_at_fill"] == len(unpaid)


# --- Containers -------------------------------------------------------------------------------


def one_bar(index: int, *closes: float, day: int | None = None) -> Bar:
    time = np.datetime64("2020-01-01", "ns") + np.timedelta64(index if day is None else day, "D")
    price = np.array(closes)
    return Bar(index, time, tuple("ABC"[: len(closes)]), price, price, price, price, price)


def test_data_container_refuses_bars_out_of_order() -> None:
    data = DataContainer(("A",))
    for index in range(2):
        data.update_timeline_position(one_bar(index, 1.0))
        data.cache_bar(one_bar(index, 1.0))
    for wrong in (one_bar(1, 1.0), one_bar(3, 1.0), one_bar(2, 1.0, day=1)):
        with pytest.raises(DataError, match="out of order"):
            data.update_timeline_position(wrong)
    with pytest.raises(DataError, match="timeline is at bar 1"):
        data.cache_bar(one_bar(2, 1.0))
    assert data.latest is not None
    assert data.latest.index == 1
    assert [bar.index for bar in data.last(2)] == [0, 1]
    other = Bar(2, np.datetime64("2020-01-09", "ns"), ("B",), *[np.ones(1)] * 5)
    with pytest.raises(DataError, match="symbols B; expected A"):
        data.update_timeline_position(other)


def test_feature_hub_has_the_bits_of_the_columns() -> None:
    bars = random_bars(5, 70, 3, 0.01)
    keys = [("sma", 5), ("ema", 4), ("rsi", 6), ("momentum", 3), ("volatility", 7), ("atr", 5)]
    columns = compute_features(bars, keys)
    matrices = compute_correlations(bars, 10, 2, 20)
    hub = FeatureHub(bars.symbols, keys, correlation=(10, 2, 20))
    with pytest.raises(DataError, match="no bar yet"):
        hub.get_latest_market_data()
    for t in range(bars.n_bars):
        values = hub.calculate_indicators(bars.at(t))
        assert hub.get_latest_market_data().index == t
        for name, lookback in keys:
            expected = columns.values[t, :, columns.index((name, lookback))]
            np.testing.assert_array_equal(values[f"{name}_{lookback}"], expected)
        matrix = hub.get_correlation_matrix()
        assert matrix is not None
        if t >= 20:
            np.testing.assert_array_equal(matrix, matrices[(t - 20) // 2])


def order(symbol: int, lots: float) -> Order:
    return Order(f"o{symbol}", 0, symbol, lots, 0.0, 0.0, 0.0, 0.0, "s", "r")


def test_execution_and_portfolio_by_hand() -> None:
    # Slippage 1%, commission 2%, lot size 1, 1,000 of cash, prices 10 and 20.
    execution = ExecutionContainer(1.0, 0.01, 0.02)
    portfolio = PortfolioContainer("p", ("A", "B"), 1000.0, 1.0, 1.0, 0.94, False, 252.0)
    prices = np.array([10.0, 20.0])
    first = [order(0, 50.0)]
    execution.submit_orders(first)
    assert execution.active_orders == tuple(first)
    # A lot of A costs 10 * 1.01 * 1.02 = 10.302; 50 cost 515.10.
    for fill in execution.execute_orders(first, 1, prices, portfolio.cash):
        portfolio.process_fill(fill)
    assert execution.active_orders == ()
    assert portfolio.cash == pytest.approx(484.90)
    portfolio.mark(one_bar(1, 11.0, 20.0))
    portfolio.update_variance()
    portfolio.account()
    assert portfolio.equity == pytest.approx(484.90 + 550.0)
    # Sell 20 of A at 12, which brings 20 * 12 * 0.99 * 0.98 = 232.848, before B is bought: a lot of
    # B costs 20 * 1.01 * 1.02 = 20.604, and 717.748 pay 34 of the 40 wanted, 700.536.
    second = [order(1, 40.0), order(0, -20.0)]
    fills = execution.execute_orders(second, 2, np.array([12.0, 20.0]), portfolio.cash)
    assert [(fill.symbol, fill.lots) for fill in fills] == [(0, -20.0), (1, 34.0)]
    for fill in fills:
        portfolio.process_fill(fill)
    assert portfolio.cash == pytest.approx(717.748 - 700.536)
    portfolio.mark(one_bar(2, 12.0, 20.0))
    portfolio.update_variance()
    portfolio.account()
    assert portfolio.equity == pytest.approx(17.212 + 30 * 12 + 34 * 20)
    # The rest of A at 13 brings 30 * 13 * 0.99 * 0.98 = 378.378; the trade made
    # 232.848 + 378.378 - 515.10 = 96.126.
    for fill in execution.execute_orders([order(0, -30.0)], 3, np.array([13.0, 20.0]), 0.0):
        portfolio.process_fill(fill)
    portfolio.mark(one_bar(3, 13.0, 20.0))
    portfolio.update_variance()
    portfolio.account()
    view = portfolio.get_state()
    assert view.realised == pytest.approx(96.126)
    assert view.unrealised == pytest.approx(34 * 20 - 700.536)
    assert view.equity == pytest.approx(17.212 + 378.378 + 680.0)
    assert view.equity == pytest.approx(1000.0 + view.realised + view.unrealised)
    costs = 15.10 + 7.152 + 20.536 + 11.622
    assert view.metrics["costs_paid"] == pytest.approx(costs)
    assert sum(fill.cost for fill in view.transactions) == pytest.approx(costs)
    assert view.metrics["n_trades"] == 1
    assert execution.statistics.submitted == 1
    assert (execution.statistics.filled, execution.statistics.cut) == (4, 1)


# Bars of (price of A, price of B, lots of A to trade, lots of B to trade).
TRADES = st.lists(
    st.tuples(
        *[st.floats(1.0, 100.0)] * 2,
        *[st.integers(-30, 30).map(float)] * 2,
    ),
    min_size=2,
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(trades=TRADES, lot_size=st.sampled_from([0.1, 1.0, 7.0]), allow_short=st.booleans())
def test_profit_and_loss_make_up_equity(
    trades: list[tuple[float, float, float, float]], lot_size: float, allow_short: bool
) -> None:
    """At every bar, through partial sales, turn-arounds, cuts by cash, a new period and ruin."""
    execution = ExecutionContainer(lot_size, 0.003, 0.002)
    initial = 5_000.0
    portfolio = PortfolioContainer(
        "p", ("A", "B"), initial, lot_size, 1.0, 0.94, allow_short, 252.0
    )
    turnover = initial
    for index, (a, b, *wanted) in enumerate(trades):
        bar = one_bar(index, a, b)
        if index == len(trades) // 2:
            before = portfolio.get_state()
            portfolio.start_period()
            after = portfolio.get_state()
            assert (before.realised, before.unrealised) == (after.realised, after.unrealised)
        if not portfolio.ruined:
            held = portfolio.lots
            lots = (
                wanted if allow_short else [max(x, -h) for x, h in zip(wanted, held, strict=True)]
            )
            orders = [order(s, x) for s, x in enumerate(lots) if x != 0.0]
            for fill in execution.execute_orders(orders, index, bar.close, portfolio.cash):
                portfolio.process_fill(fill)
                turnover += abs(fill.lots) * fill.raw_value
        portfolio.mark(bar)
        portfolio.update_variance()
        portfolio.account()
        view = portfolio.get_state()
        total = initial + view.realised + view.unrealised
        assert total == pytest.approx(view.equity, abs=1e-10 * turnover)
        for position in view.positions:
            if position.quantity == 0.0:
                assert (position.unrealised, position.entry) == (0.0, 0.0)


def test_a_partial_sale_realises_its_share() -> None:
    # Without costs: 10 at 100, then 10 at 130, so 115 each; 5 sold at 125 make 50. Then 25 sold at 120
    # close 15 more, 75, and open 10 short at 120; 4 of them bought back at 110 make 40.
    execution = ExecutionContainer(1.0, 0.0, 0.0)
    portfolio = PortfolioContainer("p", ("A",), 10_000.0, 1.0, 1.0, 0.94, True, 252.0)
    expected = [
        (100.0, 10.0, 0.0, 0.0),
        (130.0, 10.0, 0.0, 300.0),
        (125.0, -5.0, 50.0, 150.0),
        (120.0, -25.0, 125.0, 0.0),
        (110.0, 4.0, 165.0, 60.0),
    ]
    for index, (price, lots, realised, unrealised) in enumerate(expected):
        bar = one_bar(index, price)
        for fill in execution.execute_orders([order(0, lots)], index, bar.close, portfolio.cash):
            portfolio.process_fill(fill)
        portfolio.mark(bar)
        portfolio.account()
        view = portfolio.get_state()
        assert (view.realised, view.unrealised) == pytest.approx((realised, unrealised))
        if index == 2:
            portfolio.start_period()
            assert portfolio.get_state().realised == pytest.approx(50.0)


def test_a_stop_leaves_no_entry_and_tells_its_level() -> None:
    execution = ExecutionContainer(1.0, 0.0, 0.0)
    portfolio = PortfolioContainer("p", ("A",), 10_000.0, 1.0, 1.0, 0.94, False, 252.0)
    (bought,) = execution.execute_orders([order(0, 10.0)], 0, np.array([100.0]), portfolio.cash)
    portfolio.process_fill(bought)
    assert portfolio.stop_inputs(0) == (10.0, 100.0, 100.0)
    assert portfolio.opening_order_id(0) == "o0"
    risk = risk_config(stop_loss=0.02, take_profit=0.03)

    def bar_of(open_: float, high: float, low: float) -> Bar:
        o, h, c = (np.array([price]) for price in (open_, high, low))
        return Bar(1, np.datetime64("2020-01-02", "ns"), ("A",), o, h, c, c, c)

    for bar, price, level in (
        (bar_of(99.0, 99.5, 97.0), 98.0, 98.0),
        (bar_of(97.5, 99.5, 97.0), 97.5, 98.0),  # opens beyond
        (bar_of(99.0, 104.0, 97.0), 98.0, 98.0),  # both: the stop
        (bar_of(99.0, 104.0, 99.0), 103.0, 103.0),
        (bar_of(105.0, 106.0, 97.0), 105.0, 103.0),  # opens beyond the target
    ):
        inputs = portfolio.stop_inputs(0)
        assert StatelessRiskManager.stop(inputs, risk, bar, 0) == pytest.approx(price)
        found = StatelessRiskManager.stop_level(inputs, risk, bar, 0, price)
        assert found == pytest.approx(level)
    fill = execution.close_position("s", 1, 0, 10.0, 97.5, 98.0, "o0", portfolio.cash)
    assert fill is not None
    assert (fill.opening_order_id, fill.stop_level, fill.order_id) == ("o0", 98.0, None)
    portfolio.process_fill(fill)
    portfolio.carry_best_prices(bar_of(97.5, 99.5, 97.0), (10.0,))
    assert portfolio.stop_inputs(0) == (0.0, 0.0, 0.0)
    assert portfolio.opening_order_id(0) is None
    assert portfolio.get_state().positions[0].entry == 0.0


def risk_config(**changed: float) -> RiskConfig:
    defaults = {p.name: float(p.default) for p in RISK if p.default is not None}
    return RiskConfig.of({**defaults, **changed}, False)


def test_what_is_handed_out_is_read_only() -> None:
    bars = random_bars(5, 40, 2, 0.01)
    hub = FeatureHub(bars.symbols, [("sma", 5)], [(None, 5)], (5, 1, 10))
    for t in range(20):
        o, h, c = (np.array(column[t]) for column in (bars.open, bars.high, bars.low))
        bar = Bar(t, bars.timestamps[t], bars.symbols, o, h, c, c, np.ones(2))
        values = hub.calculate_indicators(bar)
    matrix = hub.get_correlation_matrix()
    latest = hub.get_latest_market_data()
    assert matrix is not None
    for array in (
        values["sma_5"],
        matrix,
        latest.close,
        latest.volume,
        hub.market_features(None, 5),
        hub.market_returns(None),
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1.0
    with pytest.raises(TypeError):
        values["sma_5"] = np.ones(2)  # type: ignore[index]
    assert isinstance(hash(risk_config()), int)  # nothing mutable in it
    (spec,) = study_specs(
        study := single_set_study(STRATEGY_SETS[0], {}, False, None, 0.0),
        build_space(study),
        "data",
    )
    with pytest.raises(TypeError):
        spec.parameters["kelly_fraction"] = 1.0  # type: ignore[index]


def test_an_order_is_named_by_its_portfolio_bar_and_symbol() -> None:
    portfolio = PortfolioContainer("study.set", ("A",), 10_000.0, 1.0, 1.0, 0.94, False, 252.0)
    portfolio.mark(one_bar(7, 10.0))
    placed = StatelessRiskManager.process_signal_to_order(
        Signal("signal", 0, 1.0, 0.01, 1.0, 0.01, 100.0),
        Regime("regime", 0),
        portfolio.risk_state(),
        risk_config(kelly_fraction=0.01),
        one_bar(7, 10.0),
        None,
    )
    assert placed is not None
    assert placed.id == "study.set.0000007.A.order"
    assert (placed.signal_id, placed.regime_id) == ("signal", "regime")


def test_a_portfolio_shares_nothing() -> None:
    one, two = (
        PortfolioContainer("p", ("A",), 1000.0, 1.0, 1.0, 0.94, False, 252.0) for _ in range(2)
    )
    execution = ExecutionContainer(1.0, 0.0, 0.0)
    before = one.get_state()
    for fill in execution.execute_orders([order(0, 5.0)], 1, np.array([10.0]), one.cash):
        one.process_fill(fill)
    assert two.cash == 1000.0
    assert two.lots == (0.0,)
    assert before.transactions == ()
    assert len(one.get_state().transactions) == 1


def test_no_broker_says_so() -> None:
    import asyncio

    class Recording:
        async def submit(self, orders: Any) -> list[str]:
            return [one.id for one in orders]

    with pytest.raises(RuntimeError, match="no broker"):
        asyncio.run(ExecutionContainer(1.0, 0.0, 0.0).submit_to_real_broker([order(0, 1.0)]))
    live = ExecutionContainer(1.0, 0.0, 0.0, Recording())
    assert asyncio.run(live.submit_to_real_broker([order(0, 1.0)])) == ["o0"]


def test_a_killed_flow_leaves_whole_bars(tmp_path: Path) -> None:
    text = (STUDIES / "event_flow.toml").read_text()
    data = STUDIES / "data" / "us_daily.parquet"
    study = tmp_path / "flow.toml"
    study.write_text(
        text.replace('"data/us_daily.parquet"', f'"{data}"\nsymbols = ["SPY", "TLT", "GLD"]')
    )
    out = tmp_path / "out"
    command = [sys.executable, "-m", "optimizer", "flow", str(study), "--out", str(out)]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    database = out / "analytics.db"
    try:
        deadline = time.monotonic() + 120
        while count(database, "equity") < 24 * 200:
            assert running.poll() is None, "the flow ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    bars = count(database, "bars") // 3
    assert 200 <= bars < 2951
    assert count(database, "portfolios") == 24
    assert count(database, "equity") == 24 * bars
    assert count(database, "signals") == 6 * 3 * bars
    assert count(database, "regimes") == 4 * bars
    refused = "rejects WHERE reason != 'no_cash_at_fill'"
    assert count(database, "orders") + count(database, refused) == 24 * 3 * bars
    with sqlite3.connect(database) as connection:
        odd = connection.execute(
            "SELECT COUNT(*) FROM (SELECT bar FROM equity GROUP BY bar HAVING COUNT(*) != 24)"
        ).fetchone()[0]
        lost = connection.execute(
            "SELECT COUNT(*) FROM fills WHERE order_id IS NOT NULL AND order_id NOT IN"
            " (SELECT order_id FROM orders)"
        ).fetchone()[0]
    assert (odd, lost) == (0, 0)


def count(database: Path, table: str) -> int:
    """Rows of a table; 0 while it is not there."""
    if not database.exists():
        return 0
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        try:
            return int(connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])
        except sqlite3.OperationalError:
            return 0
