"""Entries of a block of lanes that wait at a price and fill inside a bar."""

import numpy as np

from kernels._jit import jit_apart
from kernels.arrays import ByteArray, ColumnArray, FloatArray, Index
from kernels.codes import ADD, ENTERED, ENTRY_ADDING
from kernels.execution import cut_lots, stop_price
from kernels.lanes.booking import (
    add_to_position,
    ask_power,
    gather_volatility,
    grant_power,
    lane_terms,
    lane_volume_limit,
    record_fill,
)
from kernels.lanes.fills import power_lanes
from kernels.layout import (
    BEST,
    CASH,
    COLUMN_BLOCK,
    ENTERED_AT,
    ENTRY,
    ENTRY_ATR,
    ENTRY_BARS,
    ENTRY_OFFSET,
    ENTRY_OFFSET_ATR,
    LEFT,
    LEVEL,
    LOT_MONEY,
    LOTS,
    ORDER,
    PARAMETER_BLOCK,
    POSITION_BLOCK,
    SHARE,
    SPENT,
    STATE_BLOCK,
    STOP_LOSS,
    STOP_LOSS_ATR,
    TAKE_PROFIT,
    TAKE_PROFIT_ATR,
    TRAILING_STOP,
    TRAILING_STOP_ATR,
    ZERO,
    B,
)
from kernels.orders import entry_level, entry_price, kept_level
from kernels.risk import reducing_part


@jit_apart
def level_lanes(
    k: Index,
    t: int,
    closes: FloatArray,
    atrs: FloatArray,
    parameters: FloatArray,
    positions: FloatArray,
    pending: ByteArray,
    entry: int,
    short: object,
) -> None:
    """Set the prices at which the additions of block ``k`` wait that were decided at bar ``t``.

    Args:
        k, t: numbers of the block and of the bar.
        closes: (n_bars, n_symbols).
        atrs: (n_bars, n_symbols), average true ranges, in units of price; empty where unused.
        parameters: rows of each lane.
        positions: LEVEL and LEFT are updated.
        pending: (n_blocks, n_symbols), which parts of an order any lane has, as REDUCE and ADD bits.
        entry: LIMIT_ENTRY or STOP_ENTRY.
        short: None where short positions are off.
    """
    n_symbols = np.uint64(closes.shape[1])
    q = k * PARAMETER_BLOCK
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        if pending[k, s] & ADD == 0:
            for b in range(B):
                positions[p + LEFT + b] = 0.0
            continue
        close = closes[t, s]
        atr = 0.0
        if len(atrs) > 0:
            atr = atrs[t, s]
        for b in range(B):
            order = positions[p + ORDER + b]
            addition = order - reducing_part(order, positions[p + LOTS + b], short)
            fresh = entry_level(
                1.0 if addition > 0.0 else -1.0,
                close,
                atr,
                parameters[q + ENTRY_OFFSET + b],
                parameters[q + ENTRY_OFFSET_ATR + b],
                entry,
            )
            level, left = kept_level(
                addition,
                positions[p + LEVEL + b],
                positions[p + LEFT + b],
                fresh,
                parameters[q + ENTRY_BARS + b],
            )
            positions[p + LEVEL + b] = level
            positions[p + LEFT + b] = left


@jit_apart
def enter_lanes(
    k: Index,
    t: int,
    f: int,
    opens: FloatArray,
    highs: FloatArray,
    lows: FloatArray,
    traded: ByteArray,
    volumes: FloatArray,
    volatilities: FloatArray,
    atrs: FloatArray,
    instruments: FloatArray,
    columns: ColumnArray,
    parameters: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    pending: ByteArray,
    scratch: FloatArray,
    leverage: float,
    entry: int,
    fills: FloatArray,
    fees: object,
    stops: object,
    short: object,
    extended: object,
) -> None:
    """Fill the entries of block ``k`` whose price a bar reaches; they share the buying power.

    Args:
        k, t, f, opens, highs, lows, traded, volumes: the same as in ``stop_lanes``.
        volatilities, atrs, instruments, columns, parameters, state, positions, leverage, fills, fees,
            stops, short, extended: the same as in ``fill_lanes``.
        pending: (n_blocks, n_symbols), the ADD bits are read; ENTERED is set where any lane entered.
        scratch: ADDED, FREED, SHARE, SPENT, GROSS, EQUITY_NOW and X_VOLATILITY are overwritten.
        entry: LIMIT_ENTRY or STOP_ENTRY.
    """
    n_symbols = np.uint64(opens.shape[1])
    o = k * STATE_BLOCK
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    entering = 0
    for s in range(n_symbols):
        pending[k, s] &= ADD
        if pending[k, s] == 0 or traded[f, s] == 0:
            continue
        p = (k * n_symbols + s) * POSITION_BLOCK
        open_, high, low = opens[f, s], highs[f, s], lows[f, s]
        reached = 0
        for b in range(B):
            order = positions[p + ORDER + b] if positions[p + LEFT + b] != 0.0 else 0.0
            price = entry_price(
                order,
                positions[p + LEVEL + b],
                positions[p + LOTS + b],
                open_,
                high,
                low,
                entry,
            )
            if stops is not None:
                # A bar that opens beyond a stop or the target closes the position, and nothing enters.
                gone = stop_price(
                    positions[p + LOTS + b],
                    positions[p + ENTRY + b],
                    positions[p + BEST + b],
                    open_,
                    open_,
                    open_,
                    parameters[q + STOP_LOSS + b],
                    parameters[q + TAKE_PROFIT + b],
                    parameters[q + TRAILING_STOP + b],
                    positions[p + ENTRY_ATR + b],
                    parameters[q + STOP_LOSS_ATR + b],
                    parameters[q + TAKE_PROFIT_ATR + b],
                    parameters[q + TRAILING_STOP_ATR + b],
                )
                price = 0.0 if gone > 0.0 else price
            positions[p + ENTERED_AT + b] = price
            reached |= 1 if price > 0.0 else 0
        if reached != 0:
            pending[k, s] |= ENTERED
            entering = 1
    if entering == 0:
        return
    power_lanes(k, f, opens, instruments, state, positions, scratch, leverage, short, extended)
    for s in range(n_symbols):
        if pending[k, s] & ENTERED:
            p = (k * n_symbols + s) * POSITION_BLOCK
            lot_money = instruments[s, LOT_MONEY]
            gather_volatility(c, s, t - 1, volatilities, columns, scratch, fees)
            for b in range(B):
                order = positions[p + ORDER + b]
                price = positions[p + ENTERED_AT + b]
                side = 1.0 if order > 0.0 else -1.0
                quantity = lane_volume_limit(
                    q, s, b, f, abs(order), parameters, instruments, volumes, fees
                )
                quantity = quantity if price > 0.0 else 0.0
                positions[p + ORDER + b] = side * quantity if price > 0.0 else order
                _, cash_per_lot = lane_terms(
                    q, s, b, side, quantity, price, parameters, instruments, scratch, volumes, f,
                    fees, entry,
                )  # fmt: skip
                ask_power(
                    q, s, b, side, quantity, price * lot_money, cash_per_lot, parameters,
                    instruments, scratch, leverage, fees,
                )  # fmt: skip
    grant_power(scratch)
    for s in range(n_symbols):
        if pending[k, s] & ENTERED:
            p = (k * n_symbols + s) * POSITION_BLOCK
            lot_money = instruments[s, LOT_MONEY]
            gather_volatility(c, s, t - 1, volatilities, columns, scratch, fees)
            atr = 0.0
            if stops is not None and len(atrs) > 0:
                atr = atrs[t - 1, s]
            if len(fills) > 0 and k == ZERO and positions[p + ENTERED_AT] > 0.0:
                order = positions[p + ORDER]
                quantity = cut_lots(abs(order), scratch[SHARE])
                change = quantity if order > 0.0 else -quantity
                record_fill(
                    fills, q, s, t, ENTRY_ADDING, change, positions[p + ENTERED_AT], parameters,
                    instruments, scratch, volumes, f, fees, entry,
                )  # fmt: skip
            for b in range(B):
                order = positions[p + ORDER + b]
                price = positions[p + ENTERED_AT + b]
                inside = price > 0.0
                side = 1.0 if order > 0.0 else -1.0
                quantity = cut_lots(abs(order), scratch[SHARE + b])
                quantity = quantity if inside else 0.0
                paid, cash_per_lot = lane_terms(
                    q, s, b, side, quantity, price, parameters, instruments, scratch, volumes, f,
                    fees, entry,
                )  # fmt: skip
                add_to_position(
                    state, positions, scratch, o, p, b, float(t), side * quantity, paid,
                    price * lot_money, cash_per_lot, atr, stops,
                )  # fmt: skip
                # What did not fill lapses.
                positions[p + ORDER + b] = 0.0 if inside else order
                positions[p + LEFT + b] = 0.0 if inside else positions[p + LEFT + b]
                positions[p + ENTERED_AT + b] = price if quantity > 0.0 else 0.0
    for b in range(B):
        state[o + CASH + b] -= scratch[SPENT + b]
