"""Metrics of returns that come from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from optimizer.errors import DataError
from optimizer.flow.period import Period
from optimizer.sweep.tails import tail_metrics
from optimizer.types import FloatArray

OF_RETURNS = (
    *("total_return", "cagr", "volatility", "sharpe", "sortino", "calmar", "max_drawdown"),
    *("skewness", "kurtosis", "drawdown_duration", "ulcer_index", "omega"),
)
"""The metrics that returns define; the others are of an account and its trades."""


def metrics(
    returns: pd.Series[float] | FloatArray | Sequence[float],
    bars_per_year: float,
    *,
    risk_free: float = 0.0,
) -> dict[str, float]:
    """The metrics of a study for returns that come from elsewhere, by the same kernel.

    >>> import optimizer
    >>> found = optimizer.metrics([0.01, -0.02, 0.03, 0.01], bars_per_year=252)
    >>> round(found["total_return"], 4), round(found["max_drawdown"], 4), round(found["sharpe"], 2)
    (0.0297, 0.02, 5.78)

    Args:
        returns: the return of each bar, fractions, shape (n_bars,).
        bars_per_year: annualizes them, such as 252 for days of a stock exchange.
        risk_free: return without risk, a fraction a year; the ratios are of returns less it.

    Returns:
        Values by name, NaN where undefined; those of ``tail_metrics`` too.

    Raises:
        DataError: there are no returns, one is no finite number of at least -1, or ``bars_per_year`` is
            not above 0.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise DataError(f"returns: have shape {values.shape}; expected one for each bar")
    if not bars_per_year > 0.0 or not np.isfinite(bars_per_year):
        raise DataError(f"bars_per_year = {bars_per_year}; expected a number above 0")
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= -1.0)))
    if len(wrong):
        raise DataError(
            f"returns: number {wrong[0]} is {values[wrong[0]]}; expected fractions of at least -1, and"
            " fill or drop what is missing"
        )
    period, equity = Period(1.0), 1.0
    for one in values.tolist():
        equity *= 1.0 + one
        period.add_bar(equity, 0.0, risk_free / bars_per_year, closes=True)
    found = period.metrics(equity, equity <= 0.0, bars_per_year, bars_per_year)
    return {**{name: found[name] for name in OF_RETURNS}, **tail_metrics(values)}
