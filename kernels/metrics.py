"""Performance of lanes from the sums that the simulation accumulated.

Conventions follow empyrical: returns less the risk-free rate, annualization by the returns per
year, sample standard deviations (ddof 1). A metric that is undefined is NaN: without a trade, without
a loss, or where the returns do not vary.
"""

import numpy as np

from kernels._jit import jit
from kernels.arrays import FloatArray
from kernels.layout import (
    CARRY,
    COSTS,
    EQUITY,
    GROSS_LOSS,
    GROSS_PROFIT,
    MAX_DRAWDOWN,
    MOST_LOSING,
    MOST_UNDER_PEAK,
    N_LIQUIDATIONS,
    N_TRADES,
    N_WINS,
    RUINED,
    STRIDE,
    SUM_DOWNSIDE_2,
    SUM_DRAWDOWN_2,
    SUM_EQUITY,
    SUM_EXPOSURE,
    SUM_HELD,
    SUM_LOSS,
    SUM_RETURN,
    SUM_RETURN_2,
    SUM_RETURN_3,
    SUM_RETURN_4,
    TRADED,
)

N_METRICS = 25
(
    TOTAL_RETURN,
    CAGR,
    VOLATILITY,
    SHARPE,
    SORTINO,
    CALMAR,
    DRAWDOWN,
    EXPOSURE,
    TURNOVER,
    TRADES,
    WIN_RATE,
    PROFIT_FACTOR,
    FINAL_EQUITY,
    COSTS_PAID,
    RUIN,
    SKEWNESS,
    KURTOSIS,
    LIQUIDATIONS,
    NET_CARRY,
    EXPECTANCY,
    AVERAGE_HOLDING,
    LOSING_STREAK,
    DRAWDOWN_DURATION,
    ULCER_INDEX,
    OMEGA,
) = range(N_METRICS)

# Row numbers in the simulation's state.
_SUM_RETURN = int(SUM_RETURN) // STRIDE
_SUM_RETURN_2 = int(SUM_RETURN_2) // STRIDE
_SUM_RETURN_3 = int(SUM_RETURN_3) // STRIDE
_SUM_RETURN_4 = int(SUM_RETURN_4) // STRIDE
_SUM_DOWNSIDE_2 = int(SUM_DOWNSIDE_2) // STRIDE
_SUM_EXPOSURE = int(SUM_EXPOSURE) // STRIDE
_SUM_EQUITY = int(SUM_EQUITY) // STRIDE
_EQUITY = int(EQUITY) // STRIDE
_MAX_DRAWDOWN = int(MAX_DRAWDOWN) // STRIDE
_TRADED = int(TRADED) // STRIDE
_COSTS = int(COSTS) // STRIDE
_N_TRADES = int(N_TRADES) // STRIDE
_N_WINS = int(N_WINS) // STRIDE
_GROSS_PROFIT = int(GROSS_PROFIT) // STRIDE
_GROSS_LOSS = int(GROSS_LOSS) // STRIDE
_RUINED = int(RUINED) // STRIDE
_N_LIQUIDATIONS = int(N_LIQUIDATIONS) // STRIDE
_CARRY = int(CARRY) // STRIDE
_MOST_LOSING = int(MOST_LOSING) // STRIDE
_MOST_UNDER_PEAK = int(MOST_UNDER_PEAK) // STRIDE
_SUM_DRAWDOWN_2 = int(SUM_DRAWDOWN_2) // STRIDE
_SUM_HELD = int(SUM_HELD) // STRIDE
_SUM_LOSS = int(SUM_LOSS) // STRIDE


FLAT = 1e-12
"""Share of the sum of squares. Values whose squared deviations sum to less do not vary: the rest is
rounding."""


@jit
def _moments(n: float, total: float, squares: float) -> tuple[float, float, bool]:
    """Mean, sample standard deviation (ddof 1), and whether the values vary beyond rounding."""
    mean = total / n
    spread = squares - total * mean
    return mean, np.sqrt(spread / (n - 1.0)), spread > FLAT * squares


@jit
def mean_and_deviation(n: float, total: float, squares: float) -> tuple[float, float]:
    """Mean and sample standard deviation (ddof 1) from power sums.

    Args:
        n: number of values.
        total: their sum.
        squares: sum of their squares.

    Returns:
        Mean and deviation. The deviation is 0 where the values do not vary beyond rounding, and NaN for
        fewer than 2 values.
    """
    mean, deviation, varies = _moments(n, total, squares)
    if n < 2:
        return mean, np.nan
    return mean, deviation if varies else 0.0


@jit
def sharpe_ratio(n: float, total: float, squares: float, undefined: float) -> float:
    """Sharpe ratio (Sharpe 1994, "The Sharpe Ratio") of excess returns, from power sums.

    Args:
        n: number of returns.
        total: their sum.
        squares: sum of their squares.
        undefined: the result where the returns do not vary beyond rounding.

    Returns:
        Mean over sample standard deviation (ddof 1), not annualized.
    """
    mean, deviation, varies = _moments(n, total, squares)
    ratio = mean / deviation
    return ratio if varies else undefined


@jit
def skewness_and_kurtosis(
    n: float, total: float, squares: float, cubes: float, fourths: float
) -> tuple[float, float]:
    """Skewness and Pearson's kurtosis (3 for a normal distribution), ddof 0, from power sums.

    Accurate as long as the mean is not large compared with the deviation, as holds for returns per bar.

    Args:
        n: number of values.
        total, squares, cubes, fourths: sums of their first to fourth powers.

    Returns:
        Both; NaN where the values do not vary beyond rounding.
    """
    one, two, three, four = total / n, squares / n, cubes / n, fourths / n
    second = two - one**2
    if not second > FLAT * two:
        return np.nan, np.nan
    third = three - one * (3.0 * two - 2.0 * one**2)
    fourth = four - one * (4.0 * three - one * (6.0 * two - 3.0 * one**2))
    return third / second**1.5, fourth / second**2


@jit
def performance(
    rows: FloatArray,
    start_equity: FloatArray,
    n_bars: int,
    bars_per_year: float,
    n_returns: int,
    returns_per_year: float,
    out: FloatArray,
) -> None:
    """Metrics of every lane over one period.

    Args:
        rows: (N_LANE_ROWS, n_lanes), the simulation's state with the sums of the period.
        start_equity: (n_lanes,), money at the period's start.
        n_bars: bars of the period, >= 1.
        bars_per_year: makes years of bars.
        n_returns, returns_per_year: the number of returns in the sums, which may span several bars, and
            that of a year.
        out: (n_lanes, N_METRICS), filled. Returns, volatility, drawdown (of the peak) and rates are
            fractions; exposure is the mean gross value over equity; turnover is the value of all fills
            over the mean equity, per year; equity, costs, net carry and expectancy are money; the
            average holding and the drawdown's duration are bars, the losing streak is trades. Volatility,
            Sharpe and Sortino ratio, skewness, kurtosis and omega are those of the returns less the
            risk-free rate.
    """
    years = n_bars / bars_per_year
    for i in range(rows.shape[1]):
        start, end = start_equity[i], rows[_EQUITY, i]
        growth = end / start if start > 0.0 else np.nan
        mean, deviation = mean_and_deviation(
            n_returns, rows[_SUM_RETURN, i], rows[_SUM_RETURN_2, i]
        )
        # A debt is worth no more than a loss of everything: a root of it is undefined.
        cagr = (0.0 if growth < 0.0 else growth) ** (1.0 / years) - 1.0
        downside = np.sqrt(rows[_SUM_DOWNSIDE_2, i] / n_returns)
        drawdown = rows[_MAX_DRAWDOWN, i]
        trades, losses = rows[_N_TRADES, i], rows[_GROSS_LOSS, i]
        mean_equity = rows[_SUM_EQUITY, i] / n_bars
        out[i, TOTAL_RETURN] = growth - 1.0
        out[i, CAGR] = cagr
        out[i, VOLATILITY] = deviation * np.sqrt(returns_per_year)
        sharpe = sharpe_ratio(n_returns, rows[_SUM_RETURN, i], rows[_SUM_RETURN_2, i], np.nan)
        out[i, SHARPE] = sharpe * np.sqrt(returns_per_year)
        out[i, SORTINO] = mean / downside * np.sqrt(returns_per_year) if downside > 0.0 else np.nan
        out[i, CALMAR] = cagr / drawdown if drawdown > 0.0 else np.nan
        out[i, DRAWDOWN] = drawdown
        out[i, EXPOSURE] = rows[_SUM_EXPOSURE, i] / n_bars
        out[i, TURNOVER] = rows[_TRADED, i] / mean_equity / years if mean_equity > 0.0 else np.nan
        out[i, TRADES] = trades
        out[i, WIN_RATE] = rows[_N_WINS, i] / trades if trades > 0.0 else np.nan
        out[i, PROFIT_FACTOR] = rows[_GROSS_PROFIT, i] / losses if losses > 0.0 else np.nan
        out[i, FINAL_EQUITY] = end
        out[i, COSTS_PAID] = rows[_COSTS, i]
        out[i, RUIN] = rows[_RUINED, i]
        out[i, SKEWNESS], out[i, KURTOSIS] = skewness_and_kurtosis(
            n_returns,
            rows[_SUM_RETURN, i],
            rows[_SUM_RETURN_2, i],
            rows[_SUM_RETURN_3, i],
            rows[_SUM_RETURN_4, i],
        )
        out[i, LIQUIDATIONS] = rows[_N_LIQUIDATIONS, i]
        out[i, NET_CARRY] = rows[_CARRY, i]
        out[i, EXPECTANCY] = (rows[_GROSS_PROFIT, i] - losses) / trades if trades > 0.0 else np.nan
        out[i, AVERAGE_HOLDING] = rows[_SUM_HELD, i] / trades if trades > 0.0 else np.nan
        out[i, LOSING_STREAK] = rows[_MOST_LOSING, i]
        out[i, DRAWDOWN_DURATION] = rows[_MOST_UNDER_PEAK, i]
        out[i, ULCER_INDEX] = np.sqrt(rows[_SUM_DRAWDOWN_2, i] / n_bars)
        # The sum of the gains is that of all returns and of the losses.
        lost = rows[_SUM_LOSS, i]
        out[i, OMEGA] = (rows[_SUM_RETURN, i] + lost) / lost if lost > 0.0 else np.nan
