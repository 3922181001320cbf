"""Filling the pending orders of a block of lanes."""

import numpy as np

from kernels._jit import jit_lanes
from kernels.arrays import ByteArray, ColumnArray, FloatArray, Index
from kernels.codes import ADD, ORDER_ADDING, ORDER_REDUCING, REDUCE
from kernels.execution import buying_power, cut_lots
from kernels.lanes.booking import (
    add_to_position,
    ask_power,
    end_trades,
    gather_volatility,
    grant_power,
    lane_terms,
    lane_volume_limit,
    record_fill,
    reduce_position,
)
from kernels.layout import (
    ADDED,
    CASH,
    COLUMN_BLOCK,
    EQUITY_NOW,
    FREED,
    GROSS,
    LEFT,
    LOT_MONEY,
    LOTS,
    ORDER,
    PARAMETER_BLOCK,
    POSITION_BLOCK,
    SHARE,
    SPENT,
    STATE_BLOCK,
    ZERO,
    B,
)
from kernels.risk import larger, reducing_part


@jit_lanes
def pending_lanes(k: Index, pending: ByteArray) -> bool:
    """Whether any lane of block ``k`` has an order pending.

    Args:
        k: number of the block.
        pending: (n_blocks, n_symbols), which parts of an order any lane has, as REDUCE and ADD bits.
    """
    parts = 0
    for s in range(np.uint64(pending.shape[1])):
        parts |= pending[k, s]
    return parts != 0


@jit_lanes
def fill_lanes(
    k: Index,
    t: int,
    decided: int,
    prices: FloatArray,
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
    fills: FloatArray,
    fees: object,
    stops: object,
    short: object,
    extended: object,
    entries: object,
) -> None:
    """Fill the pending orders of block ``k`` at ``prices[t]``.

    All reductions come first, so that additions can use what they free. The additions share the buying
    power. An order whose symbol does not trade lapses. Where ``entries`` is given, additions wait for
    ``enter_lanes``.

    Args:
        k, t: numbers of the block and of the bar.
        decided: bar whose volatility scales the impact, and whose range scales the stops.
        prices: (n_bars, n_symbols), at which orders fill.
        traded: (n_bars, n_symbols), 1 where the symbol trades.
        volumes: (n_bars, n_symbols), units; inf where unknown.
        volatilities: (n_bars, n_symbols, n_volatilities), per bar.
        atrs: (n_bars, n_symbols), average true ranges, in units of price; empty where unused.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        columns, parameters: rows of each lane.
        state, positions: updated.
        pending: (n_blocks, n_symbols), which parts of an order any lane has, as REDUCE and ADD bits;
            cleared, but for ADD where ``entries`` is given.
        scratch: ADDED, FREED, SHARE, SPENT, GROSS, EQUITY_NOW and X_VOLATILITY are overwritten.
        leverage: buying power over equity.
        fills: (n_bars, n_symbols, n_kinds, 4), receives the fills of lane 0 of block 0; empty to
            record nothing.
        fees: None where no lane has costs that depend on the size of a fill.
        stops: None where nothing reads the entry of a position, neither a stop nor a signal.
        short: None where short positions are off.
        extended: the flag of the same name in ``simulate``; None where leverage is 1.
        entries: None where additions fill at the open.
    """
    n_symbols = np.uint64(prices.shape[1])
    o = k * STATE_BLOCK
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    adding = 0
    for s in range(n_symbols):
        if traded[t, s] == 0:
            pending[k, s] &= 0 if entries is None else ADD
        adding |= pending[k, s] & ADD
        if pending[k, s] & REDUCE:
            p = (k * n_symbols + s) * POSITION_BLOCK
            value = prices[t, s] * instruments[s, LOT_MONEY]
            gather_volatility(c, s, decided, volatilities, columns, scratch, fees)
            reduce_lanes(
                k, o, p, q, s, t, value, prices, volumes, instruments, parameters, state, positions,
                scratch, fills, fees, short,
            )  # fmt: skip
            if entries is not None:
                # Where the volume left some of the position, the second part of the order is gone.
                for b in range(B):
                    gone = positions[p + ORDER + b] == 0.0
                    positions[p + LEFT + b] = 0.0 if gone else positions[p + LEFT + b]
    if entries is not None:
        adding = 0
    if adding == 0:
        for s in range(n_symbols):
            pending[k, s] &= 0 if entries is None else ADD
        return
    power_lanes(k, t, prices, instruments, state, positions, scratch, leverage, short, extended)
    for s in range(n_symbols):
        if pending[k, s] & ADD:
            p = (k * n_symbols + s) * POSITION_BLOCK
            price = prices[t, s]
            value = price * instruments[s, LOT_MONEY]
            gather_volatility(c, s, decided, volatilities, columns, scratch, fees)
            for b in range(B):
                order = positions[p + ORDER + b]
                side = 1.0
                if short is None:
                    order = larger(order, 0.0)
                else:
                    side = 1.0 if order > 0.0 else -1.0
                quantity = lane_volume_limit(
                    q, s, b, t, abs(order), parameters, instruments, volumes, fees
                )
                if fees is not None:
                    positions[p + ORDER + b] = side * quantity
                _, cash_per_lot = lane_terms(
                    q,
                    s,
                    b,
                    side,
                    quantity,
                    price,
                    parameters,
                    instruments,
                    scratch,
                    volumes,
                    t,
                    fees,
                    None,
                )
                ask_power(
                    q,
                    s,
                    b,
                    side,
                    quantity,
                    value,
                    cash_per_lot,
                    parameters,
                    instruments,
                    scratch,
                    leverage,
                    fees,
                )
    grant_power(scratch)
    for s in range(n_symbols):
        if pending[k, s] & ADD:
            p = (k * n_symbols + s) * POSITION_BLOCK
            price = prices[t, s]
            value = price * instruments[s, LOT_MONEY]
            gather_volatility(c, s, decided, volatilities, columns, scratch, fees)
            atr = 0.0
            if stops is not None and len(atrs) > 0:
                atr = atrs[decided, s]
            if len(fills) > 0 and k == ZERO:
                order = positions[p + ORDER]
                if short is None:
                    order = larger(order, 0.0)
                quantity = cut_lots(abs(order), scratch[SHARE])
                change = quantity if order > 0.0 else -quantity
                record_fill(
                    fills, q, s, t, ORDER_ADDING, change, price, parameters, instruments, scratch,
                    volumes, t, fees, None,
                )  # fmt: skip
            for b in range(B):
                order = positions[p + ORDER + b]
                side = 1.0
                if short is None:
                    order = larger(order, 0.0)
                else:
                    side = 1.0 if order > 0.0 else -1.0
                quantity = cut_lots(abs(order), scratch[SHARE + b])
                paid, cash_per_lot = lane_terms(
                    q,
                    s,
                    b,
                    side,
                    quantity,
                    price,
                    parameters,
                    instruments,
                    scratch,
                    volumes,
                    t,
                    fees,
                    None,
                )
                add_to_position(
                    state,
                    positions,
                    scratch,
                    o,
                    p,
                    b,
                    float(t),
                    side * quantity,
                    paid,
                    value,
                    cash_per_lot,
                    atr,
                    stops,
                )
        pending[k, s] = 0
    for b in range(B):
        state[o + CASH + b] -= scratch[SPENT + b]


@jit_lanes
def reduce_lanes(
    k: Index,
    o: Index,
    p: Index,
    q: Index,
    s: Index,
    t: int,
    value: float,
    prices: FloatArray,
    volumes: FloatArray,
    instruments: FloatArray,
    parameters: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    fills: FloatArray,
    fees: object,
    short: object,
) -> None:
    """Fill the parts of one symbol's orders that reduce positions; leave the rest in ORDER.

    Args:
        k, o, p, q, s, t, prices, volumes, instruments, parameters, fills, fees, short: the same as
            in ``fill_lanes``.
        value: money per lot at the market's price.
        state, positions: updated.
        scratch: the scratch values as ``gather_volatility`` left them; SPENT is overwritten.
    """
    price = prices[t, s]
    if len(fills) > 0 and k == ZERO:
        change = reducing_part(positions[p + ORDER], positions[p + LOTS], short)
        quantity = lane_volume_limit(
            q, s, ZERO, t, abs(change), parameters, instruments, volumes, fees
        )
        change = quantity if change > 0.0 else -quantity
        record_fill(
            fills, q, s, t, ORDER_REDUCING, change, price, parameters, instruments, scratch,
            volumes, t, fees, None,
        )  # fmt: skip
    ending = 0
    for b in range(B):
        order = positions[p + ORDER + b]
        part = reducing_part(order, positions[p + LOTS + b], short)
        side = -1.0
        if short is not None:
            side = 1.0 if part > 0.0 else -1.0
        quantity = lane_volume_limit(q, s, b, t, abs(part), parameters, instruments, volumes, fees)
        _, cash_per_lot = lane_terms(
            q, s, b, side, quantity, price, parameters, instruments, scratch, volumes, t, fees, None
        )
        ended = reduce_position(
            state, positions, scratch, o, p, b, side * quantity, value, cash_per_lot
        )
        ending |= 1 if ended else 0
        if short is not None:
            rest = order - part
            if fees is not None:
                # Where the volume left some of the position, it cannot be turned around.
                rest = rest if quantity == abs(part) else 0.0
            positions[p + ORDER + b] = rest
    if ending != 0:
        end_trades(state, positions, scratch, o, p, float(t))


@jit_lanes
def power_lanes(
    k: Index,
    t: int,
    prices: FloatArray,
    instruments: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    leverage: float,
    short: object,
    extended: object,
) -> None:
    """Buying power of each lane at ``prices[t]``, in EQUITY_NOW; clears ADDED and FREED.

    Args:
        k, t: numbers of the block and of the bar.
        prices: (n_bars, n_symbols).
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        state, positions: read.
        scratch: EQUITY_NOW, GROSS, ADDED and FREED are written.
        leverage: buying power over equity.
        short: None where short positions are off.
        extended: the flag of the same name in ``simulate``; None where leverage is 1.
    """
    o = k * STATE_BLOCK
    # Without shorts and with leverage 1 the buying power is the cash.
    margin = short is not None
    if extended is not None:
        margin = margin or leverage > 1.0
    for b in range(B):
        scratch[ADDED + b] = 0.0
        scratch[FREED + b] = 0.0
        scratch[EQUITY_NOW + b] = 0.0 if margin else state[o + CASH + b]
        scratch[GROSS + b] = 0.0
    if margin:
        n_symbols = np.uint64(prices.shape[1])
        for s in range(n_symbols):
            p = (k * n_symbols + s) * POSITION_BLOCK
            value = prices[t, s] * instruments[s, LOT_MONEY]
            for b in range(B):
                held = positions[p + LOTS + b] * value
                scratch[EQUITY_NOW + b] += held
                scratch[GROSS + b] += abs(held)
        for b in range(B):
            scratch[EQUITY_NOW + b] = buying_power(
                state[o + CASH + b], scratch[EQUITY_NOW + b], scratch[GROSS + b], leverage
            )
