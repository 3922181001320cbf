"""Filling the pending orders of a block of lanes."""

import numpy as np

from kernels._jit import jit_borrowing
from kernels.arrays import ByteArray, FloatArray, Index
from kernels.codes import BUY, SELL
from kernels.execution import affordable_lots, buy_cost_per_lot, sell_proceeds_per_lot
from kernels.lanes.booking import book_costs, book_trade, move_entry
from kernels.layout import CASH, FLOW, LOTS, ORDER, POSITION_BLOCK, STATE_BLOCK, ZERO, B
from kernels.portfolio import apply_buy, apply_sell
from kernels.risk import larger, smaller


@jit_borrowing
def sell_lanes(
    o: Index,
    p: Index,
    state: FloatArray,
    positions: FloatArray,
    value: float,
    proceeds: float,
    price: float,
    ending: object,
    stops: object,
    short: object,
) -> None:
    """Fill the sell orders of one symbol.

    Args:
        o, p: offsets of the block in ``state`` and of the symbol in ``positions``.
        state, positions: updated.
        value: money per lot before slippage and commission.
        proceeds: money per lot after them.
        price: after slippage.
        ending: None where no lane's trade can end, so that no trade has to be booked.
        stops: None where stops are off.
        short: None where short positions are off.
    """
    for b in range(B):
        sold = larger(-positions[p + ORDER + b], 0.0)
        before = positions[p + LOTS + b]
        lots, flow, ended, profit = apply_sell(
            before, positions[p + FLOW + b], sold, proceeds, short
        )
        positions[p + LOTS + b] = lots
        positions[p + FLOW + b] = flow
        state[o + CASH + b] += sold * proceeds
        book_costs(state, o, b, sold, value, value - proceeds)
        if ending is not None:
            book_trade(state, o, b, ended, profit)
        if stops is not None:
            move_entry(positions, p, b, before, -sold, price)


@jit_borrowing
def fill_lanes(
    k: Index,
    t: int,
    prices: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    pending: ByteArray,
    lot_size: float,
    slippage: float,
    commission: float,
    fills: FloatArray | None,
    stops: object,
    short: object,
) -> None:
    """Fill the pending orders of block ``k`` at ``prices[t]``.

    All sells come before all buys, so that buys can spend the proceeds. Both go through the symbols in
    their order. A buy is cut to what cash can pay.

    Args:
        k, t: numbers of the block and of the bar.
        prices: (n_bars, n_symbols), at which orders fill.
        state, positions: updated.
        pending: (n_blocks, n_symbols), which kinds of order any lane has, as SELL and BUY bits;
            cleared.
        lot_size: units per lot.
        slippage, commission: fractions of the price and of the value.
        fills: (n_bars, n_symbols, 3), receives the lots that lane 0 of block 0 sold (negative) and
            bought; or None.
        stops: None where stops are off.
        short: None where short positions are off.
    """
    n_symbols = np.uint64(prices.shape[1])
    o = k * STATE_BLOCK
    for s in range(n_symbols):
        if pending[k, s] & SELL:
            p = (k * n_symbols + s) * POSITION_BLOCK
            value = prices[t, s] * lot_size
            proceeds = sell_proceeds_per_lot(prices[t, s], lot_size, slippage, commission)
            price = prices[t, s] * (1.0 - slippage)
            if fills is not None and k == ZERO:
                fills[t, s, 0] = smaller(positions[p + ORDER], 0.0)
            ending = 0
            for b in range(B):
                order = positions[p + ORDER + b]
                lots = positions[p + LOTS + b]
                ending |= 1 if (order < 0.0) & (lots > 0.0) & (lots + order <= 0.0) else 0
            if ending != 0:
                sell_lanes(o, p, state, positions, value, proceeds, price, True, stops, short)
            else:
                sell_lanes(o, p, state, positions, value, proceeds, price, None, stops, short)
    for s in range(n_symbols):
        if pending[k, s] & BUY:
            p = (k * n_symbols + s) * POSITION_BLOCK
            value = prices[t, s] * lot_size
            cost = buy_cost_per_lot(prices[t, s], lot_size, slippage, commission)
            inverse_cost = 1.0 / cost
            price = prices[t, s] * (1.0 + slippage)
            if fills is not None and k == ZERO:
                fills[t, s, 1] = smaller(
                    larger(positions[p + ORDER], 0.0),
                    affordable_lots(state[o + CASH], cost, inverse_cost),
                )
            for b in range(B):
                cash = state[o + CASH + b]
                bought = smaller(
                    larger(positions[p + ORDER + b], 0.0),
                    affordable_lots(cash, cost, inverse_cost),
                )
                before = positions[p + LOTS + b]
                lots, flow, ended, profit = apply_buy(
                    before, positions[p + FLOW + b], bought, cost, short
                )
                positions[p + LOTS + b] = lots
                positions[p + FLOW + b] = flow
                state[o + CASH + b] = cash - bought * cost
                book_costs(state, o, b, bought, value, cost - value)
                if short is not None:
                    book_trade(state, o, b, ended, profit)
                if stops is not None:
                    move_entry(positions, p, b, before, bought, price)
        pending[k, s] = 0
