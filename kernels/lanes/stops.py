"""Positions that are closed without a decision: stops, maintenance margin, the end of a symbol."""

import numpy as np

from kernels._jit import jit_apart, jit_lanes
from kernels.arrays import ByteArray, ColumnArray, FloatArray, Index, IntArray
from kernels.codes import ENDED, ENTERED, LIQUIDATED, STOPPED
from kernels.execution import stop_price
from kernels.lanes.booking import (
    book_trade,
    end_trades,
    gather_volatility,
    lane_terms,
    lane_volume_limit,
    record_fill,
    reduce_position,
)
from kernels.layout import (
    BARRED,
    BEST,
    CASH,
    COLUMN_BLOCK,
    COOLDOWN,
    COOLING,
    ENTERED_AT,
    ENTRY,
    ENTRY_ATR,
    EQUITY_NOW,
    GROSS,
    LEFT,
    LOT_MONEY,
    LOTS,
    N_LIQUIDATIONS,
    OPENED,
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
    VOLATILITY_COLUMN,
    X_VOLATILITY,
    ZERO,
    B,
)
from kernels.orders import exit_marks
from kernels.portfolio import margin_call
from kernels.risk import larger, smaller


@jit_lanes
def stop_lanes(
    k: Index,
    t: int,
    f: int,
    opens: FloatArray,
    highs: FloatArray,
    lows: FloatArray,
    traded: ByteArray,
    volumes: FloatArray,
    volatilities: FloatArray,
    instruments: FloatArray,
    columns: ColumnArray,
    parameters: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    pending: ByteArray,
    scratch: FloatArray,
    fills: FloatArray,
    fees: object,
    short: object,
    entries: object,
) -> None:
    """Close the positions of block ``k`` whose stop lies in a bar; carry the best prices on.

    Args:
        k, t: numbers of the block and of the bar.
        f: row of ``opens``, ``highs``, ``lows``, ``traded`` and ``volumes``: a finer bar of bar ``t``, or
            the bar itself.
        opens, highs, lows: (n_finer_bars, n_symbols).
        traded: (n_finer_bars, n_symbols), 1 where the symbol trades; elsewhere no stop fills.
        volumes: (n_finer_bars, n_symbols), units; inf where unknown.
        volatilities: (n_bars, n_symbols, n_volatilities), per bar.
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        columns, parameters: rows of each lane.
        state, positions: updated.
        pending: (n_blocks, n_symbols), as ``enter_lanes`` left it.
        scratch: X_VOLATILITY is overwritten.
        fills: the fills of the bar, as in ``fill_lanes``.
        fees: None where no lane has costs that depend on the size of a fill.
        short: None where short positions are off.
        entries: None where additions fill at the open.
    """
    n_symbols = np.uint64(opens.shape[1])
    o = k * STATE_BLOCK
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        any_position = 0
        for b in range(B):
            any_position |= 1 if positions[p + LOTS + b] != 0.0 else 0
        if any_position == 0 or traded[f, s] == 0:
            continue
        open_, high, low = opens[f, s], highs[f, s], lows[f, s]
        entered = False
        if entries is not None:
            entered = pending[k, s] & ENTERED != 0
        lots_0 = positions[p + LOTS]
        hits = 0
        for b in range(B):
            before = positions[p + LOTS + b]
            best = positions[p + BEST + b]
            first = open_
            goal, goal_atr = parameters[q + TAKE_PROFIT + b], parameters[q + TAKE_PROFIT_ATR + b]
            moved = larger(best, high) if before > 0.0 else smaller(best, low)
            if entries is not None and entered:
                # What came before the entry does not count, and the bar does not tell its order.
                at = positions[p + ENTERED_AT + b]
                inside = at > 0.0
                first = at if inside else first
                goal, goal_atr = np.inf if inside else goal, 0.0 if inside else goal_atr
                moved = best if inside else moved
            price = stop_price(
                before,
                positions[p + ENTRY + b],
                best,
                first,
                high,
                low,
                parameters[q + STOP_LOSS + b],
                goal,
                parameters[q + TRAILING_STOP + b],
                positions[p + ENTRY_ATR + b],
                parameters[q + STOP_LOSS_ATR + b],
                goal_atr,
                parameters[q + TRAILING_STOP_ATR + b],
            )
            scratch[SHARE + b] = price
            hits |= 1 if price > 0.0 else 0
            positions[p + BEST + b] = moved
        if hits == 0:
            continue
        gather_volatility(c, s, t - 1, volatilities, columns, scratch, fees)
        ending = 0
        for b in range(B):
            before = positions[p + LOTS + b]
            price = scratch[SHARE + b]
            hit = price > 0.0
            side = -1.0
            if short is not None:
                side = -1.0 if before > 0.0 else 1.0
            quantity = lane_volume_limit(
                q, s, b, f, abs(before) if hit else 0.0, parameters, instruments, volumes, fees
            )
            _, cash_per_lot = lane_terms(
                q, s, b, side, quantity, price, parameters, instruments, scratch, volumes, f, fees,
                None,
            )  # fmt: skip
            ended = reduce_position(
                state,
                positions,
                scratch,
                o,
                p,
                b,
                side * quantity,
                price * instruments[s, LOT_MONEY],
                cash_per_lot,
            )
            ending |= 1 if ended else 0
            held = 1.0 if before > 0.0 else -1.0
            barred, cooling = exit_marks(
                hit,
                held,
                positions[p + BARRED + b],
                positions[p + COOLING + b],
                parameters[q + COOLDOWN + b],
            )
            positions[p + BARRED + b] = barred
            positions[p + COOLING + b] = cooling
            if entries is not None:
                positions[p + LEFT + b] = 0.0 if hit else positions[p + LEFT + b]
        if ending != 0:
            end_trades(state, positions, scratch, o, p, float(t))
        if len(fills) > 0 and k == ZERO:
            record_fill(
                fills, q, s, t, STOPPED, positions[p + LOTS] - lots_0, scratch[SHARE], parameters,
                instruments, scratch, volumes, f, fees, None,
            )  # fmt: skip


@jit_apart
def end_lanes(
    k: Index,
    t: int,
    closes: FloatArray,
    ends: IntArray,
    volumes: FloatArray,
    volatilities: FloatArray,
    instruments: FloatArray,
    columns: ColumnArray,
    parameters: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    fills: FloatArray,
    fees: object,
    short: object,
) -> None:
    """Close the positions of block ``k`` in the symbols whose last bar is ``t``, at its close.

    Args:
        k, t, volumes, volatilities, instruments, columns, parameters, state, positions, scratch, fills,
            fees, short: the same as in ``stop_lanes``.
        closes: (n_bars, n_symbols).
        ends: (n_symbols,), last bar of each symbol that ends before the bars do; -1 for the others.
    """
    n_symbols = np.uint64(closes.shape[1])
    o = k * STATE_BLOCK
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    for s in range(n_symbols):
        if ends[s] != t:
            continue
        p = (k * n_symbols + s) * POSITION_BLOCK
        price = closes[t, s]
        value = price * instruments[s, LOT_MONEY]
        gather_volatility(c, s, t - 1, volatilities, columns, scratch, fees)
        ending = 0
        for b in range(B):
            lots = positions[p + LOTS + b]
            side = -1.0
            if short is not None:
                side = -1.0 if lots > 0.0 else 1.0
            _, cash_per_lot = lane_terms(
                q, s, b, side, abs(lots), price, parameters, instruments, scratch, volumes, t, fees,
                None,
            )  # fmt: skip
            if len(fills) > 0 and k == ZERO and b == ZERO:
                record_fill(
                    fills, q, s, t, ENDED, -lots, price, parameters, instruments, scratch, volumes,
                    t, fees, None,
                )  # fmt: skip
            ended = reduce_position(state, positions, scratch, o, p, b, -lots, value, cash_per_lot)
            ending |= 1 if ended else 0
            positions[p + LEFT + b] = 0.0
        if ending != 0:
            end_trades(state, positions, scratch, o, p, float(t))


@jit_lanes
def margin_lanes(
    k: Index,
    t: int,
    f: int,
    opens: FloatArray,
    highs: FloatArray,
    lows: FloatArray,
    traded: ByteArray,
    volumes: FloatArray,
    volatilities: FloatArray,
    instruments: FloatArray,
    columns: ColumnArray,
    parameters: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    maintenance: float,
    fills: FloatArray,
    fees: object,
) -> None:
    """Liquidate the lanes of block ``k`` that are below their maintenance margin inside a bar.

    Args:
        k, t, f, opens, highs, lows, traded, volumes, volatilities, instruments, columns, parameters,
            fills, fees: the same as in ``stop_lanes``.
        state, positions: updated.
        scratch: EQUITY_NOW and GROSS are overwritten.
        maintenance: least equity, a fraction of gross value.
    """
    n_symbols = np.uint64(opens.shape[1])
    o = k * STATE_BLOCK
    for b in range(B):
        scratch[EQUITY_NOW + b] = state[o + CASH + b]
        scratch[GROSS + b] = 0.0
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        lot_money = instruments[s, LOT_MONEY]
        trades = traded[f, s] != 0
        low = (lows[f, s] if trades else opens[f, s]) * lot_money
        high = (highs[f, s] if trades else opens[f, s]) * lot_money
        for b in range(B):
            lots = positions[p + LOTS + b]
            value = lots * (low if lots > 0.0 else high)
            scratch[EQUITY_NOW + b] += value
            scratch[GROSS + b] += abs(value)
    called = 0
    for b in range(B):
        call = margin_call(scratch[EQUITY_NOW + b], scratch[GROSS + b], maintenance)
        called |= 1 if call else 0
    if called != 0:
        liquidate(
            k, t, f, highs, lows, traded, volumes, volatilities, instruments, columns, parameters, state,
            positions, scratch, maintenance, fills, fees,
        )  # fmt: skip


@jit_apart
def liquidate(
    k: Index,
    t: int,
    f: int,
    highs: FloatArray,
    lows: FloatArray,
    traded: ByteArray,
    volumes: FloatArray,
    volatilities: FloatArray,
    instruments: FloatArray,
    columns: ColumnArray,
    parameters: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    maintenance: float,
    fills: FloatArray,
    fees: object,
) -> None:
    """Close the positions of the lanes that ``margin_lanes`` found wanting, at the worst prices.

    Args:
        k, t, f, highs, lows, traded, volumes, volatilities, instruments, columns, parameters, state,
            positions, maintenance, fills, fees: the same as in ``margin_lanes``.
        scratch: EQUITY_NOW and GROSS at the worst prices are read; X_VOLATILITY is overwritten.
    """
    n_symbols = np.uint64(highs.shape[1])
    o = k * STATE_BLOCK
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    for b in range(B):
        if margin_call(scratch[EQUITY_NOW + b], scratch[GROSS + b], maintenance):
            closed = 0.0
            for s in range(n_symbols):
                p = (k * n_symbols + s) * POSITION_BLOCK
                lots = positions[p + LOTS + b]
                positions[p + LEFT + b] = 0.0
                if lots != 0.0 and traded[f, s] != 0:
                    side = -1.0 if lots > 0.0 else 1.0
                    price = lows[f, s] if lots > 0.0 else highs[f, s]
                    column = columns[c + VOLATILITY_COLUMN + b]
                    scratch[X_VOLATILITY + b] = volatilities[t - 1, s, column]
                    _, cash_per_lot = lane_terms(
                        q,
                        s,
                        b,
                        side,
                        abs(lots),
                        price,
                        parameters,
                        instruments,
                        scratch,
                        volumes,
                        f,
                        fees,
                        None,
                    )
                    value = price * instruments[s, LOT_MONEY]
                    ended = reduce_position(
                        state, positions, scratch, o, p, b, -lots, value, cash_per_lot
                    )
                    held = float(t) - positions[p + OPENED + b]
                    book_trade(state, o, b, 1.0 if ended else 0.0, scratch[SPENT + b], held)
                    closed = 1.0
                    if len(fills) > 0 and k == ZERO and b == ZERO:
                        record_fill(
                            fills, q, s, t, LIQUIDATED, -lots, price, parameters, instruments,
                            scratch, volumes, f, fees, None,
                        )  # fmt: skip
            state[o + N_LIQUIDATIONS + b] += closed
