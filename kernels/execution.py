"""Fills: price after slippage, cost per lot, and the cut to what cash can pay."""

import numpy as np

from kernels._jit import jit


@jit
def buy_cost_per_lot(price: float, lot_size: float, slippage: float, commission: float) -> float:
    """Cash that one lot bought at ``price`` takes, slippage and commission (fractions) included."""
    return price * (1.0 + slippage) * lot_size * (1.0 + commission)


@jit
def sell_proceeds_per_lot(
    price: float, lot_size: float, slippage: float, commission: float
) -> float:
    """Cash that one lot sold at ``price`` brings, slippage and commission (fractions) deducted."""
    return price * (1.0 - slippage) * lot_size * (1.0 - commission)


@jit
def affordable_lots(cash: float, cost: float, inverse_cost: float) -> float:
    """Whole lots that ``cash`` can pay at ``cost`` each: ``lots * cost <= cash`` in floats too."""
    # The product with the inverse may be an ulp off a whole number, on either side.
    lots = float(np.floor(cash * inverse_cost))
    lots = lots + 1.0 if (lots + 1.0) * cost <= cash else lots
    return lots - 1.0 if lots * cost > cash else lots


@jit
def stop_price(
    lots: float,
    entry: float,
    best: float,
    open_: float,
    high: float,
    low: float,
    stop_loss: float,
    take_profit: float,
    trailing_stop: float,
) -> float:
    """Price at which a stop closes the position in this bar, or 0.

    A bar that opens beyond a level fills at the open. Where both a stop and the profit target lie
    inside the bar, the stop is taken: the bar does not say which came first. ``best`` is that of
    the bars before, since the order of high and low within the bar is unknown too.

    Args:
        lots: position, signed; 0 gives 0.
        entry: mean fill price.
        best: highest high since entry of a long, lowest low of a short.
        open_, high, low: of the bar.
        stop_loss, take_profit, trailing_stop: distances as fractions, inf where off.
    """
    side = 1.0 if lots > 0.0 else -1.0
    # Mirrored in the sign, a short is a long: prices negate, high and low change places.
    start, peak, first = entry * side, best * side, open_ * side
    worst = low if side > 0.0 else -high
    top = high if side > 0.0 else -low
    loss_level = start - entry * stop_loss
    trail_level = peak - best * trailing_stop
    level = loss_level if loss_level > trail_level else trail_level
    goal = start + entry * take_profit
    price = goal if top >= goal else 0.0
    price = level if worst <= level else price
    price = first if (first <= level) | (first >= goal) else price
    return price * side if lots != 0.0 else 0.0
