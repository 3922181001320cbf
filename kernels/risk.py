"""From a signal to an order: Kelly size, regime, correlation, budget, cash, lots.

Quantities are in lots. They are whole numbers held as floats, so a closed position is exactly 0.
"""

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.codes import (
    BELOW_MINIMUM,
    HELD,
    HOLD,
    INSIDE_BAND,
    NO_BUDGET,
    NO_CASH,
    NO_EDGE,
    NO_SIGNAL,
    PLACED,
    UNCHANGED,
)

_HOLD = float(HOLD)


@jit
def kelly_size(
    scaled_kelly_fraction: float, strength: float, confidence: float, inverse_variance: float
) -> float:
    """Fraction of equity to hold: ``kelly_fraction * strength * confidence / sigma**2``.

    Kelly (1956), Merton (1969), Thorp (2006).

    Args:
        scaled_kelly_fraction: share of the full Kelly size times the regime multiplier.
        strength: expected return per bar, a fraction.
        confidence: 0 to 1.
        inverse_variance: 1 / sigma**2 per bar, for the larger sigma of symbol and portfolio.

    Returns:
        A fraction of equity, >= 0.
    """
    return scaled_kelly_fraction * (strength * confidence) * inverse_variance


@jit
def smaller(a: float, b: float) -> float:
    """The smaller of two floats, as one select instruction.

    Args:
        a, b: compared; ``b`` is returned if either is NaN.

    Returns:
        One of the two.
    """
    return a if a < b else b


@jit
def larger(a: float, b: float) -> float:
    """The larger of two floats, as one select instruction.

    Args:
        a, b: compared; ``b`` is returned if either is NaN.

    Returns:
        One of the two.
    """
    return a if a > b else b


@jit
def correlation_adjustment(penalty: float, rho: float) -> float:
    """Factor ``1 - penalty * max(0, rho)`` on the Kelly size.

    Args:
        penalty: 0 to 1.
        rho: by ``mean_correlation``, -1 to 1.

    Returns:
        The factor.
    """
    return 1.0 - penalty * larger(0.0, rho)


@jit
def mean_correlation(weighted: float, gross: float, own: float) -> float:
    """Mean correlation with the other positions, weighted by their values.

    Args:
        weighted: sum over the other positions of signed value times correlation, in money.
        gross: gross value of all positions, in money.
        own: signed value of the symbol's own position, in money.

    Returns:
        -1 to 1; 0 if no other position is held.
    """
    others = gross - abs(own)
    # Rounding can take the mean of correlations of 1 slightly above 1.
    mean = larger(smaller(weighted / others, 1.0), -1.0)
    return mean if others > 0.0 else 0.0


@jit
def weighted_correlation(correlations: FloatArray, symbol: int, values: FloatArray) -> float:
    """Sum over the other positions of signed value times correlation with one symbol.

    Args:
        correlations: (n_symbols, n_symbols).
        symbol: number of the symbol.
        values: (n_symbols,), signed values of the positions, in money.

    Returns:
        Money.
    """
    total = 0.0
    for j in range(len(values)):
        rho = 0.0 if j == symbol else correlations[symbol, j]
        total = total + rho * values[j]
    return total


@jit
def barred_direction(direction: float, barred: float) -> tuple[float, float]:
    """Keep a position that a stop closed from reopening while the same signal lasts.

    HOLD is not a new signal, so it does not end the bar on a direction.

    Args:
        direction: of the signal.
        barred: direction that a stop closed, or 0.

    Returns:
        The direction to act on, and the direction barred from now on.
    """
    leaves = (direction != barred) & (direction != _HOLD)
    same = (direction == barred) & (barred != 0.0)
    return (0.0 if same else direction), (0.0 if leaves else barred)


@jit
def budget(max_exposure: float, equity: float, gross: float) -> float:
    """Money that new positions may still take.

    Args:
        max_exposure: largest gross value over equity.
        equity, gross: money.

    Returns:
        Money; negative where the market has carried the positions beyond the limit.
    """
    return max_exposure * equity - gross


@jit
def cash_taken(order: float, lot_value: float) -> float:
    """Cash that an order claims. A sale frees none before it is filled.

    Args:
        order: lots, signed.
        lot_value: money per lot.

    Returns:
        Money, >= 0.
    """
    return larger(order, 0.0) * lot_value


@jit
def budget_taken(order: float, lots: float, lot_value: float, short: object) -> float:
    """Budget that an order claims. A reduction frees none before it is filled.

    Args:
        order: lots, signed.
        lots: position, signed.
        lot_value: money per lot.
        short: None where short positions are off.

    Returns:
        Money, >= 0.
    """
    if short is None:
        return larger(order, 0.0) * lot_value
    return larger(abs(lots + order) - abs(lots), 0.0) * lot_value


@jit
def inverse_of_lot(lot_value: float) -> float:
    """Lots per unit of money, a few ulps high, so that the value of n lots never counts as n - 1.

    Otherwise a position at its limit would lose a lot to rounding and buy it back.

    Args:
        lot_value: money per lot.

    Returns:
        Lots per unit of money.
    """
    return (1.0 + 2.0**-50) / lot_value


@jit
def order_size(
    direction: float,
    fraction: float,
    equity: float,
    lots: float,
    lot_value: float,
    inverse_lot_value: float,
    cash_left: float,
    budget_left: float,
    min_lots: float,
    rebalance_band: float,
    short: object,
) -> tuple[float, float, float, float, float]:
    """The order that takes the position to its target, and the values that limit the target.

    The target is the smallest of the Kelly value, the budget and the cash, in whole lots.

    Args:
        direction: -1, 0, 1, or 2 to hold the position as it is.
        fraction: Kelly size times the correlation adjustment, a fraction of equity.
        equity: money at the close.
        lots: position, signed.
        lot_value: money per lot at the close.
        inverse_lot_value: by ``inverse_of_lot``.
        cash_left, budget_left: money that the orders of this bar may still claim.
        min_lots: smallest order that opens or adds.
        rebalance_band: a change smaller than this share of the target is not placed.
        short: None where short positions are off (compiled out), anything else where on.

    Returns:
        Order and target in lots, signed; Kelly value, budget value and cash value in money.
    """
    kelly_value = fraction * equity
    if short is None:
        held = lots * lot_value
        budget_value = held + larger(budget_left, 0.0)
        cash_value = held + larger(cash_left, 0.0)
        value = smaller(smaller(kelly_value, budget_value), cash_value)
        target = np.floor(value * inverse_lot_value) if direction == 1.0 else 0.0
        order = target - lots
        small = (order > 0.0) & (order < min_lots)
        inside = abs(order) < rebalance_band * target
    else:
        side = direction if abs(direction) == 1.0 else 0.0
        same = lots * lot_value * side
        held = larger(same, 0.0)
        opposite = larger(-same, 0.0)
        budget_value = held + larger(budget_left + opposite, 0.0)
        cash_value = held + larger(cash_left - opposite, 0.0) if side > 0.0 else np.inf
        value = smaller(smaller(kelly_value, budget_value), cash_value)
        target = side * np.floor(value * inverse_lot_value)
        adds = abs(target) > abs(lots)
        small = (abs(target - lots) < min_lots) & (adds | (target * lots < 0.0))
        # An order that is too small to turn the position around still closes it.
        target = 0.0 if small & (target * lots < 0.0) else target
        small = small & (target != 0.0)
        order = target - lots
        inside = abs(order) < rebalance_band * abs(target)
    order = 0.0 if small | inside | (direction == _HOLD) else order
    return order, target, kelly_value, budget_value, cash_value


@jit
def reject_reason(
    direction: float,
    lots: float,
    min_lots: float,
    order: float,
    target: float,
    kelly_value: float,
    budget_value: float,
    cash_value: float,
    short: object,
) -> int:
    """Why ``order_size`` placed no order.

    Args:
        direction, lots, min_lots, short: as passed to ``order_size``.
        order, target, kelly_value, budget_value, cash_value: as it returned them.

    Returns:
        A code of ``kernels.codes``; PLACED if there is an order.
    """
    if order != 0.0:
        return PLACED
    if direction == _HOLD:
        return HELD
    if target == lots:
        if lots != 0.0:
            return UNCHANGED
        if direction == 0.0 or (direction < 0.0 and short is None):
            return NO_SIGNAL
        if kelly_value <= budget_value and kelly_value <= cash_value:
            return NO_EDGE
        return NO_BUDGET if budget_value <= cash_value else NO_CASH
    if abs(target) > abs(lots) and abs(target - lots) < min_lots:
        return BELOW_MINIMUM
    return INSIDE_BAND


@jit
def decide(
    direction: float,
    strength: float,
    confidence: float,
    inverse_volatility: float,
    scaled_kelly_fraction: float,
    variance: float,
    correlations: FloatArray | None,
    symbol: int,
    values: FloatArray,
    values_gross: float,
    correlation_penalty: float,
    equity: float,
    lots: float,
    barred: float,
    lot_value: float,
    cash_left: float,
    budget_left: float,
    min_lots: float,
    rebalance_band: float,
    short: object,
) -> tuple[float, float, float, float, float, int, float]:
    """One symbol's signal through all the rules above, in one call for the event flow.

    Args:
        direction, strength, confidence: of the signal.
        inverse_volatility: of the symbol, per bar; 0 where undefined.
        scaled_kelly_fraction: Kelly fraction times the regime multiplier.
        variance: of the portfolio, per bar and unit of exposure.
        correlations: (n_symbols, n_symbols); None for no adjustment.
        symbol: number of the symbol.
        values: (n_symbols,), signed values of the positions at the last refresh, in money.
        values_gross: their gross value.
        correlation_penalty: 0 to 1.
        equity, lots, lot_value, cash_left, budget_left, min_lots, rebalance_band, short: as in
            ``order_size``.
        barred: direction that a stop closed, or 0.

    Returns:
        Order and target in lots; Kelly value, budget value and cash value in money; the reason as a
        code; the direction barred from now on.
    """
    direction, barred = barred_direction(direction, barred)
    inverse_variance = smaller(inverse_volatility * inverse_volatility, 1.0 / variance)
    fraction = kelly_size(scaled_kelly_fraction, strength, confidence, inverse_variance)
    if correlations is not None:
        weighted = weighted_correlation(correlations, symbol, values)
        rho = mean_correlation(weighted, values_gross, values[symbol])
        if short is not None:
            rho = rho * direction
        fraction = fraction * correlation_adjustment(correlation_penalty, rho)
    order, target, kelly_value, budget_value, cash_value = order_size(
        direction,
        fraction,
        equity,
        lots,
        lot_value,
        inverse_of_lot(lot_value),
        cash_left,
        budget_left,
        min_lots,
        rebalance_band,
        short,
    )
    reason = reject_reason(
        direction, lots, min_lots, order, target, kelly_value, budget_value, cash_value, short
    )
    return order, target, kelly_value, budget_value, cash_value, reason, barred
