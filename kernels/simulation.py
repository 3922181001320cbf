"""The loop over bars, symbols and lanes: many parameter sets through the same bars at once.

The lane functions below walk the rows of one block's flat buffers (``layout``) and call the scalar
rules of the other modules, which the compiler inlines and vectorizes. The rules stand there, once;
the event flow calls them one at a time.

All buffers are whole and flat, with block ``k`` at offset ``o`` of the state, ``p`` of the positions,
``q`` of the parameters and ``c`` of the columns: slicing them would count references on every call.

Options that are off are passed as ``None``: numba then drops their branches at compile time, so they
cost nothing to those who do not use them.
"""

import numpy as np
import numpy.typing as npt

from kernels._jit import jit_borrowing
from kernels.codes import AVERAGE_CROSS, BREAKOUT, MEAN_REVERSION, MOMENTUM, NEUTRAL
from kernels.execution import (
    affordable_lots,
    buy_cost_per_lot,
    sell_proceeds_per_lot,
    stop_price,
)
from kernels.layout import (
    BARRED,
    BEAR_MULTIPLIER,
    BEST,
    BUDGET_LEFT,
    BULL_MULTIPLIER,
    CASH,
    CASH_LEFT,
    COLUMN_BLOCK,
    CORRELATION_PENALTY,
    COSTS,
    DIRECTION,
    ENTRY,
    EQUITY,
    EQUITY_NOW,
    EXPOSURE,
    FEATURE_0,
    FEATURE_1,
    FLOW,
    FRACTION,
    GROSS,
    GROSS_LOSS,
    GROSS_PROFIT,
    INVERSE_VARIANCE,
    KELLY_FRACTION,
    LOTS,
    MAX_DRAWDOWN,
    MAX_EXPOSURE,
    MIN_LOTS,
    N_TRADES,
    N_WINS,
    NEUTRAL_MULTIPLIER,
    ORDER,
    PARAMETER_BLOCK,
    PEAK,
    POSITION_BLOCK,
    REBALANCE_BAND,
    REGIME_COLUMN,
    RHO,
    RUINED,
    SCALED_KELLY,
    SIGNAL_0,
    SIGNAL_1,
    SIGNAL_2,
    SIGNAL_3,
    SIGNAL_4,
    SIGNAL_5,
    SIGNAL_6,
    SIGNAL_7,
    STATE_BLOCK,
    STOP_LOSS,
    STRIDE,
    SUM_DOWNSIDE_2,
    SUM_EQUITY,
    SUM_EXPOSURE,
    SUM_RETURN,
    SUM_RETURN_2,
    SUM_RETURN_3,
    SUM_RETURN_4,
    TAKE_PROFIT,
    TRADED,
    TRAILING_STOP,
    USER_FEATURE_0,
    USER_FEATURE_1,
    USER_FEATURE_2,
    USER_FEATURE_3,
    USER_FEATURE_4,
    USER_FEATURE_5,
    USER_X0,
    USER_X1,
    USER_X2,
    USER_X3,
    USER_X4,
    USER_X5,
    VARIANCE,
    VOLATILITY_COLUMN,
    X0,
    X1,
    X_INVERSE_VOLATILITY,
    X_VOLATILITY,
    B,
)
from kernels.portfolio import (
    add_return,
    apply_buy,
    apply_sell,
    bar_return,
    drawdown,
    entry_price,
    exposure_of,
    next_variance,
)
from kernels.risk import (
    barred_direction,
    budget,
    budget_taken,
    cash_taken,
    correlation_adjustment,
    inverse_of_lot,
    kelly_size,
    larger,
    mean_correlation,
    order_size,
    smaller,
)
from kernels.signals import (
    average_cross_signal,
    breakout_signal,
    mean_reversion_signal,
    momentum_signal,
)
from kernels.user_signal import GIVEN, N_FEATURES, user_signal

TIME_TILE = 16
"""Bars that one block walks before the next block does, so that their features stay in cache."""

SELL, BUY = 1, 2
_STRIDE = np.uint64(STRIDE)
_ZERO, _ONE, _TWO, _THREE, _FOUR = (np.uint64(k) for k in range(5))

Index = int | np.uint64
Floats = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
Codes = npt.NDArray[np.int8]
Columns = npt.NDArray[np.uint64]


@jit_borrowing
def book_costs(
    state: Floats, o: Index, b: Index, quantity: float, value: float, cost: float
) -> None:
    """Add a fill of ``quantity`` lots to the value traded and the costs paid."""
    state[o + TRADED + b] += quantity * value
    state[o + COSTS + b] += quantity * cost


@jit_borrowing
def book_trade(state: Floats, o: Index, b: Index, ended: float, profit: float) -> None:
    """Count a trade that ended (1.0 or 0.0) with its profit."""
    state[o + N_TRADES + b] += ended
    state[o + N_WINS + b] += ended if profit > 0.0 else 0.0
    state[o + GROSS_PROFIT + b] += larger(profit, 0.0)
    state[o + GROSS_LOSS + b] += larger(-profit, 0.0)


@jit_borrowing
def move_entry(
    positions: Floats, p: Index, b: Index, before: float, change: float, price: float
) -> None:
    """Keep the entry price and the best price of a position that stops watch."""
    positions[p + ENTRY + b] = entry_price(before, positions[p + ENTRY + b], change, price)
    opened = (before == 0.0) | (before * (before + change) < 0.0)
    best = positions[p + BEST + b]
    positions[p + BEST + b] = price if opened & (change != 0.0) else best


@jit_borrowing
def sell_lanes(
    o: Index,
    p: Index,
    state: Floats,
    positions: Floats,
    value: float,
    proceeds: float,
    price: float,
    ending: object,
    stops: object,
    short: object,
) -> None:
    """Fill one symbol's sell orders in one block; ``ending`` is None where no trade can end."""
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
    prices: Floats,
    state: Floats,
    positions: Floats,
    pending: Bytes,
    lot_size: float,
    slippage: float,
    commission: float,
    fills: Floats | None,
    stops: object,
    short: object,
) -> None:
    """Fill the pending orders of block ``k`` at ``prices[t]``: sells first, then buys, by symbol.

    ``pending`` (n_blocks, n_symbols) says which symbols have a sell or a buy in any lane; what is
    filled is cleared. ``fills``, if given, receives the lots that lane 0 of block 0 sold and bought.
    """
    n_symbols = np.uint64(prices.shape[1])
    o = k * STATE_BLOCK
    for s in range(n_symbols):
        if pending[k, s] & SELL:
            p = (k * n_symbols + s) * POSITION_BLOCK
            value = prices[t, s] * lot_size
            proceeds = sell_proceeds_per_lot(prices[t, s], lot_size, slippage, commission)
            price = prices[t, s] * (1.0 - slippage)
            if fills is not None and k == _ZERO:
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
            if fills is not None and k == _ZERO:
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


@jit_borrowing
def stop_lanes(
    k: Index,
    t: int,
    opens: Floats,
    highs: Floats,
    lows: Floats,
    state: Floats,
    positions: Floats,
    parameters: Floats,
    lot_size: float,
    slippage: float,
    commission: float,
    fills: Floats | None,
    stop_prices: Floats | None,
    short: object,
) -> None:
    """Close the positions of block ``k`` whose stop lies in bar ``t``; carry the best price on.

    ``fills`` and ``stop_prices``, if given, receive the change in lots by stops of lane 0 of block
    0 and the price before slippage.
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
        if stop_prices is not None and k == _ZERO:
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
        if fills is not None and k == _ZERO:
            fills[t, s, 2] = positions[p + LOTS] - lots_0


@jit_borrowing
def mark_lanes(
    k: Index,
    t: int,
    closes: Floats,
    state: Floats,
    positions: Floats,
    scratch: Floats,
    values: Floats | None,
    lot_size: float,
    short: object,
) -> None:
    """Value the positions of block ``k`` at ``closes[t]``; ruin closes everything.

    ``values`` (n_symbols, STRIDE), if given, receives the signed value of each position.
    """
    n_symbols = np.uint64(closes.shape[1])
    o = k * STATE_BLOCK
    for b in range(B):
        scratch[EQUITY_NOW + b] = 0.0
        scratch[GROSS + b] = 0.0
    in_fours = n_symbols - n_symbols % _FOUR
    # Four symbols a pass, in order: the running sums are loaded and stored a quarter as often.
    for s in range(_ZERO, in_fours, _FOUR):
        p0 = (k * n_symbols + s) * POSITION_BLOCK
        p1, p2, p3 = p0 + POSITION_BLOCK, p0 + _TWO * POSITION_BLOCK, p0 + _THREE * POSITION_BLOCK
        lot0, lot1 = closes[t, s] * lot_size, closes[t, s + _ONE] * lot_size
        lot2, lot3 = closes[t, s + _TWO] * lot_size, closes[t, s + _THREE] * lot_size
        for b in range(B):
            v0, v1 = positions[p0 + LOTS + b] * lot0, positions[p1 + LOTS + b] * lot1
            v2, v3 = positions[p2 + LOTS + b] * lot2, positions[p3 + LOTS + b] * lot3
            scratch[EQUITY_NOW + b] = scratch[EQUITY_NOW + b] + v0 + v1 + v2 + v3
            if short is not None:
                scratch[GROSS + b] = scratch[GROSS + b] + abs(v0) + abs(v1) + abs(v2) + abs(v3)
            if values is not None:
                values[s, b], values[s + _ONE, b] = v0, v1
                values[s + _TWO, b], values[s + _THREE, b] = v2, v3
    for s in range(in_fours, n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        lot_value = closes[t, s] * lot_size
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
        close_ruined(k, t, closes, state, positions, scratch, values, lot_size)


@jit_borrowing
def close_ruined(
    k: Index,
    t: int,
    closes: Floats,
    state: Floats,
    positions: Floats,
    scratch: Floats,
    values: Floats | None,
    lot_size: float,
) -> None:
    """Close every position of the lanes whose equity is gone, at ``closes[t]``; nothing is left."""
    n_symbols = np.uint64(closes.shape[1])
    o = k * STATE_BLOCK
    for b in range(B):
        if scratch[EQUITY_NOW + b] <= 0.0:
            for s in range(n_symbols):
                p = (k * n_symbols + s) * POSITION_BLOCK
                lots = positions[p + LOTS + b]
                if lots != 0.0:
                    value = lots * (closes[t, s] * lot_size)
                    book_trade(state, o, b, 1.0, positions[p + FLOW + b] + value)
                positions[p + LOTS + b] = 0.0
                positions[p + FLOW + b] = 0.0
                if values is not None:
                    values[s, b] = 0.0
            state[o + CASH + b] = 0.0
            state[o + RUINED + b] = 1.0
            scratch[EQUITY_NOW + b] = 0.0
            scratch[GROSS + b] = 0.0


@jit_borrowing
def variance_lanes(k: Index, state: Floats, scratch: Floats, decay: float) -> None:
    """Update the portfolio's variance per unit of exposure with the bar just marked."""
    o = k * STATE_BLOCK
    for b in range(B):
        equity = scratch[EQUITY_NOW + b]
        return_ = bar_return(equity, state[o + EQUITY + b])
        exposure = exposure_of(scratch[GROSS + b], equity)
        put_variance(o, b, state, scratch, return_, exposure, decay)


@jit_borrowing
def put_variance(
    o: Index,
    b: Index,
    state: Floats,
    scratch: Floats,
    return_: float,
    exposure: float,
    decay: float,
) -> None:
    """Carry a lane's variance on and leave its inverse for ``put_signal``."""
    variance = next_variance(
        state[o + VARIANCE + b], return_, exposure, state[o + EXPOSURE + b], decay
    )
    state[o + VARIANCE + b] = variance
    scratch[INVERSE_VARIANCE + b] = 1.0 / variance


@jit_borrowing
def account_lanes(k: Index, state: Floats, scratch: Floats, decay: float | None) -> None:
    """Add the bar just marked to the moments, the drawdown and the means of block ``k``.

    With ``decay`` to the portfolio's variance too, whose divisions are the same.
    """
    o = k * STATE_BLOCK
    for b in range(B):
        equity = scratch[EQUITY_NOW + b]
        return_ = bar_return(equity, state[o + EQUITY + b])
        exposure = exposure_of(scratch[GROSS + b], equity)
        if decay is not None:
            put_variance(o, b, state, scratch, return_, exposure, decay)
        s1, s2, s3, s4, down = add_return(
            return_,
            state[o + SUM_RETURN + b],
            state[o + SUM_RETURN_2 + b],
            state[o + SUM_RETURN_3 + b],
            state[o + SUM_RETURN_4 + b],
            state[o + SUM_DOWNSIDE_2 + b],
        )
        peak = larger(equity, state[o + PEAK + b])
        state[o + SUM_RETURN + b] = s1
        state[o + SUM_RETURN_2 + b] = s2
        state[o + SUM_RETURN_3 + b] = s3
        state[o + SUM_RETURN_4 + b] = s4
        state[o + SUM_DOWNSIDE_2 + b] = down
        state[o + SUM_EXPOSURE + b] += exposure
        state[o + SUM_EQUITY + b] += equity
        state[o + MAX_DRAWDOWN + b] = larger(state[o + MAX_DRAWDOWN + b], drawdown(equity, peak))
        state[o + PEAK + b] = peak
        state[o + EXPOSURE + b] = exposure
        state[o + EQUITY + b] = equity


@jit_borrowing
def other_correlation(correlations: Floats, m: int, s: Index, j: Index) -> float:
    """Correlation of symbol ``s`` with another; 0 with itself, which then does not weigh."""
    return 0.0 if j == s else correlations[m, s, j]


@jit_borrowing
def rho_lanes(
    k: Index,
    m: int,
    correlations: Floats,
    positions: Floats,
    scratch: Floats,
    values: Floats,
) -> None:
    """Mean correlation of each symbol with the other positions held, weighted by exposure.

    Signed values: a short position in a correlated symbol offsets. ``correlations[m]`` is
    (n_symbols, n_symbols). Reads what ``mark_lanes`` left.
    """
    n_symbols = np.uint64(correlations.shape[1])
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        for b in range(B):
            scratch[FRACTION + b] = 0.0
        # Four symbols a pass, in order: the running sum is loaded and stored a quarter as often.
        for j in range(_ZERO, n_symbols - n_symbols % _FOUR, _FOUR):
            r0 = other_correlation(correlations, m, s, j)
            r1 = other_correlation(correlations, m, s, j + _ONE)
            r2 = other_correlation(correlations, m, s, j + _TWO)
            r3 = other_correlation(correlations, m, s, j + _THREE)
            for b in range(B):
                weighted = scratch[FRACTION + b] + r0 * values[j, b]
                weighted = weighted + r1 * values[j + _ONE, b]
                weighted = weighted + r2 * values[j + _TWO, b]
                scratch[FRACTION + b] = weighted + r3 * values[j + _THREE, b]
        for j in range(n_symbols - n_symbols % _FOUR, n_symbols):
            rho = other_correlation(correlations, m, s, j)
            for b in range(B):
                scratch[FRACTION + b] += rho * values[j, b]
        for b in range(B):
            positions[p + RHO + b] = mean_correlation(
                scratch[FRACTION + b], scratch[GROSS + b], values[s, b]
            )


@jit_borrowing
def regime_lanes(
    k: Index,
    t: int,
    regimes: Codes,
    columns: Columns,
    parameters: Floats,
    scratch: Floats,
    shared: bool,
) -> None:
    """Kelly fraction times the multiplier of the regime at bar ``t``, for block ``k``."""
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    if shared:
        code = regimes[t, columns[c + REGIME_COLUMN]]
        row = NEUTRAL_MULTIPLIER
        if code > NEUTRAL:
            row = BULL_MULTIPLIER
        elif code < NEUTRAL:
            row = BEAR_MULTIPLIER
        for b in range(B):
            scratch[SCALED_KELLY + b] = parameters[q + KELLY_FRACTION + b] * parameters[q + row + b]
    else:
        for b in range(B):
            code = regimes[t, columns[c + REGIME_COLUMN + b]]
            multiplier = parameters[q + NEUTRAL_MULTIPLIER + b]
            if code > NEUTRAL:
                multiplier = parameters[q + BULL_MULTIPLIER + b]
            elif code < NEUTRAL:
                multiplier = parameters[q + BEAR_MULTIPLIER + b]
            scratch[SCALED_KELLY + b] = parameters[q + KELLY_FRACTION + b] * multiplier


@jit_borrowing
def put_signal(
    scratch: Floats,
    b: Index,
    direction: float,
    strength: float,
    confidence: float,
    inverse_volatility: float,
) -> None:
    """Leave a lane's direction and Kelly fraction of equity for ``size_lanes``."""
    inverse_variance = smaller(
        inverse_volatility * inverse_volatility, scratch[INVERSE_VARIANCE + b]
    )
    scratch[DIRECTION + b] = direction
    scratch[FRACTION + b] = kelly_size(
        scratch[SCALED_KELLY + b], strength, confidence, inverse_variance
    )


@jit_borrowing
def signal_lanes(
    q: Index,
    strategy: int,
    parameters: Floats,
    scratch: Floats,
    close: float,
    x0: float,
    x1: float,
    vol: float,
    ivol: float,
    shared: bool,
) -> None:
    """Signals and Kelly sizes of one block for one symbol.

    ``x0``, ``x1``, ``vol``, ``ivol`` (features, volatility and its inverse) are used where all lanes
    share them; elsewhere the gathered rows of ``scratch`` are.
    """
    inverse_close = 1.0 / close
    if strategy == MOMENTUM:
        if shared:
            for b in range(B):
                d, e, f = momentum_signal(
                    x0, vol, ivol, parameters[q + SIGNAL_0 + b], parameters[q + SIGNAL_1 + b]
                )
                put_signal(scratch, b, d, e, f, ivol)
        else:
            for b in range(B):
                v, iv = scratch[X_VOLATILITY + b], scratch[X_INVERSE_VOLATILITY + b]
                d, e, f = momentum_signal(
                    scratch[X0 + b],
                    v,
                    iv,
                    parameters[q + SIGNAL_0 + b],
                    parameters[q + SIGNAL_1 + b],
                )
                put_signal(scratch, b, d, e, f, iv)
    elif strategy == MEAN_REVERSION:
        if shared:
            for b in range(B):
                d, e, f = mean_reversion_signal(
                    x0, vol, parameters[q + SIGNAL_0 + b], parameters[q + SIGNAL_1 + b]
                )
                put_signal(scratch, b, d, e, f, ivol)
        else:
            for b in range(B):
                v, iv = scratch[X_VOLATILITY + b], scratch[X_INVERSE_VOLATILITY + b]
                d, e, f = mean_reversion_signal(
                    scratch[X0 + b], v, parameters[q + SIGNAL_0 + b], parameters[q + SIGNAL_1 + b]
                )
                put_signal(scratch, b, d, e, f, iv)
    elif strategy == AVERAGE_CROSS:
        if shared:
            for b in range(B):
                d, e, f = average_cross_signal(
                    x0,
                    x1,
                    inverse_close,
                    vol,
                    ivol,
                    parameters[q + SIGNAL_0 + b],
                    parameters[q + SIGNAL_1 + b],
                )
                put_signal(scratch, b, d, e, f, ivol)
        else:
            for b in range(B):
                v, iv = scratch[X_VOLATILITY + b], scratch[X_INVERSE_VOLATILITY + b]
                d, e, f = average_cross_signal(
                    scratch[X0 + b],
                    scratch[X1 + b],
                    inverse_close,
                    v,
                    iv,
                    parameters[q + SIGNAL_0 + b],
                    parameters[q + SIGNAL_1 + b],
                )
                put_signal(scratch, b, d, e, f, iv)
    elif strategy == BREAKOUT:
        if shared:
            for b in range(B):
                d, e, f = breakout_signal(
                    x0,
                    x1,
                    close,
                    inverse_close,
                    vol,
                    ivol,
                    parameters[q + SIGNAL_0 + b],
                    parameters[q + SIGNAL_1 + b],
                )
                put_signal(scratch, b, d, e, f, ivol)
        else:
            for b in range(B):
                v, iv = scratch[X_VOLATILITY + b], scratch[X_INVERSE_VOLATILITY + b]
                d, e, f = breakout_signal(
                    scratch[X0 + b],
                    scratch[X1 + b],
                    close,
                    inverse_close,
                    v,
                    iv,
                    parameters[q + SIGNAL_0 + b],
                    parameters[q + SIGNAL_1 + b],
                )
                put_signal(scratch, b, d, e, f, iv)


@jit_borrowing
def user_lanes(
    q: Index,
    c: Index,
    t: int,
    s: Index,
    features: Floats,
    columns: Columns,
    parameters: Floats,
    scratch: Floats,
    close: float,
    vol: float,
    ivol: float,
    shared: bool,
) -> None:
    """As ``signal_lanes``, for a user's strategy: it gathers the features itself.

    Features and parameters that the user's function does not take are loads that the compiler drops.
    """
    if shared:
        x0 = features[t, s, columns[c + USER_FEATURE_0]]
        x1 = features[t, s, columns[c + USER_FEATURE_1]]
        x2 = features[t, s, columns[c + USER_FEATURE_2]]
        x3 = features[t, s, columns[c + USER_FEATURE_3]]
        x4 = features[t, s, columns[c + USER_FEATURE_4]]
        x5 = features[t, s, columns[c + USER_FEATURE_5]]
        for b in range(B):
            d, e, f = user_signal(
                x0, x1, x2, x3, x4, x5, close, vol, ivol,
                parameters[q + SIGNAL_0 + b], parameters[q + SIGNAL_1 + b],
                parameters[q + SIGNAL_2 + b], parameters[q + SIGNAL_3 + b],
                parameters[q + SIGNAL_4 + b], parameters[q + SIGNAL_5 + b],
                parameters[q + SIGNAL_6 + b], parameters[q + SIGNAL_7 + b],
            )  # fmt: skip
            put_signal(scratch, b, d, e, f, ivol)
    else:
        for row in range(np.uint64(N_FEATURES)):
            for b in range(B):
                column = columns[c + USER_FEATURE_0 + row * _STRIDE + b]
                scratch[USER_X0 + row * _STRIDE + b] = features[t, s, column]
        for b in range(B):
            iv = scratch[X_INVERSE_VOLATILITY + b]
            d, e, f = user_signal(
                scratch[USER_X0 + b], scratch[USER_X1 + b], scratch[USER_X2 + b], scratch[USER_X3 + b],
                scratch[USER_X4 + b], scratch[USER_X5 + b], close, scratch[X_VOLATILITY + b], iv,
                parameters[q + SIGNAL_0 + b], parameters[q + SIGNAL_1 + b],
                parameters[q + SIGNAL_2 + b], parameters[q + SIGNAL_3 + b],
                parameters[q + SIGNAL_4 + b], parameters[q + SIGNAL_5 + b],
                parameters[q + SIGNAL_6 + b], parameters[q + SIGNAL_7 + b],
            )  # fmt: skip
            put_signal(scratch, b, d, e, f, iv)


@jit_borrowing
def size_lanes(
    p: Index,
    q: Index,
    positions: Floats,
    parameters: Floats,
    scratch: Floats,
    lot_value: float,
    correlation: object,
    stops: object,
    short: object,
) -> int:
    """Turn one symbol's signals into orders for the next fill.

    Where short positions are off, the row CASH_LEFT is the smaller of cash and budget left.

    Returns which kinds of order any lane placed: SELL, BUY, both or 0.
    """
    inverse_lot_value = inverse_of_lot(lot_value)
    if stops is not None:
        for b in range(B):
            direction, barred = barred_direction(scratch[DIRECTION + b], positions[p + BARRED + b])
            scratch[DIRECTION + b] = direction
            positions[p + BARRED + b] = barred
    sells = False
    buys = False
    for b in range(B):
        direction = scratch[DIRECTION + b]
        fraction = scratch[FRACTION + b]
        if correlation is not None:
            rho = positions[p + RHO + b]
            if short is not None:
                rho = rho * direction
            fraction = fraction * correlation_adjustment(
                parameters[q + CORRELATION_PENALTY + b], rho
            )
        lots = positions[p + LOTS + b]
        cash_left = scratch[CASH_LEFT + b]
        budget_left = cash_left
        if short is not None:
            budget_left = scratch[BUDGET_LEFT + b]
        order, _, _, _, _ = order_size(
            direction,
            fraction,
            scratch[EQUITY_NOW + b],
            lots,
            lot_value,
            inverse_lot_value,
            cash_left,
            budget_left,
            parameters[q + MIN_LOTS + b],
            parameters[q + REBALANCE_BAND + b],
            short,
        )
        positions[p + ORDER + b] = order
        scratch[CASH_LEFT + b] = cash_left - cash_taken(order, lot_value)
        if short is not None:
            scratch[BUDGET_LEFT + b] = budget_left - budget_taken(order, lots, lot_value, short)
        sells |= order < 0.0
        buys |= order > 0.0
    return (SELL if sells else 0) + (BUY if buys else 0)


@jit_borrowing
def decide_lanes(
    k: Index,
    t: int,
    closes: Floats,
    features: Floats,
    volatilities: Floats,
    inverse_volatilities: Floats,
    regimes: Codes,
    columns: Columns,
    parameters: Floats,
    state: Floats,
    positions: Floats,
    pending: Bytes,
    scratch: Floats,
    strategy: int,
    shared: bool,
    lot_size: float,
    correlation: object,
    stops: object,
    short: object,
) -> None:
    """Signals, regime and risk of block ``k`` at the close of bar ``t``: orders for the next fill."""
    n_symbols = np.uint64(closes.shape[1])
    o = k * STATE_BLOCK
    q = k * PARAMETER_BLOCK
    c = k * COLUMN_BLOCK
    regime_lanes(k, t, regimes, columns, parameters, scratch, shared)
    for b in range(B):
        cash_left = state[o + CASH + b]
        budget_left = budget(
            parameters[q + MAX_EXPOSURE + b], scratch[EQUITY_NOW + b], scratch[GROSS + b]
        )
        if short is None:
            # A long order takes as much of the one as of the other, and rounding keeps their order:
            # the smaller of the two decides, at every symbol.
            cash_left = smaller(cash_left, budget_left)
        else:
            scratch[BUDGET_LEFT + b] = budget_left
        scratch[CASH_LEFT + b] = cash_left
    one_volatility = True
    if not shared:
        differ = 0
        for b in range(B):
            own = columns[c + VOLATILITY_COLUMN + b] != columns[c + VOLATILITY_COLUMN]
            differ |= 1 if own else 0
        one_volatility = differ == 0
    for s in range(n_symbols):
        p = (k * n_symbols + s) * POSITION_BLOCK
        x0 = features[t, s, columns[c + FEATURE_0]]
        x1 = features[t, s, columns[c + FEATURE_1]]
        vol = volatilities[t, s, columns[c + VOLATILITY_COLUMN]]
        ivol = inverse_volatilities[t, s, columns[c + VOLATILITY_COLUMN]]
        if not shared:
            for b in range(B):
                scratch[X0 + b] = features[t, s, columns[c + FEATURE_0 + b]]
            if strategy in (AVERAGE_CROSS, BREAKOUT):
                for b in range(B):
                    scratch[X1 + b] = features[t, s, columns[c + FEATURE_1 + b]]
            if one_volatility:
                for b in range(B):
                    scratch[X_VOLATILITY + b] = vol
                    scratch[X_INVERSE_VOLATILITY + b] = ivol
            else:
                for b in range(B):
                    column = columns[c + VOLATILITY_COLUMN + b]
                    scratch[X_VOLATILITY + b] = volatilities[t, s, column]
                    scratch[X_INVERSE_VOLATILITY + b] = inverse_volatilities[t, s, column]
        if GIVEN:
            user_lanes(
                q, c, t, s, features, columns, parameters, scratch, closes[t, s], vol, ivol, shared
            )  # fmt: skip
        else:
            signal_lanes(q, strategy, parameters, scratch, closes[t, s], x0, x1, vol, ivol, shared)
        pending[k, s] = size_lanes(
            p, q, positions, parameters, scratch, closes[t, s] * lot_size, correlation, stops, short
        )


@jit_borrowing
def simulate(
    first: int,
    last: int,
    opens: Floats,
    highs: Floats,
    lows: Floats,
    closes: Floats,
    features: Floats,
    volatilities: Floats,
    inverse_volatilities: Floats,
    regimes: Codes,
    correlations: Floats | None,
    correlation_first: int,
    correlation_refresh: int,
    strategies: npt.NDArray[np.int64],
    shared: npt.NDArray[np.bool_],
    columns: Columns,
    parameters: Floats,
    state: Floats,
    positions: Floats,
    pending: Bytes,
    scratch: Floats,
    values: Floats | None,
    lot_size: float,
    slippage: float,
    commission: float,
    decay: float,
    equity: Floats | None,
    fills: Floats | None,
    stop_prices: Floats | None,
    stops: object,
    short: object,
    close_fill: object,
) -> None:
    """Walk bars ``first`` to ``last - 1`` for every block of lanes, carrying the state on.

    A bar: pending orders fill at its open; stops; positions are marked at its close; signal, regime
    and risk decide the orders for the next open. Running [a, b) and then [b, c) with the same state
    equals running [a, c), bit for bit.

    Args:
        first, last: bars to walk.
        opens, highs, lows, closes: (n_bars, n_symbols).
        features: (n_bars, n_symbols, n_columns), finite from ``first`` on in the columns used.
        volatilities, inverse_volatilities: (n_bars, n_symbols, n_volatilities), per bar; the
            inverse is 0 where the volatility is 0.
        regimes: (n_bars, n_models), codes.
        correlations: (n_refreshes, n_symbols, n_symbols), matrix m as of bar
            ``correlation_first + m * correlation_refresh``; None where no lane has a penalty.
        correlation_first, correlation_refresh: bars.
        strategies: (n_blocks,) code of the signal kernel.
        shared: (n_blocks,), whether all lanes of the block read the same columns.
        columns: flat, n_blocks * COLUMN_BLOCK.
        parameters: flat, n_blocks * PARAMETER_BLOCK.
        state: flat, n_blocks * STATE_BLOCK, updated.
        positions: flat, n_blocks * n_symbols * POSITION_BLOCK, updated.
        pending: (n_blocks, n_symbols), updated: which symbols have orders to fill.
        scratch: (SCRATCH_SIZE,), overwritten.
        values: (n_symbols, STRIDE), overwritten; None where ``correlations`` is.
        lot_size: units per lot.
        slippage, commission: fractions.
        decay: of the portfolio's variance.
        equity: (n_bars,), receives the equity of lane 0 of block 0; or None.
        fills: (n_bars, n_symbols, 3), receives its lots sold (negative), bought, and changed by
            stops; or None.
        stop_prices: (n_bars, n_symbols), receives its stops' prices before slippage; or None.
        stops, short, close_fill: None where off; on: stops are watched, short positions are
            allowed, orders fill at the close of the bar that decides them.
    """
    for start in range(first, last, TIME_TILE):
        stop = min(start + TIME_TILE, last)
        for k in range(np.uint64(len(strategies))):
            for t in range(start, stop):
                if close_fill is None:
                    fill_lanes(
                        k, t, opens, state, positions, pending, lot_size, slippage, commission,
                        fills, stops, short,
                    )  # fmt: skip
                if stops is not None:
                    stop_lanes(
                        k, t, opens, highs, lows, state, positions, parameters, lot_size, slippage,
                        commission, fills, stop_prices, short,
                    )  # fmt: skip
                mark_lanes(k, t, closes, state, positions, scratch, values, lot_size, short)
                if close_fill is None:
                    account_lanes(k, state, scratch, decay)
                else:
                    variance_lanes(k, state, scratch, decay)
                if correlations is not None and values is not None:
                    since = t - correlation_first
                    if since % correlation_refresh == 0:
                        m = since // correlation_refresh
                        rho_lanes(k, m, correlations, positions, scratch, values)
                decide_lanes(
                    k, t, closes, features, volatilities, inverse_volatilities, regimes, columns,
                    parameters, state, positions, pending, scratch, strategies[k], shared[k],
                    lot_size, values, stops, short,
                )  # fmt: skip
                if close_fill is not None:
                    fill_lanes(
                        k, t, closes, state, positions, pending, lot_size, slippage, commission,
                        fills, stops, short,
                    )  # fmt: skip
                    mark_lanes(k, t, closes, state, positions, scratch, values, lot_size, short)
                    account_lanes(k, state, scratch, None)
                if equity is not None and k == _ZERO:
                    equity[t] = state[EQUITY]
