"""A position's cash flow and trades, and the portfolio's returns."""

from kernels._jit import jit
from kernels.risk import larger, smaller


@jit
def apply_sell(
    lots: float, flow: float, sold: float, proceeds: float, short: object
) -> tuple[float, float, float, float]:
    """Sell ``sold`` lots (>= 0) at ``proceeds`` per lot.

    ``flow`` is the open trade's cash flow. A trade ends where the position reaches or crosses 0.

    Returns:
        (lots, flow, 1.0 if a trade ended else 0.0, its profit or 0.0).
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
    """Buy ``bought`` lots (>= 0) at ``cost`` per lot; see ``apply_sell``."""
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
    """Mean entry price after a fill of ``change`` lots (signed) at ``price``.

    Adding averages, reducing leaves it, turning around starts anew.
    """
    after = lots + change
    adds = lots * change >= 0.0
    mean = (entry * abs(lots) + price * abs(change)) / larger(abs(after), 1.0)
    turned = lots * after < 0.0
    mean = mean if adds else (price if turned else entry)
    return mean if change != 0.0 else entry


@jit
def bar_return(equity: float, previous: float) -> float:
    """Return of one bar; 0 once ruined."""
    return equity / previous - 1.0 if previous > 0.0 else 0.0


@jit
def exposure_of(gross: float, equity: float) -> float:
    """Gross value over equity; 0 once ruined."""
    return gross / equity if equity > 0.0 else 0.0


@jit
def next_variance(
    variance: float, return_: float, exposure: float, previous_exposure: float, decay: float
) -> float:
    """EWMA of the squared return per unit of exposure (RiskMetrics 1996); unchanged when flat.

    The larger of the exposures at the two closes, since a position may open or close in between.
    """
    held = larger(exposure, previous_exposure)
    unit = return_ / held
    return decay * variance + (1.0 - decay) * (unit * unit) if held > 0.0 else variance


@jit
def drawdown(equity: float, peak: float) -> float:
    """Fall from the peak, a fraction of it; 0 where nothing was left to fall."""
    return 1.0 - equity / peak if peak > 0.0 else 0.0


@jit
def add_return(
    return_: float, s1: float, s2: float, s3: float, s4: float, down: float
) -> tuple[float, float, float, float, float]:
    """Power sums of the returns and sum of squared losses, after one more bar."""
    square = return_ * return_
    loss = smaller(return_, 0.0)
    return (
        s1 + return_,
        s2 + square,
        s3 + square * return_,
        s4 + square * square,
        down + loss * loss,
    )
