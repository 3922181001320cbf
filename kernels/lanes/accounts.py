"""Accounts of a block of lanes: the portfolio's variance, and the sums that metrics are made of."""

from kernels._jit import jit_borrowing
from kernels.arrays import FloatArray, Index
from kernels.layout import (
    EQUITY,
    EQUITY_NOW,
    EXPOSURE,
    GROSS,
    INVERSE_VARIANCE,
    MAX_DRAWDOWN,
    PEAK,
    STATE_BLOCK,
    SUM_DOWNSIDE_2,
    SUM_EQUITY,
    SUM_EXPOSURE,
    SUM_RETURN,
    SUM_RETURN_2,
    SUM_RETURN_3,
    SUM_RETURN_4,
    VARIANCE,
    B,
)
from kernels.portfolio import add_return, bar_return, drawdown, exposure_of, next_variance
from kernels.risk import larger


@jit_borrowing
def account_lanes(k: Index, state: FloatArray, scratch: FloatArray, decay: float | None) -> None:
    """Add the bar just marked to the sums of returns, the maximum drawdown and the means of block ``k``.

    Args:
        k: number of the block.
        state: updated.
        scratch: as ``mark_lanes`` left it; INVERSE_VARIANCE is written where ``decay`` is given.
        decay: of the portfolio's variance, to update it in the same pass, which shares the divisions;
            None to leave the variance.
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
def variance_lanes(k: Index, state: FloatArray, scratch: FloatArray, decay: float) -> None:
    """Update the portfolio's variance with the bar just marked.

    This is for fills at the close, where the variance is needed before the bar's accounts are closed.

    Args:
        k: number of the block.
        state: VARIANCE is updated.
        scratch: as ``mark_lanes`` left it; INVERSE_VARIANCE is written.
        decay: of the variance, a fraction.
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
        return_: of the bar, a fraction.
        exposure: gross value over equity at the bar's close.
        decay: of the variance, a fraction.
    """
    variance = next_variance(
        state[o + VARIANCE + b], return_, exposure, state[o + EXPOSURE + b], decay
    )
    state[o + VARIANCE + b] = variance
    scratch[INVERSE_VARIANCE + b] = 1.0 / variance
