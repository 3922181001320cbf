"""A position's cash flow and trades, and a portfolio's returns, exposure, variance and drawdown."""

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.risk import larger, smaller


@jit
def reduced(
    lots: float, flow: float, change: float, cash_per_lot: float
) -> tuple[float, float, float, float]:
    """Reduce a position. The trade ends where it reaches 0.

    Args:
        lots: position before, signed.
        flow: cash flow of the open trade so far, in money.
        change: lots, signed; at most the position, and opposite to it.
        cash_per_lot: money that each lot takes or brings.

    Returns:
        Position after, cash flow of the trade that is then open, 1.0 if a trade ended (else 0.0), and
        its profit (else 0.0).
    """
    after = lots + change
    flow = flow - change * cash_per_lot
    ended = 1.0 if (after == 0.0) & (change != 0.0) else 0.0
    return after, (0.0 if ended > 0.0 else flow), ended, (flow if ended > 0.0 else 0.0)


@jit
def closes_held(held: float, lots: float) -> float:
    """How long a position has been held at a close, or how long there has been none.

    Args:
        held: the same at the close before; 0 if the position was opened since, -inf if the symbol was
            never held.
        lots: position at this close, signed.

    Returns:
        Closes at which the position has been held, this one included. Without a position, closes
        since the last one was closed, this one included, below 0; -inf if there was none.
    """
    since = -1.0 if held >= 0.0 else held - 1.0
    return larger(held, 0.0) + 1.0 if lots != 0.0 else since


@jit
def position_at_close(
    lots: float, entry: float, held: float, highest: float, lowest: float, close: float
) -> tuple[float, float, float, float, float, float, float, float, float]:
    """What a signal may know of a symbol's position at the close that decides.

    Args:
        lots: position, signed.
        entry: its mean fill price.
        held: what ``closes_held`` returned at the close before, or 0 if it was opened since.
        highest, lowest: highest and lowest close at which it has been held before this one.
        close: the close.

    Returns:
        Side (-1, 0, 1), bars held, return since entry at this close, at the best and at the worst close
        (fractions of the entry price), entry price, bars since the last exit (inf if there was none);
        what belongs to a position is 0 without one, and bars since the exit are 0 with one. Last
        ``highest`` and ``lowest`` with this close.
    """
    now = closes_held(held, lots)
    holds = lots != 0.0
    side = 1.0 if lots > 0.0 else -1.0
    first = now <= 1.0
    high = close if first else larger(highest, close)
    low = close if first else smaller(lowest, close)
    best, worst = (high, low) if lots > 0.0 else (low, high)
    # One division for all; a difference of 0 stays 0, and any other keeps its sign.
    per_entry = side / entry
    return (
        side if holds else 0.0,
        larger(now, 0.0),
        (close - entry) * per_entry if holds else 0.0,
        (best - entry) * per_entry if holds else 0.0,
        (worst - entry) * per_entry if holds else 0.0,
        entry if holds else 0.0,
        larger(-now, 0.0),
        high,
        low,
    )


@jit
def mean_entry(lots: float, entry: float, change: float, price: float) -> float:
    """Mean entry price after adding to a position, or opening it.

    Args:
        lots: position before, signed.
        entry: mean entry price before.
        change: lots added, of the sign of the position.
        price: the price of the fill, after slippage.

    Returns:
        The price.
    """
    total = abs(lots + change)
    mean = (entry * abs(lots) + price * abs(change)) / larger(total, 1.0)
    return mean if change != 0.0 else entry


@jit
def carried(cash: float, shorts: float, fees: float, credit: float, debit: float) -> float:
    """What a portfolio earns, less what it pays, from one close to the next.

    The proceeds of open shorts are collateral. They earn nothing, and pay for nothing.

    Args:
        cash: money.
        shorts: value of the short positions, money, >= 0.
        fees: borrow fees of the short positions, less what all positions are paid, money.
        credit, debit: interest on cash above and below 0 over the time between the two, fractions.

    Returns:
        Money.
    """
    free = cash - shorts
    return free * (credit if free > 0.0 else debit) - fees


@jit
def unit_payments(dividends: FloatArray, funding: FloatArray, previous: FloatArray) -> FloatArray:
    """What a unit held at the previous close is paid in each bar.

    Args:
        dividends: money per unit, >= 0, in the first bar without them, shape (n_bars,).
        funding: fractions of the value at the previous close, which longs pay to shorts if positive, of
            the same shape.
        previous: the prices at the previous closes, likewise.

    Returns:
        Money, of the same shape; negative where the holder pays.
    """
    return dividends - funding * previous


@jit
def margin_call(equity: float, gross: float, maintenance: float) -> bool:
    """Whether an account is below its maintenance margin.

    Args:
        equity, gross: the equity and the gross value at the worst prices of the bar, money.
        maintenance: least equity, a fraction of gross.

    Returns:
        True if its positions are liquidated; never without positions.
    """
    return (equity < maintenance * gross) & (gross > 0.0)


@jit
def inverse_of(money: float) -> float:
    """The inverse of an equity, by which returns, exposure and drawdown divide.

    A division takes as long as a dozen multiplications, so that lanes carry inverses on.

    Args:
        money: an equity or a peak.

    Returns:
        1 / money; 0 for nothing or a debt, after which nothing moves.
    """
    return 1.0 / money if money > 0.0 else 0.0


@jit
def return_by(equity: float, previous: float, inverse_previous: float) -> float:
    """Return of one bar, as ``bar_return``.

    Args:
        equity, previous: money at this close and at the one before.
        inverse_previous: what ``inverse_of`` says of the latter.

    Returns:
        A fraction; 0 after ruin.
    """
    return (equity - previous) * inverse_previous


@jit
def bar_return(equity: float, previous: float) -> float:
    """Return of one bar.

    Args:
        equity, previous: money at this close and at the one before.

    Returns:
        A fraction; 0 after ruin.
    """
    return return_by(equity, previous, inverse_of(previous))


@jit
def exposure_by(gross: float, inverse_equity: float) -> float:
    """Gross value of the positions over equity, as ``exposure_of``.

    Args:
        gross: money.
        inverse_equity: what ``inverse_of`` says of the equity.

    Returns:
        A fraction; 0 after ruin.
    """
    return gross * inverse_equity


@jit
def exposure_of(gross: float, equity: float) -> float:
    """Gross value of the positions over equity.

    Args:
        gross, equity: money.

    Returns:
        A fraction; 0 after ruin.
    """
    return exposure_by(gross, inverse_of(equity))


@jit
def inverse_exposure(exposure: float) -> float:
    """The inverse of an exposure.

    Args:
        exposure: gross value over equity, >= 0.

    Returns:
        1 / exposure; inf where nothing was held.
    """
    return 1.0 / exposure if exposure > 0.0 else np.inf


@jit
def variance_by(variance: float, return_: float, inverse_held: float, decay: float) -> float:
    """EWMA of the squared return per unit of exposure, as ``next_variance``.

    Args:
        variance: the variance before, per bar.
        return_: the return of the bar, a fraction.
        inverse_held: the smaller of the inverse exposures at this close and at the one before.
        decay: weight of the variance before, a fraction.

    Returns:
        The variance after the bar; unchanged if no position was held.
    """
    # A choice between the variance and the one before would become a masked store, which some processors
    # take many times as long for.
    held = inverse_held < np.inf
    unit = return_ * inverse_held
    kept, square = decay if held else 1.0, unit * unit if held else 0.0
    return kept * variance + (1.0 - kept) * square


@jit
def next_variance(
    variance: float, return_: float, exposure: float, previous_exposure: float, decay: float
) -> float:
    """EWMA of the squared return per unit of exposure (J.P. Morgan, RiskMetrics 1996).

    The return is divided by the larger of the exposures at the two closes, because a position may open or
    close in between.

    Args:
        variance: the variance before, per bar.
        return_: the return of the bar, a fraction.
        exposure, previous_exposure: the exposures at this close and at the one before.
        decay: weight of the variance before, a fraction.

    Returns:
        The variance after the bar; unchanged if no position was held.
    """
    held = smaller(inverse_exposure(exposure), inverse_exposure(previous_exposure))
    return variance_by(variance, return_, held, decay)


@jit
def drawdown_by(equity: float, peak: float, inverse_peak: float) -> float:
    """Fall from the peak, as ``drawdown``.

    Args:
        equity, peak: money.
        inverse_peak: what ``inverse_of`` says of the peak.

    Returns:
        A fraction of the peak; 0 if the peak is 0.
    """
    return (peak - equity) * inverse_peak


@jit
def drawdown(equity: float, peak: float) -> float:
    """Fall from the peak.

    Args:
        equity, peak: money.

    Returns:
        A fraction of the peak; 0 if the peak is 0.
    """
    return drawdown_by(equity, peak, inverse_of(peak))


@jit
def add_return(
    return_: float, s1: float, s2: float, s3: float, s4: float, down: float, lost: float
) -> tuple[float, float, float, float, float, float]:
    """Add the return of one more bar to the power sums and to the sums of losses.

    Args:
        return_: a fraction.
        s1, s2, s3, s4: sums of the returns' first to fourth powers.
        down: sum of the squares of the negative returns.
        lost: sum of the negative returns, without their sign.

    Returns:
        The six sums after the bar, in this order.
    """
    square = return_ * return_
    loss = smaller(return_, 0.0)
    return (
        s1 + return_,
        s2 + square,
        s3 + square * return_,
        s4 + square * square,
        down + loss * loss,
        lost - loss,
    )


@jit
def add_drawdown(
    fall: float, squares: float, under: float, most: float
) -> tuple[float, float, float]:
    """Add the drawdown at one more close.

    Args:
        fall: the drawdown, a fraction of the peak.
        squares: sum of the squared drawdowns.
        under: closes since the last one without a drawdown.
        most: the most of these so far.

    Returns:
        The last three after the close.
    """
    under = under + 1.0 if fall > 0.0 else 0.0
    return squares + fall * fall, under, larger(most, under)


@jit
def add_to_streak(ended: float, profit: float, losing: float, most: float) -> tuple[float, float]:
    """Add a trade to the trades in a row that ended without a profit.

    Args:
        ended: 1.0 if a trade ended, else 0.0.
        profit: its profit, money; 0.0 if no trade ended.
        losing: trades since the last one with a profit.
        most: the most of these so far.

    Returns:
        The last two after the trade.
    """
    losing = 0.0 if profit > 0.0 else losing + ended
    return losing, larger(most, losing)
