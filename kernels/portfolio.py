"""A position's cash flow and trades, and a portfolio's returns, exposure, variance and drawdown."""

from kernels._jit import jit
from kernels.risk import larger, smaller


@jit
def apply_sell(
    lots: float, flow: float, sold: float, proceeds: float, short: object
) -> tuple[float, float, float, float]:
    """Sell lots. A trade ends where the position reaches or crosses 0.

    Args:
        lots: position before, signed.
        flow: cash flow of the open trade so far, in money.
        sold: lots, >= 0.
        proceeds: money per lot.
        short: None where short positions are off.

    Returns:
        Position after, cash flow of the trade that is then open, 1.0 if a trade ended (else 0.0), and
        its profit (else 0.0).
    """
    if short is None:
        flow = flow + sold * proceeds
        lots = lots - sold
        ended = 1.0 if (lots == 0.0) & (sold > 0.0) else 0.0
        return lots, (0.0 if ended > 0.0 else flow), ended, (flow if ended > 0.0 else 0.0)
    closing = smaller(sold, larger(lots, 0.0))
    flow = flow + closing * proceeds
    ended = 1.0 if (closing > 0.0) & (closing == lots) else 0.0
    profit = flow if ended > 0.0 else 0.0
    flow = (0.0 if ended > 0.0 else flow) + (sold - closing) * proceeds
    return lots - sold, flow, ended, profit


@jit
def apply_buy(
    lots: float, flow: float, bought: float, cost: float, short: object
) -> tuple[float, float, float, float]:
    """Buy lots. A trade ends where the position reaches or crosses 0.

    Args:
        lots: position before, signed.
        flow: cash flow of the open trade so far, in money.
        bought: lots, >= 0.
        cost: money per lot.
        short: None where short positions are off.

    Returns:
        As ``apply_sell``.
    """
    if short is None:
        return lots + bought, flow - bought * cost, 0.0, 0.0
    closing = smaller(bought, larger(-lots, 0.0))
    flow = flow - closing * cost
    ended = 1.0 if (closing > 0.0) & (closing == -lots) else 0.0
    profit = flow if ended > 0.0 else 0.0
    flow = (0.0 if ended > 0.0 else flow) - (bought - closing) * cost
    return lots + bought, flow, ended, profit


@jit
def entry_price(lots: float, entry: float, change: float, price: float) -> float:
    """Mean entry price after a fill.

    Adding to a position averages. Reducing it keeps the price. Turning it around starts from the new
    price.

    Args:
        lots: position before, signed.
        entry: mean entry price before.
        change: lots filled, signed.
        price: of the fill, after slippage.

    Returns:
        The price.
    """
    after = lots + change
    adds = lots * change >= 0.0
    mean = (entry * abs(lots) + price * abs(change)) / larger(abs(after), 1.0)
    turned = lots * after < 0.0
    mean = mean if adds else (price if turned else entry)
    return mean if change != 0.0 else entry


@jit
def bar_return(equity: float, previous: float) -> float:
    """Return of one bar.

    Args:
        equity, previous: money at this close and at the one before.

    Returns:
        A fraction; 0 after ruin.
    """
    return equity / previous - 1.0 if previous > 0.0 else 0.0


@jit
def exposure_of(gross: float, equity: float) -> float:
    """Gross value of the positions over equity.

    Args:
        gross, equity: money.

    Returns:
        A fraction; 0 after ruin.
    """
    return gross / equity if equity > 0.0 else 0.0


@jit
def next_variance(
    variance: float, return_: float, exposure: float, previous_exposure: float, decay: float
) -> float:
    """EWMA of the squared return per unit of exposure (J.P. Morgan, RiskMetrics 1996).

    The return is divided by the larger of the exposures at the two closes, because a position may open or
    close in between.

    Args:
        variance: before, per bar.
        return_: of the bar, a fraction.
        exposure, previous_exposure: at this close and at the one before.
        decay: weight of the variance before, a fraction.

    Returns:
        The variance after the bar; unchanged if no position was held.
    """
    held = larger(exposure, previous_exposure)
    unit = return_ / held
    return decay * variance + (1.0 - decay) * (unit * unit) if held > 0.0 else variance


@jit
def drawdown(equity: float, peak: float) -> float:
    """Fall from the peak.

    Args:
        equity, peak: money.

    Returns:
        A fraction of the peak; 0 if the peak is 0.
    """
    return 1.0 - equity / peak if peak > 0.0 else 0.0


@jit
def add_return(
    return_: float, s1: float, s2: float, s3: float, s4: float, down: float
) -> tuple[float, float, float, float, float]:
    """Add the return of one more bar to the power sums and to the sum of squared losses.

    Args:
        return_: a fraction.
        s1, s2, s3, s4: sums of the returns' first to fourth powers.
        down: sum of the squares of the negative returns.

    Returns:
        The five sums after the bar, in this order.
    """
    square = return_ * return_
    loss = smaller(return_, 0.0)
    return (
        s1 + return_,
        s2 + square,
        s3 + square * return_,
        s4 + square * square,
        down + loss * loss,
    )
