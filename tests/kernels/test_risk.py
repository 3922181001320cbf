"""Sizes, orders and reject reasons against plain references, by hand, and what holds for all."""

from __future__ import annotations

from fractions import Fraction
from math import floor, inf

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from kernels.codes import (
    BELOW_MINIMUM,
    HELD,
    INSIDE_BAND,
    NO_BUDGET,
    NO_CASH,
    NO_EDGE,
    NO_SIGNAL,
    PLACED,
    UNCHANGED,
)
from kernels.risk import (
    barred_direction,
    budget,
    budget_taken,
    cash_taken,
    correlation_adjustment,
    inverse_of_lot,
    kelly_size,
    mean_correlation,
    order_size,
    reject_reason,
)
from tests.reference.simulation import ParameterSet, order_for

modest = settings(deadline=None, max_examples=100)

directions = st.sampled_from([-1, 0, 1, 2])
shares = st.floats(0.0, 1.0)
money = st.one_of(st.integers(-2000, 5000).map(float), st.floats(-2000.0, 5000.0))


class Case:
    """The arguments of ``order_size``, in money and lots."""

    def __init__(
        self,
        direction: float,
        fraction: float,
        lots: float = 0.0,
        lot_value: float = 10.0,
        equity: float = 1000.0,
        cash_left: float = 1000.0,
        budget_left: float = 1000.0,
        min_lots: float = 1.0,
        rebalance_band: float = 0.0,
    ) -> None:
        self.direction, self.fraction, self.lots, self.lot_value = (
            float(direction),
            fraction,
            lots,
            lot_value,
        )
        self.equity, self.cash_left, self.budget_left = equity, cash_left, budget_left
        self.min_lots, self.rebalance_band = min_lots, rebalance_band

    def __repr__(self) -> str:
        """All values, for a failing example."""
        return f"Case({vars(self)})"

    def sizes(self, allow_short: bool) -> tuple[float, float, float, float, float]:
        """Order, target, Kelly value, budget value and cash value."""
        return order_size(
            self.direction,
            self.fraction,
            self.equity,
            self.lots,
            self.lot_value,
            inverse_of_lot(self.lot_value),
            self.cash_left,
            self.budget_left,
            self.min_lots,
            self.rebalance_band,
            True if allow_short else None,
        )

    def order(self, allow_short: bool = False) -> float:
        """The order in lots."""
        return self.sizes(allow_short)[0]

    def reason(self, allow_short: bool = False) -> int:
        """The outcome of the signal."""
        return reject_reason(
            self.direction,
            self.lots,
            self.min_lots,
            *self.sizes(allow_short),
            True if allow_short else None,
        )

    def exact_target(self, allow_short: bool) -> int:
        """Target in lots by the rule, in exact arithmetic, before the limits on what is placed."""
        side = int(self.direction) if self.direction in (1, -1) else 0
        if side == -1 and not allow_short:
            side = 0
        if side == 0:
            return 0
        lot_value, lots, zero = Fraction(self.lot_value), int(self.lots), Fraction(0)
        held = max(lots * side, 0) * lot_value
        opposite = max(-lots * side, 0) * lot_value
        value = min(
            Fraction(self.fraction) * Fraction(self.equity),
            held + max(Fraction(self.budget_left) + opposite, zero),
        )
        if side == 1:
            value = min(value, held + max(Fraction(self.cash_left) - opposite, zero))
        return side * floor(value / lot_value)


@st.composite
def cases(draw: st.DrawFn, allow_short: bool) -> Case:
    """Any state of a lane. Without shorting there are no short positions."""
    return Case(
        draw(directions),
        draw(st.one_of(st.just(0.0), st.floats(0.0, 3.0), st.just(1e6))),
        float(draw(st.integers(-200 if allow_short else 0, 200))),
        draw(st.one_of(st.sampled_from([1.0, 8.0, 10.0, 49.0]), st.floats(0.01, 500.0))),
        draw(st.floats(1.0, 5000.0)),
        max(draw(money), 0.0),
        draw(money),
        float(draw(st.sampled_from([0, 1, 5, 40]))),
        draw(st.sampled_from([0.0, 0.1, 0.5])),
    )


both = pytest.mark.parametrize("allow_short", [False, True], ids=["long", "long-short"])


@both
@modest
@given(data=st.data())
def test_orders_equal_the_reference(allow_short: bool, data: st.DataObject) -> None:
    case = data.draw(cases(allow_short))
    chosen = ParameterSet(min_lots=case.min_lots, rebalance_band=case.rebalance_band)
    expected = order_for(
        int(case.direction),
        case.fraction,
        case.equity,
        case.lots,
        case.lot_value,
        case.cash_left,
        case.budget_left,
        chosen,
        allow_short,
    )
    assert case.order(allow_short) == expected


@both
@modest
@given(data=st.data())
def test_a_target_is_within_all_limits(allow_short: bool, data: st.DataObject) -> None:
    case = data.draw(cases(allow_short))
    assume(case.direction != 2.0)
    order, target, kelly, budget_value, cash_value = case.sizes(allow_short)
    value = abs(target) * case.lot_value
    assert target == int(target)
    for limit in (kelly, budget_value, cash_value):
        # The inverse of the lot's value costs a few last digits.
        assert value <= limit * (1.0 + 2e-15) or target == 0.0
    if target != 0.0:
        assert target * case.direction > 0.0
    if not allow_short:
        assert target >= 0.0
        assert order >= -case.lots
    exact = case.exact_target(allow_short)
    if target == 0.0 and exact * case.lots < 0.0:
        # A turn that is too small is an exit; a lot of it may be a last digit.
        assert abs(exact - case.lots) < case.min_lots + 1.0 or abs(exact) == 1
        return
    # One lot more or less where floats round off a last digit that exact arithmetic keeps.
    assert abs(abs(target) - abs(exact)) <= 1
    wanted = min(kelly, budget_value, cash_value) / case.lot_value
    assert target == exact or abs(wanted - round(wanted)) < 1e-12 * max(wanted, 1.0)


@both
@modest
@given(data=st.data())
def test_exits_and_reductions_are_never_refused(allow_short: bool, data: st.DataObject) -> None:
    case = data.draw(cases(allow_short))
    case.cash_left, case.budget_left = 0.0, -1e6
    assume(case.direction != 2.0 and case.lots != 0.0)
    order = case.order(allow_short)
    held = 1.0 if case.lots > 0.0 else -1.0
    if case.direction != held:
        # The signal is gone or reversed and there is no money: the position closes, whatever its size.
        assert order == -case.lots
        return
    smaller = case.fraction * case.equity / case.lot_value
    if smaller < abs(case.lots) - 1.0:
        kept = floor(smaller)
        inside = abs(abs(case.lots) - kept) < case.rebalance_band * kept
        assert inside or abs(case.lots + order) in (kept, kept - 1.0)
    assert abs(case.lots + order) <= abs(case.lots)


@both
@pytest.mark.parametrize("direction", [0, -1])
@given(lots=st.integers(1, 10**6), min_lots=st.floats(0.0, 1e6), band=st.floats(0.0, 100.0))
@settings(deadline=None)
def test_an_exit_is_never_too_small(
    allow_short: bool, direction: int, lots: int, min_lots: float, band: float
) -> None:
    case = Case(direction, 0.0, float(lots), min_lots=min_lots, rebalance_band=band)
    assert case.order(allow_short) == -lots
    if allow_short:
        case = Case(-direction, 0.0, float(-lots), min_lots=min_lots, rebalance_band=band)
        assert case.order(allow_short) == lots


@both
@modest
@given(data=st.data())
def test_to_hold_is_to_do_nothing(allow_short: bool, data: st.DataObject) -> None:
    case = data.draw(cases(allow_short))
    case.direction = 2.0
    assert case.order(allow_short) == 0.0
    assert case.reason(allow_short) == HELD


@modest
@given(case=cases(allow_short=False))
def test_shorting_changes_no_order_without_a_short_signal(case: Case) -> None:
    assume(case.direction != -1.0)
    assert case.order(False) == case.order(True)


@modest
@given(case=cases(allow_short=True))
def test_short_is_long_in_the_mirror_but_for_cash(case: Case) -> None:
    assume(case.direction in (1.0, -1.0))
    case.cash_left = 1e12
    mirror = Case(**{**vars(case), "direction": -case.direction, "lots": -case.lots})
    assert case.order(True) == -mirror.order(True)


@both
@modest
@given(data=st.data())
def test_reasons_agree_with_orders(allow_short: bool, data: st.DataObject) -> None:
    case = data.draw(cases(allow_short))
    order, target, kelly, budget_value, cash_value = case.sizes(allow_short)
    reason = case.reason(allow_short)
    assert (reason == PLACED) == (order != 0.0)
    if case.direction == -1.0 and not allow_short and case.lots == 0.0:
        assert reason == NO_SIGNAL
    if reason == NO_SIGNAL:
        assert case.lots == 0.0
        assert case.direction == 0.0 or (case.direction == -1.0 and not allow_short)
    if reason == UNCHANGED:
        assert target == case.lots != 0.0
    if reason in (NO_EDGE, NO_BUDGET, NO_CASH):
        least = min(kelly, budget_value, cash_value)
        assert least < case.lot_value * (1.0 + 1e-15)
        assert least == {NO_EDGE: kelly, NO_BUDGET: budget_value, NO_CASH: cash_value}[reason]
    if reason == BELOW_MINIMUM:
        assert abs(target - case.lots) < case.min_lots
    if reason == INSIDE_BAND:
        assert abs(target - case.lots) < case.rebalance_band * abs(target)


@pytest.mark.parametrize(
    ("case", "allow_short", "order", "reason"),
    [
        (Case(1, 0.255), False, 25, PLACED),  # 255 at 10 a lot
        (Case(1, 5.0), False, 100, PLACED),
        (Case(1, 5.0, budget_left=305.0), False, 30, PLACED),
        (Case(1, 5.0, cash_left=205.0), False, 20, PLACED),
        (Case(1, 5.0, lots=7.0, cash_left=205.0), False, 20, PLACED),
        (Case(1, 0.05, lots=7.0), False, -2, PLACED),  # 50 at 10: 5
        (Case(1, 0.05, lots=7.0, cash_left=0.0, budget_left=-900.0), False, -2, PLACED),
        (Case(0, 5.0, lots=7.0), False, -7, PLACED),
        (Case(-1, 5.0, lots=7.0), False, -7, PLACED),
        (Case(0, 5.0), False, 0, NO_SIGNAL),
        (Case(2, 5.0), False, 0, HELD),
        (Case(1, 0.009), False, 0, NO_EDGE),
        (Case(1, 5.0, budget_left=9.0), False, 0, NO_BUDGET),
        (Case(1, 5.0, budget_left=-9.0), False, 0, NO_BUDGET),
        (Case(1, 5.0, cash_left=9.0), False, 0, NO_CASH),
        (Case(1, 0.055, lots=5.0), False, 0, UNCHANGED),
        (Case(1, 0.255, min_lots=26.0), False, 0, BELOW_MINIMUM),
        (Case(1, 0.255, lots=20.0, min_lots=6.0), False, 0, BELOW_MINIMUM),
        (Case(1, 0.255, lots=23.0, rebalance_band=0.1), False, 0, INSIDE_BAND),
        (Case(1, 0.255, lots=22.0, rebalance_band=0.1), False, 3, PLACED),
        (Case(1, 0.255, lots=27.0, rebalance_band=0.1), False, 0, INSIDE_BAND),
        (Case(-1, 0.255), True, -25, PLACED),
        (Case(-1, 5.0, cash_left=0.0), True, -100, PLACED),
        (Case(-1, 5.0, budget_left=305.0), True, -30, PLACED),
        # Turning around frees what the position took: 300 and 20 * 10 of budget.
        (Case(-1, 5.0, lots=20.0, budget_left=305.0), True, -70, PLACED),
        # Turning from short to long spends cash on the way: 1000 less 20 * 10.
        (Case(1, 5.0, lots=-20.0), True, 100, PLACED),
        # Too small to turn around (5 + 3 < 9) is an exit.
        (Case(-1, 0.035, lots=5.0, min_lots=9.0), True, -5, PLACED),
        (Case(-1, 0.045, lots=5.0, min_lots=9.0), True, -9, PLACED),
        (Case(-1, 0.255, lots=-20.0, min_lots=6.0), True, 0, BELOW_MINIMUM),
        (Case(-1, 0.255, lots=-23.0, rebalance_band=0.1), True, 0, INSIDE_BAND),
        (Case(0, 0.255, lots=-23.0), True, 23, PLACED),
    ],
    ids=repr,
)
def test_orders_by_hand(case: Case, allow_short: bool, order: float, reason: int) -> None:
    assert case.order(allow_short) == order
    assert case.reason(allow_short) == reason


@pytest.mark.parametrize("fraction", [0.0, 0.5, 5.0])
def test_a_short_signal_is_none_where_shorting_is_off(fraction: float) -> None:
    assert Case(-1, fraction).order(False) == 0.0
    assert Case(-1, fraction).reason(False) == NO_SIGNAL


@pytest.mark.parametrize(("direction", "allow_short"), [(1, False), (1, True), (-1, True)])
@modest
@given(lots=st.integers(1, 10**6).map(float), lot_value=st.floats(1e-3, 1e5))
@example(lots=1.0, lot_value=49.0)  # 49 * (1 / 49) is below 1
def test_a_position_at_its_limit_stays(
    direction: int, allow_short: bool, lots: float, lot_value: float
) -> None:
    # Kelly wants far more; cash and budget are used up. The target is what is held.
    equity = lots * lot_value
    case = Case(direction, 1e6, direction * lots, lot_value, equity, 0.0, 0.0)
    assert case.order(allow_short) == 0.0


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
    actual = kelly_size(scaled, strength, confidence, 1.0 / variance)
    assert actual == pytest.approx(float(expected), rel=1e-14, abs=1e-300)


def test_the_kelly_size_by_hand() -> None:
    # 0.5 * 0.001 * 0.8 / 0.02**2
    assert kelly_size(0.5, 0.001, 0.8, 1.0 / 0.02**2) == pytest.approx(1.0, rel=1e-14)
    assert kelly_size(0.5, 0.001, 0.8, 0.0) == 0.0


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
    assert Case(1, 0.5 * adjustment).order() >= 0.0


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


def test_budget_and_cash_by_hand() -> None:
    assert budget(1.5, 1000.0, 400.0) == 1100.0
    assert budget(1.0, 1000.0, 1200.0) == -200.0
    assert cash_taken(5.0, 10.0) == 50.0
    assert cash_taken(-5.0, 10.0) == 0.0
    for short in (None, True):
        assert budget_taken(5.0, 3.0, 10.0, short) == 50.0
        assert budget_taken(-3.0, 3.0, 10.0, short) == 0.0
    # Long 3 to short 5 takes for 2 more, short 3 to flat for none.
    assert budget_taken(-8.0, 3.0, 10.0, True) == 20.0
    assert budget_taken(3.0, -3.0, 10.0, True) == 0.0
    assert budget_taken(-5.0, -3.0, 10.0, True) == 50.0


def test_a_short_order_has_no_cash_limit() -> None:
    assert Case(-1, 5.0, cash_left=0.0).sizes(True)[4] == inf
