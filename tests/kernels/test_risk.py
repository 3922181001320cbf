"""Sizes, orders, places and the shared budget against plain references and by hand."""

from __future__ import annotations

from fractions import Fraction
from math import floor, inf, nextafter

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from kernels.codes import (
    EQUAL_WEIGHT,
    KELLY,
    RISK_PER_TRADE,
    SIZINGS,
    VOLATILITY_TARGET,
    WEIGHT,
)
from kernels.risk import (
    barred_direction,
    budget_left,
    budget_share,
    comes_before,
    correlation_adjustment,
    defined_direction,
    inverse_of_lot,
    kelly_size,
    larger,
    mean_correlation,
    needs_volatility,
    other_size,
    placed_order,
    reducing_part,
    scaled_lots,
    shared_order,
    signals_position,
    smaller,
    target_size,
    weighted_correlation,
)
from tests.reference.simulation import ParameterSet, parts, placed

modest = settings(deadline=None, max_examples=200)
shares = st.floats(0.0, 1.0)
long_lots = st.integers(0, 200).map(float)
signed_lots = st.integers(-200, 200).map(float)
units = st.sampled_from([0.01, 0.5, 1.0, 50.0])
smallest = st.sampled_from([0.0, 0.3, 1.0, 5.0, 40.0])
bands = st.sampled_from([0.0, 0.1, 0.5, 1.5])
both = pytest.mark.parametrize("short", [None, True], ids=["long", "long-short"])


def lots_for(short: object) -> st.SearchStrategy[float]:
    """Positions of an account with or without shorts."""
    return long_lots if short is None else signed_lots


@given(a=st.floats(), b=st.floats())
@settings(deadline=None)
def test_smaller_and_larger(a: float, b: float) -> None:
    if a == a and b == b:
        assert smaller(a, b) == min(a, b)
        assert larger(a, b) == max(a, b)
    else:
        assert np.array_equal([smaller(a, b), larger(a, b)], [b, b], equal_nan=True)


# Sizes.


@given(
    scaled=st.floats(0.0, 10.0),
    strength=st.floats(0.0, 0.1),
    confidence=shares,
    variance=st.floats(1e-8, 1.0),
)
@settings(deadline=None)
def test_the_kelly_size_is_its_formula(
    scaled: float, strength: float, confidence: float, variance: float
) -> None:
    expected = Fraction(scaled) * Fraction(strength) * Fraction(confidence) / Fraction(variance)
    actual = kelly_size(scaled, strength * confidence, 1.0 / variance)
    assert actual == pytest.approx(float(expected), rel=1e-14, abs=1e-300)


def test_sizes_by_hand() -> None:
    # 0.5 * 0.001 * 0.8 / 0.02**2
    assert kelly_size(0.5, 0.001 * 0.8, 1.0 / 0.02**2) == pytest.approx(1.0, rel=1e-14)
    # A target of 0.01 a bar at a volatility of 0.04, with confidence 0.5.
    size = other_size(VOLATILITY_TARGET, 0.01, 0.5, 1.0 / 0.04, 1.0, inf)
    assert size == pytest.approx(0.125, rel=1e-14)
    assert other_size(WEIGHT, 0.3, 0.5, 25.0, 0.1, inf) == 0.15
    # An exposure of 0.8 over four symbols.
    assert other_size(EQUAL_WEIGHT, 0.8, 0.5, 25.0, 0.25, inf) == 0.1
    # 1 % at risk over a stop of 5 %.
    size = other_size(RISK_PER_TRADE, 0.01, 0.5, 25.0, 0.1, 0.05)
    assert size == pytest.approx(0.1, rel=1e-14)


@pytest.mark.parametrize("sizing", range(len(SIZINGS)))
def test_what_needs_a_volatility_holds_without_one(sizing: int) -> None:
    needed = needs_volatility(sizing)
    assert needed == (sizing in (KELLY, VOLATILITY_TARGET))
    for direction in (-1.0, 0.0, 1.0, 2.0):
        assert defined_direction(direction, 50.0, needed) == direction
        acted = defined_direction(direction, 0.0, needed)
        assert acted == (2.0 if needed and direction in (-1.0, 1.0) else direction)


@both
@pytest.mark.parametrize("direction", [-1.0, 0.0, 1.0, 2.0])
@pytest.mark.parametrize("lots", [-3.0, 0.0, 3.0])
def test_what_counts_for_equal_weights(direction: float, lots: float, short: object) -> None:
    counts = direction == 1.0 or (direction == 2.0 and lots != 0.0)
    counts |= direction == -1.0 and short is not None
    assert signals_position(direction, lots, short) == counts


@both
@modest
@given(
    direction=st.sampled_from([-1.0, 0.0, 1.0, 2.0]),
    fraction=st.one_of(st.floats(0.0, 3.0), st.just(1e6)),
    max_weight=st.floats(0.0, 2.0),
    equity=st.floats(-500.0, 5000.0),
    lot_value=st.one_of(st.sampled_from([1.0, 8.0, 10.0, 49.0]), st.floats(0.01, 500.0)),
)
def test_a_target_is_the_fraction_in_whole_lots(
    short: object,
    direction: float,
    fraction: float,
    max_weight: float,
    equity: float,
    lot_value: float,
) -> None:
    target = target_size(direction, fraction, max_weight, equity, inverse_of_lot(lot_value), short)
    if direction not in (1.0, -1.0) or (direction == -1.0 and short is None) or equity <= 0.0:
        assert target == 0.0
        return
    exact = min(Fraction(fraction), Fraction(max_weight)) * Fraction(equity) / Fraction(lot_value)
    assert target == 0.0 or target * direction > 0.0
    near = abs(exact - round(exact)) < Fraction(1e-12) * max(exact, Fraction(1))
    assert abs(target) == floor(exact) or (near and abs(target) == round(exact))


@modest
@given(lots=st.integers(1, 10**6).map(float), lot_value=st.floats(1e-3, 1e5))
@example(lots=1.0, lot_value=49.0)  # 49 * (1 / 49) is below 1
@example(lots=3.0, lot_value=0.1)
def test_a_position_at_its_cap_stays(lots: float, lot_value: float) -> None:
    inverse = inverse_of_lot(lot_value)
    assert target_size(1.0, 1e6, 1.0, lots * lot_value, inverse, None) == lots
    assert target_size(-1.0, 1e6, 1.0, lots * lot_value, inverse, True) == -lots


# Orders.


@both
@modest
@given(data=st.data())
def test_placed_orders_equal_the_reference(short: object, data: st.DataObject) -> None:
    target, lots = data.draw(lots_for(short)), data.draw(lots_for(short))
    lot_units, least, band = data.draw(units), data.draw(smallest), data.draw(bands)
    chosen = ParameterSet(min_order_size=least, rebalance_band=band)
    order = placed_order(target, lots, lot_units, least, band, short)
    assert order == placed(target, lots, lot_units, chosen)
    # Never below the minimum where it opens or adds, and only to the target or out of the market.
    if abs(lots + order) > abs(lots):
        assert abs(order) * lot_units >= least
    assert lots + order in (target, lots, 0.0)
    if target == 0.0:
        assert order == -lots
    # What is placed is placed again: the test of an order does not depend on who asks.
    assert placed_order(lots + order, lots, lot_units, least, band, short) == order


@both
@modest
@given(data=st.data())
def test_an_order_that_reduces_is_only_held_by_the_band(short: object, data: st.DataObject) -> None:
    lots = data.draw(lots_for(short).filter(bool))
    target = float(round(lots * data.draw(shares)))
    least, band = data.draw(smallest), data.draw(bands)
    order = placed_order(target, lots, 1.0, least, band, short)
    inside = abs(target - lots) < band * abs(target)
    assert order == (0.0 if inside else target - lots)


@modest
@given(target=long_lots, lots=long_lots, lot_units=units, least=smallest, band=bands, share=shares)
def test_without_shorts_the_rules_are_the_same(
    target: float, lots: float, lot_units: float, least: float, band: float, share: float
) -> None:
    rules = lot_units, least, band
    order = placed_order(target, lots, *rules, None)
    assert order == placed_order(target, lots, *rules, True)
    assert reducing_part(order, lots, None) == reducing_part(order, lots, True)
    one = shared_order(order, lots, share, *rules, None)
    assert one == shared_order(order, lots, share, *rules, True)


@modest
@given(order=signed_lots, lots=signed_lots)
def test_an_order_has_a_part_that_reduces(order: float, lots: float) -> None:
    reduction = reducing_part(order, lots, True)
    assert (reduction, order - reduction) == parts(order, lots)
    assert abs(lots + reduction) <= abs(lots)
    assert (lots + reduction) * lots >= 0.0
    # The rest opens or adds: it never takes from what is left.
    assert (lots + reduction) * (order - reduction) >= 0.0


@pytest.mark.parametrize(
    ("target", "lots", "least", "band", "expected"),
    [
        (25.0, 0.0, 1.0, 0.0, 25.0),
        (25.0, 0.0, 26.0, 0.0, 0.0),  # too small
        (25.0, 20.0, 5.0, 0.0, 5.0),
        (25.0, 20.0, 6.0, 0.0, 0.0),
        (20.0, 25.0, 6.0, 0.0, -5.0),  # reduces: no minimum
        (0.0, 2.0, 99.0, 9.0, -2.0),  # an exit
        (25.0, 23.0, 1.0, 0.1, 0.0),  # 2 is inside 2.5
        (25.0, 22.0, 1.0, 0.1, 3.0),
        (25.0, 27.0, 1.0, 0.1, 0.0),
        (25.0, 28.0, 1.0, 0.1, -3.0),
        (-3.0, 5.0, 9.0, 0.0, -5.0),  # too small to turn around: an exit
        (-4.0, 5.0, 9.0, 0.0, -9.0),
        (-25.0, -20.0, 6.0, 0.0, 0.0),
        (-25.0, -23.0, 1.0, 0.1, 0.0),
        (0.0, -23.0, 99.0, 9.0, 23.0),
    ],
)
def test_placed_orders_by_hand(
    target: float, lots: float, least: float, band: float, expected: float
) -> None:
    assert placed_order(target, lots, 1.0, least, band, True) == expected
    # Two units a lot: half the minimum in lots.
    assert placed_order(target, lots, 2.0, 2.0 * least, band, True) == expected


# The budget.


@modest
@given(
    max_exposure=st.floats(0.1, 5.0),
    equity=st.floats(-100.0, 5000.0),
    gross=st.floats(0.0, 9000.0),
    freed=st.floats(0.0, 9000.0),
    added=st.floats(0.0, 1e5),
)
def test_the_budget_is_never_exceeded(
    max_exposure: float, equity: float, gross: float, freed: float, added: float
) -> None:
    left = max(max_exposure * equity - gross + freed, 0.0)
    assert budget_left(max_exposure, equity, gross, freed) == left
    share = budget_share(left, added)
    assert 0.0 <= share <= 1.0
    assert share * added <= left * (1.0 + 1e-15)
    if share < 1.0:
        assert share * added == pytest.approx(left, rel=1e-12)
    else:
        assert added <= left


def test_the_budget_by_hand() -> None:
    assert budget_left(1.5, 1000.0, 400.0, 100.0) == 1200.0
    assert budget_left(1.0, 1000.0, 1200.0, 100.0) == 0.0
    assert budget_left(1.0, -500.0, 0.0, 0.0) == 0.0
    assert budget_share(1200.0, 1200.0) == 1.0
    assert budget_share(1200.0, 2400.0) == 0.5
    assert budget_share(0.0, 50.0) == 0.0
    assert budget_share(0.0, 0.0) == 1.0


@modest
@given(lots=st.integers(-(10**6), 10**6).map(float), share=shares)
@example(lots=70.0, share=1000.0 / 1400.0)
@example(lots=10.0, share=nextafter(1.0, 0.0))
def test_scaled_lots_are_whole_and_never_more(lots: float, share: float) -> None:
    scaled = scaled_lots(lots, share)
    assert abs(scaled) <= abs(lots)
    assert scaled * lots >= 0.0
    assert scaled == int(scaled)
    exact = abs(Fraction(lots)) * Fraction(share)
    near = abs(exact - round(exact)) <= Fraction(1e-14) * max(exact, Fraction(1))
    assert abs(scaled) == floor(exact) or (near and abs(scaled) == round(exact))
    assert scaled_lots(lots, 1.0) == lots


@both
@modest
@given(data=st.data())
def test_a_shared_order_keeps_its_reduction(short: object, data: st.DataObject) -> None:
    lots, target = data.draw(lots_for(short)), data.draw(lots_for(short))
    share = data.draw(st.one_of(shares, st.sampled_from([0.0, 1.0])))
    rules = data.draw(units), data.draw(smallest), data.draw(bands)
    order = placed_order(target, lots, *rules, short)
    shared = shared_order(order, lots, share, *rules, short)
    reduction, addition = parts(order, lots)
    shared_reduction, shared_addition = parts(shared, lots)
    assert shared_reduction == reduction or shared == 0.0
    assert abs(shared_addition) <= abs(addition) * share * (1.0 + 1e-15)
    if reduction == order:
        # An order that reduces is never cut.
        assert shared == order
    if share == 1.0:
        assert shared == order
    if abs(lots + shared) > abs(lots):
        assert abs(shared) * rules[0] >= rules[1]


def test_shared_orders_by_hand() -> None:
    assert shared_order(80.0, 0.0, 0.625, 1.0, 1.0, 0.0, None) == 50.0
    assert shared_order(80.0, 0.0, 0.625, 1.0, 51.0, 0.0, None) == 0.0
    assert shared_order(-80.0, 100.0, 0.0, 1.0, 51.0, 0.0, None) == -80.0
    # From long 10 to short 20: 10 to close, and 0.55 of 20 to open.
    assert shared_order(-30.0, 10.0, 0.55, 1.0, 1.0, 0.0, True) == -21.0
    # 21 units are too few to turn the position around: it closes.
    assert shared_order(-30.0, 10.0, 0.55, 1.0, 22.0, 0.0, True) == -10.0
    assert shared_order(-30.0, 10.0, 0.0, 1.0, 1.0, 0.0, True) == -10.0


# Places.


@modest
@given(
    ranks=st.lists(
        st.tuples(st.sampled_from([0.0, 0.1, 0.2]), st.sampled_from([0.0, 50.0, 100.0])),
        min_size=1,
        max_size=7,
    ),
    places=st.integers(0, 7),
)
def test_places_go_by_rank_and_equals_stay_together(
    ranks: list[tuple[float, float]], places: int
) -> None:
    ahead = [
        sum(comes_before(*one, *other) for j, other in enumerate(ranks) if j != i)
        for i, one in enumerate(ranks)
    ]
    comes_in = [n < places for n in ahead]
    assert sum(comes_in) <= places
    for i, one in enumerate(ranks):
        at_least = sum(other >= one for other in ranks)
        assert comes_in[i] == (at_least <= places)
        for j, other in enumerate(ranks):
            if one == other:
                assert comes_in[i] == comes_in[j]
            if one > other:
                assert comes_in[i] >= comes_in[j]


def test_places_by_hand() -> None:
    assert comes_before(0.1, 50.0, 0.2, 10.0)
    assert not comes_before(0.2, 10.0, 0.1, 50.0)
    # Of two that are equal the less volatile one comes in.
    assert comes_before(0.1, 50.0, 0.1, 60.0)
    assert not comes_before(0.1, 60.0, 0.1, 50.0)
    assert comes_before(0.1, 50.0, 0.1, 50.0)


# Correlation and stops.


@given(st.data())
@settings(deadline=None, max_examples=50)
def test_the_weighted_correlation_leaves_the_symbol_out(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 9))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    matrix, values = random.uniform(-1.0, 1.0, (n, n)), random.normal(0.0, 1e4, n)
    for s in range(n):
        others = [j for j in range(n) if j != s]
        expected = sum(float(matrix[s, j]) * float(values[j]) for j in others)
        assert weighted_correlation(matrix, s, values) == pytest.approx(expected, abs=1e-9)


@given(penalty=shares, rho=st.floats(-1.0, 1.0))
@settings(deadline=None)
def test_the_correlation_adjustment_only_cuts(penalty: float, rho: float) -> None:
    adjustment = correlation_adjustment(penalty, rho)
    assert 0.0 <= adjustment <= 1.0
    assert adjustment == 1.0 - penalty * max(rho, 0.0)
    if rho <= 0.0 or penalty == 0.0:
        assert adjustment == 1.0


@given(
    own=st.floats(-1e6, 1e6),
    others=st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1.0, 1.0)), max_size=6),
)
@settings(deadline=None)
@example(own=100.0, others=[])
@example(own=0.0, others=[])
def test_the_mean_correlation_is_weighted_by_exposure(
    own: float, others: list[tuple[float, float]]
) -> None:
    held = sum(abs(value) for value, _ in others)
    # Where the others are negligible next to the position, none of their digits are left.
    assume(held == 0.0 or held > 1e-3 * abs(own))
    gross = abs(own) + held
    weighted = sum(value * rho for value, rho in others)
    actual = mean_correlation(weighted, gross, own)
    exact = sum((Fraction(value) * Fraction(rho) for value, rho in others), Fraction(0))
    if held == 0.0:
        assert actual == 0.0
    else:
        total = sum((abs(Fraction(value)) for value, _ in others), Fraction(0))
        assert actual == pytest.approx(float(exact / total), abs=1e-11)


def test_equal_symbols_are_no_more_than_equal() -> None:
    # Two symbols that move as one with the third; rounding the gross value leaves a mean above 1,
    # a factor below 0 and, long only, a target of -1.
    own, second = 9734.65, 1.7
    firsts = [cents / 100 for cents in range(100, 200)]
    worst = max(mean_correlation(one + second, own + one + second, own) for one in firsts)
    adjustment = correlation_adjustment(1.0, worst)
    assert adjustment >= 0.0
    assert target_size(1.0, 0.5 * adjustment, 1.0, 1000.0, inverse_of_lot(10.0), None) >= 0.0


@pytest.mark.parametrize(
    ("direction", "barred", "expected"),
    [
        (1.0, 0.0, (1.0, 0.0)),
        (1.0, 1.0, (0.0, 1.0)),  # the same signal continues
        (2.0, 1.0, (2.0, 1.0)),  # HOLD is not a new signal
        (-1.0, 1.0, (-1.0, 0.0)),
        (0.0, 1.0, (0.0, 0.0)),
        (-1.0, -1.0, (0.0, -1.0)),
        (1.0, -1.0, (1.0, 0.0)),
        (2.0, 0.0, (2.0, 0.0)),
    ],
)
def test_a_barred_direction_by_hand(
    direction: float, barred: float, expected: tuple[float, float]
) -> None:
    assert barred_direction(direction, barred) == expected
