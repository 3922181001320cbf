"""The event flow and the sweep agree bit for bit; containers by hand."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.bars.load import load_bars
from optimizer.errors import DataError
from optimizer.flow.containers.data import DataContainer
from optimizer.flow.containers.execution import ExecutionContainer, ExecutionStatistics, Market
from optimizer.flow.containers.feature_hub import FeatureHub
from optimizer.flow.containers.portfolio import PortfolioContainer
from optimizer.flow.event_flow import FlowResult
from optimizer.flow.parity import compare
from optimizer.flow.portfolio_view import PortfolioView
from optimizer.flow.portfolios import portfolio_specs, study_specs
from optimizer.flow.prepared import run_flow
from optimizer.flow.services.risk import RiskConfig, StatelessRiskManager, StopInputs
from optimizer.market import regimes
from optimizer.market.correlations import compute_correlations
from optimizer.market.features import compute_features
from optimizer.review.backtest import backtest
from optimizer.review.replay import replay
from optimizer.search.run import run_study
from optimizer.store.export import export_sets
from optimizer.study_file.load import load_study
from optimizer.study_file.space import build_space
from optimizer.study_file.spans import in_bars
from optimizer.study_file.study import study_from_dict
from optimizer.sweep.rules import study_rules
from optimizer.sweep.single_set import single_set_study
from optimizer.types import (
    NO_BUYING_POWER,
    NO_VOLUME,
    NOT_TRADED,
    Bar,
    Bars,
    Fill,
    Order,
    Regime,
    Signal,
)
from tests.support.cases import STRATEGY_SETS, VARIANTS, gapping_bars, random_case

STUDIES = Path(__file__).parents[3] / "studies"
AT_FILL = (NOT_TRADED, NO_VOLUME, NO_BUYING_POWER)


@pytest.fixture(scope="module", autouse=True)
def one_fit_a_window() -> Iterator[None]:
    """The same window is fitted once for all flows and sweeps: nothing in a fit is random."""
    fit, fitted = regimes._fit, {}

    def once(
        name: str,
        bar: int,
        features: Any,
        returns: Any,
        values: dict[str, int],
        before: Any,
        probabilities: bool,
    ) -> Any:
        window = (features.tobytes(), returns.tobytes(), pickle.dumps(before))
        key = (name, bar, *window, *sorted(values.items()), probabilities)
        if key not in fitted:
            fitted[key] = fit(name, bar, features, returns, values, before, probabilities)
        return fitted[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(regimes, "_fit", once)
        yield


@pytest.mark.parametrize("variant", range(len(VARIANTS)))
def test_events_equal_the_sweep(variant: int, tmp_path: Path) -> None:
    """Random studies of one parameter set that use all options: equity, fills and metrics."""
    kinds: Counter[str] = Counter()
    rejects: Counter[str] = Counter()
    for number in range(variant, 60 * len(VARIANTS), len(VARIANTS)):
        case = random_case(number, tmp_path)
        given = (case.parameters, case.costs, case.allow_short, None, 0.3)
        flow = run_flow(single_set_study(*given, **case.more), case.bars)
        vectorized = backtest(
            case.bars,
            case.parameters,
            costs=case.costs,
            allow_short=case.allow_short,
            holdout=0.3,
            **case.more,
        )
        assert (number, compare(flow, 0, vectorized).differences) == (number, ())
        assert_same_metrics(flow, vectorized.in_sample, vectorized.out_of_sample)
        kinds.update(vectorized.fills["kind"])
        rejects.update(flow.rejects)
    print(f"\n{kinds.total():,} fills of random studies compared bit for bit: {dict(kinds)}")
    used = VARIANTS[variant]
    expected = {"order", "end"}
    if used.stops:
        expected.add("stop")
    if used.margin and not used.stops:  # stops come first
        expected.add("liquidation")
    assert kinds.keys() >= expected
    assert kinds["order"] > 800
    assert rejects.keys() >= {"not_traded", "no_place", "no_budget", "inside_band"}
    assert sum(rejects.values()) > 1000


def assert_same_metrics(
    flow: FlowResult, in_sample: dict[str, float], out_of_sample: dict[str, float] | None
) -> None:
    assert out_of_sample is not None
    np.testing.assert_array_equal(list(flow.in_sample[0].values()), list(in_sample.values()))
    np.testing.assert_array_equal(
        list(flow.out_of_sample[0].values()), list(out_of_sample.values())
    )


def test_a_set_has_the_same_bits_whatever_else_its_study_tries() -> None:
    """Options that other sets use run other code, which must not change a digit."""
    bars = gapping_bars(8, 120, 3, 0.01)
    content = {
        "study": {"name": "swept"},
        "data": {"path": "."},
        "strategy": {"name": "momentum", "lookback": 7},
        "risk": {
            "stop_loss": {"sweep": [0.0, 0.03]},
            "max_positions": {"sweep": [0, 2]},
            "correlation_penalty": 0.0,
            "correlation_lookback": 5,
        },
        "costs": {"commission_minimum": {"sweep": [0.0, 2.0]}, "initial_cash": 20_000.0},
        "validation": {"holdout": 0.0},
    }
    flow = run_flow(study_from_dict(content), bars, risk="all")
    compared = 0
    for number, spec in enumerate(flow.specs):
        own = spec.parameters
        if (own["stop_loss"] > 0.0) != (own["commission_minimum"] > 0.0):
            continue  # sets of one option alone would take two more variants to compile
        alone = backtest(
            bars,
            {"strategy": spec.strategy_name, **own},
            costs={"initial_cash": 20_000.0},
            first_bar=flow.first,
        )
        assert compare(flow, number, alone).differences == ()
        compared += len(alone.fills)
    assert compared > 100


def test_leverage_alone_allows_no_short_position() -> None:
    bars = gapping_bars(2, 150, 3, 0.01)
    parameters = {**STRATEGY_SETS[1], "correlation_penalty": 0.0, "correlation_lookback": 5}
    account = {"leverage": 2.0, "maintenance_margin": 0.1}
    result = backtest(bars, parameters, account=account, sizing="weight")
    held = result.fills.groupby("symbol")["lots"].cumsum()
    assert len(held) > 10
    assert held.min() == 0.0
    short = backtest(bars, parameters, account=account, sizing="weight", allow_short=True)
    assert short.fills.groupby("symbol")["lots"].cumsum().min() < 0.0


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
    costs = {"commission_bps": 10.0, "commission_minimum": 0.01}
    vectorized = backtest(bars, parameters, costs=costs, allow_short=True)
    flow = run_flow(single_set_study(parameters, costs, True, None, 0.0), bars)
    parity = compare(flow, 0, vectorized)
    assert parity.differences == ()
    assert parity.n_fills > 20


def test_a_difference_is_told() -> None:
    bars = gapping_bars(1, 60, 1, 0.01)
    parameters = STRATEGY_SETS[0]
    flow = run_flow(single_set_study(parameters, {}, False, None, 0.0), bars)
    other = backtest(bars, parameters, costs={"commission_bps": 1.1})
    lines = compare(flow, 0, other).differences
    assert any(line.startswith("equity at ") for line in lines)


def test_each_kind_of_difference_is_told() -> None:
    bars = gapping_bars(1, 60, 1, 0.01)
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
    bars = gapping_bars(1, 9, 2, 0.01)
    study = in_bars(load_study(STUDIES / "event_flow.toml"), bars)
    space = build_space(study)
    rules = study_rules(study, space, bars)
    other = {spec.id for spec in study_specs(study, space, rules, gapping_bars(2, 9, 2, 0.01))}
    assert other.isdisjoint(spec.id for spec in study_specs(study, space, rules, bars))
    once = [spec.id for spec in study_specs(study, space, rules, bars)]
    assert once == [spec.id for spec in study_specs(study, space, rules, bars)]
    assert len(set(once)) == 24
    assert len(list(study_specs(study, space, rules, bars, "all"))) == 24 * 18
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
    bars = gapping_bars(3, 80, 2, 0.01)
    parameters = {**STRATEGY_SETS[0], "stop_loss": 0.02, "correlation_lookback": 5}
    study = single_set_study(parameters, {"slippage_bps": 3.0}, False, None, 0.0)
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
            wanted, share, target = order[7:10]
            assert 0.0 < share <= 1.0
            assert 0.0 <= target <= wanted or share == 1.0
            assert fill[10] == target or abs(fill[6]) < abs(order[6])
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
        # Slippage, and a gap through the level fills at the open.
        open_ = bar_ids[fill[11]][4]
        assert fill[7] == pytest.approx(min(fill[13], open_) * (1.0 - 3e-4), rel=1e-12)
    undecided = [row for row in rows["rejects"] if row[5] not in AT_FILL]
    assert len(rows["orders"]) + len(undecided) == len(rows["signals"])
    assert len(rows["equity"]) == len(traces[0].bars) == len(flow.equity)
    assert sum(flow.rejects.values()) == len(rows["rejects"])


# A momentum strategy goes short in a steady fall; then the price opens thirty times as high.
RUIN: dict[str, Any] = {
    "strategy": "momentum",
    "momentum_lookback": 5,
    "weight": 0.5,
    "correlation_penalty": 0.0,
    "volatility_lookback": 5,
    "correlation_lookback": 5,
}


def bars_that_ruin(n_symbols: int, halted: bool) -> Bars:
    close = 50.0 * np.cumprod(np.resize([0.97, 0.99], 40))
    close[20:] *= 30.0
    close = np.repeat(close[:, np.newaxis], n_symbols, axis=1) * (1 + 0.001 * np.arange(n_symbols))
    times = np.datetime64("2020-01-01", "ns") + np.arange(40) * np.timedelta64(1, "D")
    names = tuple("ABC"[:n_symbols])
    volume = np.ones_like(close)
    volume[20] = 0.0 if halted else 1.0
    return Bars(names, times, close, close, close, close, volume, 252.0)


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize("n_symbols", [1, 2])
@pytest.mark.parametrize("kind", ["ruin", "liquidation"])
def test_ruin_is_traced_and_equals_the_sweep(fill: str, n_symbols: int, kind: str) -> None:
    """The broker closes what trades; what does not is written off at the close."""
    bars = bars_that_ruin(n_symbols, halted=kind == "ruin")
    given = (RUIN, {"initial_cash": 10_000.0, "fill": fill}, True, None, 0.0)
    account = {"borrow_bps_year": 0.0}
    more: dict[str, Any] = {"account": account, "sizing": "weight"}
    trace = Recorder()
    flow = run_flow(single_set_study(*given, **more), bars, trace=trace)
    vectorized = backtest(bars, RUIN, costs=given[1], allow_short=True, **more)
    assert compare(flow, 0, vectorized).differences == ()
    assert vectorized.in_sample["liquidations"] == float(kind == "liquidation")
    closed = [row for row in trace.rows["fills"] if row[5] == kind]
    assert len(closed) == (vectorized.fills["kind"] == kind).sum() == n_symbols
    orders = {row[0] for row in trace.rows["orders"]}
    for row in closed:
        assert row[0].endswith(f".0000020.{row[4]}.{kind}")
        assert row[3] == 20
        assert row[6] > 0.0  # bought back
        price = bars.close[20, bars.symbols.index(row[4])]
        assert row[7] == pytest.approx(price * (1.0 if kind == "ruin" else 1.0002))
        assert (row[8] == 0.0) == (kind == "ruin")
        assert row[10] == 0.0
        assert row[1] is None
        assert row[12] in orders
    assert [f.id for f in flow.views[0].transactions] == [row[0] for row in trace.rows["fills"]]
    view = flow.views[0]
    # Short half of equity times n at about a thirtieth of the price: a debt that stays.
    assert view.ruined
    assert view.equity < -50_000.0
    assert (flow.equity.iloc[15:].to_numpy() == view.equity).all()
    assert (view.cash, view.unrealised, view.exposure) == (view.equity, 0.0, 0.0)
    assert 10_000.0 + view.realised + view.carry == pytest.approx(view.equity)


def test_an_order_that_buying_power_cuts_to_nothing_leaves_a_row() -> None:
    """A lot of 350 costs 17,500 to 19,000 at the close, and a fifth more at the open."""
    close = 50.0 * np.cumprod(np.resize([1.001, 1.003], 60))[:, np.newaxis]
    days = np.datetime64("2020-01-01", "ns") + np.arange(60) * np.timedelta64(1, "D")
    bars = Bars(("A",), days, close * 1.2, close * 1.3, close, close, np.ones((60, 1)), 252.0)
    parameters = {
        **STRATEGY_SETS[0],
        "kelly_fraction": 5.0,
        "lot_size": 350.0,
        "max_exposure": 1.0,
        "correlation_lookback": 5,
    }
    trace = Recorder()
    costs = {"initial_cash": 20_000.0}
    flow = run_flow(single_set_study(parameters, costs, False, None, 0.0), bars, trace=trace)
    vectorized = backtest(bars, parameters, costs=costs)
    assert compare(flow, 0, vectorized).differences == ()
    orders = {row[0]: row for row in trace.rows["orders"]}
    filled = {row[1] for row in trace.rows.get("fills", [])}
    waiting = {id for id, row in orders.items() if row[2] == bars.n_bars - 1}
    unpaid = [row for row in trace.rows["rejects"] if row[5] == "no_buying_power"]
    assert len(unpaid) > 10
    assert {row[6] for row in unpaid} == orders.keys() - filled - waiting
    for row in unpaid:
        order = orders[row[6]]
        assert row[0] == f"{order[0]}.reject"
        assert (row[2], row[3], row[4]) == (order[2] + 1, order[3], order[4])
        (cash,) = (e[3] for e in trace.rows["equity"] if e[1] == row[2] - 1)
        assert 0.0 < order[6] / 350.0 * bars.close[order[2], 0] * 350.0 <= cash
        assert bars.open[row[2], 0] * 350.0 > cash
    assert flow.rejects["no_buying_power"] == len(unpaid)


def test_an_order_lapses_where_its_symbol_does_not_trade() -> None:
    bars = gapping_bars(3, 80, 1, 0.01)
    parameters = {**STRATEGY_SETS[0], "correlation_lookback": 5}
    study = single_set_study(parameters, {}, False, None, 0.0)
    trace = Recorder()
    run_flow(study, bars, trace=trace)
    (order, *_) = trace.rows["orders"]
    volume = bars.volume.copy()
    volume[order[2] + 1] = 0.0
    halted, trace = replace(bars, volume=volume), Recorder()
    flow = run_flow(study, halted, trace=trace)
    assert compare(flow, 0, backtest(halted, parameters)).differences == ()
    (again, *_) = [row for row in trace.rows["orders"] if row[2] > order[2]]
    assert again[2] == order[2] + 1  # decided again at the close
    (reject,) = [row for row in trace.rows["rejects"] if row[5] == "not_traded"]
    assert reject[6].split(".")[2:] == order[0].split(".")[2:]
    assert (reject[2], reject[4].split(".")[2]) == (order[2] + 1, f"{order[2]:07d}")
    assert flow.rejects["not_traded"] == 1
    assert {row[1] for row in trace.rows["fills"]}.isdisjoint({reject[6]})


def test_an_order_that_turns_a_position_around_has_two_fills() -> None:
    parameters = {**STRATEGY_SETS[1], "correlation_penalty": 0.0, "correlation_lookback": 5}
    study = single_set_study(parameters, {}, True, None, 0.0, sizing="weight")
    trace = Recorder()
    run_flow(study, gapping_bars(2, 150, 3, 0.01), trace=trace)
    orders = {row[0]: row for row in trace.rows["orders"]}
    fills = {row[0]: row for row in trace.rows["fills"]}
    turned = [id for id in fills if id.endswith(".fill2")]
    assert len(turned) > 5
    for id in turned:
        closing, opening = fills[id.removesuffix("2")], fills[id]
        order = orders[opening[1]]
        assert closing[1] == order[0]
        assert closing[10] == 0.0 or opening[10] != 0.0
        assert closing[6] * opening[6] > 0.0
        assert abs(closing[6] + opening[6]) <= abs(order[6])


# --- Containers -------------------------------------------------------------------------------


def bar_of(
    index: int,
    open_: Sequence[float],
    high: Sequence[float],
    low: Sequence[float],
    close: Sequence[float],
    day: int | None = None,
    volume: float = np.inf,
) -> Bar:
    time = np.datetime64("2020-01-01", "ns") + np.timedelta64(index if day is None else day, "D")
    o, h, lowest, c = (np.array(column, dtype=float) for column in (open_, high, low, close))
    volumes = np.full(len(close), volume)
    traded = (volumes > 0.0).astype(np.uint8)
    names, shown = tuple("ABC"[: len(close)]), np.ones(len(close))
    return Bar(index, time, names, o, h, lowest, c, shown, traded, volumes)


def one_bar(index: int, *closes: float, day: int | None = None, volume: float = np.inf) -> Bar:
    return bar_of(index, closes, closes, closes, closes, day, volume)


NO_RANGES = np.zeros(2)
"""The average true ranges of accounts that do not read them."""


@dataclass(frozen=True)
class Account:
    """A portfolio and its orders, by the rules of a study of one parameter set."""

    portfolio: PortfolioContainer
    execution: ExecutionContainer
    risk: RiskConfig

    @classmethod
    def of(
        cls,
        n_symbols: int,
        costs: dict[str, Any] | None = None,
        allow_short: bool = False,
        account: dict[str, Any] | None = None,
        **parameters: float,
    ) -> Account:
        """No costs unless given, and 10,000 to begin with."""
        free = {"slippage_bps": 0.0, "commission_bps": 0.0, "initial_cash": 10_000.0}
        chosen: dict[str, Any] = {"strategy": "momentum", **parameters}
        paid = {**free, **(costs or {})}
        study = single_set_study(chosen, paid, allow_short, None, 0.0, account=account)
        names = tuple("ABC"[:n_symbols])
        bars = replace(gapping_bars(1, 40, n_symbols, 0.01), symbols=names)
        space = build_space(study)
        rules = study_rules(study, space, bars)
        (spec,) = study_specs(study, space, rules, bars)
        return cls(
            PortfolioContainer("study.set", names, rules, 252.0),
            ExecutionContainer("study.set", spec.costs, rules.leverage, rules.allow_short),
            spec.risk,
        )

    def trade(self, bar: Bar, *orders: Order, volatility: float = 0.0) -> list[Fill]:
        """Fill orders at the close of a bar, and book them."""
        market = Market(bar, bar.close, np.full(len(bar.close), volatility), NO_RANGES)
        self.execution.submit_orders(orders)
        fills = self.execution.execute_reductions(market, self.portfolio.lots)
        self.portfolio.process_fills(fills, NO_RANGES)
        more = self.execution.execute_additions(market, self.portfolio.buying_power(bar.close))
        self.portfolio.process_fills(more, NO_RANGES)
        return [*fills, *more]

    def close(self, bar: Bar) -> PortfolioView:
        """Mark the positions at the close of a bar, and account for it."""
        self.portfolio.mark(bar)
        self.portfolio.update_variance()
        self.portfolio.account(0.0)
        return self.portfolio.get_state()


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
    other = replace(one_bar(2, 1.0, day=8), symbols=("B",))
    with pytest.raises(DataError, match="symbols B; expected A"):
        data.update_timeline_position(other)


def test_feature_hub_has_the_bits_of_the_columns() -> None:
    bars = gapping_bars(5, 70, 3, 0.01)
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
    return Order(
        id=f"o{symbol}",
        portfolio_id="study.set",
        bar=0,
        time=np.datetime64("2020-01-01", "ns"),
        symbol=symbol,
        name="ABC"[symbol],
        lots=lots,
        quantity=lots,
        wanted=lots,
        budget_share=1.0,
        target=lots,
        signal_id="s",
        regime_id="r",
    )


def test_no_more_is_sold_than_is_held_where_short_positions_are_off() -> None:
    account = Account.of(2)
    assert len(account.trade(one_bar(0, 10.0, 20.0), order(0, 10.0))) == 1
    (sold,) = account.trade(one_bar(1, 10.0, 20.0), order(0, -25.0), order(1, -5.0))
    assert (sold.symbol, sold.lots) == (0, -10.0)
    assert list(account.portfolio.lots) == [0.0, 0.0]
    ((lapsed, reason),) = account.execution.rejected_orders
    assert (lapsed.symbol, reason) == (1, "not_held")
    assert (account.execution.statistics.cut, account.execution.statistics.lapsed) == (1, 1)
    assert account.close(one_bar(1, 10.0, 20.0)).cash == 10_000.0


def test_execution_and_portfolio_by_hand() -> None:
    # Slippage 1%, commission 2%, 1,000 of cash, prices 10 and 20.
    costs = {"slippage_bps": 100.0, "commission_bps": 200.0, "initial_cash": 1000.0}
    account = Account.of(2, costs)
    portfolio, execution = account.portfolio, account.execution
    # A lot of A costs 10 * 1.01 * 1.02 = 10.302; 50 cost 515.10.
    account.trade(one_bar(1, 10.0, 20.0), order(0, 50.0))
    assert execution.active_orders == ()
    assert portfolio.cash == pytest.approx(484.90)
    assert account.close(one_bar(1, 11.0, 20.0)).equity == pytest.approx(484.90 + 550.0)
    # Sell 20 of A at 12, which brings 20 * 12 * 0.99 * 0.98 = 232.848, before B is bought: a lot of
    # B costs 20 * 1.01 * 1.02 = 20.604, and 717.748 pay 34 of the 40 wanted, 700.536.
    fills = account.trade(one_bar(2, 12.0, 20.0), order(0, -20.0), order(1, 40.0))
    assert [(fill.symbol, fill.lots) for fill in fills] == [(0, -20.0), (1, 34.0)]
    assert portfolio.cash == pytest.approx(717.748 - 700.536)
    view = account.close(one_bar(2, 12.0, 20.0))
    assert view.equity == pytest.approx(17.212 + 30 * 12 + 34 * 20)
    # The rest of A at 13 brings 30 * 13 * 0.99 * 0.98 = 378.378; the trade made
    # 232.848 + 378.378 - 515.10 = 96.126.
    account.trade(one_bar(3, 13.0, 20.0), order(0, -30.0))
    view = account.close(one_bar(3, 13.0, 20.0))
    assert view.realised == pytest.approx(96.126)
    assert view.unrealised == pytest.approx(34 * 20 - 700.536)
    assert view.equity == pytest.approx(17.212 + 378.378 + 680.0)
    assert view.equity == pytest.approx(1000.0 + view.realised + view.unrealised)
    paid = 15.10 + 7.152 + 20.536 + 11.622
    assert view.metrics["costs_paid"] == pytest.approx(paid)
    assert sum(fill.cost for fill in view.transactions) == pytest.approx(paid)
    assert view.metrics["n_trades"] == 1
    assert execution.statistics == ExecutionStatistics(submitted=4, filled=4, cut=1)


def test_additions_are_cut_pro_rata() -> None:
    # 1,000 of cash for 60 lots at 10 and 70 at 20, a need of 2,000: half of each, rounded down.
    account = Account.of(2, {"initial_cash": 1000.0})
    fills = account.trade(one_bar(1, 10.0, 20.0), order(0, 60.0), order(1, 70.0))
    assert [fill.lots for fill in fills] == [29.0, 34.0]  # low by 1e-12, so not 30 and 35
    assert account.execution.statistics.cut == 2


def test_volume_limits_every_fill_but_a_liquidation() -> None:
    # A tenth of 100 units: 10 lots.
    account = Account.of(1, {"max_volume_share": 0.1}, True)
    execution, portfolio = account.execution, account.portfolio
    (bought,) = account.trade(one_bar(1, 10.0, volume=100.0), order(0, 25.0))
    assert bought.lots == 10.0
    (sold,) = account.trade(one_bar(2, 10.0, volume=50.0), order(0, -25.0))
    assert sold.lots == -5.0  # what is left of the position cannot be turned around
    assert account.trade(one_bar(3, 10.0, volume=5.0), order(0, 25.0)) == []
    assert [reason for _, reason in execution.rejected_orders] == ["no_volume"]
    assert account.trade(one_bar(4, 10.0, volume=0.0), order(0, 25.0)) == []
    assert [reason for _, reason in execution.rejected_orders] == ["not_traded"]
    market = Market(one_bar(5, 10.0, volume=20.0), np.ones(1), np.zeros(1), NO_RANGES)
    stop = execution.close_position("s", "stop", 0, 5.0, 10.0, market, "o0", 9.0)
    called = execution.close_position("l", "liquidation", 0, 5.0, 10.0, market, "o0")
    assert stop is not None
    assert called is not None
    assert (stop.lots, called.lots) == (-2.0, -5.0)
    assert portfolio.lots == (5.0,)
    assert execution.statistics == ExecutionStatistics(4, filled=2, cut=2, lapsed=2, closed=2)


def test_carry_by_hand() -> None:
    # Short 100 at 50 brings 5,000, which earn nothing: 10,000 at 4% a year and 5,000 at 10% borrowed,
    # over a quarter of a year.
    account = Account.of(1, None, True, {"borrow_bps_year": 1_000.0})
    portfolio = account.portfolio
    account.trade(one_bar(1, 50.0), order(0, -100.0))
    account.close(one_bar(1, 50.0))
    portfolio.carry(0.01, 0.02, 0.25)
    assert portfolio.cash == pytest.approx(15_000.0 + 100.0 - 125.0)
    assert account.close(one_bar(2, 50.0)).carry == pytest.approx(-25.0)
    # Long 300 at 50 with 10,000: 5,000 are borrowed, at 2% over this time.
    account = Account.of(1, None, False, {"leverage": 2.0})
    account.trade(one_bar(1, 50.0), order(0, 300.0))
    account.close(one_bar(1, 50.0))
    account.portfolio.carry(0.01, 0.02, 0.25)
    assert account.portfolio.cash == pytest.approx(-5_100.0)


def test_margin_by_hand() -> None:
    # 300 lots at 50 with 10,000: at a low of 40 equity is 7,000, gross 12,000, a share of 0.583.
    for margin, called in ((0.58, False), (0.59, True)):
        account = Account.of(
            1, None, False, {"leverage": 1.5, "maintenance_margin": margin}, max_exposure=1.5
        )
        account.trade(one_bar(1, 50.0), order(0, 300.0))
        bar = bar_of(2, [50.0], [60.0], [40.0], [55.0])
        assert account.portfolio.below_margin(bar) is called
        halted = replace(bar, traded=np.zeros(1, np.uint8))
        assert not account.portfolio.below_margin(halted)  # counts at its open: 10,000 of 15,000


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
    """At every bar, through partial sales, turn-arounds, cuts, interest, a new period and ruin."""
    costs = {"slippage_bps": 30.0, "commission_bps": 20.0, "initial_cash": 5_000.0}
    account = Account.of(2, costs, allow_short, lot_size=lot_size)
    portfolio = account.portfolio
    turnover = 5_000.0
    for index, (a, b, *wanted) in enumerate(trades):
        bar = one_bar(index, a, b)
        portfolio.carry(0.001, 0.002, 0.01)
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
            for fill in account.trade(bar, *orders):
                turnover += abs(fill.lots) * fill.raw_value
        view = account.close(bar)
        total = 5_000.0 + view.realised + view.unrealised + view.carry
        assert total == pytest.approx(view.equity, abs=1e-10 * turnover)
        for position in view.positions:
            if position.quantity == 0.0:
                assert (position.unrealised, position.entry) == (0.0, 0.0)


def test_a_partial_sale_realises_its_share() -> None:
    # Without costs: 10 at 100, then 10 at 130, so 115 each; 5 sold at 125 make 50. Then 25 sold at 120
    # close 15 more, 75, and open 10 short at 120; 4 of them bought back at 110 make 40.
    account = Account.of(1, None, True)
    expected = [
        (100.0, 10.0, 0.0, 0.0),
        (130.0, 10.0, 0.0, 300.0),
        (125.0, -5.0, 50.0, 150.0),
        (120.0, -25.0, 125.0, 0.0),
        (110.0, 4.0, 165.0, 60.0),
    ]
    for index, (price, lots, realised, unrealised) in enumerate(expected):
        account.trade(one_bar(index, price), order(0, lots))
        view = account.close(one_bar(index, price))
        assert (view.realised, view.unrealised) == pytest.approx((realised, unrealised))
        if index == 2:
            account.portfolio.start_period()
            assert account.portfolio.get_state().realised == pytest.approx(50.0)


def test_a_stop_leaves_no_entry_and_tells_its_level() -> None:
    account = Account.of(1, None, stop_loss=0.02, take_profit=0.03)
    portfolio, risk = account.portfolio, account.risk
    account.trade(one_bar(0, 100.0), order(0, 10.0))
    assert portfolio.stop_inputs(0) == (10.0, 100.0, 100.0, 0.0)
    assert portfolio.opening_order_id(0) == "o0"
    for (open_, high, low), price, level in (
        ((99.0, 99.5, 97.0), 98.0, 98.0),
        ((97.5, 99.5, 97.0), 97.5, 98.0),  # opens beyond
        ((99.0, 104.0, 97.0), 98.0, 98.0),  # both: the stop
        ((99.0, 104.0, 99.0), 103.0, 103.0),
        ((105.0, 106.0, 97.0), 105.0, 103.0),  # opens beyond the target
    ):
        bar = bar_of(1, [open_], [high], [low], [low])
        inputs = StopInputs(*portfolio.stop_inputs(0), 0.0)
        assert StatelessRiskManager.stop(inputs, risk, bar, 0) == pytest.approx(price)
        found = StatelessRiskManager.stop_level(inputs, risk, bar, 0, price)
        assert found == pytest.approx(level)
    bar = bar_of(1, [97.5], [99.5], [97.0], [97.0])
    market = Market(bar, bar.open, np.zeros(1), NO_RANGES)
    fill = account.execution.close_position("s", "stop", 0, 10.0, 97.5, market, "o0", 98.0)
    assert fill is not None
    assert (fill.opening_order_id, fill.stop_level, fill.order_id) == ("o0", 98.0, None)
    portfolio.process_fills([fill], NO_RANGES)
    portfolio.carry_best_prices(bar, (10.0,), ())
    assert portfolio.stop_inputs(0) == (0.0, 0.0, 0.0, 0.0)
    assert portfolio.opening_order_id(0) is None
    assert portfolio.get_state().positions[0].entry == 0.0


def test_what_is_handed_out_is_read_only() -> None:
    bars = gapping_bars(5, 40, 2, 0.01)
    hub = FeatureHub(bars.symbols, [("sma", 5)], [(None, 5)], (5, 1, 10))
    for t in range(20):
        o, h, c = (np.array(column[t]) for column in (bars.open, bars.high, bars.low))
        ones, volume = np.ones(2, np.uint8), np.ones(2)
        bar = Bar(t, bars.timestamps[t], bars.symbols, o, h, c, c, np.ones(2), ones, volume)
        values = hub.calculate_indicators(bar)
    matrix = hub.get_correlation_matrix()
    latest = hub.get_latest_market_data()
    assert matrix is not None
    for array in (
        values["sma_5"],
        matrix,
        latest.close,
        latest.volume,
        latest.traded,
        latest.market_volume,
        hub.market_features(None, 5),
        hub.market_returns(None),
    ):
        with pytest.raises(ValueError, match="read-only"):
            array[:] = 1.0
    with pytest.raises(TypeError):
        values["sma_5"] = np.ones(2)  # type: ignore[index]
    study = single_set_study(STRATEGY_SETS[0], {}, False, None, 0.0)
    space = build_space(study)
    (spec,) = study_specs(study, space, study_rules(study, space, bars), bars)
    assert isinstance(hash((spec.risk, spec.costs)), int)  # nothing mutable in them
    with pytest.raises(TypeError):
        spec.parameters["kelly_fraction"] = 1.0  # type: ignore[index]


def test_an_order_is_named_by_its_portfolio_bar_and_symbol() -> None:
    account = Account.of(2, None, kelly_fraction=0.01, max_weight=0.5)
    account.portfolio.mark(one_bar(7, 10.0, 20.0))
    decisions = StatelessRiskManager.process_signals_to_orders(
        [
            Signal("nothing", 0, 2.0, 0.01, 1.0, 0.01, 100.0),
            Signal("signal", 1, 1.0, 0.01, 1.0, 0.01, 100.0),
        ],
        Regime("regime", 0),
        account.portfolio.get_state(),
        account.risk,
        one_bar(7, 10.0, 20.0),
    )
    (placed,) = decisions.orders
    assert placed.id == "study.set.0000007.B.order"
    assert (placed.signal_id, placed.regime_id) == ("signal", "regime")
    # 0.01 * 0.01 / 0.01² = 1, capped at half of 10,000: 250 lots at 20.
    assert (placed.lots, placed.wanted, placed.target) == (250.0, 250.0, 250.0)
    assert placed.budget_share == 1.0


def test_a_portfolio_shares_nothing() -> None:
    one, two = (Account.of(1) for _ in range(2))
    before = one.portfolio.get_state()
    one.trade(one_bar(1, 10.0), order(0, 5.0))
    assert two.portfolio.cash == 10_000.0
    assert two.portfolio.lots == (0.0,)
    assert before.transactions == ()
    assert len(one.portfolio.get_state().transactions) == 1


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
    refused = f"rejects WHERE reason NOT IN {AT_FILL}"
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
