"""Performance in plain Python, from the path of equity and the list of trades."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from math import fsum, nan, sqrt
from statistics import fmean, pstdev, stdev


def returns_of(equity: Sequence[float], start: float) -> list[float]:
    """Return of each bar; 0 once nothing is left."""
    before = [start, *equity[:-1]]
    return [
        now / then - 1.0 if then > 0.0 else 0.0 for now, then in zip(equity, before, strict=True)
    ]


def max_drawdown(equity: Sequence[float], start: float) -> float:
    """Deepest fall from the highest equity so far, the start included."""
    return max(0.0, *drawdowns(equity, start))


def drawdowns(equity: Sequence[float], start: float) -> list[float]:
    """Fall of each close from the highest equity so far, the start included."""
    return [1.0 - now / max(start, *equity[: bar + 1]) for bar, now in enumerate(equity)]


def longest(flags: Iterable[bool]) -> int:
    """The most flags in a row that are set."""
    return max((len(list(run)) for flag, run in groupby(flags) if flag), default=0)


def standardized_moment(returns: Sequence[float], power: int) -> float:
    """Mean of the deviations to ``power``, in standard deviations (ddof 0); NaN if they are flat."""
    deviation = pstdev(returns)
    if deviation**2 <= 1e-12 * fmean(r * r for r in returns) or deviation == 0.0:
        return nan
    mean = fmean(returns)
    return fmean(((r - mean) / deviation) ** power for r in returns)


def performance(
    equity: Sequence[float],
    start: float,
    exposure: Sequence[float],
    profits: Sequence[float],
    traded: float,
    costs: float,
    ruined: bool,
    bars_per_year: float,
    liquidations: float = 0.0,
    carry: float = 0.0,
    held: Sequence[float] = (),
) -> dict[str, float]:
    """Every metric of one period; NaN where it is undefined.

    ``equity`` and ``exposure`` have one value a bar, ``profits`` and ``held`` one a trade that ended.
    """
    returns = returns_of(equity, start)
    n_bars = len(equity)
    years = n_bars / bars_per_year
    growth = equity[-1] / start
    cagr = growth ** (1.0 / years) - 1.0
    deviation = stdev(returns) if n_bars > 1 else nan
    downside = sqrt(fsum(min(r, 0.0) ** 2 for r in returns) / n_bars)
    fall = max_drawdown(equity, start)
    yearly = sqrt(bars_per_year)
    wins = [profit for profit in profits if profit > 0.0]
    lost_returns = -fsum(min(r, 0.0) for r in returns)
    lost = -fsum(profit for profit in profits if profit <= 0.0)
    return {
        "total_return": growth - 1.0,
        "cagr": cagr,
        "volatility": deviation * yearly,
        "sharpe": fmean(returns) / deviation * yearly if deviation > 0.0 else nan,
        "sortino": fmean(returns) / downside * yearly if downside > 0.0 else nan,
        "calmar": cagr / fall if fall > 0.0 else nan,
        "drawdown": fall,
        "exposure": fmean(exposure),
        "turnover": traded / fmean(equity) / years,
        "trades": float(len(profits)),
        "win_rate": len(wins) / len(profits) if profits else nan,
        "profit_factor": fsum(wins) / lost if lost > 0.0 else nan,
        "final_equity": equity[-1],
        "costs_paid": costs,
        "ruin": float(ruined),
        "skewness": standardized_moment(returns, 3),
        "kurtosis": standardized_moment(returns, 4),
        "liquidations": liquidations,
        "carry": carry,
        "expectancy": fmean(profits) if profits else nan,
        "average_holding": fmean(held) if profits else nan,
        "losing_streak": float(longest(profit <= 0.0 for profit in profits)),
        "drawdown_duration": float(longest(fall > 0.0 for fall in drawdowns(equity, start))),
        "ulcer_index": sqrt(fmean(fall**2 for fall in drawdowns(equity, start))),
        "omega": fsum(max(r, 0.0) for r in returns) / lost_returns if lost_returns > 0.0 else nan,
    }
