"""From a signal to an order: Kelly size, regime, correlation, budget, cash, lots.

Quantities are in lots: whole numbers held as floats, so that a closed position is exactly 0.
"""

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
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

_HOLD = 2.0


@jit
def kelly_size(
    scaled_kelly_fraction: float, strength: float, confidence: float, inverse_variance: float
) -> float:
    """Fraction of equity to hold: ``kelly_fraction * strength * confidence / sigma**2``.

    Kelly (1956), Thorp (2006), Merton (1969).

    Args:
        scaled_kelly_fraction: share of the full Kelly size times the regime multiplier.
        strength: expected return per bar.
        confidence: 0..1.
        inverse_variance: 1 / sigma**2 per bar, of the larger sigma of symbol and portfolio.
    """
    return scaled_kelly_fraction * (strength * confidence) * inverse_variance


@jit
def smaller(a: float, b: float) -> float:
    """The smaller of two floats as one select."""
    return a if a < b else b


@jit
def larger(a: float, b: float) -> float:
    """The larger of two floats as one select."""
    return a if a > b else b


@jit
def correlation_adjustment(penalty: float, rho: float) -> float:
    """Factor ``1 - penalty * max(0, rho)``; rho is the mean correlation with the positions held."""
    return 1.0 - penalty * larger(0.0, rho)


@jit
def mean_correlation(weighted: float, gross: float, own: float) -> float:
    """Exposure-weighted mean correlation with the other positions; 0 with none held.

    Args:
        weighted: sum over the other positions of signed value times correlation.
        gross: gross value of all positions.
        own: signed value of the symbol's own position.
    """
    others = gross - abs(own)
    # Rounding can take the mean of correlations of 1 a little above it.
    mean = larger(smaller(weighted / others, 1.0), -1.0)
    return mean if others > 0.0 else 0.0


@jit
def weighted_correlation(
    correlations: npt.NDArray[np.float64], symbol: int, values: npt.NDArray[np.float64]
) -> float:
    """Sum over the other positions of signed value times correlation with ``symbol``."""
    total = 0.0
    for j in range(len(values)):
        rho = 0.0 if j == symbol else correlations[symbol, j]
        total = total + rho * values[j]
    return total


@jit
def barred_direction(direction: float, barred: float) -> tuple[float, float]:
    """Keep a position that a stop closed from reopening while the same signal lasts.

    HOLD says nothing new, so it does not lift the bar. Returns (direction, barred).
    """
    leaves = (direction != barred) & (direction != _HOLD)
    same = (direction == barred) & (barred != 0.0)
    return (0.0 if same else direction), (0.0 if leaves else barred)


@jit
def budget(max_exposure: float, equity: float, gross: float) -> float:
    """Money that new positions may still take; below 0 where the market has carried it over."""
    return max_exposure * equity - gross


@jit
def cash_taken(order: float, lot_value: float) -> float:
    """Cash that an order lays claim to; a sale frees none before it is filled."""
    return larger(order, 0.0) * lot_value


@jit
def budget_taken(order: float, lots: float, lot_value: float, short: object) -> float:
    """Budget that an order lays claim to; a reduction frees none before it is filled."""
    if short is None:
        return larger(order, 0.0) * lot_value
    return larger(abs(lots + order) - abs(lots), 0.0) * lot_value


@jit
def inverse_of_lot(lot_value: float) -> float:
    """Lots per money, a few ulps high: the value of n lots then counts n lots, never n - 1.

    Otherwise a position at its limit would lose a lot to rounding and buy it back.
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
    """Order that takes the position to its target, and the three sizes it is the smallest of.

    Args:
        direction: -1, 0, 1, or 2 to hold the position as it is.
        fraction: Kelly size times the correlation adjustment, a fraction of equity.
        equity: money, at the close.
        lots: position held, signed.
        lot_value: money per lot at the close.
        inverse_lot_value: by ``inverse_of_lot``.
        cash_left, budget_left: money that the orders of this bar may still use.
        min_lots: an order that opens or adds is at least this large.
        rebalance_band: a change smaller than this share of the target is not placed.
        short: None where short positions are off (compiled out), anything else where on.

    Returns:
        (order in lots, target in lots, Kelly value, budget value, cash value); the values in money.
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
        # Too small to turn around is never too small to get out.
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
    """Why ``order_size`` placed no order, as a code; PLACED where it did."""
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
    correlations: npt.NDArray[np.float64] | None,
    symbol: int,
    values: npt.NDArray[np.float64],
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
        variance: of the portfolio, per unit of exposure.
        correlations: (n_symbols, n_symbols); None for no adjustment.
        symbol: index.
        values, values_gross: (n_symbols,) position values as of the last refresh, and their gross.
        correlation_penalty, equity, lots, lot_value, cash_left, budget_left, min_lots,
            rebalance_band, short: as of ``order_size``.
        barred: direction that a stop keeps closed, or 0.

    Returns:
        (order, target, Kelly value, budget value, cash value, reason, barred).
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
