"""Fills: prices after slippage, cost per lot, the cut to what cash can pay, and stop prices."""

import numpy as np

from kernels._jit import jit


@jit
def buy_cost_per_lot(price: float, lot_size: float, slippage: float, commission: float) -> float:
    """Cash that buying one lot takes, slippage and commission included.

    Args:
        price: before slippage.
        lot_size: units per lot.
        slippage: a fraction of the price.
        commission: a fraction of the value after slippage.

    Returns:
        Money per lot.
    """
    return price * (1.0 + slippage) * lot_size * (1.0 + commission)


@jit
def sell_proceeds_per_lot(
    price: float, lot_size: float, slippage: float, commission: float
) -> float:
    """Cash that selling one lot brings, slippage and commission deducted.

    Args:
        price: before slippage.
        lot_size: units per lot.
        slippage: a fraction of the price.
        commission: a fraction of the value after slippage.

    Returns:
        Money per lot.
    """
    return price * (1.0 - slippage) * lot_size * (1.0 - commission)


@jit
def affordable_lots(cash: float, cost: float, inverse_cost: float) -> float:
    """Whole lots that cash can pay.

    Args:
        cash: money, >= 0.
        cost: money per lot, by ``buy_cost_per_lot``.
        inverse_cost: ``1 / cost``.

    Returns:
        The most lots with ``lots * cost <= cash`` in floating point.
    """
    # The product with the inverse may be one ulp above or below a whole number.
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

    A bar that opens beyond a level fills at the open. If both a stop and the profit target lie inside the
    bar, the stop is taken, because the bar does not tell which came first.

    Args:
        lots: position, signed; 0 gives 0.
        entry: mean fill price.
        best: highest high since entry of a long position, lowest low of a short one, up to the bar
            before. The order of high and low within this bar is unknown too.
        open_, high, low: prices of the bar.
        stop_loss, take_profit, trailing_stop: distances as fractions of ``entry`` (trailing: of
            ``best``), inf where off.

    Returns:
        The price before slippage, or 0.
    """
    side = 1.0 if lots > 0.0 else -1.0
    # A short is a long with its prices negated and high and low swapped.
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
