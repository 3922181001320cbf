"""Costs, the cut to cash and stop prices against plain references and by hand."""

from __future__ import annotations

from fractions import Fraction
from math import inf, nextafter

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kernels.execution import affordable_lots, buy_cost_per_lot, sell_proceeds_per_lot, stop_price
from tests.reference.simulation import ParameterSet, Position, stop_at

prices = st.floats(0.01, 1e5)
fractions = st.floats(0.0, 0.1)


def payable(cash: float, cost: float) -> float:
    """The cut with the inverse that the simulation hands in."""
    return affordable_lots(cash, cost, 1.0 / cost)


@settings(deadline=None)
@given(price=prices, lot_size=st.floats(1e-6, 1e3), slippage=fractions, commission=fractions)
def test_costs_are_those_of_exact_arithmetic(
    price: float, lot_size: float, slippage: float, commission: float
) -> None:
    value = Fraction(price) * Fraction(lot_size)
    cost = value * (1 + Fraction(slippage)) * (1 + Fraction(commission))
    proceeds = value * (1 - Fraction(slippage)) * (1 - Fraction(commission))
    arguments = price, lot_size, slippage, commission
    assert buy_cost_per_lot(*arguments) == pytest.approx(float(cost), rel=1e-14)
    assert sell_proceeds_per_lot(*arguments) == pytest.approx(float(proceeds), rel=1e-14)
    assert sell_proceeds_per_lot(*arguments) <= buy_cost_per_lot(*arguments)


def test_costs_by_hand() -> None:
    # 100 + 1 % = 101, half a unit: 50.5, + 2 % = 51.51; 99, 49.5, 48.51.
    assert buy_cost_per_lot(100.0, 0.5, 0.01, 0.02) == pytest.approx(51.51, abs=1e-12)
    assert sell_proceeds_per_lot(100.0, 0.5, 0.01, 0.02) == pytest.approx(48.51, abs=1e-12)


@settings(deadline=None)
@given(cash=st.floats(0.0, 1e12), cost=st.floats(1e-3, 1e6))
# A digit less than 304 and 34 lots cost, whose product with the inverse rounds up to whole lots.
@example(cash=nextafter(304 * 311.91, 0.0), cost=311.91)
@example(cash=nextafter(34 * 761.34, 0.0), cost=761.34)
def test_cash_pays_the_lots_and_not_one_more(cash: float, cost: float) -> None:
    lots = payable(cash, cost)
    assert lots >= 0.0
    assert lots == int(lots)
    assert lots * cost <= cash
    assert (lots + 1.0) * cost > cash


@settings(deadline=None)
@given(lots=st.integers(0, 10**7), cost=st.floats(1e-3, 1e6))
@example(lots=1, cost=49.0)  # 49 * (1 / 49) is below 1
@example(lots=2, cost=98.0)
def test_exact_cash_pays_all_of_its_lots(lots: int, cost: float) -> None:
    assert payable(lots * cost, cost) == lots


def test_cash_by_hand() -> None:
    assert payable(100.0, 8.0) == 12.0
    assert payable(96.0, 8.0) == 12.0
    assert payable(95.999, 8.0) == 11.0
    assert payable(0.0, 8.0) == 0.0
    assert payable(7.0, 8.0) == 0.0


@st.composite
def bars(draw: st.DrawFn) -> tuple[float, float, float]:
    """Open, high and low on a grid, so that levels are touched exactly, or anywhere."""
    step = draw(st.sampled_from([1.0, 0.37]))
    low = draw(st.integers(80, 120))
    open_ = low + draw(st.integers(0, 20))
    high = open_ + draw(st.integers(0, 20))
    return open_ * step, high * step, low * step


@settings(deadline=None)
@given(
    bar=bars(),
    lots=st.sampled_from([-30.0, -1.0, 1.0, 30.0]),
    entry=st.integers(80, 140).map(float),
    best=st.integers(80, 140).map(float),
    stop_loss=st.sampled_from([inf, 0.01, 0.05, 0.1, 1.0]),
    take_profit=st.sampled_from([inf, 0.01, 0.05, 0.1, 1.0]),
    trailing_stop=st.sampled_from([inf, 0.01, 0.05, 0.1, 1.0]),
)
def test_stop_prices_equal_the_reference(
    bar: tuple[float, float, float],
    lots: float,
    entry: float,
    best: float,
    stop_loss: float,
    take_profit: float,
    trailing_stop: float,
) -> None:
    open_, high, low = bar
    distances = stop_loss, take_profit, trailing_stop
    actual = stop_price(lots, entry, best, open_, high, low, *distances)
    chosen = ParameterSet(stop_loss=stop_loss, take_profit=take_profit, trailing_stop=trailing_stop)
    position = Position(lots=lots, entry=entry, best=best)
    assert actual == stop_at(position, open_, high, low, chosen)
    assert actual == 0.0 or low <= actual <= high
    if distances == (inf, inf, inf):
        assert actual == 0.0
    # The worst within a bar: no other order of its prices would have filled worse than a stop does,
    # and one that opens beyond the level fills no better than its open.
    if actual != 0.0 and open_ <= entry - entry * stop_loss and lots > 0.0:
        assert actual == open_


@pytest.mark.parametrize("distances", [(inf, inf, inf), (0.05, 0.1, 0.05)])
def test_no_position_has_no_stop(distances: tuple[float, float, float]) -> None:
    for entry, best in ((0.0, 0.0), (100.0, 120.0)):
        assert stop_price(0.0, entry, best, 10.0, 500.0, 1.0, *distances) == 0.0


@pytest.mark.parametrize(
    ("lots", "best", "bar", "distances", "expected"),
    [
        (1.0, 100.0, (98.0, 99.0, 94.0), (0.05, inf, inf), 95.0),
        (1.0, 100.0, (98.0, 99.0, 96.0), (0.05, inf, inf), 0.0),
        (1.0, 100.0, (93.0, 99.0, 92.0), (0.05, inf, inf), 93.0),
        (1.0, 120.0, (118.0, 150.0, 113.0), (0.05, inf, 0.05), 114.0),
        (1.0, 100.0, (100.0, 121.0, 99.0), (0.05, 0.2, inf), 120.0),
        (1.0, 100.0, (125.0, 130.0, 99.0), (0.05, 0.2, inf), 125.0),
        (1.0, 100.0, (100.0, 121.0, 94.0), (0.05, 0.2, inf), 95.0),
        (-1.0, 100.0, (102.0, 106.0, 101.0), (0.05, inf, inf), 105.0),
        (-1.0, 100.0, (107.0, 108.0, 99.0), (0.05, inf, inf), 107.0),
        (-1.0, 80.0, (82.0, 85.0, 60.0), (0.05, inf, 0.05), 84.0),
        (-1.0, 100.0, (100.0, 101.0, 79.0), (0.05, 0.2, inf), 80.0),
        (-1.0, 100.0, (75.0, 101.0, 70.0), (0.05, 0.2, inf), 75.0),
        (-1.0, 100.0, (100.0, 106.0, 79.0), (0.05, 0.2, inf), 105.0),
    ],
)
def test_stop_prices_by_hand(
    lots: float,
    best: float,
    bar: tuple[float, float, float],
    distances: tuple[float, float, float],
    expected: float,
) -> None:
    actual = stop_price(lots, 100.0, best, *bar, *distances)
    assert actual == pytest.approx(expected, abs=1e-12)
