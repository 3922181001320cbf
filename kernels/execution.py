"""Fills: prices, commissions, what buying power can carry, and stop prices."""

import numpy as np

from kernels._jit import jit
from kernels.risk import larger, smaller


@jit
def fill_terms(
    side: float,
    quantity: float,
    price: float,
    lot_units: float,
    lot_money: float,
    slippage: float,
    half_spread: float,
    commission: float,
    per_unit: float,
    minimum: float,
    per_order: float,
    impact: float,
    inverse_volume: float,
    fees: object,
) -> tuple[float, float]:
    """Price of a fill, and the cash that each of its lots takes or brings.

    The square-root law of market impact: Almgren, Thum, Hauptmann and Li (2005).

    Args:
        side: 1 for a purchase, -1 for a sale.
        quantity: lots, >= 0.
        price: the price of the market.
        lot_units, lot_money: units per lot, and money per lot at a price of 1.
        slippage: fraction of the price, half the spread included.
        half_spread: half the spread in units of price; in addition to ``slippage``.
        commission: fraction of the value.
        per_unit, minimum, per_order: the parts of the commission, money; read where ``fees`` is
            given.
        impact: fraction of the price for a fill as large as the bar's volume. Likewise.
        inverse_volume: 1 / units traded in the bar; 0 where volume is unknown. Likewise.
        fees: None where no lane has costs that depend on the size of a fill.

    Returns:
        Price per unit and money per lot, both >= 0 unless commission exceeds the value of a sale.
    """
    if fees is not None:
        slippage = slippage + impact * np.sqrt(quantity * lot_units * inverse_volume)
    paid = larger(price * (1.0 + side * slippage) + side * half_spread, 0.0)
    value = paid * lot_money
    if fees is None:
        return paid, value + side * (commission * value)
    # Per lot, so that a lane without these costs has the bits that it has where ``fees`` is None.
    inverse = 1.0 / quantity
    fee = commission * value + per_unit * lot_units
    # A rebate is a commission below 0, which no minimum of 0 takes back.
    fee = larger(minimum * inverse, fee) if minimum > 0.0 else fee
    fee = fee + per_order * inverse
    return paid, value + (side * fee if quantity > 0.0 else 0.0)


@jit
def entry_costs(
    limit: bool,
    slippage: float,
    half_spread: float,
    impact: float,
    commission: float,
    maker: float,
) -> tuple[float, float, float, float]:
    """What an entry that waits at a price costs.

    A limit order makes the market: it pays no spread, and does not move the price.

    Args:
        limit: whether it is a limit order; a stop order takes what the market asks.
        slippage, half_spread, impact, commission: those of an order at the open.
        maker: commission of a limit order, a fraction of the value.

    Returns:
        Slippage, half the spread, impact and commission.
    """
    if limit:
        return 0.0, 0.0, 0.0, maker
    return slippage, half_spread, impact, commission


@jit
def volume_limit(quantity: float, share: float, volume: float, lot_units: float) -> float:
    """What a bar's volume lets through of a fill.

    Args:
        quantity: lots, >= 0.
        share: most of the volume that a fill may take, a fraction; inf where unlimited.
        volume: units traded in the bar; inf where unknown.
        lot_units: units per lot.

    Returns:
        Lots.
    """
    # A few ulps high, as ``kernels.risk.inverse_of_lot``.
    return smaller(quantity, float(np.floor(share * (volume / lot_units) * (1.0 + 2.0**-50))))


@jit
def fill_costs(change: float, value: float, cash_per_lot: float) -> float:
    """What a fill costs beyond its value; below 0 for a rebate.

    Args:
        change: lots, signed.
        value: money per lot at the market's price.
        cash_per_lot: money that a lot takes or brings, costs included.

    Returns:
        Money.
    """
    return change * (cash_per_lot - value)


@jit
def lot_need(side: float, value: float, cash_per_lot: float, leverage: float) -> float:
    """Buying power that adding one lot takes.

    After the fill, gross value has to be within ``leverage`` times equity, which the costs reduce.

    Args:
        side: 1 for a purchase, -1 for a sale.
        value: money per lot at the market's price.
        cash_per_lot: money that the lot takes or brings, costs included.
        leverage: buying power over equity.

    Returns:
        Money per lot.
    """
    return value + leverage * fill_costs(side, value, cash_per_lot)


@jit
def buying_power(cash: float, net: float, gross: float, leverage: float) -> float:
    """Money by which the gross value of the positions may still grow.

    Args:
        cash: money.
        net, gross: sums of the positions' signed and absolute values.
        leverage: buying power over equity.

    Returns:
        Money.
    """
    return leverage * (cash + net) - gross


@jit
def payable_share(power: float, need: float, fixed: float) -> float:
    """Factor by which all additions of a fill are cut.

    Args:
        power: buying power, money.
        need: buying power that all additions take, money.
        fixed: part of the need that does not shrink with the additions.

    Returns:
        0 to 1; 1 exactly where nothing is cut. Otherwise it is low by 1e-12 of itself, so that
        rounding cannot take cash below 0.
    """
    share = (1.0 - 1e-12) * ((power - fixed) / (need - fixed))
    return 1.0 if need <= power else larger(share, 0.0)


@jit
def cut_lots(quantity: float, share: float) -> float:
    """What a cut leaves of an addition, in whole lots.

    Args:
        quantity: lots, >= 0.
        share: the share that ``payable_share`` returned.

    Returns:
        Lots.
    """
    return float(np.floor(quantity * share))


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
    atr: float,
    stop_loss_atr: float,
    take_profit_atr: float,
    trailing_stop_atr: float,
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
        atr: average true range before the position was opened, in units of price.
        stop_loss_atr, take_profit_atr, trailing_stop_atr: distances as multiples of ``atr``, 0 where
            off. The smaller distance counts.

    Returns:
        The price before slippage, or 0.
    """
    side = 1.0 if lots > 0.0 else -1.0
    # A short is a long with its prices negated and high and low swapped.
    start, peak, first = entry * side, best * side, open_ * side
    worst = low if side > 0.0 else -high
    top = high if side > 0.0 else -low
    loss_level = start - stop_distance(entry, stop_loss, atr, stop_loss_atr)
    trail_level = peak - stop_distance(best, trailing_stop, atr, trailing_stop_atr)
    level = loss_level if loss_level > trail_level else trail_level
    goal = start + stop_distance(entry, take_profit, atr, take_profit_atr)
    price = goal if top >= goal else 0.0
    price = level if worst <= level else price
    price = first if (first <= level) | (first >= goal) else price
    return price * side if lots != 0.0 else 0.0


@jit
def stop_distance(price: float, fraction: float, atr: float, multiple: float) -> float:
    """Distance of a stop or target from the price that it counts from: the smaller of two.

    Args:
        price: the price that it counts from.
        fraction: distance as a fraction of it, inf where off.
        atr: average true range, in units of price.
        multiple: distance as a multiple of ``atr``, 0 where off; it is off too where ``atr`` is 0.

    Returns:
        The distance in units of price; inf where both are off.
    """
    by_fraction, by_range = price * fraction, atr * multiple
    return by_range if (by_range > 0.0) & (by_range < by_fraction) else by_fraction
