"""Monthly and yearly returns and yearly costs of one set, from its equity and its fills."""

from __future__ import annotations

import pandas as pd


def monthly_returns(equity: pd.Series, initial_cash: float) -> pd.DataFrame:
    """Return of each calendar month, and of each year in column 13.

    Args:
        equity: money at each close, by time.
        initial_cash: the cash before the first month.

    Returns:
        One row per year, columns 1 to 13, fractions; NaN where there are no bars.
    """
    times = pd.DatetimeIndex(equity.index)
    by_month = equity.groupby([times.year, times.month]).last()
    table = _changes(by_month, initial_cash).unstack().reindex(columns=range(1, 13))
    return table.assign(**{"13": yearly_returns(equity, initial_cash)}).rename(columns={"13": 13})


def yearly_returns(equity: pd.Series, initial_cash: float) -> pd.Series:
    """Return of each calendar year.

    Args:
        equity: money at each close, by time.
        initial_cash: the cash before the first year.

    Returns:
        Fractions by year.
    """
    return _changes(equity.groupby(pd.DatetimeIndex(equity.index).year).last(), initial_cash)


def _changes(values: pd.Series, before: float) -> pd.Series:
    former = values.shift(1, fill_value=before)
    return (values / former.where(former > 0.0) - 1.0).fillna(0.0)


def costs_by_year(fills: pd.DataFrame, equity: pd.Series) -> pd.Series:
    """Commission and slippage paid in each calendar year.

    Args:
        fills: the fills as ``BacktestResult.fills``.
        equity: money at each close, by time.

    Returns:
        Money by year, 0 in a year without fills.
    """
    years = pd.DatetimeIndex(equity.index).year.unique()
    paid = fills["cost"].groupby(pd.DatetimeIndex(fills["timestamp"]).year).sum()
    return paid.reindex(years, fill_value=0.0)
