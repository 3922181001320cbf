"""Fills, trades and returns of the portfolio against plain references and by hand."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.portfolio import (
    apply_buy,
    apply_sell,
    bar_return,
    drawdown,
    entry_price,
    exposure_of,
    next_variance,
)

lots_held = st.integers(-50, 50).map(float)
quantities = st.integers(0, 50).map(float)
prices = st.floats(0.01, 1e4)

Apply = Callable[[float, float, float, float, object], tuple[float, float, float, float]]


def apply_fill(
    lots: float, flow: float, change: float, price: float
) -> tuple[float, float, list[float]]:
    """Position, cash flow of the open trade and profits of trades that ended, lot by lot."""
    profits: list[float] = []
    step = 1.0 if change > 0.0 else -1.0
    for _ in range(int(abs(change))):
        flow -= step * price
        lots += step
        if lots == 0.0:
            profits.append(flow)
            flow = 0.0
    return lots, flow, profits


@pytest.mark.parametrize(("apply", "sign"), [(apply_sell, -1.0), (apply_buy, 1.0)])
@settings(deadline=None)
@given(lots=lots_held, quantity=quantities, price=prices, paid=st.floats(0.01, 1e4))
def test_fills_equal_those_lot_by_lot(
    apply: Apply, sign: float, lots: float, quantity: float, price: float, paid: float
) -> None:
    flow = -lots * paid
    after, left, ended, profit = apply(lots, flow, quantity, price, True)
    expected_lots, expected_flow, profits = apply_fill(lots, flow, sign * quantity, price)
    assert after == expected_lots
    assert left == pytest.approx(expected_flow, rel=1e-9, abs=1e-6)
    assert ended == len(profits)
    assert profit == pytest.approx(sum(profits), rel=1e-9, abs=1e-6)


@settings(deadline=None)
@given(lots=quantities, price=prices, paid=prices, data=st.data())
def test_long_only_equals_long_or_short(
    lots: float, price: float, paid: float, data: st.DataObject
) -> None:
    flow = -lots * paid
    sold = float(data.draw(st.integers(0, int(lots))))
    assert apply_sell(lots, flow, sold, price, None) == apply_sell(lots, flow, sold, price, True)
    bought = data.draw(quantities)
    assert apply_buy(lots, flow, bought, price, None) == apply_buy(lots, flow, bought, price, True)


@settings(deadline=None)
@given(
    fills=st.lists(st.tuples(st.integers(-9, 9), prices), max_size=20),
    last=prices,
)
def test_cash_is_conserved_over_fills(fills: list[tuple[int, float]], last: float) -> None:
    lots, flow, cash, closed = 0.0, 0.0, 0.0, 0.0
    for change, price in fills:
        apply = apply_buy if change > 0 else apply_sell
        lots, flow, _, profit = apply(lots, flow, float(abs(change)), price, True)
        cash -= change * price
        closed += profit
    assert cash + lots * last == pytest.approx(closed + flow + lots * last, rel=1e-9, abs=1e-6)
    assert lots != 0.0 or flow == 0.0


@pytest.mark.parametrize(
    ("lots", "flow", "sold", "expected"),
    [
        (10.0, -100.0, 4.0, (6.0, -52.0, 0.0, 0.0)),  # 4 at 12 bring 48
        (10.0, -100.0, 10.0, (0.0, 0.0, 1.0, 20.0)),
        (10.0, -100.0, 15.0, (-5.0, 60.0, 1.0, 20.0)),  # 5 short at 12
        (-5.0, 60.0, 5.0, (-10.0, 120.0, 0.0, 0.0)),
        (0.0, 0.0, 5.0, (-5.0, 60.0, 0.0, 0.0)),
        (10.0, -100.0, 0.0, (10.0, -100.0, 0.0, 0.0)),
    ],
)
def test_a_sale_by_hand(lots: float, flow: float, sold: float, expected: tuple[float, ...]) -> None:
    assert apply_sell(lots, flow, sold, 12.0, True) == expected
    if sold <= lots:
        assert apply_sell(lots, flow, sold, 12.0, None) == expected


@pytest.mark.parametrize(
    ("lots", "flow", "bought", "expected"),
    [
        (-10.0, 100.0, 4.0, (-6.0, 68.0, 0.0, 0.0)),  # 4 at 8 cost 32
        (-10.0, 100.0, 10.0, (0.0, 0.0, 1.0, 20.0)),
        (-10.0, 100.0, 15.0, (5.0, -40.0, 1.0, 20.0)),
        (5.0, -40.0, 5.0, (10.0, -80.0, 0.0, 0.0)),
        (-10.0, 100.0, 0.0, (-10.0, 100.0, 0.0, 0.0)),
    ],
)
def test_a_purchase_by_hand(
    lots: float, flow: float, bought: float, expected: tuple[float, ...]
) -> None:
    assert apply_buy(lots, flow, bought, 8.0, True) == expected
    if lots >= 0.0:
        assert apply_buy(lots, flow, bought, 8.0, None) == expected


@pytest.mark.parametrize(
    ("lots", "entry", "change", "expected"),
    [
        (0.0, 7.0, 10.0, 12.0),  # opening: the price, whatever came before
        (0.0, 7.0, -10.0, 12.0),
        (10.0, 6.0, 20.0, 10.0),  # (60 + 240) / 30
        (-10.0, 6.0, -20.0, 10.0),
        (10.0, 6.0, -4.0, 6.0),  # reducing
        (-10.0, 6.0, 4.0, 6.0),
        (10.0, 6.0, -25.0, 12.0),  # turning around
        (-10.0, 6.0, 25.0, 12.0),
        (10.0, 6.0, 0.0, 6.0),
        (0.0, 6.0, 0.0, 6.0),
    ],
)
def test_the_entry_by_hand(lots: float, entry: float, change: float, expected: float) -> None:
    assert entry_price(lots, entry, change, 12.0) == expected


@settings(deadline=None)
@given(fills=st.lists(st.tuples(st.integers(1, 99), prices), min_size=1, max_size=8))
def test_the_entry_is_the_mean_price_paid(fills: list[tuple[int, float]]) -> None:
    for side in (1.0, -1.0):
        lots, entry = 0.0, 0.0
        for quantity, price in fills:
            entry = entry_price(lots, entry, side * quantity, price)
            lots += side * quantity
        paid = sum(quantity * price for quantity, price in fills)
        assert entry == pytest.approx(paid / abs(lots), rel=1e-12)


def test_a_return_and_an_exposure_by_hand() -> None:
    assert bar_return(110.0, 100.0) == pytest.approx(0.1, abs=1e-15)
    assert bar_return(0.0, 100.0) == -1.0
    assert bar_return(0.0, 0.0) == 0.0
    assert exposure_of(150.0, 100.0) == 1.5
    assert exposure_of(0.0, 0.0) == 0.0


def test_the_variance_by_hand() -> None:
    # 0.9 * 0.01 + 0.1 * (0.1 / 0.5)**2
    assert next_variance(0.01, 0.1, 0.5, 0.25, 0.9) == pytest.approx(0.013, abs=1e-15)
    assert next_variance(0.01, 0.1, 0.25, 0.5, 0.9) == pytest.approx(0.013, abs=1e-15)
    assert next_variance(0.01, -0.1, 0.5, 0.5, 0.9) == pytest.approx(0.013, abs=1e-15)
    # Flat before and after: the variance stays.
    assert next_variance(0.01, 0.0, 0.0, 0.0, 0.9) == 0.01


@settings(deadline=None)
@given(
    returns=st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=30),
    decay=st.floats(0.5, 0.99),
    exposure=st.floats(0.01, 5.0),
)
def test_the_variance_is_the_weighted_sum(
    returns: list[float], decay: float, exposure: float
) -> None:
    variance = 0.0
    for return_ in returns:
        variance = next_variance(variance, return_, exposure, exposure, decay)
    ages = reversed(range(len(returns)))
    expected = sum(
        (1.0 - decay) * decay**age * (return_ / exposure) ** 2
        for age, return_ in zip(ages, returns, strict=True)
    )
    assert variance == pytest.approx(expected, rel=1e-9, abs=1e-18)


@settings(deadline=None)
@given(equity=st.floats(0.0, 1e9), peak=st.floats(1.0, 1e9))
def test_a_drawdown_is_a_fall_from_the_peak(equity: float, peak: float) -> None:
    top = max(equity, peak)
    fall = drawdown(equity, top)
    assert 0.0 <= fall <= 1.0
    assert top * (1.0 - fall) == pytest.approx(equity, rel=1e-9, abs=1e-6)


def test_nothing_falls_no_further() -> None:
    assert not isnan(drawdown(0.0, 0.0))
