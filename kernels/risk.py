"""From a signal to an order: size, regime, correlation, lots, and the budget that all orders share.

Quantities are in lots. They are whole numbers held as floats, so a closed position is exactly 0.
"""

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.codes import EQUAL_WEIGHT, HOLD, KELLY, RISK_PER_TRADE, VOLATILITY_TARGET

_HOLD = float(HOLD)
_NUDGE = 1.0 + 2.0**-50
"""A few ulps above 1, so that n lots do not count as n - 1 because of rounding."""


@jit
def kelly_size(scaled_size: float, edge: float, inverse_variance: float) -> float:
    """Fraction of equity to hold: ``kelly_fraction * strength * confidence / sigma**2``.

    Kelly (1956), Merton (1969), Thorp (2006).

    Args:
        scaled_size: share of the full Kelly size times the regime multiplier.
        edge: strength (expected return per bar, a fraction) times confidence (0 to 1).
        inverse_variance: 1 / sigma**2 per bar, for the larger sigma of symbol and portfolio.

    Returns:
        A fraction of equity, >= 0.
    """
    return scaled_size * edge * inverse_variance


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
def either(condition: bool, a: float, b: float) -> float:
    """One of two floats, as one select instruction.

    Written in place, the choice would skip the computation of the other, and the loop over lanes would
    load and store under masks, which some processors take many times as long for.

    Args:
        condition: whether ``a`` is chosen.
        a, b: both computed.

    Returns:
        One of the two.
    """
    return a if condition else b


@jit
def correlation_adjustment(penalty: float, rho: float) -> float:
    """Factor ``1 - penalty * max(0, rho)`` on the size.

    Args:
        penalty: 0 to 1.
        rho: the mean correlation that ``mean_correlation`` returned, -1 to 1.

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
        direction: the direction of the signal.
        barred: direction that a stop closed, or 0.

    Returns:
        The direction to act on, and the direction barred from now on.
    """
    leaves = (direction != barred) & (direction != _HOLD)
    same = (direction == barred) & (barred != 0.0)
    return (0.0 if same else direction), (0.0 if leaves else barred)


@jit
def needs_volatility(sizing: int) -> bool:
    """Whether a sizing mode divides by the symbol's volatility.

    Args:
        sizing: a code of ``kernels.codes``.

    Returns:
        True if it does; a long or short signal then holds where the volatility is 0.
    """
    return (sizing == KELLY) | (sizing == VOLATILITY_TARGET)


@jit
def defined_direction(direction: float, inverse_volatility: float, needed: bool) -> float:
    """A direction, or HOLD where it could not be sized.

    A price that stands still is no reason to trade.

    Args:
        direction: the direction of the signal.
        inverse_volatility: the inverse volatility of the symbol; 0 where its volatility is 0.
        needed: whether volatility is needed, as ``needs_volatility`` says.

    Returns:
        The direction to act on.
    """
    undefined = needed & (inverse_volatility == 0.0) & (abs(direction) == 1.0)
    return _HOLD if undefined else direction


@jit
def other_size(
    sizing: int,
    scaled_size: float,
    confidence: float,
    inverse_volatility: float,
    inverse_signals: float,
    stop: float,
) -> float:
    """Fraction of equity to hold, in the modes other than ``kelly``.

    Args:
        sizing: a code of ``kernels.codes``.
        scaled_size: the mode's own size times the regime multiplier: volatility per bar, weight,
            exposure to share, or share of equity at risk.
        confidence: 0 to 1.
        inverse_volatility: the inverse volatility of the symbol, per bar.
        inverse_signals: 1 / number of symbols that signal.
        stop: distance of the stop, a fraction of the price; inf where there is none.

    Returns:
        A fraction of equity, >= 0.
    """
    size = scaled_size * confidence
    if sizing == VOLATILITY_TARGET:
        size = size * inverse_volatility
    if sizing == EQUAL_WEIGHT:
        size = size * inverse_signals
    if sizing == RISK_PER_TRADE:
        size = size / stop
    return size


@jit
def signals_position(direction: float, lots: float, short: object) -> bool:
    """Whether a symbol counts for ``equal_weight``: it is to be held, or stays held.

    Args:
        direction: the direction of the signal, after ``barred_direction``.
        lots: position, signed.
        short: None where short positions are off.

    Returns:
        True if it does.
    """
    wanted = (direction == 1.0) | ((direction == _HOLD) & (lots != 0.0))
    if short is None:
        return wanted
    return wanted | (direction == -1.0)


@jit
def inverse_of_lot(lot_value: float) -> float:
    """Lots per unit of money, a few ulps high, so that the value of n lots never counts as n - 1.

    Otherwise a position at its limit would lose a lot to rounding and buy it back.

    Args:
        lot_value: money per lot.

    Returns:
        Lots per unit of money.
    """
    return _NUDGE / lot_value


@jit
def target_size(
    direction: float,
    fraction: float,
    max_weight: float,
    equity: float,
    inverse_lot_value: float,
    short: object,
) -> float:
    """The position that a signal wants, before the budget is shared.

    Args:
        direction: -1, 0, 1, or 2 to hold.
        fraction: the fraction of equity, regime and correlation included.
        max_weight: cap of the fraction.
        equity: money at the close.
        inverse_lot_value: what ``inverse_of_lot`` returned.
        short: None where short positions are off (compiled out), anything else where on.

    Returns:
        Lots, signed; 0 for a direction of 0 or 2.
    """
    value = smaller(fraction, max_weight) * larger(equity, 0.0)
    wanted = float(np.floor(value * inverse_lot_value))
    if short is None:
        return wanted if direction == 1.0 else 0.0
    return direction * wanted if abs(direction) == 1.0 else 0.0


@jit
def placed_order(
    target: float,
    lots: float,
    lot_units: float,
    min_order_size: float,
    rebalance_band: float,
    short: object,
) -> float:
    """The order that takes a position to its target, or 0 where it is too small to be placed.

    Args:
        target, lots: position wanted and held, signed.
        lot_units: units per lot.
        min_order_size: smallest order that opens or adds, units.
        rebalance_band: a change smaller than this share of the target is not placed.
        short: None where short positions are off.

    Returns:
        Lots, signed.
    """
    order = target - lots
    if short is None:
        small = (order > 0.0) & (order * lot_units < min_order_size)
        inside = abs(order) < rebalance_band * target
        return 0.0 if small | inside else order
    small = abs(order) * lot_units < min_order_size
    turns = target * lots < 0.0
    # An order that is too small to turn the position around still closes it.
    closes = small & turns
    small = small & (abs(target) > abs(lots)) & (target != 0.0)
    inside = abs(order) < rebalance_band * abs(target)
    order = 0.0 if small | inside else order
    return -lots if closes else order


@jit
def reducing_part(order: float, lots: float, short: object) -> float:
    """The part of an order that reduces the position; the rest opens or adds.

    Args:
        order: lots, signed.
        lots: position, signed.
        short: None where short positions are off.

    Returns:
        Lots, signed, opposite to the position; 0 if nothing is reduced.
    """
    if short is None:
        return smaller(order, 0.0)
    closing = smaller(abs(order), abs(lots))
    side = 1.0 if order > 0.0 else -1.0
    return side * closing if order * lots < 0.0 else 0.0


@jit
def budget_left(max_exposure: float, equity: float, gross: float, freed: float) -> float:
    """Money by which the gross value of the positions may grow.

    Args:
        max_exposure: largest gross value over equity.
        equity, gross: money at the close.
        freed: value of all reductions decided at this close, money.

    Returns:
        Money, >= 0.
    """
    return larger(max_exposure * equity - gross + freed, 0.0)


@jit
def budget_share(left: float, added: float) -> float:
    """Factor by which all additions of a close are scaled, so that they fit the budget.

    Args:
        left: the budget left, as ``budget_left`` returned it.
        added: value of all additions, money.

    Returns:
        0 to 1; 1 where the budget suffices.
    """
    return left / added if added > left else 1.0


@jit
def scaled_lots(lots: float, share: float) -> float:
    """Lots after scaling, rounded toward zero.

    Args:
        lots: signed.
        share: 0 to 1.

    Returns:
        Lots, signed.
    """
    side = 1.0 if lots > 0.0 else -1.0
    return side * float(np.floor(abs(lots) * share * _NUDGE))


@jit
def shared_order(
    order: float,
    lots: float,
    share: float,
    lot_units: float,
    min_order_size: float,
    rebalance_band: float,
    short: object,
) -> float:
    """An order after the additions of its close were scaled.

    Args:
        order: the order that ``placed_order`` returned, in lots.
        lots: position, signed.
        share: the share that ``budget_share`` returned.
        lot_units, min_order_size, rebalance_band, short: the same as in ``placed_order``.

    Returns:
        Lots, signed.
    """
    if short is None:
        # What placed_order says of an addition, in half the operations.
        added = float(np.floor(larger(order, 0.0) * share * _NUDGE))
        small = added * lot_units < min_order_size
        inside = added < rebalance_band * (lots + added)
        return smaller(order, 0.0) + (0.0 if small | inside else added)
    reduction = reducing_part(order, lots, short)
    target = lots + reduction + scaled_lots(order - reduction, share)
    return placed_order(target, lots, lot_units, min_order_size, rebalance_band, short)


@jit
def comes_before(
    edge: float, inverse_volatility: float, other_edge: float, other_inverse_volatility: float
) -> bool:
    """Whether another symbol has a claim at least as good to a place under ``max_positions``.

    Args:
        edge: strength times confidence.
        inverse_volatility: the inverse volatility of the symbol.
        other_edge, other_inverse_volatility: the edge and the inverse volatility of the other
            symbol.

    Returns:
        True if it has.
    """
    equal = (other_edge == edge) & (other_inverse_volatility >= inverse_volatility)
    return (other_edge > edge) | equal
