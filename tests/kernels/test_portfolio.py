"""Fills, trades, carry, margin and returns of the portfolio, against plain references and by hand."""

from __future__ import annotations

from fractions import Fraction
from math import inf, isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.portfolio import (
    add_drawdown,
    add_return,
    add_to_streak,
    bar_return,
    carried,
    closes_held,
    drawdown,
    exposure_of,
    margin_call,
    mean_entry,
    next_variance,
    position_at_close,
    reduced,
    unit_payments,
)

lots_held = st.integers(-50, 50).map(float)
prices = st.floats(0.01, 1e4)
money = st.floats(-1e6, 1e6)


@settings(deadline=None)
@given(lots=lots_held, kept=st.floats(0.0, 1.0), price=prices, paid=prices)
def test_reductions_equal_those_lot_by_lot(
    lots: float, kept: float, price: float, paid: float
) -> None:
    change = -lots + round(kept * lots)
    flow = -lots * paid
    after, left, ended, profit = reduced(lots, flow, change, price)
    step = 1.0 if change > 0.0 else -1.0
    for _ in range(int(abs(change))):
        lots += step
        flow -= step * price
    assert after == lots
    closed = lots == 0.0 and change != 0.0
    assert ended == (1.0 if closed else 0.0)
    assert left == pytest.approx(0.0 if closed else flow, rel=1e-9, abs=1e-6)
    assert profit == pytest.approx(flow if closed else 0.0, rel=1e-9, abs=1e-6)


@settings(deadline=None)
@given(fills=st.lists(st.tuples(st.integers(-9, 9), prices), max_size=20), last=prices)
def test_cash_is_conserved_over_fills(fills: list[tuple[int, float]], last: float) -> None:
    lots, flow, cash, closed = 0.0, 0.0, 0.0, 0.0
    for change, price in fills:
        # As the account does it: what reduces first, then the rest.
        first = float(change) if lots * change < 0.0 else 0.0
        first = max(min(first, abs(lots)), -abs(lots))
        lots, flow, _, profit = reduced(lots, flow, first, price)
        closed += profit
        lots += change - first
        flow -= (change - first) * price
        cash -= change * price
    assert cash + lots * last == pytest.approx(closed + flow + lots * last, rel=1e-9, abs=1e-6)
    assert lots != 0.0 or flow == 0.0


@pytest.mark.parametrize(
    ("lots", "flow", "change", "expected"),
    [
        (10.0, -100.0, -4.0, (6.0, -52.0, 0.0, 0.0)),  # 4 at 12 bring 48
        (10.0, -100.0, -10.0, (0.0, 0.0, 1.0, 20.0)),
        (10.0, -100.0, 0.0, (10.0, -100.0, 0.0, 0.0)),
        (-10.0, 100.0, 4.0, (-6.0, 52.0, 0.0, 0.0)),
        (-10.0, 100.0, 10.0, (0.0, 0.0, 1.0, -20.0)),
        (0.0, 0.0, 0.0, (0.0, 0.0, 0.0, 0.0)),
    ],
)
def test_a_reduction_by_hand(
    lots: float, flow: float, change: float, expected: tuple[float, ...]
) -> None:
    assert reduced(lots, flow, change, 12.0) == expected


@pytest.mark.parametrize(
    ("lots", "entry", "change", "expected"),
    [
        (0.0, 7.0, 10.0, 12.0),  # opening: the price, whatever came before
        (0.0, 7.0, -10.0, 12.0),
        (10.0, 6.0, 20.0, 10.0),  # (60 + 240) / 30
        (-10.0, 6.0, -20.0, 10.0),
        (10.0, 6.0, 0.0, 6.0),
        (0.0, 6.0, 0.0, 6.0),
    ],
)
def test_the_entry_by_hand(lots: float, entry: float, change: float, expected: float) -> None:
    assert mean_entry(lots, entry, change, 12.0) == expected


@settings(deadline=None)
@given(fills=st.lists(st.tuples(st.integers(1, 99), prices), min_size=1, max_size=8))
def test_the_entry_is_the_mean_price_paid(fills: list[tuple[int, float]]) -> None:
    for side in (1.0, -1.0):
        lots, entry = 0.0, 0.0
        for quantity, price in fills:
            entry = mean_entry(lots, entry, side * quantity, price)
            lots += side * quantity
        paid = sum(quantity * price for quantity, price in fills)
        assert entry == pytest.approx(paid / abs(lots), rel=1e-12)


def test_carry_by_hand() -> None:
    # Cash earns 1 % and costs 5 %.
    assert carried(1000.0, 0.0, 0.0, 0.01, 0.05) == 10.0
    assert carried(-1000.0, 0.0, 0.0, 0.01, 0.05) == -50.0
    assert carried(0.0, 0.0, 0.0, 0.01, 0.05) == 0.0
    # Of 2000, the 1500 of a short position are collateral; its loan costs 7.
    assert carried(2000.0, 1500.0, 7.0, 0.01, 0.05) == -2.0
    # Sold short for 1000 and lost 600 on it: 600 of the collateral are borrowed.
    assert carried(1000.0, 1600.0, 7.0, 0.01, 0.05) == -37.0


def test_payments_by_hand() -> None:
    # Funding of 1% of 200, of -0.5% of 100, and none.
    paid = unit_payments(
        np.array([0.0, 3.0, 4.0]), np.array([0.01, -0.005, 0.0]), np.array([200.0, 100.0, 50.0])
    )
    assert paid.tolist() == [-2.0, 3.5, 4.0]


@settings(deadline=None)
@given(
    cash=money,
    shorts=st.floats(0.0, 1e6),
    fees=st.floats(0.0, 1e3),
    credit=st.floats(-0.01, 0.01),
    debit=st.floats(0.0, 0.01),
)
def test_carry_equals_its_definition(
    cash: float, shorts: float, fees: float, credit: float, debit: float
) -> None:
    free = Fraction(cash) - Fraction(shorts)
    rate = Fraction(credit if free > 0 else debit)
    expected = float(free * rate - Fraction(fees))
    assert carried(cash, shorts, fees, credit, debit) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_a_margin_call_by_hand() -> None:
    assert not margin_call(250.0, 1000.0, 0.25)
    assert margin_call(249.0, 1000.0, 0.25)
    assert margin_call(-1.0, 1000.0, 0.25)
    # Without positions there is nothing to close.
    assert not margin_call(0.0, 0.0, 0.25)
    assert not margin_call(-100.0, 0.0, 0.25)


@settings(deadline=None)
@given(returns=st.lists(st.floats(-1.5, 1.0), max_size=30))
def test_the_sums_are_those_of_the_powers(returns: list[float]) -> None:
    sums = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    for return_ in returns:
        sums = add_return(return_, *sums)
    array = np.array(returns)
    expected = [(array**power).sum() for power in (1, 2, 3, 4)]
    expected.append((array[array < 0.0] ** 2).sum())
    expected.append(-array[array < 0.0].sum())
    assert sums == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_drawdowns_by_hand() -> None:
    sums = (0.0, 0.0, 0.0)
    for fall in (0.0, 0.1, 0.2, 0.0, 0.3):
        sums = add_drawdown(fall, *sums)
    assert sums == pytest.approx((0.14, 1.0, 2.0))


def test_a_losing_streak_by_hand() -> None:
    streak = (0.0, 0.0)
    # A trade that earns nothing is not won; where none ended, nothing changes.
    for ended, profit in ((1.0, -5.0), (1.0, 0.0), (0.0, 0.0), (1.0, 2.0), (1.0, -1.0)):
        streak = add_to_streak(ended, profit, *streak)
    assert streak == (1.0, 2.0)


def test_a_return_and_an_exposure_by_hand() -> None:
    assert bar_return(110.0, 100.0) == pytest.approx(0.1, abs=1e-15)
    assert bar_return(0.0, 100.0) == -1.0
    assert bar_return(0.0, 0.0) == 0.0
    assert exposure_of(150.0, 100.0) == 1.5
    assert exposure_of(0.0, 0.0) == 0.0
    # A debt: lost more than all, then nothing happens any more.
    assert bar_return(-50.0, 100.0) == -1.5
    assert bar_return(-50.0, -50.0) == 0.0
    assert exposure_of(0.0, -50.0) == 0.0


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
    assert drawdown(-50.0, 100.0) == 1.5
    assert drawdown(-50.0, -50.0) == 0.0


def steps_of(closes: list[float], lots: list[float], opened: list[bool]) -> list[tuple[float, ...]]:
    """What ``position_at_close`` says at each close, carried on; ``opened``: a position began since."""
    held, highest, lowest, entry = -inf, 0.0, 0.0, 100.0
    said = []
    for close, now, began in zip(closes, lots, opened, strict=True):
        held = 0.0 if began else held
        *values, highest, lowest = position_at_close(now, entry, held, highest, lowest, close)
        held = closes_held(held, now)
        said.append(tuple(values))
    return said


def test_what_a_signal_is_told_of_its_position() -> None:
    closes = [100.0, 101.0, 104.0, 98.0, 99.0, 99.0, 99.0, 90.0]
    lots = [0.0, 5.0, 7.0, -2.0, 0.0, 0.0, 0.0, 0.0]
    opened = [False, True, False, True, False, False, True, False]
    side, bars, now, best, worst, entry, since = zip(*steps_of(closes, lots, opened), strict=True)
    assert side == (0.0, 1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0)
    assert bars == (0.0, 1.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    assert now == (0.0, 0.01, 0.04, 0.02, 0.0, 0.0, 0.0, 0.0)
    assert best == (0.0, 0.01, 0.04, 0.02, 0.0, 0.0, 0.0, 0.0)
    assert worst == (0.0, 0.01, 0.01, 0.02, 0.0, 0.0, 0.0, 0.0)
    assert entry == (0.0, 100.0, 100.0, 100.0, 0.0, 0.0, 0.0, 0.0)
    # At the seventh close a position had been opened and closed within the bar.
    assert since == (inf, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0, 2.0)
