"""What a result says of one set, against pandas by hand, empyrical and the event flow."""

from __future__ import annotations

from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest

from optimizer.flow.prepared import run_flow
from optimizer.review.backtest import backtest
from optimizer.sweep.backtest_result import BacktestResult
from optimizer.sweep.single_set import single_set_study
from optimizer.sweep.trades import with_excursions
from optimizer.types import Bars
from tests.support.studies import random_bars

CASH = 50_000.0
BARS = random_bars(400)
LONG_ONLY: dict[str, Any] = {
    "strategy": "momentum",
    "momentum_lookback": 10,
    "kelly_fraction": 0.1,
    "max_exposure": 0.8,
    "correlation_lookback": 20,
}
STOPS = {"momentum_threshold": 0.01, "stop_loss": 0.03, "take_profit": 0.06}
LOANS = {"financing_bps_year": 800.0, "borrow_bps_year": 300.0, "cash_rate": 0.02}
COSTS = {"initial_cash": CASH, "commission_bps": 5.0}
SIZES = {"BBB": {"lot_size": 10.0, "multiplier": 3.0}}

RUNS: dict[str, dict[str, Any]] = {
    "long only": {"parameters": LONG_ONLY, "costs": COSTS},
    "shorts, stops, lots": {
        "parameters": {**LONG_ONLY, **STOPS},
        "costs": COSTS,
        "allow_short": True,
        "account": LOANS,
        "instruments": SIZES,
    },
    "at the close": {"parameters": LONG_ONLY, "costs": {**COSTS, "fill": "close"}},
    "limit entries": {
        "parameters": {**LONG_ONLY, "entry_offset": 0.002, "entry_bars": 3},
        "costs": COSTS,
        "entry": "limit",
        "allow_short": True,
        "account": LOANS,
    },
    "regimes": {
        "parameters": {
            **{**LONG_ONLY, "classifier": "hmm", "hmm_train_bars": 60, "hmm_refit_bars": 60},
            "bear_multiplier": 0.2,
        },
        "costs": COSTS,
    },
}


def rows(frame: pd.DataFrame) -> Any:
    """The rows of a frame as tuples with a name for each column."""
    return frame.itertuples()


def run(name: str, bars: Bars = BARS, **more: Any) -> BacktestResult:
    return backtest(bars, **{**RUNS[name], "first_bar": 80, **more})


@pytest.fixture(params=list(RUNS), scope="module")
def result(request: pytest.FixtureRequest) -> BacktestResult:
    found = run(request.param)
    assert len(found.fills) > 30, "too few fills to test anything"
    return found


def money(result: BacktestResult) -> np.ndarray[Any, Any]:
    """What a unit of each symbol is worth at a price of 1."""
    with_lots = not (result.positions["BBB"] % 10.0).any()
    return np.array([1.0, 3.0 if with_lots else 1.0, 1.0])


def test_cash_and_positions_make_the_equity(result: BacktestResult) -> None:
    """Cash from the fills, the value of the positions, and the carry, which no fill knows."""
    closes = BARS.close[80:] * money(result)
    value = (result.positions.to_numpy() * closes).sum(axis=1)
    paid = result.fills.groupby("timestamp")["cash"].sum().reindex(result.equity.index).fillna(0.0)
    without = CASH + paid.cumsum().to_numpy() + value
    carry = result.equity.to_numpy() - without
    assert carry[-1] == pytest.approx(result.in_sample["carry"], abs=1e-6)
    if result.in_sample["carry"] == 0.0:
        np.testing.assert_allclose(result.equity, without, rtol=1e-12)
    assert list(result.positions.columns) == list(BARS.symbols)


def test_weights_are_values_over_equity(result: BacktestResult) -> None:
    values = result.positions * BARS.close[80:] * money(result)
    pd.testing.assert_frame_equal(
        result.weights, values.div(result.equity, axis=0), check_names=False
    )
    exposure = result.weights.abs().sum(axis=1).mean()
    assert exposure == pytest.approx(result.in_sample["exposure"], rel=1e-9)


def test_returns_are_those_that_empyrical_takes(result: BacktestResult) -> None:
    returns = result.returns
    assert np.prod(1.0 + returns) * CASH == pytest.approx(result.equity.iloc[-1])
    assert empyrical.max_drawdown(returns) == pytest.approx(-result.in_sample["max_drawdown"])
    if result.in_sample["carry"] == 0.0:  # no interest, so nothing is free of risk
        assert empyrical.sharpe_ratio(returns) == pytest.approx(result.in_sample["sharpe"])


def test_trades_are_those_of_the_fills(result: BacktestResult) -> None:
    """Size, excursions and bars, each found again by walking through the bars."""
    trades = result.trades
    times = list(result.equity.index)
    at_close = result.rules.close_fill
    assert {"symbol", "side", "entry", "exit", "bars", "size", "profit", "mae", "mfe", "end"} <= {
        *trades.columns
    }
    for trade in rows(trades):
        s = BARS.symbols.index(str(trade.symbol))
        sign = 1.0 if trade.side == "long" else -1.0
        first, last = times.index(trade.entry), times.index(trade.exit)
        assert trade.bars == last - first
        held = result.positions[trade.symbol].iloc[first:last]
        own = result.fills[result.fills["symbol"] == trade.symbol]
        inside = own[(own["timestamp"] >= trade.entry) & (own["timestamp"] <= trade.exit)]
        assert trade.size >= max(held.abs(), default=0.0)
        assert trade.size <= inside["quantity"].abs().cumsum().iloc[-1]
        low, high = [trade.entry_price, trade.exit_price], [trade.entry_price, trade.exit_price]
        for bar in range(first, last + 1):
            begins_after = at_close and bar == first
            ends_before = (
                bar == last and trade.end != "open" and not (at_close and trade.end == "order")
            )
            if not begins_after and not ends_before:
                low.append(BARS.low[80 + bar, s])
                high.append(BARS.high[80 + bar, s])
        worst, best = (min(low), max(high)) if sign > 0.0 else (max(high), min(low))
        assert trade.mae == pytest.approx(sign * (worst / trade.entry_price - 1.0), abs=1e-12)
        assert trade.mfe == pytest.approx(sign * (best / trade.entry_price - 1.0), abs=1e-12)
        assert trade.mae <= 0.0 <= trade.mfe
    open_now = trades[trades["end"] == "open"]
    assert dict(zip(open_now["symbol"], open_now["size"], strict=True)).keys() == (
        result.open_positions.keys()
    )


def test_excursions_by_hand() -> None:
    """A long of A at 10 that sees 8 and 13 and leaves at 11; a short of it at 10, stopped at 12."""
    days = np.array(["2020-01-01", "2020-01-02", "2020-01-03", "2020-01-04"], "datetime64[ns]")
    column = np.array([[10.0], [10.0], [11.0], [10.0]])
    low = np.array([[9.0], [8.0], [7.0], [9.5]])
    high = np.array([[12.0], [13.0], [14.0], [10.5]])
    bars = Bars(("A",), days, column, high, low, column, np.ones((4, 1)), 252.0)
    times = pd.DatetimeIndex(days, tz="UTC")
    trades = pd.DataFrame(
        {
            "symbol": "A",
            "side": ["long", "short", "short", "long"],
            "entry": times[[0, 0, 2, 3]],
            "exit": times[[2, 1, 3, 3]],
            "entry_price": [10.0, 10.0, 10.0, 10.0],
            "exit_price": [11.0, 12.0, 10.0, 9.0],
            "end": ["order", "stop", "open", "stop"],
        }
    )
    found = with_excursions(trades, bars, at_close=False)
    assert found["mae"].tolist() == pytest.approx([-0.2, -0.2, -0.4, -0.1])
    assert found["mfe"].tolist() == pytest.approx([0.3, 0.1, 0.3, 0.0])
    later = with_excursions(trades, bars, at_close=True)
    # Entered at the close: the range of that bar is over. A stop leaves inside its bar.
    assert later["mae"].tolist() == pytest.approx([-0.3, -0.2, -0.05, -0.1])
    assert later["mfe"].tolist() == pytest.approx([0.4, 0.0, 0.05, 0.0])


def test_the_attribution_adds_up(result: BacktestResult) -> None:
    gained = float(result.equity.iloc[-1]) - CASH
    parts = result.attribution()
    assert set(parts["by"]) == {"symbol", "side", "regime", "year"}
    for _, part in parts.groupby("by"):
        assert part["profit"].sum() == pytest.approx(gained, abs=1e-6)
    profit = parts.set_index(["by", "name"])["profit"]
    for by in ("symbol", "side"):
        assert profit[by, "carry"] == pytest.approx(result.in_sample["carry"], abs=1e-6)
        for name, trades in result.trades.groupby(by):
            assert profit[by, name] == pytest.approx(trades["profit"].sum(), abs=1e-6)
    yearly = result.equity.groupby(pd.DatetimeIndex(result.equity.index).year).last()
    for year, one in yearly.diff().fillna(yearly - CASH).items():
        assert profit["year", str(year)] == pytest.approx(one, abs=1e-6)
    names = {1: "bull", 0: "neutral", -1: "bear"}
    by_regime: dict[str, float] = {}
    before, code = CASH, int(result.regimes.iloc[0])
    for equity, after in zip(result.equity, result.regimes, strict=True):
        by_regime[names[code]] = by_regime.get(names[code], 0.0) + equity - before
        before, code = equity, int(after)
    assert profit["regime"].to_dict() == pytest.approx(by_regime, abs=1e-6)


@pytest.mark.parametrize("name", ["long only", "shorts, stops, lots", "regimes"])
def test_the_next_orders_are_those_that_fill_next(name: str) -> None:
    """Of bars that end earlier, what is decided at the last close: the fills of the bar after it."""
    whole, seen = run(name), 0
    for stop in range(200, 400, 7):
        orders = run(name, BARS.head(stop)).orders_next
        fills = whole.fills[
            (whole.fills["timestamp"] == whole.equity.index[stop - 80])
            & (whole.fills["kind"] == "order")
        ]
        filled = fills.groupby("symbol")["quantity"].sum()
        assert orders.set_index("symbol")["quantity"].to_dict() == filled.to_dict()
        assert set(orders["entry"]) <= {"market"}
        assert orders["level"].isna().all()
        seen += len(orders)
    assert seen > 10


def test_the_next_orders_of_a_sealed_result_are_those_of_shorter_bars() -> None:
    whole = run("long only", holdout=0.25)
    n_bars = len(whole.equity) - int(len(whole.equity) * 0.25)
    sealed = whole.before_holdout(n_bars)
    shorter = run("long only", BARS.head(80 + n_bars))
    pd.testing.assert_frame_equal(sealed.orders_next, shorter.orders_next)
    pd.testing.assert_frame_equal(sealed.trades, shorter.trades)
    pd.testing.assert_frame_equal(sealed.attribution(), shorter.attribution())
    assert sealed.bars.content_hash == shorter.bars.content_hash


def test_a_waiting_entry_has_its_level() -> None:
    """The price at which the event flow lets the entry wait: the offset below or above the close."""
    seen = 0
    for stop in range(200, 400, 5):
        bars = BARS.head(stop)
        orders = run("limit entries", bars).orders_next
        for order in rows(orders):
            close = bars.close[-1, BARS.symbols.index(str(order.symbol))]
            if order.entry == "limit":
                side = 1.0 if order.quantity > 0.0 else -1.0
                # It may have waited for up to three bars since it was placed.
                recent = bars.close[-3:, BARS.symbols.index(str(order.symbol))]
                assert np.isclose(order.level, recent * (1.0 - side * 0.002)).any(), close
                seen += 1
            else:
                assert np.isnan(order.level)
    assert seen > 5


def test_nothing_is_left_to_fill_where_orders_fill_at_the_close() -> None:
    orders = run("at the close").orders_next
    assert orders.empty
    assert list(orders.columns) == ["symbol", "quantity", "entry", "level"]


def test_stats_have_both_samples_where_there_are_two() -> None:
    whole = run("long only", holdout=0.25)
    assert whole.out_of_sample is not None
    split = len(whole.equity) - int(len(whole.equity) * 0.25)
    for name, metrics, returns in (
        ("in_sample", whole.in_sample, whole.returns.iloc[:split]),
        ("out_of_sample", whole.out_of_sample, whole.returns.iloc[split:]),
    ):
        tails = {
            "expected_shortfall": -empyrical.conditional_value_at_risk(returns.to_numpy()),
            "tail_ratio": empyrical.tail_ratio(returns.to_numpy()),
        }
        stats = whole.stats[name].to_dict()
        assert stats == pytest.approx({**metrics, **tails}, nan_ok=True)
    sealed = whole.before_holdout(split)
    assert list(sealed.stats.columns) == ["in_sample"]
    assert sealed.stats["in_sample"].to_dict() == pytest.approx(
        whole.stats["in_sample"].to_dict(), nan_ok=True
    )


def test_a_set_that_never_trades() -> None:
    result = run("long only", parameters={**LONG_ONLY, "momentum_threshold": 50.0})
    assert result.trades.empty
    assert {"mae", "mfe"} <= set(result.trades.columns)
    assert (result.positions == 0.0).all(axis=None)
    assert (result.weights == 0.0).all(axis=None)
    assert (result.returns == 0.0).all()
    assert result.attribution()["profit"].abs().sum() == 0.0
    assert result.orders_next.empty
    assert len(result.plot().data) == 3


def test_the_figure_shows_equity_drawdown_and_exposure(result: BacktestResult) -> None:
    figure = result.plot()
    equity, fall, exposure = (np.asarray(line.y) for line in figure.data)
    np.testing.assert_allclose(equity, result.equity, rtol=1e-6)
    peak = np.maximum(result.equity.cummax(), CASH)
    np.testing.assert_allclose(fall, result.equity / peak - 1.0, atol=1e-6)
    np.testing.assert_allclose(exposure, result.weights.abs().sum(axis=1), rtol=1e-5, atol=1e-6)


def test_it_shows_itself_in_a_line(result: BacktestResult) -> None:
    text = repr(result)
    assert "\n" not in text
    assert text.startswith("<BacktestResult of momentum: ")
    assert f"{result.in_sample['n_trades']:.0f} trades" in text


def test_what_is_held_at_the_end_is_what_the_event_flow_holds() -> None:
    settings = RUNS["shorts, stops, lots"]
    study = single_set_study(
        settings["parameters"], COSTS, True, None, 0.0, account=LOANS, instruments=SIZES
    )
    held = 0
    for stop in range(200, 400, 20):
        bars = BARS.head(stop)
        (view,) = run_flow(study, bars, first_bar=80).views
        positions = run("shorts, stops, lots", bars).positions.iloc[-1].to_dict()
        found = {one.symbol: one.quantity for one in view.positions}
        assert positions == {symbol: found.get(symbol, 0.0) for symbol in bars.symbols}
        held += sum(quantity != 0.0 for quantity in found.values())
    assert held > 5
