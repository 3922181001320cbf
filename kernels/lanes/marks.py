"""Marking the positions of a block of lanes to market, and ruin."""

import numpy as np

from kernels._jit import jit_apart, jit_lanes
from kernels.arrays import FloatArray, Index
from kernels.codes import FILL_CASH, FILL_LOTS, FILL_PRICE, FILL_VALUE, WRITTEN_OFF
from kernels.lanes.booking import book_trade
from kernels.layout import (
    CASH,
    EQUITY_NOW,
    FLOW,
    FOUR,
    GROSS,
    LEFT,
    LOT_MONEY,
    LOTS,
    ONE,
    OPENED,
    POSITION_BLOCK,
    RUINED,
    STATE_BLOCK,
    THREE,
    TWO,
    ZERO,
    B,
)


@jit_lanes
def mark_lanes(
    k: Index,
    t: int,
    closes: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    values: FloatArray | None,
    instruments: FloatArray,
    fills: FloatArray,
    short: object,
) -> None:
    """Value the positions of block ``k`` at ``closes[t]``. Where nothing is left, close them.

    Leaves equity and gross value in ``scratch``.

    Args:
        k, t: numbers of the block and of the bar.
        closes: (n_bars, n_symbols).
        state, positions: updated by ruin only.
        scratch: EQUITY_NOW and GROSS are written.
        values: (n_symbols, STRIDE), receives the signed value of each position, in money; or None.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        fills: the fills of the bar, as in ``fill_lanes``; receives what ruin writes off.
        short: None where short positions are off.
    """
    n_symbols = np.uint64(closes.shape[1])
    o = k * STATE_BLOCK
    for b in range(B):
        scratch[EQUITY_NOW + b] = 0.0
        scratch[GROSS + b] = 0.0
    in_fours = n_symbols - n_symbols % FOUR
    # Four symbols a pass, in order: the running sums are loaded and stored a quarter as often.
    for s in range(ZERO, in_fours, FOUR):
        p0 = (k * n_symbols + s) * POSITION_BLOCK
        p1, p2, p3 = p0 + POSITION_BLOCK, p0 + TWO * POSITION_BLOCK, p0 + THREE * POSITION_BLOCK
        lot0, lot1 = (
            closes[t, s] * instruments[s, LOT_MONEY],
            closes[t, s + ONE] * instruments[s + ONE, LOT_MONEY],
        )
        lot2, lot3 = (
            closes[t, s + TWO] * instruments[s + TWO, LOT_MONEY],
            closes[t, s + THREE] * instruments[s + THREE, LOT_MONEY],
        )
        for b in range(B):
            v0, v1 = positions[p0 + LOTS + b] * lot0, positions[p1 + LOTS + b] * lot1
            v2, v3 = positions[p2 + LOTS + b] * lot2, positions[p3 + LOTS + b] * lot3
            scratch[EQUITY_NOW + b] = scratch[EQUITY_NOW + b] + v0 + v1 + v2 + v3
            if short is not None:
                scratch[GROSS + b] = scratch[GROSS + b] + abs(v0) + abs(v1) + abs(v2) + abs(v3)
            if values is not None:
                values[s, b], values[s + ONE, b] = v0, v1
                values[s + TWO, b], values[s + THREE, b] = v2, v3
    for s in range(in_fours, n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        lot_value = closes[t, s] * instruments[s, LOT_MONEY]
        for b in range(B):
            value = positions[p + LOTS + b] * lot_value
            scratch[EQUITY_NOW + b] += value
            if short is not None:
                scratch[GROSS + b] += abs(value)
            if values is not None:
                values[s, b] = value
    ruin = 0
    for b in range(B):
        if short is None:
            scratch[GROSS + b] = scratch[EQUITY_NOW + b]
        equity = state[o + CASH + b] + scratch[EQUITY_NOW + b]
        scratch[EQUITY_NOW + b] = equity
        ruin |= 1 if (equity <= 0.0) & (state[o + RUINED + b] == 0.0) else 0
    if ruin != 0:
        close_ruined(k, t, closes, state, positions, scratch, values, instruments, fills)


@jit_apart
def close_ruined(
    k: Index,
    t: int,
    closes: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    values: FloatArray | None,
    instruments: FloatArray,
    fills: FloatArray,
) -> None:
    """Close every position of the lanes whose equity is 0 or less, at the close and at no cost.

    What they owe stays in their cash.

    Args:
        k, t: numbers of the block and of the bar.
        closes: (n_bars, n_symbols).
        state, positions, scratch: updated.
        values: the values as in ``mark_lanes``, updated.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        fills: the fills of the bar, as in ``fill_lanes``; receives what ruin writes off.
    """
    n_symbols = np.uint64(closes.shape[1])
    o = k * STATE_BLOCK
    for b in range(B):
        if scratch[EQUITY_NOW + b] <= 0.0 and state[o + RUINED + b] == 0.0:
            for s in range(n_symbols):
                p = (k * n_symbols + s) * POSITION_BLOCK
                lots = positions[p + LOTS + b]
                if lots != 0.0:
                    lot_value = closes[t, s] * instruments[s, LOT_MONEY]
                    profit = positions[p + FLOW + b] + lots * lot_value
                    held = float(t) - positions[p + OPENED + b]
                    book_trade(state, o, b, 1.0, profit, held)
                    if len(fills) > 0 and k == ZERO and b == ZERO:
                        fills[t, s, WRITTEN_OFF, FILL_LOTS] = -lots
                        fills[t, s, WRITTEN_OFF, FILL_PRICE] = closes[t, s]
                        fills[t, s, WRITTEN_OFF, FILL_VALUE] = lot_value
                        fills[t, s, WRITTEN_OFF, FILL_CASH] = lot_value
                positions[p + LOTS + b] = 0.0
                positions[p + FLOW + b] = 0.0
                positions[p + LEFT + b] = 0.0
                if values is not None:
                    values[s, b] = 0.0
            state[o + CASH + b] = scratch[EQUITY_NOW + b]
            state[o + RUINED + b] = 1.0
            scratch[GROSS + b] = 0.0
