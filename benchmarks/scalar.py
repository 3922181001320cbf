"""The simulation as one would write it first: one parameter set at a time, with branches.

The same scalar rules as the lanes, momentum only, long only, no stops, no correlation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kernels._jit import jit
from kernels.execution import affordable_lots, buy_cost_per_lot, sell_proceeds_per_lot
from kernels.portfolio import bar_return, drawdown, exposure_of, next_variance
from kernels.risk import inverse_of_lot, kelly_size, order_size
from kernels.signals import momentum_signal
from optimizer.sweep.inputs import Inputs
from optimizer.sweep.tiles import Tile

Floats = npt.NDArray[np.float64]


@jit
def _walk(
    first: int,
    opens: Floats,
    closes: Floats,
    momentum: Floats,
    volatility: Floats,
    inverse_volatility: Floats,
    columns: npt.NDArray[np.int64],
    lookbacks: Floats,
    thresholds: Floats,
    kelly: Floats,
    max_exposure: Floats,
    min_lots: Floats,
    band: Floats,
    initial_cash: float,
    lot_size: float,
    slippage: float,
    commission: float,
    decay: float,
    out: Floats,
) -> None:
    n_bars, n_symbols = closes.shape
    lots = np.zeros(n_symbols)
    orders = np.zeros(n_symbols)
    for i in range(len(columns)):
        lots[:] = 0.0
        orders[:] = 0.0
        cash = equity = peak = initial_cash
        variance = exposure = worst = s1 = s2 = s3 = s4 = down = 0.0
        scale = 1.0 / np.sqrt(lookbacks[i])
        for t in range(first, n_bars):
            for s in range(n_symbols):
                if orders[s] < 0.0:
                    price = sell_proceeds_per_lot(opens[t, s], lot_size, slippage, commission)
                    cash -= orders[s] * price
                    lots[s] += orders[s]
            for s in range(n_symbols):
                if orders[s] > 0.0:
                    cost = buy_cost_per_lot(opens[t, s], lot_size, slippage, commission)
                    bought = min(orders[s], affordable_lots(cash, cost, 1.0 / cost))
                    cash -= bought * cost
                    lots[s] += bought
            gross = 0.0
            for s in range(n_symbols):
                gross += lots[s] * (closes[t, s] * lot_size)
            now = cash + gross
            return_ = bar_return(now, equity)
            held = exposure_of(gross, now)
            variance = next_variance(variance, return_, held, exposure, decay)
            exposure, equity = held, now
            square = return_ * return_
            s1 += return_
            s2 += square
            s3 += square * return_
            s4 += square * square
            down += min(return_, 0.0) ** 2
            peak = max(peak, equity)
            worst = max(worst, drawdown(equity, peak))
            cash_left, budget_left = cash, max_exposure[i] * equity - gross
            for s in range(n_symbols):
                iv = inverse_volatility[t, s, 0]
                direction, strength, confidence = momentum_signal(
                    momentum[t, s, columns[i]], volatility[t, s, 0], iv, thresholds[i], scale
                )
                inverse = iv * iv
                if variance > 0.0:
                    inverse = min(inverse, 1.0 / variance)
                fraction = kelly_size(kelly[i], strength, confidence, inverse)
                value = closes[t, s] * lot_size
                order, _, _, _, _ = order_size(
                    direction,
                    fraction,
                    equity,
                    lots[s],
                    value,
                    inverse_of_lot(value),
                    cash_left,
                    budget_left,
                    min_lots[i],
                    band[i],
                    None,
                )
                orders[s] = order
                if order > 0.0:
                    cash_left -= order * value
                    budget_left -= order * value
        out[i] = equity


def scalar_momentum(inputs: Inputs, tile: Tile) -> Floats:
    """Final equity of each momentum parameter set of a tile, one after the other."""
    rules, columns = inputs.rules, tile.columns
    lookbacks = columns["momentum_lookback"]
    places = np.array([inputs.features.index(("momentum", int(n))) for n in lookbacks])
    out = np.empty(tile.n_lanes)
    _walk(
        inputs.first,
        inputs.bars.open,
        inputs.bars.close,
        inputs.features.values,
        inputs.volatilities,
        inputs.inverse_volatilities,
        places,
        lookbacks,
        columns["momentum_threshold"],
        columns["kelly_fraction"] * columns["neutral_multiplier"],
        columns["max_exposure"],
        columns["min_order_size"] / rules.lot_size,
        columns["rebalance_band"],
        rules.initial_cash,
        rules.lot_size,
        rules.slippage,
        rules.commission,
        rules.ewma_decay,
        out,
    )
    return out
