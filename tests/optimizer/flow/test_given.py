"""Signals, orders and returns from elsewhere, against what is computed by hand and by empyrical."""

from __future__ import annotations

from typing import Any

import empyrical
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from optimizer.catalogue import METRICS
from optimizer.errors import BarsweepError, DataError, StudyFileError
from optimizer.flow.given import from_orders, from_signals
from optimizer.flow.returns import OF_RETURNS, metrics
from optimizer.review.backtest import backtest
from optimizer.sweep.tails import TAIL_METRICS
from optimizer.types import Bars
from tests.support.studies import random_bars

FREE = {
    "commission_bps": 0.0,
    "slippage_bps": 0.0,
    "spread_bps": 0.0,
    "initial_cash": 10_000.0,
}
OPENS = [100.0, 100.0, 102.0, 104.0, 103.0, 101.0, 99.0, 98.0, 100.0, 103.0, 105.0, 104.0]
CLOSES = [100.0, 101.0, 103.0, 103.0, 102.0, 100.0, 98.0, 99.0, 102.0, 104.0, 105.0, 103.0]


def bars_of(opens: Any, closes: Any, symbols: tuple[str, ...] = ("A",)) -> Bars:
    """Daily bars whose range holds no more than open and close."""
    o = np.array(opens, np.float64).reshape(-1, len(symbols))
    c = np.array(closes, np.float64).reshape(-1, len(symbols))
    days = pd.bdate_range("2020-01-06", periods=len(o)).to_numpy("datetime64[ns]")
    return Bars(
        symbols, days, o, np.maximum(o, c), np.minimum(o, c), c, np.full(o.shape, 1e9), 252.0
    )


ONE = bars_of(OPENS, CLOSES)


def at(*places: int) -> np.ndarray[Any, Any]:
    """True at some bars of ONE."""
    flags = np.zeros(len(OPENS), dtype=np.bool_)
    flags[list(places)] = True
    return flags


def quantities(result: Any) -> list[tuple[int, float, float]]:
    """Bar, units and price of each fill."""
    times = list(result.equity.index)
    return [
        (times.index(one["timestamp"]), one["quantity"], one["price"])
        for one in result.fills.to_dict("records")
    ]


# --- Orders -------------------------------------------------------------------------------------


def test_orders_by_hand() -> None:
    """Buys 50 at 102 and sells 20 at 101, each at the open after, for 10 bps."""
    orders = np.zeros(12)
    orders[1], orders[4] = 50.0, -20.0
    result = from_orders(ONE, orders, costs={**FREE, "commission_bps": 10.0})
    assert quantities(result) == [(2, 50.0, 102.0), (5, -20.0, 101.0)]
    cash = 10_000.0 - 50 * 102.0 * 1.001
    later = cash + 20 * 101.0 * 0.999
    expected = [10_000.0, 10_000.0, *(cash + 50 * c for c in CLOSES[2:5])]
    expected += [later + 30 * c for c in CLOSES[5:]]
    assert result.equity.tolist() == pytest.approx(expected, rel=1e-14)
    assert result.fills["cost"].tolist() == pytest.approx([5.10, 2.02])
    assert result.positions["A"].tolist() == [0.0] * 2 + [50.0] * 3 + [30.0] * 7
    (trade,) = result.trades.to_dict("records")
    assert (trade["end"], trade["size"], trade["side"]) == ("open", 50.0, "long")
    assert trade["profit"] == pytest.approx(expected[-1] - 10_000.0)


def test_an_order_of_the_last_bar_is_next() -> None:
    orders = np.zeros(12)
    orders[11] = 7.0
    result = from_orders(ONE, orders, costs=FREE)
    assert result.fills.empty
    (row,) = result.orders_next.to_dict("records")
    assert (row["symbol"], row["quantity"], row["entry"]) == ("A", 7.0, "market")


def test_a_short_position_by_hand() -> None:
    orders = np.zeros(12)
    orders[2], orders[6] = -10.0, 25.0
    account = {"financing_bps_year": 0.0, "borrow_bps_year": 0.0}
    result = from_orders(ONE, orders, allow_short=True, costs=FREE, account=account)
    # Sold at 104; at 98 ten are bought back and fifteen more.
    assert quantities(result) == [(3, -10.0, 104.0), (7, 10.0, 98.0), (7, 15.0, 98.0)]
    assert result.trades["profit"].tolist() == pytest.approx([60.0, 15 * (103.0 - 98.0)])
    assert result.equity.iloc[-1] == pytest.approx(10_000.0 + 60.0 + 75.0)
    with pytest.raises(DataError, match=r"orders: sells 10 A at 2020-01-08.*where 0 are held"):
        from_orders(ONE, orders, costs=FREE)


def test_buys_that_cannot_be_paid_are_cut_pro_rata() -> None:
    two = bars_of(np.full((12, 2), 100.0), np.full((12, 2), 100.0), ("A", "B"))
    orders = np.zeros((12, 2))
    orders[3] = 160.0, 50.0
    result = from_orders(two, orders, costs=FREE)
    share = 10_000 / 21_000
    assert [one[1] for one in quantities(result)] == [int(160 * share), int(50 * share)]


def test_orders_in_lots_with_a_multiplier() -> None:
    orders = np.zeros(12)
    orders[1] = 5.0
    result = from_orders(
        ONE, orders, costs=FREE, instruments={"A": {"lot_size": 2.5, "multiplier": 4.0}}
    )
    assert result.positions["A"].iloc[-1] == 5.0
    assert result.equity.iloc[-1] == pytest.approx(10_000.0 + 5 * 4 * (103.0 - 102.0))
    with pytest.raises(DataError, match=r"5 A at 2020-01-07.*not a multiple of the lot, 2"):
        from_orders(ONE, orders, lot_size=2.0)


@pytest.mark.parametrize("close_fill", [False, True])
def test_the_fills_of_a_set_as_orders_give_its_equity(close_fill: bool) -> None:
    """The lanes of the sweep decided them; here they are only carried out."""
    bars = random_bars()
    costs = {
        "commission_bps": 7.0,
        "slippage_bps": 3.0,
        "fill": "close" if close_fill else "next_open",
    }
    parameters: dict[str, Any] = {
        "strategy": "momentum",
        "momentum_lookback": 15,
        "kelly_fraction": 0.2,
        "correlation_lookback": 20,
    }
    expected = backtest(bars, parameters, costs=costs)
    fills = expected.fills
    assert len(fills) > 50
    times = list(pd.DatetimeIndex(bars.timestamps, tz="UTC"))
    orders = np.zeros((bars.n_bars, bars.n_symbols))
    for one in fills.to_dict("records"):
        bar = times.index(one["timestamp"]) - (0 if close_fill else 1)
        orders[bar, bars.symbols.index(one["symbol"])] += one["quantity"]
    found = from_orders(bars, orders, costs=costs)
    assert found.equity.iloc[-len(expected.equity) :].tolist() == expected.equity.tolist()
    pd.testing.assert_frame_equal(found.fills, expected.fills)
    pd.testing.assert_frame_equal(found.trades, expected.trades)
    for name in ("total_return", "n_trades", "costs_paid", "final_equity", "profit_factor"):
        assert found.in_sample[name] == pytest.approx(expected.in_sample[name], rel=1e-12)


# --- Signals ------------------------------------------------------------------------------------


def test_signals_by_hand() -> None:
    """All of the equity at the close decides the units; a second entry changes nothing."""
    result = from_signals(ONE, at(1, 2, 8), at(4), costs=FREE)
    # 10,000 / 101 = 99 units, bought at 102 within the cash: 98. Sold at 101, 9,902 are left.
    first = int(10_000 / 102)
    cash = 10_000.0 + first * (101.0 - 102.0)
    second = int(cash / 103.0)
    assert quantities(result) == [(2, first, 102.0), (5, -first, 101.0), (9, second, 103.0)]
    assert result.equity.iloc[-1] == pytest.approx(cash + second * (CLOSES[-1] - 103.0))
    assert result.trades["end"].tolist() == ["order", "open"]


def test_both_sides_by_hand() -> None:
    account = {"financing_bps_year": 0.0, "borrow_bps_year": 0.0}
    result = from_signals(
        ONE,
        at(1, 9),
        at(3, 5, 7),
        short_entries=at(5),
        short_exits=at(1, 7),
        risk={"weight": 0.5},
        costs=FREE,
        account=account,
    )
    # Long at 102 and out at 103, short at 99 and out at 100, long at 105. Half of the equity each.
    one = int(5_000 / 101.0)
    money = 10_000.0 + one * (103.0 - 102.0)
    two = int(0.5 * money / 100.0)
    money += two * (99.0 - 100.0)
    three = int(0.5 * money / 104.0)
    assert quantities(result) == [
        *((2, one, 102.0), (4, -one, 103.0)),
        *((6, -two, 99.0), (8, two, 100.0)),
        (10, three, 105.0),
    ]
    assert result.attribution()["profit"].sum() == pytest.approx(
        4 * (result.equity.iloc[-1] - 10_000.0)
    )


def test_an_entry_of_the_other_side_turns_a_position_round() -> None:
    result = from_signals(ONE, at(1), at(), short_entries=at(4), risk={"weight": 0.5}, costs=FREE)
    sides = [np.sign(units) for _, units, _ in quantities(result)]
    assert sides == [1.0, -1.0, -1.0]
    assert result.trades["side"].tolist() == ["long", "short"]


def test_an_exit_wins_over_an_entry_of_its_side() -> None:
    assert from_signals(ONE, at(1, 3), at(1, 3), costs=FREE).fills.empty
    held = from_signals(ONE, at(1, 3), at(3), costs=FREE)
    assert [bar for bar, _, _ in quantities(held)] == [2, 4]


def test_a_stop_closes_and_an_entry_opens_again() -> None:
    result = from_signals(ONE, at(1, 8), at(), risk={"weight": 0.5, "stop_loss": 0.02}, costs=FREE)
    # Bought at 102: stopped at 102 * 0.98 = 99.96 in bar 6, which opens below at 99.
    kinds = result.fills["kind"].tolist()
    assert kinds == ["order", "stop", "order"]
    assert quantities(result)[1][::2] == (6, 99.0)
    assert quantities(result)[2][::2] == (9, 103.0)


def test_symbols_share_the_account() -> None:
    bars = random_bars(60)
    flags = np.ones((60, 3), dtype=np.bool_)
    result = from_signals(bars, flags, ~flags, costs=FREE)
    assert result.weights.iloc[2:].sum(axis=1).between(0.9, 1.1).all()
    assert len(result.fills) == 3


def test_the_forms_of_a_table_are_one() -> None:
    bars = random_bars(60)
    close = pd.DataFrame(bars.close, bars.timestamps, list(bars.symbols))
    above = close > close.rolling(5).mean()
    forms: list[Any] = [
        above,
        above.to_numpy(),
        above[["CCC", "AAA", "BBB"]],
        above.tz_localize("UTC"),
        above.assign(DDD=True),
    ]
    equity = [from_signals(bars, form, ~above).equity.tolist() for form in forms]
    assert all(one == equity[0] for one in equity)
    one = Bars.from_frame(bars.to_frame(), "AAA")
    series = from_signals(one, above["AAA"], ~above["AAA"]).equity.tolist()
    column = from_signals(
        one, above[["AAA"]].to_numpy(), ~above[["AAA"]].to_numpy()
    ).equity.tolist()
    assert series == column


def test_what_does_not_fit_is_one_line() -> None:
    bars, flags = random_bars(60), np.zeros((60, 3), dtype=np.bool_)
    frame = pd.DataFrame(flags, bars.timestamps, list(bars.symbols))
    wrong: list[tuple[Any, str]] = [
        (flags[:-1], r"^entries: has shape \(59, 3\); expected 60 bars x 3 symbols"),
        (flags[:, 0], r"^entries: has shape \(60,\)"),
        (flags.astype(float), "^entries: has float64 values; expected true or false"),
        (frame.drop(columns="BBB"), "^entries: no column BBB; found: AAA, CCC"),
        (frame.shift(1, freq="D"), "^entries: other times than the bars"),
    ]
    for entries, words in wrong:
        with pytest.raises(DataError, match=words) as caught:
            from_signals(bars, entries, flags)
        assert "\n" not in str(caught.value)
    both = flags.copy()
    both[7, 1] = True
    with pytest.raises(DataError, match=r"both at 2015-01-14.* for BBB"):
        from_signals(bars, both, flags, short_entries=both)
    with pytest.raises(StudyFileError, match='sizing = "kelly": needs an expected return'):
        from_signals(bars, flags, flags, sizing="kelly")
    with pytest.raises(BarsweepError, match="wait"):
        from_signals(bars, flags, flags, risk={"wait": 1.0})
    texts: Any = np.full((60, 3), "many")
    with pytest.raises(DataError, match=r"^orders: has values that are no numbers"):
        from_orders(bars, texts)
    with pytest.raises(DataError, match=r"^orders: has an infinite value"):
        from_orders(bars, np.full((60, 3), np.inf))


def test_nothing_later_changes_what_was_done() -> None:
    """Entries and exits of the first bars give the same account whatever follows."""
    bars, rng = random_bars(120), np.random.default_rng(3)
    enter, leave = rng.random((2, 120, 3)) < 0.15
    whole = from_signals(bars, enter, leave).equity
    part = from_signals(bars.head(70), enter[:70], leave[:70]).equity
    assert part.tolist() == whole.iloc[:70].tolist()


# --- Returns ------------------------------------------------------------------------------------


def test_metrics_by_hand() -> None:
    found = metrics([0.1, -0.2, 0.25, 0.0], 4.0)
    assert set(found) == {*OF_RETURNS, *TAIL_METRICS}
    assert set(OF_RETURNS) < set(METRICS)
    assert found["expected_shortfall"] == pytest.approx(0.2)
    assert found["drawdown_duration"] == 1.0
    assert found["ulcer_index"] == pytest.approx(0.1)
    assert found["omega"] == pytest.approx(1.75)
    assert found["total_return"] == pytest.approx(1.1 * 0.8 * 1.25 - 1.0)
    assert found["cagr"] == pytest.approx(0.1)  # four bars are one year
    assert found["max_drawdown"] == pytest.approx(0.2)
    assert found["calmar"] == pytest.approx(0.5)
    deviation = np.sqrt((0.0625**2 + 0.2375**2 + 0.2125**2 + 0.0375**2) / 3.0)
    assert found["volatility"] == pytest.approx(2.0 * deviation)
    assert found["sharpe"] == pytest.approx(2.0 * 0.0375 / deviation)
    assert found["sortino"] == pytest.approx(2.0 * 0.0375 / np.sqrt(0.2**2 / 4.0))


@given(
    hnp.arrays(np.float64, st.integers(10, 200), elements=st.floats(-0.0625, 0.0625, width=32)),
    st.sampled_from([12.0, 52.0, 252.0]),
)
def test_metrics_are_those_of_empyrical(returns: Any, bars_per_year: float) -> None:
    returns = returns + np.linspace(1e-4, 3e-4, len(returns))  # never all the same
    found = metrics(returns, bars_per_year)
    expected = {
        "total_return": empyrical.cum_returns_final(returns),
        "cagr": empyrical.annual_return(returns, annualization=bars_per_year),
        "volatility": empyrical.annual_volatility(returns, annualization=bars_per_year),
        "sharpe": empyrical.sharpe_ratio(returns, annualization=bars_per_year),
        "max_drawdown": -empyrical.max_drawdown(returns),
        "omega": empyrical.omega_ratio(returns),
        "expected_shortfall": -empyrical.conditional_value_at_risk(returns),
        "tail_ratio": empyrical.tail_ratio(returns),
    }
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-6, abs=1e-9, nan_ok=True), name


def test_metrics_less_the_risk_free_return() -> None:
    returns = pd.Series(np.random.default_rng(1).normal(0.001, 0.01, 300))
    found = metrics(returns, 252.0, risk_free=0.05)
    assert found["sharpe"] == pytest.approx(empyrical.sharpe_ratio(returns, risk_free=0.05 / 252))
    assert found["total_return"] == metrics(returns, 252.0)["total_return"]


def test_metrics_of_a_backtest_are_its_own() -> None:
    result = backtest(
        random_bars(), {"strategy": "momentum", "momentum_lookback": 15, "correlation_lookback": 20}
    )
    found = metrics(result.returns, 252.0)
    for name in OF_RETURNS:
        assert found[name] == pytest.approx(result.in_sample[name], rel=1e-6), name


def test_ruin_has_no_growth() -> None:
    found = metrics([0.1, -1.0, 0.0], 252.0)
    assert found["total_return"] == -1.0
    assert found["max_drawdown"] == 1.0


def test_returns_that_are_none_are_refused() -> None:
    wrong: list[tuple[Any, float, str]] = [
        ([], 252.0, r"^returns: have shape \(0,\)"),
        ([[0.1]], 252.0, "expected one for each bar"),
        ([0.1, np.nan], 252.0, "^returns: number 1 is nan"),
        ([0.1, -1.5], 252.0, "^returns: number 1 is -1.5"),
        ([0.1], 0.0, "^bars_per_year = 0.0; expected a number above 0"),
    ]
    for returns, bars_per_year, words in wrong:
        with pytest.raises(DataError, match=words):
            metrics(returns, bars_per_year)


def test_the_sale_of_what_was_paid_in_part_is_cut_to_it() -> None:
    flat = bars_of(np.full((12, 1), 100.0), np.full((12, 1), 100.0), ("A",))
    orders = np.zeros(12)
    orders[2], orders[6], orders[8] = 150.0, -150.0, -1.0
    with pytest.raises(DataError, match=r"orders: sells 1 A at .*where 0 are held"):
        from_orders(flat, orders, costs=FREE)
    orders[8] = 0.0
    result = from_orders(flat, orders, costs=FREE)
    bought, sold = (one[1] for one in quantities(result))
    assert 90.0 < bought < 101.0 and sold == -bought
