"""Costs, buying power and stop prices against plain references and by hand."""

from __future__ import annotations

from fractions import Fraction
from math import floor, inf, sqrt

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kernels.execution import (
    buying_power,
    cut_lots,
    fill_terms,
    lot_need,
    payable_share,
    stop_price,
    volume_limit,
)
from tests.reference.simulation import ParameterSet, Position, stop_at

prices = st.floats(0.01, 1e5)
fractions = st.floats(0.0, 0.1)
sides = st.sampled_from([1.0, -1.0])
sizes = st.floats(1e-6, 1e3)
money = st.floats(0.0, 100.0)

NO_FEES = (0.0, 0.0, 0.0, 0.0, 0.0)
"""Commission per unit, least commission, commission per order, impact, and 1 over the volume."""


@settings(deadline=None)
@given(
    side=sides,
    price=prices,
    units=sizes,
    multiplier=st.floats(0.1, 100.0),
    slippage=fractions,
    half_spread=st.floats(0.0, 0.005),
    commission=fractions,
)
def test_terms_are_those_of_exact_arithmetic(
    side: float,
    price: float,
    units: float,
    multiplier: float,
    slippage: float,
    half_spread: float,
    commission: float,
) -> None:
    worth = units * multiplier
    actual = fill_terms(
        side, 7.0, price, units, worth, slippage, half_spread, commission, *NO_FEES, None
    )
    sign = int(side)
    paid = Fraction(price) * (1 + sign * Fraction(slippage)) + sign * Fraction(half_spread)
    cash = paid * Fraction(worth) * (1 + sign * Fraction(commission))
    assert actual == pytest.approx((float(paid), float(cash)), rel=1e-12)
    # The terms that depend on the size agree where none of them is given.
    sized = fill_terms(
        side, 7.0, price, units, worth, slippage, half_spread, commission, *NO_FEES, True
    )
    assert sized == pytest.approx(actual, rel=1e-14)


@settings(deadline=None)
@given(
    side=sides,
    lots=st.integers(1, 10**6).map(float),
    price=st.floats(1.0, 1e4),
    units=st.floats(1e-3, 1e2),
    commission=fractions,
    per_unit=money,
    minimum=money,
    per_order=money,
    impact=fractions,
    volume=st.one_of(st.just(inf), st.floats(1.0, 1e9)),
)
def test_terms_that_depend_on_the_size(
    side: float,
    lots: float,
    price: float,
    units: float,
    commission: float,
    per_unit: float,
    minimum: float,
    per_order: float,
    impact: float,
    volume: float,
) -> None:
    paid, cash = fill_terms(
        side, lots, price, units, units, 0.001, 0.0, commission, per_unit, minimum, per_order,
        impact, 1.0 / volume, True,
    )  # fmt: skip
    worse = 0.001 + impact * sqrt(lots * units / volume)
    expected = max(price * (1.0 + side * worse), 0.0)
    value = lots * units * expected
    fee = max(minimum, commission * value + per_unit * lots * units) + per_order
    assert paid == pytest.approx(expected, rel=1e-12, abs=1e-9)
    assert lots * cash == pytest.approx(value + side * fee, rel=1e-9, abs=1e-6)
    assert paid >= 0.0


def test_terms_by_hand() -> None:
    # 100 + 1 % + 0.5 = 101.5, half a unit: 50.75, + 2 % = 51.765; 98.5, 49.25, 48.265.
    arguments = 3.0, 100.0, 0.5, 0.5, 0.01, 0.5, 0.02, 0.0, 0.0, 0.0, 0.0, 0.0, None
    assert fill_terms(1.0, *arguments) == pytest.approx((101.5, 51.765), abs=1e-12)
    assert fill_terms(-1.0, *arguments) == pytest.approx((98.5, 48.265), abs=1e-12)
    # 4 lots of 25 units are a hundredth of 10000: an impact of 0.1 * 0.1 = 1 %. 101 * 25 = 2525 a
    # lot. Commission 0.1 % of 10100 = 10.1, and 0.05 * 100 = 5: 15.1, + 2 = 17.1, 4.275 a lot.
    terms = fill_terms(
        1.0, 4.0, 100.0, 25.0, 25.0, 0.0, 0.0, 0.001, 0.05, 9.0, 2.0, 0.1, 1e-4, True
    )
    assert terms == pytest.approx((101.0, 2529.275), abs=1e-9)
    # The minimum of 20 is more than 15.1: 22, 5.5 a lot.
    terms = fill_terms(
        1.0, 4.0, 100.0, 25.0, 25.0, 0.0, 0.0, 0.001, 0.05, 20.0, 2.0, 0.1, 1e-4, True
    )
    assert terms == pytest.approx((101.0, 2530.5), abs=1e-9)
    # A sale gets at least 0 before commission, and no fill costs nothing.
    assert fill_terms(-1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 2.0, 0.0, *NO_FEES, None) == (0.0, 0.0)
    assert fill_terms(1.0, 0.0, 9.0, 1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 5.0, 3.0, 0.0, 0.0, True) == (
        9.0,
        18.0,
    )


@settings(deadline=None)
@given(
    lots=st.integers(0, 10**6).map(float),
    share=st.one_of(st.just(inf), st.floats(0.0, 1.0)),
    volume=st.one_of(st.just(inf), st.floats(1e-3, 1e9)),
    units=sizes,
)
def test_a_fill_takes_no_more_than_its_share(
    lots: float, share: float, volume: float, units: float
) -> None:
    assume(share > 0.0)
    filled = volume_limit(lots, share, volume, units)
    assert 0.0 <= filled <= lots
    assert filled == floor(filled)
    if share == inf or volume == inf:
        assert filled == lots
    else:
        assert filled * units <= share * volume * (1.0 + 1e-12)
        if filled < lots:
            assert (filled + 1.0) * units > share * volume * (1.0 - 1e-12)


def test_the_volume_by_hand() -> None:
    assert volume_limit(100.0, 0.1, 455.0, 0.5) == 91.0
    assert volume_limit(100.0, 0.1, 0.4, 0.5) == 0.0
    assert volume_limit(100.0, 0.1, inf, 0.5) == 100.0
    assert volume_limit(100.0, inf, 4.0, 0.5) == 100.0


def test_buying_power_by_hand() -> None:
    # Long 600, short 300, cash 700: equity 1000, gross 900.
    assert buying_power(700.0, 300.0, 900.0, 1.0) == 100.0
    assert buying_power(700.0, 300.0, 900.0, 2.0) == 1100.0
    # Cash alone, in an account without shorts and leverage.
    assert buying_power(700.0, 300.0, 300.0, 1.0) == 700.0
    assert lot_need(1.0, 100.0, 103.0, 1.0) == 103.0
    assert lot_need(1.0, 100.0, 103.0, 2.0) == 106.0
    assert lot_need(-1.0, 100.0, 98.0, 2.0) == 104.0
    # A rebate makes room.
    assert lot_need(1.0, 100.0, 99.0, 2.0) == 98.0


def test_the_payable_share_by_hand() -> None:
    assert payable_share(1000.0, 1000.0, 0.0) == 1.0
    assert payable_share(1000.0, 0.0, 0.0) == 1.0
    assert payable_share(0.0, 0.0, 0.0) == 1.0
    assert payable_share(1000.0, 1250.0, 0.0) == pytest.approx(0.8, abs=1e-11)
    assert payable_share(1000.0, 1020.0, 20.0) == pytest.approx(0.98, abs=1e-11)
    assert payable_share(10.0, 1020.0, 20.0) == 0.0
    assert payable_share(-10.0, 1020.0, 20.0) == 0.0
    assert payable_share(-10.0, 0.0, 0.0) == 0.0
    assert cut_lots(50.0, 0.99) == 49.0
    assert cut_lots(50.0, 1.0) == 50.0


@st.composite
def additions(draw: st.DrawFn) -> tuple[float, float, float, list[tuple[float, ...]]]:
    """Cash, leverage, commission, and per symbol lots, price, units, impact, minimum, per order."""
    symbols = draw(
        st.lists(
            st.tuples(
                st.integers(-500, 500).map(float),
                st.floats(0.1, 1e3),
                st.sampled_from([0.01, 0.5, 1.0]),
                st.sampled_from([0.0, 0.05]),
                st.sampled_from([0.0, 1.0, 30.0]),
                st.sampled_from([0.0, 2.0]),
            ),
            min_size=1,
            max_size=6,
        )
    )
    leverage = draw(st.sampled_from([1.0, 2.0, 5.0]))
    return draw(st.floats(1.0, 1e5)), leverage, draw(fractions), symbols


@settings(deadline=None)
@given(additions())
def test_the_payable_share_never_overspends(
    case: tuple[float, float, float, list[tuple[float, ...]]],
) -> None:
    cash, leverage, commission, symbols = case

    def paid(lots: float, price: float, units: float, *fees: float) -> tuple[float, float]:
        side = 1.0 if lots > 0.0 else -1.0
        impact, minimum, per_order = fees
        _, per_lot = fill_terms(
            side, abs(lots), price, units, units, 0.001, 0.0, commission, 0.01, minimum, per_order,
            impact, 1e-4, True,
        )  # fmt: skip
        return per_lot, abs(lots) * lot_need(side, price * units, per_lot, leverage)

    placed = [one for one in symbols if one[0] != 0.0]
    need = sum(paid(*one)[1] for one in placed)
    fixed = leverage * sum(one[4] + one[5] for one in placed)
    power = buying_power(cash, 0.0, 0.0, leverage)
    share = payable_share(power, need, fixed)
    assert 0.0 <= share <= 1.0
    assert (share == 1.0) == (need <= power)
    left, net, gross = cash, 0.0, 0.0
    for lots, price, units, *fees in placed:
        kept = cut_lots(abs(lots), share) * (1.0 if lots > 0.0 else -1.0)
        if kept != 0.0:
            left -= kept * paid(kept, price, units, *fees)[0]
            net += kept * price * units
            gross += abs(kept) * price * units
    # What is bought is within what equity carries, costs included; without leverage and shorts cash
    # pays for all of it.
    assert gross <= leverage * (left + net) + 1e-9 * cash
    if leverage == 1.0 and all(one[0] > 0.0 for one in placed):
        assert left >= (0.0 if share < 1.0 else -1e-12 * cash)


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
    actual = stop_price(lots, entry, best, open_, high, low, *distances, *NO_RANGE)
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


NO_RANGE = (0.0, 0.0, 0.0, 0.0)
"""No average true range, and no multiples of it."""


@pytest.mark.parametrize("distances", [(inf, inf, inf), (0.05, 0.1, 0.05)])
def test_no_position_has_no_stop(distances: tuple[float, float, float]) -> None:
    for entry, best in ((0.0, 0.0), (100.0, 120.0)):
        assert stop_price(0.0, entry, best, 10.0, 500.0, 1.0, *distances, *NO_RANGE) == 0.0


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
    actual = stop_price(lots, 100.0, best, *bar, *distances, *NO_RANGE)
    assert actual == pytest.approx(expected, abs=1e-12)
