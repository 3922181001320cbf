"""The simulation as one would write it first: one parameter set at a time, with branches.

The same scalar rules as the lanes, momentum only, long only, no stops, no correlation, no costs that
depend on the size of a fill.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels import layout
from kernels._jit import jit
from kernels.codes import HOLD
from kernels.execution import buying_power, cut_lots, fill_terms, lot_need, payable_share
from kernels.portfolio import add_return, bar_return, drawdown, exposure_of, next_variance
from kernels.risk import (
    budget_left,
    budget_share,
    defined_direction,
    inverse_of_lot,
    kelly_size,
    placed_order,
    shared_order,
    target_size,
)
from kernels.signals import momentum_signal
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.lanes import lane_rows, row_of
from optimizer.sweep.tiles import Tile

Floats = npt.NDArray[np.float64]

_HOLD = float(HOLD)
(
    _SIZE,
    _SCORE_SHARPE,
    _MAX_WEIGHT,
    _MAX_EXPOSURE,
    _NEUTRAL_MULTIPLIER,
    _MIN_ORDER_SIZE,
    _REBALANCE_BAND,
    _SLIPPAGE,
    _HALF_SPREAD_TICKS,
    _COMMISSION,
    _SIGNAL_0,
    _SIGNAL_1,
) = (
    row_of(offset)
    for offset in (
        layout.SIZE,
        layout.SCORE_SHARPE,
        layout.MAX_WEIGHT,
        layout.MAX_EXPOSURE,
        layout.NEUTRAL_MULTIPLIER,
        layout.MIN_ORDER_SIZE,
        layout.REBALANCE_BAND,
        layout.SLIPPAGE,
        layout.HALF_SPREAD_TICKS,
        layout.COMMISSION,
        layout.SIGNAL_0,
        layout.SIGNAL_1,
    )
)


@jit
def _terms(side: float, price: float, instrument: Floats, values: Floats) -> tuple[float, float]:
    """Value of a lot at the market's price, and the cash that it takes or brings."""
    lot_money = instrument[layout.LOT_MONEY]
    slippage = values[_SLIPPAGE] + instrument[layout.OWN_SLIPPAGE]
    half_spread = (
        values[_HALF_SPREAD_TICKS] * instrument[layout.TICK] + instrument[layout.OWN_HALF_SPREAD]
    )
    commission = values[_COMMISSION] + instrument[layout.OWN_COMMISSION]
    _, cash = fill_terms(
        side, 1.0, price, instrument[layout.LOT_UNITS], lot_money, slippage, half_spread, commission,
        0.0, 0.0, 0.0, 0.0, 0.0, None,
    )  # fmt: skip
    return price * lot_money, cash


@jit
def _walk(
    first: int,
    opens: Floats,
    closes: Floats,
    traded: npt.NDArray[np.uint8],
    momentum: Floats,
    volatility: Floats,
    inverse_volatility: Floats,
    instruments: Floats,
    columns: npt.NDArray[np.uint64],
    parameters: Floats,
    initial_cash: float,
    decay: float,
    out: Floats,
) -> None:
    n_bars, n_symbols = closes.shape
    lots = np.zeros(n_symbols)
    orders = np.zeros(n_symbols)
    for i in range(len(columns)):
        values = parameters[i]
        scaled_size = values[_SIZE] * values[_NEUTRAL_MULTIPLIER]
        least, band = values[_MIN_ORDER_SIZE], values[_REBALANCE_BAND]
        lots[:] = 0.0
        orders[:] = 0.0
        cash = equity = peak = initial_cash
        variance = exposure = worst = s1 = s2 = s3 = s4 = down = lost = 0.0
        for t in range(first, n_bars):
            need = net = 0.0
            for s in range(n_symbols):
                if traded[t, s] == 0:
                    orders[s] = 0.0
                if orders[s] < 0.0:
                    _, proceeds = _terms(-1.0, opens[t, s], instruments[s], values)
                    cash -= orders[s] * proceeds
                    lots[s] += orders[s]
            for s in range(n_symbols):
                value, cost = _terms(1.0, opens[t, s], instruments[s], values)
                net += lots[s] * value
                if orders[s] > 0.0:
                    need += orders[s] * lot_need(1.0, value, cost, 1.0)
            share = payable_share(buying_power(cash, net, net, 1.0), need, 0.0)
            for s in range(n_symbols):
                if orders[s] > 0.0:
                    _, cost = _terms(1.0, opens[t, s], instruments[s], values)
                    bought = cut_lots(orders[s], share)
                    cash -= bought * cost
                    lots[s] += bought
            gross = 0.0
            for s in range(n_symbols):
                gross += lots[s] * (closes[t, s] * instruments[s, layout.LOT_MONEY])
            now = cash + gross
            return_ = bar_return(now, equity)
            held = exposure_of(gross, now)
            variance = next_variance(variance, return_, held, exposure, decay)
            exposure, equity = held, now
            s1, s2, s3, s4, down, lost = add_return(return_, s1, s2, s3, s4, down, lost)
            peak = max(peak, equity)
            worst = max(worst, drawdown(equity, peak))
            added = freed = 0.0
            for s in range(n_symbols):
                iv = inverse_volatility[t, s, 0]
                direction, strength, confidence = momentum_signal(
                    momentum[t, s, columns[i]],
                    volatility[t, s, 0],
                    iv,
                    values[_SIGNAL_0],
                    values[_SIGNAL_1],
                    values[_SCORE_SHARPE],
                )
                direction = defined_direction(direction, iv, True)
                orders[s] = 0.0
                if direction != _HOLD:
                    inverse = iv * iv
                    if variance > 0.0:
                        inverse = min(inverse, 1.0 / variance)
                    fraction = kelly_size(scaled_size, strength * confidence, inverse)
                    value = closes[t, s] * instruments[s, layout.LOT_MONEY]
                    target = target_size(
                        direction,
                        fraction,
                        values[_MAX_WEIGHT],
                        equity,
                        inverse_of_lot(value),
                        None,
                    )
                    units = instruments[s, layout.LOT_UNITS]
                    orders[s] = placed_order(target, lots[s], units, least, band, None)
                    added += max(orders[s], 0.0) * value
                    freed -= min(orders[s], 0.0) * value
            left = budget_left(values[_MAX_EXPOSURE], equity, gross, freed)
            share = budget_share(left, added)
            if share < 1.0:
                for s in range(n_symbols):
                    units = instruments[s, layout.LOT_UNITS]
                    orders[s] = shared_order(orders[s], lots[s], share, units, least, band, None)
        out[i] = equity


def scalar_momentum(inputs: Inputs, tile: Tile) -> Floats:
    """Final equity of each momentum parameter set of a tile, one after the other.

    Args:
        inputs: of a study with one volatility, without interest.
        tile: the parameter sets, without a regime model.

    Returns:
        Money, shape (n_lanes,).
    """
    parameters, columns = lane_rows(tile, inputs)
    out = np.empty(tile.n_lanes)
    _walk(
        inputs.first,
        inputs.bars.open,
        inputs.bars.close,
        inputs.bars.traded,
        inputs.features.values,
        inputs.volatilities,
        inputs.inverse_volatilities,
        inputs.rules.instruments,
        columns[row_of(layout.FEATURE_0)],
        np.ascontiguousarray(parameters.T),
        inputs.rules.initial_cash,
        inputs.rules.ewma_decay,
        out,
    )
    return out
