"""Accounts of a block of lanes: carry, the portfolio's variance, and the sums behind metrics."""

import numpy as np

from kernels._jit import jit_borrowing
from kernels.arrays import ByteArray, FloatArray, Index
from kernels.layout import (
    BORROW,
    CARRY,
    CASH,
    CLOSED,
    CREDIT,
    DEBIT,
    EQUITY,
    EQUITY_NOW,
    EXPOSURE,
    GROSS,
    INVERSE_VARIANCE,
    LOT_MONEY,
    LOTS,
    MAX_DRAWDOWN,
    MOST_UNDER_PEAK,
    PEAK,
    POSITION_BLOCK,
    RUINED,
    SPENT,
    STATE_BLOCK,
    SUM_DOWNSIDE_2,
    SUM_DRAWDOWN_2,
    SUM_EQUITY,
    SUM_EXPOSURE,
    SUM_LOSS,
    SUM_PRODUCT,
    SUM_RETURN,
    SUM_RETURN_2,
    SUM_RETURN_3,
    SUM_RETURN_4,
    UNDER_PEAK,
    VARIANCE,
    YEARS,
    B,
)
from kernels.portfolio import (
    add_drawdown,
    add_return,
    bar_return,
    carried,
    drawdown,
    exposure_of,
    next_variance,
)
from kernels.risk import larger


@jit_borrowing
def carry_lanes(
    k: Index,
    t: int,
    closes: FloatArray,
    instruments: FloatArray,
    rates: FloatArray,
    payments: FloatArray,
    state: FloatArray,
    positions: FloatArray,
    scratch: FloatArray,
    short: object,
    extended: object,
) -> None:
    """Book the carry of block ``k`` from the close of ``t - 1`` to that of ``t``.

    Args:
        k, t: numbers of the block and of the bar.
        closes: (n_bars, n_symbols).
        instruments: (n_symbols, N_INSTRUMENT_COLUMNS).
        rates: (n_bars, N_RATE_COLUMNS).
        payments: (n_bars, n_symbols), dividends less funding per unit; empty without them.
        state: CASH and CARRY are updated.
        positions: read.
        scratch: GROSS and SPENT are overwritten.
        short: None where short positions are off.
        extended: None where no account has payments.
    """
    n_symbols = np.uint64(closes.shape[1])
    o = k * STATE_BLOCK
    credit, debit, years = rates[t, CREDIT], rates[t, DEBIT], rates[t, YEARS]
    for b in range(B):
        scratch[GROSS + b] = 0.0
        scratch[SPENT + b] = 0.0
    if short is not None and t > 0:
        for s in range(n_symbols):
            p = (k * n_symbols + s) * POSITION_BLOCK
            lot_value = closes[t - 1, s] * instruments[s, LOT_MONEY]
            fee = instruments[s, BORROW] * years
            for b in range(B):
                value = larger(-positions[p + LOTS + b], 0.0) * lot_value
                scratch[GROSS + b] += value
                scratch[SPENT + b] += value * fee
    if extended is not None and len(payments) > 0:
        for s in range(n_symbols):
            p = (k * n_symbols + s) * POSITION_BLOCK
            lot_payment = payments[t, s] * instruments[s, LOT_MONEY]
            if lot_payment != 0.0:
                for b in range(B):
                    scratch[SPENT + b] -= positions[p + LOTS + b] * lot_payment
    for b in range(B):
        earned = carried(state[o + CASH + b], scratch[GROSS + b], scratch[SPENT + b], credit, debit)
        earned = earned if state[o + RUINED + b] == 0.0 else 0.0
        state[o + CASH + b] += earned
        state[o + CARRY + b] += earned


@jit_borrowing
def account_lanes(
    k: Index,
    t: int,
    counted: ByteArray,
    state: FloatArray,
    scratch: FloatArray,
    risk_free: float,
    benchmark: float,
    decay: float | None,
) -> None:
    """Add the bar just marked to the sums of returns, the maximum drawdown and the means of block ``k``.

    Args:
        k, t: numbers of the block and of the bar.
        counted: (n_bars,), 1 where a return is closed; empty where every bar closes one.
        state: updated.
        scratch: the scratch values as ``mark_lanes`` left them; INVERSE_VARIANCE is written where
            ``decay`` is given.
        risk_free: return without risk over the time of the return that is closed, a fraction;
            subtracted in the sums of returns.
        benchmark: return of the benchmark over the same time, less the risk-free one, a fraction.
        decay: the decay of the portfolio's variance, to update it in the same pass, which shares
            the divisions; None leaves the variance as it is.
    """
    o = k * STATE_BLOCK
    if len(counted) == 0:
        for b in range(B):
            equity = scratch[EQUITY_NOW + b]
            return_ = bar_return(equity, state[o + EQUITY + b])
            put_bar(o, b, state, scratch, return_, decay)
            put_return(o, b, state, return_ - risk_free, benchmark)
        return
    for b in range(B):
        return_ = bar_return(scratch[EQUITY_NOW + b], state[o + EQUITY + b])
        put_bar(o, b, state, scratch, return_, decay)
    if counted[t] != 0:
        for b in range(B):
            equity = scratch[EQUITY_NOW + b]
            return_ = bar_return(equity, state[o + CLOSED + b])
            put_return(o, b, state, return_ - risk_free, benchmark)
            state[o + CLOSED + b] = equity


@jit_borrowing
def put_bar(
    o: Index, b: Index, state: FloatArray, scratch: FloatArray, return_: float, decay: float | None
) -> None:
    """Add a bar to a lane's variance, means, peak and drawdown.

    Args:
        o, b: offset of the block in ``state``, and the lane.
        state: updated.
        scratch: the scratch values as ``mark_lanes`` left them.
        return_: the return of the bar, a fraction.
        decay: the decay of the portfolio's variance, as in ``account_lanes``.
    """
    equity = scratch[EQUITY_NOW + b]
    exposure = exposure_of(scratch[GROSS + b], equity)
    if decay is not None:
        put_variance(o, b, state, scratch, return_, exposure, decay)
    peak = larger(equity, state[o + PEAK + b])
    state[o + SUM_EXPOSURE + b] += exposure
    state[o + SUM_EQUITY + b] += equity
    fall = drawdown(equity, peak)
    state[o + MAX_DRAWDOWN + b] = larger(state[o + MAX_DRAWDOWN + b], fall)
    squares, under, most = add_drawdown(
        fall,
        state[o + SUM_DRAWDOWN_2 + b],
        state[o + UNDER_PEAK + b],
        state[o + MOST_UNDER_PEAK + b],
    )
    state[o + SUM_DRAWDOWN_2 + b] = squares
    state[o + UNDER_PEAK + b] = under
    state[o + MOST_UNDER_PEAK + b] = most
    state[o + PEAK + b] = peak
    state[o + EXPOSURE + b] = exposure
    state[o + EQUITY + b] = equity


@jit_borrowing
def put_return(o: Index, b: Index, state: FloatArray, excess: float, benchmark: float) -> None:
    """Add a return to a lane's sums.

    Args:
        o, b: offset of the block in ``state``, and the lane.
        state: updated.
        excess, benchmark: return of the lane and of the benchmark less the risk-free one, fractions.
    """
    s1, s2, s3, s4, down, lost = add_return(
        excess,
        state[o + SUM_RETURN + b],
        state[o + SUM_RETURN_2 + b],
        state[o + SUM_RETURN_3 + b],
        state[o + SUM_RETURN_4 + b],
        state[o + SUM_DOWNSIDE_2 + b],
        state[o + SUM_LOSS + b],
    )
    state[o + SUM_RETURN + b] = s1
    state[o + SUM_RETURN_2 + b] = s2
    state[o + SUM_RETURN_3 + b] = s3
    state[o + SUM_RETURN_4 + b] = s4
    state[o + SUM_DOWNSIDE_2 + b] = down
    state[o + SUM_LOSS + b] = lost
    state[o + SUM_PRODUCT + b] += excess * benchmark


@jit_borrowing
def variance_lanes(k: Index, state: FloatArray, scratch: FloatArray, decay: float) -> None:
    """Update the portfolio's variance with the bar just marked.

    This is for fills at the close, where the variance is needed before the bar's accounts are closed.

    Args:
        k: number of the block.
        state: VARIANCE is updated.
        scratch: the scratch values as ``mark_lanes`` left them; INVERSE_VARIANCE is written.
        decay: the decay of the variance, a fraction.
    """
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
    state: FloatArray,
    scratch: FloatArray,
    return_: float,
    exposure: float,
    decay: float,
) -> None:
    """Update a lane's variance, and leave its inverse for ``put_signal``.

    Args:
        o, b: offset of the block in ``state``, and the lane.
        state: VARIANCE is updated.
        scratch: INVERSE_VARIANCE is written.
        return_: the return of the bar, a fraction.
        exposure: gross value over equity at the bar's close.
        decay: the decay of the variance, a fraction.
    """
    variance = next_variance(
        state[o + VARIANCE + b], return_, exposure, state[o + EXPOSURE + b], decay
    )
    state[o + VARIANCE + b] = variance
    scratch[INVERSE_VARIANCE + b] = 1.0 / variance
