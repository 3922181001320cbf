"""Accounts of a block of lanes: carry, the portfolio's variance, and the sums behind metrics."""

import numpy as np

from kernels._jit import jit_apart, jit_lanes
from kernels.arrays import FloatArray, Index
from kernels.layout import (
    BORROW,
    CARRY,
    CASH,
    CREDIT,
    DEBIT,
    EQUITY,
    EQUITY_NOW,
    EXPOSURE,
    GROSS,
    INVERSE_EXPOSURE,
    INVERSE_PEAK,
    LAST_EQUITY,
    LAST_EXPOSURE,
    LAST_INVERSE,
    LOT_MONEY,
    LOTS,
    PEAK,
    POSITION_BLOCK,
    ROW,
    RUINED,
    SPENT,
    STATE_BLOCK,
    VARIANCE,
    YEARS,
    B,
)
from kernels.portfolio import (
    carried,
    exposure_by,
    inverse_exposure,
    inverse_of,
    return_by,
    variance_by,
)
from kernels.risk import larger, smaller


@jit_apart
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


@jit_lanes
def open_lanes(k: Index, state: FloatArray, scratch: FloatArray, recent: FloatArray) -> None:
    """Leave what ``account_lanes`` carries on from bar to bar, as of the last close.

    Args:
        k: number of the block.
        state: read.
        scratch: INVERSE_EXPOSURE and INVERSE_PEAK are written.
        recent: LAST_EQUITY and LAST_INVERSE are written.
    """
    o = k * STATE_BLOCK
    for b in range(B):
        equity = state[o + EQUITY + b]
        recent[LAST_EQUITY + b] = equity
        recent[LAST_INVERSE + b] = inverse_of(equity)
        scratch[INVERSE_EXPOSURE + b] = inverse_exposure(state[o + EXPOSURE + b])
        scratch[INVERSE_PEAK + b] = inverse_of(state[o + PEAK + b])


@jit_lanes
def account_lanes(
    k: Index,
    i: Index,
    state: FloatArray,
    scratch: FloatArray,
    recent: FloatArray,
    decay: float | None,
) -> None:
    """Close the accounts of the bar just marked in block ``k``.

    Args:
        k: number of the block.
        i: number of the bar among those that are not in the sums yet; ``kernels.lanes.sums`` adds them.
        state: VARIANCE is updated.
        scratch: EQUITY_NOW and GROSS as ``mark_lanes`` left them; INVERSE_EXPOSURE is updated.
        recent: the rows of the bar before are read; equity, its inverse and exposure are written.
        decay: the decay of the portfolio's variance; None leaves the variance as it is, after fills at a
            close that has updated it.
    """
    o = k * STATE_BLOCK
    before = i * ROW
    r = before + ROW
    for b in range(B):
        equity = scratch[EQUITY_NOW + b]
        inverse = inverse_of(equity)
        exposure = exposure_by(scratch[GROSS + b], inverse)
        inverse_held = inverse_exposure(exposure)
        if decay is not None:
            return_ = return_by(
                equity, recent[LAST_EQUITY + before + b], recent[LAST_INVERSE + before + b]
            )
            held = smaller(inverse_held, scratch[INVERSE_EXPOSURE + b])
            state[o + VARIANCE + b] = variance_by(state[o + VARIANCE + b], return_, held, decay)
        recent[LAST_EQUITY + r + b] = equity
        recent[LAST_INVERSE + r + b] = inverse
        recent[LAST_EXPOSURE + r + b] = exposure
        scratch[INVERSE_EXPOSURE + b] = inverse_held
