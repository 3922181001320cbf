"""Sums of a block of lanes behind metrics: of returns, drawdowns, exposure and equity."""

from kernels._jit import jit_lanes
from kernels.arrays import ByteArray, FloatArray, Index
from kernels.layout import (
    BENCHMARK,
    CLOSED,
    EQUITY,
    EXPOSURE,
    FOUR,
    INVERSE_PEAK,
    LAST_EQUITY,
    LAST_EXPOSURE,
    LAST_INVERSE,
    MAX_DRAWDOWN,
    MOST_UNDER_PEAK,
    ONE,
    PEAK,
    RISK_FREE,
    ROW,
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
    SUMMED_BARS,
    THREE,
    TWO,
    UNDER_PEAK,
    ZERO,
    B,
)
from kernels.portfolio import add_drawdown, add_return, bar_return, drawdown_by, return_by
from kernels.risk import larger

ReturnSums = tuple[float, float, float, float, float, float, float]
FallSums = tuple[float, float, float, float, float, float, float, float]


@jit_lanes
def sum_bars(
    k: Index,
    t: int,
    n: Index,
    counted: ByteArray,
    rates: FloatArray,
    state: FloatArray,
    scratch: FloatArray,
    recent: FloatArray,
) -> None:
    """Add the last bars to the sums of returns, the drawdowns and the means of block ``k``.

    Args:
        k: number of the block.
        t: the last of the bars.
        n: how many there are, at most SUMMED_BARS.
        counted: (n_bars,), 1 where a return is closed; empty where every bar closes one.
        rates: (n_bars, N_RATE_COLUMNS); the risk-free return is subtracted in the sums of returns.
        state: updated.
        scratch: INVERSE_PEAK is updated.
        recent: the rows as ``account_lanes`` left them; those of the last bar become the first ones.
    """
    o = k * STATE_BLOCK
    if len(counted) > 0:
        for i in range(n):
            bar = t + 1 - int(n) + int(i)
            if counted[bar] != 0:
                r = LAST_EQUITY + (i + ONE) * ROW
                for b in range(B):
                    equity = recent[r + b]
                    excess = bar_return(equity, state[o + CLOSED + b]) - rates[bar, RISK_FREE]
                    sums = next_sums(excess, rates[bar, BENCHMARK], return_sums(o, b, state))
                    put_return_sums(o, b, state, sums)
                    state[o + CLOSED + b] = equity
    elif n == SUMMED_BARS:
        for b in range(B):
            sums = return_sums(o, b, state)
            sums = add_excess(b, ZERO, t - 3, rates, recent, sums)
            sums = add_excess(b, ONE, t - 2, rates, recent, sums)
            sums = add_excess(b, TWO, t - 1, rates, recent, sums)
            sums = add_excess(b, THREE, t, rates, recent, sums)
            put_return_sums(o, b, state, sums)
    else:
        for i in range(n):
            bar = t + 1 - int(n) + int(i)
            for b in range(B):
                sums = add_excess(b, i, bar, rates, recent, return_sums(o, b, state))
                put_return_sums(o, b, state, sums)
    if n == SUMMED_BARS:
        for b in range(B):
            falls = fall_sums(o, b, state, scratch)
            falls = add_fall(b, ZERO, recent, falls)
            falls = add_fall(b, ONE, recent, falls)
            falls = add_fall(b, TWO, recent, falls)
            falls = add_fall(b, THREE, recent, falls)
            put_fall_sums(o, b, state, scratch, falls)
            keep_last(o, b, FOUR * ROW, state, recent)
        return
    for i in range(n):
        for b in range(B):
            falls = add_fall(b, i, recent, fall_sums(o, b, state, scratch))
            put_fall_sums(o, b, state, scratch, falls)
    for b in range(B):
        keep_last(o, b, n * ROW, state, recent)


@jit_lanes
def keep_last(o: Index, b: Index, last: Index, state: FloatArray, recent: FloatArray) -> None:
    """Carry the last bar on as the one before the next bars.

    Args:
        o, b: offset of the block in ``state``, and the lane.
        last: offset of the last bar from the first rows of ``recent``.
        state: EQUITY and EXPOSURE are written.
        recent: LAST_EQUITY and LAST_INVERSE are written.
    """
    equity = recent[LAST_EQUITY + last + b]
    state[o + EQUITY + b] = equity
    state[o + EXPOSURE + b] = recent[LAST_EXPOSURE + last + b]
    recent[LAST_EQUITY + b] = equity
    recent[LAST_INVERSE + b] = recent[LAST_INVERSE + last + b]


@jit_lanes
def return_sums(o: Index, b: Index, state: FloatArray) -> ReturnSums:
    """The sums over returns of a lane, as ``kernels.portfolio.add_return`` has them; last SUM_PRODUCT.

    Args:
        o, b: offset of the block in ``state``, and the lane.
        state: read.
    """
    return (
        state[o + SUM_RETURN + b],
        state[o + SUM_RETURN_2 + b],
        state[o + SUM_RETURN_3 + b],
        state[o + SUM_RETURN_4 + b],
        state[o + SUM_DOWNSIDE_2 + b],
        state[o + SUM_LOSS + b],
        state[o + SUM_PRODUCT + b],
    )


@jit_lanes
def put_return_sums(o: Index, b: Index, state: FloatArray, sums: ReturnSums) -> None:
    """Put the sums over returns of a lane back.

    Args:
        o, b: offset of the block in ``state``, and the lane.
        state: updated.
        sums: see ``return_sums``.
    """
    state[o + SUM_RETURN + b] = sums[0]
    state[o + SUM_RETURN_2 + b] = sums[1]
    state[o + SUM_RETURN_3 + b] = sums[2]
    state[o + SUM_RETURN_4 + b] = sums[3]
    state[o + SUM_DOWNSIDE_2 + b] = sums[4]
    state[o + SUM_LOSS + b] = sums[5]
    state[o + SUM_PRODUCT + b] = sums[6]


@jit_lanes
def next_sums(excess: float, benchmark: float, sums: ReturnSums) -> ReturnSums:
    """The sums over returns after one more.

    Args:
        excess, benchmark: return of the lane and of the benchmark less the risk-free one, fractions.
        sums: see ``return_sums``.
    """
    s1, s2, s3, s4, down, lost, product = sums
    s1, s2, s3, s4, down, lost = add_return(excess, s1, s2, s3, s4, down, lost)
    return s1, s2, s3, s4, down, lost, product + excess * benchmark


@jit_lanes
def add_excess(
    b: Index, i: Index, bar: int, rates: FloatArray, recent: FloatArray, sums: ReturnSums
) -> ReturnSums:
    """The sums over returns of a lane after one more bar.

    Args:
        b, i: numbers of the lane and of the bar among those not in the sums yet.
        bar: number of the bar.
        rates: (n_bars, N_RATE_COLUMNS).
        recent: the rows as ``account_lanes`` left them, read.
        sums: see ``return_sums``.
    """
    r = i * ROW + b
    return_ = return_by(
        recent[LAST_EQUITY + ROW + r], recent[LAST_EQUITY + r], recent[LAST_INVERSE + r]
    )
    return next_sums(return_ - rates[bar, RISK_FREE], rates[bar, BENCHMARK], sums)


@jit_lanes
def fall_sums(o: Index, b: Index, state: FloatArray, scratch: FloatArray) -> FallSums:
    """The peak, its inverse, the deepest drawdown, and the sums over closes of a lane.

    Args:
        o, b: offset of the block in ``state``, and the lane.
        state, scratch: read.

    Returns:
        The eight values, in the order of ``put_fall_sums``.
    """
    return (
        state[o + PEAK + b],
        scratch[INVERSE_PEAK + b],
        state[o + MAX_DRAWDOWN + b],
        state[o + SUM_DRAWDOWN_2 + b],
        state[o + UNDER_PEAK + b],
        state[o + MOST_UNDER_PEAK + b],
        state[o + SUM_EXPOSURE + b],
        state[o + SUM_EQUITY + b],
    )


@jit_lanes
def put_fall_sums(
    o: Index, b: Index, state: FloatArray, scratch: FloatArray, falls: FallSums
) -> None:
    """Put what ``fall_sums`` returned back.

    Args:
        o, b: offset of the block in ``state``, and the lane.
        state: updated.
        scratch: INVERSE_PEAK is written.
        falls: see ``fall_sums``.
    """
    state[o + PEAK + b] = falls[0]
    scratch[INVERSE_PEAK + b] = falls[1]
    state[o + MAX_DRAWDOWN + b] = falls[2]
    state[o + SUM_DRAWDOWN_2 + b] = falls[3]
    state[o + UNDER_PEAK + b] = falls[4]
    state[o + MOST_UNDER_PEAK + b] = falls[5]
    state[o + SUM_EXPOSURE + b] = falls[6]
    state[o + SUM_EQUITY + b] = falls[7]


@jit_lanes
def add_fall(b: Index, i: Index, recent: FloatArray, falls: FallSums) -> FallSums:
    """What ``fall_sums`` returns after one more bar.

    Args:
        b, i: numbers of the lane and of the bar among those not in the sums yet.
        recent: the rows as ``account_lanes`` left them, read.
        falls: see ``fall_sums``.
    """
    peak, inverse_peak, deepest, squares, under, most, exposures, equities = falls
    r = (i + ONE) * ROW + b
    equity, inverse = recent[LAST_EQUITY + r], recent[LAST_INVERSE + r]
    inverse_peak = inverse if equity > peak else inverse_peak
    peak = larger(equity, peak)
    fall = drawdown_by(equity, peak, inverse_peak)
    squares, under, most = add_drawdown(fall, squares, under, most)
    return (
        peak,
        inverse_peak,
        larger(deepest, fall),
        squares,
        under,
        most,
        exposures + recent[LAST_EXPOSURE + r],
        equities + equity,
    )
