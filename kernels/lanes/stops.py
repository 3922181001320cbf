"""Stops of a block of lanes: stop loss, take profit and trailing stop within a bar."""

import numpy as np

from kernels._jit import jit_borrowing
from kernels.arrays import FloatArray, Index
from kernels.execution import affordable_lots, buy_cost_per_lot, sell_proceeds_per_lot, stop_price
from kernels.lanes.booking import book_costs, book_trade
from kernels.layout import (
    BARRED,
    BEST,
    CASH,
    ENTRY,
    FLOW,
    LOTS,
    PARAMETER_BLOCK,
    POSITION_BLOCK,
    STATE_BLOCK,
    STOP_LOSS,
    TAKE_PROFIT,
    TRAILING_STOP,
    ZERO,
    B,
)
from kernels.portfolio import apply_buy, apply_sell
from kernels.risk import larger, smaller


@jit_borrowing
def stop_lanes(
    k: Index,
    t: int,
    opens: FloatArray,
    highs: FloatArray,
    lows: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    parameters: FloatArray,
    lot_size: float,
    slippage: float,
    commission: float,
    fills: FloatArray | None,
    stop_prices: FloatArray | None,
    short: object,
) -> None:
    """Close the positions of block ``k`` whose stop lies in bar ``t``; carry the best prices on.

    Args:
        k, t: numbers of the block and of the bar.
        opens, highs, lows: (n_bars, n_symbols).
        state, positions: updated.
        parameters: rows of each lane.
        lot_size: units per lot.
        slippage, commission: fractions of the price and of the value.
        fills: (n_bars, n_symbols, 3), receives the change in lots by stops of lane 0 of block 0; or None.
        stop_prices: (n_bars, n_symbols), receives the price of its stops before slippage; or None.
        short: None where short positions are off.
    """
    n_symbols = np.uint64(opens.shape[1])
    o = k * STATE_BLOCK
    q = k * PARAMETER_BLOCK
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        open_, high, low = opens[t, s], highs[t, s], lows[t, s]
        any_position = 0
        for b in range(B):
            any_position |= 1 if positions[p + LOTS + b] != 0.0 else 0
        if any_position == 0:
            continue
        lots_0 = positions[p + LOTS]
        if stop_prices is not None and k == ZERO:
            stop_prices[t, s] = stop_price(
                lots_0,
                positions[p + ENTRY],
                positions[p + BEST],
                open_,
                high,
                low,
                parameters[q + STOP_LOSS],
                parameters[q + TAKE_PROFIT],
                parameters[q + TRAILING_STOP],
            )
        for b in range(B):
            before = positions[p + LOTS + b]
            best = positions[p + BEST + b]
            price = stop_price(
                before,
                positions[p + ENTRY + b],
                best,
                open_,
                high,
                low,
                parameters[q + STOP_LOSS + b],
                parameters[q + TAKE_PROFIT + b],
                parameters[q + TRAILING_STOP + b],
            )
            hit = price > 0.0
            value = price * lot_size
            proceeds = sell_proceeds_per_lot(price, lot_size, slippage, commission)
            sold = larger(before, 0.0) if hit else 0.0
            lots, flow, ended, profit = apply_sell(
                before, positions[p + FLOW + b], sold, proceeds, short
            )
            cash = state[o + CASH + b] + sold * proceeds
            book_costs(state, o, b, sold, value, value - proceeds)
            book_trade(state, o, b, ended, profit)
            if short is not None:
                cost = buy_cost_per_lot(price, lot_size, slippage, commission)
                payable = affordable_lots(cash, cost, 1.0 / cost)
                bought = smaller(larger(-before, 0.0), payable) if hit else 0.0
                lots, flow, ended, profit = apply_buy(lots, flow, bought, cost, short)
                cash = cash - bought * cost
                book_costs(state, o, b, bought, value, cost - value)
                book_trade(state, o, b, ended, profit)
            side = 1.0 if before > 0.0 else -1.0
            positions[p + BARRED + b] = side if hit else positions[p + BARRED + b]
            positions[p + BEST + b] = larger(best, high) if before > 0.0 else smaller(best, low)
            positions[p + LOTS + b] = lots
            positions[p + FLOW + b] = flow
            state[o + CASH + b] = cash
        if fills is not None and k == ZERO:
            fills[t, s, 2] = positions[p + LOTS] - lots_0
